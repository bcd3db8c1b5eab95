"""A feed over Redis when entries are missing: trimmed, lost, flushed, or added again; and when Redis is away."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import Gap, SSEEvent
from sseclient_dual.redis import RedisFeed, runner
from sseclient_dual.redis import reader as reader_module
from sseclient_dual.redis.catch_up import BATCH, StreamCatchUp
from sseclient_dual.redis.entries import Kind
from support.redis_streams import StreamWriter, data
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from sseclient_dual.redis.connections import Client
    from support.apis import Api, Signals
    from support.redis_servers import RedisServer


@pytest.fixture
def writer(raw: redis.Redis, stream: str) -> StreamWriter:
    """Return a writer of the test's own stream."""
    return StreamWriter(raw, stream)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check after a short wait that the last entry is still there."""
    monkeypatch.setattr(reader_module, "BLOCK", 0.02)


@contextmanager
def following(api: Api, feed: RedisFeed, **options: Any) -> Iterator[Signals]:
    """Return the signals of a subscription to a feed that has read what is in the stream."""
    with api.enter(feed), api.enter(feed.subscribe(**options)) as subscription:
        wait_until(lambda: feed._engine.ring.filled is not None)
        yield api.signals(subscription)


def settled(feed: RedisFeed, writer: StreamWriter, seq: int | None = None) -> None:
    """Wait until the feed has read the stream up to the last entry, or that with the number `seq`."""
    wanted = writer.seq if seq is None else seq
    engine: Any = feed._engine
    wait_until(lambda: engine.tail.seq == wanted)


def test_lost_entries_that_come_again_are_not_told_twice(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    writer.add(1, 2)
    feed = RedisFeed(server.url, stream)
    with following(api, feed) as signals:
        old = writer.add(3, 4, 5)
        settled(feed, writer)
        writer.lose(2)
        settled(feed, writer)
        new = writer.add(4, 5, 6)
        assert data(signals.take(4)) == ["3", "4", "5", "6"]
        settled(feed, writer)
        for asked in (old[0], old[1], new[0], "4"):  # in the ring, by either position
            expected = ["4", "5", "6"] if asked == old[0] else ["5", "6"]
            assert data(api.signals(feed.subscribe(asked)).take(len(expected))) == expected
        assert feed.stats.gaps == 0
    assert feed.stats.gaps == 0


def test_lost_entries_that_come_again_behind_the_clock_are_found(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new server's clock is behind: reading after the last position would skip what it adds."""
    monkeypatch.setattr(reader_module, "BATCH", 2)
    writer.add(1, 2, position="100-*")
    feed = RedisFeed(server.url, stream)
    with following(api, feed) as signals:
        writer.add(3, 4, position="500-*")
        settled(feed, writer)
        writer.lose(2)
        writer.add(3, 4, 5, position="200-*")
        writer.add(6, position="600-*")
        assert data(signals.take(4)) == ["3", "4", "5", "6"]
        assert feed.stats.gaps == 0


