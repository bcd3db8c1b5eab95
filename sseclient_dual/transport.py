"""HTTP, and the only file that imports urllib3: prepare a request, open it, yield its body, abort it.

A `Request` is what the user asked for, checked. An `Exchange` is one attempt at it, redirects included: one thread
opens, reads and closes it, and any other may `Exchange.abort` it meanwhile. Every error of the layers below leaves
here as an `SSEConnectionError`.

urllib3 hands out no socket before the response head is there, so its connections are given one made here
(`_HTTPConnection`), and the exchange on whose behalf that happens is found in a context variable.
"""

from __future__ import annotations

import base64
import contextlib
import contextvars
import copy
import errno
import functools
import http.client
import io
import ipaddress
import json as jsonlib
import os
import re
import socket
import ssl
import struct
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlencode, urljoin
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import urllib3
import urllib3.connection
from urllib3 import PoolManager as PoolManager  # noqa: PLC0414 - the floors above take it from here
from urllib3.exceptions import InsecureRequestWarning as InsecureRequestWarning  # noqa: PLC0414 - as above
from urllib3.util import Timeout, Url, parse_url, wait_for_write
from urllib3.util.connection import allowed_gai_family
from urllib3.util.ssl_ import resolve_cert_reqs
from urllib3.util.ssl_match_hostname import CertificateError

from .errors import (
    SSEClosedError,
    SSEConnectionError,
    SSEContentTypeError,
    SSEStatusError,
    check_number,
    quoted,
)
from .handoff import Deadline

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

HeaderItems: TypeAlias = "Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]"
HeadersArgument: TypeAlias = "HeaderItems | Callable[[], HeaderItems] | None"
TimeoutArgument: TypeAlias = "float | Timeout | None"
_Headers: TypeAlias = "dict[str, tuple[str, bytes]]"  # by lower-cased name

CONNECT_TIMEOUT = 10.0  # seconds
DEFAULT_TIMEOUT = Timeout(connect=CONNECT_TIMEOUT, read=None)
_LONGEST_TIMEOUT = 2_000_000.0  # seconds, 23 days: beyond 2^31 ms poll() takes none
MAX_REDIRECTS = 20
MAX_BODY = 64 * 1024  # bytes of the body of a refusal that its error keeps
_BODY_PATIENCE = 5.0  # seconds that such a body may take
# What tells a consumer that the iteration is over, or that nothing came in time, and must not come from elsewhere.
_MISTAKABLE = (StopIteration, StopAsyncIteration, SSEClosedError, TimeoutError)
_READ_SIZE = 128 * 1024
_HEAD_READ_SIZE = 8 * 1024
_TLS_RECORD_SIZE = 16 * 1024  # at the most
_LONGEST_HEAD = 1024 * 1024  # bytes, those of interim answers included, of which http.client takes any number
_LONGEST_CHUNK_LINE = 64 * 1024  # bytes, its extensions included; of all trailers together as well
_LONGEST_CHUNK_SIZE = 16  # digits
_CHUNK_SIZES_KEPT = 1024
_MANY_CHUNKS = 8  # from so many on a split is quicker
_SMALL_CHUNK = 4096  # bytes; of larger ones there are not so many
_split_at_crlf = re.compile(rb"\r\n").split  # several times as fast as that of bytes, unless lines are short
_HEX_DIGITS = b"0123456789ABCDEFabcdef"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OF_THE_BODY = frozenset({"content-type", "content-length", "content-encoding", "content-language"})
_FOR_ANY_ORIGIN = frozenset({"accept", "user-agent", "cache-control", "last-event-id"}) | _OF_THE_BODY  # and accept-*
_SPELLINGS = {"accept": "Accept", "host": "Host"}
_EVENT_STREAM = "text/event-stream"
_DEFAULT_PORTS = {"http": 80, "https": 443}

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_FIELD_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, section 5.5
_FAILURES = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError)
_IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", errno.EWOULDBLOCK)}
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: ((\d)(\d\d).*)")  # as http.client has it
_OUR_CERTIFICATE = frozenset(
    {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE",
     "SSLV3_ALERT_CERTIFICATE_EXPIRED", "SSLV3_ALERT_CERTIFICATE_REVOKED", "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
     "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"}
)  # fmt: skip
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

_KEEPALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (
        ("TCP_KEEPIDLE", 60),
        ("TCP_KEEPALIVE", 60),
        ("TCP_KEEPINTVL", 15),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", 120_000),  # the same while what was sent is not confirmed, which keeps the probes away
    )
    if hasattr(socket, name)
]


# -- what to ask for


@dataclass(frozen=True)
class Request:
    """What the user asked for: checked, and the same however often it is sent."""

    method: str
    url: str
    """Absolute, without credentials and fragment."""
    body: bytes | None
    headers: Callable[[], _Headers] = field(repr=False)
    """Makes the request's own headers, on top of those that the event stream asks for."""
    refreshable: bool
    """Whether the headers come from a callable of the user's, which may bring others the next time."""
    redirect: bool
    connect_timeout: float | None
    read_timeout: float | None
    keep_connection: bool

    @property
    def replayable(self) -> bool:
        """Whether it may be sent twice without having been asked for."""
        return self.method not in {"POST", "PATCH"}


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
    """Check what `SSEClient.connect` was given, and make a request of it.

    :raises TypeError: an argument, which the message names, is of another type.
    :raises ValueError: an argument, which the message names, has a value that cannot be.
    """
    if not isinstance(method, str):
        msg = f"method must be a str, not {type(method).__name__}"
        raise TypeError(msg)
    if not _TOKEN.fullmatch(method):
        msg = f"method is no HTTP method: {method!r}"
        raise ValueError(msg)
    plain_url, credentials = _checked_url(url, params)
    body, content_type = _encode_body(data, json, multipart=multipart)
    defaults = merge_headers(default_headers)
    if content_type is not None:
        defaults["content-type"] = ("Content-Type", content_type)
    if credentials is not None:
        defaults |= authorization(credentials, argument="url")
    # What is said by its own name wins over what is said among the headers, and that over the URL and the client.
    last_word = {} if auth is None else authorization(auth)

    if callable(headers):
        make = headers

        def own_headers() -> _Headers:
            try:
                return defaults | merge_headers(make()) | last_word
            except _MISTAKABLE as error:
                raise RuntimeError(f"the callable for the headers raised {type(error).__name__}") from error
    else:
        fixed = defaults | merge_headers(() if headers is None else headers) | last_word

        def own_headers() -> _Headers:
            return fixed

    connect_timeout, read_timeout = split_timeout(timeout)
    return Request(
        method=method.upper(),
        url=plain_url,
        body=body,
        headers=own_headers,
        refreshable=callable(headers),
        redirect=redirect,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        keep_connection=keep_connection,
    )


def check_last_event_id(value: object) -> str:
    """Return `value` if it can be a last event ID; raise a `TypeError` or `ValueError` if not."""
    if not isinstance(value, str):
        msg = f"last_event_id must be a str, not {type(value).__name__}"
        raise TypeError(msg)
    if any(character in value for character in "\r\n\0"):
        msg = "last_event_id must not hold a CR, LF or NUL: no event stream can send such an id"
        raise ValueError(msg)
    _utf8("last_event_id", value)
    return value


