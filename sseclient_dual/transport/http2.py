"""`HTTP2Connection`: a connection whose socket many streams share.

It is a routine of the hub. Only the routine touches the socket and the state of the protocol. Streams tell it that
they need attention, and it looks at their attributes.
"""

from __future__ import annotations

import contextlib
import contextvars
import copy
import http.client
import os
import socket
import ssl
import time
from collections import deque
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, Any

from sseclient_dual.hub import Routine, Wait, current
from sseclient_dual.waiting import Lock

from .body import NOTHING, Body, forget_tls_errors
from .frames import HTTP2Error, HTTP2ProtocolError, UnprocessedError, error_name
from .multiplexer import Multiplexer
from .streams import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sseclient_dual.hub import Waits

PING_INTERVAL = 60.0  # seconds without a byte from the server after which it is asked for one
PING_TIMEOUT = 30.0  # seconds for its answer
_MOST_STREAMS = 1000  # even if the server allows more, because each costs h2 some time when another one opens


class HTTP2Connection:
    """A connection, from the end of its TLS handshake to its close.

    Any thread may call the methods of the first part.

    :param sock: connected, with its TLS handshake complete.
    :param settled: called when the server's settings are known, and when the connection has ended.
    :param ended: called when the connection takes no more requests.
    """

    def __init__(
        self,
        sock: Any,  # noqa: ANN401 - with or without TLS
        *,
        settled: Callable[[], object],
        ended: Callable[[HTTP2Connection], object],
    ) -> None:
        self._hub = current()
        self._sock = sock
        self._settled = settled
        self._ended = ended
        self._routine = Routine("HTTP/2")
        self._lock = Lock()  # guards the attributes up to `_is_over`
        self._limit = 1  # of streams; that of the server as soon as it is known
        self._places: set[Stream] = set()  # the streams that have one
        self._may_idle = True  # stay open without streams
        self._is_over = False  # take no more requests
        # Any thread appends, requests with the lock; then it wakes the routine.
        self._attention: deque[Stream] = deque()
        # Used by the routine only; requests look for `goaway`.
        self._multiplexer = Multiplexer(self._release)
        self._source = Body(sock, None, b"", sock.close)
        self._would_block: Any = BlockingIOError  # which breaks a TLS socket, see `Body`
        if isinstance(sock, ssl.SSLSocket):
            self._would_block = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
        self._is_settled = False  # the server's settings are known
        self._has_more = False  # to send, as soon as the socket takes it
        self._takes_bytes = True  # the server does
        self._send_failure: OSError | None = None
        self._heard = time.monotonic()  # when the last byte arrived
        self._pinged: float | None = None  # when it was asked for an answer that has not yet arrived
        self._wait = Wait(PING_INTERVAL, sock, self._receive)

    def start(self) -> None:
        """Begin to serve the streams."""
        self._sock.settimeout(0)
        try:
            # In an empty context: the connection outlives the stream for which it was made.
            contextvars.Context().run(self._hub.start, self._routine, self._run)
        except RuntimeError:
            self._end(HTTP2Error("no thread could be started for the connection"))

    def request(
        self, fields: Iterable[tuple[bytes, bytes]], body: bytes, *, read_timeout: float | None, keep_connection: bool
    ) -> Stream | None:
        """Send a request, and return its stream; None if there is no place for it."""
        stream = Stream(self, fields, body, read_timeout=read_timeout, keep_connection=keep_connection)
        with self._lock:
            if self._is_ending() or len(self._places) >= self._limit or self._hub is not current():
                return None
            self._places.add(stream)
            self._attention.append(stream)
        self._routine.wake()
        return stream

    def _is_ending(self) -> bool:
        """Return True if it is too late for a request, even if the routine has not yet noticed that."""
        if self._is_over or self._multiplexer.goaway is not None:
            return True
        left, may_idle = self._places, self._may_idle
        return bool(left) and all(
            (stream.closed or stream.is_over) and not (stream.keep_connection and may_idle) for stream in left
        )

    def attend(self, stream: Stream) -> None:
        """See `Carrier.attend`; callable from any thread, signal handler or finalizer."""
        self._attention.append(stream)
        self._routine.wake()

    def retire(self) -> None:
        """Close the connection as soon as it has no streams."""
        with self._lock:
            self._may_idle = False
            self._is_over = self._is_over or not self._places
        self._routine.wake()

    def disown(self) -> None:
        """See `Carrier.disown`."""
        if self._sock.fileno() >= 0:
            with contextlib.suppress(OSError):
                os.close(self._sock.detach())

    # -- the routine

    def _run(self) -> Waits:
        error: Exception = HTTP2Error("the connection was closed")
        try:
            self._multiplexer.begin()
            while True:
                self._attend_to_streams()
                self._send()
                if self._is_done():
                    break
                needs = self._source.needs
                if needs == NOTHING:
                    self._routine.again()
                self._wait.events = EVENT_READ | EVENT_WRITE if self._has_more else needs or EVENT_READ
                self._wait.timeout = self._patience()
                yield self._wait
                self._receive()
        except Exception as failure:  # noqa: BLE001 - raised to the consumers of the streams
            error = failure
        finally:
            self._routine.unwatch()
            self._end(error)

    def _is_done(self) -> bool:
        """Return True if there are no streams, and will be none."""
        with self._lock:
            return self._is_over and not self._places

    def _attend_to_streams(self) -> None:
        for _ in range(len(self._attention)):
            stream = self._attention[0]  # removed last: an error that ends the connection here fails this stream, too
            if stream.id in self._multiplexer.streams:
                if stream.closed:
                    self._multiplexer.reset(stream)
                else:
                    self._multiplexer.give_back(stream)
            elif not (stream.id or stream.is_over) and (stream.closed or not self._multiplexer.open(stream)):
                stream.fail(UnprocessedError("the connection takes no more requests"))
                self._multiplexer.changed[stream] = None
                self._release(stream)
            self._attention.popleft()
        self._wake_consumers()

    def _release(self, stream: Stream) -> None:
        """Give the place of a stream to another one, or close the connection after the last one."""
        with self._lock:
            self._places.remove(stream)
            if not self._places and not (stream.keep_connection and self._may_idle):
                self._is_over = True

    def _patience(self) -> float:
        """Return the seconds to wait for the server; ask for an answer if it was silent for long.

        :raises HTTP2Error: it did not answer in time.
        """
        now = time.monotonic()
        if self._pinged is None:
            left = self._heard + PING_INTERVAL - now
            if left > 0:
                return left
            self._pinged = now
            self._multiplexer.ping()
            self._send()
        left = self._pinged + PING_TIMEOUT - now
        if left <= 0:
            raise HTTP2Error(
                f"the server did not answer a PING within {PING_TIMEOUT:g} s, so the connection is treated as dead"
            )
        return left

    def _receive(self) -> bool:
        """Receive once; return True if all that is left to do is to wait for the socket."""
        block = self._source.read()
        if block == b"":
            raise self._send_failure or EOFError
        multiplexer = self._multiplexer
        if block:
            self._heard = time.monotonic()
            self._pinged = None
            multiplexer.receive(block)
            self._adapt()
            self._wake_consumers()
        self._send()
        return not (self._has_more or self._attention or self._is_over) and self._source.needs == EVENT_READ

    def _adapt(self) -> None:
        """Take as many requests from now on as the server allows."""
        most = self._multiplexer.most_streams
        if most is not None and not (self._is_settled and self._limit == min(most, _MOST_STREAMS)):
            with self._lock:
                self._limit = min(most, _MOST_STREAMS)
            self._is_settled = True
            self._settled()
        if self._multiplexer.goaway is not None and not self._is_over:
            with self._lock:
                self._is_over = True
            self._ended(self)

    def _wake_consumers(self) -> None:
        changed, self._multiplexer.changed = self._multiplexer.changed, {}
        for stream in changed:
            consumer = stream.consumer
            if isinstance(consumer, Routine):
                self._routine.wake_routine(consumer)
            else:
                consumer.wake()

    def _send(self) -> None:
        """Send what the socket takes; at most a limited number of bytes, because other streams wait meanwhile."""
        is_limited = self._multiplexer.fill()
        self._flush()
        self._has_more = self._takes_bytes and (is_limited or bool(self._multiplexer.outgoing))

    def _flush(self) -> None:
        outgoing = self._multiplexer.outgoing
        try:
            if outgoing and self._takes_bytes:
                del outgoing[: self._sock.send(outgoing)]
        except self._would_block:
            pass
        except OSError as error:  # what the server sent before is still to be read
            forget_tls_errors()
            self._takes_bytes = False
            if not isinstance(error, BrokenPipeError):
                self._send_failure = error
        if not self._takes_bytes:
            outgoing.clear()

    def _end(self, error: Exception) -> None:
        """Fail the streams that are left, and close the socket."""
        multiplexer = self._multiplexer
        with self._lock:
            self._is_over = True
            left = [*multiplexer.streams.values(), *self._attention]
        self._ended(self)
        multiplexer.close(error.code if isinstance(error, HTTP2ProtocolError) else 0)
        self._flush()
        with contextlib.suppress(OSError):  # that the server has closed
            self._sock.shutdown(socket.SHUT_RDWR)  # a forked child may have a copy, which `close` would leave open
        self._sock.close()
        for stream in left:
            if not stream.is_over:
                stream.fail(self._failure_of(stream, error))
                multiplexer.changed[stream] = None
        self._settled()
        self._wake_consumers()

    def _failure_of(self, stream: Stream, error: Exception) -> Exception:
        """Return the error of a stream for the one that ended the connection."""
        if not stream.may_be_processed:
            return UnprocessedError("the connection ended before the request was sent")
        if not isinstance(error, EOFError):
            return copy.copy(error)
        if self._multiplexer.goaway:
            return HTTP2Error(f"the server closed the connection ({error_name(self._multiplexer.goaway)})")
        return http.client.IncompleteRead(b"") if stream.status else http.client.RemoteDisconnected("")
