"""The event log that the apps in this folder serve on third-party servers.

The content of an event depends only on its number, so tests can compute the expected events.
"""

from __future__ import annotations

from itertools import count, islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PACE = 0.02  # seconds from one event to the next
PAUSE = 2.0  # seconds that the quiet stream is silent before its first event


class Entry(NamedTuple):
    """The fields of an event, in the order of `SSEEvent`."""

    data: str
    event: str | None
    id: str


def entry(number: int) -> Entry:
    """Return event `number`; numbers begin with 1."""
    data = f"№ {number}: žluťoučký кінь 🐎\u2028の馬\x85"
    if number % 4 == 0:
        data += "\n\n  id: no field, but data\n"
    if number % 5 == 0:
        data *= 1000
    if number % 7 == 0:
        data = ""
    return Entry(data, "třetí" if number % 3 == 0 else None, str(number))


def numbers(last_event_id: str | None, replay: str | None) -> Iterator[int]:
    """Return endless numbers from the event after `last_event_id`, or from `replay` events earlier."""
    return count(max(1, int(last_event_id or 0) + 1 - int(replay or 0)))


def chosen(last_event_id: str | None, limit: str | None) -> Iterator[int]:
    """Return numbers from the event after `last_event_id`, at most `limit` of them."""
    return islice(numbers(last_event_id, None), None if limit is None else int(limit))
