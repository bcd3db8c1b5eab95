"""`Subscription`: one consumer of a feed, with a sync and an async API.

The two APIs differ only in how they wait: `_recv_entry` and `_arecv_entry`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NoReturn

from sseclient_dual.checks import check_timeout
from sseclient_dual.closing import Closable
from sseclient_dual.errors import SSEClosedError, copied
from sseclient_dual.event import Signals, SSEEvent
from sseclient_dual.handoff import Finished, TimedOut
from sseclient_dual.relay import reject_web_frameworks
from sseclient_dual.waiting import Deadline, TaskWaiter, ThreadWaiter

from .cursor import Cursor

if TYPE_CHECKING:
    from typing_extensions import Self

    from sseclient_dual.event import Gap

    from .ring import Entry


class Subscription(Cursor, Closable):
    """One consumer's view of a feed; made by `Feed.subscribe`.

    It is an iterator in both APIs, as `SSEConnection` is: ``for event in subscription`` and ``async for event in
    subscription``. The end of the feed ends the iteration. A fatal error of the upstream is raised from it once, in
    each subscription. Only one consumer can use it at a time: a second one gets a `RuntimeError`.

    Entering its block, or the first request for an event, opens the upstream, unless it is open. Leaving the block
    closes the subscription, and so does dropping the last reference.
    """

    __slots__ = ()

    # -- opening

    def __enter__(self) -> Self:
        self._start()
        return self

    async def __aenter__(self) -> Self:
        self._start()
        return self

    # -- receiving

    def __iter__(self) -> Self:
        _reject_web_frameworks()
        return self

    def __next__(self) -> SSEEvent:
        while True:
            entry = self._entries.get(self._next) if self._next < self._limit and self._pending is None else None
            if entry is None:
                entry = self._recv_entry(None, StopIteration)
            else:
                self._next += 1
                self._last_id = entry.id
            if entry.item.__class__ is SSEEvent:
                return entry.item

    def recv(self, timeout: float | None = None) -> SSEEvent:
        """Return the next event; block until there is one.

        :param timeout: seconds to wait; None, the default, for no limit.
        :raises TimeoutError: no event arrived within `timeout`. No event is lost. While the upstream
            reconnects, the ``__cause__`` is the failure of the last attempt.
        :raises SSEClosedError: the feed has ended, or the feed or the subscription is closed.
        :raises SSEConnectionError: the upstream broke, and no further attempt follows; raised once.
        :raises RuntimeError: another consumer is waiting, or the subscription was made before a fork.
        """
        check_timeout(timeout)
        deadline = Deadline(timeout)
        while True:
            try:
                item = self._recv_entry(deadline.remaining()).item
            except TimedOut as error:
                self._raise_timeout(error)
            if isinstance(item, SSEEvent):
                return item

    def __aiter__(self) -> Self:
        _reject_web_frameworks()
        return self

    async def __anext__(self) -> SSEEvent:
        while True:
            entry = self._entries.get(self._next) if self._next < self._limit and self._pending is None else None
            if entry is None:
                entry = await self._arecv_entry(None, StopAsyncIteration)
            else:
                self._next += 1
                self._last_id = entry.id
            if entry.item.__class__ is SSEEvent:
                return entry.item

    async def arecv(self, timeout: float | None = None) -> SSEEvent:
        """Return the next event: the async form of `recv`. Cancelling it loses no event."""
        check_timeout(timeout)
        deadline = Deadline(timeout)
        while True:
            try:
                item = (await self._arecv_entry(deadline.remaining())).item
            except TimedOut as error:
                self._raise_timeout(error)
            if isinstance(item, SSEEvent):
                return item

    def _raise_timeout(self, error: TimedOut) -> NoReturn:
        failure = None if self._run is None else self._run.failure
        why = "" if failure is None else f"; last failure: {failure}"
        raise TimeoutError(f"{self._engine.name}: {error}{why}") from failure

    def signals(self) -> Signals[SSEEvent | Gap]:
        """Return an iterator of all signals in order, with a sync and an async API: `SSEEvent` and `Gap`.

        Iterating the subscription itself returns events only. Both iterators share one position.
        """
        return Signals(self._next_signal, self._anext_signal, _reject_web_frameworks)

    def _next_signal(self) -> SSEEvent | Gap:
        item = self._recv_entry(None, StopIteration).item
        assert item is not None  # noqa: S101 - only relays have entries without
        return item

    async def _anext_signal(self) -> SSEEvent | Gap:
        item = (await self._arecv_entry(None, StopAsyncIteration)).item
        assert item is not None  # noqa: S101 - as above
        return item

    def __repr__(self) -> str:
        return f"<Subscription to {self._engine.name}{', closed' if self._closed else ''}>"

    # -- waiting

    def _recv_entry(self, timeout: float | None = None, end: type[Exception] = SSEClosedError) -> Entry:
        """Take the next entry; raise `end` if there is none, or else the error that ended the feed."""
        deadline = Deadline(timeout)
        while (entry := self._peek()) is None:
            waiter = ThreadWaiter()
            try:
                while self._peek() is None and not self._refill(waiter):
                    if not waiter.park(self._patience(deadline.remaining())) and deadline.remaining() == 0:
                        raise TimedOut(_TIMED_OUT)
            except Finished:
                break
            finally:
                self._unregister(waiter)
        if entry is None:
            raise self._over(end(self._closed_message()))
        if self._pending is None:
            self._next += 1
        else:
            self._taken, self._pending = self._pending, None
        self._last_id = entry.id
        return entry

    async def _arecv_entry(self, timeout: float | None = None, end: type[Exception] = SSEClosedError) -> Entry:
        """Take the next entry: the async form of `_recv_entry`, in one coroutine, because waking many takes time."""
        waiter, self._parker = self._parker, None
        if waiter is None or not waiter.is_usable:
            waiter = TaskWaiter()
        deadline = None if timeout is None else waiter.loop.time() + timeout
        may_run_on = self._next < self._limit  # a stream that never pauses must not starve other tasks
        try:
            while (entry := self._peek()) is None or not may_run_on:
                if entry is not None:
                    import asyncio  # noqa: PLC0415 - see TaskWaiter

                    may_run_on = True
                    await asyncio.sleep(0)
                elif not self._refill(waiter):
                    may_run_on = True
                    left = None if deadline is None else max(0.0, deadline - waiter.loop.time())
                    try:
                        woken = await waiter.parked(self._patience(left))
                    finally:
                        waiter.end()
                    if not woken and deadline is not None and waiter.loop.time() >= deadline:
                        raise TimedOut(_TIMED_OUT)
        except Finished:
            entry = None
        finally:
            self._unregister(waiter)
            self._parker = waiter
        if entry is None:
            raise self._over(end(self._closed_message()))
        if self._pending is None:
            self._next += 1
        else:
            self._taken, self._pending = self._pending, None
        self._last_id = entry.id
        return entry

    def _over(self, end: Exception) -> BaseException:
        """Close the subscription at its end; return the error that ended the feed, or else `end`."""
        error = None if self._closed or self._run is None else self._run.error
        self.close()
        return end if error is None else copied(error)


_reject_web_frameworks = partial(reject_web_frameworks, "a subscription", "feed")
_TIMED_OUT = "no event arrived in time; nothing is lost, call again to keep waiting"
