"""`Replay`: the way of a subscription back into the ring of a `SharedFeed`, by a connection of its own.

The connection asks the upstream for the events after the subscription's last event ID. When it has delivered an event
that is in the ring, too, the subscription continues there, and the connection is closed.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from typing import TYPE_CHECKING

from sseclient_dual.closing import Closing
from sseclient_dual.event import SSEEvent
from sseclient_dual.handoff import Finished
from sseclient_dual.relay import encode_after
from sseclient_dual.waiting import Lock

from .engine import Joined
from .ring import REMEMBERED, Entry

if TYPE_CHECKING:
    from sseclient_dual.reader import Reader
    from sseclient_dual.waiting import Waiter

    from .engine import Run
    from .ring import Ring

TURN = 30.0  # seconds for which a catch-up may keep its place while others wait for one


def entry_after(last_event_id: str, event: SSEEvent) -> Entry:
    """Return the entry of an event of a `SharedFeed`.

    :param last_event_id: the last event ID before it.
    """
    own_id = event.last_event_id if event.id is not None or event.last_event_id != last_event_id else ""
    return Entry(event.last_event_id, own_id, encode_after(last_event_id, event), event)


class Turn:
    """One connection of a catch-up, which opens when it gets a place; any thread may end it."""

    def __init__(self, turns: Turns, reader: Reader) -> None:
        self.reader = reader
        self.since = 0.0
        """When it got its place, on the clock of ``time.monotonic``."""
        self.is_open = False
        self.is_over = False
        self._turns = turns

    def open(self, waiter: Waiter) -> bool:
        """Get a place and connect; or register `waiter`, and return False.

        A signal handler may interrupt this anywhere. Calling it again continues.
        """
        if not self._turns.admit(self, waiter):
            return False
        try:
            self.reader.start()
        except RuntimeError:  # no thread can be started
            self.end()
            raise
        self.is_open = True
        return True

    def end(self) -> None:
        """Close the connection, and give its place to the next one; may be called again."""
        self.is_over = True
        self.reader.close()
        self._turns.remove(self)


class Turns:
    """Limits how many catch-ups of a feed run at once; the others wait for their turn.

    One that needs longer than `TURN` makes place for another, and waits for its next turn.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = Lock()  # guards the rest
        self._running: dict[Turn, None] = {}  # the oldest first
        self._queue: dict[Waiter, None] = {}

    @property
    def running(self) -> list[Turn]:
        """Those that have a place."""
        return list(self._running)

    def admit(self, turn: Turn, waiter: Waiter) -> bool:
        """Give a place to a turn; or register `waiter`, and return False."""
        late: Turn | None = None
        with self._lock:
            if turn in self._running:
                return True
            self._queue.setdefault(waiter)
            if len(self._running) >= self._limit:
                late = next(iter(self._running))
                if late.since + TURN > time.monotonic():
                    return False
                late.is_over = True
                del self._running[late]
            turn.since = time.monotonic()
            self._running[turn] = None
            self._queue.pop(waiter, None)
        if late is not None:
            late.end()
        return True

    def longest_wait(self) -> float | None:
        """Return the seconds until a catch-up has to make place."""
        with self._lock:
            return max(0.0, next(iter(self._running)).since + TURN - time.monotonic()) if self._running else 0.0

    def remove(self, turn: Turn) -> None:
        """Record that a connection has ended."""
        with self._lock:
            self._running.pop(turn, None)
            self._wake_next()

    def unregister(self, waiter: Waiter) -> None:
        """End the wait of `begin`."""
        with self._lock:
            self._queue.pop(waiter, None)
            self._wake_next()  # in case that one was woken and has left instead

    def _wake_next(self) -> None:
        if len(self._running) < self._limit and self._queue:
            next(iter(self._queue)).wake()

    def renew_lock(self) -> None:
        """See `LockOwner._renew_locks`."""
        self._lock = Lock()


