"""`StreamReader`: the engine of a `RedisFeed`, which reads the stream into the ring.

It runs on a worker, because its read blocks, with a connection of its own. It never waits for a consumer, and never
for an entry that Redis has lost: that would delay all consumers. ``XREAD`` answers silently with what is left when
entries are gone, so the numbers of the entries are checked. After each connect, after a read without an answer, and
when a number is wrong, it checks that the last entry it has read is still there; see `_check`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sseclient_dual.closing import Closing
from sseclient_dual.event import Gap, SSEEvent
from sseclient_dual.feed import FeedStats, Members, Ring, Run, closed_error
from sseclient_dual.logs import log
from sseclient_dual.waiting import wake_all

from .catch_up import BATCH, CatchUps, StreamCatchUp
from .connections import TIMEOUT
from .entries import decode, keys_of
from .positions import START, parse_position
from .runner import Runner
from .tail import Batch, FeedEntry, Tail

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sseclient_dual.waiting import Waiter

    from .connections import Client, Server
    from .entries import StreamEntry

BLOCK = 5.0
"""Seconds that a read waits for an entry."""


class StreamRun(Run):
    """A run of a `StreamReader`, until the upstream has ended the stream."""

    failure: Exception | None = None
    """See `Run.failure`: why Redis cannot be read."""


class StreamReader:
    """The engine of a `RedisFeed`; see `Engine`.

    :param server: where the stream is.
    :param name: its name.
    :param replay: the maximum number of entries to keep.
    :param replay_bytes: the maximum number of bytes to keep.
    """

    def __init__(self, server: Server, name: str, *, replay: int, replay_bytes: int) -> None:
        self.name = name
        self._server = server
        self.key = keys_of(name).events
        self._replay = replay
        self._replay_bytes = replay_bytes
        self._begin()

    def _begin(self) -> None:
        """Begin with nothing: no entries, no subscriptions, no connections."""
        self.ring = Ring(self._replay, self._replay_bytes, None)
        self.members = Members()
        self._catch_ups = CatchUps(self._server, self.name)
        self._runner = Runner(self._server.client(BLOCK + TIMEOUT), self.name, self._read, self._failed)
        self._is_checked = False  # since it has connected; used by the worker only
        # Guarded by the ring's lock, so that the end of the ring and that of the stream always belong together:
        self.tail = Tail()
        self.ended = False
        self._run = StreamRun()
        self._events = 0
        self._reconnects = 0
        self._caught_up = 0

    def renew_locks(self) -> None:
        """See `Engine.renew_locks`."""
        self.ring.entries.clear()  # so that the parent's subscriptions end
        self._runner.disown()
        self._catch_ups.disown()
        self._begin()

    # -- called by subscriptions

    def join(self, cursor: object) -> Run:
        """See `Engine.join`."""
        with self.ring.lock:
            if self.ring.closed:
                raise closed_error(self.name)
            self.members.add(cursor)
            run = self._run
        self._runner.start()
        return run

    def leave(self, cursor: object) -> None:
        """See `Engine.leave`: the stream is read on."""
        self.members.remove(cursor)

    def catch_up(self, run: Run, last_event_id: str, position: int | None, history: int) -> StreamCatchUp:
        """See `Engine.catch_up`."""
        with self.ring.lock:
            self._caught_up += 1
        was_here = position is not None
        return StreamCatchUp(self, self._catch_ups, run, last_event_id, history, was_here=was_here)

    # -- called by the feed

    def close(self) -> Closing:
        """See `Engine.close`."""
        with self.ring.lock:
            waiters = self.ring.close()
        closing = Closing(self._runner.close(), self._catch_ups.close())
        wake_all(waiters)
        return closing

    @property
    def stats(self) -> FeedStats:
        """See `Feed.stats`."""
        ring = self.ring
        with ring.lock:
            return FeedStats(
                subscribers=len(self.members),
                events=self._events,
                kept=len(ring.entries),
                kept_bytes=ring.size,
                gaps=ring.gaps,
                reconnects=self._reconnects,
                catch_ups=self._caught_up,
            )

    # -- reading, on a worker

    def _read(self, client: Client) -> bool:
        """Read the next entries, or wait some time for them; return False when the feed is closed."""
        if not self._is_checked:
            if self.ring.filled is None:
                self._fill(client)
            else:
                self._check(client, in_doubt=True)
            self._is_checked = True
            if self._run.failure is not None:
                self._recovered()
        command = ("XREAD", "COUNT", BATCH, "BLOCK", int(BLOCK * 1000), "STREAMS", self.key, str(self.tail.position))
        opened = client.opened
        answer = client.execute(*command)
        entries = [decode(*entry) for entry in answer[0][1]] if answer else []
        has_connected = client.opened != opened
        if not entries:
            self._check(client, in_doubt=has_connected)
        elif (self.tail.follows(entries[0]) and not has_connected) or not self._check(client, in_doubt=True):
            self._append(self._batch(self.tail, entries))
        return not self.ring.closed

    def _failed(self, error: Exception) -> None:
        self._is_checked = False
        if self._run.failure is None:
            log(
                logging.WARNING,
                "%s: cannot read the stream from %s, trying again: %s",
                self.name,
                self._server.where,
                error,
                name=self.name,
            )
        self._run.failure = error

    def _recovered(self) -> None:
        self._run.failure = None
        self._reconnects += 1
        log(logging.INFO, "%s: reading the stream from %s again", self.name, self._server.where, name=self.name)

    def _batch(self, tail: Tail, entries: Iterable[StreamEntry] = ()) -> Batch:
        """Return what follows in the ring from entries after a tail."""
        ring = self.ring  # only this reader appends, so it needs no lock
        return Batch(tail, entries, ring.last_id, after_gap=ring.is_gap(ring.end - 1))

    def _append(self, batch: Batch) -> None:
        gaps = [entry.item for entry in batch.entries if isinstance(entry.item, Gap)]
        for gap in gaps:
            log(
                logging.WARNING,
                "%s: events are missing in the stream",
                self.name,
                name=self.name,
                event_id=gap.after or None,
            )
        ring = self.ring
        with ring.lock:
            self._events += sum(isinstance(entry.item, SSEEvent) for entry in batch.entries)
            for last_event_id, position in batch.repeated:
                ring.know(last_event_id, position)
            waiters = ring.append(batch.entries)
            waiters += self._set_tail(batch.tail)
        wake_all(waiters)

    def _set_tail(self, tail: Tail) -> list[Waiter]:
        """Continue after `tail`; return the waiters to wake. Holds the ring's lock."""
        self.tail = tail
        if tail.ended == self.ended:
            return []
        self.ended = tail.ended
        if not tail.ended:  # the stream goes on after its end: for new subscriptions
            self._run = StreamRun()
            return []
        self._run.end = self.ring.end
        return self.ring.take_waiters()

    # -- the newest entries

    def _fill(self, client: Client) -> None:
        """Fill the ring with the newest entries."""
        before, entries = self._newest(client)
        batch = Batch(before, entries, before.id, after_gap=False)
        ring = self.ring
        with ring.lock:
            waiters = ring.fill(before.id, batch.entries)
            waiters += self._set_tail(batch.tail)
        wake_all(waiters)

    def _newest(self, client: Client) -> tuple[Tail, list[StreamEntry]]:
        """Return the newest entries, as many as the ring keeps, and the tail before them."""
        entries: list[StreamEntry] = []
        size, end, count = 0, "+", BATCH
        while len(entries) <= self._replay and size <= self._replay_bytes:
            count = min(BATCH, self._replay + 1 - len(entries))
            answer = client.execute("XREVRANGE", self.key, end, "-", "COUNT", count)
            chunk = [decode(*entry) for entry in answer]
            entries += chunk
            size += sum(len(entry.event.data) for entry in chunk if entry.event is not None)
            if len(chunk) < count:
                return tail_before(entries[-1] if entries else None), entries[::-1]
            end = f"({chunk[-1].position}"
        entries.reverse()
        return Tail(entries[0]), entries[1:]

    # -- what Redis has lost

    def _check(self, client: Client, *, in_doubt: bool = False) -> bool:
        """Check that the last entry is still there; if not, continue elsewhere, and return True.

        Entries are removed at both ends: the oldest ones because the stream is trimmed, the newest ones because
        Redis has lost them. After a loss, newer entries may have smaller positions, if the clock of another server is
        behind: reading after the last position would skip them.

        :param in_doubt: True after a connect, and if the number of the next entry is not the expected one: if the
            last entry is older than the stream, more may have happened than trimming.
        """
        tail = self.tail
        if tail.last is None:
            return False
        same = client.execute("XRANGE", self.key, str(tail.position), str(tail.position))
        if same and decode(*same[0]) == tail.last:
            return False
        oldest = client.execute("XRANGE", self.key, "-", "+", "COUNT", 1)
        if oldest and parse_position(oldest[0][0].decode()) > tail.position:
            if not in_doubt:  # pragma: no cover - rare: trimmed after the read, which found nothing
                return False
        elif oldest and self._go_back(client):
            return True
        self._restart(client)
        return True

    def _go_back(self, client: Client) -> bool:
        """Continue after the newest entry of the ring that is still there; return False if there is none."""
        kept = {
            parse_position(entry.source.position): (position, entry.source)
            for position, entry in self.ring.entries.items()
            if isinstance(entry, FeedEntry)
        }
        oldest, end = min(kept, default=START), str(max(kept, default=START))
        while answer := client.execute("XREVRANGE", self.key, end, str(oldest), "COUNT", BATCH):
            for source in (decode(*entry) for entry in answer):
                position, known = kept.get(parse_position(source.position), (0, None))
                if known == source:
                    self._append(self._lost_after(position, source))
                    return True
            end = f"({source.position}"
        return False

    def _lost_after(self, position: int, last: StreamEntry) -> Batch:
        """Return what follows from the loss of all entries after `last`.

        :param position: that of `last` in the ring.
        """
        tail = Tail(last)
        tail.lost = [
            (later, entry.source)
            for later, entry in self.ring.entries.items()
            if later > position and isinstance(entry, FeedEntry) and entry.source.event is not None
        ]
        batch = self._batch(tail)
        if tail.lost and not any(source.event is not None and source.event.id for _, source in tail.lost):
            batch.add_gap()  # without ids they cannot be recognised
            batch.tail.lost = []
        return batch

    def _restart(self, client: Client) -> None:
        """Report a gap, and continue with the newest entries."""
        before, entries = self._newest(client)
        batch = self._batch(before)
        batch.add_gap()
        for entry in entries:
            batch.add(entry)
        self._append(batch)


def tail_before(oldest: StreamEntry | None) -> Tail:
    """Return the tail before the oldest entry of the stream; None if there is none."""
    tail = Tail()
    if oldest is not None and oldest.seq != 1:
        tail.seq, tail.id = oldest.seq - 1, ""  # the entries before are not known any more
    return tail
