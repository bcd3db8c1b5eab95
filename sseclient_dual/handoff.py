"""The bounded queue from one thread to one consumer, who waits for it blocking or awaiting.

Whoever has to wait does it on a *waiter* of their own, and everybody else only ever wakes waiters. So the two faces
differ in one place, the waiter, and nothing costs anything while nobody waits. Four rules make it correct:

- **Announce, then look.** A waiter is registered before the condition is looked at for the last time. Whoever
  changes the condition afterwards finds someone to wake; a wake-up that comes before the waiter parks is kept.
- **A wake-up is a hint.** Whoever was woken looks at the condition again.
- **Wake, then forget.** Ctrl-C may come at any line, and then a second wake-up does no harm, but a missing one does.
- **Locks are re-entrant and held for moments only.** `close()` may run in a signal handler or a finalizer that
  interrupts its own thread anywhere, inside these very blocks included, and the first rules hold there, too.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

T = TypeVar("T")


class Finished(Exception):  # noqa: N818 - no error: the end of a queue, as StopIteration is of an iterator
    """There are no more items, and none will come; `Handoff.take_error` has the reason, if there is one."""


class Waiter(Protocol):
    """Somebody who waits for something, seen by those who may end the wait."""

    def wake(self) -> None:
        """End the wait, or the next one if none is on; from any thread, signal handler or finalizer."""

    @property
    def deserted(self) -> bool:
        """Whether whoever waited is gone without a word."""


class ThreadWaiter:
    """Parks a thread."""

    def __init__(self) -> None:
        # A lock as a token that is there or not. Queues and conditions will not do: the former may sleep past
        # their time-out (CPython up to 3.12), the latter are not made for signal handlers.
        self._token = threading.Lock()
        self._token.acquire()
        self._thread = threading.get_ident()

    @property
    def deserted(self) -> bool:
        """See `Waiter.deserted`: whoever asks in its own thread is not parked, unless a signal handler asks."""
        return self._thread == threading.get_ident()

    def wake(self) -> None:
        """See `Waiter.wake`."""
        try:  # noqa: SIM105 - someone waits just now, and to build a context manager takes as long as this
            self._token.release()
        except RuntimeError:  # the token is there already
            pass

    def park(self, timeout: float | None = None) -> bool:
        """Wait to be woken, for `timeout` seconds at most; tell whether that happened."""
        return self._token.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))


class TaskWaiter:
    """Parks a task of the running event loop, without a thread."""

    def __init__(self) -> None:
        import asyncio  # noqa: PLC0415 - whoever is here has a loop running; others need not pay for it

        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._woken: asyncio.Future[bool] = self._loop.create_future()

    @property
    def deserted(self) -> bool:
        """See `Waiter.deserted`."""
        return self._loop.is_closed() or (self._task is not None and self._task.done())

    def wake(self) -> None:
        """See `Waiter.wake`."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits any more
            self._loop.call_soon_threadsafe(self._resolve, True)  # noqa: FBT003 - the future's result

    def _resolve(self, woken: bool) -> None:  # noqa: FBT001 - the future's result
        if not self._woken.done():
            self._woken.set_result(woken)

    async def park(self, timeout: float | None = None) -> bool:
        """Wait to be woken, for `timeout` seconds at most; tell whether that happened."""
        timer = None
        if timeout is not None:
            timer = self._loop.call_later(timeout, self._resolve, False)  # noqa: FBT003 - the future's result
        try:
            return await self._woken
        finally:
            self._woken = self._loop.create_future()  # for the next time
            if timer is not None:
                timer.cancel()