def test_a_loss_between_two_reads_is_noticed(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py connects again without an error. The new entry has the number and the position of the lost one."""
    has_read, gate = threading.Event(), threading.Event()
    writer.add(1, position="100-*")
    feed = RedisFeed(server.url, stream)
    engine: Any = feed._engine
    append = engine._append

    def append_and_pause(batch: object) -> None:
        append(batch)
        has_read.set()
        assert gate.wait(PATIENCE)

    with following(api, feed) as signals:
        monkeypatch.setattr(engine, "_append", append_and_pause)
        writer.add(2, position="200-*")
        assert has_read.wait(PATIENCE)
        writer.lose(1, with_clients=True, replaced_by=[7])
        writer.add(8, position="300-*")
        gate.set()
        assert data(signals.take(4)) == ["2", "Gap", "7", "8"]


@pytest.mark.parametrize("count", [1, 4])
def test_a_loss_between_two_reads_of_a_catch_up_is_noticed(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The new entry has the number and the position of the lost one; the feed itself may have read as far."""
    has_lost = threading.Event()
    fetch = StreamCatchUp.fetch

    def fetch_and_lose(self: StreamCatchUp, client: Client) -> None:
        fetch(self, client)
        if not has_lost.is_set():
            writer.lose(4, replaced_by=range(1001, 1001 + count))
            settled(feed, writer)
            has_lost.set()

    writer.add(*range(1, BATCH + 4))
    feed = RedisFeed(server.url, stream, replay=1)
    with following(api, feed):
        settled(feed, writer)
        monkeypatch.setattr(StreamCatchUp, "fetch", fetch_and_lose)
        with api.enter(feed.subscribe("0-0/")) as subscription:
            signals = api.signals(subscription)
            assert data(signals.take(BATCH))[-1] == str(BATCH)
            assert has_lost.wait(PATIENCE)
            if count == 1:
                with pytest.raises(TimeoutError):  # it must not join the feed here
                    api.recv(subscription, timeout=0)
                writer.add(2001)
            assert data(signals.take(1)) == ["Gap"]


def test_an_upstream_that_does_not_replay_the_lost_entries_is_a_gap(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter, caplog: pytest.LogCaptureFixture
) -> None:
    (first,) = writer.add(1)
    feed = RedisFeed(server.url, stream)
    with following(api, feed) as signals:
        ids = writer.add(2, 3, 4)
        settled(feed, writer)
        writer.lose(3)
        again = writer.add(2, 7)
        assert data(signals.take(3)) == ["2", "3", "4"]
        assert signals.take(2) == [Gap(ids[-1], again[0]), SSEEvent("7", id="7")]
        # A browser that reconnects at once gets neither the lost events again nor a second gap.
        assert data(api.signals(feed.subscribe(again[0])).take(1)) == ["7"]
        assert data(api.signals(feed.subscribe(first)).take(5)) == ["2", "3", "4", "Gap", "7"]
        assert feed.stats.gaps == 1
    assert "events are missing in the stream" in caplog.text


def test_lost_entries_without_ids_are_a_gap_at_once(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    ids = writer.add(1, 2, sends_ids=False)
    feed = RedisFeed(server.url, stream)
    with following(api, feed) as signals:
        writer.add(3, sends_ids=False)
        settled(feed, writer)
        writer.lose(1)
        assert data(signals.take(2)) == ["3", "Gap"]
        with api.enter(feed.subscribe(ids[1])) as resumed:
            with pytest.raises(TimeoutError):  # not the lost event again
                api.recv(resumed, 0.1)
            writer.add_mark(Kind.GAP)  # of the ingest: not a second one
            writer.add(4, sends_ids=False)
            assert data(signals.take(1)) == ["4"]
            assert api.next(resumed).data == "4"
        assert feed.stats.gaps == 1


def test_more_lost_entries_than_are_kept_are_a_gap(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    writer.add(*range(1, 10))
    feed = RedisFeed(server.url, stream, replay=3)
    with following(api, feed) as signals:
        writer.add(10, 11, 12)
        assert data(signals.take(3)) == ["10", "11", "12"]
        writer.lose(6)
        assert data(signals.take(4)) == ["Gap", "4", "5", "6"]
        writer.add(7)
        assert data(signals.take(1)) == ["7"]


def test_a_flushed_stream_is_one_gap_at_once(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    writer.add(1)
    feed = RedisFeed(server.url, stream)
    with following(api, feed) as signals, api.relay_feed(feed) as relay:
        next(relay)
        (second,) = writer.add(2)
        assert data(signals.take(1)) == ["2"]
        writer.flush()
        assert signals.take(1) == [Gap(second, "0-0/")]
        with pytest.raises(TimeoutError):
            api.recv(feed.subscribe(), 0.1)
        writer.add_mark(Kind.GAP, "2")
        settled(feed, writer)
        writer.flush()
        settled(feed, writer)
        marked = writer.add_mark(Kind.GAP, "2")
        (third,) = writer.add(3)
        assert data(signals.take(1)) == ["3"]
        assert [next(relay) for _ in range(2)] == [
            f"id: {second}\ndata: 2\n\n".encode(),
            b"event: stream-reset\nid: 0-0/\ndata: \n\n",
        ]
        assert data(api.signals(feed.subscribe(marked)).take(1)) == ["3"]
        assert data(api.signals(feed.subscribe("0-0/")).take(2)) == ["Gap", "3"]
        assert next(relay) == f"id: {third}\ndata: 3\n\n".encode()
        assert feed.stats.gaps == 1


def test_entries_that_are_trimmed_before_they_are_read_are_a_gap(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    writer.add(1)
    feed = RedisFeed(server.url, stream)
    with following(api, feed) as signals:
        with writer.raw.pipeline() as pipeline:  # in one step
            piped = StreamWriter(pipeline, stream, maxlen=2)
            piped.seq = writer.seq
            piped.add(2, 3, 4)
            pipeline.execute()
        assert data(signals.take(3)) == ["Gap", "3", "4"]
        assert feed.stats.gaps == 1


def test_entries_that_are_trimmed_while_redis_is_away_are_a_gap(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "BLOCK", 5.0)
    writer.add(1)
    feed = RedisFeed(server.url, stream)
    with following(api, feed) as signals:
        with writer.raw.pipeline() as pipeline:  # in one step
            pipeline.client_kill_filter(_type="normal", skipme=True)
            piped = StreamWriter(pipeline, stream, maxlen=2)
            piped.seq = writer.seq
            piped.add(2, 3, 4)
            pipeline.execute()
        assert data(signals.take(3)) == ["Gap", "3", "4"]


def test_a_trimmed_entry_is_no_gap_if_the_next_one_follows(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    writer.add(1)
    writer.maxlen = 1
    feed = RedisFeed(server.url, stream)
    with following(api, feed) as signals:
        for number in range(2, 20):
            writer.add(number)
            assert data(signals.take(1)) == [str(number)]
        assert feed.stats.gaps == 0


def test_an_entry_that_is_missing_in_the_middle_is_a_gap(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    writer.add(1)
    feed = RedisFeed(server.url, stream)
    with following(api, feed) as signals:
        (second,) = writer.add(2)
        writer.seq += 1
        writer.add(4)
        assert signals.take(3)[1:] == [Gap(second, second), SSEEvent("4", id="4")]
        assert data(api.signals(feed.subscribe(second)).take(2)) == ["Gap", "4"]


def test_a_catch_up_finds_a_gap_in_the_stream(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    ids = writer.add(1, 2)
    writer.seq += 1
    writer.add(4, 5, 6)
    with following(api, RedisFeed(server.url, stream, replay=1), last_event_id=ids[0]) as signals:
        assert data(signals.take(3)) == ["2", "Gap", "6"]
    with following(api, RedisFeed(server.url, stream, replay=3), last_event_id=ids[0]) as signals:
        assert data(signals.take(5)) == ["2", "Gap", "4", "5", "6"]


def test_gaps_that_the_ingest_marked(api: Api, server: RedisServer, stream: str, writer: StreamWriter) -> None:
    ids = [*writer.add(1), writer.add_mark(Kind.GAP, "1"), *writer.add(2), writer.add_mark(Kind.SKIPPED, "3")]
    for replay in (1, 10):
        with following(api, RedisFeed(server.url, stream, replay=replay), last_event_id=ids[0]) as signals:
            assert signals.take(3) == [Gap(ids[0], ids[1]), SSEEvent("2", id="2"), Gap(ids[2], ids[3])]


def test_an_event_that_no_stream_can_express_is_a_gap(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    feed = RedisFeed(server.url, stream)
    with following(api, feed) as signals:
        writer.write([b"data", b"x", b"event", b"two\nlines"])
        writer.write([b"data", b"x", b"kind", b"unknown"])
        writer.add(3)
        assert data(signals.take(2)) == ["Gap", "3"]


def test_a_sleeping_browser_gets_one_reset(api: Api, server: RedisServer, stream: str, writer: StreamWriter) -> None:
    """The entries after its last one are trimmed, and then the browser comes back."""
    (asked,) = writer.add(1)
    writer.maxlen = 5
    writer.add(*range(2, 11))
    feed = RedisFeed(server.url, stream)
    with api.enter(feed), api.relay_feed(feed, asked) as relay:
        pieces = [next(relay) for _ in range(7)]
        assert [piece.startswith(b"event: stream-reset\n") for piece in pieces] == [False, True, *[False] * 5]
        assert [piece[-4:] for piece in pieces[2:]] == [b" 6\n\n", b" 7\n\n", b" 8\n\n", b" 9\n\n", b"10\n\n"]


# -- Redis away


def test_while_redis_is_away_consumers_wait(
    api: Api, own_server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "LONGEST_DELAY", 0.01)
    feed = RedisFeed(own_server.url, "prices", replay=2)
    with ExitStack() as stack:
        stack.callback(own_server.kill)
        stack.enter_context(api.enter(feed))
        relay = stack.enter_context(api.relay_feed(feed, heartbeat=0.01))
        assert next(relay) == b":\n\n"
        subscription = feed.subscribe("0-0/")
        with pytest.raises(TimeoutError, match=r"last failure: .*refused"):
            wait_until(lambda: api.recv(subscription, 0.05))
        own_server.start()
        with own_server.client() as raw:
            writer = StreamWriter(raw, "prices")
            writer.add(1, 2, 3)
            assert data(api.take(subscription, 3)) == ["1", "2", "3"]
        own_server.kill()
        wait_until(lambda: caplog.text.count("cannot read the stream from Redis at") == 2)
        with pytest.raises(TimeoutError):
            api.recv(subscription, 0.05)
        own_server.start()
        with own_server.client() as raw:
            writer = StreamWriter(raw, "prices")
            writer.seq = 3
            writer.add(4)
            assert data(api.take(subscription, 1)) == ["4"]
            assert data(api.take(feed.subscribe("0-0/"), 4)) == ["1", "2", "3", "4"]
        assert (feed.stats.gaps, feed.stats.reconnects) == (0, 2)
