"""`Handoff`: the bounded queue from one producer thread to one consumer, a thread or a task.

Its waits follow the rules in `waiting.py`. It costs nothing while no thread or task is waiting.
"""

from __future__ import annotations

import weakref
from operator import length_hint, methodcaller
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from .speedups import HandoffBase
from .waiting import Deadline, Lock, TaskWaiter, ThreadWaiter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .waiting import Waiter

T = TypeVar("T")


class Finished(Exception):  # noqa: N818 - not an error: the end of a queue, like StopIteration
    """The queue is empty and no item follows; `Handoff.take_error` returns the reason, if there is one."""


class TimedOut(TimeoutError):  # noqa: N818 - as above
    """No item came in time."""


class Producer(Protocol):
    """The producer, as seen by the consumer."""

    def wake(self) -> None:
        """Tell it that all of its items are queued; callable from any thread, signal handler or finalizer."""


class Sink(Protocol[T]):
    """The queue, as seen by the producer; see `Handoff`."""

    @property
    def is_full(self) -> bool:
        """True while there are items that do not fit yet."""

    def offer(self, items: list[T], producer: Producer, weight: int | None = None) -> int:
        """Queue items in order; return the number of those that do not fit."""

    def withdraw(self) -> int:
        """Remove the items that do not fit yet, and return their number."""

    def finish(self, error: BaseException | None = None) -> None:
        """Declare that no item follows, and record the error that ended the stream."""

    def close(self) -> None:
        """Refuse new items."""

    def renew_lock(self) -> None:
        """See `LockOwner._renew_locks`."""