class Deadline:
    """A moment from which on a wait is over; never, if no time-out was given."""

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else time.monotonic() + timeout

    def remaining(self) -> float | None:
        """Return the seconds left, 0 at the least, or None for no limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())


class Latch:
    """Something that happens once; any number of threads and tasks can wait for it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards _waiters
        self._waiters: weakref.WeakSet[Waiter] = weakref.WeakSet()  # weakly, as the consumer of a queue is
        self._is_set = False

    @property
    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._is_set

    def set(self) -> None:
        """Have it happen: wake everybody who waits for it."""
        self._is_set = True
        with self._lock:
            for waiter in tuple(self._waiters):  # one may leave meanwhile, see the last rule
                waiter.wake()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it has happened, for `timeout` seconds at most; tell whether it has."""
        waiter = ThreadWaiter()
        try:
            return self._announce(waiter) or waiter.park(timeout)
        finally:
            self._forget(waiter)

    async def _wait(self) -> None:
        """Do as `wait`, awaited and without a limit."""
        waiter = TaskWaiter()
        try:
            if not self._announce(waiter):
                await waiter.park()
        finally:
            self._forget(waiter)

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()

    def _announce(self, waiter: Waiter) -> bool:
        with self._lock:
            self._waiters.add(waiter)
        return self._is_set

    def _forget(self, waiter: Waiter) -> None:
        with self._lock:
            self._waiters.discard(waiter)


class Handoff(Generic[T]):
    """A queue between one producing thread and one consumer, bounded in items and in weight.

    The producer appends to `_items`; the consumer takes all there is at once and then hands out `taken` one by
    one without a lock. Both count against the bounds: the items exactly, the weight of what was taken until all
    of it is handed out.

    :param max_items: how many items the queue holds at most.
    :param max_weight: how much they weigh together at most; a single item always fits.
    :param weigh: the weight of an item.
    """

    def __init__(self, max_items: int, max_weight: int, weigh: Callable[[T], int]) -> None:
        self._max_items = max_items
        self._max_weight = max_weight
        self._weigh = weigh
        # Guards every attribute below, but for the hand-out from taken (deques are thread-safe), the flag
        # _closed (set once, before the lock is taken) and the consumer's glance at producer.
        self._lock = threading.RLock()
        self._items: deque[T] = deque()
        self._items_weight = 0
        self.taken: deque[T] = deque()
        """What the consumer may have at once. Whoever takes from it has to `offer_room` if a `producer` waits."""
        self._taken_weight = 0
        # Set while the consumer waits for items; weakly, so that one that Ctrl-C tears away takes its waiter along.
        self._consumer: weakref.ref[Waiter] | None = None
        self._consumer_told = False  # whether it was woken, and has not looked yet
        self.producer: Waiter | None = None
        """Set while the producer waits for room."""
        self._finished = False
        self._error: BaseException | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._items) + len(self.taken)

    # -- the producer's side

    def put(
        self, items: Sequence[T], waiter: ThreadWaiter, give_up: Callable[[], bool], weight: int | None = None
    ) -> int:
        """Hand `items` over in order; block while there is no room.

        :param waiter: what to wait on; whoever makes `give_up` true has to wake it.
        :param give_up: asked before each wait whether to stop with what was handed over so far.
        :param weight: what they weigh together, or more: where so much fits, they need not be weighed one by one.
        :returns: how many were handed over: all, unless it was closed or given up.
        """
        done = 0
        while True:
            with self._lock:
                self.producer = waiter
                if not self._closed:
                    done += self._append(items, done, weight)
                if self._closed:  # perhaps since the line before the last
                    self._items.clear()
                elif self._items:
                    self._tell_consumer()
                leave = done == len(items) or self._closed or give_up()
                if leave:
                    self.producer = None
            if leave:
                return done
            waiter.park()

    def _append(self, items: Sequence[T], start: int, weight: int | None) -> int:
        """Append from `items[start]` on what fits, and return how many that is."""
        if not self.taken:
            self._taken_weight = 0
        room = self._max_items - len(self)
        batch = items[start : start + room] if start or len(items) > room else items
        if weight is None:
            weight = sum(map(self._weigh, batch))
        if self._items_weight + self._taken_weight + weight <= self._max_weight:
            self._items.extend(batch)
            self._items_weight += weight
            return len(batch)
        for count, item in enumerate(batch):
            weight = self._weigh(item)
            if self._items_weight + self._taken_weight + weight > self._max_weight and len(self):
                return count
            self._items.append(item)
            self._items_weight += weight
        return len(batch)

    def finish(self, error: BaseException | None = None) -> None:
        """Say that no item follows, and because of which error that is, if of one; see `take_error`."""
        with self._lock:
            self._finished = True
            self._error = error
            self._tell_consumer()

    def take_error(self) -> BaseException | None:
        """Return the error that the producer ended with, if there is one, to be told here and nowhere else."""
        with self._lock:
            error, self._error = self._error, None
        return None if self._closed else error

    def _tell_consumer(self) -> None:
        consumer = self._waiting_consumer()
        if consumer is not None and not self._consumer_told:
            consumer.wake()
            self._consumer_told = True

    def _waiting_consumer(self) -> Waiter | None:
        return None if self._consumer is None else self._consumer()

    # -- the consumer's side

    def get(self, timeout: float | None = None) -> T:
        """Return the next item; block until there is one.

        :raises Finished: there is no further item.
        :raises TimeoutError: none came within `timeout` seconds.
        :raises RuntimeError: another consumer is waiting.
        """
        deadline = None
        while True:
            with contextlib.suppress(IndexError):
                return self._next_taken()
            deadline = deadline or Deadline(timeout)
            waiter = ThreadWaiter()
            try:
                while not self._refill(waiter):
                    if not waiter.park(deadline.remaining()):
                        raise TimeoutError(_NOTHING_CAME)
            finally:
                self._forget(waiter)

    async def aget(self, timeout: float | None = None) -> T:
        """Do as `get`, awaited. An item is taken out as the last act, so that a cancelled wait loses nothing."""
        deadline = None
        while True:
            with contextlib.suppress(IndexError):
                return self._next_taken()
            had_its_turn = deadline is not None  # the loop: a stream that never pauses must not starve its tasks
            deadline = deadline or Deadline(timeout)
            waiter = TaskWaiter()
            try:
                while not self._refill(waiter):
                    had_its_turn = True
                    if not await waiter.park(deadline.remaining()):
                        raise TimeoutError(_NOTHING_CAME)
                if not had_its_turn:
                    import asyncio  # noqa: PLC0415 - see TaskWaiter

                    await asyncio.sleep(0)
            finally:
                self._forget(waiter)

    def _next_taken(self) -> T:
        """Return the next item that was taken; raise an `IndexError` if there is none."""
        item = self.taken.popleft()
        if self.producer is not None:
            self.offer_room()
        return item

    def _refill(self, waiter: Waiter) -> bool:
        """Take all that is queued, and return True; or leave `waiter` to be woken, and return False."""
        with self._lock:
            other = self._waiting_consumer()
            if other is not None and other is not waiter and not self._closed:
                if not other.deserted:
                    msg = "another consumer is waiting for this connection's next event; only one at a time can"
                    raise RuntimeError(msg)
                other.wake()  # in case that a signal handler is taking its place for a while
            self._consumer = weakref.ref(waiter)
            self._consumer_told = False
            if self._closed:
                raise Finished
            if not self.taken:  # pragma: no branch - else another consumer came first, by a hair
                self.taken, self._items = self._items, self.taken
                self._taken_weight, self._items_weight = self._items_weight, 0
            if not self.taken and self._finished:
                raise Finished
            if self.producer is not None:
                self.offer_room()
            return bool(self.taken)

    def offer_room(self) -> None:
        """Wake the producer when the queue is half empty: not for each item, that would be a switch an item."""
        heavy = self._items_weight + self._taken_weight >= self._max_weight
        if len(self) <= self._max_items // 2 and not (heavy and self.taken):
            with self._lock:
                if self.producer is not None:  # pragma: no branch - else it left meanwhile, by a hair
                    self.producer.wake()
                    self.producer = None

    def _forget(self, waiter: Waiter) -> None:
        with self._lock:
            if self._waiting_consumer() is waiter:
                self._consumer = None

    # -- either side, and anybody else

    def close(self) -> None:
        """Throw away what is queued, refuse what comes, and wake whoever waits."""
        self._closed = True
        with self._lock:
            for waiter in (self._waiting_consumer(), self.producer):
                if waiter is not None:
                    waiter.wake()
            self._error = None
            self._items.clear()
            self.taken.clear()


_NOTHING_CAME = "nothing came in time; nothing is lost by that, so ask again"
