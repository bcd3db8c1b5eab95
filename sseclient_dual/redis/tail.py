"""`Tail`: how far a feed has read its stream, and what the entries that follow mean for the ring; no I/O.

Each entry must have the number after the one before. Otherwise entries are missing, which is a gap.

If Redis has lost its newest entries, for example after a restart, the ingest adds them again, with other positions.
The feed has them already, so it skips them: those whose id and content are the same. The first other event follows
without a gap only if all of them have come before.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from sseclient_dual.event import Gap, SSEEvent
from sseclient_dual.feed import Entry, entry_of_gap

from .entries import Kind
from .positions import START, START_ID, make_id, parse_position

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .entries import StreamEntry


class FeedEntry(Entry):
    """An entry of the ring that is one of the stream.

    :param source: the entry of the stream.
    """

    __slots__ = ("source",)

    def __init__(self, last_event_id: str, encoded: bytes, item: SSEEvent | Gap, source: StreamEntry) -> None:
        super().__init__(last_event_id, last_event_id, encoded, item)
        self.source = source


def id_of(source: StreamEntry) -> str:
    """Return the last event ID after an entry, as consumers get it."""
    return make_id(parse_position(source.position), source.last_event_id)


def feed_entry(source: StreamEntry, before: str) -> FeedEntry | None:
    """Return the entry for the ring; None for the end of the stream, which consumers do not get as an entry.

    :param before: the last event ID before it, as consumers get it.
    """
    last_event_id = id_of(source)
    event = source.event
    if source.kind is Kind.END:
        return None
    if event is not None:
        try:
            encoded = SSEEvent(event.data, event.event, last_event_id).encode()
        except ValueError:  # another program has added an event that no stream can express
            pass
        else:
            return FeedEntry(last_event_id, encoded, event, source)
    gap = entry_of_gap(before, last_event_id)
    return FeedEntry(last_event_id, gap.encoded, Gap(before, last_event_id), source)


class Tail:
    """The last entry that was read.

    :param last: the entry; None before the first one of the stream.
    """

    def __init__(self, last: StreamEntry | None = None) -> None:
        self.last = last
        self.seq = 0 if last is None else last.seq
        self.position = START if last is None else parse_position(last.position)
        self.id = START_ID if last is None else id_of(last)
        """The last event ID after it, as consumers get it."""
        self.ended = last is not None and last.kind is Kind.END
        """True if it says that the upstream has ended the stream."""
        self.lost: list[tuple[int, StreamEntry]] = []
        """Events after it that Redis has lost and that may come again, with their positions in the ring."""

    def is_at(self, other: Tail) -> bool:
        """Return True if both are the same entry: after a loss, another one may have its position."""
        return self.position == other.position and self.last == other.last

    def follows(self, source: StreamEntry) -> bool:
        """Return True if no entry is missing before `source`."""
        return source.seq == self.seq + 1


class Batch:
    """What entries of the stream mean for the ring.

    :param tail: the one before them.
    :param sources: the entries, in order.
    :param before: the last event ID that consumers have got.
    :param after_gap: True if the last that they have got is a gap: it is not followed by another one.
    """

    def __init__(self, tail: Tail, sources: Iterable[StreamEntry], before: str, *, after_gap: bool) -> None:
        self.tail = copy(tail)
        """The one after them."""
        self.entries: list[Entry] = []
        """The entries for the ring."""
        self.repeated: list[tuple[str, int]] = []
        """The last event IDs of entries that came again, and the positions in the ring of those that they repeat."""
        self._before = before
        self._after_gap = after_gap
        for source in sources:
            self.add(source)

    def add(self, source: StreamEntry) -> None:
        """Add the next entry of the stream."""
        tail = self.tail
        follows = tail.follows(source)
        repeated = self._repeated(source) if follows else None
        if repeated is not None:
            self.repeated.append((id_of(source), repeated))
        else:
            if not follows or (tail.lost and source.kind is Kind.EVENT):
                self.add_gap()
            tail.lost = []
            entry = feed_entry(source, self._before)
            if entry is not None and not (self._after_gap and isinstance(entry.item, Gap)):
                self._append(entry)
        self.tail = Tail(source)
        self.tail.lost = tail.lost

    def add_gap(self) -> None:
        """Report a gap after the tail, unless the entry before is one."""
        if not self._after_gap:
            gap = entry_of_gap(self._before, self.tail.id)
            # Consumers may have been here before the gap. An id that has two positions in the ring is resumed from
            # the stream, not from the ring, so that what the ring has before the gap is not sent again.
            gap.key = self.tail.id
            self._append(gap)

    def _append(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._before = entry.id
        self._after_gap = isinstance(entry.item, Gap)

    def _repeated(self, source: StreamEntry) -> int | None:
        """Return the position of the lost event that `source` repeats; None if there is none."""
        lost = self.tail.lost
        for index, (position, old) in enumerate(lost):
            if source.event is not None and source.event.id and source.event == old.event:
                self.tail.lost = lost[index + 1 :]
                return position
        return None