class Handoff(HandoffBase, Generic[T]):
    """A queue between one producer thread and one consumer, bounded in items and in weight.

    The producer appends to `_items`. The consumer takes all items at once, and then returns those in `ready` one by
    one without a lock. Both count against the bounds: the items exactly, the weight of `ready` until it is empty.

    The producer waits while items do not fit. These are in `_parts`, which the consumer takes one after another, so
    that the two threads need not take turns for each part.

    :param max_items: the maximum number of queued items.
    :param max_weight: the maximum weight of the queued items together; a single item always fits.
    :param weigh: returns the weight of an item.
    :param wake_consumer: wakes the consumer, at once or soon.
    :param prefix: begins the message of an error: the name of the connection.
    """

    def __init__(
        self,
        max_items: int,
        max_weight: int,
        weigh: Callable[[T], int],
        wake_consumer: Callable[[Waiter], None] = methodcaller("wake"),
        prefix: str = "",
    ) -> None:
        self._max_items = max_items
        self._max_weight = max_weight
        self._weigh = weigh
        self._wake = wake_consumer
        self._prefix = prefix
        # Guards all attributes below, except advancing `ready` (done by the one consumer), setting `_closed` (done
        # once, before the lock is taken) and the producer's check of `_parts`.
        self._lock = Lock()
        self._items: list[T] = []
        self._items_weight = 0
        self.ready: Iterator[T] = iter(())
        """Items available to the consumer.

        The consumer takes an item with a ``for`` statement, which does so without a call, and then makes no call
        before it returns the item: Python runs signal handlers after calls, and their exception would lose the item.
        """
        self._ready_weight = 0
        # Set while the consumer waits for items; a weak reference, so that a consumer that Ctrl-C interrupts takes
        # its waiter with it.
        self._consumer: weakref.ref[Waiter] | None = None
        self._consumer_woken = False  # True if it was woken and has not checked since
        self._parts: list[tuple[list[T], int]] = []  # that do not fit yet, with their weights; the next one is last
        self._producer: Producer | None = None  # set while it waits
        self._finished = False
        self._error: BaseException | None = None
        self._closed = False

    def renew_lock(self) -> None:
        """See `LockOwner._renew_locks`."""
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._items) + length_hint(self.ready)

    # -- the producer's side

    def offer(self, items: list[T], producer: Producer, weight: int | None = None) -> int:
        """Queue items in order; return the number of those that do not fit.

        These follow when there is room: `producer` is woken when the consumer has the last of them. Until then, only
        `withdraw` may follow. A closed queue takes no items.

        :param weight: the weight of all items together, or more; if that fits, they need not be weighed singly.
        """
        with self._lock:
            done = 0
            if not self._closed:
                done = self._append(items, weight)
            if self._closed:  # perhaps since the line before
                self._items.clear()
            elif self._items:
                self._wake_consumer()
            if done < len(items):
                self._parts = self._split(items[done:], weight)
                self._producer = producer
        return len(items) - done

    @property
    def is_full(self) -> bool:
        """True while there are items that do not fit yet."""
        return bool(self._parts)

    def withdraw(self) -> int:
        """Remove the items that do not fit yet, and return their number."""
        with self._lock:
            parts, self._parts = self._parts, []
            self._producer = None
        return sum(len(items) for items, _ in parts)

    def _append(self, items: list[T], weight: int | None) -> int:
        """Append the items that fit, and return their number."""
        ready = length_hint(self.ready)
        if not ready:
            self._ready_weight = 0
        room = self._max_items - ready - len(self._items)
        batch = items[:room] if len(items) > room else items
        if weight is None:
            weight = sum(map(self._weigh, batch))
        if self._items_weight + self._ready_weight + weight <= self._max_weight:
            self._items.extend(batch)
            self._items_weight += weight
            return len(batch)
        for count, item in enumerate(batch):
            weight = self._weigh(item)
            if self._items_weight + self._ready_weight + weight > self._max_weight and len(self):
                return count
            self._items.append(item)
            self._items_weight += weight
        return len(batch)

    def _split(self, items: list[T], weight: int | None) -> list[tuple[list[T], int]]:
        """Split items into parts that fit into an empty queue, with their weights or more; the first is last."""
        if weight is not None and weight <= self._max_weight:
            starts = range(0, len(items), self._max_items)
            return [(items[start : start + self._max_items], weight) for start in reversed(starts)]
        parts: list[tuple[list[T], int]] = []
        part: list[T] = []
        total = 0
        for item in items:
            weight = self._weigh(item)
            if part and (len(part) == self._max_items or total + weight > self._max_weight):
                parts.append((part, total))
                part, total = [], 0
            part.append(item)
            total += weight
        parts.append((part, total))
        return parts[::-1]

    def finish(self, error: BaseException | None = None) -> None:
        """Declare that no item follows, and record the error that ended the stream; see `take_error`."""
        with self._lock:
            self._finished = True
            self._error = error
            self._wake_consumer()

    def take_error(self) -> BaseException | None:
        """Return the error that the producer ended with, None if there is none; return each error only once."""
        with self._lock:
            error, self._error = self._error, None
        return None if self._closed else error

    def _wake_consumer(self) -> None:
        consumer = self._waiting_consumer()
        if consumer is not None and not self._consumer_woken:
            self._wake(consumer)
            self._consumer_woken = True

    def _waiting_consumer(self) -> Waiter | None:
        return None if self._consumer is None else self._consumer()

    # -- the consumer's side

    def get(self, timeout: float | None = None) -> T:
        """Return the next item; block until there is one.

        :raises Finished: there is no further item.
        :raises TimedOut: none came within `timeout` seconds.
        :raises RuntimeError: another consumer is waiting.
        """
        deadline = None
        while True:
            for item in self.ready:
                return item
            deadline = deadline or Deadline(timeout)
            waiter = ThreadWaiter()
            try:
                while not self.refill(waiter):
                    if not waiter.park(deadline.remaining()):
                        raise TimedOut(_TIMED_OUT)
            finally:
                self.unregister(waiter)

    async def aget(self, timeout: float | None = None) -> T:
        """Return the next item: the async form of `get`.

        The item is taken out in the last step, so that a cancelled wait loses nothing.
        """
        deadline = None
        while True:
            for item in self.ready:
                return item
            loop_had_turn = deadline is not None  # a stream that never pauses must not starve other tasks
            deadline = deadline or Deadline(timeout)
            waiter = TaskWaiter()
            try:
                while not self.refill(waiter):
                    loop_had_turn = True
                    if not await waiter.park(deadline.remaining()):
                        raise TimedOut(_TIMED_OUT)
                if not loop_had_turn:
                    import asyncio  # noqa: PLC0415 - see TaskWaiter

                    await asyncio.sleep(0)
            finally:
                self.unregister(waiter)

    def refill(self, waiter: Waiter) -> bool:
        """Make all queued items `ready` and return True; or register `waiter` and return False.

        :raises Finished: there is no further item.
        """
        with self._lock:
            other = self._waiting_consumer()
            if other is not None and other is not waiter and not self._closed:
                if not other.abandoned:
                    raise RuntimeError(
                        f"{self._prefix}another consumer is waiting for the next event of this connection: "
                        "use one at a time"
                    )
                other.wake()  # in case a signal handler takes its place for a while
            self._consumer = weakref.ref(waiter)
            self._consumer_woken = False
            if self._closed:
                raise Finished
            if not length_hint(self.ready):  # pragma: no branch - rare: another consumer refilled it first
                self._take_part()
                if self._closed:  # by a signal handler meanwhile, which could not discard these items
                    self.ready = iter(())
                    raise Finished
            if self._producer is not None and not self._parts:
                self._producer.wake()
                self._producer = None
            available = bool(length_hint(self.ready))
            if self._finished and not available:
                raise Finished
            return available

    def _take_part(self) -> None:
        """Make the next items ready. No call may separate the changes: a signal handler could raise after it."""
        if self._items or not self._parts:
            ready = iter(self._items)
            self.ready, self._items = ready, []
            self._ready_weight, self._items_weight = self._items_weight, 0
        else:
            part, weight = self._parts[-1]
            ready = iter(part)
            self.ready, self._ready_weight = ready, weight
            del self._parts[-1]

    def unregister(self, waiter: Waiter) -> None:
        """End the wait of `refill`."""
        with self._lock:
            if self._waiting_consumer() is waiter:
                self._consumer = None

    # -- both sides, and any other thread

    def close(self) -> None:
        """Discard the queued items, refuse new ones, and wake the consumer and the producer."""
        self._closed = True
        with self._lock:
            for waiter in (self._waiting_consumer(), self._producer):
                if waiter is not None:
                    waiter.wake()
            self._error = None
            self._items.clear()
            self.ready = iter(())


_TIMED_OUT = "no event arrived in time; nothing is lost, call again to keep waiting"
