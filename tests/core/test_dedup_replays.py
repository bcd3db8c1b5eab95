"""De-duplication: replays that are longer than the window, and events that were not delivered after all."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sseclient_dual import ReconnectPolicy
from sseclient_dual.dedup import Deduplicator
from sseclient_dual.event import SSEEvent
from sseclient_dual.testing import CUT, HANG, SSEServer, stream
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sseclient_dual.testing import ReceivedRequest, Reply, Step
    from support.apis import Api


def history(start: int, end: int) -> list[SSEEvent]:
    """Return events that differ only in their ids."""
    return [SSEEvent("tick", id=str(number)) for number in range(start, end)]


def numbers(events: Sequence[object]) -> list[int]:
    return [int(event.id or "") for event in events if isinstance(event, SSEEvent)]


def deliver(dedup: Deduplicator, events: list[SSEEvent], batch: int, room: int | None = None) -> list[SSEEvent]:
    """Deliver `events` in batches as a reader does, until there is no room for more; return those delivered."""
    kept: list[SSEEvent] = []
    for start in range(0, len(events), batch):
        items = dedup.without_duplicates([*events[start : start + batch]])
        new = [item for item in items if isinstance(item, SSEEvent)]
        fit = new if room is None else new[: room - len(kept)]
        dedup.retract(new[len(fit) :])
        kept += fit
        if fit:
            dedup.delivered(fit[-1])
        if len(fit) < len(new):
            break
    return kept


def deliver_one_by_one(dedup: Deduplicator, events: list[SSEEvent]) -> list[SSEEvent]:
    kept = []
    for event in events:
        if not dedup.is_duplicate(event):
            dedup.delivered(event)
            kept.append(event)
    return kept


# -- the rules


@pytest.mark.parametrize("batch", [1, 3, 1000])
@pytest.mark.parametrize("length", [9, 10, 11, 30, 500])
def test_a_replay_of_the_whole_history_repeats_only_events_older_than_the_window(length: int, batch: int) -> None:
    dedup = Deduplicator(10)
    deliver(dedup, history(0, length), batch)
    dedup.reconnected()
    kept = deliver(dedup, history(0, length + 1), batch)
    assert numbers(kept) == [*range(max(0, length - 10)), length]


def test_the_window_keeps_the_order_of_delivery_after_an_interrupted_replay() -> None:
    dedup = Deduplicator(10)
    deliver(dedup, history(0, 20), 1000)
    dedup.reconnected()
    assert numbers(deliver(dedup, history(5, 15), 1000)) == [5, 6, 7, 8, 9]
    dedup.reconnected()
    # The last ten delivered are 15 to 19 and 5 to 9. The duplicates 10 to 14 do not count as delivered again.
    assert numbers(deliver(dedup, history(15, 21), 1000)) == [20]
    dedup.reconnected()
    assert numbers(deliver(dedup, history(6, 10), 1000)) == []


def test_new_events_before_a_replay_do_not_evict_the_remembered_ids() -> None:
    dedup = Deduplicator(10)
    deliver(dedup, history(0, 10), 1000)
    dedup.reconnected()
    assert deliver(dedup, history(100, 5000), 7) == history(100, 5000)
    assert deliver(dedup, history(0, 10), 7) == []


def test_memory_is_bounded_within_and_across_connections() -> None:
    dedup = Deduplicator(16)
    for connection in range(20):
        deliver(dedup, history(connection * 1000, connection * 1000 + 500), 5)
        assert len(dedup._earlier) <= 16
        assert len(dedup._current) <= 16 + 2
        dedup.reconnected()
    assert numbers(deliver(dedup, history(19_400, 19_500), 1000)) == list(range(19_400, 19_484))


@pytest.mark.parametrize("batch", [1, 1000])
def test_an_id_reused_after_more_events_than_the_window_does_not_disable_dedup_by_id(batch: int) -> None:
    dedup = Deduplicator(10)
    deliver(dedup, history(0, 5), batch)
    dedup.reconnected()
    assert deliver(dedup, history(0, 5), batch) == []
    assert deliver(dedup, history(5, 20), batch) == history(5, 20)
    # A server with few ids uses them again, long after their first use on this connection.
    assert deliver(dedup, history(0, 8), batch) == history(0, 8)
    dedup.reconnected()
    assert deliver(dedup, history(0, 9), batch) == history(8, 9)


@pytest.mark.parametrize("batch", [1, 1000])
def test_a_duplicate_repeated_on_one_connection_disables_dedup_by_id(batch: int) -> None:
    dedup = Deduplicator(10)
    deliver(dedup, history(0, 5), batch)
    dedup.reconnected()
    assert deliver(dedup, history(0, 5) + history(3, 4), batch) == history(3, 4)
    dedup.reconnected()
    assert deliver(dedup, history(0, 5), batch) == history(0, 5)


def test_undelivered_events_do_not_evict_the_ids_of_delivered_ones() -> None:
    dedup = Deduplicator(5)
    assert deliver(dedup, history(0, 30), 30, room=7) == history(0, 7)
    dedup.reconnected()
    assert deliver(dedup, history(2, 30), 28) == history(7, 30)


# -- any history, replay, window, batch size and queue

connections = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 50), st.none() | st.integers(0, 30)), max_size=8
)


@example([(0, 30, 50, None), (0, 40, 50, None)], 10)
@example([(0, 20, 50, None), (5, 10, 50, None), (15, 10, 50, None)], 10)
@example([(0, 30, 50, 7), (2, 30, 50, None)], 5)
@given(connections, st.integers(0, 40))
def test_any_replay_repeats_only_events_older_than_the_window(
    connections: list[tuple[int, int, int, int | None]], window: int
) -> None:
    """Each connection has a start in the history, a number of events, a batch size and room in the queue."""
    dedup = Deduplicator(window)
    delivered: list[int] = []
    for back, count, batch, room in connections:
        start = max(0, max(delivered, default=-1) + 1 - back)  # the server leaves no gap
        latest = list(dict.fromkeys(reversed(delivered)))[:window]  # the different ids delivered last
        expected = [number for number in range(start, start + count) if number not in latest][:room]
        assert numbers(deliver(dedup, history(start, start + count), batch, room)) == expected
        delivered += expected
        dedup.reconnected()


few_events = st.builds(SSEEvent, st.sampled_from(["a", "b"]), id=st.sampled_from([None, "", *"12345678"]))


@given(st.lists(st.lists(few_events, max_size=40), max_size=5), st.integers(0, 20), st.integers(1, 50))
def test_batches_and_single_events_give_the_same_result(
    connections: list[list[SSEEvent]], window: int, batch: int
) -> None:
    singly, in_batches = Deduplicator(window), Deduplicator(window)
    for events in connections:
        assert deliver(in_batches, events, batch) == deliver_one_by_one(singly, copy.copy(events))
        singly.reconnected()
        in_batches.reconnected()


# -- over sockets

TEN = ReconnectPolicy(retry_delay=10, jitter=0, dedup_window=10)


@pytest.mark.parametrize("flushed", [True, False])
def test_a_client_drops_the_replayed_events_of_the_window(api: Api, *, flushed: bool) -> None:
    def reply(end: int, last: Step) -> Reply:
        blocks = [event.encode() for event in history(0, end)]
        return stream(*(blocks if flushed else [b"".join(blocks)]), last)

    with (
        SSEServer(reply(30, CUT), reply(31, CUT), reply(32, HANG)) as server,
        api.client(policy=TEN) as client,
        api.connect(client, server.url) as conn,
    ):
        # On the second connection, the last ten are 20 to 29; on the third, 11 to 19 and 30.
        expected = [*range(30), *range(20), 30, *range(11), *range(20, 30), 31]
        assert numbers(api.take(conn, len(expected))) == expected
        assert conn.stats.duplicates == 20


def test_a_restart_inside_a_large_batch_delivers_each_event_once(api: Api) -> None:
    def reply(request: ReceivedRequest) -> Reply:
        start = max(0, int(request.last_event_id or 0) - 3)  # a server that repeats a little
        return stream(b"".join(event.encode() for event in history(start, 40)), HANG)

    with (
        SSEServer(default=reply) as server,
        api.client(policy=ReconnectPolicy(retry_delay=10, dedup_window=5)) as client,
        api.connect(client, server.url, queue_size=5) as conn,
    ):
        first = api.take(conn, 2)
        wait_until(lambda: conn.stats.events == 40)  # counted; more than the queue has room for
        conn.restart()
        server.wait_for_requests(2)
        assert numbers(first + api.take(conn, 38)) == list(range(40))
        assert conn.stats.duplicates == 4
