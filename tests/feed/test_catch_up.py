"""Resuming: from the ring, by a connection of its own, or with a gap that is reported."""

from __future__ import annotations

import gc
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import Gap, SSEClient, SSEEvent
from sseclient_dual.feed import catch_up
from sseclient_dual.feed.catch_up import Turn, Turns
from sseclient_dual.feed.engine import Run
from sseclient_dual.feed.ring import Entry
from sseclient_dual.reader import Reader
from sseclient_dual.testing import CUT, HANG, Gate, ReceivedRequest, Reply, SSEServer, status, stream
from sseclient_dual.waiting import ThreadWaiter
from support.apis import Ended
from support.journals import Journal
from support.policies import QUICK
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sseclient_dual import SharedFeed
    from sseclient_dual.testing import Step
    from support.apis import Api


def data(signals: list[Any]) -> list[str]:
    return [signal.data if isinstance(signal, SSEEvent) else "gap" for signal in signals]


def numbers(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


@contextmanager
def opened(api: Api, client: SSEClient, server: SSEServer, journal: Journal, **options: Any) -> Iterator[SharedFeed]:
    """Yield an open feed whose ring holds only event 20, unless `replay` says otherwise."""
    feed = client.share(server.url, **{"replay": 1, **options})
    with api.enter(feed.subscribe()):
        journal.wait_for_answers(1)
        journal.publish(20 - journal.published)
        wait_until(lambda: feed.stats.kept == min(20, options.get("replay", 1)) and feed.stats.events > 0)
        wait_until(lambda: feed._upstream.ring.last_id in {"20", ""} and feed.stats.events >= 20 - start_of(server))
        yield feed


def start_of(server: SSEServer) -> int:
    asked = server.requests[0].last_event_id
    return int(asked) if asked else 0


# -- from the ring


@pytest.mark.parametrize("last_id", range(9, 21))
def test_an_id_in_the_ring_is_resumed_without_a_connection(api: Api, last_id: int) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        with opened(api, client, server, journal, replay=12) as feed:
            with api.enter(feed.subscribe(str(last_id), history=5)) as subscription:  # the id wins
                assert subscription.last_event_id == str(last_id)
                journal.publish()
                assert data(api.take(subscription, 21 - last_id)) == numbers(last_id + 1, 21)
                assert subscription.last_event_id == "21"
            assert feed.stats.catch_ups == 0
    assert len(server.requests) == 1


def test_events_without_an_id_are_not_skipped_when_resuming_by_the_id_before_them(api: Api) -> None:
    script = "id: 1\ndata: a\n\ndata: b\n\ndata: c\n\nid: 2\ndata: d\n\n"
    with SSEServer(stream(script, HANG)) as server, api.client() as client:
        feed = client.share(server.url)
        with api.enter(feed.subscribe()) as first:
            api.take(first, 3)
            assert first.last_event_id == "1"
            assert data(api.take(feed.subscribe(first.last_event_id), 3)) == ["b", "c", "d"]


def test_history_gives_the_last_kept_events_first(api: Api) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        with opened(api, client, server, journal, replay=10) as feed:
            few, many = feed.subscribe(history=3), feed.subscribe("", history=100)
            assert [few.last_event_id, many.last_event_id] == ["17", "10"]
            assert data(api.take(few, 3)) == numbers(18, 20)
            assert data(api.take(many, 10)) == numbers(11, 20)


def test_an_id_is_taken_as_latin_1_and_as_utf_8(api: Api) -> None:
    with SSEServer(stream("id: №1\ndata: a\n\nid: é\ndata: b\n\nid: Ã©\ndata: c\n\n", HANG)) as server:
        with api.client() as client:
            feed = client.share(server.url)
            with api.enter(feed.subscribe()) as first:
                api.take(first, 3)
                for form in ("№1", "№1".encode().decode("latin-1")):
                    assert api.next(feed.subscribe(form)).data == "b"
                assert api.next(feed.subscribe("é")).data == "c"
                assert feed.subscribe("Ã©").last_event_id == "Ã©"  # it is in the ring as it is


def test_the_first_id_is_resumed_from_the_beginning(api: Api) -> None:
    journal = Journal()
    journal.published = 5
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url, last_event_id="3")
        assert data(api.take(feed.subscribe("3"), 2)) == ["4", "5"]
    assert len(server.requests) == 1


