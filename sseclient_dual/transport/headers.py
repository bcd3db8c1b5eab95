"""Headers: merging and HTTP Basic authentication for requests; list fields and media types of responses."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from urllib3.util import parse_url

from sseclient_dual.checks import check_pairs, encode_utf8

from .urls import origin_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from http.client import HTTPMessage

HeaderItems: TypeAlias = "Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]"
HeadersCallable: TypeAlias = "Callable[[], HeaderItems | Awaitable[HeaderItems]]"
HeadersArgument: TypeAlias = "HeaderItems | HeadersCallable | None"
Headers: TypeAlias = "dict[str, tuple[str, bytes]]"
"""Checked headers: name and value by lower-cased name."""

is_token = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch  # RFC 9110, section 5.6.2
is_field_value = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch  # RFC 9110, section 5.5
_is_length = re.compile(r"[0-9]{1,18}").fullmatch
_quoted_string = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)
_line_fold = re.compile(r"[ \t]*\r?\n[ \t]+")
_CONNECTION_FIELDS = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"})
_WHITE_SPACE = " \t\r\n"


def merge(*sources: HeaderItems) -> Headers:
    """Return the headers of all sources; those of a later source replace those of an earlier one.

    Within one source, fields of the same name are combined (RFC 9110, section 5.3).

    :raises TypeError: a source is neither a mapping nor pairs, or has names or values of the wrong type.
    :raises ValueError: a name or value contains a character that HTTP does not allow there.
    """
    merged: Headers = {}
    for source in sources:
        fields: Headers = {}
        for name, value in check_pairs("headers", source):
            if not isinstance(name, str) or not isinstance(value, (str, bytes)):
                raise TypeError(f"headers must map names to str or bytes, not {name!r} to {type(value).__name__}")
            raw = encode_utf8("headers", value) if isinstance(value, str) else value
            if not is_token(name):
                raise ValueError("headers has a name with a character that HTTP does not allow in names")
            if not is_field_value(raw):
                raise ValueError(f"headers has a control character (such as CR or LF) in the value of {name!r}")
            key = name.lower()
            if key in fields:
                raw = fields[key][1] + (b"; " if key == "cookie" else b", ") + raw
            fields[key] = (name, raw)
        merged |= fields
    return merged


def check_headers(headers: HeadersArgument) -> Headers | HeadersCallable:
    """Return the checked headers of an argument, or the callable whose result is checked later.

    :raises TypeError, ValueError: see `merge`.
    """
    return headers if callable(headers) else merge(() if headers is None else headers)


def names_media_type(accept: bytes, kind: str) -> bool:
    """Return True if the value of an Accept header names this media type; wildcards name none."""
    return kind != "" and kind in map(media_type, accept.decode("latin-1").split(","))


def authorization(auth: tuple[str, str], header: str = "Authorization", argument: str = "auth") -> Headers:
    """Return the header of HTTP Basic authentication, in UTF-8 (RFC 7617).

    :param argument: the argument that an error names.
    :raises TypeError: `auth` is not a pair of user and password.
    :raises ValueError: the user contains a colon, or either contains a lone surrogate.
    """
    if not isinstance(auth, tuple) or len(auth) != 2 or not all(isinstance(part, str) for part in auth):  # noqa: PLR2004
        raise TypeError(f"{argument} must be a tuple of two str, user and password")
    user, password = auth
    if ":" in user:
        raise ValueError(f"{argument} has a colon in the user name, which HTTP Basic authentication cannot send")
    try:
        raw = f"{user}:{password}".encode()
    except UnicodeEncodeError:
        # Without its cause, which would show the credentials.
        raise ValueError(f"{argument} cannot be encoded as UTF-8") from None
    return {header.lower(): (header, b"Basic " + base64.b64encode(raw))}


def fields_of_http2(method: str, url: str, headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the head of a request over HTTP/2 (RFC 9113, sections 8.2.2 and 8.3.1)."""
    parts = parse_url(url)
    names = {
        name.strip(" \t").lower() for name in headers.get("connection", ("", b""))[1].decode("latin-1").split(",")
    }
    names |= {"host", *_CONNECTION_FIELDS}
    if headers.get("te", ("", b""))[1].strip().lower() != b"trailers":
        names.add("te")
    authority = headers["host"][1] if "host" in headers else origin_of(url).partition("://")[2].encode()
    return [
        (b":method", method.encode()),
        (b":scheme", (parts.scheme or "").encode()),
        (b":authority", authority),
        (b":path", parts.request_uri.encode()),
        *((name.encode(), value.strip(b" \t")) for name, (_, value) in headers.items() if name not in names),
    ]


