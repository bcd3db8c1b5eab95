"""A feed over Redis: reading, resuming, gaps, the end, closing; the tests write the stream themselves."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import Feed, Gap, SSEClosedError, SSEEvent, Subscription
from sseclient_dual.redis import RedisFeed, catch_up
from sseclient_dual.redis.entries import Kind
from support.redis_streams import StreamWriter, data
from support.waiting import wait_until

if TYPE_CHECKING:
    import redis

    from support.apis import Api
    from support.redis_servers import RedisServer

HEARTBEAT = b":\n\n"


@pytest.fixture
def writer(raw: redis.Redis, stream: str) -> StreamWriter:
    """Return a writer of the test's own stream."""
    return StreamWriter(raw, stream)


def numbers(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


def filled(feed: RedisFeed) -> None:
    """Wait until the feed has read what is in the stream."""
    wait_until(lambda: feed._engine.ring.filled is not None)


def test_a_feed_is_a_feed(server: RedisServer, stream: str) -> None:
    feed: Feed = RedisFeed(server.url, stream)
    assert isinstance(feed.subscribe(), Subscription)
    assert repr(feed) == f"<RedisFeed of {stream}, 0 subscribers>"


def test_events_from_now_on(api: Api, server: RedisServer, stream: str, writer: StreamWriter) -> None:
    writer.add(1, 2)
    with api.enter(RedisFeed(server.url, stream)) as feed:
        with api.enter(feed.subscribe()) as subscription:
            filled(feed)
            ids = writer.add(3, 4)
            assert data(api.take(subscription, 2)) == ["3", "4"]
            assert subscription.last_event_id == ids[-1]
            assert feed.stats.events == 2
            assert feed.stats.kept == 4


def test_an_event_is_that_of_the_upstream(api: Api, server: RedisServer, stream: str, writer: StreamWriter) -> None:
    writer.add(7)
    with api.enter(RedisFeed(server.url, stream)) as feed:
        event = api.next(feed.subscribe(history=1))
        assert (event.data, event.id, event.last_event_id, event.type) == ("7", "7", "7", "message")


def test_history(api: Api, server: RedisServer, stream: str, writer: StreamWriter) -> None:
    writer.add(*range(1, 251))
    with api.enter(RedisFeed(server.url, stream, replay=220)) as feed:
        assert data(api.take(feed.subscribe(history=3), 3)) == numbers(248, 250)
        assert feed.stats.kept == 220
        assert data(api.take(feed.subscribe(history=1000), 220)) == numbers(31, 250)


def test_a_relay_begins_with_the_id_of_its_position(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    first, second = writer.add(1, 2)
    with api.enter(RedisFeed(server.url, stream)) as feed, api.relay_feed(feed) as now:
        assert next(now) == f"id: {second}\n\n".encode()
        (third,) = writer.add(3)
        assert next(now) == f"id: {third}\ndata: 3\n\n".encode()
        with api.relay_feed(feed, first) as resumed:
            assert next(resumed) == f"id: {first}\n\n".encode()
            assert next(resumed) == f"id: {second}\ndata: 2\n\n".encode()


def test_an_empty_stream_has_a_position_too(api: Api, server: RedisServer, stream: str, writer: StreamWriter) -> None:
    with api.enter(RedisFeed(server.url, stream)) as feed:
        with api.relay_feed(feed) as relay:
            assert next(relay) == b"id: 0-0/\n\n"
        writer.add(1, 2)
        assert data(api.take(feed.subscribe("0-0/"), 2)) == ["1", "2"]
    with api.enter(RedisFeed(server.url, stream, replay=1)) as feed:
        assert data(api.signals(feed.subscribe("0-0/")).take(2)) == ["1", "2"]
        writer.raw.xtrim(writer.key, 1, approximate=False)
        assert data(api.signals(feed.subscribe("0-0/")).take(2)) == ["Gap", "2"]


# -- resuming


def test_resuming_from_the_ring(api: Api, server: RedisServer, stream: str, writer: StreamWriter) -> None:
    ids = writer.add(1, 2, 3)
    with api.enter(RedisFeed(server.url, stream)) as feed:
        assert data(api.take(feed.subscribe(ids[0]), 2)) == ["2", "3"]
        assert feed.stats.catch_ups == 0


def test_resuming_from_the_stream(api: Api, server: RedisServer, stream: str, writer: StreamWriter) -> None:
    ids = writer.add(*range(1, 1001))
    with api.enter(RedisFeed(server.url, stream, replay=10)) as feed:
        for start in (0, 1, 500, 988):
            assert data(api.take(feed.subscribe(ids[start]), 999 - start)) == numbers(start + 2, 1000)
        assert feed.stats.gaps == 0
        assert feed.stats.catch_ups == 4


def test_a_slow_consumer_catches_up(api: Api, server: RedisServer, stream: str, writer: StreamWriter) -> None:
    with api.enter(RedisFeed(server.url, stream, replay=10)) as feed:
        with api.enter(feed.subscribe()) as slow:
            filled(feed)
            writer.add(*range(1, 301))
            wait_until(lambda: feed.stats.events == 300)
            received = api.take(slow, 150)
            writer.add(*range(301, 401))
            wait_until(lambda: feed.stats.events == 400)
            received += api.take(slow, 250)
            assert data(received) == numbers(1, 400)
            assert feed.stats.gaps == 0


@pytest.mark.parametrize("plain", [True, False])
def test_an_id_of_another_relay_is_searched(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter, plain: bool
) -> None:
    ids = writer.add(1, 2, 3)
    milliseconds, _, rest = ids[1].partition("-")
    asked = "2" if plain else f"{int(milliseconds) + 1}-{rest}"
    with api.enter(RedisFeed(server.url, stream)) as feed:
        assert data(api.signals(feed.subscribe(asked)).take(1)) == ["3"]


def test_the_id_may_come_as_latin_1(api: Api, server: RedisServer, stream: str, writer: StreamWriter) -> None:
    asked = [writer.add_event(SSEEvent("a", id=text, last_event_id=text)) for text in ("☃", "ä")]
    with api.enter(RedisFeed(server.url, stream, replay=1)) as feed:
        for first in (asked[0], "☃"):
            for form in (first, first.encode().decode("latin-1")):
                if "/" in first:
                    assert data(api.signals(feed.subscribe(form)).take(1)) == ["a"]
                else:  # it has left the ring
                    assert data(api.signals(feed.subscribe(form)).take(2)) == ["Gap", "a"]


def test_an_unknown_id_is_a_gap_and_all_kept_events_follow(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    ids = writer.add(1, 2, 3)
    with api.enter(RedisFeed(server.url, stream)) as feed:
        for asked in ("unknown", "1-1/1", ids[0] + "x"):
            assert data(api.signals(feed.subscribe(asked)).take(4)) == ["Gap", "1", "2", "3"]
            assert data(api.signals(feed.subscribe(asked, history=1)).take(2)) == ["Gap", "3"]
        gap = api.signals(feed.subscribe("unknown", history=1)).next()
        assert gap == Gap("unknown", ids[1])


def test_an_id_that_came_twice_is_a_gap(api: Api, server: RedisServer, stream: str, writer: StreamWriter) -> None:
    writer.add(1, 2, 1, 3)
    with api.enter(RedisFeed(server.url, stream)) as feed:
        assert data(api.signals(feed.subscribe("1", history=1)).take(2)) == ["Gap", "3"]
        assert data(api.signals(feed.subscribe("2", history=1)).take(2)) == ["1", "3"]


def test_a_position_that_is_not_there_yet_is_waited_for(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    """Redis has lost the newest entries, and the ingest adds them again."""
    ids = writer.add(1, 2, 3, 4)
    writer.lose(2)
    with api.enter(RedisFeed(server.url, stream)) as feed, api.relay_feed(feed, ids[2], heartbeat=0.01) as relay:
        pieces = (piece for piece in relay if piece != HEARTBEAT)
        assert next(pieces) == f"id: {ids[2]}\n\n".encode()
        assert [next(relay), next(relay)] == [HEARTBEAT] * 2
        again = writer.add(3, 4)
        assert next(pieces) == f"id: {again[1]}\ndata: 4\n\n".encode()
        assert feed.stats.gaps == 0


def test_a_position_that_comes_later_is_waited_for(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    """Another process has read it already, or this one reads from a replica."""
    writer.add(1, position="10-1")
    with api.enter(RedisFeed(server.url, stream)) as feed:
        with api.relay_feed(feed, "10-2/2", heartbeat=0.01) as relay:
            pieces = (piece for piece in relay if piece != HEARTBEAT)
            assert next(pieces) == b"id: 10-2/2\n\n"
            assert [next(relay), next(relay)] == [HEARTBEAT] * 2
            writer.add(2, position="10-2")
            writer.add(3, position="10-3")
            assert next(pieces) == b"id: 10-3/3\ndata: 3\n\n"
        assert feed.stats.gaps == 0


def test_a_position_that_does_not_come_is_a_gap(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "PATIENCE", 0.05)
    writer.add(1, position="10-1")
    with api.enter(RedisFeed(server.url, stream)) as feed:
        assert data(api.signals(feed.subscribe("10-2/2")).take(2)) == ["Gap", "1"]


# -- the end and closing


def test_the_end_of_the_upstream_ends_the_subscriptions(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    ids = writer.add(1, 2, 3)
    with api.enter(RedisFeed(server.url, stream, replay=2)) as feed:
        subscription = feed.subscribe(ids[0])
        assert not feed.ended
        writer.add_mark(Kind.END, "3")
        assert data(api.rest(subscription)) == ["2", "3"]
        assert feed.ended
        assert api.rest(feed.subscribe()) == []
        with pytest.raises(SSEClosedError, match="has ended"):
            api.recv(feed.subscribe())
        assert data(api.rest(feed.subscribe(ids[0]))) == ["2", "3"]
        assert data(api.rest(feed.subscribe("unknown"))) == ["3"]
    with api.enter(RedisFeed(server.url, stream)) as feed:
        assert api.rest(feed.subscribe()) == []
        assert feed.ended
        writer.add(4)
        wait_until(lambda: not feed.ended)
        assert data(api.take(feed.subscribe(ids[2]), 1)) == ["4"]


def test_closing_the_feed_ends_subscriptions_and_relays(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    feed = RedisFeed(server.url, stream)
    subscription = feed.subscribe()

    def close() -> None:
        filled(feed)
        feed.close()

    thread = threading.Thread(target=close)
    thread.start()
    assert api.rest(subscription) == []
    thread.join()
    with pytest.raises(SSEClosedError, match="the feed is closed"):
        feed.subscribe()


def test_a_subscription_that_starts_after_the_feed_was_closed_ends(
    api: Api, server: RedisServer, stream: str
) -> None:
    feed = RedisFeed(server.url, stream)
    subscription = feed.subscribe("unknown")
    feed.close()
    assert api.rest(subscription) == []