# -- by a connection


@pytest.mark.parametrize("repeat", [0, 1, 3])
@pytest.mark.parametrize("last_id", [1, 10, 18])
def test_an_older_id_is_resumed_by_a_connection_that_is_closed_afterwards(
    api: Api, last_id: int, repeat: int
) -> None:
    journal = Journal(repeat=repeat)
    with SSEServer(default=journal) as server, api.client() as client:
        with opened(api, client, server, journal) as feed, api.enter(feed.subscribe(str(last_id))) as subscription:
            signals = api.signals(subscription)
            assert data(signals.take(20 - last_id)) == numbers(last_id + 1, 20)
            server.wait_for_connections(1)
            for number in numbers(21, 23):
                journal.publish()
                assert data(signals.take(1)) == [number]
            assert feed.stats.catch_ups == 1
            assert feed.stats.gaps == 0
    assert [request.last_event_id for request in server.requests] == [None, str(last_id)]


def test_a_consumer_that_falls_out_of_the_ring_catches_up(api: Api) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url, replay=2)
        with api.enter(feed.subscribe()) as slow:
            journal.wait_for_answers(1)
            journal.publish()
            assert api.next(slow).data == "1"
            for count in (10, 20, 30):
                journal.publish(10)
                wait_until(lambda: feed.stats.events == journal.published)
                assert data(api.signals(slow).take(10)) == numbers(count - 8, count + 1)
            assert feed.stats.catch_ups == 3
            assert feed.stats.gaps == 0


def test_a_catch_up_delivers_events_without_ids(api: Api) -> None:
    script = "id: 2\ndata: b\n\ndata: c\n\nid: 3\ndata: d\n\n"
    replies = stream("id: 1\ndata: a\n\n", script, HANG), stream(script, HANG)
    with SSEServer(*replies) as server, api.client() as client:
        feed = client.share(server.url, replay=1)
        with api.enter(feed.subscribe()):
            wait_until(lambda: feed.stats.events == 4)
            with api.enter(feed.subscribe("1")) as subscription:
                assert data(api.signals(subscription).take(3)) == ["b", "c", "d"]
            assert feed.stats.gaps == 0


def test_on_a_quiet_stream_the_catch_up_joins_with_the_next_event(api: Api) -> None:
    journal = Journal()
    journal.published = 5
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url)  # with nothing in its ring
        with api.enter(feed.subscribe()) as live, api.enter(feed.subscribe("3")) as subscription:
            assert data(api.take(subscription, 2)) == ["4", "5"]
            journal.wait_for_answers(2)
            journal.publish(2)
            assert data(api.signals(subscription).take(2)) == ["6", "7"]
            wait_until(lambda: feed.stats.events == 2)
            with pytest.raises(TimeoutError):
                api.recv(subscription, 0.05)
            server.wait_for_connections(1)
            assert data(api.take(live, 2)) == ["6", "7"]
            assert feed.stats.gaps == 0


def test_an_id_that_the_shared_connection_has_not_received_yet_is_resumed(api: Api) -> None:
    """The browser comes from a process that was ahead of this one."""
    gate = Gate()
    ahead = Journal()
    ahead.published = 9
    steps: list[Step] = ["id: 1\ndata: 1\n\n", gate, [f"id: {n}\ndata: {n}\n\n" for n in range(2, 10)], HANG]
    with SSEServer(stream(*steps), default=ahead) as server, api.client() as client:
        feed = client.share(server.url)
        with api.enter(feed.subscribe()) as live:
            api.next(live)
            with api.enter(feed.subscribe("7")) as subscription:
                assert data(api.signals(subscription).take(2)) == ["8", "9"]
                gate.open()
                wait_until(lambda: feed.stats.events == 9)
                with pytest.raises(TimeoutError):
                    api.recv(subscription, 0.05)
                server.wait_for_connections(1)
                assert feed.stats.gaps == 0


