"""`SSEConnection`: one event stream with a sync and an async API.

All I/O runs in the threads of the hub, see `Reader`. The two APIs differ only in how they wait: `_receive` and
`_areceive`, `open` and `_open_async`. All other code is shared.
"""

from __future__ import annotations

import logging
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from .checks import check_timeout
from .closing import Closing
from .errors import SSEClosedError
from .event import ReadyState, Signals, SSEEvent
from .handoff import Finished, TimedOut
from .relay import AsyncRelay, Encoder, Relay, reject_web_frameworks
from .speedups import ConnectionBase, compiled
from .waiting import Deadline, Lock, renew_locks_after_fork, running_loop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator, Mapping
    from types import TracebackType

    from typing_extensions import Self

    from .event import Signal
    from .position import Position
    from .reader import Reader


@dataclass(frozen=True)
class Stats:
    """Counters of a connection."""

    events: int
    """Events received for the consumer, still queued or already consumed."""
    duplicates: int
    """Events dropped because an earlier connection delivered them."""
    comments: int
    """Comment lines received."""
    bytes: int
    """Bytes of response bodies received, after decoding."""
    reconnects: int
    """Attempts to reconnect."""
    queued: int
    """Items in the queue for the consumer."""
    ignored: int
    """Lines ignored: unknown fields and, with ``strict=False``, malformed lines."""


