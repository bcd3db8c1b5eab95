"""Relays of a feed: the bytes, the id at the beginning, gaps, heartbeats and closing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import EventStreamParser, SSEClient, SSEEvent, SSEStatusError
from sseclient_dual.testing import HANG, SSEServer, status, stream
from support.journals import Journal
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.apis import Api

HEARTBEAT = b":\n\n"


def take(pieces: Iterator[bytes], count: int) -> bytes:
    return b"".join(next(pieces) for _ in range(count))


def test_a_relay_begins_with_the_id_of_its_position(api: Api) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url)
        with api.relay_feed(feed, heartbeat=0.01) as first:
            assert next(first) == HEARTBEAT  # no id is known yet
            journal.wait_for_answers(1)
            journal.publish(3)
            wait_until(lambda: feed.stats.events == 3)
            with api.relay_feed(feed) as now, api.relay_feed(feed, "1") as resumed:
                with api.relay_feed(feed, history=2) as history:
                    assert next(now) == b"id: 3\n\n"
                    assert take(resumed, 3) == b"id: 1\n\nid: 2\ndata: 2\n\nid: 3\ndata: 3\n\n"
                    assert take(history, 3) == b"id: 1\n\nid: 2\ndata: 2\n\nid: 3\ndata: 3\n\n"


def test_a_relay_that_catches_up_begins_with_the_requested_id(api: Api) -> None:
    journal = Journal()
    journal.published = 3
    with SSEServer(default=journal) as server, api.client() as client:
        feed = client.share(server.url)
        with api.relay_feed(feed, "1") as relay:
            assert take(relay, 3) == b"id: 1\n\nid: 2\ndata: 2\n\nid: 3\ndata: 3\n\n"


def test_a_gap_is_an_event_with_the_id_of_the_new_position(api: Api) -> None:
    with SSEServer(stream("id: 7\ndata: 7\n\n", HANG), status(404)) as server, api.client() as client:
        feed = client.share(server.url)
        with api.enter(feed.subscribe()) as subscription:
            api.next(subscription)
            with api.relay_feed(feed, "unknown") as relay:
                assert take(relay, 2) == b"id: unknown\n\nevent: stream-reset\nid: 7\ndata: \n\n"


def test_a_client_of_a_relay_has_the_ids_of_the_upstream(api: Api) -> None:
    script = "data: a\n\nid: 1\n\ndata: b\n\ndata: c\n\nid\n\ndata: d\n\nid: 2\ndata: e\n\nid:\ndata: f\n\n"
    with SSEServer(stream(script, HANG), stream(script)) as server, api.client() as client:
        feed = client.share(server.url)
        with api.relay_feed(feed) as relay:
            parsed = EventStreamParser().feed(take(relay, 6))
            direct = api.rest(client.connect(server.url, reconnect=False))
    assert [(e.data, e.last_event_id) for e in parsed if isinstance(e, SSEEvent)] == [
        (e.data, e.last_event_id) for e in direct
    ]


def test_heartbeats_lose_no_event(api: Api) -> None:
    journal = Journal()
    with SSEServer(default=journal) as server, api.client() as client:
        with api.relay_feed(client.share(server.url), heartbeat=0.01) as relay:
            assert [next(relay), next(relay)] == [HEARTBEAT] * 2
            journal.wait_for_answers(1)
            journal.publish(2)
            pieces = [piece for piece in iter(lambda: next(relay), b"id: 2\ndata: 2\n\n") if piece != HEARTBEAT]
            assert pieces == [b"id: 1\ndata: 1\n\n"]


def test_a_fatal_error_is_raised_once(api: Api) -> None:
    with SSEServer(status(401)) as server, api.client() as client:
        with api.relay_feed(client.share(server.url)) as relay:
            with pytest.raises(SSEStatusError):
                next(relay)
            assert list(relay) == []


def test_closing_a_relay_closes_its_subscription(api: Api) -> None:
    with SSEServer(default=Journal()) as server, api.client() as client:
        feed = client.share(server.url, linger=0)
        with api.relay_feed(feed, heartbeat=0.01) as relay:
            next(relay)
            assert feed.stats.subscribers == 1
        assert feed.stats.subscribers == 0
        server.wait_for_connections(0)


def test_cancelling_a_wait_closes_the_subscription() -> None:
    async def main() -> None:
        async with SSEClient() as client:
            feed = client.share(server.url)
            waiting = asyncio.ensure_future(anext(feed.arelay()))
            await asyncio.sleep(0)
            assert feed.stats.subscribers == 1
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert feed.stats.subscribers == 0

    with SSEServer(default=Journal()) as server:
        asyncio.run(main())
