"""The last event IDs of a `RedisFeed`, and which event of the stream one means; no I/O.

An id is ``<milliseconds>-<number>/<upstream id>``: the position of an entry in the stream, and the upstream's last
event ID after it. The position says where to continue, and the second part proves that Redis still has the same entry
there. If Redis has lost it, the second part finds the entry that has replaced it. It also serves the plain ids of
other relays of the same upstream.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from sseclient_dual.event import SSEEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sseclient_dual.feed import Entry

_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})/(.*)", re.ASCII)
_MOST = 2**64 - 1  # in Redis, both parts of a position are unsigned numbers of 64 bits


class Position(NamedTuple):
    """The id of an entry in Redis; later entries have greater ones."""

    milliseconds: int
    number: int

    def __str__(self) -> str:
        return f"{self.milliseconds}-{self.number}"


START = Position(0, 0)
"""Before the first entry of a stream."""


def parse_position(text: str) -> Position:
    """Return the position that Redis writes as `text`."""
    milliseconds, _, number = text.partition("-")
    return Position(int(milliseconds), int(number))


def make_id(position: Position, upstream_id: str) -> str:
    """Return the id of a relay's event.

    :param upstream_id: the upstream's last event ID after the entry at `position`.
    """
    return f"{position}/{upstream_id}"


START_ID = make_id(START, "")


class Asked:
    """The id after which a consumer wants to continue.

    :param last_event_id: as the consumer sent it, or decoded: a header in UTF-8 that a framework has decoded as
        Latin-1 may have come in either form.
    """

    def __init__(self, last_event_id: str) -> None:
        self.forms = tuple(dict.fromkeys([last_event_id, *_other_forms(last_event_id)]))
        """What it may mean, the most likely first."""
        self.position: Position | None = None
        """Its position in the stream; None for an id of another relay."""
        self._upstream_ids: list[str] = []
        for form in self.forms:
            match = _ID.fullmatch(form)
            if match is not None and max(int(match[1]), int(match[2])) <= _MOST:
                self.position = Position(int(match[1]), int(match[2]))
                self._upstream_ids.append(match[3])

    def agrees(self, upstream_id: str) -> bool:
        """Return True if the entry at the position has the requested upstream id."""
        return upstream_id in self._upstream_ids

    def search(self, entries: Iterable[tuple[int, Entry]], *, as_plain: bool) -> int | None:
        """Return the position in a ring of the only event with the requested upstream id; None without exactly one.

        :param entries: those of the ring to search, with their positions.
        :param as_plain: search only for the whole id, as an upstream's own one may look like ours.
        """
        found: dict[str, list[int]] = {}
        for position, entry in entries:
            if isinstance(entry.item, SSEEvent) and entry.item.id:
                found.setdefault(entry.item.id, []).append(position)
        for upstream_id in (*self.forms, *(() if as_plain else self._upstream_ids)):
            if upstream_id in found:
                positions = found[upstream_id]
                return positions[0] if len(positions) == 1 else None
        return None


def _other_forms(last_event_id: str) -> list[str]:
    pairs = (("latin-1", "utf-8"), ("utf-8", "latin-1"))
    return [form for form in (_recoded(last_event_id, *pair) for pair in pairs) if form is not None]


def _recoded(text: str, encoding: str, decoding: str) -> str | None:
    try:
        return text.encode(encoding).decode(decoding)
    except UnicodeError:
        return None