@compiled
class SSEConnection(ConnectionBase):
    """One event stream over any number of HTTP connections; made by `SSEClient.connect`.

    It is an iterator in both APIs: ``for event in connection`` and ``async for event in connection``. A new loop
    continues where the last one stopped. The end of the stream ends the iteration. A fatal error is raised from it
    once, and the connection is closed. Only one consumer can use it at a time: a second one gets a `RuntimeError`.

    ``with``, ``async with``, ``await``, `open` and the first request for an event open the connection. Leaving the
    block closes it, and so does dropping the last reference.
    """

    # Without a `__dict__`, which FastAPI would convert to JSON if a view returned the connection.
    __slots__ = (
        "__weakref__", "_closed", "_closed_by_client", "_initial_id", "_lock", "_position", "_reader", "_url",
    )  # fmt: skip

    def __init__(self, reader: Reader, url: str, last_event_id: str, position: Position | None = None) -> None:
        self._reader = reader
        self._position = position  # with a checkpoint
        self._handoff = reader.handoff if position is None else position
        self._url = url
        self._initial_id = last_event_id
        self._last: SSEEvent | None = None  # the last event handed to the consumer
        self._lock = Lock()  # guards starting the reader, and the two attributes below
        self._started = False  # True once the reader was started; False again in a forked child
        self._closed = False
        self._closed_by_client = False
        renew_locks_after_fork(self)
        # Not at exit: daemon threads need no cleanup then, and a forked child must not close its parent's stream.
        weakref.finalize(self, reader.close).atexit = False

    # -- opening and closing

    def open(self, timeout: float | None = None) -> Self:
        """Connect, and block until a response head is accepted; return the connection.

        An open connection stays as it is. If the server answers with status 204, the connection is closed, and
        iterating it ends at once.

        :param timeout: seconds to wait; None, the default, for no limit. Attempts follow the policy meanwhile.
        :raises TimeoutError: no response was accepted within `timeout`; the connection keeps trying. The failure of
            the last attempt, if any, is the ``__cause__``.
        :raises SSEClosedError: the connection is closed.
        :raises SSEConnectionError: the stream could not be opened, and no further attempt follows.
        """
        check_timeout(timeout)
        self._start()
        if not self._reader.opened.wait(timeout):
            self._raise_timeout(
                f"could not open the stream within {timeout} s; the connection keeps trying until closed"
            )
        return self._opened()

    async def _open_async(self) -> Self:
        await self._astart()
        await self._reader.opened
        return self._opened()

    def _start(self) -> None:
        """Load the checkpoint and start the reader, unless that was done before."""
        if self._position is not None:
            self._check_usable()
            self._position.load()
        self._start_reader()

    async def _astart(self) -> None:
        if self._position is not None:
            self._check_usable()
            await self._position.aload()
        self._start_reader(running_loop())

    def _start_reader(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        with self._lock:
            self._check_usable()
            if not self._started:
                if self._position is not None:
                    self._initial_id = self._position.first_id
                    self._reader.resume_after(self._initial_id)
                self._reader.start(loop)
                self._started = True

    def _check_usable(self) -> None:
        if self._reader.belongs_to_parent:
            raise self._misuse(_OF_PARENT)
        if self._closed:
            raise self._closed_error()
        if self._reader.finished.is_set and not len(self._handoff):
            raise self._over(self._closed_error())  # it may have failed since a call of `open` timed out

    def _misuse(self, message: str) -> RuntimeError:
        return RuntimeError(self._reader.prefix + message)

    def _closed_error(self) -> SSEClosedError:
        return SSEClosedError(
            f"{self._reader.prefix}the connection is closed; make a new one with SSEClient.connect()"
        )

    def _opened(self) -> Self:
        """Return the connection, or raise the error that prevented opening it."""
        if self._closed or self._reader.status is None:
            raise self._over(self._closed_error())
        return self

    def _over(self, end: Exception) -> BaseException:
        """Close the connection at the end of its stream; return the error that ended the stream, or else `end`."""
        error = self._handoff.take_error()
        self.close()
        if self._closed_by_client:
            self._closed_by_client = False  # once
            text = "the iteration ends, because the client was closed"
            self._reader.log(text, self._reader.origin, logging.DEBUG)
        return end if error is None else error

    def close(self) -> Closing:
        """Close the connection permanently, without blocking; callable from any thread, signal handler or finalizer.

        A waiting consumer sees the end of the iteration. Queued events are discarded. Closing again does nothing.
        Await the returned object to wait until the connection has released its resources, too.
        """
        with self._lock:
            self._closed = True
        self._reader.close()
        if self._reader.belongs_to_parent:
            return Closing()
        return Closing(self._reader.finished, *(() if self._position is None else self._position.calls))

    def _close_with_client(self) -> Closing:
        """Close for `SSEClient.close`, which the end of the iteration mentions in the log."""
        self._closed_by_client = not self._closed
        return self.close()

    def _renew_locks(self) -> None:
        """See `waiting.LockOwner`; called in a forked child."""
        self._lock = Lock()
        self._started = False
        self._reader.renew_locks()
        if self._position is not None:
            self._position.renew_lock()

    async def aclose(self) -> None:
        """Close the connection, and wait until it has released its resources; allows `contextlib.aclosing`."""
        await self.close()

    def restart(self) -> None:
        """Drop the current response and reconnect now, as after a dropped connection but without the delay.

        Because it is an explicit request, it works for a POST and with ``reconnect=False``, too. It does nothing if
        the connection is not open yet.

        :raises SSEClosedError: the connection is closed.
        """
        if self._reader.belongs_to_parent:
            raise self._misuse(_OF_PARENT)
        if self._closed or self._reader.finished.is_set:
            raise self._closed_error()
        self._reader.restart()

    def __enter__(self) -> Self:
        try:
            return self.open()
        except BaseException:  # includes Ctrl-C: __exit__ is not called for a block that was not entered
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._position is not None and not self._reader.belongs_to_parent:
                self._position.commit()
        finally:
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
        try:
            if kind is None and self._position is not None and not self._reader.belongs_to_parent:
                await self._position.acommit()
        finally:
            await self.close()

    # -- receiving

    def __iter__(self) -> Self:
        reject_web_frameworks()
        return self

    def __next__(self) -> SSEEvent:
        # Fast path for all events of a batch except the first: `_receive` inlined, because its calls cost more than
        # all the rest. The async API has the same.
        if self._started:
            for signal in self._handoff.ready:
                if signal.__class__ is SSEEvent:
                    self._last = signal
                    return signal
        return self._next()

    def _next(self) -> SSEEvent:
        event = self._receive()
        if event is None:
            raise self._over(StopIteration())
        return event

    def recv(self, timeout: float | None = None) -> SSEEvent:
        """Return the next event; block until there is one.

        :param timeout: seconds to wait; None, the default, for no limit.
        :raises TimeoutError: no event arrived within `timeout`. No event is lost. While reconnecting, the
            ``__cause__`` is the failure of the last attempt.
        :raises SSEClosedError: the stream has ended, or the connection is closed.
        :raises SSEConnectionError: the stream broke, and no further attempt follows; raised once.
        :raises RuntimeError: another consumer is waiting, or the connection was opened before a fork.
        """
        check_timeout(timeout)
        try:
            event = self._receive(timeout)
        except TimedOut as error:
            self._raise_timeout(str(error))
        if event is None:
            raise self._over(self._closed_error())
        return event

    def _raise_timeout(self, message: str) -> NoReturn:
        failure = self._reader.failure
        why = "" if failure is None else f"; last failure: {failure}"
        raise TimeoutError(f"{self._reader.prefix}{message}{why}") from failure

    def _receive(self, timeout: float | None = None) -> SSEEvent | None:
        """Return the next event, None at the end of the stream."""
        deadline = None if timeout is None else Deadline(timeout)
        while True:
            signal = self._receive_signal(None if deadline is None else deadline.remaining())
            if signal is None or signal.__class__ is SSEEvent:
                return signal

    def _receive_signal(self, timeout: float | None = None) -> Signal | None:
        try:
            if not self._started:
                self._start()
            signal = self._handoff.get(timeout)
        except (Finished, SSEClosedError):
            return None
        if signal.__class__ is SSEEvent:  # no call, see `Handoff.ready`
            self._last = signal
        return signal

    def __aiter__(self) -> Self:
        reject_web_frameworks()
        return self

    async def __anext__(self) -> SSEEvent:
        if self._started:
            for signal in self._handoff.ready:
                if signal.__class__ is SSEEvent:
                    self._last = signal
                    return signal
        return await self._anext()

    async def _anext(self) -> SSEEvent:
        event = await self._areceive()
        if event is None:
            raise self._over(StopAsyncIteration())
        return event

    async def arecv(self, timeout: float | None = None) -> SSEEvent:
        """Return the next event: the async form of `recv`. Cancelling it loses no event."""
        check_timeout(timeout)
        try:
            event = await self._areceive(timeout)
        except TimedOut as error:
            self._raise_timeout(str(error))
        if event is None:
            raise self._over(self._closed_error())
        return event

    async def _areceive(self, timeout: float | None = None) -> SSEEvent | None:
        deadline = None if timeout is None else Deadline(timeout)
        while True:
            signal = await self._areceive_signal(None if deadline is None else deadline.remaining())
            if signal is None or signal.__class__ is SSEEvent:
                return signal

    async def _areceive_signal(self, timeout: float | None = None) -> Signal | None:
        try:
            if not self._started:
                await self._astart()
            signal = await self._handoff.aget(timeout)
        except (Finished, SSEClosedError):
            return None
        if signal.__class__ is SSEEvent:  # no call, see `Handoff.ready`
            self._last = signal
        return signal

    def signals(self) -> Signals[Signal]:
        """Return an iterator of all signals in order, with a sync and an async API.

        Signals are `SSEEvent`, `Comment`, `Ignored`, `Opened` and `Interrupted`. Signals other than events are queued
        from this call on, so call it before the connection opens to see all. Iterating the connection itself still
        returns events only. Both iterators take from the same queue.
        """
        self._reader.pipeline.wants_signals = True
        return Signals(self._next_signal, self._anext_signal, reject_web_frameworks)

    def _next_signal(self) -> Signal:
        signal = self._receive_signal()
        if signal is None:
            raise self._over(StopIteration())
        return signal

    async def _anext_signal(self) -> Signal:
        signal = await self._areceive_signal()
        if signal is None:
            raise self._over(StopAsyncIteration())
        return signal

    # -- the position

    def commit(self) -> None:
        """Save the position in the checkpoint now: the last event ID after the last event handed to the consumer.

        It is not needed in a loop, because asking for the next event commits the one before. It blocks until the
        position is saved.

        :raises RuntimeError: the connection has no checkpoint, or was opened before a fork.
        :raises Exception: any error of `Checkpoint.save`.
        """
        self._committable().commit()

    async def acommit(self) -> None:
        """Save the position: the async form of `commit`."""
        await self._committable().acommit()

    def _committable(self) -> Position:
        if self._position is None:
            raise self._misuse("this connection has no checkpoint; pass one to SSEClient.connect()")
        if self._reader.belongs_to_parent:
            raise self._misuse(_OF_PARENT)
        return self._position

    def _tap(self, receive: Callable[[bytes], object]) -> None:
        """Call `receive` with the bytes of each body before their events are queued; a hook for ``cli/``.

        A worker thread calls it, for one response at a time.
        """
        self._reader.tap = receive

    # -- relaying

    def relay(self, heartbeat: float | None = 15.0) -> Relay:
        """Return an iterator of the stream's bytes, to be returned by a sync view (Flask; Django under WSGI).

        Each event is encoded again when it arrives, with the last event ID wherever that has changed, so that the
        browser can resume. Pass the browser's own ``Last-Event-ID`` as ``last_event_id`` of `SSEClient.connect`.
        Closing the iterator, as the server does at the end of the response, closes the connection; so does dropping
        the iterator.

        A fatal error is raised from the iteration. To turn an error of the upstream into a response of the view,
        call `open` before making the response.

        :param heartbeat: seconds without an event after which a comment is sent. This lets the server detect a
            disconnected browser, and proxies keep the response open. 15 by default, None for no comments.
        :raises TypeError: `heartbeat` is not a number.
        :raises ValueError: `heartbeat` is less than 0.001 or not finite.
        """
        return Relay(self.recv, Encoder().encode, self.close, heartbeat)

    def arelay(self, heartbeat: float | None = 15.0) -> AsyncRelay:
        """Return an async iterator of the stream's bytes, for an ASGI response; the async form of `relay`.

        Cancelling a wait for the next piece closes the connection; servers do so when the browser disconnects.
        """
        return AsyncRelay(self.arecv, Encoder().encode, self.close, heartbeat)

    # -- state

    @property
    def name(self) -> str:
        """The name passed to `SSEClient.connect`, by default the origin of the URL (scheme, host and port)."""
        return self._reader.name

    @property
    def url(self) -> str:
        """The requested URL without credentials, with ``params`` unless they come from a callable."""
        return self._url

    @property
    def ready_state(self) -> ReadyState:
        """The state of the network side, which may be ahead of the consumer (WHATWG HTML 9.2.2)."""
        return self._reader.ready_state

    @property
    def last_event_id(self) -> str:
        """The last event ID after the last event handed to the consumer, so that it is safe to save."""
        return self._initial_id if self._last is None else self._last.last_event_id

    @property
    def reconnection_time(self) -> float:
        """The current number of milliseconds to wait before reconnecting (WHATWG HTML 9.2.2)."""
        return self._reader.reconnection_time

    @property
    def status(self) -> int | None:
        """The status of the last accepted response; None before the first."""
        return self._reader.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the last accepted response, empty before the first; look-ups ignore case."""
        return self._reader.headers

    @property
    def response_url(self) -> str | None:
        """The URL of the last accepted response, after redirects; None before the first."""
        return self._reader.response_url

    @property
    def http_version(self) -> str | None:
        """The version of HTTP of the last accepted response, ``"1.1"`` or ``"2"``; None before the first."""
        return self._reader.http_version

    @property
    def stats(self) -> Stats:
        """The current counters."""
        pipeline = self._reader.pipeline
        return Stats(
            events=pipeline.events,
            duplicates=pipeline.duplicates,
            comments=pipeline.comments,
            bytes=pipeline.bytes,
            reconnects=self._reader.reconnects,
            queued=len(self._handoff),
            ignored=pipeline.ignored,
        )

    def __repr__(self) -> str:
        name = "" if self.name == self._reader.origin else f"{self.name!r} "
        return f"<SSEConnection {name}to {self._reader.origin}, {self.ready_state.name}>"


_OF_PARENT = "this connection belongs to the parent process, which opened it before the fork; open a new one"
