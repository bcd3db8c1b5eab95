"""`Request`: the checked arguments of `SSEClient.connect`, and the headers and body of each attempt."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from urllib3 import encode_multipart_formdata
from urllib3.util import Timeout

from sseclient_dual.checks import check_timeout, encode_utf8
from sseclient_dual.errors import unmistakable

from .headers import HeaderItems, Headers, HeadersArgument, authorization, is_field_value, is_token, merge
from .urls import check_url, encode_form, origin_of

TimeoutArgument: TypeAlias = "float | Timeout | None"

EVENT_STREAM = "text/event-stream"
_CONNECT_TIMEOUT = 10.0  # seconds
DEFAULT_TIMEOUT = Timeout(connect=_CONNECT_TIMEOUT, read=None)
_LONGEST_TIMEOUT = 2_000_000.0  # seconds, 23 days: poll() accepts less than 2^31 ms
_STANDARD_HEADERS = merge(
    {
        "Accept": EVENT_STREAM,
        "Cache-Control": "no-cache",
        "Accept-Encoding": "identity",
        "User-Agent": "sseclient_dual",
    }
)


@dataclass(frozen=True)
class Request:
    """The request of a connection: checked, and the same for every attempt."""

    method: str
    url: str
    """Absolute, without credentials and fragment."""
    body: bytes | None
    own_headers: Callable[[], Headers] = field(repr=False)
    """Returns the headers of the request, which are added to the standard ones."""
    refreshable: bool
    """True if the headers come from a callable of the user, which may return others the next time."""
    redirect: bool
    connect_timeout: float | None
    read_timeout: float | None
    keep_connection: bool

    @cached_property
    def origin(self) -> str:
        """The origin of the URL."""
        return origin_of(self.url)

    @property
    def replayable(self) -> bool:
        """True if the request may be sent twice without the user asking for it."""
        return self.method not in {"POST", "PATCH"}

    def fields(self, last_event_id: str) -> Headers:
        """Return the headers to send (WHATWG HTML 9.2.2 and 9.2.3).

        :raises Exception: any error of the user's own callable for the headers.
        """
        headers = _STANDARD_HEADERS | self.own_headers()
        encoded_id = last_event_id.encode()
        if encoded_id and is_field_value(encoded_id):
            headers["last-event-id"] = ("Last-Event-ID", encoded_id)
        if self.body is not None:
            # The body is sent as a file: http.client sends a file block by block, each with its own timeout, but
            # bytes at once with a single one. For a file the length has to be set here.
            headers.pop("transfer-encoding", None)
            headers["content-length"] = ("Content-Length", b"%d" % len(self.body))
        return headers


def prepare(
    method: str,
    url: str,
    *,
    headers: HeadersArgument = None,
    params: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
    data: object = None,
    json: object = None,
    multipart: bool = False,
    auth: tuple[str, str] | None = None,
    timeout: TimeoutArgument = DEFAULT_TIMEOUT,
    redirect: bool = True,
    keep_connection: bool = False,
    default_headers: HeaderItems = (),
) -> Request:
    """Check the arguments of `SSEClient.connect`, and make a request of them.

    :raises TypeError: an argument has the wrong type; the message names it.
    :raises ValueError: an argument has an invalid value; the message names it.
    """
    if not isinstance(method, str):
        raise TypeError(f"method must be a str, not {type(method).__name__}")
    if not is_token(method):
        raise ValueError(f"method is not a valid HTTP method: {method!r}")
    plain_url, credentials = check_url(url, params)
    body, content_type = _encode_body(data, json, multipart=multipart)
    connect_timeout, read_timeout = split_timeout(timeout)
    # Precedence, from the lowest: the client's headers, the URL's credentials, the headers, auth.
    defaults = merge(default_headers)
    if content_type is not None:
        defaults["content-type"] = ("Content-Type", content_type)
    if credentials is not None:
        defaults |= authorization(credentials, argument="url")
    return Request(
        method=method.upper(),
        url=plain_url,
        body=body,
        own_headers=_own_headers(headers, defaults, {} if auth is None else authorization(auth)),
        refreshable=callable(headers),
        redirect=redirect,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        keep_connection=keep_connection,
    )


def _own_headers(headers: HeadersArgument, defaults: Headers, overrides: Headers) -> Callable[[], Headers]:
    """Return a function that returns the headers of one attempt."""
    if not callable(headers):
        fixed = defaults | merge(() if headers is None else headers) | overrides
        return lambda: fixed

    def call() -> Headers:
        try:
            return defaults | merge(headers()) | overrides
        except Exception as error:  # noqa: BLE001 - raised again
            raise unmistakable(error, "headers")  # noqa: B904 - it has its cause

    return call


def _encode_body(data: object, json: object, *, multipart: bool) -> tuple[bytes | None, bytes | None]:
    """Return the body, and its media type, which the headers may override."""
    if data is not None and json is not None:
        raise TypeError("pass either data or json, not both")
    if multipart:
        if not isinstance(data, Mapping):
            raise TypeError(f"data must be a mapping to be sent as multipart/form-data, not {type(data).__name__}")
        try:
            body, content_type = encode_multipart_formdata(data)
        except (TypeError, ValueError, AttributeError) as error:
            raise TypeError(
                "data must map names to str, bytes, or a file: a tuple of name, content (str or bytes) and media type"
            ) from error
        return body, content_type.encode()
    if json is not None:
        return _encode_json(json), b"application/json"
    if data is None:
        return None, None
    if isinstance(data, str):
        return encode_utf8("data", data), None
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data), None
    if isinstance(data, Mapping):
        return encode_form("data", data.items()).encode(), b"application/x-www-form-urlencoded"
    raise TypeError(f"data must be bytes, str or a mapping, so that it can be sent again, not {type(data).__name__}")


def _encode_json(json: object) -> bytes:
    try:
        return jsonlib.dumps(json, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except TypeError as error:
        raise TypeError(f"json cannot be serialised: {error}") from error
    except ValueError as error:
        raise ValueError(f"json cannot be serialised: {error}") from error


def split_timeout(timeout: TimeoutArgument) -> tuple[float | None, float | None]:
    """Return the connect timeout and the read timeout in seconds, None for no limit.

    :raises TypeError: `timeout` is not a number.
    :raises ValueError: `timeout` is not more than 0.
    """
    if isinstance(timeout, Timeout):
        timeout = timeout.clone()
        timeout.start_connect()  # the parts of a total are not available before
        # A part that is not set has the default.
        return _seconds(timeout.connect_timeout, _CONNECT_TIMEOUT), _seconds(timeout.read_timeout, None)
    check_timeout(timeout)
    if timeout == 0:
        raise ValueError("timeout must be more than 0 seconds; pass None for no limit")
    return _seconds(timeout, None), _seconds(timeout, None)


def _seconds(value: object, default: float | None) -> float | None:
    if value is None:
        return None
    return min(float(value), _LONGEST_TIMEOUT) if isinstance(value, (int, float)) else default
