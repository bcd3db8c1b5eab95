"""`SSEConnection`: one event stream, an iterator for threads and for tasks alike.

All I/O happens in the reader's thread, so the two faces differ only in how they wait: `_receive` and `_areceive`,
`open` and its awaited twin. Everything else is written once.
"""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import SSEClosedError, check_number
from .event import ReadyState, SSEEvent
from .handoff import Deadline, Finished
from .relay import AsyncRelay, Relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator, Mapping
    from types import TracebackType

    from typing_extensions import Self

    from .handoff import Latch
    from .reader import Reader, Signal


@dataclass(frozen=True)
class Stats:
    """What a connection has done so far."""

    events: int
    """Events received for the consumer, queued or taken."""
    duplicates: int
    """Events dropped because an earlier connection had delivered them."""
    comments: int
    """Comment lines received."""
    bytes: int
    """Bytes of response bodies received, after decoding."""
    reconnects: int
    """Attempts made to connect again."""
    queued: int
    """What waits in the queue for the consumer."""


class SSEConnection:
    """One event stream, kept up over as many HTTP connections as it takes; made by `SSEClient.connect`.

    It is its own iterator, in both faces: ``for event in connection`` and ``async for event in connection``.
    Leaving a loop and iterating again continues where it stopped. The end of the stream ends the iteration; a
    fatal error is raised from it once, and then the connection is closed. One consumer at a time: a second one gets
    a `RuntimeError`.

    ``with``, ``async with``, ``await``, `open` and the first event asked for open it. Leaving the block closes it,
    and so does dropping the last reference.
    """

    def __init__(self, reader: Reader, url: str, last_event_id: str) -> None:
        self._reader = reader
        self._handoff = reader.handoff
        self._url = url
        self._initial_id = last_event_id
        self._last: SSEEvent | None = None  # the last event handed over
        self._lock = threading.RLock()  # guards that the reader is started once, and the two below
        self._started_in: int | None = None  # the value of _forks when the reader was started
        self._closed = False
        # Not at exit: a daemon thread needs no farewell, and a forked child's exit is not the parent's.
        weakref.finalize(self, reader.close).atexit = False

    # -- opening and closing

    def open(self, timeout: float | None = None) -> Self:
        """Connect, and block until a response head has been accepted; return the connection.

        An open connection is left as it is. If the server answers 204, the connection is closed, and iterating it
        ends at once.

        :param timeout: seconds to wait; None, the default, for no limit. Attempts go on as the policy says.
        :raises TimeoutError: no response was accepted within `timeout`; the connection goes on trying.
        :raises SSEClosedError: the connection is closed.
        :raises SSEConnectionError: it could not be opened, and no further attempt follows.
        """
        _check_timeout(timeout)
        self._start()
        if not self._reader.opened.wait(timeout):
            msg = f"no response was accepted within {timeout} s; the connection goes on trying until it is closed"
            raise TimeoutError(msg)
        return self._opened()

    async def _open_async(self) -> Self:
        self._start()
        await self._reader.opened
        return self._opened()

    def _start(self) -> None:
        """Start the reader's thread, unless that has been done."""
        with self._lock:
            self._check_usable()
            if self._started_in is None:
                self._reader.start()
                self._started_in = _forks

    def _check_usable(self) -> None:
        if self._started_in not in {None, _forks}:
            msg = "this connection belongs to the parent process, which opened it before the fork; open another"
            raise RuntimeError(msg)
        if self._closed or (self._reader.finished.is_set and not len(self._handoff)):
            raise SSEClosedError(_CLOSED)

    def _opened(self) -> Self:
        """Return the connection, or raise what kept it from being opened."""
        if self._closed or self._reader.status is None:
            raise self._over(SSEClosedError(_CLOSED))
        return self

    def _over(self, end: Exception) -> BaseException:
        """Close the connection, whose stream is over; return the error it ended with, or else `end`."""
        error = self._handoff.take_error()
        self.close()
        return end if error is None else error

    def close(self) -> Closing:
        """Close the connection: at once, for good, and from anywhere, signal handlers and finalizers included.

        Whoever waits for an event sees the iteration end. What is queued is thrown away. Closing again does
        nothing. Nothing is waited for; await what is returned to wait until the thread has ended, too.
        """
        with self._lock:
            self._closed = True
            started = self._started_in == _forks
        self._reader.close()
        return Closing(self._reader.finished) if started else Closing()

    async def aclose(self) -> None:
        """Close the connection, and wait until its thread has ended; for `contextlib.aclosing`."""
        await self.close()

    def restart(self) -> None:
        """Drop the current response and connect again now, as after a drop but without the delay.

        This is asked for in so many words, so it happens for a POST and with ``reconnect=False``, too. A
        connection that is not open yet stays so.

        :raises SSEClosedError: the connection is closed.
        """
        self._check_usable()
        if self._reader.finished.is_set:
            raise SSEClosedError(_CLOSED)
        if self._started_in is not None:
            self._reader.restart()

    def __enter__(self) -> Self:
        try:
            return self.open()
        except BaseException:  # Ctrl-C, too: a block that is not entered is not left either
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._open_async().__await__()

    async def __aenter__(self) -> Self:
        try:
            return await self._open_async()
        except BaseException:
            self.close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- receiving

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> SSEEvent:
        # The short way, for all events of a batch but the first: `_receive` without its calls, which cost more than
        # all the rest. The other face has it, too.
        if self._started_in == _forks:
            try:
                signal = self._handoff.taken.popleft()
            except IndexError:
                pass
            else:
                if self._handoff.producer is not None:
                    self._handoff.offer_room()
                if type(signal) is SSEEvent:
                    self._last = signal
                    return signal
        event = self._receive()
        if event is None:
            raise self._over(StopIteration())
        return event

    def recv(self, timeout: float | None = None) -> SSEEvent:
        """Return the next event; block until there is one.

        :param timeout: seconds to wait; None, the default, for no limit.
        :raises TimeoutError: none came within `timeout`. Nothing is lost by that.
        :raises SSEClosedError: the stream has ended, or the connection is closed.
        :raises SSEConnectionError: the stream broke, and no further attempt follows; raised once.
        :raises RuntimeError: another consumer is waiting, or the connection was opened before a fork.
        """
        _check_timeout(timeout)
        event = self._receive(timeout)
        if event is None:
            raise self._over(SSEClosedError(_CLOSED))
        return event

    def _receive(self, timeout: float | None = None) -> SSEEvent | None:
        """Return the next event, or None if there is none left."""
        deadline = None if timeout is None else Deadline(timeout)
        while True:
            signal = self._receive_signal(None if deadline is None else deadline.remaining())
            if signal is None or isinstance(signal, SSEEvent):
                return signal

    def _receive_signal(self, timeout: float | None = None) -> Signal | None:
        try:
            if self._started_in != _forks:
                self._start()
            signal = self._handoff.get(timeout)
        except (Finished, SSEClosedError):
            return None
        if isinstance(signal, SSEEvent):
            self._last = signal
        return signal

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SSEEvent:
        if self._started_in == _forks:
            try:
                signal = self._handoff.taken.popleft()
            except IndexError:
                pass
            else:
                if self._handoff.producer is not None:
                    self._handoff.offer_room()
                if type(signal) is SSEEvent:
                    self._last = signal
                    return signal
        event = await self._areceive()
        if event is None:
            raise self._over(StopAsyncIteration())
        return event

    async def arecv(self, timeout: float | None = None) -> SSEEvent:
        """Return the next event, awaited; otherwise as `recv`. Cancelling it loses nothing."""
        _check_timeout(timeout)
        event = await self._areceive(timeout)
        if event is None:
            raise self._over(SSEClosedError(_CLOSED))
        return event

    async def _areceive(self, timeout: float | None = None) -> SSEEvent | None:
        deadline = None if timeout is None else Deadline(timeout)
        while True:
            signal = await self._areceive_signal(None if deadline is None else deadline.remaining())
            if signal is None or isinstance(signal, SSEEvent):
                return signal

    async def _areceive_signal(self, timeout: float | None = None) -> Signal | None:
        try:
            if self._started_in != _forks:
                self._start()
            signal = await self._handoff.aget(timeout)
        except (Finished, SSEClosedError):
            return None
        if isinstance(signal, SSEEvent):
            self._last = signal
        return signal

    def signals(self) -> Signals:
        """Return an iterator, in both faces, of all that happens, in order.

        That is `SSEEvent`, `Comment`, `Opened` and `Interrupted`. What is not events is queued from this call on
        only, so call it before the connection opens to see everything. Iterating the connection itself goes on
        bringing the events alone; the two take from the same queue.
        """
        self._reader.wants_signals = True
        return Signals(self)

    # -- relaying

    def relay(self, heartbeat: float | None = 15.0) -> Relay:
        """Return an iterator of the stream's bytes, for a synchronous view to return (Flask; Django under WSGI).

        Each event is encoded anew as it comes. What a browser that reconnects to the view needs is all there: an
        event tells the last event ID wherever that has changed. Hand the browser's own ``Last-Event-ID`` on, as
        ``last_event_id`` of `SSEClient.connect`. Closing what is returned, as the server does when the response is
        over, closes the connection, and so does dropping it.

        A fatal error is raised from the iteration. Call `open` before the response is made, if an upstream that
        refuses is to become an answer of the view's own.

        :param heartbeat: seconds without an event after which a comment is sent, so that the server notices when
            the browser has left, and proxies keep the response open; 15 by default, None for no comments.
        :raises TypeError: `heartbeat` is not a number.
        :raises ValueError: `heartbeat` is less than 0.001 or not finite.
        """
        return Relay(self.recv, self.close, heartbeat)

    def arelay(self, heartbeat: float | None = 15.0) -> AsyncRelay:
        """Return an async iterator of the stream's bytes, for an ASGI response; otherwise as `relay`.

        Cancelling a wait for the next piece, as servers do when the browser has left, closes the connection.
        """
        return AsyncRelay(self.arecv, self.close, heartbeat)

    # -- what there is to know

    @property
    def url(self) -> str:
        """The URL asked for, ``params`` included and credentials not."""
        return self._url

    @property
    def ready_state(self) -> ReadyState:
        """What the network side is doing, which may run ahead of the consumer (WHATWG HTML 9.2.2)."""
        return self._reader.ready_state

    @property
    def last_event_id(self) -> str:
        """The last event ID as of the last event handed to the consumer, so that it is safe to save."""
        return self._initial_id if self._last is None else self._last.last_event_id

    @property
    def reconnection_time(self) -> float:
        """Milliseconds to wait before reconnecting: the value in force (WHATWG HTML 9.2.2)."""
        return self._reader.reconnection_time

    @property
    def status(self) -> int | None:
        """The status of the last response accepted; None if there was none yet."""
        return self._reader.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the last response accepted, empty if there was none yet; look-ups ignore case."""
        return self._reader.headers

    @property
    def response_url(self) -> str | None:
        """Where the last response accepted came from, after redirects; None if there was none yet."""
        return self._reader.response_url

    @property
    def stats(self) -> Stats:
        """Counters, as they are at this moment."""
        reader = self._reader
        return Stats(
            events=reader.events,
            duplicates=reader.duplicates,
            comments=reader.comments,
            bytes=reader.bytes,
            reconnects=reader.reconnects,
            queued=len(self._handoff),
        )

    def __repr__(self) -> str:
        return f"<SSEConnection to {self._reader.origin}, {self.ready_state.name}>"


class Signals:
    """Everything that happens on a connection, in order; made by `SSEConnection.signals`."""

    def __init__(self, connection: SSEConnection) -> None:
        self._connection = connection

    def __iter__(self) -> Iterator[Signal]:
        return self

    def __next__(self) -> Signal:
        signal = self._connection._receive_signal()  # noqa: SLF001 - the other half of one class
        if signal is None:
            raise self._connection._over(StopIteration())  # noqa: SLF001
        return signal

    def __aiter__(self) -> AsyncIterator[Signal]:
        return self

    async def __anext__(self) -> Signal:
        signal = await self._connection._areceive_signal()  # noqa: SLF001
        if signal is None:
            raise self._connection._over(StopAsyncIteration())  # noqa: SLF001
        return signal


class Closing:
    """A close that has been asked for; awaiting it waits until it is done."""

    def __init__(self, *parts: Latch | Closing) -> None:
        self._parts = parts

    def __await__(self) -> Generator[Any, None, None]:
        for part in self._parts:
            yield from part.__await__()


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None:
        check_number("timeout", timeout, least=0)


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - a process has one history
    _forks += 1


_forks = 0  # how many forks lie between this process and the one that imported the module
_CLOSED = "the connection is closed; make another one with SSEClient.connect()"

if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_count_fork)
