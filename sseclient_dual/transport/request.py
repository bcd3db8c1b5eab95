"""`Request`: the checked arguments of `SSEClient.connect`, and the headers and body of each attempt."""

from __future__ import annotations

import importlib.util
import json as jsonlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from urllib3 import encode_multipart_formdata
from urllib3.util import Timeout

from sseclient_dual.checks import check_pairs, check_timeout, encode_utf8

from .headers import (
    Headers,
    HeadersArgument,
    HeadersCallable,
    authorization,
    check_headers,
    is_field_value,
    is_token,
    merge,
)
from .urls import check_url, encode_form, origin_of, with_params

if TYPE_CHECKING:
    from .callables import UserCalls
    from .cookies import Cookies

Params: TypeAlias = "Mapping[str, Any] | Iterable[tuple[str, Any]]"
ParamsCallable: TypeAlias = "Callable[[], Params | Awaitable[Params]]"
ParamsArgument: TypeAlias = "Params | ParamsCallable | None"
JSONDumps: TypeAlias = "Callable[[Any], str | bytes]"
TimeoutArgument: TypeAlias = "float | Timeout | None"
HTTP2: TypeAlias = "bool | Literal['prior-knowledge']"

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
    params: ParamsCallable | None = field(repr=False)
    """Returns the part of the query that is added before each attempt."""
    headers: tuple[Headers | HeadersCallable, ...] = field(repr=False)
    """The headers that are added to the standard ones; later ones replace those of the same name."""
    cookies: Cookies | None
    redirect: bool
    connect_timeout: float | None
    read_timeout: float | None
    keep_connection: bool
    http2: HTTP2

    @cached_property
    def origin(self) -> str:
        """The origin of the URL."""
        return origin_of(self.url)

    @property
    def replayable(self) -> bool:
        """True if the request may be sent twice without the user asking for it."""
        return self.method not in {"POST", "PATCH"}

    @property
    def refreshable(self) -> bool:
        """True if a part of it comes from a callable of the user, which may return another one the next time."""
        return self.params is not None or any(map(callable, self.headers))

    def target(self, calls: UserCalls) -> str:
        """Return the URL to request.

        :raises Exception: any error of the user's callable for the params.
        """
        if self.params is None:
            return self.url
        return calls.call("params", self.params, partial(with_params, self.url))

    def fields(self, last_event_id: str, calls: UserCalls) -> Headers:
        """Return the headers to send (WHATWG HTML 9.2.2 and 9.2.3).

        :raises Exception: any error of the user's callables for the headers.
        """
        headers = dict(_STANDARD_HEADERS)
        for source in self.headers:
            headers |= calls.call("headers", source, merge) if callable(source) else source
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
    method: str | None,
    url: str,
    *,
    headers: HeadersArgument = None,
    params: ParamsArgument = None,
    data: object = None,
    json: object = None,
    multipart: bool = False,
    auth: tuple[str, str] | None = None,
    timeout: TimeoutArgument = DEFAULT_TIMEOUT,
    redirect: bool = True,
    keep_connection: bool = False,
    http2: HTTP2 = False,
    client_headers: tuple[Headers | HeadersCallable, ...] = (),
    cookies: Cookies | None = None,
    json_dumps: JSONDumps | None = None,
) -> Request:
    """Check the arguments of `SSEClient.connect`, and make a request of them.

    :raises TypeError: an argument has the wrong type; the message names it.
    :raises ValueError: an argument has an invalid value; the message names it.
    """
    if method is None:
        method = "GET" if data is None and json is None else "POST"
    if not isinstance(method, str):
        raise TypeError(f"method must be a str, not {type(method).__name__}")
    if not is_token(method):
        raise ValueError(f"method is not a valid HTTP method: {method!r}")
    if method.upper() == "CONNECT":
        raise ValueError("method must not be CONNECT, which asks a proxy for a tunnel")
    plain_url, credentials = check_url(url)
    if params is not None and not callable(params):
        plain_url = with_params(plain_url, params)
    body, content_type = _encode_body(data, json, json_dumps or _dumps, multipart=multipart)
    connect_timeout, read_timeout = split_timeout(timeout)
    defaults: Headers = {}
    if content_type is not None:
        defaults["content-type"] = ("Content-Type", content_type)
    if credentials is not None:
        defaults |= authorization(credentials, argument="url")
    return Request(
        method=method.upper(),
        url=plain_url,
        body=body,
        params=params if callable(params) else None,
        headers=(*client_headers, defaults, check_headers(headers), {} if auth is None else authorization(auth)),
        cookies=cookies,
        redirect=redirect,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        keep_connection=keep_connection,
        http2=check_http2(http2),
    )


def _encode_body(
    data: object, json: object, json_dumps: JSONDumps, *, multipart: bool
) -> tuple[bytes | None, bytes | None]:
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
        return _encode_json(json, json_dumps), b"application/json"
    if data is None:
        return None, None
    if isinstance(data, str):
        return encode_utf8("data", data), None
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data), None
    if isinstance(data, (Mapping, Collection)):
        return encode_form("data", check_pairs("data", data)).encode(), b"application/x-www-form-urlencoded"
    problem = f"data must be bytes, str, a mapping or pairs, not {type(data).__name__}"
    if any(hasattr(data, name) for name in ("read", "__iter__", "__aiter__")):
        problem += "; read it first: the body must be sent again on reconnect"
    raise TypeError(problem)


def _dumps(json: object) -> str:
    return jsonlib.dumps(json, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _encode_json(json: object, dumps: JSONDumps) -> bytes:
    try:
        text: object = dumps(json)
        if isinstance(text, str):
            text = text.encode()
    except TypeError as error:
        raise TypeError(f"json cannot be serialised: {error}") from error
    except ValueError as error:
        raise ValueError(f"json cannot be serialised: {error}") from error
    if not isinstance(text, (bytes, bytearray, memoryview)):
        raise TypeError(f"json_dumps must return str or bytes, not {type(text).__name__}")
    return bytes(text)


def check_http2(http2: HTTP2) -> HTTP2:
    """Return the argument of this name.

    :raises TypeError: it has the wrong type.
    :raises ValueError: it has an invalid value, or the package ``h2`` is not installed.
    """
    if not isinstance(http2, (bool, str)):
        raise TypeError(f"http2 must be True, False or 'prior-knowledge', not {type(http2).__name__}")
    if http2 not in {True, False, "prior-knowledge"}:
        raise ValueError(f"http2 must be True, False or 'prior-knowledge', not {http2!r}")
    if http2 and importlib.util.find_spec("h2") is None:
        raise ValueError("http2 needs an extra: pip install 'sseclient-dual[http2]'")
    return http2


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
    if timeout is not None and (not isinstance(timeout, Real) or isinstance(timeout, bool)):
        raise TypeError(
            "timeout must be a number of seconds, a urllib3.Timeout(connect=..., read=...), or None for no limit, "
            f"not {timeout!r}"
        )
    check_timeout(timeout)
    if timeout == 0:
        raise ValueError("timeout must be more than 0 seconds; pass None for no limit")
    return _seconds(timeout, None), _seconds(timeout, None)


def _seconds(value: object, default: float | None) -> float | None:
    if value is None:
        return None
    return min(float(value), _LONGEST_TIMEOUT) if isinstance(value, (int, float)) else default
