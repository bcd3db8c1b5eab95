"""`Stream`: one request over HTTP/2 and its response, as seen by the code that sends it and reads the body.

A stream has the interface of `Body`, with wake-ups in place of a socket. The routine of its connection calls the
methods of the first part, one thread at a time those of the second, and any thread `abort` and `disown`.
"""

from __future__ import annotations

import errno
import http.client
import re
import time
from collections import deque
from selectors import EVENT_READ
from typing import TYPE_CHECKING, Protocol

import urllib3

from sseclient_dual.waiting import ThreadWaiter

from .body import NOTHING
from .frames import ENHANCE_YOUR_CALM, HTTP2ProtocolError
from .headers import combine_fields, combine_lengths, is_field_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sseclient_dual.hub import Routine

WINDOW = 4 * 1024 * 1024  # bytes that the server may send before they are read
WINDOW_STEP = WINDOW // 4  # bytes that are given back together; at 50 ms of delay, these two allow 60 MB/s and more
_STATUS = re.compile(rb"[1-9][0-9]{2}")
_LARGE_READ = 128 * 1024
_MOST_INTERIM = 100  # interim responses before the final one


class Carrier(Protocol):
    """The connection, as seen by its streams."""

    def attend(self, stream: Stream) -> None:
        """Do what the state of a stream asks for: send its request, give back its window, or reset it."""

    def disown(self) -> None:
        """In a forked child, close the copied descriptor of the parent's connection."""


