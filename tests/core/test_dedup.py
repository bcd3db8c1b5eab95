"""De-duplication: dropping the events that a server sends again after a reconnect."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sseclient_dual.dedup import Deduplicator
from sseclient_dual.event import SSEEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


# --- rules --------------------------------------------------------------------------------------------------


def ticks(*ids: str | None, data: str = "tick", event: str | None = None) -> list[SSEEvent]:
    return [SSEEvent(data, event, id) for id in ids]  # noqa: A001 - the standard's name for it


def delivered(dedup: Deduplicator, *connections: Iterable[SSEEvent]) -> list[SSEEvent]:
    """Return the events that remain after de-duplication of several connections; `dedup` already uses the first one.

    Check that the result does not depend on the batch size.
    """
    in_batches = [batched(copy.deepcopy(dedup), size, connections) for size in (1, 2, 3, 1000)]
    kept: list[SSEEvent] = []
    for number, events in enumerate(connections):
        if number:
            dedup.reconnected()
        for event in events:
            if not dedup.is_duplicate(event):
                dedup.delivered(event)
                kept.append(event)
    assert in_batches == [kept] * len(in_batches)
    return kept


def batched(dedup: Deduplicator, size: int, connections: Iterable[Iterable[SSEEvent]]) -> list[SSEEvent]:
    kept: list[SSEEvent] = []
    for number, connection in enumerate(connections):
        if number:
            dedup.reconnected()
        events = list(connection)
        for start in range(0, len(events), size):
            new = [
                item
                for item in dedup.without_duplicates([*events[start : start + size]])
                if isinstance(item, SSEEvent)
            ]
            if new:
                dedup.delivered(new[-1])
            kept += new
    return kept


@pytest.mark.parametrize("ids", [[None, None, None], ["1", "1", "1"], ["1", None, "1"], ["1", "2", "3"], ["", ""]])
def test_no_event_is_dropped_on_the_first_connection(ids: list[str | None]) -> None:
    assert delivered(Deduplicator(10), ticks(*ids)) == ticks(*ids)


def test_equal_events_after_a_reconnect_are_kept_if_the_first_one_is_new() -> None:
    assert delivered(Deduplicator(10), ticks("1"), ticks("2", None, None, "3")) == ticks("1", "2", None, None, "3")


def test_an_event_delivered_by_an_earlier_connection_is_dropped() -> None:
    replay = [ticks("1", "2", "3"), ticks("2", "3", "4"), ticks("1", "2", "3", "4", "5"), ticks("5", "6")]
    assert delivered(Deduplicator(10), *replay) == ticks("1", "2", "3", "4", "5", "6")


@pytest.mark.parametrize("other", [ticks("1", data="tock"), ticks("1", event="other")])
def test_the_same_id_with_other_content_is_a_new_event(other: list[SSEEvent]) -> None:
    assert delivered(Deduplicator(10), ticks("1"), other) == ticks("1") + other


def test_an_explicit_type_message_equals_the_default_type() -> None:
    assert delivered(Deduplicator(10), ticks("1"), ticks("1", event="message")) == ticks("1")


def test_the_same_id_with_other_content_clears_the_window() -> None:
    renumbered = [SSEEvent("new", id="1"), *ticks("2", "3")]
    assert delivered(Deduplicator(10), ticks("1", "2", "3"), renumbered) == [*ticks("1", "2", "3"), *renumbered]


def test_a_cleared_window_fills_again() -> None:
    renumbered = [SSEEvent("new", id="1"), *ticks("2")]
    dedup = Deduplicator(10)
    assert delivered(dedup, ticks("1", "2"), renumbered, renumbered) == [*ticks("1", "2"), *renumbered]


def test_the_last_event_id_does_not_identify_an_event() -> None:
    first = SSEEvent("tick", id="1", last_event_id="1")
    others = [SSEEvent("tock", last_event_id="1"), SSEEvent("tick", last_event_id="1")]
    assert delivered(Deduplicator(10), [first], others) == [first, *others]


def test_a_repeated_id_on_one_connection_disables_dedup_by_id() -> None:
    answer = [SSEEvent("a", id="x"), SSEEvent("b", id="x")]
    dedup = Deduplicator(10)
    assert delivered(dedup, answer, answer, ticks("1"), ticks("1")) == [*answer, *answer, *ticks("1", "1")]


def test_a_repeated_id_on_a_later_connection_disables_dedup_by_id() -> None:
    connections = [ticks("1"), ticks("1", "1"), ticks("1")]
    assert delivered(Deduplicator(10), *connections) == ticks("1", "1", "1")


def test_the_same_id_on_several_connections_does_not_disable_dedup_by_id() -> None:
    assert delivered(Deduplicator(10), *[ticks("1", "2")] * 5) == ticks("1", "2")


@pytest.mark.parametrize("before", [ticks(None), ticks("1"), ticks("")])
@pytest.mark.parametrize("again", [ticks(None), ticks("")])
def test_the_first_event_after_a_reconnect_is_dropped_without_id_if_it_equals_the_last_one(
    before: list[SSEEvent], again: list[SSEEvent]
) -> None:
    assert delivered(Deduplicator(10), before, again + ticks(None)) == before + ticks(None)


@pytest.mark.parametrize("before", [ticks(None), ticks("1"), ticks("")])
def test_by_id_only_no_event_without_id_is_dropped(before: list[SSEEvent]) -> None:
    again = [*ticks(None), *ticks(""), *ticks("2"), *ticks(None)]
    dedup = Deduplicator(10, by_id_only=True)
    assert delivered(dedup, before, again, ticks("2")) == before + again


def test_later_events_without_id_are_kept_after_a_reconnect() -> None:
    before = ticks(None)
    others = [SSEEvent("other"), *ticks(None)]
    assert delivered(Deduplicator(10), before, others) == before + others
    with_id = [*ticks("1"), *ticks(None)]
    assert delivered(Deduplicator(10), before, with_id) == before + with_id


@pytest.mark.parametrize("other", [ticks(None, data="tock"), ticks(None, event="other")])
def test_the_first_event_after_a_reconnect_is_kept_if_it_differs(other: list[SSEEvent]) -> None:
    assert delivered(Deduplicator(10), ticks(None), other) == ticks(None) + other


def test_the_first_event_after_a_reconnect_is_compared_with_the_last_one_delivered() -> None:
    assert delivered(Deduplicator(10), ticks(None), [], [], ticks(None)) == ticks(None)
    assert delivered(Deduplicator(10), ticks(None), ticks(None), ticks(None)) == ticks(None)
    tock = SSEEvent("tock", id="2")
    again = [tock, SSEEvent("tock")]
    assert delivered(Deduplicator(10), [*ticks("1"), tock], again, [SSEEvent("tock")]) == [*ticks("1"), *again]
    tail = [SSEEvent("end"), *again, SSEEvent("end")]
    assert delivered(Deduplicator(10), [tock], tail, [SSEEvent("end")]) == [tock, tail[0], tail[2], tail[3]]


def test_the_very_first_event_is_kept() -> None:
    assert delivered(Deduplicator(10), [], ticks(None)) == ticks(None)


def test_the_window_holds_the_last_events_with_an_id() -> None:
    many = [SSEEvent(str(number), id=str(number)) for number in range(20)]
    without = [SSEEvent("no id")] * 50
    assert delivered(Deduplicator(10), many + without, many[10:]) == many + without
    assert delivered(Deduplicator(9), many, many[11:]) == many
    assert delivered(Deduplicator(9), many, [many[10]]) == [*many, many[10]]


def test_repeated_events_stay_in_the_window() -> None:
    many = [SSEEvent(str(number), id=str(number)) for number in range(20)]
    dedup = Deduplicator(10)
    assert delivered(dedup, many[:10], many[:10], many[:15], many[5:20], many[10:]) == many


def test_the_window_does_not_store_the_data_except_that_of_the_last_event() -> None:
    dedup = Deduplicator(1024)
    data = "x" * 1_000_000
    delivered(dedup, [SSEEvent(data + str(number), id=str(number)) for number in range(10)])
    assert len(pickle.dumps(dedup)) < 1_010_000
    dedup.reconnected()
    assert len(pickle.dumps(dedup)) < 10_000


def test_a_window_of_zero_drops_no_events_with_an_id() -> None:
    assert delivered(Deduplicator(0), ticks("1", "2"), ticks("1", "2")) == ticks("1", "2", "1", "2")


# --- retracted events ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [["1", "2", "3", "4"], [None, None, None, None], ["1", None, "3", None]])
@pytest.mark.parametrize("count", range(5))
def test_a_retracted_event_is_new_when_it_is_sent_again(ids: list[str | None], count: int) -> None:
    dedup = Deduplicator(10)
    events = [SSEEvent(f"tick {number}", id=event_id) for number, event_id in enumerate(ids)]
    assert not any(dedup.is_duplicate(event) for event in events)
    for event in events[:count]:
        dedup.delivered(event)
    dedup.retract(events[count:])
    dedup.reconnected()
    assert delivered(dedup, events[count:]) == events[count:]


def test_a_retraction_does_not_change_the_last_event_delivered() -> None:
    dedup = Deduplicator(10)
    events = [SSEEvent("a"), SSEEvent("b")]
    delivered(dedup, events[:1])
    assert not dedup.is_duplicate(events[1])
    dedup.retract(events[1:])
    dedup.reconnected()
    assert delivered(dedup, events) == events[1:]


def test_earlier_events_are_still_known_after_a_retraction() -> None:
    dedup = Deduplicator(10)
    delivered(dedup, ticks("1", "2", "3"))
    dedup.retract(iter(ticks("3")))
    dedup.reconnected()
    assert delivered(dedup, ticks("1", "2", "3")) == ticks("3")


def test_retracting_no_events_changes_nothing() -> None:
    dedup = Deduplicator(10)
    delivered(dedup, ticks("1"))
    dedup.retract([])
    dedup.reconnected()
    assert delivered(dedup, ticks("1", None)) == ticks(None)


# --- any events ---------------------------------------------------------------------------------------------

few_ids = st.sampled_from([None, "", "1", "2", "3"])
few_events = st.builds(SSEEvent, st.sampled_from(["a", "b"]), st.sampled_from([None, "x"]), few_ids)


@given(st.lists(few_events), st.integers(0, 5))
def test_no_event_is_dropped_within_one_connection(events: list[SSEEvent], window: int) -> None:
    assert delivered(Deduplicator(window), events) == events


@given(
    st.lists(st.sampled_from(["a", "b"]), max_size=40),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=10),
    st.booleans(),
)
def test_each_event_is_delivered_once_if_the_server_replays_any_suffix(
    contents: list[str], drops: list[tuple[int, int]], numbered: bool
) -> None:
    """A drop holds the number of events of one connection, and how many of them the next connection repeats."""
    events = [SSEEvent(data, id=str(number)) for number, data in enumerate(contents)]
    connections: list[Sequence[SSEEvent]] = []
    start = 0
    for length, repeated in drops:
        connections.append(events[start : start + length])
        start = max(0, min(start + length, len(events)) - repeated)
    connections.append(events[start:])
    assert delivered(Deduplicator(40), *connections) == events


@given(st.lists(st.lists(st.sampled_from(["a", "b"])), min_size=1, max_size=6))
def test_a_server_with_one_id_for_all_events_loses_no_events(contents: list[list[str]]) -> None:
    contents[0] = ["a", "a", *contents[0]]  # the repeated id turns off dedup by id
    connections = [[SSEEvent(data, id="x") for data in connection] for connection in contents]
    assert delivered(Deduplicator(10), *connections) == list(itertools.chain.from_iterable(connections))


@example([[SSEEvent("a", "x", "1")], [*[SSEEvent("a")] * 2, SSEEvent("a", id="2"), SSEEvent("a", "x", "1")]], 1)
@given(st.lists(st.lists(few_events), max_size=6), st.integers(0, 5))
def test_a_dropped_event_was_delivered_by_an_earlier_connection(
    connections: list[list[SSEEvent]], window: int
) -> None:
    dedup = Deduplicator(window)
    earlier: list[SSEEvent] = []
    for events in connections:
        kept = delivered(dedup, events)
        for event in events:
            if any(event is other for other in kept):
                continue
            equal_events = [old for old in earlier if (old.type, old.data) == (event.type, event.data)]
            if event.id:
                assert event.id in {old.id for old in equal_events}
            else:
                assert equal_events[-1] is earlier[-1]
                assert event is events[0]
        earlier += kept
        dedup.reconnected()


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_retracted_events_are_delivered_once_when_sent_again(batches: list[tuple[int, int]]) -> None:
    """Each batch starts with the events that were not queued before; only a part of each batch is queued."""
    dedup = Deduplicator(100)
    queued: list[SSEEvent] = []
    events = [SSEEvent("tick", id=str(number)) for number in range(100)]
    for size, accepted in batches:
        start = max(0, len(queued) - 2)  # the server also repeats the last two queued events
        kept = [event for event in events[start : len(queued) + size] if not dedup.is_duplicate(event)]
        queued += kept[:accepted]
        dedup.retract(kept[accepted:])
        dedup.reconnected()
    assert queued == events[: len(queued)]