def merge_headers(*sources: HeaderItems) -> _Headers:
    """Return the headers of all sources by lower-cased name, a later source's instead of an earlier one's.

    Within one source, fields of the same name are combined (RFC 9110, section 5.3).
    """
    merged: _Headers = {}
    for source in sources:
        fields: _Headers = {}
        for name, value in _pairs("headers", source):
            if not isinstance(name, str) or not isinstance(value, (str, bytes)):
                msg = f"headers must map names to str or bytes, not {name!r} to {type(value).__name__}"
                raise TypeError(msg)
            raw = _utf8("headers", value) if isinstance(value, str) else value
            if not _TOKEN.fullmatch(name):
                msg = "headers hold a name with a character that HTTP does not allow there"
                raise ValueError(msg)
            if not _FIELD_VALUE.fullmatch(raw):
                msg = f"headers hold a control character (such as CR or LF) in the value of {name!r}"
                raise ValueError(msg)
            key = name.lower()
            if key in fields:
                raw = fields[key][1] + (b"; " if key == "cookie" else b", ") + raw
            fields[key] = (name, raw)
        merged |= fields
    return merged


def authorization(auth: tuple[str, str], name: str = "Authorization", argument: str = "auth") -> _Headers:
    """Return the header of HTTP Basic authentication, in UTF-8 (RFC 7617).

    :raises TypeError: `auth` is no pair of user and password.
    :raises ValueError: the user has a colon in it, which would end it, or either is no Unicode text.
    """
    if not isinstance(auth, tuple) or len(auth) != 2 or not all(isinstance(part, str) for part in auth):  # noqa: PLR2004
        msg = f"{argument} must be a tuple of two str, user and password"
        raise TypeError(msg)
    user, password = auth
    if ":" in user:
        msg = f"{argument} has a colon in the user's name, which HTTP Basic authentication cannot transmit"
        raise ValueError(msg)
    try:
        raw = f"{user}:{password}".encode()
    except UnicodeEncodeError:
        msg = f"{argument} cannot be encoded as UTF-8"
        raise ValueError(msg) from None  # the cause would show it
    return {name.lower(): (name, b"Basic " + base64.b64encode(raw))}


def _utf8(argument: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        msg = f"{argument} holds a lone surrogate, which UTF-8 cannot encode"
        raise ValueError(msg) from None  # the cause would show the text


def _form(argument: str, pairs: Iterable[tuple[Any, Any]]) -> str:
    try:
        return urlencode([(name, value) for name, value in pairs if value is not None], doseq=True)
    except UnicodeEncodeError:
        msg = f"{argument} hold a lone surrogate, which UTF-8 cannot encode"
        raise ValueError(msg) from None


def _pairs(argument: str, source: object) -> Iterable[tuple[Any, Any]]:
    if isinstance(source, Mapping):
        return source.items()
    if not isinstance(source, Iterable) or isinstance(source, (str, bytes)):
        msg = f"{argument} must be a mapping or pairs, not {type(source).__name__}"
        raise TypeError(msg)
    pairs = list(source)
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):  # noqa: PLR2004
        msg = f"{argument} must be a mapping or pairs"
        raise TypeError(msg)
    return pairs


def _checked_url(url: object, params: object) -> tuple[str, tuple[str, str] | None]:
    """Return the URL without credentials and fragment, and the credentials."""
    if not isinstance(url, str):
        msg = f"url must be a str, not {type(url).__name__}"
        raise TypeError(msg)
    try:
        parts = parse_url(url)
    except ValueError:
        msg = "url cannot be parsed; it must look like https://host/path"
        raise ValueError(msg) from None  # the cause would show the URL, credentials and all
    if parts.scheme not in {"http", "https"}:
        msg = "url must begin with http:// or https://"
        raise ValueError(msg)
    if not parts.host:
        msg = "url has no host"
        raise ValueError(msg)
    query = parts.query
    if params is not None:
        query = "&".join(filter(None, [query, _form("params", _pairs("params", params))]))
    plain = parts._replace(auth=None, fragment=None, query=query or None, path=parts.path or "/")
    return plain.url, _credentials("url", parts)


def _credentials(argument: str, parts: Url) -> tuple[str, str] | None:
    """Return user and password of a URL, decoded."""
    if not parts.auth:
        return None
    user, _, password = parts.auth.partition(":")
    try:
        return unquote(user, errors="strict"), unquote(password, errors="strict")
    except UnicodeDecodeError:
        msg = f"{argument} has credentials that are not UTF-8, percent-encoded"
        raise ValueError(msg) from None  # the cause would show them


def _encode_body(data: object, json: object, *, multipart: bool) -> tuple[bytes | None, bytes | None]:
    """Return the body, and the media type it has unless the caller says otherwise."""
    if data is not None and json is not None:
        msg = "data and json exclude each other"
        raise TypeError(msg)
    if multipart:
        if not isinstance(data, Mapping):
            msg = f"data must be a mapping to be sent as multipart/form-data, not {type(data).__name__}"
            raise TypeError(msg)
        try:
            body, content_type = urllib3.encode_multipart_formdata(data)
        except (TypeError, ValueError, AttributeError) as error:
            msg = (
                "data must map names to str, bytes, or tuples of a file's name, content (str or bytes) and media type"
            )
            raise TypeError(msg) from error
        return body, content_type.encode()
    if json is not None:
        try:
            text = jsonlib.dumps(json, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
            return text.encode(), b"application/json"
        except TypeError as error:
            msg = f"json cannot be serialised: {error}"
            raise TypeError(msg) from error
        except ValueError as error:
            msg = f"json cannot be serialised: {error}"
            raise ValueError(msg) from error
    if data is None:
        return None, None
    if isinstance(data, str):
        return _utf8("data", data), None
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data), None
    if isinstance(data, Mapping):
        return _form("data", data.items()).encode(), b"application/x-www-form-urlencoded"
    msg = f"data must be bytes, str or a mapping, so that it can be sent again; not {type(data).__name__}"
    raise TypeError(msg)


def split_timeout(timeout: TimeoutArgument) -> tuple[float | None, float | None]:
    """Return the seconds that a connect, and a silence, may last.

    :raises TypeError: `timeout` is no number.
    :raises ValueError: `timeout` is no number of seconds above 0.
    """
    if isinstance(timeout, Timeout):
        timeout = timeout.clone()
        timeout.start_connect()  # a total cannot be asked for its parts before that
        # What is not set is as if nothing had been given.
        return _seconds(timeout.connect_timeout, CONNECT_TIMEOUT), _seconds(timeout.read_timeout, None)
    if timeout is not None:
        check_number("timeout", timeout, least=0)
        if timeout == 0:
            msg = "timeout must be more than 0 seconds; pass None for no limit"
            raise ValueError(msg)
    return _seconds(timeout, None), _seconds(timeout, None)


def _seconds(value: object, unset: float | None) -> float | None:
    if value is None:
        return None
    return min(float(value), _LONGEST_TIMEOUT) if isinstance(value, (int, float)) else unset


# -- one attempt at it


@dataclass(frozen=True)
class _Hop:
    """One request of a chain of redirects."""

    method: str
    url: str
    headers: _Headers
    body: bytes | None

    @property
    def origin(self) -> str:
        return origin_of(self.url)

    def redirected(self, status: int, location: str | None) -> _Hop:
        """Return what to ask for next, as a browser would (WHATWG Fetch, HTTP-redirect fetch)."""
        if not location:
            raise self._leads_nowhere("names no Location")
        with contextlib.suppress(UnicodeError):
            location = location.encode("latin-1").decode()  # http.client takes what it reads for Latin-1
        try:
            target = parse_url(urljoin(self.url, location))._replace(auth=None, fragment=None)
        except ValueError:
            raise self._leads_nowhere("names a Location that is no URL") from None
        if target.scheme not in {"http", "https"} or not target.host:
            raise self._leads_nowhere("leads to something that is not HTTP")
        hop = replace(self, url=target.url)
        if status == 303 or (status in {301, 302} and self.method == "POST"):  # noqa: PLR2004
            kept = {name: value for name, value in hop.headers.items() if name not in _OF_THE_BODY}
            hop = replace(hop, method="GET", body=None, headers=kept)
        if hop.origin != self.origin:
            hop = replace(hop, headers={n: v for n, v in hop.headers.items() if _may_travel(n)})
        return hop

    def _leads_nowhere(self, why: str) -> SSEConnectionError:
        return SSEConnectionError(f"a redirect of {self.origin} {why}; check the URL", final=True)


