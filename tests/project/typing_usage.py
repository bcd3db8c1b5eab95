"""The public interface for type checkers, in both APIs. This file never runs: `make types` checks it.

`assert_type` checks the inferred type. A comment that ignores an error is itself an error if no error is there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import aclosing, closing
from http.cookiejar import LWPCookieJar
from typing import TYPE_CHECKING, Any

import urllib3

from sseclient_dual import (
    Checkpoint,
    Comment,
    EventStreamParser,
    Feed,
    FeedStats,
    FileCheckpoint,
    Gap,
    Ignored,
    Interrupted,
    Opened,
    ReadyState,
    ReconnectPolicy,
    SharedFeed,
    SSEClient,
    SSEClosedError,
    SSEConnection,
    SSEConnectionError,
    SSEContentTypeError,
    SSEError,
    SSEEvent,
    SSEEventTooLargeError,
    SSEParsingError,
    SSEStatusError,
    Subscription,
)
from sseclient_dual.closing import Closing
from sseclient_dual.redis import IngestStats, RedisCheckpoint, RedisFeed, RedisIngest
from sseclient_dual.testing import CUT, HANG, Gate, ReceivedRequest, Reply, SSEServer, pause, redirect, status, stream

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from redis import Redis
    from typing_extensions import assert_never, assert_type

URL = "https://example.test/stream"


# -- events


def an_event(event: SSEEvent) -> None:
    assert_type(event["data"], str)
    assert_type(event["event"], str | None)
    assert_type(event["id"], str | None)
    assert_type(event["retry"], int | None)
    assert_type(event.data, str)
    assert_type(event.event, str | None)
    assert_type(event.id, str | None)
    assert_type(event.retry, int | None)
    assert_type(event.type, str)
    assert_type(event.last_event_id, str)
    assert_type(event.origin, str)
    assert_type(event.json(), Any)
    assert_type(event.encode(), bytes)
    assert_type(dict(event), dict[str, str | int | None])
    any_key: str = "data"[:]
    assert_type(event[any_key], str | int | None)
    mapping: Mapping[str, str | int | None] = event
    assert_type(len(mapping), int)
    event.data = "immutable"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    event["data"] = "immutable"  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    SSEEvent("data", "type", "id", 1000, last_event_id="id", origin="https://example.test")
    SSEEvent(b"bytes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def pattern_matching(event: SSEEvent) -> str:
    match event:
        case SSEEvent(data, "greeting"):
            return assert_type(data, str)
        case SSEEvent(event=str(kind), id=None):
            return assert_type(kind, str)
        case SSEEvent(data=data):
            return assert_type(data, str)


# -- the sync API


def plain_iteration() -> None:
    for event in SSEClient().connect(URL):
        assert_type(event, SSEEvent)


def with_blocks(saved: str | None) -> None:
    with SSEClient() as client, client.connect(URL, last_event_id=saved) as conn:
        assert_type(client, SSEClient)
        assert_type(conn, SSEConnection)
        assert_type(next(conn), SSEEvent)
        assert_type(iter(conn), SSEConnection)
        assert_type(conn.recv(), SSEEvent)
        assert_type(conn.recv(timeout=5), SSEEvent)
        events: Iterator[SSEEvent] = conn
        assert_type(list(events), list[SSEEvent])
        conn.restart()
        conn.close()  # need not be awaited
    with closing(SSEClient()) as client:
        assert_type(client.connect(URL).open(timeout=1.5), SSEConnection)
    client.close()


def attributes(conn: SSEConnection) -> None:
    assert_type(conn.name, str)
    assert_type(conn.url, str)
    assert_type(conn.ready_state, ReadyState)
    assert_type(conn.ready_state is ReadyState.OPEN, bool)
    assert_type(conn.last_event_id, str)
    assert_type(conn.reconnection_time, float)
    assert_type(conn.status, int | None)
    assert_type(conn.http_version, str | None)
    assert_type(conn.headers["Content-Type"], str)
    assert_type(conn.response_url, str | None)
    stats = conn.stats
    assert_type(stats.ignored, int)
    assert_type(stats.events + stats.duplicates + stats.comments + stats.bytes + stats.reconnects + stats.queued, int)


def all_signals(conn: SSEConnection) -> None:
    for signal in conn.signals():
        assert_type(signal, SSEEvent | Comment | Ignored | Opened | Interrupted)
        match signal:
            case SSEEvent(data, kind):
                assert_type(data, str)
                assert_type(kind, str | None)
            case Comment(text):
                assert_type(text, str)
            case Ignored(line):
                assert_type(line, str)
            case Opened(code, headers, url):
                assert_type(code, int)
                assert_type(headers, Mapping[str, str])
                assert_type(url, str)
            case Interrupted(error, retry_in):
                assert_type(error, Exception | None)
                assert_type(retry_in, float)
            case _:
                assert_never(signal)


# -- the async API


async def async_blocks() -> None:
    async with SSEClient() as client:
        async with client.connect(URL) as conn:
            assert_type(client, SSEClient)
            assert_type(conn, SSEConnection)
            async for event in conn:
                assert_type(event, SSEEvent)
            assert_type(await anext(conn), SSEEvent)
            assert_type(aiter(conn), SSEConnection)
            assert_type(await conn.arecv(), SSEEvent)
            assert_type(await conn.arecv(timeout=5), SSEEvent)
            assert_type(await asyncio.wait_for(anext(conn), 5), SSEEvent)
            assert_type([event.data async for event in conn], list[str])
            async for signal in conn.signals():
                assert_type(signal, SSEEvent | Comment | Ignored | Opened | Interrupted)
        other = await client.connect(URL)
        assert_type(other, SSEConnection)
        await other.close()
    async with aclosing(SSEClient()) as closed_at_exit, aclosing(closed_at_exit.connect(URL)) as conn:
        assert_type(conn, SSEConnection)
    await client.close()


# -- arguments of clients and connections


def all_arguments(context: ssl.SSLContext, pool: urllib3.PoolManager) -> None:
    client = SSEClient(
        headers={"X-Api-Key": b"k"},
        auth=("user", "password"),
        timeout=urllib3.Timeout(connect=10, read=45),
        verify="authority.pem",
        ssl_context=None,
        proxy="http://proxy.test:3128",
        trust_env=False,
        http2=True,
        policy=ReconnectPolicy(),
    )
    SSEClient(pool)
    SSEClient(ssl_context=context)
    client.connect(
        URL,
        "GET",
        {"Accept-Language": "cs"},
        params={"a": 1, "b": [1, 2]},
        auth=("user", "password"),
        verify=False,
        timeout=None,
        redirect=False,
        reconnect=None,
        retry_delay=500,
        keep_connection=True,
        http2="prior-knowledge",
        last_event_id="7",
        until="[DONE]",
        checkpoint="last.id",
        checkpoint_interval=1.5,
        strict=False,
        policy=ReconnectPolicy(max_retries=3),
        queue_size=16,
        max_event_size=1024,
        name="prices",
    )
    client.connect(URL, params=[("a", "1"), ("a", "2")], headers=[("Accept", "text/event-stream")])
    client.connect(URL, "POST", json={"stream": True, "messages": []})
    client.connect(URL, None, json={"stream": True})
    client.connect(URL, "POST", data={"form": "yes"})
    client.connect(URL, data=[("form", "yes"), ("form", 2)])
    client.connect(URL, data=iter([b"x"]))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.connect(URL, timeout=(3, 5))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SSEClient(URL)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.connect(URL, "POST", data={"file": ("a.txt", b"content", "text/plain")}, multipart=True)
    client.connect(URL, "PUT", data="text", timeout=2.5)
    client.connect(URL, "PUT", data=b"bytes", timeout=2)
    client.connect(URL, until=lambda event: event.type == "message_stop")
    client.connect(URL, until=async_until)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.connect(URL, until=b"[DONE]")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.connect(URL, auth="user:password")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.connect(URL, data=object())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.connect(URL, polici=None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def async_until(event: SSEEvent) -> bool:
    return event.data == "[DONE]"


class InMemory:
    def __init__(self) -> None:
        self.value: str | None = None

    def load(self) -> str | None:
        return self.value

    def save(self, last_event_id: str) -> None:
        self.value = last_event_id


class AsyncCheckpoint:
    async def load(self) -> str | None:
        return None

    async def save(self, last_event_id: str) -> None:
        pass


def checkpoints(client: SSEClient, path: Path) -> None:
    client.connect(URL, checkpoint=path, checkpoint_interval=1)
    client.connect(URL, checkpoint=InMemory())
    client.connect(URL, checkpoint=b"last.id")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.connect(URL, checkpoint=AsyncCheckpoint())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    checkpoint: Checkpoint = FileCheckpoint(path)
    checkpoint = FileCheckpoint("last.id")
    assert_type(checkpoint.load(), str | None)
    checkpoint.save("7")
    conn = client.connect(URL, checkpoint=checkpoint)
    conn.commit()


async def async_checkpoints(client: SSEClient) -> None:
    async with client.connect(URL, checkpoint=FileCheckpoint("last.id")) as conn:
        await conn.acommit()


def a_feed(client: SSEClient, saved: str | None) -> None:
    shared = client.share(URL, replay=10, replay_bytes=1000, linger=0.5, max_catch_ups=1, method="GET", strict=False)
    assert_type(shared, SharedFeed)
    client.share(URL, headers=fresh_headers, until=lambda event: event.data == "end", name="prices")
    client.share(URL, data=[("form", "yes"), ("form", 2)])
    client.share(URL, checkpoint="last.id")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.share(URL, strict="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    feed: Feed = shared
    assert_type(feed.ended, bool)
    stats = feed.stats
    assert_type(stats, FeedStats)
    assert_type(stats.subscribers + stats.events + stats.kept + stats.kept_bytes, int)
    assert_type(stats.gaps + stats.reconnects + stats.catch_ups, int)
    pieces: Iterator[bytes] = feed.relay(saved, history=3, heartbeat=None)
    assert_type(list(pieces), list[bytes])
    with feed, feed.subscribe(saved, history=3) as subscription:
        assert_type(subscription, Subscription)
        assert_type(next(subscription), SSEEvent)
        assert_type(subscription.recv(timeout=1), SSEEvent)
        assert_type(subscription.last_event_id, str)
        for event in subscription:
            assert_type(event, SSEEvent)
        for signal in subscription.signals():
            assert_type(signal, SSEEvent | Gap)
            if isinstance(signal, Gap):
                assert_type(signal.after + signal.last_event_id, str)
        subscription.close()  # need not be awaited
    shared.close()


def an_ingest(client: SSEClient, connection: Redis) -> None:
    with RedisIngest(client, URL, redis="redis://host/0", name="prices", lease=5, maxlen=10, batch=1) as ingest:
        assert_type(ingest.holding, bool)
        stats = ingest.stats
        assert_type(stats, IngestStats)
        assert_type(stats.events + stats.gaps + stats.skipped, int)
        assert_type(stats.takeovers + stats.rewinds + stats.reconnects, int)
        assert_type(ingest.close(), Closing)
    other = RedisIngest(client, URL, redis=connection, name="prices", headers=fresh_headers, until="[DONE]")
    assert_type(other.start(), RedisIngest)
    assert_type(other.run(), None)
    RedisIngest(client, URL, redis=connection, name="prices", strict="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    checkpoint: Checkpoint = RedisCheckpoint(connection, "last-id")
    client.connect(URL, checkpoint=checkpoint)


def a_feed_in_redis(server: Redis) -> None:
    in_redis = RedisFeed("redis://localhost/0", "prices", replay=10, replay_bytes=1000)
    feed: Feed = in_redis
    assert_type(feed.stats, FeedStats)
    assert_type(in_redis.subscribe("0-0/", history=3), Subscription)
    pieces: Iterator[bytes] = in_redis.relay(None, heartbeat=5)
    assert_type(next(pieces), bytes)
    with RedisFeed(server, "prices") as other:
        assert_type(other, RedisFeed)
    RedisFeed("redis://localhost/0")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    RedisFeed(7, "prices")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def an_async_feed(client: SSEClient) -> None:
    async with client.share(URL) as feed, feed.subscribe() as subscription:
        assert_type(await anext(subscription), SSEEvent)
        assert_type(await subscription.arecv(1.5), SSEEvent)
        async for event in subscription:
            assert_type(event, SSEEvent)
        async for signal in subscription.signals():
            assert_type(signal, SSEEvent | Gap)
        async for piece in feed.arelay("7"):
            assert_type(piece, bytes)
        await subscription.close()
        await feed.close()


def fresh_headers() -> dict[str, str]:
    return {"Authorization": "Bearer fresh"}


def fresh_pairs() -> list[tuple[str, str | bytes]]:
    return [("Authorization", b"Bearer fresh")]


async def async_headers() -> dict[str, str]:
    return {}


async def async_params() -> list[tuple[str, int]]:
    return [("page", 1)]


async def async_number() -> int:
    return 1


def callable_headers(client: SSEClient) -> None:
    client.connect(URL, headers=fresh_headers)
    client.connect(URL, headers=fresh_pairs)
    client.connect(URL, headers=lambda: {"Authorization": "Bearer fresh"})
    client.connect(URL, headers=async_headers, params=async_params)
    client.connect(URL, params=lambda: [("page", 1)])
    client.connect(URL, headers=lambda: 1)  # type: ignore[arg-type,return-value]  # pyright: ignore[reportArgumentType]
    client.connect(URL, params=async_number)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SSEClient(json_dumps=json.dumps)
    SSEClient(json_dumps=lambda value: repr(value).encode())
    SSEClient(json_dumps=id)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SSEClient(cookies={"session": "1"})
    SSEClient(cookies=LWPCookieJar("cookies.txt"))
    SSEClient(cookies=[("session", "1")])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SSEClient(headers=fresh_headers)
    SSEClient(headers=async_headers)
    SSEClient(headers=async_number)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -- policy, parser, errors


def policies() -> None:
    policy = ReconnectPolicy(
        retry_delay=1000,
        max_retry_delay=30_000,
        min_retry_delay=50,
        multiplier=1.5,
        jitter=0,
        max_retries=5,
        retry_statuses=frozenset({503}),
        dedup=False,
        dedup_window=16,
    )
    ReconnectPolicy(dedup="id")
    ReconnectPolicy(dedup="data")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(policy.retry_delay, float)
    assert_type(policy.max_retries, int | None)
    assert_type(policy.retry_statuses, Collection[int])
    policy.jitter = 0.5  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def parsing(chunk: bytes) -> Generator[str]:
    parser = EventStreamParser(strict=False, comments=True, max_event_size=1024, last_event_id="6")
    for item in parser.feed(chunk):
        assert_type(item, SSEEvent | Comment)
        yield item.data if isinstance(item, SSEEvent) else item.text
    assert_type(parser.last_event_id, str)
    assert_type(parser.retry, int | None)
    parser.finish()
    parser.reset()


def errors(conn: SSEConnection) -> None:
    try:
        conn.open()
    except (SSEStatusError, SSEContentTypeError) as refusal:
        assert_type(refusal.status, int)
        assert_type(refusal.reason, str)
        assert_type(refusal.headers, Mapping[str, str])
        assert_type(refusal.url, str)
        assert_type(refusal.body, bytes)
        assert_type(refusal.json(), Any)
        if isinstance(refusal, SSEContentTypeError):
            assert_type(refusal.content_type, str)
    except SSEParsingError as bad:
        assert_type(bad.line, str)
    except (SSEEventTooLargeError, SSEConnectionError) as broken:
        assert_type(broken.__cause__, BaseException | None)
    except SSEClosedError as closed:
        error: SSEError = closed
        raise error from None


# -- a server for tests


def answer(request: ReceivedRequest) -> Reply:
    assert_type(request.last_event_id, str | None)
    return stream(SSEEvent("x", id="1"), "data: y\n\n", b"data: z\n\n", pause(0.1), CUT)


def tests_of_a_user() -> None:
    gate = Gate()
    with SSEServer(answer, stream("data: a\n\n", gate, HANG), status(503), redirect("/there")) as server:
        assert_type(server.url, str)
        assert_type(server.origin, str)
        assert_type(server.requests[0].headers["Accept"], str)
        assert_type(server.stream("data: a\n\n", CUT, encoding="gzip"), None)
        assert_type(server.status(503, retry_after=1), None)
        server.status("503")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        gate.open()