def test_without_an_event_that_both_connections_have_the_catch_up_stays_alone(api: Api) -> None:
    gate = Gate()
    with (
        SSEServer(
            stream("id: 5\ndata: 5\n\n", gate, "id: 6\ndata: 6\n\nid: 7\ndata: 7\n\n", HANG),
            stream("id: 4\ndata: 4\n\nid: x\ndata: x\n\n", HANG),
        ) as server,
        api.client() as client,
    ):
        feed = client.share(server.url)
        with api.enter(feed.subscribe()) as live, api.enter(feed.subscribe("3")) as subscription:
            api.next(live)
            assert data(api.take(subscription, 2)) == ["4", "x"]
            gate.open()
            api.take(live, 2)
            with pytest.raises(TimeoutError):
                api.recv(subscription, 0.05)
            server.wait_for_connections(2)


def test_equal_ids_of_different_events_are_no_place_to_join(api: Api) -> None:
    """The server has restarted its numbering."""
    gate = Gate()
    old, new = "id: 1\ndata: old\n\n", "id: 1\ndata: new\n\nid: 2\ndata: 2\n\n"
    with SSEServer(stream(old, gate, new, HANG), stream(new, HANG)) as server, api.client() as client:
        feed = client.share(server.url)
        with api.enter(feed.subscribe()) as live, api.enter(feed.subscribe("0")) as subscription:
            api.next(live)
            signals = api.signals(subscription)
            assert data(signals.take(2)) == ["new", "2"]
            gate.open()
            api.take(live, 2)
            assert isinstance(signals.next(), Gap)  # "old" came before them
            assert subscription.last_event_id == "2"


# -- gaps


