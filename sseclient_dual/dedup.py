"""`Deduplicator`: recognise the events that a server sends again after a reconnect; no I/O, clock or thread."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from .event import SSEEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .event import Comment


class Deduplicator:
    """Recognises repeated events of one connection; it must never take a live event for one.

    It remembers a digest of each of the last `window` events with an id that earlier connections delivered, and of
    the last events of the current connection. The two are separate: a replay may begin with any number of events
    older than the window, and these must not evict the ids with which the rest of the replay is compared. Ids are
    stored as digests, too: they may be as long as an event.

    :param window: the number of events with an id to compare a replay with.
    :param by_id_only: whether to recognise no event without an id.
    """

    def __init__(self, window: int, *, by_id_only: bool = False) -> None:
        self._by_id_only = by_id_only
        self._window = window
        self._trim_above = window + window // 8  # in bulk: finding the first key of a dict takes long
        # By hash of the id, in the order of delivery: a number and the digest. Numbers grow; an entry with a number
        # from `_first` on came on this connection: as a new event, or again as a duplicate of an earlier one.
        self._earlier: dict[int, tuple[int, int]] = {}
        self._current: dict[int, tuple[int, int]] = {}
        self._number = 0  # of the next event with an id
        self._first = 0  # the first number of the current connection
        self.after_reconnect = False
        """True if the next event is the first one after a reconnect, which may be a duplicate without an id."""
        self._ids_identify = True
        # The last event delivered on this connection: making a digest of each would take longer than all the rest.
        self._last: SSEEvent | None = None
        self._last_before: int | None = None  # the digest of the last one that earlier connections delivered

    def resume(self, delivered: Iterable[SSEEvent]) -> None:
        """Begin after other connections, which delivered these events, each perhaps another connection."""
        for event in delivered:
            if event.id:
                self._earlier.pop(hash(event.id), None)
                self._earlier[hash(event.id)] = (self._number, _digest(event))
                self._number += 1
            self._last = event
        if self._last is not None:
            self.reconnected()

    def reconnected(self) -> None:
        """Record that the events from now on come on another connection."""
        self._earlier.update(self._current)
        self._current.clear()
        _keep_last(self._earlier, self._window)
        self._number += 1  # larger than any number of the earlier connections
        self._first = self._number
        self.after_reconnect = not self._by_id_only
        if self._last is not None:
            self._last_before = _digest(self._last)
            self._last = None

    def without_duplicates(self, items: list[SSEEvent | Comment]) -> list[SSEEvent | Comment]:
        """Return `items` without duplicates, calling `is_duplicate` only for events that may be one.

        The caller then retracts the events that it cannot deliver, and reports the last one delivered.
        """
        if self.after_reconnect or not self._ids_identify:
            return [item for item in items if not (isinstance(item, SSEEvent) and self.is_duplicate(item))]
        earlier, current, number = self._earlier, self._current, self._number
        kept = []
        for item in items:
            if isinstance(item, SSEEvent) and (event_id := item._meta[1]):  # twice as fast as item.id
                if (key := hash(event_id)) in current or key in earlier:
                    self._number = number
                    if self.is_duplicate(item):
                        continue
                    number = self._number
                else:
                    current[key] = (number, _digest(item))
                    number += 1
            kept.append(item)
        self._number = number
        return kept

    def is_duplicate(self, event: SSEEvent) -> bool:
        """Return True if an earlier connection delivered `event`; otherwise remember it as delivered."""
        first, self.after_reconnect = self.after_reconnect, False
        event_id = event.id
        if not event_id:
            return first and _digest(event) == self._last_before
        if not self._ids_identify:
            return False
        key, digest = hash(event_id), _digest(event)
        if (known := self._current.get(key) or self._earlier.get(key)) is not None:
            number, known_digest = known
            if number >= self._first:
                if self._number - number <= self._window:
                    self._ids_identify = False  # twice on one connection: this server's ids do not identify events
                    self._clear()
                    return False
            elif digest == known_digest:
                self._earlier[key] = (self._number, digest)  # keeps its place in the order of delivery
                return True
            else:
                self._clear()  # the server restarted its numbering, so that the other ids have no meaning now
        self._earlier.pop(key, None)
        self._current.pop(key, None)
        self._current[key] = (self._number, digest)
        self._number += 1
        return False

    def retract(self, events: Iterable[SSEEvent]) -> None:
        """Forget `events`, which were not delivered after all; `delivered` has not been called since they came."""
        for event in events:
            if event.id:
                self._current.pop(hash(event.id), None)

    def delivered(self, event: SSEEvent) -> None:
        """Record that `event` is the last one delivered, and that all events so far were delivered or retracted."""
        self._last = event
        if len(self._current) > self._trim_above:
            _keep_last(self._current, self._window)

    def _clear(self) -> None:
        self._earlier.clear()
        self._current.clear()


def _digest(event: SSEEvent) -> int:
    return hash((event._meta[0] or "message", event._data))  # twice as fast as event.type and event.data


def _keep_last(seen: dict[int, tuple[int, int]], count: int) -> None:
    """Remove the oldest entries, so that at most `count` are left."""
    for key in list(islice(seen, max(0, len(seen) - count))):
        del seen[key]