class Exchange:
    """One attempt at a request: sent, redirected, answered, read and closed by one thread.

    :param pools: where connections come from and, with ``keep_connection``, go back to.
    """

    def __init__(self, pools: Pools, request: Request, last_event_id: str) -> None:
        self.sent = False
        """Whether a byte of the request may have reached the server."""
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.url = request.url
        """Where the answer came from, after redirects."""
        self._pools = pools
        self._request = request
        self._last_event_id = last_event_id
        self.raw_response: _HTTPResponse | None = None
        """What `_response` reads from; set by the connection."""
        self._response: BaseHTTPResponse | None = None
        self._proxy: str | None = None  # by which the request is sent; its URL, without credentials
        self._asked = False  # whether a byte of the current hop's request may have reached its server
        self._lock = threading.RLock()  # guards what follows, and that no socket is shut down after its close
        self._aborted = False
        self._resolving = False
        self._sock: socket.socket | None = None  # the innermost one, or a duplicate until the handshake is done
        self._sock_is_duplicate = False
        self._shutdown = socket.socket.shutdown  # of that socket's class

    # -- by the thread that reads

    def open(self) -> None:
        """Send the request and accept the head of the answer; look at `status`, which is 200 or 204.

        :raises SSEStatusError: any other status.
        :raises SSEContentTypeError: status 200, and something else than an event stream.
        :raises SSEConnectionError: anything else that went wrong.
        :raises Exception: whatever the caller's own callable for the headers raises.
        """
        self._response = self._follow()
        if self._response.status == 401 and self._request.refreshable:  # noqa: PLR2004
            self._discard()
            self._response = self._follow()
        response = self._response
        self.status = response.status
        self.headers = response.headers
        if response.status == 204:  # noqa: PLR2004
            return
        if response.status != 200:  # noqa: PLR2004
            raise self._refusal(
                SSEStatusError,
                f"{self._where(self.url)} answered with status "
                + f"{response.status} {quoted(response.reason or '')}".rstrip()
                + ", not 200; what the server says of it is in this error's attribute body",
            )
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if media_type != _EVENT_STREAM:
            raise self._refusal(
                SSEContentTypeError,
                f"{self._where(self.url)} answered with media type '{quoted(media_type) or '(none)'}', not "
                f"{_EVENT_STREAM!r}; check that the URL is that of an event stream",
            )
        encodings = [name.strip().lower() for name in response.headers.get("Content-Encoding", "").split(",")]
        unknown = [name for name in encodings if name not in {"", "identity", *response.CONTENT_DECODERS}]
        if unknown:
            msg = (
                f"{origin_of(self.url)} answered in content encoding '{quoted(unknown[0])}', which urllib3 cannot "
                "decode here; ask for another one by Accept-Encoding, or install what urllib3 needs for it"
            )
            raise SSEConnectionError(msg, final=True)

    def read(self) -> bytes:
        """Return the next bytes of the body as they arrive, decoded; none at its end.

        :raises SSEConnectionError: the connection broke, or was silent for longer than the read time-out.
        """
        assert self._response is not None  # noqa: S101 - open() comes first
        raw = self.raw_response
        try:
            # Past urllib3 where it has nothing to do: an encoding to take off, a length to check, or, at the end of
            # the body, a connection to give back to its pool. It would take longer than all the rest.
            if raw is not None and not raw.is_encoded and raw.length is None:
                try:
                    data = raw.read1(_READ_SIZE)
                except (OSError, http.client.HTTPException) as error:
                    raise _as_of_urllib3(error) from error
                if data:
                    return data
            return self._response.read1(_READ_SIZE, decode_content=True)
        except Exception as error:
            raise self._explain(error, self.url) from error

    def close(self) -> None:
        """Let go of the connection, unless it went back to the pool at the end of the body."""
        self._discard()

    def _follow(self) -> BaseHTTPResponse:
        """Send the request, and again wherever its answers redirect it to; return the answer that does not."""
        hop = _Hop(self._request.method, self._request.url, self._headers(), self._request.body)
        for _ in range(MAX_REDIRECTS + 1):
            self.url = hop.url
            self._response = response = self._send(hop)
            if not self._request.redirect or response.status not in _REDIRECTS:
                return response
            self._discard()
            hop = hop.redirected(response.status, response.headers.get("Location"))
        msg = f"{origin_of(self._request.url)} redirected more than {MAX_REDIRECTS} times; check the URL"
        raise SSEConnectionError(msg, final=True)

    def _headers(self) -> _Headers:
        """Return the headers to send (WHATWG HTML 9.2.2 and 9.2.3)."""
        headers = _STANDARD_HEADERS | self._request.headers()
        last_event_id = self._last_event_id.encode()
        if last_event_id and _FIELD_VALUE.fullmatch(last_event_id):
            headers["last-event-id"] = ("Last-Event-ID", last_event_id)
        if self._request.body is not None:
            # http.client would send bytes at once under one time-out; of a file it sends block by block, each
            # under its own, but needs to be told the length.
            headers.pop("transfer-encoding", None)
            headers["content-length"] = ("Content-Length", b"%d" % len(self._request.body))
        return headers

    def _send(self, hop: _Hop) -> BaseHTTPResponse:
        proxy = self._pools.proxy_for(hop.url)
        self._proxy = None if proxy is None else proxy.url
        token = _current.set(self)
        self._asked = False
        try:
            return self._pools.by(proxy).urlopen(
                hop.method,
                hop.url,
                body=None if hop.body is None else io.BytesIO(hop.body),
                # ProxyManager has its own Accept and Host for who does not send them in just that spelling.
                headers={_SPELLINGS.get(key, name): value for key, (name, value) in hop.headers.items()},
                timeout=Timeout(connect=self._request.connect_timeout, read=self._request.read_timeout),
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except SSEConnectionError:  # the environment names no usable proxy
            raise
        except Exception as error:
            raise self._explain(error, hop.url) from error
        finally:
            _current.reset(token)

    def _discard(self) -> None:
        """Close the answer and its connection, unless it is back in the pool (then the socket is released)."""
        with self._lock:
            sock = self._sock
            if sock is not None:
                _reset_on_close(sock)
            self._release()
        response, self._response, self.raw_response = self._response, None, None
        if response is not None:
            response.close()

    def _refusal(self, kind: type[SSEStatusError | SSEContentTypeError], message: str) -> SSEConnectionError:
        assert self._response is not None  # noqa: S101 - there is an answer to complain of
        return kind(
            message,
            status=self._response.status,
            reason=self._response.reason or "",
            headers=self._response.headers,
            url=self.url,
            body=self._beginning_of_body(self._response),
        )

    def _beginning_of_body(self, response: BaseHTTPResponse) -> bytes:
        """Return what the server says of its refusal, but do not let it keep us."""
        body = bytearray()
        patience = _BODY_PATIENCE
        if self._request.read_timeout is not None:
            patience = min(patience, self._request.read_timeout)
        deadline = Deadline(patience)
        with contextlib.suppress(Exception):
            while len(body) < MAX_BODY and (left := deadline.remaining()):
                with self._lock:
                    if self._sock is not None:
                        self._sock.settimeout(left)
                chunk = response.read1(_READ_SIZE, decode_content=True)
                if not chunk:
                    break
                body += chunk
        return bytes(body[:MAX_BODY])

    # -- by the connection, on the same thread

    def connect(
        self,
        host: str,
        port: int,
        timeout: float | None,
        source: tuple[str, int] | None,
        options: Iterable[tuple[Any, ...]],
    ) -> socket.socket:
        """Open a TCP connection to the first address of `host` that takes one; `abort` ends the wait.

        :raises OSError: no address took one.
        """
        failure = OSError()
        for family, kind, protocol, _, address in self.resolve(host, port, allowed_gai_family()):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:  # such as IPv6 where there is none
                failure = error
                continue
            try:
                for option in options:
                    sock.setsockopt(*option)
                if source is not None:
                    sock.bind(source)
                self._connect_to(sock, address, timeout)
            except OSError as error:
                with self._lock:
                    self._release()
                sock.close()
                failure = error
                if self._aborted:
                    break
            else:
                return sock
        raise failure

    def resolve(self, host: str, port: int, family: socket.AddressFamily) -> list[tuple[Any, ...]]:
        """Return what `socket.getaddrinfo` does, one address at least; a wait that `abort` cannot end.

        :raises OSError: there is none.
        """
        with self._lock:
            self._check_not_aborted()
            self._resolving = True
        try:
            addresses = socket.getaddrinfo(host.strip("[]"), port, family, socket.SOCK_STREAM)
        finally:
            with self._lock:
                self._resolving = False
        if not addresses:
            raise OSError(errno.EADDRNOTAVAIL, "the name has no address")
        return list(addresses)

    def _connect_to(self, sock: socket.socket, address: Any, timeout: float | None) -> None:  # noqa: ANN401
        sock.settimeout(0)
        with self._lock:
            # From here on abort() finds a socket that is connecting: shutting down one that is not yet would be
            # without effect, and the wait below would last.
            self._check_not_aborted()
            code = sock.connect_ex(address)
            self._hold(sock.dup(), duplicate=True)
        if code in _IN_PROGRESS:  # pragma: no branch - else it is decided at once, which no system at hand does
            if not wait_for_write(sock, timeout):
                raise TimeoutError(errno.ETIMEDOUT, "timed out")
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        with self._lock:
            self._check_not_aborted()
        sock.settimeout(timeout)

    def sending(self, sock: Any) -> None:  # noqa: ANN401 - a socket, or urllib3's stand-in for one
        """Note that the request is being sent on `sock`, which is connected and through with its handshake."""
        self.sent = self._asked = True
        while not isinstance(sock, socket.socket):
            sock = sock.socket  # TLS within TLS
        with self._lock:
            self._check_not_aborted()
            if self._sock is not sock:
                self._hold(sock, duplicate=False)
                sock.settimeout(self._request.read_timeout)

    def finished_with(self) -> bool:
        """Let go of the socket, its response having come to its end; tell whether the pool shall have it."""
        with self._lock:
            self._release()
            return self._request.keep_connection and not self._aborted

    def _hold(self, sock: socket.socket, *, duplicate: bool) -> None:
        self._release()
        self._sock = sock
        self._sock_is_duplicate = duplicate
        # Looked up with each socket: sockets made before gevent puts its own class in place are of another.
        self._shutdown = socket.socket.shutdown

    def _release(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None and self._sock_is_duplicate:
            sock.close()

    def _check_not_aborted(self) -> None:
        if self._aborted:
            raise ConnectionAbortedError(errno.ECONNABORTED, "closed meanwhile")

    # -- by any thread

    def abort(self) -> bool:
        """End whatever wait the exchange is in, without waiting; nothing is sent from now on.

        :returns: whether it will end at once; it does not while the host's name is being resolved.
        """
        with self._lock:
            self._aborted = True
            if self._sock is not None:
                _reset_on_close(self._sock)
                # Not the socket's own method: that of a TLS socket drops the TLS layer, and the read that is
                # on would return ciphertext.
                with contextlib.suppress(OSError):
                    self._shutdown(self._sock, socket.SHUT_RDWR)
            return not self._resolving

    def disown(self) -> None:
        """Close this process's descriptor of a connection that belongs to the parent, who goes on using it."""
        sock, self._sock = self._sock, None
        if sock is not None:
            with contextlib.suppress(OSError):
                os.close(sock.detach())

    # -- errors

    def _where(self, url: str) -> str:
        origin = origin_of(url)
        return origin if self._proxy is None else f"{origin} (by the proxy {self._proxy})"

    def _explain(self, error: Exception, url: str) -> SSEConnectionError:
        """Return what to raise in place of an error of the layers below: what happened, where, and what to do.

        Nothing is quoted but what tells no secret: errors of these layers may hold URLs and header values.
        """
        origin = origin_of(url)
        of_proxy = isinstance(error, urllib3.exceptions.ProxyError)
        where = self._where(url)
        causes = _causes(error)
        for cause in causes:
            if isinstance(cause, (ssl.SSLCertVerificationError, CertificateError)) or _is_wrong_fingerprint(cause):
                why = getattr(cause, "verify_message", "") or "it does not fit"
                whose = f"the proxy {self._proxy or 'to ' + origin}" if of_proxy else origin
                return SSEConnectionError(
                    f"the certificate of {whose} was rejected ({why}); check the URL's host, or trust the "
                    "authority that signed it",
                    final=True,
                )
            if isinstance(cause, ssl.SSLError) and getattr(cause, "reason", None) in _OUR_CERTIFICATE:
                return SSEConnectionError(
                    f"{where}: this side's certificate was rejected, or is missing ({cause.reason}); have the "
                    "ssl_context load one that the server trusts",
                    final=True,
                )
            if refusal := _TUNNEL_REFUSED.match(str(cause)) if type(cause) is OSError else None:
                return SSEConnectionError(
                    f"{origin}: the proxy {self._proxy} answered CONNECT with status {quoted(refusal[1])}; check "
                    "its URL, the credentials in that, and whether it lets this host and port through",
                    final=refusal[2] == "4" and refusal[3] not in {"08", "29"},
                )
        if not isinstance(error, _FAILURES):
            return SSEConnectionError(
                f"{where}: an error that was not foreseen ({type(error).__name__}); its cause says more", final=True
            )
        final = isinstance(error, urllib3.exceptions.LocationValueError)
        final = final or isinstance(causes[-1], http.client.InvalidURL)
        return SSEConnectionError(f"{where}: {self._what_happened(error, causes[-1])}", final=final)

    def _what_happened(self, error: Exception, root: BaseException) -> str:
        reason = getattr(root, "reason", None) if isinstance(root, ssl.SSLError) else None
        detail = reason or getattr(root, "strerror", None) or type(root).__name__
        match error:
            case urllib3.exceptions.NameResolutionError():
                return f"its name could not be resolved ({detail}); check the URL's host, and the network"
            case urllib3.exceptions.NewConnectionError():
                return f"could not connect ({detail}); check the URL's host and port, and that the server runs"
            case urllib3.exceptions.TimeoutError() if not self._asked:
                seconds = self._request.connect_timeout
                return f"no connection within {seconds} s; check the URL's host and port, or the timeout"
            case urllib3.exceptions.TimeoutError() if self._request.read_timeout is not None:
                seconds = self._request.read_timeout
                return (
                    f"nothing came for {seconds} s, so the connection counts as dead; allow more by timeout if the "
                    "server is only quiet"
                )
            case urllib3.exceptions.ProxyError():
                # What these say is more than their types do, and no secret.
                why = str(root) if isinstance(root, TimeoutError) or type(root).__module__ == "socks" else detail
                return f"the proxy could not be used ({why}); check its URL and credentials, and that it runs"
            case urllib3.exceptions.SSLError() if not self._asked:
                return f"TLS failed ({detail}); check the URL's scheme and port"
            case urllib3.exceptions.DecodeError():
                return (
                    "the body is not in the content encoding that its header names; ask for another one by "
                    "Accept-Encoding"
                )
            case urllib3.exceptions.InvalidHeader():
                return "the answer's headers contradict each other; check the URL's port, and the server"
            case urllib3.exceptions.LocationValueError():
                return f"there can be no such host ({detail}); check the URL"
        match root:
            case http.client.InvalidURL():
                return "there can be no such URL; check it"
            case http.client.RemoteDisconnected():
                return "the server closed the connection without an answer"
            case http.client.IncompleteRead():
                return "the response was cut short"
            case _BadChunk():
                return "the chunks of the response are not framed as HTTP has it"
            case http.client.BadStatusLine() | http.client.UnknownProtocol() | http.client.UnknownTransferEncoding():
                return f"the answer is not HTTP ({detail}); check the URL's scheme and port"
        if isinstance(root, http.client.LineTooLong) or type(root) is http.client.HTTPException:  # too many lines
            return "the head of the answer is too large; check the URL's scheme and port"
        return f"the connection broke ({detail})"


_current: contextvars.ContextVar[Exchange] = contextvars.ContextVar("exchange")


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL (WHATWG HTML 7.1.1), the port left out if it is the scheme's own."""
    parts = parse_url(url)
    default = _DEFAULT_PORTS.get(parts.scheme or "")
    port = "" if parts.port in {None, default} else f":{parts.port}"
    return f"{parts.scheme}://{parts.host}{port}"


def _may_travel(name: str) -> bool:
    """Tell whether a header may go along to another origin. What describes the body goes with the body."""
    return name in _FOR_ANY_ORIGIN or name.startswith("accept-")


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and what it was made of, outermost first: urllib3 keeps that as cause or as argument."""
    seen: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None and inner not in seen:
        seen.append(inner)
        nested = [argument for argument in inner.args if isinstance(argument, BaseException)]
        inner = nested[-1] if nested else inner.__cause__
    return seen


def _as_of_urllib3(error: OSError | http.client.HTTPException) -> urllib3.exceptions.HTTPError:
    """Return what urllib3 raises in place of an error of reading."""
    if isinstance(error, TimeoutError):
        return urllib3.exceptions.ReadTimeoutError(None, None, "Read timed out.")  # type: ignore[arg-type]
    if isinstance(error, ssl.SSLError):
        return urllib3.exceptions.SSLError(error)
    return urllib3.exceptions.ProtocolError(f"Connection broken: {error!r}", error)


def _is_wrong_fingerprint(error: BaseException) -> bool:
    """Tell whether a certificate is not the one whose fingerprint a lent pool names; urllib3 has no class for it."""
    return isinstance(error, urllib3.exceptions.SSLError) and str(error).startswith("Fingerprints did not match")


def _reset_on_close(sock: socket.socket) -> None:
    """Have the close of `sock` send a reset: else a server that is flooding it stays in its send for a minute."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


_STANDARD_HEADERS = merge_headers(
    {
        "Accept": _EVENT_STREAM,
        "Cache-Control": "no-cache",
        "Accept-Encoding": "identity",
        "User-Agent": "sseclient_dual",
    }
)


# -- urllib3's classes, with the exchange let in


class _ResponseFile:
    """The file that a response is read from, instead of the one that a socket makes.

    It hands out what the socket has, up to any size, and holds no buffer while it waits. And it tells a head that
    is cut short: http.client takes the end of the file for the end of the head, and a stream cut there would look
    like an answer of no media type.
    """

    def __init__(self, sock: Any) -> None:  # noqa: ANN401 - a socket, or urllib3's stand-in for one
        raw = sock.makefile("rb", buffering=0)  # which keeps the socket from being closed before this is
        self.close = raw.close
        self.flush = raw.flush
        self._sock = sock
        self._receive = sock.recv
        self._hands_out_records = isinstance(sock, ssl.SSLSocket)
        self._buffered = b""
        self._begun = False
        self._room = _LONGEST_HEAD
        self._failure: OSError | None = None  # to be told after what came before it

    def makefile(self, _mode: str) -> _ResponseFile:
        """Return itself, which http.client takes for the socket."""
        return self

    def readline(self, limit: int) -> bytes:
        """Return a line of the head, its end included, or what there is of one that is longer than `limit`."""
        while (end := self._buffered.find(b"\n", 0, limit) + 1) == 0 and len(self._buffered) < limit:
            block = self._receive(_HEAD_READ_SIZE)
            if not block:
                if self._begun or self._buffered:
                    raise http.client.IncompleteRead(self._buffered)
                return b""
            self._buffered += block
        self._begun = True
        line, self._buffered = self._buffered[: end or limit], self._buffered[end or limit :]
        self._room -= len(line)
        if self._room < 0:
            raise http.client.LineTooLong("head")
        return line

    def read1(self, size: int) -> bytes:
        """Return what there is, `size` bytes at most; wait for it if there is nothing; b"" at the end."""
        if self._buffered:
            block, self._buffered = self._buffered[:size], self._buffered[size:]
            return block
        if self._failure is not None:
            raise self._failure
        received: bytes = self._receive(size)
        if self._hands_out_records and len(received) >= _TLS_RECORD_SIZE:
            received = self._receive_records(received, size)
        return received

    def _receive_records(self, first: bytes, size: int) -> bytes:
        """Return `first` and what there is after it without waiting: TLS hands out one full record a call."""
        records, room = [first], size - len(first)
        timeout = self._sock.gettimeout()
        self._sock.settimeout(0)
        try:
            while room > 0 and (record := self._receive(room)):
                records.append(record)
                room -= len(record)
        except ssl.SSLWantReadError:
            pass
        except OSError as error:
            self._failure = error
        finally:
            self._sock.settimeout(timeout)
        return b"".join(records)


class _BadChunk(http.client.HTTPException):
    """The body is not framed as a chunked one is."""


class _ChunkSizes(dict[bytes, int]):
    """What a chunk's first line says its size is (RFC 9112, section 7.1), -1 if that is none; the usual ones kept."""

    def __missing__(self, line: bytes) -> int:
        digits = line.partition(b";")[0].rstrip(b" \t")
        if not 0 < len(digits) <= _LONGEST_CHUNK_SIZE or digits.strip(_HEX_DIGITS):
            return -1
        size = int(digits, 16)
        if len(line) <= _LONGEST_CHUNK_SIZE and len(self) < _CHUNK_SIZES_KEPT:
            self[line] = size
        return size


class _Chunks:
    """Takes the chunked framing off a body (RFC 9112, section 7.1), off all there is of it at once."""

    def __init__(self) -> None:
        self.last = False
        """Whether the last chunk has come, so that nothing but trailers follows."""
        self.ended = False
        """Whether the end of the body has come."""
        self.broken = False
        """Whether something has come that is no such framing; what came before it is good."""
        self._left = 0  # bytes of the current chunk still to come
        self._within = False  # whether the line to come is the one that ends a chunk's data
        self._line = b""  # the beginning of that line
        self._trailers = 0  # bytes of them so far
        self._sizes = _ChunkSizes()

    def feed(self, block: bytes) -> list[bytes]:
        """Take the next bytes of the framed body; return the data in them, a piece for each chunk."""
        pieces: list[bytes] = []
        position = 0
        looked_ahead = False
        while position < len(block) and not self.ended and not self.broken:
            if self._left:
                piece = block[position : position + self._left]
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                continue
            if not (looked_ahead or self._within or self.last or self._line):
                looked_ahead = True
                position = self._take_whole(block, position, pieces)
            end = block.find(b"\n", position) + 1
            self._line += block[position : end or None]
            if end:
                position = end
                self._take_line()
            elif len(self._line) > _LONGEST_CHUNK_LINE:
                self.broken = True
            else:
                break
        return pieces

    def _take_whole(self, block: bytes, position: int, pieces: list[bytes]) -> int:
        """Append to `pieces` the data of the chunks that are whole; return where those end.

        Where it meets anything else, the last chunk included, it stops; to tell what that is takes more care.
        """
        tried_split = False
        while (end := block.find(b"\r\n", position)) >= 0:
            size = self._sizes[block[position:end]]
            if size < min(_SMALL_CHUNK, (len(block) - position) // _MANY_CHUNKS) and not tried_split:
                # Many small ones, perhaps. These are got at quickest by a split at all CRLFs: if each second line is
                # as long as the line before it says, they are the chunks, and no data holds a CRLF.
                tried_split = True
                *lines, rest = _split_at_crlf(block[position:] if position else block)
                if len(lines) % 2:
                    rest = lines.pop() + b"\r\n" + rest
                data = lines[1::2]
                if all(data) and list(map(self._sizes.__getitem__, lines[::2])) == list(map(len, data)):
                    pieces += data
                    return len(block) - len(rest)
            begin, end = end + 2, end + 2 + size
            if size <= 0 or block[end : end + 2] != b"\r\n":
                break
            pieces.append(block[begin:end])
            position = end + 2
        return position

    def _take_line(self) -> None:
        line, self._line = self._line.rstrip(b"\r\n"), b""
        if self.last:
            self.ended = not line
            self._trailers += len(line)
            self.broken = self._trailers > _LONGEST_CHUNK_LINE
        elif self._within:
            self._within = False
            self.broken = bool(line)
        else:
            size = self._sizes[line]
            self.broken = size < 0
            self._left = max(size, 0)
            self._within = True
            self.last = size == 0


class _HTTPResponse(http.client.HTTPResponse):
    """A response whose head is whole, and whose chunks are read as many at once as one read brings.

    Servers send an event a chunk, and http.client would return them one by one.
    """

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(_ResponseFile(sock), *args, **options)  # type: ignore[arg-type]
        self.is_encoded = False
        """Whether a content coding is to be taken off."""
        self._chunks = _Chunks()
        self._pieces: list[bytes] = []  # read and not handed out yet, the next one last

    def begin(self) -> None:
        super().begin()
        self.is_encoded = bool(self.headers.get("Content-Encoding"))

    def read1(self, n: int = -1) -> bytes:
        if self.fp is None or not self.chunked or self._method == "HEAD":  # type: ignore[attr-defined]
            return super().read1(n)
        while not self._pieces:
            if self._chunks.broken:
                raise _BadChunk
            block = b"" if self._chunks.ended else self.fp.read1(n)
            if block:
                pieces = self._chunks.feed(block)
                # Encoded ones come one by one, lest one that cannot be decoded take the others along.
                self._pieces = pieces[::-1] if self.is_encoded else [b"".join(pieces)] if pieces else []
            elif self._chunks.last:  # some servers leave out what follows the last chunk
                self._close_conn()  # type: ignore[attr-defined]
                return b""
            else:
                raise http.client.IncompleteRead(b"")
        return self._pieces.pop()


class _HTTPConnection(urllib3.connection.HTTPConnection):
    """A connection whose sockets the exchange makes, watches, and can shut down at any moment."""

    exchange: Exchange | None = None
    _connecting = False
    _raw_response: _HTTPResponse | None = None

    def _new_conn(self) -> socket.socket:
        try:
            return self._open_socket()
        except socket.gaierror as error:
            raise urllib3.exceptions.NameResolutionError(self.host, self, error) from error
        except UnicodeError as error:
            raise urllib3.exceptions.LocationParseError(self.host) from error
        except TimeoutError as error:
            raise urllib3.exceptions.ConnectTimeoutError(self, "timed out") from error
        except OSError as error:
            raise urllib3.exceptions.NewConnectionError(self, str(error)) from error

    def _open_socket(self) -> socket.socket:
        return self._connect_socket(self._dns_host, self.port)

    def _connect_socket(self, host: str, port: int) -> socket.socket:
        self.exchange = _current.get()
        return self.exchange.connect(host, port, self.timeout, self.source_address, self.socket_options or ())

    def connect(self) -> None:
        self._connecting = True
        try:
            super().connect()
        finally:
            self._connecting = False

    def send(self, data: Any) -> None:  # noqa: ANN401 - as in http.client
        if self.sock is None:
            self.connect()
        if not self._connecting:  # a proxy's CONNECT is not the request
            self.exchange = _current.get()
            self.exchange.sending(self.sock)
        super().send(data)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        # urllib3 warns of a malformed head in its log, with the URL: let it have none of the query, a secret maybe.
        options = self._response_options
        if options is not None:
            self._response_options = options._replace(request_url=options.request_url.partition("?")[0])
        try:
            response = super().getresponse()
        except BaseException:
            if self._raw_response is not None:  # urllib3 forgets it if its headers contradict each other
                self._raw_response.close()
            raise
        else:
            assert self.exchange is not None  # noqa: S101 - it has sent the request
            self.exchange.raw_response = self._raw_response
            return response
        finally:
            self._raw_response = None

    def response_class(self, *args: Any, **options: Any) -> _HTTPResponse:  # type: ignore[override]  # noqa: ANN401
        self._raw_response = _HTTPResponse(*args, **options)
        return self._raw_response


class _HTTPSConnection(_HTTPConnection, urllib3.connection.HTTPSConnection):
    def connect(self) -> None:
        config = self.proxy_config
        if self.proxy_is_forwarding and config is not None and config.ssl_context is not None:
            # All TLS is with the proxy, and goes by what was said of it. Earlier versions of urllib3 look here only.
            self.ssl_context, self.cert_reqs = config.ssl_context, config.ssl_context.verify_mode
            self.ca_certs = self.ca_cert_dir = self.ca_cert_data = self.cert_file = self.key_file = None
            self.assert_hostname, self.assert_fingerprint = config.assert_hostname, config.assert_fingerprint
        super().connect()


class _HTTPConnectionPool(urllib3.HTTPConnectionPool):
    """A pool that takes back a connection only if its exchange says so."""

    ConnectionCls = _HTTPConnection

    def _put_conn(self, conn: Any) -> None:  # noqa: ANN401 - urllib3's own type for it is private
        keep = True
        if conn is not None:
            # Not to be found from the pool any more: it would live as long as the pool, and its request with it.
            exchange, conn.exchange = conn.exchange, None
            keep = exchange.finished_with()
        if keep:
            super()._put_conn(conn)
        else:
            conn.close()


class _HTTPSConnectionPool(_HTTPConnectionPool, urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection

    def _validate_conn(self, conn: Any) -> None:  # noqa: ANN401
        # Without urllib3's warning of certificates that are not checked: the caller had it, in a frame of its own.
        if conn.is_closed:
            conn.connect()


# -- which way connections go

_TLS_SETTINGS = frozenset(
    {"ssl_context", "cert_reqs", "ca_certs", "ca_cert_dir", "ca_cert_data", "cert_file", "key_file", "key_password",
     "assert_hostname", "assert_fingerprint", "ssl_version", "ssl_minimum_version", "ssl_maximum_version"}
)  # fmt: skip
_PROXY_SCHEMES = frozenset({"http", "https", "socks4", "socks4a", "socks5", "socks5h"})


class Pools:
    """Pools of connections of our own: one for each way, direct or by a proxy, that the URLs asked for go.

    :param lender: a pool that lends its settings, its proxy included, and is not touched.
    :param verify: whether to check certificates, or the path of the authorities' certificates to check them with;
        None: as the lender has it.
    :param ssl_context: instead of every other TLS setting.
    :param proxy: the URL of a proxy for all connections.
    :param trust_env: whether the environment may name proxies, where nothing else does.
    :raises TypeError: an argument, which the message names, is of another type, or excludes another.
    :raises ValueError: an argument, which the message names, has a value that cannot be.
    """

    def __init__(
        self,
        lender: PoolManager | None = None,
        *,
        verify: bool | str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        trust_env: bool = True,
    ) -> None:
        if lender is not None and not isinstance(lender, PoolManager):
            msg = f"pool must be a urllib3.PoolManager, not {type(lender).__name__}"
            raise TypeError(msg)
        if lender is not None and proxy is not None:
            msg = "proxy and pool exclude each other: give a pool that has the proxy"
            raise TypeError(msg)
        self._lender = lender
        self._trust_env = trust_env and lender is None
        settings: dict[str, Any] = {} if lender is None else dict(lender.connection_pool_kw)
        self._proxy = _lent_proxy(lender, settings) if proxy is None else _checked_proxy("proxy", proxy)
        default_options = urllib3.connection.HTTPConnection.default_socket_options
        settings.setdefault("socket_options", [*default_options, *_KEEPALIVE])
        # Never waiting for another stream's end, and room for all that are kept.
        settings |= {"block": False, "maxsize": max(16, settings.get("maxsize", 1))}
        self._begin(settings | _tls_settings(settings, verify, ssl_context))

    @property
    def headers(self) -> Mapping[str, str]:
        """What the lender sends with every request."""
        return {} if self._lender is None else self._lender.headers

    @property
    def timeout(self) -> TimeoutArgument:
        """How long the lender waits, if it has been told."""
        timeout: TimeoutArgument = self._settings.get("timeout", DEFAULT_TIMEOUT)
        return timeout

    @property
    def checks_certificates(self) -> bool:
        """Whether a certificate that is not trusted is rejected."""
        if self._settings.get("assert_fingerprint"):
            return True
        context = self._settings.get("ssl_context")
        reqs = self._settings.get("cert_reqs")
        return (
            context.verify_mode if reqs is None and context is not None else resolve_cert_reqs(reqs)
        ) != ssl.CERT_NONE

    def renewed(self, *, verify: bool | str | None = None, ssl_context: ssl.SSLContext | None = None) -> Pools:
        """Return pools without connections yet, for the same ways, with the same TLS settings or with others."""
        other = copy.copy(self)
        other._begin(self._settings | _tls_settings(self._settings, verify, ssl_context))  # noqa: SLF001 - its own
        return other

    def _begin(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._pid = os.getpid()
        self._lock = threading.RLock()  # guards _managers
        self._managers: dict[_Proxy | None, PoolManager] = {}

    def proxy_for(self, url: str) -> _Proxy | None:
        """Return the proxy by which to go to `url`.

        :raises SSEConnectionError: the environment names one that cannot be.
        """
        return _proxy_of_environment(parse_url(url)) if self._proxy is None and self._trust_env else self._proxy

    def by(self, proxy: _Proxy | None) -> PoolManager:
        """Return the pool whose connections go by `proxy`, or directly."""
        if self._pid != os.getpid():  # a parent's idle connections are not for a forked child
            self._begin(self._settings)
        with self._lock:
            manager = self._managers.get(proxy)
            if manager is None:
                manager = self._managers[proxy] = _make_manager(proxy, self._settings)
        return manager

    def clear(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            managers = list(self._managers.values())
        for manager in managers:
            manager.clear()


@dataclass(frozen=True)
class _Proxy:
    """A proxy, and what it shall know of us."""

    url: str
    """Without credentials."""
    auth: tuple[str, str] | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    config: tuple[tuple[str, Any], ...] = ()
    """What else `urllib3.ProxyManager` was told of it."""


def _checked_proxy(argument: str, url: object) -> _Proxy:
    if not isinstance(url, str):
        msg = f"{argument} must be a str, not {type(url).__name__}"
        raise TypeError(msg)
    try:
        parts = parse_url(url if "://" in url else f"http://{url}")  # many an environment leaves the scheme out
    except ValueError:
        parts = Url()
    if parts.scheme not in _PROXY_SCHEMES or not parts.host:
        msg = f"{argument} must be a URL like http://host:port, its scheme one of {', '.join(sorted(_PROXY_SCHEMES))}"
        raise ValueError(msg)
    if parts.scheme.startswith("socks"):
        _socks_pools()
    auth = _credentials(argument, parts)
    if auth is not None:
        authorization(auth, argument=argument)  # to know now whether it can be sent
    return _Proxy(Url(scheme=parts.scheme, host=parts.host, port=parts.port).url, auth)


def _lent_proxy(lender: PoolManager | None, settings: dict[str, Any]) -> _Proxy | None:
    """Return the proxy of the lender; take what belongs to it out of its `settings`."""
    if lender is None:
        return None
    for name in ("_proxy", "_proxy_headers", "_proxy_config"):
        settings.pop(name, None)
    socks = settings.pop("_socks_options", None)
    if socks is not None:
        scheme = {(1, False): "socks4", (1, True): "socks4a", (2, False): "socks5", (2, True): "socks5h"}
        version = scheme[socks["socks_version"], bool(socks["rdns"])]
        auth = None if socks["username"] is None else (socks["username"], socks["password"] or "")
        return _Proxy(Url(scheme=version, host=socks["proxy_host"], port=socks["proxy_port"]).url, auth)
    if lender.proxy is None:
        return None
    config = {} if lender.proxy_config is None else lender.proxy_config._asdict()
    context = config.get("ssl_context")
    if isinstance(context, ssl.SSLContext):
        _check_unchanged("a proxy_ssl_context", context, config)
        context = _LentContext(context)
    return _Proxy(
        lender.proxy._replace(auth=None).url,
        _credentials("pool", lender.proxy),
        tuple(getattr(lender, "proxy_headers", {}).items()),
        (
            ("proxy_ssl_context", context),
            ("use_forwarding_for_https", config.get("use_forwarding_for_https", False)),
            ("proxy_assert_hostname", config.get("assert_hostname")),
            ("proxy_assert_fingerprint", config.get("assert_fingerprint")),
        ),
    )


def _proxy_of_environment(parts: Url) -> _Proxy | None:
    """Return the proxy that the environment names for a URL, if it names one."""
    proxies = getproxies_environment()
    url = proxies.get(parts.scheme or "") or proxies.get("all")
    if not url or _goes_directly(parts, proxies):
        return None
    try:
        return _checked_proxy("the proxy that the environment names", url)
    except ValueError as error:
        raise SSEConnectionError(f"{origin_of(parts.url)}: {error}", final=True) from None


def _goes_directly(parts: Url, proxies: dict[str, str]) -> bool:
    """Tell whether ``NO_PROXY`` names the host of a URL: by name, by the end of its name, or by its network."""
    host = (parts.host or "").strip("[]")
    port = parts.port or _DEFAULT_PORTS[parts.scheme or "http"]
    names = [name.strip().strip("[]") for name in proxies.get("no", "").split(",")]
    names = [name.removeprefix("*") or "*" for name in names if name]  # some write *.example.com
    if "*" in names or proxy_bypass_environment(f"{host}:{port}", proxies | {"no": ",".join(names)}):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for name in names:
        with contextlib.suppress(ValueError):
            if address in ipaddress.ip_network(name, strict=False):
                return True
    return False


def _make_manager(proxy: _Proxy | None, settings: dict[str, Any]) -> PoolManager:
    manager: PoolManager
    if proxy is None:
        manager = PoolManager(**settings)
    elif proxy.url.startswith("socks"):
        user, password = proxy.auth or (None, None)
        kind, classes = _socks_pools()
        manager = kind(proxy.url, user, password, **settings)
        manager.pool_classes_by_scheme = classes
        return manager
    else:
        headers = dict(proxy.headers)
        if proxy.auth is not None and "proxy-authorization" not in map(str.lower, headers):
            for name, value in authorization(proxy.auth, "Proxy-Authorization").values():
                headers[name] = value.decode()
        # A context of the caller's is for the proxy, too; a lender has its own for that, or none.
        config: dict[str, Any] = {"proxy_ssl_context": settings.get("ssl_context")} | dict(proxy.config)
        if config.get("use_forwarding_for_https") and proxy.url.startswith("https:"):
            # All TLS is with the proxy. urllib3 would warn, in this thread, of a context that is not said to be so.
            config["proxy_ssl_context"] = config["proxy_ssl_context"] or settings.get("ssl_context")
            settings = settings | {"ssl_context": None}
        manager = urllib3.ProxyManager(proxy.url, proxy_headers=headers, **config, **settings)
    manager.pool_classes_by_scheme = {"http": _HTTPConnectionPool, "https": _HTTPSConnectionPool}
    return manager


@functools.lru_cache(maxsize=1)
def _socks_pools() -> tuple[Callable[..., PoolManager], dict[str, Any]]:
    """Return what connects by SOCKS; the only place that needs PySocks.

    :raises ValueError: PySocks is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # urllib3's advice, which the message below repeats
            import socks  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
            from urllib3.contrib.socks import SOCKSConnection, SOCKSProxyManager  # noqa: PLC0415
    except ImportError:
        msg = "proxy is a SOCKS proxy, which needs an extra: pip install 'sseclient-dual[socks]'"
        raise ValueError(msg) from None

    class ConnectedSocket(socket.socket):
        def connect(self, _address: Any) -> None:  # noqa: ANN401 - as in socket
            """Do nothing: the exchange has connected it to the proxy."""

    class SOCKSSocket(socks.socksocket, ConnectedSocket):  # type: ignore[misc]
        """PySocks' negotiation on a socket that is connected."""

    class Connection(_HTTPConnection, SOCKSConnection):
        def _open_socket(self) -> socket.socket:
            options: Any = self._socks_options
            host, port, version = options["proxy_host"], options["proxy_port"] or 1080, options["socks_version"]
            target = self.host
            if not options["rdns"]:  # here, since abort() has to know of it
                family = socket.AF_INET if version == socks.SOCKS4 else allowed_gai_family()
                target = _current.get().resolve(target, self.port, family)[0][4][0]
            try:
                plain = self._connect_socket(host, port)
                sock = SOCKSSocket(plain.family, plain.type, plain.proto, fileno=plain.detach())
                try:
                    sock.settimeout(self.timeout)
                    sock.set_proxy(version, host, port, options["rdns"], options["username"], options["password"])
                    sock.connect((target, self.port))
                except BaseException:
                    sock.close()
                    raise
            except OSError as error:
                cause = getattr(error, "socket_err", None) or error  # PySocks wraps its own in another
                if isinstance(cause, socks.SOCKS5AuthError):
                    origin = origin_of(_current.get().url)
                    msg = f"{origin}: the SOCKS proxy refused ({cause}); check the credentials in its URL"
                    raise SSEConnectionError(msg, final=True) from cause
                raise urllib3.exceptions.ProxyError("SOCKS", cause) from cause
            return sock

    class SecureConnection(Connection, _HTTPSConnection):
        pass

    class Pool(_HTTPConnectionPool):
        ConnectionCls = Connection  # type: ignore[assignment]

    class SecurePool(_HTTPSConnectionPool):
        ConnectionCls = SecureConnection  # type: ignore[assignment]

    return SOCKSProxyManager, {"http": Pool, "https": SecurePool}


def _tls_settings(
    settings: dict[str, Any],
    verify: bool | str | None,  # noqa: FBT001 - or a path
    ssl_context: ssl.SSLContext | None,
) -> dict[str, Any]:
    """Return what to change in `settings`, so that certificates are checked as asked for."""
    if ssl_context is not None:
        if not isinstance(ssl_context, ssl.SSLContext):
            msg = f"ssl_context must be an ssl.SSLContext, not {type(ssl_context).__name__}"
            raise TypeError(msg)
        if verify is not None:
            msg = "verify and ssl_context exclude each other: the context says it all"
            raise TypeError(msg)
        return dict.fromkeys(_TLS_SETTINGS & settings.keys()) | {"ssl_context": _LentContext(ssl_context)}
    own = settings.get("ssl_context")
    if verify is None:
        if not isinstance(own, ssl.SSLContext):
            return {}
        _check_unchanged("an ssl_context", own, settings)
        return {"ssl_context": _LentContext(own)}
    if verify is True and (own is None or own.verify_mode == ssl.CERT_REQUIRED):
        return {} if own is not None else {"cert_reqs": ssl.CERT_REQUIRED}  # by the authorities that are set
    authorities = dict.fromkeys({"ssl_context", "ca_certs", "ca_cert_dir", "ca_cert_data"} & settings.keys())
    if isinstance(verify, bool):
        return authorities | {"cert_reqs": ssl.CERT_REQUIRED if verify else ssl.CERT_NONE}
    if not isinstance(verify, (str, os.PathLike)):
        msg = f"verify must be a bool or a path, not {type(verify).__name__}"
        raise TypeError(msg)
    path = os.fspath(verify)
    kind = "ca_cert_dir" if Path(path).is_dir() else "ca_certs"
    try:
        if not path:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))  # and not the current folder
        if kind == "ca_certs":
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:  # ssl.SSLError included
        msg = f"verify names no file of certificates and no folder: {path!r} ({error.strerror})"
        raise ValueError(msg) from error
    return authorities | {"cert_reqs": ssl.CERT_REQUIRED, kind: path}


def _check_unchanged(what: str, context: ssl.SSLContext, settings: dict[str, Any]) -> None:
    """Refuse settings that urllib3 would make on the context that stands beside them."""
    names = [name for name in ("ca_certs", "ca_cert_dir", "ca_cert_data", "cert_file") if settings.get(name)]
    if settings.get("cert_reqs") is not None and resolve_cert_reqs(settings["cert_reqs"]) != context.verify_mode:
        names.append("cert_reqs")
    if context.check_hostname:
        names += [n for n in ("assert_hostname", "assert_fingerprint") if settings.get(n) is not None]
    if names:
        msg = f"pool has {what}, and {names[0]}, which would change that; make it part of the context"
        raise ValueError(msg)


class _LentContext:
    """A caller's TLS context as urllib3 sees it: what urllib3 sets stays here, and the context as it is."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the context has
        return getattr(self._context, name)

    def _leave(self, *_settings: object) -> None:
        """Leave what the context has."""

    set_alpn_protocols = _leave
    load_verify_locations = _leave  # by which earlier versions of urllib3 add the server's authorities to a proxy's
