"""`Exchange`: one attempt at a request, from sending it to the end of the response body."""

from __future__ import annotations

import contextlib
import http.client
import io
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from urllib3.util import Timeout

from sseclient_dual.errors import Remedy, SSEConnectionError, SSEContentTypeError, SSEStatusError, quoted
from sseclient_dual.waiting import Deadline

from .callables import UserCalls
from .connections import raw_response_of
from .failures import as_urllib3_error, explain
from .frames import HTTP1RequiredError
from .headers import ResponseHeaders, media_type, names_media_type
from .redirects import MAX_REDIRECTS, REDIRECT_STATUSES, Hop
from .request import EVENT_STREAM
from .response import Response
from .sockets import AbortableSocket, current_socket
from .streams import Stream

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from urllib3.response import BaseHTTPResponse

    from sseclient_dual.hub import Routine

    from .body import Body
    from .pools import Pools
    from .request import HTTP2, Request
    from .streams import StreamFile

MAX_BODY = 64 * 1024  # bytes of the body of a refusal that its error keeps
_BODY_TIMEOUT = 5.0  # seconds to read them
_READ_SIZE = 128 * 1024
_ADVICE: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "; check the credentials",
    HTTPStatus.FORBIDDEN: "; check the credentials",
    HTTPStatus.NOT_FOUND: "; check the URL",
    HTTPStatus.METHOD_NOT_ALLOWED: "; check the method",
}
_VERSIONS = {10: "1.0", 11: "1.1", 20: "2"}
_SPELLINGS = {"accept": "Accept", "host": "Host"}

_Refusal = TypeVar("_Refusal", SSEStatusError, SSEContentTypeError)