class Stream:
    """A request and its response.

    :param fields: the head of the request; dropped once it is sent.
    :param body: the body of the request, b"" for none.
    :param read_timeout: seconds that each wait for the server may take, None for no limit.
    :param keep_connection: whether the connection may stay open without streams after this one.
    """

    __slots__ = (
        "_aborted", "_carrier", "_ended", "_failure", "_interim", "_touched", "body", "closed",
        "consumed", "consumer", "fields", "headers", "id", "is_encoded", "is_unsized", "keep_connection",
        "may_be_processed", "padding", "pieces", "read_timeout", "returned", "status", "window",
    )  # fmt: skip

    sock = None  # there is none to wait for, see `Body`

    def __init__(
        self,
        carrier: Carrier,
        fields: Iterable[tuple[bytes, bytes]],
        body: bytes,
        *,
        read_timeout: float | None,
        keep_connection: bool,
    ) -> None:
        self._carrier = carrier
        self.keep_connection = keep_connection
        # Used by the connection's routine.
        self.id = 0
        """0 until the request is sent."""
        self.fields: Iterable[tuple[bytes, bytes]] = fields
        self.body = memoryview(body)
        """What is left to send."""
        self.window = WINDOW
        """The number of bytes that the server may still send."""
        self.padding = 0
        """The number of bytes of padding that are not yet given back to the window."""
        self.returned = 0
        """The number of bytes that were read and given back to the window."""
        self._interim = 0
        # Written by the routine, in this order, and read by the consumer, in the opposite order.
        self.may_be_processed = False
        """False as long as the server has certainly not acted on the request."""
        self.status = 0
        self.headers: http.client.HTTPMessage
        self.is_encoded = self.is_unsized = False
        self.pieces: deque[bytes] = deque()
        """What was received and not yet read; the routine appends to it."""
        self._failure: Exception | None = None
        self._ended = False
        self._touched = time.monotonic()  # when the server last did something for this stream
        # Written by the consumer, and read by the routine.
        self.consumed = 0
        """The number of bytes that were read."""
        self.read_timeout = read_timeout
        self.consumer: Routine | ThreadWaiter = ThreadWaiter()
        """To wake after each change."""
        # Written by any thread.
        self.closed = False
        """True once the response is not read any more."""
        self._aborted = False

    # -- called by the routine of the connection

    def touch(self) -> None:
        """Record that the server did something for this stream."""
        self._touched = time.monotonic()

    def inform(self) -> None:
        """Take the head of an interim response.

        :raises HTTP2ProtocolError: there were too many.
        """
        self._interim += 1
        if self._interim > _MOST_INTERIM:
            raise HTTP2ProtocolError("the server sent too many interim responses", ENHANCE_YOUR_CALM)
        self.touch()

    def respond(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Take the head of the response.

        :raises HTTP2ProtocolError: it is malformed.
        """
        status, headers = 0, http.client.HTTPMessage()
        for name, value in fields:
            if name == b":status":
                if _STATUS.fullmatch(value) is None:
                    raise HTTP2ProtocolError("the server sent an invalid status")
                status = int(value)
            elif is_field_value(value):
                headers[name.decode("latin-1")] = value.decode("latin-1")
            else:
                raise HTTP2ProtocolError("the server sent a header with a control character")
        self.is_encoded = bool(combine_fields(headers, "Content-Encoding", ignored="identity"))
        combine_lengths(headers)
        self.is_unsized = "Content-Length" not in headers
        self.headers = headers
        self.touch()
        self.status = status

    def end(self) -> None:
        """Take the end of the body."""
        self._ended = True

    @property
    def is_over(self) -> bool:
        """True after `end` or `fail`."""
        return self._ended

    def fail(self, error: Exception) -> None:
        """Take the error that ended the stream; data that came before it is read first."""
        self._failure = error
        self._ended = True

    # -- called by the thread that reads

    def wait_for_head(self) -> None:
        """Wait for the response head.

        :raises OSError: the connection broke, the read timeout expired, or `abort` was called.
        :raises http.client.HTTPException: the server closed or reset the stream.
        """
        self._wait(lambda: self.status != 0 or self._ended)
        if self.status == 0:
            self._raise_failure()

    def read1(self) -> bytes:
        """Return the next bytes as soon as they arrive, one DATA frame at most; b"" at the end; raise as `read`."""
        self._wait(lambda: self._ended or bool(self.pieces))
        data = self.read(1)
        assert data is not None  # noqa: S101 - the wait is over
        return data

    def _wait(self, is_over: Callable[[], bool]) -> None:
        self.consumer = waiter = ThreadWaiter()
        began = time.monotonic()
        while not (self._aborted or is_over()):
            left = None
            if self.read_timeout is not None:
                left = max(began, self._touched) + self.read_timeout - time.monotonic()
                if left <= 0:
                    raise TimeoutError("timed out")
            waiter.park(left)
        self._check_not_aborted()

    def read(self, size: int = _LARGE_READ) -> bytes | None:
        """Return the next bytes, about `size` at most; None if there are none yet; b"" at the end.

        :raises OSError: the connection broke, or `abort` was called.
        :raises http.client.HTTPException: the body is cut, or the server reset the stream.
        """
        self._check_not_aborted()
        ended = self._ended  # first: data that arrives after this line is read the next time
        pieces, taken, count = self.pieces, [], 0
        while pieces and count < size:
            piece = pieces.popleft()
            taken.append(piece)
            count += len(piece)
        if taken:
            self.consumed += count
            if not ended and self.consumed - self.returned >= WINDOW_STEP:
                self._carrier.attend(self)
            return b"".join(taken)
        if not ended:
            return None
        if self._failure is not None:
            self._raise_failure()
        return b""

    @property
    def needs(self) -> int:
        """NOTHING if `read` has something to return, EVENT_READ to wait for a wake-up; as `Body.needs`."""
        return NOTHING if self._ended or self.pieces else EVENT_READ

    def _raise_failure(self) -> None:
        assert self._failure is not None  # noqa: S101 - the callers' condition
        raise self._failure

    def _check_not_aborted(self) -> None:
        if self._aborted:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the connection was closed meanwhile")

    def close(self) -> None:
        """Reset the stream, unless it has ended."""
        self.closed = True
        if not self._ended:
            self._carrier.attend(self)

    def set_timeout(self, seconds: float) -> None:
        """Limit how long each wait may take from now on."""
        self.read_timeout = seconds

    # -- called by any thread

    def abort(self) -> None:
        """End any wait of the stream, and reset it; callable from any thread, signal handler or finalizer."""
        self._aborted = True
        self.consumer.wake()
        self.close()

    def disown(self) -> None:
        """In a forked child, close the copied descriptor of the parent's connection."""
        self._carrier.disown()


class StreamFile:
    """A stream as the file that urllib3's response reads, in place of http.client's response."""

    def __init__(self, stream: Stream) -> None:
        self.fp: Stream | None = stream
        """None once urllib3 needs it no more."""

    def response(self, method: str) -> urllib3.HTTPResponse:
        """Return urllib3's response; called once, after `Stream.wait_for_head`."""
        stream = self.fp
        assert stream is not None  # noqa: S101 - as above
        headers = stream.headers
        del stream.headers  # thousands of streams may be open
        return urllib3.HTTPResponse(
            body=self,  # type: ignore[arg-type] # these methods are enough
            connection=self,  # type: ignore[arg-type] # see `raw_response_of`
            headers=urllib3.HTTPHeaderDict(headers.items()),
            status=stream.status,
            version=20,
            version_string="HTTP/2",
            reason=http.client.responses.get(stream.status, ""),  # there is no reason phrase in HTTP/2
            preload_content=False,
            request_method=method,
        )

    @property
    def closed(self) -> bool:
        """True once it is closed."""
        return self.fp is None

    def read1(self, _size: int = -1) -> bytes:
        """Return the next bytes as soon as they arrive; b"" at the end."""
        return b"" if self.fp is None else self.fp.read1()

    read = read1

    def body(self) -> Stream | None:
        """Return the body, to be read without blocking; None if it has to be decoded."""
        return None if self.fp is None or self.fp.is_encoded else self.fp

    def close(self) -> None:
        """Forget the stream."""
        self.fp = None
