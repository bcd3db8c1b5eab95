"""Connections: opening, events, state and statistics."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import (
    ReadyState,
    ReconnectPolicy,
    SSEClient,
    SSEClosedError,
    SSEConnection,
    SSEEvent,
    SSEStatusError,
)
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, raw, redirect, status, stream
from support.policies import QUICK
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from support.apis import Api


FULL = "event: tick\nid: 7\nretry: 5\ndata: {\ndata: }\n\n"


# -- opening


def test_iteration_opens_the_connection(api: Api) -> None:
    with SSEServer(stream("data: x\n\n", HANG)) as server, api.client() as client:
        conn = client.connect(server.url)
        assert api.next(conn).data == "x"
        api.close(conn)


def test_recv_opens_the_connection(api: Api) -> None:
    with SSEServer(stream("data: x\n\n", HANG)) as server, api.client() as client:
        conn = client.connect(server.url)
        assert api.recv(conn).data == "x"
        api.close(conn)


def test_open_returns_the_connection_when_the_response_head_arrives(api: Api) -> None:
    with SSEServer(stream(HANG)) as server, api.client() as client:
        conn = client.connect(server.url)
        assert api.open(conn) is conn
        assert (conn.ready_state, conn.status) == (ReadyState.OPEN, 200)
        assert api.open(conn) is conn  # a second call has no effect
        assert len(server.requests) == 1
        api.close(conn)


def test_a_for_loop_needs_no_with_block() -> None:
    with SSEServer(stream("data: 1\n\ndata: 2\n\n")) as server:
        seen = [event["data"] for event in SSEClient(policy=QUICK).connect(server.url)]
        assert seen == ["1", "2"]


def test_an_async_for_loop_needs_no_with_block() -> None:
    async def main(url: str) -> list[str]:
        return [event["data"] async for event in SSEClient(policy=QUICK).connect(url)]

    with SSEServer(stream("data: 1\n\ndata: 2\n\n")) as server:
        assert asyncio.run(main(server.url)) == ["1", "2"]


def test_awaiting_a_connection_opens_it_and_close_can_be_awaited() -> None:
    async def main(url: str) -> None:
        async with SSEClient() as client:
            conn = await client.connect(url)
            assert conn.ready_state is ReadyState.OPEN
            async for event in conn:
                assert event.data == "x"
                break
            await conn.close()
            await conn.close()

    with SSEServer(stream("data: x\n\n", HANG)) as server:
        asyncio.run(main(server.url))


def test_opening_retries_until_it_succeeds(api: Api) -> None:
    with SSEServer(status(503), raw(CUT), stream(HANG)) as server, api.client(policy=QUICK) as client:
        with api.connect(client, server.url) as conn:
            assert conn.stats.reconnects == 2


def test_open_can_be_called_again_after_a_timeout() -> None:
    gate = Gate()
    with SSEServer(stream(gate, "data: x\n\n", HANG, head_with_body=True)) as server, SSEClient() as client:
        conn = client.connect(server.url)
        with pytest.raises(TimeoutError, match=r"0\.1 s"):
            conn.open(timeout=0.1)
        gate.open()
        assert conn.open(timeout=PATIENCE) is conn
        assert len(server.requests) == 1
        conn.close()


def test_a_connection_can_be_awaited_again_after_cancellation() -> None:
    async def main(url: str) -> None:
        async with SSEClient() as client:
            conn = client.connect(url)

            async def opened() -> SSEConnection:
                return await conn

            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(opened(), 0.1)
            gate.open()
            assert (await conn).status == 200

    gate = Gate()
    with SSEServer(stream(gate, "data: x\n\n", HANG, head_with_body=True)) as server:
        asyncio.run(main(server.url))


def test_an_error_while_opening_is_raised_once(api: Api) -> None:
    with SSEServer(status(404)) as server, api.client() as client:
        conn = client.connect(server.url)
        with pytest.raises(SSEStatusError):
            api.open(conn)
        assert conn.ready_state is ReadyState.CLOSED
        with pytest.raises(SSEClosedError):
            api.open(conn)
        assert api.rest(conn) == []


def test_an_error_while_opening_by_iteration_is_raised_once(api: Api) -> None:
    with SSEServer(status(404)) as server, api.client() as client:
        conn = client.connect(server.url)
        with pytest.raises(SSEStatusError):
            api.next(conn)
        assert api.rest(conn) == []
        with pytest.raises(SSEClosedError):
            api.recv(conn)


# -- events


def test_events_have_all_fields_and_attributes(api: Api) -> None:
    with (
        SSEServer(redirect("/there"), stream(FULL, "data\n\n", HANG)) as server,
        api.client() as client,
        api.connect(client, server.url) as conn,
    ):
        first, second = api.take(conn, 2)
        assert dict(first) == {"data": "{\n}", "event": "tick", "id": "7", "retry": 5}
        assert (first.type, first.last_event_id, first.origin) == ("tick", "7", server.origin)
        assert first.json() == {}
        assert dict(second) == {"data": "", "event": None, "id": None, "retry": None}
        assert (second.type, second.last_event_id) == ("message", "7")
        assert conn.reconnection_time == 100  # the minimum: the server sent a smaller one


def test_recv_with_a_timeout_loses_no_events(api: Api) -> None:
    gate = Gate()
    with (
        SSEServer(stream(": ping\n\n", gate, "data: x\n\n", HANG)) as server,
        api.client() as client,
        api.connect(client, server.url) as conn,
    ):
        for timeout in (0, 0.05):
            with pytest.raises(TimeoutError, match="nothing is lost"):
                api.recv(conn, timeout)
        gate.open()
        assert api.recv(conn, PATIENCE).data == "x"


@pytest.mark.parametrize(("timeout", "kind"), [("5", TypeError), (True, TypeError), (-1, ValueError)])
def test_an_invalid_timeout_is_rejected(api: Api, timeout: float, kind: type[Exception]) -> None:
    with SSEServer() as server, api.client() as client:
        conn = client.connect(server.url)
        with pytest.raises(kind, match="timeout"):
            api.recv(conn, timeout)
        with pytest.raises(kind, match="timeout"):
            conn.open(timeout)
        assert server.requests == []


def test_cancelling_a_wait_loses_no_events() -> None:
    count = 300

    async def main(url: str) -> list[str]:
        seen: list[str] = []
        async with SSEClient() as client, client.connect(url, reconnect=False) as conn:
            for attempt in itertools.count():
                if len(seen) == count:
                    break
                task = asyncio.create_task(conn.arecv())
                for _ in range(1 + attempt % 6):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    seen.append((await task).data)
        return seen

    events = [f"data: {number}\n\n" for number in range(count)]
    with SSEServer(stream(*events)) as server:
        assert asyncio.run(main(server.url)) == [str(number) for number in range(count)]


def test_wait_for_around_anext_loses_no_events() -> None:
    count = 200

    async def main(url: str) -> list[str]:
        seen: list[str] = []
        async with SSEClient() as client, client.connect(url, reconnect=False) as conn:
            while len(seen) < count:
                with contextlib.suppress(asyncio.TimeoutError):
                    seen.append((await asyncio.wait_for(anext(conn), 0.001)).data)
        return seen

    events = [f"data: {number}\n\n" for number in range(count)]
    with SSEServer(stream(*events, HANG)) as server:
        assert asyncio.run(main(server.url)) == [str(number) for number in range(count)]


def test_a_second_consumer_gets_an_error_and_the_first_continues(api: Api) -> None:
    gate = Gate()
    with SSEServer(stream(gate, "data: x\n\n", HANG)) as server, SSEClient() as client:
        conn = client.connect(server.url, name="prices").open()
        received: list[SSEEvent] = []
        first = threading.Thread(target=lambda: received.append(conn.recv()))
        first.start()
        wait_until(lambda: conn._reader.handoff._waiting_consumer() is not None, "the first consumer's wait")
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"^prices: another consumer is waiting for the next event"):
                api.next(conn)
        gate.open()
        first.join(PATIENCE)
        assert [event.data for event in received] == ["x"]
        conn.close()


def test_a_second_task_gets_an_error_and_the_first_continues() -> None:
    async def main(url: str) -> None:
        async with SSEClient() as client, client.connect(url) as conn:
            first = asyncio.create_task(conn.arecv())
            await asyncio.sleep(0.01)
            with pytest.raises(RuntimeError, match="another consumer"):
                await anext(conn)
            gate.open()
            assert (await first).data == "x"

    gate = Gate()
    with SSEServer(stream(gate, "data: x\n\n", HANG)) as server:
        asyncio.run(main(server.url))


def test_both_apis_take_turns_on_one_connection() -> None:
    async def take(conn: SSEConnection) -> str:
        return (await anext(conn)).data

    with SSEServer(stream(*(f"data: {number}\n\n" for number in range(4)), HANG)) as server:
        with SSEClient() as client, client.connect(server.url) as conn:
            seen = [next(conn).data, asyncio.run(take(conn)), next(conn).data, asyncio.run(take(conn))]
        assert seen == ["0", "1", "2", "3"]


# -- state and statistics


def test_ready_state_is_the_state_of_the_network_side(api: Api) -> None:
    with SSEServer(stream("data: x\n\n"), stream("data: y\n\n")) as server:
        with api.client(policy=ReconnectPolicy(retry_delay=10, max_retry_delay=10)) as client:
            conn = client.connect(server.url)
            assert conn.ready_state is ReadyState.CONNECTING
            assert api.next(conn).data == "x"
            wait_until(lambda: conn.ready_state is ReadyState.CLOSED, "the 204")
            assert api.next(conn).data == "y"  # the network side was ahead of the consumer
            assert api.rest(conn) == []


def test_stats_are_a_snapshot(api: Api) -> None:
    body = ": c\nid: 1\ndata: a\n\nid: 2\ndata: b\n\n"
    with (
        SSEServer(stream(body, CUT), stream(body, HANG)) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        wait_until(lambda: conn.stats.duplicates == 2, "the replay")
        stats = conn.stats
        assert (stats.events, stats.comments, stats.reconnects, stats.queued) == (2, 2, 1, 2)
        assert stats.bytes == 2 * len(body)
        api.next(conn)
        assert stats.queued == 2
        assert conn.stats.queued == 1
        with pytest.raises(AttributeError):
            stats.events = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    "name",
    ["url", "ready_state", "last_event_id", "reconnection_time", "status", "headers", "response_url", "stats"],
)
def test_attributes_are_read_only(name: str) -> None:
    with SSEClient() as client, pytest.raises(AttributeError):
        setattr(client.connect("http://127.0.0.1:9/"), name, None)


def test_repr_shows_origin_and_state() -> None:
    with SSEClient() as client:
        conn = client.connect("http://user:pw@127.0.0.1:9/path?token=1")
        assert repr(conn) == "<SSEConnection to http://127.0.0.1:9, CONNECTING>"
        named = client.connect("http://127.0.0.1:9/path?query", name="prices")
        assert repr(named) == "<SSEConnection 'prices' to http://127.0.0.1:9, CONNECTING>"
