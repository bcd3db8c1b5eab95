"""`SharedConnections`: the HTTP/2 connections to one origin, which all requests to it share."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any

from urllib3 import exceptions

from sseclient_dual.waiting import Deadline, Latch, Lock, ThreadWaiter

from .connections import TakenOver
from .failures import as_urllib3_error
from .frames import HTTP1RequiredError, UnprocessedError
from .headers import fields_of_http2
from .http2 import HTTP2Connection
from .streams import Stream, StreamFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from urllib3.response import BaseHTTPResponse

    from .headers import Headers
    from .redirects import Hop
    from .request import Request
    from .sockets import AbortableSocket


class SharedConnections:
    """The connections to one origin by one proxy, with the same TLS settings.

    While an attempt connects, other requests wait for it: it may have room for all of them.

    :param negotiates: whether TLS negotiates the protocol; otherwise the server is known to speak HTTP/2.
    """

    def __init__(self, *, negotiates: bool) -> None:
        self._negotiates = negotiates
        self._lock = Lock()  # guards the attributes below
        self._connections: list[HTTP2Connection] = []
        self._connecting: _Connecting | None = None
        self._speaks_http1 = False  # the last time; then no request waits for another one

    def send(
        self,
        hop: Hop,
        headers: Headers,
        request: Request,
        socket: AbortableSocket,
        connect: Callable[[], BaseHTTPResponse],
    ) -> BaseHTTPResponse:
        """Send a request, and return its response when its head has arrived.

        :param headers: those of `hop`, and others.
        :param connect: connects, and calls `AbortableSocket.take`; sends the request if that returns False.
        :raises Exception: any error of `connect`, also that of another request which this one waited for.
        :raises HTTP1RequiredError: the server wants the request over HTTP/1.1, which TLS can negotiate.
        :raises urllib3.exceptions.HTTPError: the connection broke, or the read timeout expired.
        """
        fields = fields_of_http2(hop.method, hop.url, headers)

        def send(connection: HTTP2Connection) -> Stream | None:
            return connection.request(
                fields,
                hop.body or b"",
                read_timeout=request.read_timeout,
                keep_connection=request.keep_connection,
            )

        may_repeat = True
        while True:
            answer = self._open(send, connect, socket, request.connect_timeout)
            if not isinstance(answer, Stream):
                return answer
            socket.hold_stream(answer)
            try:
                answer.wait_for_head()
            except (OSError, http.client.HTTPException) as error:
                if self._negotiates and isinstance(error, HTTP1RequiredError):
                    raise
                if not (may_repeat and isinstance(error, UnprocessedError)):
                    raise as_urllib3_error(error) from error
                may_repeat = False  # the connection was about to end
            else:
                return StreamFile(answer).response(hop.method)

    def _open(
        self,
        send: Callable[[HTTP2Connection], Stream | None],
        connect: Callable[[], BaseHTTPResponse],
        socket: AbortableSocket,
        timeout: float | None,
    ) -> Stream | BaseHTTPResponse:
        """Send a request on a connection that has room, or on a new one.

        :param timeout: seconds to wait for another request that connects; then this one connects, too.
        """
        deadline = Deadline(timeout)
        while True:
            with self._lock:
                for connection in self._connections:
                    stream = send(connection)
                    if stream is not None:
                        return stream
                others = self._connecting
                ours = _Connecting(timeout)
                if others is None and not self._speaks_http1:
                    self._connecting = ours
            if others is None or not others.wait(socket, deadline.remaining()):
                return self._connect(ours, send, connect, socket)
            error = others.error_for(timeout)
            if error is not None:
                raise error

    def _connect(
        self,
        ours: _Connecting,
        send: Callable[[HTTP2Connection], Stream | None],
        connect: Callable[[], BaseHTTPResponse],
        socket: AbortableSocket,
    ) -> Stream | BaseHTTPResponse:
        streams: list[Stream | None] = []

        def take(sock: Any) -> bool:  # noqa: ANN401 - with or without TLS
            speaks_http1 = self._negotiates and sock.selected_alpn_protocol() != "h2"
            with self._lock:
                self._speaks_http1 = speaks_http1
            if speaks_http1:
                self._settle(ours)
                return False
            socket.release()  # an abort ends the stream only
            socket.check_not_aborted()
            connection = HTTP2Connection(sock, settled=lambda: self._settle(ours), ended=self._remove)
            streams.append(send(connection))  # before others see it
            with self._lock:
                self._connections.append(connection)
            connection.start()
            return True

        socket.take = take
        try:
            return connect()
        except TakenOver:
            (stream,) = streams
            assert stream is not None  # noqa: S101 - a new connection has room for one
            return stream
        except BaseException as error:
            self._settle(ours, None if socket.is_aborted or not isinstance(error, Exception) else error)
            raise
        finally:
            socket.take = None

    def _settle(self, connecting: _Connecting, error: Exception | None = None) -> None:
        """End the wait of other requests for an attempt."""
        with self._lock:
            if self._connecting is connecting:
                self._connecting = None
        connecting.settle(error)

    def _remove(self, connection: HTTP2Connection) -> None:
        with self._lock:
            if connection in self._connections:
                self._connections.remove(connection)

    def retire(self) -> None:
        """Close the connections as soon as they have no streams."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.retire()


class _Connecting:
    """An attempt to connect, for which other requests wait.

    :param timeout: its connect timeout.
    """

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._error: Exception | None = None
        self._settled = Latch()

    def wait(self, socket: AbortableSocket, timeout: float | None) -> bool:
        """Wait until the attempt is settled; return False if the time is over.

        :raises OSError: the waiting request was aborted.
        """
        socket.waiter = waiter = ThreadWaiter()
        socket.check_not_aborted()  # before the waiter was there
        self._settled.wait(timeout, waiter)
        socket.waiter = None
        socket.check_not_aborted()
        return self._settled.is_set

    def settle(self, error: Exception | None) -> None:
        """End all waits, with the error of the attempt or without one; only the first call counts."""
        if not self._settled.is_set:
            self._error = error
            self._settled.set()

    def error_for(self, timeout: float | None) -> Exception | None:
        """Return the error of the attempt, None if there is none for a request with this connect timeout."""
        is_shorter = self._timeout is not None and (timeout is None or self._timeout < timeout)
        return None if is_shorter and isinstance(self._error, exceptions.TimeoutError) else self._error
