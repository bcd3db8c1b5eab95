"""A waiting task that only its event loop references goes on, and a cancelled one releases its connection."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEClient
from sseclient_dual.testing import HANG, Gate, SSEServer, stream
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sseclient_dual import SharedFeed, SSEConnection

pytestmark = pytest.mark.slow

EVENTS = 5


async def _iterate(conn: SSEConnection, seen: list[str]) -> None:
    async for event in conn:
        seen.append(event.data)  # noqa: PERF401 - seen at once


async def _receive(conn: SSEConnection, seen: list[str]) -> None:
    for _ in range(EVENTS):
        seen.append((await conn.arecv()).data)  # noqa: PERF401


async def _relay(conn: SSEConnection | SharedFeed, seen: list[str]) -> None:
    async for piece in conn.arelay(heartbeat=None):
        seen.append(piece.decode().removeprefix("data: ").strip())  # noqa: PERF401


async def _read_signals(conn: SSEConnection, seen: list[str]) -> None:
    async for signal in conn.signals():
        seen.append(getattr(signal, "data", ""))  # noqa: PERF401


async def _enter(conn: SSEConnection, seen: list[str]) -> None:
    async with conn:
        await _iterate(conn, seen)


async def _open(conn: SSEConnection, seen: list[str]) -> None:
    await conn
    await _iterate(conn, seen)


async def _subscribe(feed: SharedFeed, seen: list[str]) -> None:
    async for event in feed.subscribe():
        seen.append(event.data)  # noqa: PERF401 - seen at once


OF_A_CONNECTION = [_iterate, _receive, _relay, _read_signals, _enter, _open]
OF_A_FEED = [_relay, _subscribe]


@pytest.mark.parametrize(
    ("make", "consume"),
    [
        *(pytest.param(SSEClient.connect, consume, id=f"connect-{consume.__name__}") for consume in OF_A_CONNECTION),
        *(pytest.param(SSEClient.share, consume, id=f"share-{consume.__name__}") for consume in OF_A_FEED),
    ],
)
def test_the_collector_does_not_free_a_waiting_task(
    make: Callable[[SSEClient, str], Any], consume: Callable[[Any, list[str]], Awaitable[None]]
) -> None:
    gates = [Gate() for _ in range(EVENTS)]
    steps = [step for number, gate in enumerate(gates) for step in (gate, f"data: {number}\n\n")]
    expected = [str(number) for number in range(EVENTS)]
    seen: list[str] = []

    async def main(url: str) -> None:
        async def consume_and_forget() -> None:
            # The client, the connection or feed, and the task are referenced by nothing else.
            await consume(make(SSEClient(), url), seen)

        async def open_gates() -> None:
            for gate in gates:
                await asyncio.to_thread(gate.wait_reached)
                gc.collect()
                gate.open()
            while [data for data in seen if data] != expected:
                gc.collect()
                await asyncio.sleep(0.01)

        asyncio.ensure_future(consume_and_forget())  # noqa: RUF006 - the subject of the test
        await asyncio.wait_for(open_gates(), PATIENCE)

    # The first gate holds back the head, too, so that opening waits as well.
    with SSEServer(stream(*steps, HANG, head_with_body=True)) as server:
        asyncio.run(main(server.url))


def test_a_connection_is_closed_when_its_cancelled_task_is_dropped() -> None:
    async def main(url: str) -> weakref.ref[SSEConnection]:
        conn = SSEClient().connect(url)
        task = asyncio.ensure_future(conn.arecv())
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])
        return weakref.ref(conn)

    with SSEServer(stream(HANG)) as server:
        conn = asyncio.run(main(server.url))
        gc.collect()
        assert conn() is None
        server.wait_for_connections(0)


def test_a_closed_event_loop_releases_its_waiting_task() -> None:
    with SSEServer(stream("data: 1\n\n", HANG)) as server:
        loop = asyncio.new_event_loop()
        conn = SSEClient().connect(server.url)
        loop.run_until_complete(anext(conn))
        task = loop.create_task(conn.arecv())
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
        freed = weakref.ref(conn)
        task.get_coro().close()
        del conn, task, loop
        gc.collect()
        assert freed() is None
        server.wait_for_connections(0)