def test_an_upstream_that_cannot_replay_gives_a_gap(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(replays=False)
    with SSEServer(default=journal) as server, api.client() as client:
        with opened(api, client, server, journal, replay=3) as feed, api.enter(feed.subscribe("5")) as subscription:
            with pytest.raises(TimeoutError):
                api.recv(subscription, 0.05)
            journal.wait_for_answers(2)
            journal.publish(2)
            assert api.signals(subscription).take(2) == [Gap("5", "20"), SSEEvent("21", id="21")]
            assert api.next(subscription).data == "22"
            assert feed.stats.gaps == 1
    assert "a subscription misses events" in caplog.text


def test_an_upstream_that_replays_only_some_events_gives_a_gap(api: Api) -> None:
    journal = Journal()
    journal.published = 20
    with (
        SSEServer(journal, stream("".join(map(journal.event, range(18, 21))), HANG)) as server,
        api.client() as client,
    ):
        feed = client.share(server.url, replay=5, last_event_id="0")
        with api.enter(feed.subscribe()):
            wait_until(lambda: feed.stats.events == 20)
            signals = api.signals(feed.subscribe("9"))
            assert signals.take(2) == [Gap("9", "17"), SSEEvent("18", id="18")]


def test_a_gap_is_found_even_if_the_catch_up_is_ahead(api: Api) -> None:
    """The first event of the catch-up arrives before the shared connection has it."""
    gate = Gate()
    first, others = "id: 1\ndata: 1\n\n", "".join(f"id: {n}\ndata: {n}\n\n" for n in range(2, 8))
    with SSEServer(stream(first, gate, others, HANG), stream("id: 7\ndata: 7\n\n", HANG)) as server:
        with api.client() as client:
            feed = client.share(server.url, replay=2)
            with api.enter(feed.subscribe()) as live:
                api.next(live)
                with api.enter(feed.subscribe("0")) as subscription:
                    signals = api.signals(subscription)
                    assert data(signals.take(1)) == ["7"]
                    gate.open()
                    wait_until(lambda: feed.stats.events == 7)
                    assert signals.next() == Gap("7", "7")


def test_a_gap_is_reported_before_the_first_event_after_it(api: Api) -> None:
    """The catch-up receives that event first, but the feed knows which one should have come."""
    journal = Journal()
    steps: list[Step] = ["id: 99\ndata: 99\n\n", HANG]
    with SSEServer(journal, stream(*steps)) as server, api.client() as client:
        with opened(api, client, server, journal, replay=3) as feed, api.enter(feed.subscribe("5")) as subscription:
            assert api.signals(subscription).next() == Gap("5", "20")
            journal.publish()
            assert api.next(subscription).data == "21"


def test_a_replay_with_a_hole_gives_a_gap(api: Api) -> None:
    journal = Journal()
    hole = stream("".join(journal.event(number) for number in (6, 7, 9, 10)), HANG)
    with SSEServer(journal, hole) as server, api.client() as client:
        with opened(api, client, server, journal, replay=3) as feed, api.enter(feed.subscribe("5")) as subscription:
            signals = api.signals(subscription)
            assert data(signals.take(3)) == ["6", "7", "gap"]
            journal.publish()
            assert data(signals.take(1)) == ["21"]
            assert feed.stats.gaps == 1


@pytest.mark.parametrize("receive", ["next", "recv"])
def test_a_gap_is_no_event(api: Api, receive: str) -> None:
    journal = Journal()
    with SSEServer(journal, status(404)) as server, api.client() as client:
        with opened(api, client, server, journal) as feed:
            with api.enter(feed.subscribe("5", history=1)) as subscription:
                assert getattr(api, receive)(subscription).data == "20"


@pytest.mark.parametrize("code", [404, 204])
def test_a_refused_catch_up_is_a_gap_for_that_subscription_alone(api: Api, code: int) -> None:
    journal = Journal()
    with SSEServer(journal, status(code)) as server, api.client() as client:
        with opened(api, client, server, journal) as feed, api.enter(feed.subscribe("3")) as subscription:
            signals = api.signals(subscription)
            assert signals.next() == Gap("3", "20")
            journal.publish()
            assert data(signals.take(1)) == ["21"]
            assert feed.stats.subscribers == 2
            assert not feed.ended


def test_after_a_gap_the_subscription_begins_with_its_history(api: Api) -> None:
    journal = Journal()
    with SSEServer(journal, status(404)) as server, api.client() as client:
        with opened(api, client, server, journal, replay=5) as feed:
            with api.enter(feed.subscribe("unknown", history=2)) as subscription:
                assert data(api.signals(subscription).take(3)) == ["gap", "19", "20"]


def test_an_upstream_without_ids_gives_a_gap_at_once(api: Api) -> None:
    journal = Journal(sends_ids=False)
    with SSEServer(default=journal) as server, api.client() as client:
        with opened(api, client, server, journal) as feed, api.enter(feed.subscribe("3")) as subscription:
            assert api.signals(subscription).next() == Gap("3", "")
            assert subscription.last_event_id == "3"  # so that resuming by it tells the gap again
    assert len(server.requests) == 1


def test_the_last_event_of_the_stream_ends_a_catch_up_without_a_gap(api: Api) -> None:
    journal = Journal()
    rest = stream("".join(map(journal.event, range(6, 30))), "data: [DONE]\n\n", HANG)
    with SSEServer(journal, rest) as server, api.client() as client:
        feed = client.share(server.url, until="[DONE]")
        with api.enter(feed.subscribe()), api.enter(feed.subscribe("5")) as subscription:
            journal.wait_for_answers(1)
            assert data(api.signals(subscription).rest()) == numbers(6, 29)
            assert feed.stats.gaps == 0


def test_a_slow_consumer_without_ids_is_told_of_a_gap(api: Api) -> None:
    journal = Journal(sends_ids=False)
    with SSEServer(default=journal) as server, api.client() as client:
        with opened(api, client, server, journal, replay=2) as feed:
            with api.enter(feed.subscribe()) as slow:
                journal.publish(5)
                wait_until(lambda: feed.stats.events == 25)
                signals = api.signals(slow)
                assert signals.next() == Gap("", "")
                journal.publish()
                assert data(signals.take(1)) == ["26"]


def test_a_post_is_not_repeated_to_catch_up(api: Api) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        with opened(api, client, server, journal, data=b"question") as feed:
            assert api.signals(feed.subscribe("3")).next() == Gap("3", "20")
    assert len(server.requests) == 1


def test_a_post_is_repeated_if_it_may_be(api: Api) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        with opened(api, client, server, journal, data=b"question", reconnect=True) as feed:
            assert data(api.take(feed.subscribe("18"), 2)) == ["19", "20"]


def test_after_the_end_an_older_id_gives_a_gap(api: Api) -> None:
    journal = Journal()
    gate = Gate()
    replies = [stream("".join(map(journal.event, range(1, 6))), gate), status(204)]
    with SSEServer(*replies) as server, api.client(policy=QUICK) as client:
        feed = client.share(server.url, replay=2)
        with api.enter(feed.subscribe()) as slow:
            wait_until(lambda: feed.stats.events == 5)
            gate.open()
            wait_until(lambda: feed.ended)
            assert data(api.signals(slow).rest()) == ["gap"]
        assert data(api.signals(feed.subscribe("4")).rest()) == ["5"]
    assert len(server.requests) == 2


def test_a_subscription_that_is_closed_while_its_catch_up_begins(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another thread or a signal handler, at any point."""
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        with opened(api, client, server, journal) as feed:
            for owner, name in ((feed._upstream, "catch_up"), (feed._upstream._turns, "admit")):
                subscription = feed.subscribe("5")
                original = getattr(owner, name)

                def closing(*args: Any, original: Any = original, subscription: Any = subscription) -> Any:
                    result = original(*args)
                    subscription.close()
                    return result

                monkeypatch.setattr(owner, name, closing)
                with pytest.raises(Ended):
                    api.next(subscription)
                monkeypatch.setattr(owner, name, original)
                assert feed._upstream._turns.running == []
            server.wait_for_connections(1)
            assert feed.stats.gaps == 0


def test_a_catch_up_without_a_thread_is_an_error_and_keeps_no_place(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no thread can be started")

    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        with opened(api, client, server, journal) as feed, api.enter(feed.subscribe("18")) as subscription:
            with monkeypatch.context() as patch:
                patch.setattr(Reader, "start", fail)
                with pytest.raises(RuntimeError, match="no thread can be started"):
                    api.next(subscription)
            assert feed._upstream._turns.running == []
            assert data(api.take(subscription, 2)) == ["19", "20"]


# -- places


def test_an_entry_that_was_not_taken_is_returned_again() -> None:
    """A signal handler has interrupted the consumer, before it could get the entry."""
    journal = Journal()
    journal.published = 5
    with SSEServer(default=journal) as server, SSEClient() as client:
        feed = client.share(server.url)
        with feed.subscribe("0") as subscription:
            journal.wait_for_answers(1)
            assert next(subscription).data == "1"
            way = subscription._catch_up
            assert way is not None
            waiter = ThreadWaiter()
            wait_until(lambda: way.poll(waiter, subscription._taken) is not None)
            entry = way.poll(waiter, subscription._taken)
            assert isinstance(entry, Entry)
            assert way.poll(waiter, subscription._taken) is entry
            assert [next(subscription).data for _ in range(4)] == ["2", "3", "4", "5"]


def test_a_turn_that_was_interrupted_while_it_opened_keeps_its_place() -> None:
    with SSEClient() as client:
        template = client.share("http://127.0.0.1/")._upstream._template
        turns, waiter = Turns(1), ThreadWaiter()
        turn, other = Turn(turns, template.another()), Turn(turns, template.another())
        assert turns.admit(turn, waiter)
        assert not turns.admit(other, waiter)
        assert turns.admit(turn, waiter)
        turn.end()
        assert turns.admit(other, waiter)
        other.end()
        assert Run().failure is None  # that of an engine without connections


def test_only_a_few_catch_ups_run_at_once(api: Api) -> None:
    journal = Journal()
    journal.published = 5
    with SSEServer(default=journal) as server, api.client() as client, ExitStack() as stack:
        feed = client.share(server.url, max_catch_ups=2)
        stack.enter_context(api.enter(feed.subscribe()))
        journal.wait_for_answers(1)
        waiting = [stack.enter_context(api.enter(feed.subscribe(str(number)))) for number in range(4)]
        for number in (0, 1):
            assert api.next(waiting[number]).data == str(number + 1)
        for number in (2, 3):
            with pytest.raises(TimeoutError):
                api.recv(waiting[number], 0.02)
        assert len(server.requests) == 3
        api.close(waiting[0])  # which makes place
        assert api.next(waiting[3]).data == "4"
        journal.publish()  # which all have in common
        wait_until(lambda: feed.stats.events == 1)
        for number in (1, 2, 3):
            assert data(api.take(waiting[number], 6 - int(waiting[number].last_event_id)))[-1] == "6"
        assert feed.stats.gaps == 0


def test_a_slow_catch_up_makes_place_and_loses_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catch_up, "TURN", 0.0)
    journal = Journal(repeat=2)
    journal.published = 50
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url, max_catch_ups=1)
        with (
            api.enter(feed.subscribe()),
            api.enter(feed.subscribe("0")) as one,
            api.enter(feed.subscribe("10")) as two,
        ):
            journal.wait_for_answers(1)
            received: dict[Any, list[str]] = {one: [], two: []}
            for _ in range(10):
                for each in received:
                    received[each] += data(api.take(each, 3))
            assert received[one] == numbers(1, 30)
            # This process has not received events 9 and 10, so they are not known.
            assert received[two] == numbers(9, 38)
            assert len(server.requests) > 10
            journal.publish()
            assert data(api.signals(one).take(21)) == numbers(31, 51)
            assert data(api.signals(two).take(13)) == numbers(39, 51)
            assert feed.stats.gaps == 0


def test_a_catch_up_that_waits_for_its_turn_begins_when_another_ends(api: Api) -> None:
    journal = Journal()
    journal.published = 5
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url, max_catch_ups=1)
        with api.enter(feed.subscribe()), feed.subscribe("0") as first, api.enter(feed.subscribe("2")) as second:
            journal.wait_for_answers(1)
            assert next(first).data == "1"

            def end_first() -> None:
                wait_until(lambda: len(feed._upstream._turns._queue) == 1)
                first.close()

            thread = threading.Thread(target=end_first)
            thread.start()
            assert api.next(second).data == "3"
            thread.join()


def test_a_place_that_is_left_by_the_next_one_is_offered_to_another(api: Api) -> None:
    journal = Journal()
    journal.published = 5
    with SSEServer(default=journal) as server, SSEClient() as client:
        feed = client.share(server.url, max_catch_ups=1)
        with feed.subscribe(), feed.subscribe("0") as first, feed.subscribe("1") as second:
            journal.wait_for_answers(1)
            assert next(first).data == "1"
            turns = feed._upstream._turns
            thread = threading.Thread(target=lambda: list(second))
            thread.start()
            wait_until(lambda: len(turns._queue) == 1)
            with api.enter(feed.subscribe("2")) as third:
                with pytest.raises(TimeoutError):
                    api.recv(third, 0.01)
                second.close()
                thread.join()
                first.close()
                assert api.next(third).data == "3"


def test_a_dropped_catch_up_closes_its_connection_and_makes_place(api: Api) -> None:
    journal = Journal()
    journal.published = 5
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url, max_catch_ups=1)
        with api.enter(feed.subscribe()):
            journal.wait_for_answers(1)
            subscription = feed.subscribe("0")
            api.next(subscription)
            del subscription
            gc.collect()
            with api.enter(feed.subscribe("1")) as other:
                assert api.next(other).data == "2"
            server.wait_for_connections(1)


def test_closing_the_feed_closes_its_catch_ups(api: Api) -> None:
    journal = Journal()
    journal.published = 5
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url)
        subscription = feed.subscribe("0")
        assert api.next(subscription).data == "1"
        server.wait_for_connections(2)
        with api.enter(feed):
            pass
        server.wait_for_connections(0)
        assert api.rest(subscription) == []


def test_a_failing_upstream_is_raised_from_a_catch_up_too(api: Api) -> None:
    gate = Gate()

    def answer(request: ReceivedRequest) -> Reply:
        return status(404) if request.last_event_id == "1" else stream("id: 8\ndata: 8\n\n", HANG)

    with SSEServer(stream("id: 1\ndata: 1\n\n", gate, CUT), default=answer) as server:
        with api.client(policy=QUICK) as client:
            feed = client.share(server.url)
            with api.enter(feed.subscribe()) as live, api.enter(feed.subscribe("7")) as subscription:
                api.next(live)
                assert api.next(subscription).data == "8"
                gate.open()
                with pytest.raises(Exception, match="404"):
                    api.next(subscription)
                with pytest.raises(Exception, match="404"):
                    api.next(live)
