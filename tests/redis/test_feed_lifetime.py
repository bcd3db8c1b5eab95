"""A feed over Redis in forked children, when it is dropped, and when threads and connections are missing."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEClosedError
from sseclient_dual.feed import Run
from sseclient_dual.redis import RedisFeed
from sseclient_dual.redis import runner as runner_module
from sseclient_dual.redis.connections import Server
from sseclient_dual.redis.reader import StreamReader
from support.forks import held, in_child
from support.redis_streams import StreamWriter, data
from support.waiting import AT_ONCE, wait_until

if TYPE_CHECKING:
    import redis

    from support.apis import Api
    from support.redis_servers import RedisServer

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def writer(raw: redis.Redis, stream: str) -> StreamWriter:
    """Return a writer of the test's own stream."""
    return StreamWriter(raw, stream)


def clients(raw: redis.Redis) -> int:
    """Return the number of connections to the server."""
    info: Any = raw.info("clients")
    return int(info["connected_clients"])


# -- forks


@needs_fork
def test_a_feed_made_before_the_fork_works_in_each_child(
    server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    writer.add(1, 2, 3)
    feed = RedisFeed(server.url, stream)

    def receive() -> None:
        with feed, feed.subscribe("0-0/") as subscription:
            assert [next(subscription).data for _ in range(3)] == ["1", "2", "3"]

    assert [in_child(receive) for _ in range(2)] == [0, 0]
    with feed, feed.subscribe("0-0/") as subscription:
        assert [next(subscription).data for _ in range(3)] == ["1", "2", "3"]


@needs_fork
def test_a_feed_in_use_at_the_fork_begins_anew_in_the_child_and_continues_in_the_parent(
    server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    writer.add(1, 2, 3)
    with RedisFeed(server.url, stream, replay=1) as feed:
        with feed.subscribe("0-0/") as subscription:
            assert next(subscription).data == "1"

            def receive() -> None:
                assert feed.stats.subscribers == 0
                with pytest.raises(RuntimeError, match="belongs to the parent process"):
                    next(subscription)
                with feed.subscribe("0-0/") as own:
                    assert [next(own).data for _ in range(3)] == ["1", "2", "3"]
                feed.close()

            thread, release = held(feed._engine.ring.lock)
            try:
                assert in_child(receive) == 0
            finally:
                release.set()
                thread.join()
            assert [next(subscription).data for _ in range(2)] == ["2", "3"]
            writer.add(4)
            assert next(subscription).data == "4"


@needs_fork
def test_a_feed_that_catches_up_at_the_fork_works_in_the_child(
    raw: redis.Redis, server: RedisServer, stream: str, writer: StreamWriter
) -> None:
    writer.add(*range(1, 201))
    with RedisFeed(server.url, stream, replay=1) as feed:
        subscription = feed.subscribe("0-0/")
        assert next(subscription).data == "1"
        raw.client_pause(300)
        thread = threading.Thread(target=lambda: [next(subscription) for _ in range(100)])
        thread.start()
        wait_until(lambda: subscription._waiter is not None)

        def receive() -> None:
            with feed.subscribe("0-0/") as own:
                assert [next(own).data for _ in range(3)] == ["1", "2", "3"]

        assert in_child(receive) == 0
        thread.join()
        assert next(subscription).data == "102"


# -- the end


def test_dropping_the_feed_and_its_subscriptions_closes_it(
    raw: redis.Redis, server: RedisServer, stream: str
) -> None:
    before = clients(raw)
    feed = RedisFeed(server.url, stream)
    ring = feed._engine.ring
    subscription = feed.subscribe().__enter__()
    wait_until(lambda: ring.filled is not None)
    gone = weakref.ref(feed)
    del feed
    gc.collect()
    assert gone() is not None
    del subscription
    gc.collect()
    assert gone() is None
    wait_until(lambda: clients(raw) <= before)


def test_closing_is_quick_while_a_read_blocks(api: Api, raw: redis.Redis, server: RedisServer, stream: str) -> None:
    before = clients(raw)
    feed = RedisFeed(server.url, stream)
    with api.enter(feed.subscribe()):
        wait_until(lambda: feed._engine.ring.filled is not None)
        asyncio.run(asyncio.wait_for(closed(feed), AT_ONCE))
        wait_until(lambda: clients(raw) <= before)
        assert feed.stats.kept == 0


def test_closing_ends_a_catch_up(api: Api, own_server: RedisServer) -> None:
    """Redis stops answering in the middle of it."""
    with own_server, own_server.client() as raw:
        StreamWriter(raw, "prices").add(*range(1, 301))
        feed = RedisFeed(own_server.url, "prices", replay=1)
        subscription = feed.subscribe("0-0/")
        assert api.next(subscription).data == "1"
        raw.client_pause(60_000)
        assert len(api.take(subscription, 99)) == 99  # which were read before

        def close() -> None:
            wait_until(lambda: subscription._waiter is not None)
            feed.close()

        thread = threading.Thread(target=close)
        thread.start()
        assert api.rest(subscription) == []
        thread.join()
        asyncio.run(closed(feed))
    with pytest.raises(SSEClosedError):
        api.recv(subscription)


def test_nothing_is_read_for_a_feed_that_is_closed(server: RedisServer, stream: str) -> None:
    engine = StreamReader(Server(server.url), stream, replay=1, replay_bytes=1)
    way = engine.catch_up(Run(), "1-1/1", None, 0)
    engine.close()
    engine._catch_ups.request(way)
    assert engine._catch_ups._runner is None


async def closed(feed: RedisFeed) -> None:
    await feed.close()


def test_a_feed_without_a_thread_is_an_error_and_can_be_used_later(
    api: Api, server: RedisServer, stream: str, writer: StreamWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoThreads:
        def start(self, *_: object) -> None:
            raise RuntimeError("no thread can be started")

    ids = writer.add(1, 2, 3)
    with api.enter(RedisFeed(server.url, stream, replay=1)) as feed:
        subscription = feed.subscribe(ids[0])
        with monkeypatch.context() as patch:
            patch.setattr(runner_module, "current", NoThreads)
            with pytest.raises(RuntimeError, match="no thread can be started"):
                api.next(subscription)
        assert data(api.take(subscription, 2)) == ["2", "3"]
