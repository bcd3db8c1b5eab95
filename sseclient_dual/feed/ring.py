"""`Ring`: the last events of a feed, which any number of subscriptions read, each with a cursor of its own; no I/O.

The engines of feeds share it: an engine appends entries, and decides what their ids and their bytes are.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from sseclient_dual.checks import check_integer
from sseclient_dual.event import Gap, SSEEvent
from sseclient_dual.relay import encode_id
from sseclient_dual.waiting import Lock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sseclient_dual.waiting import Waiter

RESET = "stream-reset"
"""The type of the event by which a relay reports a gap."""

REMEMBERED = 1024  # events that are recognised when they come again, although they have left the ring


class Entry:
    """One item of a feed: an event, or a gap.

    :param id: the last event ID after it, as told to consumers.
    :param key: what identifies it in the ring; ``""`` if nothing does.
    :param encoded: its bytes for a relay, encoded once for all subscriptions.
    :param item: the event or the gap; None for an entry that only sets the last event ID.
    """

    __slots__ = ("encoded", "id", "item", "key")

    def __init__(self, id: str, key: str, encoded: bytes, item: SSEEvent | Gap | None) -> None:  # noqa: A002
        self.id = id
        self.key = key
        self.encoded = encoded
        self.item = item


def entry_of_id(last_event_id: str) -> Entry:
    """Return an entry that only sets the last event ID."""
    return Entry(last_event_id, "", encode_id(last_event_id) + b"\n", None)


def entry_of_gap(after: str, last_event_id: str) -> Entry:
    """Return an entry that reports a gap.

    :param after: the last event ID before the gap.
    :param last_event_id: the one at which the feed continues; if it is not known, the consumer keeps the one before,
        so that resuming by it reports the gap again.
    """
    encoded = SSEEvent("", RESET, last_event_id or None).encode()
    return Entry(last_event_id or after, "", encoded, Gap(after, last_event_id))


class Ring:
    """The last entries of a feed by position, bounded in number and in bytes; the oldest are dropped.

    The newest entry is always kept. Appending never waits for a consumer: one that is too slow finds its next entry
    dropped.

    `lock` guards writing. Consumers read `entries` without it, which is one operation of a dict.

    :param replay: the maximum number of entries.
    :param replay_bytes: the maximum number of their encoded bytes.
    :param last_id: the last event ID before the first entry; None if `fill` follows.
    :raises TypeError: an argument has the wrong type; the message names it.
    :raises ValueError: an argument has an invalid value; the message names it.
    """

    def __init__(self, replay: int, replay_bytes: int, last_id: str | None = "") -> None:
        check_integer("replay", replay, least=1)
        check_integer("replay_bytes", replay_bytes, least=1)
        self.lock = Lock()
        self.entries: dict[int, Entry] = {}
        self.start = 0
        """The position of the oldest entry."""
        self.end = 0
        """The position of the next entry."""
        self.size = 0
        """The encoded bytes of all entries."""
        self.last_id = ""
        """The last event ID after the newest entry."""
        self.filled: tuple[int, str] | None = None
        """The position after the entries of `fill`, and the last event ID before it; None until then."""
        self.closed = False
        """True once the feed is closed."""
        self.waiters: set[Waiter] = set()
        """The waiting subscriptions; strong references, and only while they wait."""
        self.gaps = 0
        """The number of gaps reported."""
        self.has_keys = False
        """True if an entry had a key."""
        self._replay = replay
        self._replay_bytes = replay_bytes
        self._before = ""  # the last event ID before the oldest entry
        # By hash of the key, because keys may be long: the position of the entry, and the hash of its content. They
        # are kept for longer than the entries, to recognise what a catch-up brings again.
        self._known: dict[int, tuple[int, int | None]] = {}
        self._repeated: set[int] = set()  # hashes of keys that came several times, and identify nothing
        self._known_from = 0  # the position from which on all keys are known
        if last_id is not None:
            self.fill(last_id, [])

    # -- called by the engine, which holds the lock

    def fill(self, last_id: str, entries: Iterable[Entry]) -> list[Waiter]:
        """Begin with entries that are older than all subscriptions; return the waiters to wake, as `append` does.

        :param last_id: the last event ID before the first of them.
        """
        self._before = self.last_id = last_id
        if last_id:
            self._known[hash(last_id)] = (-1, None)
        waiters = self.append(entries)
        self.gaps = 0  # no subscription has reported them
        self.filled = (self.end, self.last_id)
        return waiters

    def append(self, entries: Iterable[Entry]) -> list[Waiter]:
        """Append entries and drop the oldest; return the waiters to wake when the lock is released.

        It does nothing once the feed is closed.
        """
        if self.closed:
            return []
        for entry in entries:
            if entry.key:
                self._remember(entry.key, self.end, _content(entry.item))
            self.entries[self.end] = entry
            self.end += 1
            self.size += len(entry.encoded)
            self.last_id = entry.id
            self.gaps += isinstance(entry.item, Gap)
        while self._is_too_large():
            oldest = self.entries.pop(self.start)
            self.start += 1
            self.size -= len(oldest.encoded)
            self._before = oldest.id
        return self.take_waiters()

    def know(self, key: str, position: int) -> None:
        """Remember a further key of the entry at a position."""
        self._remember(key, position, None)

    def take_waiters(self) -> list[Waiter]:
        """Return the waiters, to wake them when the lock is released."""
        waiters, self.waiters = self.waiters, set()
        return list(waiters)

    def close(self) -> list[Waiter]:
        """Drop all entries for good; return the waiters to wake."""
        self.closed = True
        self.entries.clear()
        self.start = self.end
        self.size = 0
        return self.take_waiters()

    def _is_too_large(self) -> bool:
        count = self.end - self.start
        return count > 1 and (count > self._replay or self.size > self._replay_bytes)

    def _remember(self, key: str, position: int, content: int | None) -> None:
        self.has_keys = True
        hashed = hash(key)
        if self._known.pop(hashed, None) is not None:
            self._repeated.add(hashed)
        self._known[hashed] = (position, content)
        most = self._replay + REMEMBERED
        if len(self._known) > most + most // 8:  # in bulk: finding the first key of a dict takes long
            for old in list(islice(self._known, len(self._known) - most)):
                del self._known[old]
                self._repeated.discard(old)
            self._known_from = next(iter(self._known.values()))[0]

    # -- called by subscriptions, which hold the lock

    def find(self, key: str, event: SSEEvent | None = None) -> int | None:
        """Return the position of the entry with this key, also if it was dropped; None if not exactly one is known.

        :param event: what it must contain, too.
        """
        hashed = hash(key)
        known = self._known.get(hashed)
        if known is None or hashed in self._repeated:
            return None
        position, content = known
        return position if event is None or content == _content(event) else None

    def lacks(self, key: str, position: int) -> bool:
        """Return True if the entry at a position, also if it was dropped, is certain to have another key."""
        hashed = hash(key)
        return self._known_from <= position < self.end and hashed not in self._known

    def id_before(self, position: int) -> str:
        """Return the last event ID before the entry at a position, which is in the ring or the next one."""
        return self._before if position == self.start else self.entries[position - 1].id

    def back(self, count: int, end: int | None = None) -> int:
        """Return the position of the last `count` kept events.

        :param end: the position after them; None for the end of the ring.
        """
        position = self.end if end is None else end
        while count and position > self.start:
            position -= 1
            count -= isinstance(self.entries[position].item, SSEEvent)
        return position

    def is_gap(self, position: int) -> bool:
        """Return True if a gap is kept at a position."""
        entry = self.entries.get(position)
        return entry is not None and isinstance(entry.item, Gap)

    def events(self) -> list[SSEEvent]:
        """Return the kept events, oldest first."""
        return [entry.item for entry in self.entries.values() if isinstance(entry.item, SSEEvent)]


def _content(item: SSEEvent | Gap | None) -> int:
    return hash((item.type, item.data)) if isinstance(item, SSEEvent) else 0
