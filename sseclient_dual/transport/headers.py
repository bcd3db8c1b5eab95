"""Request headers: checks, merging and HTTP Basic authentication."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, TypeAlias

from sseclient_dual.checks import check_pairs, encode_utf8

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

HeaderItems: TypeAlias = "Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]"
HeadersArgument: TypeAlias = "HeaderItems | Callable[[], HeaderItems] | None"
Headers: TypeAlias = "dict[str, tuple[str, bytes]]"
"""Checked headers: name and value by lower-cased name."""

is_token = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch  # RFC 9110, section 5.6.2
is_field_value = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch  # RFC 9110, section 5.5


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
