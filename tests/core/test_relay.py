"""Relaying a stream: the same bytes from both APIs, heartbeats, errors and closing."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import EventStreamParser, ReadyState, SSEClient, SSEEvent, SSEStatusError
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, status, stream
from support.policies import QUICK, SLOW
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.apis import Api

HEARTBEAT = b":\n\n"


def test_each_event_is_encoded_again(api: Api) -> None:
    script = "retry: 7\nevent: tick\nid: №1\ndata: é☃\r\ndata: two\n\n: a comment\n\ndata\n\n"
    with SSEServer(stream(script)) as server, api.client() as client:
        with api.relay(client.connect(server.url, reconnect=False)) as relayed:
            parts = list(relayed)
    assert parts == ["event: tick\nid: №1\nretry: 7\ndata: é☃\ndata: two\n\n".encode(), b"data: \n\n"]


def test_a_client_of_the_relay_has_the_same_last_event_ids(api: Api) -> None:
    script = "data: a\n\nid: 1\n\ndata: b\n\ndata: c\n\nid\n\ndata: d\n\nid: 2\ndata: e\n\nid:\ndata: f\n\n"
    with SSEServer(stream(script), default=stream(script)) as server, api.client() as client:
        direct = api.rest(client.connect(server.url, last_event_id="from before", reconnect=False))
        with api.relay(client.connect(server.url, last_event_id="from before", reconnect=False)) as relayed:
            through = EventStreamParser().feed(b"".join(relayed))
    relayed_events = [(event.data, event.last_event_id) for event in through if isinstance(event, SSEEvent)]
    assert relayed_events == [(event.data, event.last_event_id) for event in direct]


def test_a_drop_upstream_is_not_visible(api: Api) -> None:
    replies = stream("id: 1\ndata: a\n\n", CUT), stream("id: 1\ndata: a\n\nid: 2\ndata: b\n\n"), status(204)
    with SSEServer(*replies) as server, api.client(policy=QUICK) as client:
        with api.relay(client.connect(server.url)) as relayed:
            assert list(relayed) == [b"id: 1\ndata: a\n\n", b"id: 2\ndata: b\n\n"]
    assert [request.last_event_id for request in server.requests] == [None, "1", "2"]


def test_heartbeats_are_sent_while_idle_and_lose_no_event(api: Api) -> None:
    gate = Gate()
    with SSEServer(stream("data: a\n\n", gate, "data: b\n\n", HANG)) as server, api.client() as client:
        with api.relay(client.connect(server.url), heartbeat=0.05) as relayed:
            before = list(islice(iter(lambda: next(relayed), b"data: a\n\n"), 1000))
            assert set(before) <= {HEARTBEAT}  # the server may be slow
            assert [next(relayed), next(relayed)] == [HEARTBEAT, HEARTBEAT]
            gate.open()
            after = list(islice(iter(lambda: next(relayed), b"data: b\n\n"), 1000))
            assert set(after) <= {HEARTBEAT}
            assert next(relayed) == HEARTBEAT


def test_heartbeat_none_sends_no_heartbeats(api: Api) -> None:
    with SSEServer(stream("data: a\n\n")) as server, api.client() as client:
        with api.relay(client.connect(server.url, reconnect=False), heartbeat=None) as relayed:
            assert list(relayed) == [b"data: a\n\n"]


def test_heartbeats_are_sent_while_the_upstream_is_unreachable(api: Api) -> None:
    policy = SLOW
    with SSEServer(default=status(503)) as server, api.client(policy=policy) as client:
        with api.relay(client.connect(server.url), heartbeat=0.05) as relayed:
            assert list(islice(relayed, 3)) == [HEARTBEAT] * 3


def test_a_fatal_error_is_raised_once(api: Api) -> None:
    with SSEServer(status(401)) as server, api.client() as client:
        with api.relay(client.connect(server.url)) as relayed:
            with pytest.raises(SSEStatusError) as caught:
                next(relayed)
            assert caught.value.status == 401
            assert list(relayed) == []


def test_closing_the_relay_closes_the_connection(api: Api) -> None:
    with SSEServer(stream("data: a\n\n", HANG)) as server, api.client() as client:
        conn = client.connect(server.url)
        with api.relay(conn) as relayed:
            assert next(relayed) == b"data: a\n\n"
        assert conn.ready_state is ReadyState.CLOSED
        assert list(relayed) == []


def test_closing_an_async_relay_without_a_loop() -> None:
    """Django closes the async iterator from a thread."""
    with SSEServer(stream(HANG)) as server, SSEClient() as client:
        conn = client.connect(server.url).open()
        conn.arelay().close()
        assert conn.ready_state is ReadyState.CLOSED


def test_cancelling_a_wait_closes_the_connection() -> None:
    """When the browser disconnects, Starlette only cancels the task, and may keep the iterator."""

    async def main() -> None:
        async with SSEClient() as client:
            conn = await client.connect(server.url)
            relayed = conn.arelay()
            waiting = asyncio.ensure_future(anext(relayed))
            await asyncio.sleep(0)  # let the task begin to wait
            with pytest.raises(RuntimeError, match="one at a time"):  # a usage error: the stream continues
                await anext(relayed)
            states = [conn.ready_state]
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            states.append(conn.ready_state)
            assert states == [ReadyState.OPEN, ReadyState.CLOSED]

    with SSEServer(stream(HANG)) as server:
        asyncio.run(main())


def test_dropping_the_relay_closes_the_connection() -> None:
    with SSEServer(stream("data: a\n\n", HANG)) as server, SSEClient() as client:
        conn = client.connect(server.url)
        reader = weakref.ref(conn._reader)
        relayed = conn.relay()
        del conn
        assert next(relayed) == b"data: a\n\n"
        del relayed
        wait_until(lambda: reader() is None, "the reader's end")


def test_each_relay_has_one_api_only() -> None:
    with SSEClient() as client:
        conn = client.connect("http://127.0.0.1/")
        relay, arelay = conn.relay(), conn.arelay()
    assert isinstance(relay, Iterator)
    assert not isinstance(relay, AsyncIterator)
    assert isinstance(arelay, AsyncIterator)
    assert not isinstance(arelay, Iterator)


@pytest.mark.parametrize("heartbeat", [0, -1, float("inf"), float("nan")])
def test_an_invalid_heartbeat_raises_value_error(heartbeat: float) -> None:
    with SSEClient() as client:
        conn = client.connect("http://127.0.0.1/")
        for relay in (conn.relay, conn.arelay):
            with pytest.raises(ValueError, match=r"heartbeat must be at least 0\.001 and finite"):
                relay(heartbeat)


@pytest.mark.parametrize("heartbeat", ["15", True])
def test_a_heartbeat_that_is_not_a_number_raises_type_error(heartbeat: Any) -> None:
    with SSEClient() as client:
        with pytest.raises(TypeError, match="heartbeat must be a number"):
            client.connect("http://127.0.0.1/").relay(heartbeat)
