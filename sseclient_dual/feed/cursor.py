"""`Cursor`: the position of one consumer in the ring of a feed, and its way back into the ring; no API yet.

A slow consumer costs no memory, and delays no other. One that needs events that are not in the ring follows a
`CatchUp` of its engine.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sseclient_dual.closing import Closing
from sseclient_dual.errors import SSEClosedError
from sseclient_dual.handoff import Finished
from sseclient_dual.logs import log

from .ring import Entry, entry_of_gap, entry_of_id

if TYPE_CHECKING:
    from sseclient_dual.waiting import TaskWaiter, Waiter

    from .engine import CatchUp, Engine, Joined, Run


class Cursor:
    """The position of one consumer; the consumer uses it, and any thread may close it."""

    __slots__ = (
        "__weakref__", "_catch_up", "_closed", "_engine", "_entries", "_feed", "_history", "_last_id", "_limit",
        "_next", "_parker", "_pending", "_ring", "_run", "_taken", "_waiter", "_with_id",
    )  # fmt: skip

    def __init__(self, feed: object, engine: Engine, last_event_id: str, history: int, *, with_id: bool) -> None:
        self._feed = feed  # which would close if it were dropped
        self._engine = engine
        self._ring = ring = engine.ring
        self._history = history
        self._with_id = with_id
        self._entries = ring.entries  # an empty dict once it is closed
        self._run: Run | None = None  # set by the first wait
        self._closed = False
        self._waiter: Waiter | None = None  # of the consumer, while it waits
        # Used by the consumer only. The next entry is `_pending`, or else the one at `_next`, up to `_limit`. A
        # consumer that takes an entry makes no call between that and returning it: Python runs signal handlers after
        # calls, and their exception would lose the entry.
        self._catch_up: CatchUp | None = None
        self._pending: Entry | None = None
        self._taken: Entry | None = None  # the last one that was pending
        self._parker: TaskWaiter | None = None  # for the next wait of a task
        self._last_id = last_event_id
        self._next = self._limit = _UNPLACED
        with ring.lock:
            if ring.filled is not None:
                self._place(ring.end, ring.last_id)

    def _place(self, end: int, last_id: str) -> None:
        """Set the position, when the ring is filled. Holds the ring's lock.

        :param end: where a subscription without an id begins.
        :param last_id: the last event ID there.
        """
        ring = self._ring
        if self._last_id:
            after = ring.find(self._last_id)
            first = _ELSEWHERE if after is None or after + 1 < ring.start else after + 1
            last_id = self._last_id
        else:
            first = ring.back(self._history, end)
            if first >= ring.start:
                last_id = ring.id_before(first)
        pending = entry_of_id(last_id) if self._with_id and last_id else None
        # No call separates these changes: a signal handler could raise after it.
        self._pending = pending
        self._last_id = last_id
        self._next = self._limit = first

    @property
    def last_event_id(self) -> str:
        """The id to pass to `Feed.subscribe` or `Feed.relay` to continue after the last event handed over.

        ``""`` if the upstream has sent no id yet.
        """
        return self._last_id

    def _start(self) -> Run:
        if self._ring is not self._engine.ring:
            raise RuntimeError(
                f"{self._engine.name}: this subscription belongs to the parent process, which made it before the "
                "fork; subscribe again"
            )
        if self._closed:
            raise SSEClosedError(self._closed_message())
        if self._run is None:
            self._run = self._engine.join(self)
            if self._closed:  # by another thread meanwhile
                self._engine.leave(self)
        return self._run

    def close(self) -> Closing:
        """Close the subscription, without blocking; callable from any thread, signal handler or finalizer.

        A waiting consumer sees the end of the iteration. The feed stays open for the others. Await the returned
        object to wait until the subscription has released its resources, too.
        """
        self._closed = True
        self._entries = {}
        if self._ring is not self._engine.ring:  # in a forked child
            return Closing()
        self._engine.leave(self)
        waiter, catch_up = self._waiter, self._catch_up
        if waiter is not None:
            waiter.wake()
        return Closing() if catch_up is None else catch_up.close()

    def _closed_message(self) -> str:
        return f"{self._engine.name}: the feed has ended, or the subscription is closed; subscribe again"

    def _peek(self) -> Entry | None:
        """Return the next entry, if it is available, without the lock."""
        if self._pending is not None:
            return self._pending
        if self._next >= self._limit and self._catch_up is None and self._run is not None:
            end = self._ring.end
            if self._run.end is None:  # so that all entries up to there are of this run
                self._limit = end
        return self._entries.get(self._next) if self._next < self._limit else None

    def _refill(self, waiter: Waiter) -> bool:
        """Make an entry available to `_peek` and return True; or register `waiter` and return False.

        :raises Finished: there is no further entry.
        """
        self._claim(waiter)
        try:
            run = self._start()
        except SSEClosedError:
            raise Finished from None
        ring = self._ring
        while self._pending is None:
            with ring.lock:
                if self._next == _UNPLACED and ring.filled is not None:
                    self._place(*ring.filled)
                    continue
                is_in_ring = self._catch_up is None and self._next >= ring.start
                if is_in_ring:
                    self._limit = ring.end if run.end is None else run.end
                    if self._next < self._limit and not self._closed:
                        return True
                ring.waiters.add(waiter)
                if self._closed or ring.closed or (is_in_ring and run.end is not None):
                    raise Finished
                if is_in_ring or self._next == _UNPLACED:
                    return False
            if self._catch_up is None:
                self._catch_up = self._engine.catch_up(
                    run, self._last_id, None if self._next < 0 else self._next, self._history
                )
                if self._closed:  # by another thread meanwhile
                    self._catch_up.close()
            step = self._catch_up.poll(waiter, self._taken)
            if self._closed:
                raise Finished
            if step is None:
                return False
            if isinstance(step, Entry):
                self._pending = step
            else:
                self._rejoin(step)
        return True

    def _rejoin(self, joined: Joined) -> None:
        """Continue in the ring at the end of a catch-up."""
        ring, catch_up = self._ring, self._catch_up
        position = joined.position
        with ring.lock:
            if joined.has_gap and ring.is_gap(position):
                position += 1  # one gap is not reported twice
            last_id = ring.id_before(position) if position >= ring.start else ""
        gap = entry_of_gap(self._last_id, last_id) if joined.has_gap else None
        # No call separates these changes: a signal handler could raise after it.
        self._pending = gap
        self._next = self._limit = position
        self._catch_up = self._taken = None
        if catch_up is not None:  # pragma: no branch - for type checkers
            catch_up.close()
        if gap is not None:
            with ring.lock:
                ring.gaps += 1
            log(
                logging.WARNING,
                "%s: a subscription misses events, because the feed could not resume after its last event ID",
                self._engine.name,
                name=self._engine.name,
                event_id=self._last_id or None,
            )

    def _claim(self, waiter: Waiter) -> None:
        """Make `waiter` that of the only consumer."""
        other = self._waiter
        if other is not None and other is not waiter and not self._closed:
            if not other.abandoned:
                raise RuntimeError(
                    f"{self._engine.name}: another consumer is waiting for the next event of this subscription: "
                    "use one each"
                )
            other.wake()  # in case a signal handler takes its place for a while
        self._waiter = waiter

    def _unregister(self, waiter: Waiter) -> None:
        ring = self._ring
        if waiter in ring.waiters:  # not if an entry has woken it
            with ring.lock:
                ring.waiters.discard(waiter)
        catch_up = self._catch_up
        if catch_up is not None:
            catch_up.unregister(waiter)
        if self._waiter is waiter:
            self._waiter = None

    def _patience(self, left: float | None) -> float | None:
        """Return how long to park, if there are `left` seconds."""
        longest = None if self._catch_up is None else self._catch_up.longest_wait()
        if left is None or longest is None:
            return longest if left is None else left
        return min(left, longest)


# Values of `Cursor._next` that are not positions.
_ELSEWHERE = -1  # not in the ring
_UNPLACED = -2  # not known before the ring is filled