def recover_fields(headers: HTTPMessage) -> None:
    """Add the fields that follow an invalid line of a response head: the parser of http.client stops there.

    As in browsers, the invalid line is skipped, and white space before a colon is removed.
    """
    rest = headers.get_payload()
    if not isinstance(rest, str) or not rest:
        return
    headers.set_payload("")  # urllib3 would log it
    for line in _line_fold.sub(" ", rest).split("\n"):
        name, colon, value = line.partition(":")
        name = name.rstrip(" \t")
        if colon and is_token(name):
            headers[name] = value.strip(_WHITE_SPACE)


def combine_fields(headers: HTTPMessage, name: str, ignored: str = "") -> list[str]:
    """Combine all fields of a list header into one, or none if the list is empty; return its elements in lower case.

    Removes white space, empty elements and the element `ignored` (RFC 9110, sections 5.3, 5.5 and 5.6.1).
    """
    fields = headers.get_all(name, [])
    elements = [element.strip(_WHITE_SPACE) for field in fields for element in field.split(",")]
    elements = [element for element in elements if element.lower() not in {"", ignored}]
    _replace_fields(headers, name, elements)
    return [element.lower() for element in elements]


def combine_lengths(headers: HTTPMessage) -> int | None:
    """Return the Content-Length, None if there is none; equal numbers count as one (RFC 9110, section 8.6).

    Removes an invalid Content-Length. Leaves numbers that contradict each other: urllib3 rejects the response.
    """
    values = combine_fields(headers, "Content-Length")
    if not all(map(_is_length, values)):
        values = []
    lengths = sorted(set(map(int, values)))
    _replace_fields(headers, "Content-Length", list(map(str, lengths)))
    return lengths[0] if len(lengths) == 1 else None


def _replace_fields(headers: HTTPMessage, name: str, elements: list[str]) -> None:
    fields = [", ".join(elements)] if elements else []
    if headers.get_all(name, []) != fields:
        del headers[name]
        for field in fields:
            headers[name] = field


class ResponseHeaders(Mapping[str, str]):
    """The headers of a response, kept in half of the memory of urllib3's class; look-ups ignore case.

    :param fields: names and values; no two names differ by case only.
    """

    __slots__ = ("_parts",)

    def __init__(self, fields: Iterable[tuple[str, str]]) -> None:
        self._parts = tuple(part for field in fields for part in field)  # name, value, name, value

    def __getitem__(self, name: str) -> str:
        wanted = name.lower()
        for known, value in zip(self._parts[::2], self._parts[1::2], strict=True):
            if known.lower() == wanted:
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts[::2])

    def __len__(self) -> int:
        return len(self._parts) // 2

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)})"


def media_type(content_type: str) -> str:
    """Return the media type in a Content-Type header, without parameters, in lower case; "" if there is none.

    Of several, the last valid one counts ("extract a MIME type" in the Fetch standard).
    """
    found = ""
    for value in _quoted_string.sub('""', content_type).split(","):
        kind, _, rest = value.strip(_WHITE_SPACE).partition("/")
        subtype = rest.partition(";")[0].rstrip(_WHITE_SPACE)
        if is_token(kind) and is_token(subtype) and (kind, subtype) != ("*", "*"):
            found = f"{kind}/{subtype}".lower()
    return found
