"""The ring: bounds, positions, ids that identify and ids that do not."""

from __future__ import annotations

import pytest

from sseclient_dual import Gap, SSEEvent
from sseclient_dual.feed.catch_up import entry_after
from sseclient_dual.feed.ring import REMEMBERED, Entry, Ring, entry_of_gap


def numbered(*numbers: int) -> list[Entry]:
    return [entry_after("", SSEEvent(str(n), id=str(n), last_event_id=str(n))) for n in numbers]


def filled(*numbers: int, replay: int = 1000, replay_bytes: int = 1_000_000) -> Ring:
    ring = Ring(replay, replay_bytes)
    ring.append(numbered(*numbers))
    return ring


def kept(ring: Ring) -> list[str]:
    return [event.data for event in ring.events()]


def test_the_oldest_entries_are_dropped_when_there_are_too_many() -> None:
    ring = filled(1, 2, 3, replay=3)
    ring.append(numbered(4, 5))
    assert kept(ring) == ["3", "4", "5"]
    assert (ring.start, ring.end) == (2, 5)


def test_the_oldest_entries_are_dropped_when_they_are_too_large() -> None:
    size = len(numbered(1)[0].encoded)
    ring = filled(1, 2, 3, 4, replay_bytes=3 * size)
    assert kept(ring) == ["2", "3", "4"]
    assert ring.size == 3 * size


def test_the_newest_entry_is_kept_whatever_its_size() -> None:
    ring = filled(1, 2, replay_bytes=1)
    assert kept(ring) == ["2"]
    ring.append([entry_after("2", SSEEvent("x" * 1000))])
    assert kept(ring) == ["x" * 1000]


def test_an_entry_is_found_by_its_id_also_after_it_was_dropped() -> None:
    ring = filled(*range(10), replay=3)
    assert [ring.find(str(number)) for number in (0, 7, 9, 10)] == [0, 7, 9, None]


def test_an_entry_is_found_by_id_and_content() -> None:
    ring = filled(1)
    assert ring.find("1", SSEEvent("1", id="1")) == 0
    assert ring.find("1", SSEEvent("other", id="1")) is None
    assert ring.find("1", SSEEvent("1", "type", id="1")) is None


def test_an_id_that_came_twice_identifies_nothing() -> None:
    ring = filled(1, 2, 1, 3)
    assert [ring.find(str(number)) for number in (1, 2, 3)] == [None, 1, 3]


def test_the_number_of_remembered_ids_is_bounded() -> None:
    ring = filled(replay=8)
    for number in range(3 * REMEMBERED):
        ring.append(numbered(number, number))
    assert len(ring._known) <= (8 + REMEMBERED) * 9 // 8
    assert len(ring._repeated) <= len(ring._known)
    assert ring.find("0") is None


def test_the_first_id_is_before_the_first_entry() -> None:
    ring = Ring(10, 1000, "from before")
    assert ring.find("from before") == -1
    assert ring.id_before(0) == "from before"
    assert ring.last_id == "from before"


def test_the_id_before_a_position() -> None:
    ring = filled(1, 2, 3, 4, replay=2)
    assert [ring.id_before(position) for position in (2, 3, 4)] == ["2", "3", "4"]


@pytest.mark.parametrize(("count", "position"), [(0, 5), (1, 4), (2, 2), (3, 1), (9, 1)])
def test_the_position_of_the_last_events(count: int, position: int) -> None:
    ring = Ring(4, 1000)
    ring.append([*numbered(1, 2, 3), entry_of_gap("3", ""), *numbered(4)])
    assert ring.back(count) == position


def test_an_event_without_an_id_has_no_key() -> None:
    first = entry_after("", SSEEvent("a", id="1", last_event_id="1"))
    second = entry_after("1", SSEEvent("b", last_event_id="1"))
    assert (first.key, second.key) == ("1", "")
    assert (first.id, second.id) == ("1", "1")


def test_an_id_set_by_an_earlier_block_belongs_to_the_next_event() -> None:
    entry = entry_after("1", SSEEvent("a", last_event_id="2"))
    assert (entry.id, entry.key, entry.encoded) == ("2", "2", b"id: 2\ndata: a\n\n")


def test_the_bytes_of_a_gap() -> None:
    known, unknown = entry_of_gap("1", "7"), entry_of_gap("1", "")
    assert known.encoded == b"event: stream-reset\nid: 7\ndata: \n\n"
    assert unknown.encoded == b"event: stream-reset\ndata: \n\n"
    assert (known.id, unknown.id) == ("7", "1")
    assert (known.item, unknown.item) == (Gap("1", "7"), Gap("1", ""))


def test_gaps_are_counted() -> None:
    ring = filled(1)
    ring.append([entry_of_gap("1", "")])
    assert ring.gaps == 1


def test_closing_drops_all_entries() -> None:
    ring = filled(1, 2)
    ring.close()
    assert ring.closed
    assert ring.append(numbered(3)) == []
    assert (kept(ring), ring.size, ring.start) == ([], 0, ring.end)