class Replay:
    """Catches up by asking the upstream; see `CatchUp`.

    It counts the events that it hands over. With the position at which it joins the ring, that tells whether events
    are missing: an upstream that cannot replay begins with newer ones.

    :param template: makes the connections.
    :param run: that of the subscription; its end ends the catch-up.
    :param last_event_id: the id after which to continue.
    :param position: the position after it, None if it is not known.
    :param history: after a gap, continue with so many of the kept events.
    """

    def __init__(
        self,
        ring: Ring,
        turns: Turns,
        template: Reader,
        run: Run,
        last_event_id: str,
        position: int | None,
        history: int,
    ) -> None:
        self._ring = ring
        self._run = run
        self._turns = turns
        self._template = template
        self._asked_id = last_event_id
        self._history = history
        self._position = position  # exactly, as soon as it is known
        self._oldest = ring.start
        self._is_possible = template.may_repeat and run.end is None and bool(last_event_id)
        self._count = 0  # of the events handed over
        self._last_id = last_event_id
        # The last event handed over, if it has an id of its own; before the first one, the id to continue after.
        self._joint: tuple[str, SSEEvent | None] | None = (last_event_id, None)
        self._turn: Turn | None = None
        self._finalizer: weakref.finalize[[], Replay]  # ends the turn if it is dropped
        self._closed = False
        self._event: SSEEvent | None = None  # received, but not handed over
        self._offered: Entry | None = None
        # Hashes of the last events handed over, and of those of earlier connections, which may come again.
        self._seen: deque[int] = deque(maxlen=REMEMBERED)
        self._seen_earlier: frozenset[int] = frozenset()

    def poll(self, waiter: Waiter, taken: Entry | None) -> Entry | Joined | None:
        """See `CatchUp.poll`."""
        if self._offered is not None:
            if taken is not self._offered:  # a signal handler interrupted the consumer
                return self._offered
            self._record(self._offered)
        while True:
            with self._ring.lock:
                joined = self._joined()
            if joined is not None:
                return joined
            if self._event is None and not self._receive(waiter):
                if self._run.end is not None:
                    raise Finished
                return None
            event = self._event
            if event is None:  # the upstream has ended the connection, or refused it
                if self._turn is not None and self._turn.reader.pipeline.has_ended is True:
                    raise Finished  # by the last event of the stream, which `until` recognises
                with self._ring.lock:
                    return self._gap()
            entry = entry_after(self._last_id, event)
            with self._ring.lock:
                step = self._step(entry, event)
            if step is not None:
                return step
            self._event = None  # a duplicate

    def _record(self, handed_over: Entry) -> None:
        """Record that an entry has been handed over."""
        event = self._event
        self._seen.append(hash((handed_over.key, event)))
        # From here on without a call, after which a signal handler could raise.
        self._count += 1
        self._last_id = handed_over.id
        self._joint = (handed_over.key, event) if handed_over.key else None
        self._event = self._offered = None

    def _expected(self) -> int:
        """Return the position of the next event, if none is missing, or a later one. Holds the ring's lock."""
        known = self._ring.find(self._asked_id)
        if known is not None:
            self._position = known + 1
        return self._count + (self._oldest if self._position is None else self._position)

    def _joined(self) -> Joined | None:
        """Return where to continue, if the last event is in the ring, or if it cannot be. Holds the ring's lock."""
        ring = self._ring
        if not self._is_possible or (ring.end > 0 and not ring.has_keys):
            return self._gap()
        position = None if self._joint is None else ring.find(*self._joint)
        if position is None or position + 1 < ring.start:
            return None
        return Joined(position + 1, position + 1 > self._expected())

    def _step(self, entry: Entry, event: SSEEvent) -> Entry | Joined | None:
        """Return the entry, or where to continue instead; None for a duplicate. Holds the ring's lock."""
        ring = self._ring
        if entry.key:
            if hash((entry.key, event)) in self._seen_earlier:
                return None
            expected = self._expected()
            position = ring.find(entry.key, event)
            if position is None:
                has_gap = self._position is not None and ring.lacks(entry.key, expected)
            elif self._position is not None and position < self._position:
                return None
            elif position >= ring.start:
                return Joined(position, position > expected)
            else:
                has_gap = position > expected
            if has_gap:  # it would be known, or be another one
                return self._gap()
        self._offered = entry
        return entry

    def _gap(self) -> Joined:
        """Return where to continue after a gap. Holds the ring's lock."""
        return Joined(self._ring.back(self._history), has_gap=True)

    def _receive(self, waiter: Waiter) -> bool:
        """Receive the next event, and return True, also if there is none; or register `waiter`, and return False."""
        turn = self._turn
        if turn is None or turn.is_over:
            turn = self._next_turn()
        if not turn.is_open and not turn.open(waiter):
            return False
        if self._closed:  # by another thread meanwhile
            turn.end()
        handoff = turn.reader.handoff
        try:
            if not handoff.refill(waiter):
                return False
        except Finished:
            return not turn.is_over or self._closed or self._receive(waiter)
        for item in handoff.ready:  # pragma: no branch - not empty; without a call, see `Handoff.ready`
            if item.__class__ is SSEEvent:  # pragma: no branch - nothing else is queued
                self._event = item
            break
        return True

    def _next_turn(self) -> Turn:
        self._end_turn()
        turn = Turn(self._turns, self._template.another())
        turn.reader.resume_after(self._last_id)
        self._seen_earlier = frozenset(self._seen)
        self._finalizer = weakref.finalize(self, turn.end)
        self._finalizer.atexit = False
        self._turn = turn
        return turn

    def _end_turn(self) -> None:
        if self._turn is not None:
            self._turn.end()
            self._finalizer.detach()

    def unregister(self, waiter: Waiter) -> None:
        """See `CatchUp.unregister`."""
        if self._turn is not None:  # pragma: no branch - rare: a signal handler interrupted the first `poll`
            self._turn.reader.handoff.unregister(waiter)
        self._turns.unregister(waiter)

    def longest_wait(self) -> float | None:
        """See `CatchUp.longest_wait`."""
        turn = self._turn
        return self._turns.longest_wait() if turn is None or not turn.is_open else None

    def close(self) -> Closing:
        """See `CatchUp.close`."""
        self._closed = True
        self._end_turn()
        return Closing() if self._turn is None else Closing(self._turn.reader.finished)
