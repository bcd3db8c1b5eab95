"""`Deduplicator`: recognise the events that a server sends again after a reconnect; no I/O, clock or thread."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from .event import SSEEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .event import Comment


class Deduplicator:
    """Recognises repeated events of one connection; it must never take a live event for one.

    For each of the last `window` events with an id of their own, it remembers the connection on which the event
    came last, and a digest of its type and data. Ids are stored as digests, too: they may be as long as an event.

    :param window: how many events with an id it remembers.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._seen: OrderedDict[int, tuple[int, int]] = OrderedDict()  # (connection, digest) by hash of the id
        self._connection = 0
        self.after_reconnect = False
        """True if the next event is the first one after a reconnect, which may be a duplicate without an id."""
        self._ids_identify = True
        self._last: int | None = None  # the digest of the last event delivered

    def reconnected(self) -> None:
        """Record that the events from now on come on another connection."""
        self._connection += 1
        self.after_reconnect = True

    def without_duplicates(self, items: list[SSEEvent | Comment]) -> list[SSEEvent | Comment]:
        """Return `items` without duplicates, calling `is_duplicate` only for events that may be one."""
        if self.after_reconnect or not self._ids_identify:
            return [item for item in items if not (isinstance(item, SSEEvent) and self.is_duplicate(item))]
        seen, connection = self._seen, self._connection
        kept = []
        for item in items:
            if isinstance(item, SSEEvent) and (event_id := item._meta[1]):  # twice as fast as item.id
                if (key := hash(event_id)) in seen:
                    self._trim()  # may remove this id
                    if self.is_duplicate(item):
                        continue
                else:
                    seen[key] = (connection, _digest(item))
            kept.append(item)
        self._trim()
        return kept

    def is_duplicate(self, event: SSEEvent) -> bool:
        """Return True if an earlier connection delivered `event`; otherwise remember it as delivered."""
        first, self.after_reconnect = self.after_reconnect, False
        event_id = event.id
        if not event_id:
            return first and _digest(event) == self._last
        if not self._ids_identify:
            return False
        key, digest = hash(event_id), _digest(event)
        known = self._seen.get(key)
        if known is None:
            self._seen[key] = (self._connection, digest)
            self._trim()
            return False
        if known[0] == self._connection:
            self._ids_identify = False  # twice on one connection: this server's ids do not identify events
            self._seen.clear()
            return False
        duplicate = known[1] == digest
        if not duplicate:
            self._seen.clear()  # the server restarted its numbering, so that the other ids have no meaning now
        self._seen[key] = (self._connection, digest)
        return duplicate

    def _trim(self) -> None:
        """Forget the oldest events that exceed the window."""
        for _ in range(len(self._seen) - self._window):
            self._seen.popitem(last=False)

    def delivered(self, event: SSEEvent) -> None:
        """Record that `event` is the last one delivered."""
        self._last = _digest(event)

    def retract(self, events: Iterable[SSEEvent]) -> None:
        """Forget `events`, which were not delivered after all."""
        for event in events:
            if event.id:
                self._seen.pop(hash(event.id), None)


def _digest(event: SSEEvent) -> int:
    return hash((event._meta[0] or "message", event._data))  # twice as fast as event.type and event.data
