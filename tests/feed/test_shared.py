"""A shared feed: one connection and one parse, opening, lingering, resuming, errors, the end and closing."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
import weakref
from contextlib import ExitStack
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from urllib3.exceptions import InsecureRequestWarning

from sseclient_dual import (
    Feed,
    SharedFeed,
    SSEClient,
    SSEClosedError,
    SSEConnectionError,
    SSEEvent,
    SSEStatusError,
    Subscription,
)
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, status, stream
from support.apis import Ended
from support.journals import Journal
from support.policies import QUICK, QUICK_NO_DEDUP
from support.waiting import LONG, wait_until

if TYPE_CHECKING:
    from support.apis import Api


def data(events: list[Any]) -> list[str]:
    return [event.data for event in events]


def numbers(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


# -- one connection


def test_all_subscriptions_share_one_connection_and_its_events(api: Api) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client, ExitStack() as stack:
        feed = client.share(server.url)
        subscriptions = [stack.enter_context(api.enter(feed.subscribe())) for _ in range(20)]
        journal.wait_for_answers(1)
        journal.publish(3)
        received = [api.take(subscription, 3) for subscription in subscriptions]
        assert {tuple(data(events)) for events in received} == {("1", "2", "3")}
        assert {id(events[0]) for events in received} == {id(received[0][0])}  # parsed once
        assert feed.stats.subscribers == 20
        assert feed.stats.events == 3
    assert len(server.requests) == 1


def test_both_apis_share_a_feed() -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, SSEClient() as client:
        feed = client.share(server.url)
        with feed.subscribe() as subscription:
            journal.wait_for_answers(1)

            async def main() -> list[str]:
                async with feed.subscribe() as other:
                    journal.publish(2)
                    return [(await anext(other)).data for _ in range(2)]

            assert asyncio.run(main()) == ["1", "2"]
            assert [next(subscription).data for _ in range(2)] == ["1", "2"]


def test_an_event_is_encoded_once_for_all_relays(api: Api) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url)
        with api.relay_feed(feed) as one, api.relay_feed(feed) as other, api.enter(feed.subscribe()):
            journal.wait_for_answers(1)
            journal.publish()
            first, second = next(one), next(other)
            assert first == b"id: 1\ndata: 1\n\n"
            assert first is second


def test_a_slow_consumer_slows_neither_the_upstream_nor_the_others(api: Api) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url, replay=10)
        with api.enter(feed.subscribe()), api.enter(feed.subscribe()) as quick:
            journal.wait_for_answers(1)
            for number in range(1, 101):
                journal.publish()
                assert api.next(quick).data == str(number)
            assert feed.stats.kept == 10


def test_stalled_consumers_cost_no_memory_for_each_event() -> None:
    journal = Journal(suffix="x" * 1000)
    with SSEServer(default=journal) as server, SSEClient() as client, ExitStack() as stack:
        feed = client.share(server.url, replay=100)
        for _ in range(100):
            stack.enter_context(feed.subscribe())
        journal.wait_for_answers(1)
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        sizes = []
        for total in (5000, 8000):  # the first are more than de-duplication remembers
            journal.publish(total - journal.published)
            wait_until(lambda: feed.stats.events == total)
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
        assert feed.stats.subscribers == 100
        assert sizes[1] - sizes[0] < 500_000  # 3,000 events take 6,000,000


def test_a_subscription_begins_where_it_was_made(api: Api) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url)
        with api.enter(feed.subscribe()) as first:
            journal.wait_for_answers(1)
            journal.publish()
            api.next(first)
            later = feed.subscribe()
            journal.publish(2)
            api.take(first, 2)
            assert data(api.take(later, 2)) == ["2", "3"]  # although it waits only now


def test_no_request_is_sent_before_a_subscription_is_used(api: Api) -> None:
    with SSEServer(stream(HANG)) as server, api.client() as client:
        feed = client.share(server.url)
        subscription = feed.subscribe()
        relay = feed.relay()
        assert feed.stats.subscribers == 0
        relay.close()
        api.close(subscription)
        with pytest.raises(Ended):
            api.next(subscription)
    assert server.requests == []


def test_a_feed_is_a_feed() -> None:
    with SSEClient() as client:
        feed: Feed = client.share("http://127.0.0.1/")
        assert isinstance(feed, SharedFeed)
        assert isinstance(feed.subscribe(), Subscription)


# -- linger


def test_without_subscriptions_the_upstream_closes_and_the_next_one_resumes(api: Api) -> None:
    journal = Journal(repeat=2)
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url, linger=0)
        with api.enter(feed.subscribe()) as subscription:
            journal.wait_for_answers(1)
            journal.publish(3)
            assert data(api.take(subscription, 3)) == numbers(1, 3)
        server.wait_for_connections(0)
        journal.publish(2)
        with api.enter(feed.subscribe()) as subscription:
            # After a pause, the events that were missed come first, and those that are repeated do not come again.
            assert data(api.take(subscription, 2)) == numbers(4, 5)
        assert feed.stats.kept == 5
    assert [request.last_event_id for request in server.requests] == [None, "3"]


def test_the_upstream_stays_open_for_the_linger_time(api: Api) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url, linger=LONG)
        with api.enter(feed.subscribe()):
            journal.wait_for_answers(1)
        journal.publish()
        wait_until(lambda: feed.stats.events == 1)
        with api.enter(feed.subscribe(history=1)) as subscription:
            assert api.next(subscription).data == "1"
    assert len(server.requests) == 1


def test_a_subscription_during_the_linger_time_keeps_the_upstream_open(api: Api) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url, linger=0.2)
        with api.enter(feed.subscribe()):
            journal.wait_for_answers(1)
        run = feed._upstream.running
        assert run is not None
        with api.enter(feed.subscribe()) as subscription:
            deadline = feed._upstream.members.left_at + 0.2
            wait_until(lambda: run.watch.deadline is None or run.watch.deadline > deadline)
            journal.publish()
            assert api.next(subscription).data == "1"
        server.wait_for_connections(0)
    assert len(server.requests) == 1


def test_a_dropped_subscription_leaves() -> None:
    with SSEServer(default=stream(HANG)) as server, SSEClient() as client:
        feed = client.share(server.url, linger=0)
        subscription = feed.subscribe().__enter__()
        server.wait_for_requests(1)
        assert feed.stats.subscribers == 1
        del subscription
        gc.collect()
        assert feed.stats.subscribers == 0
        server.wait_for_connections(0)


def test_dropping_the_feed_and_its_subscriptions_closes_it() -> None:
    with SSEServer(default=Journal()) as server, SSEClient() as client:
        feed = client.share(server.url)
        subscription = feed.subscribe().__enter__()
        server.wait_for_requests(1)
        gone = weakref.ref(feed)
        del feed
        gc.collect()
        assert gone() is not None
        del subscription
        gc.collect()
        assert gone() is None
        server.wait_for_connections(0)


def test_a_subscription_that_comes_while_the_upstream_is_about_to_close_keeps_it_open(api: Api) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url, linger=0)
        upstream = feed._upstream
        subscription = feed.subscribe()
        pause = upstream.pause
        paused: list[bool] = []

        def pause_late(run: Any) -> bool:
            subscription._start()
            paused.append(pause(run))
            return paused[-1]

        upstream.pause = pause_late  # type: ignore[method-assign]
        with api.enter(feed.subscribe()):
            journal.wait_for_answers(1)
        wait_until(lambda: paused == [False])
        journal.publish()
        assert api.next(subscription).data == "1"
        upstream.pause = pause  # type: ignore[method-assign]
        api.close(subscription)
        server.wait_for_connections(0)
    assert len(server.requests) == 1


def test_a_reader_that_ends_after_the_feed_has_left_it_changes_nothing(api: Api) -> None:
    with SSEServer(default=Journal()) as server, api.client() as client:
        feed = client.share(server.url)
        with api.enter(feed.subscribe()) as subscription:
            server.wait_for_requests(1)
            run = feed._upstream.running
            assert run is not None
            assert (run.is_full, run.withdraw()) == (False, 0)
            feed.close()
            run.offer([SSEEvent("late")], run.watch)
            run.finish(None)
            assert run.end is None
            assert api.rest(subscription) == []


# -- errors and the end


def test_a_fatal_error_is_raised_once_in_each_subscription_and_the_next_one_tries_anew(api: Api) -> None:
    gate, journal = Gate(), Journal()
    with SSEServer(stream("id: 1\ndata: 1\n\n", gate, CUT), status(404), default=journal) as server:
        with api.client(policy=QUICK) as client:
            feed = client.share(server.url)
            subscriptions = [feed.subscribe() for _ in range(3)]
            assert data([api.next(each) for each in subscriptions]) == ["1"] * 3
            subscriptions.append(feed.subscribe())
            errors = []
            with api.enter(subscriptions[-1]):
                gate.open()
                for each in subscriptions:
                    with pytest.raises(SSEStatusError) as caught:
                        api.next(each)
                    errors.append(caught.value)
                    with pytest.raises(Ended):
                        api.next(each)
            assert {error.status for error in errors} == {404}
            assert len({id(error) for error in errors}) == 4  # raising changes an error
            assert feed.stats.subscribers == 0
            journal.published = 1
            with api.enter(feed.subscribe()) as anew:
                journal.publish()
                assert api.next(anew).data == "2"
    assert [request.last_event_id for request in server.requests] == [None, "1", "1"]


def test_the_error_of_a_callable_is_raised_even_if_it_cannot_be_copied(api: Api) -> None:
    class OddError(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(one + two)

    def fail() -> dict[str, str]:
        raise OddError(1, 2)

    with api.client() as client:
        feed = client.share("http://127.0.0.1:1/", headers=fail)
        for _ in range(2):
            with pytest.raises(OddError):
                api.next(feed.subscribe())


def test_the_cause_of_an_error_is_kept(api: Api) -> None:
    with SSEServer() as server, api.client() as client:
        server.refuse()
        feed = client.share(server.url, reconnect=False)
        with pytest.raises(SSEConnectionError) as caught:
            api.recv(feed.subscribe())
        assert caught.value.__cause__ is not None


def test_a_204_ends_all_subscriptions_for_good(api: Api) -> None:
    gate = Gate()
    with SSEServer(stream("id: 1\ndata: 1\n\n", gate), status(204)) as server, api.client(policy=QUICK) as client:
        feed = client.share(server.url)
        subscriptions = [feed.subscribe() for _ in range(3)]
        assert data([api.next(each) for each in subscriptions]) == ["1"] * 3
        assert not feed.ended
        gate.open()
        assert [api.rest(each) for each in subscriptions] == [[], [], []]
        assert feed.ended
        with pytest.raises(Ended):
            api.next(feed.subscribe())
        assert data(api.rest(feed.subscribe(history=5))) == ["1"]
        with pytest.raises(SSEClosedError, match="has ended"):
            api.recv(feed.subscribe())
    assert len(server.requests) == 2


def test_a_clean_end_without_reconnecting_ends_the_subscriptions(api: Api) -> None:
    replies = [stream(f"data: {text}\n\n", "data: [DONE]\n\n", HANG) for text in "ab"]
    with SSEServer(*replies) as server, api.client() as client:
        feed = client.share(server.url, until="[DONE]")
        assert data(api.rest(feed.subscribe())) == ["a"]
        assert not feed.ended
        assert data(api.rest(feed.subscribe())) == ["b"]
    assert len(server.requests) == 2


def test_after_a_drop_without_ids_all_subscriptions_are_told_of_a_gap(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    with SSEServer(stream("data: a\n\n", gate, CUT), stream("data: b\n\n", HANG)) as server:
        with api.client(policy=QUICK) as client:
            feed = client.share(server.url)
            first, second = feed.subscribe(), feed.subscribe()
            signals = api.signals(first)
            assert [api.next(second).data, getattr(signals.next(), "data", "")] == ["a", "a"]
            gate.open()
            assert [type(signal).__name__ for signal in signals.take(2)] == ["Gap", "SSEEvent"]
            assert api.next(second).data == "b"  # events only
            assert feed.stats.gaps == 1
            with api.relay_feed(feed, history=2) as relay:
                parts = [next(relay) for _ in range(3)]
            assert parts == [b"data: a\n\n", b"event: stream-reset\ndata: \n\n", b"data: b\n\n"]
    assert "may miss events" in caplog.text


def test_after_a_drop_with_ids_nothing_is_missing_or_doubled(api: Api) -> None:
    journal = Journal(repeat=3)
    with SSEServer(stream("id: 1\ndata: 1\n\nid: 2\ndata: 2\n\n", CUT), default=journal) as server:
        with api.client(policy=QUICK) as client:
            journal.published = 4
            feed = client.share(server.url)
            assert data(api.take(feed.subscribe(), 4)) == numbers(1, 4)
            assert feed.stats.gaps == 0
            assert feed.stats.reconnects == 1


def test_without_deduplication_events_come_again(api: Api) -> None:
    with SSEServer(default=Journal()) as server, api.client(policy=QUICK_NO_DEDUP) as client:
        feed = client.share(server.url, last_event_id="0")
        with api.enter(feed.subscribe()):
            server.wait_for_requests(1)
    assert server.requests[0].last_event_id == "0"


# -- closing


def test_closing_the_feed_ends_subscriptions_and_relays(api: Api) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url)
        subscription = feed.subscribe()
        with api.enter(subscription), api.relay_feed(feed, history=1) as relay:
            journal.wait_for_answers(1)
            journal.publish(5)
            assert api.next(subscription).data == "1"
            assert next(relay)
            with api.enter(feed):
                pass
            assert list(relay) == []
            with pytest.raises(Ended):
                api.next(subscription)
            with pytest.raises(SSEClosedError):
                api.recv(subscription)
        for method in (feed.subscribe, feed.relay, feed.arelay):
            with pytest.raises(SSEClosedError, match="the feed is closed"):
                method()
        feed.close()
        server.wait_for_connections(0)


def test_closing_the_feed_wakes_a_waiting_consumer(api: Api) -> None:
    with SSEServer(default=Journal()) as server, api.client() as client:
        feed = client.share(server.url)

        def close() -> None:
            server.wait_for_requests(1)
            feed.close()

        thread = threading.Thread(target=close)
        thread.start()
        assert api.rest(feed.subscribe()) == []
        thread.join()


def test_a_subscription_made_before_the_feed_closes_ends(api: Api) -> None:
    with api.client() as client:
        feed = client.share("http://127.0.0.1:1/")
        subscription = feed.subscribe()
        asyncio.run(feed.aclose())
        assert api.rest(subscription) == []
        with pytest.raises(SSEClosedError):
            api.enter(subscription).__enter__()


def test_closing_the_client_closes_its_feeds(api: Api) -> None:
    with SSEServer(default=Journal()) as server, api.client() as client:
        feed = client.share(server.url)
        with api.enter(feed.subscribe()) as subscription:
            server.wait_for_requests(1)
            client.close()
            assert api.rest(subscription) == []
        with pytest.raises(SSEClosedError):
            feed.subscribe()
        with pytest.raises(SSEClosedError):
            client.share(server.url)


# -- arguments


@pytest.mark.parametrize("name", ["replay", "replay_bytes", "linger", "max_catch_ups"])
def test_arguments_are_checked(name: str) -> None:
    with SSEClient() as client:
        with pytest.raises(ValueError, match=f"{name} must be at least"):
            client.share("http://127.0.0.1/", **{name: -1})  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=f"{name} must be"):
            client.share("http://127.0.0.1/", **{name: "1"})  # type: ignore[arg-type]


def test_a_feed_has_no_checkpoint() -> None:
    with SSEClient() as client, pytest.raises(TypeError, match="takes no checkpoint"):
        client.share("http://127.0.0.1/", checkpoint="file")  # type: ignore[call-arg]


def test_arguments_of_subscribe_are_checked() -> None:
    with SSEClient() as client:
        feed = client.share("http://127.0.0.1/")
        with pytest.raises(ValueError, match="history must be at least 0"):
            feed.subscribe(history=-1)
        with pytest.raises(ValueError, match="last_event_id must not contain"):
            feed.subscribe("a\nb")
        with pytest.raises(ValueError, match="heartbeat must be at least"):
            feed.relay(heartbeat=0)


def test_the_options_of_share_are_those_of_connect() -> None:
    import inspect  # noqa: PLC0415 - for this test only

    from sseclient_dual.client import ConnectOptions  # noqa: PLC0415 - as above

    own = inspect.signature(SSEClient.share).parameters
    defaults = {name: own[name].default for name in ("replay", "replay_bytes", "linger")}
    assert defaults == {"replay": 1000, "replay_bytes": 16 * 1024 * 1024, "linger": 30.0}
    parameters = inspect.signature(SSEClient.connect).parameters
    taken = {name: parameter.annotation for name, parameter in parameters.items()}
    for name in ("self", "url", "checkpoint", "checkpoint_interval"):
        del taken[name]
    assert {name: hint.__forward_arg__ for name, hint in ConnectOptions.__annotations__.items()} == taken


def test_warnings_name_the_line_that_shares() -> None:
    with SSEClient() as client, pytest.warns(InsecureRequestWarning) as caught:
        client.share("https://127.0.0.1/", verify=False)
    assert [warning.filename for warning in caught] == [__file__]
    with SSEClient() as client, pytest.warns(UserWarning, match="retry_delay") as caught:
        client.share("https://127.0.0.1/", retry_delay=3)
    assert [warning.filename for warning in caught] == [__file__]


def test_a_subscription_is_no_body_of_a_response() -> None:
    with SSEClient() as client:
        subscription = client.share("http://127.0.0.1/").subscribe()
    for body, function in product((subscription, subscription.signals()), (iter, aiter)):
        with pytest.raises(RuntimeError, match=r"^a subscription cannot be the body.* pass feed\.relay\(\) "):
            eval("function(body)", {"function": function, "body": body, "__name__": "flask"})  # noqa: S307 - constant


def test_the_options_reach_the_request(api: Api) -> None:
    with SSEServer(default=stream(HANG)) as server, api.client() as client:
        feed = client.share(server.url, params={"q": "1"}, headers={"X-A": "b"}, name="prices")
        with api.enter(feed.subscribe()):
            (request,) = server.wait_for_requests(1)
            assert repr(feed) == "<SharedFeed of prices, 1 subscribers>"
            assert repr(feed.subscribe()) == "<Subscription to prices>"
    assert request.query == {"q": "1"}
    assert request.headers["x-a"] == "b"
    assert repr(feed) == "<SharedFeed of prices, 0 subscribers>"
