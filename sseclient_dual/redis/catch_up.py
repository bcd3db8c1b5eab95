"""`StreamCatchUp`: the way of a subscription back into the ring of a `RedisFeed`, by reading older entries.

It reads up to the position of the feed's own reader: what follows there is in the ring.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from sseclient_dual.closing import Closing
from sseclient_dual.feed import Joined
from sseclient_dual.waiting import Lock

from .entries import decode
from .positions import START, Asked, Position, parse_position
from .runner import Runner
from .tail import Tail, feed_entry, id_of

if TYPE_CHECKING:
    from sseclient_dual.feed import Entry, Ring, Run
    from sseclient_dual.waiting import Waiter

    from .connections import Client, Server
    from .entries import StreamEntry

BATCH = 100
"""The maximum number of entries that one command reads."""

PATIENCE = 30.0
"""Seconds for which a subscription waits for an entry that is not in the stream, but may come again."""

_MOST_BYTES = 256 * 1024  # of the entries that a subscription has ready; one may be larger


class Source(Protocol):
    """The engine, as seen by its catch-ups."""

    ring: Ring
    tail: Tail
    """The end of the ring in the stream; guarded by the ring's lock."""
    key: str
    """That of the stream."""


class StreamCatchUp:
    """Catches up by reading the stream; see `CatchUp`.

    :param source: the engine.
    :param catch_ups: reads for it.
    :param run: that of the subscription.
    :param last_event_id: the id after which to continue.
    :param history: after a gap, continue with so many of the kept events; with all of them if it is 0.
    :param was_here: True if the id is of this ring, so that what follows has been in it, too.
    """

    def __init__(
        self, source: Source, catch_ups: CatchUps, run: Run, last_event_id: str, history: int, *, was_here: bool
    ) -> None:
        self._source = source
        self._catch_ups = catch_ups
        self._run = run
        self._history = history
        self._was_here = was_here
        self._asked = Asked(last_event_id)
        # Guarded by the ring's lock:
        self._waiter: Waiter | None = None
        self._tail: Tail | None = None  # after the entries that were read; None until the id is found in the stream
        self._ready: deque[Entry] = deque()  # read, but not taken
        self._beyond: str | None = None  # the id of the entry after them, if entries are missing before it
        self._is_trimmed = False  # the stream has no entries as old as the requested one
        self._is_missing = self._asked.position is None  # no entry of the stream has the id
        self._searched = 0  # the position up to which the ring was searched for the upstream's id
        self._exhausted: Position | None = None  # the end of the ring up to which no further entry was found
        self._deadline: float | None = None  # while it waits for an entry

    def poll(self, waiter: Waiter, taken: Entry | None) -> Entry | Joined | None:
        """See `CatchUp.poll`."""
        with self._source.ring.lock:
            if self._ready and self._ready[0] is taken:
                self._ready.popleft()
            step = self._step()
            if step is not None:
                return step
            self._waiter = waiter
            if self._is_waiting():
                if self._deadline is None:
                    self._deadline = time.monotonic() + PATIENCE
                return self._gap() if self.longest_wait() == 0 or self._run.end is not None else None
            self._deadline = None
        self._catch_ups.request(self)
        return None

    def unregister(self, waiter: Waiter) -> None:
        """See `CatchUp.unregister`."""
        if self._waiter is waiter:
            self._waiter = None

    def longest_wait(self) -> float | None:
        """See `CatchUp.longest_wait`."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def close(self) -> Closing:
        """See `CatchUp.close`."""
        self._catch_ups.cancel(self)
        return Closing()

    # -- the next step; all of these hold the ring's lock

    def _step(self) -> Entry | Joined | None:
        """Return the next entry, or where to continue; None if neither is known."""
        if self._ready:
            entry = self._ready[0]
            return self._at(entry.key) or entry
        if self._beyond is not None:
            return self._at(self._beyond, has_gap=True) or self._gap()
        if self._tail is None:
            return self._search()
        joined = self._after(self._tail.id)
        if joined is None and self._tail.is_at(self._source.tail) and not self._source.tail.lost:
            return Joined(self._source.ring.end, has_gap=False)
        return joined

    def _search(self) -> Joined | None:
        """Return where to continue, if the ring tells it, or if nothing does."""
        ring = self._source.ring
        for form in self._asked.forms:
            if (joined := self._after(form)) is not None:
                return joined
        if not self._is_missing:
            return None
        start, self._searched = max(ring.start, self._searched), ring.end
        entries = ((position, ring.entries[position]) for position in range(start, ring.end))
        found = self._asked.search(entries, as_plain=self._is_trimmed)
        if found is not None:
            return Joined(found + 1, has_gap=False)
        asked = self._asked.position
        may_come = asked is not None and asked > self._source.tail.position and not self._was_here
        return None if may_come or self._deadline is not None else self._gap()

    def _at(self, key: str, *, has_gap: bool = False) -> Joined | None:
        """Continue at an entry, if it is in the ring."""
        position = self._source.ring.find(key)
        return None if position is None or position < self._source.ring.start else Joined(position, has_gap)

    def _after(self, key: str) -> Joined | None:
        """Continue after an entry, if what follows is in the ring."""
        position = self._source.ring.find(key)
        if position is None or position + 1 < self._source.ring.start:
            return None
        return Joined(position + 1, has_gap=False)

    def _gap(self) -> Joined:
        ring = self._source.ring
        return Joined(ring.back(self._history) if self._history else ring.start, has_gap=True)

    def _is_waiting(self) -> bool:
        """Return True if only new entries in the ring can help."""
        end = self._source.tail.position
        if self._tail is None:
            return self._is_missing
        return self._tail.position >= end or self._exhausted == end

    # -- reading, on a worker

    def fetch(self, client: Client) -> None:
        """Read the next entries.

        :raises RedisError: Redis cannot be read.
        """
        with self._source.ring.lock:
            tail, end = self._tail, self._source.tail.position
        if tail is None:
            tail, entries = self._find(client, end)
        else:
            entries = self._range(client, str(tail.position), end, BATCH + 1)
            if entries[:1] == [tail.last]:  # otherwise it is trimmed, or lost and replaced, which `_deliver` notices
                del entries[0]
        if tail is not None:
            self._deliver(tail, entries, end)

    def _find(self, client: Client, end: Position) -> tuple[Tail | None, list[StreamEntry]]:
        """Return the requested entry and those after it, or None if the stream does not have it."""
        asked = self._asked.position
        assert asked is not None  # noqa: S101 - other ids are searched in the ring
        entries = self._range(client, str(asked), max(asked, end))
        oldest = self._range(client, "-", "+", 1)
        if asked == START and (not oldest or oldest[0].seq == 1):
            return Tail(), entries
        if entries and parse_position(entries[0].position) == asked and self._asked.agrees(entries[0].last_event_id):
            return Tail(entries[0]), entries[1:]
        with self._source.ring.lock:
            self._is_missing = True
            self._is_trimmed = bool(oldest) and parse_position(oldest[0].position) > asked
        return None, []

    def _range(self, client: Client, first: str, last: Position | str, count: int = BATCH) -> list[StreamEntry]:
        return [
            decode(*entry) for entry in client.execute("XRANGE", self._source.key, first, str(last), "COUNT", count)
        ]

    def _deliver(self, tail: Tail, entries: list[StreamEntry], end: Position) -> None:
        """Check the entries after `tail`, and make them available."""
        ready: list[Entry] = []
        size, beyond = 0, None
        for source in entries:
            if not tail.follows(source):
                beyond = id_of(source)
            if beyond is not None or size > _MOST_BYTES:
                break
            entry = feed_entry(source, tail.id)
            tail = Tail(source)
            if entry is not None:
                ready.append(entry)
                size += len(entry.encoded)
        with self._source.ring.lock:
            self._tail, self._beyond = tail, beyond
            self._ready.extend(ready)
            self._exhausted = None if entries else end

    def wake(self) -> None:
        """Wake the consumer, after `fetch`."""
        with self._source.ring.lock:
            waiter = self._waiter
        if waiter is not None:  # pragma: no branch - rare: the consumer has given up meanwhile
            waiter.wake()


class CatchUps:
    """Reads the stream for all catch-ups of a feed, some entries for each in turn, while there are any."""

    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        self._name = name
        self._lock = Lock()  # guards the rest
        self._requests: dict[StreamCatchUp, None] = {}
        self._runner: Runner | None = None  # while there are requests
        self._closed = False

    def request(self, catch_up: StreamCatchUp) -> None:
        """Read for a catch-up, unless that is requested already.

        :raises RuntimeError: no thread can be started.
        """
        with self._lock:
            if self._closed:
                return
            self._requests.setdefault(catch_up)
            runner = self._runner
            if runner is None:
                runner = self._runner = Runner(self._server.client(), self._name, self._read)
        runner.start()

    def cancel(self, catch_up: StreamCatchUp) -> None:
        """Forget a catch-up."""
        with self._lock:
            self._requests.pop(catch_up, None)

    def close(self) -> Closing:
        """End everything; callable from any thread, signal handler or finalizer."""
        with self._lock:
            self._closed = True
            self._requests.clear()
            runner = self._runner
        return Closing() if runner is None else runner.close()

    def disown(self) -> None:
        """See `Runner.disown`."""
        if self._runner is not None:
            self._runner.disown()

    def _read(self, client: Client) -> bool:
        """Read for the first catch-up; return False if there is none."""
        with self._lock:
            catch_up = next(iter(self._requests), None)
            if catch_up is None:
                self._runner = None
                return False
        catch_up.fetch(client)
        self.cancel(catch_up)
        catch_up.wake()
        return True