class Exchange:
    """One attempt at a request, redirects included.

    One thread calls `open`, `read` and `close`; any thread may call `abort` meanwhile. Every error of the layers
    below is raised as an `SSEConnectionError`.

    :param pools: the source of connections; with ``keep_connection`` they go back to it.
    :param last_event_id: sent as ``Last-Event-ID``, unless it is empty.
    :param loop: the event loop for the user's awaitables, see `UserCalls`.
    :param name: the name of the connection, for the tasks of these awaitables.
    :param max_answer: the maximum number of bytes to read of an answer that is no event stream, but accepted.
    """

    def __init__(
        self,
        pools: Pools,
        request: Request,
        last_event_id: str,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        name: str = "",
        max_answer: int = MAX_BODY,
    ) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.http_version = ""
        self.url = request.url
        """The URL of the response, after redirects."""
        self.origin = request.origin
        """The origin of `url`."""
        self._pools = pools
        self._request = request
        self._last_event_id = last_event_id
        self._max_answer = max_answer
        self._accept = b""  # the value of the header that was sent
        self._calls = UserCalls(request.origin, loop, name)
        self._socket = AbortableSocket(read_timeout=request.read_timeout, keep_connection=request.keep_connection)
        self._response: BaseHTTPResponse | None = None
        self._raw_response: Response | StreamFile | None = None  # the one inside `_response`
        self.body: Body | Stream | None = None
        """The body, after `unblock`."""
        self.has_ended = False
        """True once `read` has returned the end of the body."""
        self._proxy: str | None = None  # the URL of the proxy in use, without credentials

    @property
    def sent(self) -> bool:
        """See `AbortableSocket.sent`."""
        return self._socket.sent

    def open(self) -> None:
        """Send the request and accept the response head; `status` is 200 or 204 afterwards.

        :raises SSEStatusError: the response has any other status.
        :raises SSEContentTypeError: the response has status 200 and is not an event stream.
        :raises SSEConnectionError: any other failure.
        :raises Exception: any error of the user's callables for the headers and params.
        """
        response = self._follow_redirects()
        if response.status == HTTPStatus.UNAUTHORIZED and self._request.refreshable:
            self.close()
            response = self._follow_redirects()
        self.status = response.status
        self.http_version = _VERSIONS[response.version]
        self.headers = ResponseHeaders(response.headers.itermerged())
        if response.status == HTTPStatus.NO_CONTENT:
            return
        if response.status != HTTPStatus.OK:
            answer = f"{response.status} {quoted(response.reason or '')}".rstrip()
            raise self._refusal(
                SSEStatusError,
                f"{self._where} answered with status {answer}, not 200{_ADVICE.get(response.status, '')}",
                Remedy.READ_BODY,
                self._read_refusal(response),
            )
        content_type = response.headers.get("Content-Type", "")
        found = media_type(content_type)
        if found != EVENT_STREAM:
            shown = quoted(found or content_type.partition(";")[0].strip().lower()) or "(none)"
            error = self._refusal(
                SSEContentTypeError,
                f"{self._where} answered with media type '{shown}', not {EVENT_STREAM!r}",
                "check that the URL is that of an event stream",
                self._read_answer() if names_media_type(self._accept, found) else self._read_refusal(response),
            )
            error.content_type = found
            raise error
        self._check_codings(response)

    def unblock(self, routine: Routine) -> Body | Stream | None:
        """Make `read` return None instead of waiting, and return the body; None if `read` keeps blocking.

        :param routine: woken when there is something to read, if the body has no socket.
        """
        response, raw = self._response, self._raw_response
        if response is None or raw is None or (body := raw.body()) is None:
            return None
        if isinstance(body, Stream):
            body.consumer = routine
        if isinstance(body, Stream) or not self._request.keep_connection:
            # Free all objects that nothing uses from now on: there may be thousands of open streams.
            raw.fp = None  # type: ignore[assignment,unused-ignore] # the body closes it, and it keeps the socket open
            response.close()
            self._response = self._raw_response = None
        self.body = body
        return body

    def read(self) -> bytes | None:
        """Return the next bytes of the body as soon as they arrive, decoded; b"" at its end.

        After `unblock`, return None if none have arrived; see `Body.read`.

        :raises SSEConnectionError: the connection broke, or the read timeout expired.
        """
        try:
            if self.body is not None:
                data = self.body.read()
            else:
                assert self._response is not None  # noqa: S101 - open() comes first
                data = self._response.read1(_READ_SIZE, decode_content=True)
        except (OSError, http.client.HTTPException) as error:
            cause = as_urllib3_error(error)
            cause.__cause__ = error
            raise self.explained(cause) from cause
        except Exception as error:
            raise self.explained(error) from error
        self.has_ended = data == b""
        return data

    def silence(self) -> SSEConnectionError:
        """Return the error for a read timeout that has expired."""
        cause = as_urllib3_error(TimeoutError("timed out"))
        error = self.explained(cause)
        error.__cause__ = cause
        return error

    def close(self) -> None:
        """Close the response and its connection, unless that went back to the pool at the end of the body."""
        response, self._response = self._response, None
        raw, self._raw_response = self._raw_response, None
        body, self.body = self.body, None
        if body is not None and self.has_ended:
            if response is not None and isinstance(raw, Response):
                raw.finish()
                response.release_conn()
            self._socket.release()
        self._socket.release_with_reset()
        if response is not None:
            response.close()
        elif body is not None:
            body.close()

    def abort(self) -> bool:
        """See `AbortableSocket.abort`; callable from any thread."""
        self._calls.abort()
        return self._socket.abort()

    def disown(self) -> None:
        """See `AbortableSocket.disown`; callable in a forked child."""
        self._socket.disown()

    def _follow_redirects(self) -> BaseHTTPResponse:
        """Send the request, follow redirects, and return the first response that is not one."""
        request = self._request
        fields = request.fields(self._last_event_id, self._calls)
        self._accept = fields["accept"][1]
        url = request.target(self._calls)
        hop = Hop(request.method, url, fields, request.body, first_url=url)
        for _ in range(MAX_REDIRECTS + 1):
            self.url, self.origin = hop.url, hop.origin
            self._response = response = self._send(hop, request.http2)
            self._raw_response = raw_response_of(response)
            if request.cookies is not None:
                request.cookies.store(hop, response.headers)
            if not request.redirect or response.status not in REDIRECT_STATUSES:
                return response
            self.close()
            hop = hop.redirected(response.status, response.headers.get("Location"))
        raise SSEConnectionError(
            f"{request.origin} redirected more than {MAX_REDIRECTS} times", remedy="check the URL", final=True
        )

    def _check_codings(self, response: BaseHTTPResponse) -> None:
        """Raise an error if the body has a coding that cannot be decoded; `Response.begin` normalised the fields."""
        transfer_codings = response.headers.get("Transfer-Encoding", "chunked").lower()
        if transfer_codings != "chunked":
            raise SSEConnectionError(
                f"{self._where} answered with transfer coding '{quoted(transfer_codings)}', but only 'chunked' is "
                "supported",
                remedy="fix the server or the proxy: the request asks for no transfer coding",
                final=True,
            )
        encodings = response.headers.get("Content-Encoding", "identity").lower().split(", ")
        unknown = [name for name in encodings if name not in {"identity", *response.CONTENT_DECODERS}]
        if unknown:
            raise SSEConnectionError(
                f"{self.origin} answered with content encoding '{quoted(unknown[0])}', which cannot be decoded here",
                remedy="request another one with Accept-Encoding, or install urllib3's extra for it",
                final=True,
            )

    def _send(self, hop: Hop, http2: HTTP2) -> BaseHTTPResponse:
        proxy = self._pools.proxy_for(hop.url)
        self._proxy = None if proxy is None else proxy.url
        headers = hop.headers
        if self._request.cookies is not None and "cookie" not in headers:
            headers = headers | self._request.cookies.fields(hop)
        shared = self._pools.shared_connections(hop, proxy, http2)
        send = partial(
            self._pools.manager_for(proxy, http2=shared is not None).urlopen,
            hop.method,
            hop.url,
            body=None if hop.body is None else io.BytesIO(hop.body),
            # ProxyManager adds its own Accept and Host unless these have exactly this spelling.
            headers={_SPELLINGS.get(key, name): value for key, (name, value) in headers.items()},
            timeout=Timeout(connect=self._request.connect_timeout, read=self._request.read_timeout),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        token = current_socket.set(self._socket)
        self._socket.begin_request()
        try:
            return send() if shared is None else shared.send(hop, headers, self._request, self._socket, send)
        except HTTP1RequiredError:
            pass
        except Exception as error:
            raise self.explained(error) from error
        finally:
            current_socket.reset(token)
        return self._send(hop, http2=False)

    @property
    def _where(self) -> str:
        return self.origin if self._proxy is None else f"{self.origin} (through the proxy {self._proxy})"

    def explained(self, error: Exception) -> SSEConnectionError:
        """Return the error to raise in place of one of the layers below."""
        return explain(
            error,
            origin=self.origin,
            where=self._where,
            proxy=self._proxy,
            asked=self._socket.asked,
            request=self._request,
        )

    def _refusal(self, kind: type[_Refusal], message: str, remedy: str, body: bytes) -> _Refusal:
        assert self._response is not None  # noqa: S101 - the refusal is a response
        return kind(
            message,
            status=self._response.status,
            reason=self._response.reason or "",
            headers=self._response.headers,
            url=self.url,
            body=body,
            remedy=remedy,
        )

    def _read_answer(self) -> bytes:
        """Return the whole body: the user accepts it, because the API may answer JSON in place of a stream.

        It has the limits of an event: the read timeout and the maximum size.

        :raises SSEConnectionError: the connection broke, or the read timeout expired.
        """
        body = bytearray()
        while len(body) < self._max_answer and (data := self.read()):
            body += data
        return bytes(body[: self._max_answer])

    def _read_refusal(self, response: BaseHTTPResponse) -> bytes:
        """Return the beginning of the body of a refusal, as far as it arrives in time."""
        body = bytearray()
        timeout = _BODY_TIMEOUT
        if self._request.read_timeout is not None:
            timeout = min(timeout, self._request.read_timeout)
        deadline = Deadline(timeout)
        with contextlib.suppress(Exception):
            while len(body) < MAX_BODY and (left := deadline.remaining()):
                self._socket.set_timeout(left)
                chunk = response.read1(_READ_SIZE, decode_content=True)
                if not chunk:
                    break
                body += chunk
        return bytes(body[:MAX_BODY])
