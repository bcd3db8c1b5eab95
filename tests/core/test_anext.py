"""The awaitable of `SSEConnection.__anext__`: a coroutine, which takes no event before it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEClient, SSEEvent
from sseclient_dual.testing import Gate, SSEServer, stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from sseclient_dual import SSEConnection


def run(check: Callable[[SSEConnection, Gate], Coroutine[Any, Any, None]]) -> None:
    """Run a check with a connection whose events 1 to 3 are ready; opening the gate sends the fourth."""
    gate = Gate()

    async def main() -> None:
        with SSEServer(stream("data: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\n", gate, "data: 4\n\n")) as server:
            async with SSEClient() as client, client.connect(server.url, reconnect=False) as conn:
                assert (await conn.__anext__()).data == "0"
                await check(conn, gate)

    asyncio.run(asyncio.wait_for(main(), 60))


def following(conn: SSEConnection) -> Coroutine[Any, Any, SSEEvent]:
    """Return the awaitable of the next event."""
    awaitable = conn.__anext__()
    assert isinstance(awaitable, Coroutine)
    return awaitable


async def take_ready(conn: SSEConnection) -> None:
    assert [(await following(conn)).data for _ in range(3)] == ["1", "2", "3"]


def test_it_can_be_a_task() -> None:
    async def check(conn: SSEConnection, gate: Gate) -> None:
        assert (await asyncio.create_task(following(conn))).data == "1"
        assert (await asyncio.wait_for(following(conn), 5)).data == "2"
        assert (await anext(conn)).data == "3"
        waiting = asyncio.create_task(following(conn))
        await asyncio.sleep(0)
        assert not waiting.done()
        gate.open()
        assert (await waiting).data == "4"
        with pytest.raises(StopAsyncIteration):
            await following(conn)

    run(check)


def test_a_task_that_is_cancelled_before_it_runs_takes_no_event() -> None:
    async def check(conn: SSEConnection, gate: Gate) -> None:
        for _ in range(2):
            task = asyncio.create_task(following(conn))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await take_ready(conn)

    run(check)


def test_a_wait_that_is_cancelled_takes_no_event() -> None:
    async def check(conn: SSEConnection, gate: Gate) -> None:
        await take_ready(conn)
        task = asyncio.create_task(following(conn))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.open()
        assert (await following(conn)).data == "4"

    run(check)


def test_a_closed_one_takes_no_event() -> None:
    async def check(conn: SSEConnection, gate: Gate) -> None:
        closed = following(conn)
        closed.close()
        closed.close()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await closed
        await take_ready(conn)
        waiting = following(conn)
        waiting.send(None)
        waiting.close()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            waiting.send(None)
        gate.open()
        assert (await following(conn)).data == "4"

    run(check)


def test_it_is_awaited_once() -> None:
    async def check(conn: SSEConnection, gate: Gate) -> None:
        awaitable = following(conn)
        assert (await awaitable).data == "1"
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await awaitable
        assert (await following(conn)).data == "2"

    run(check)


def test_it_is_driven_as_a_coroutine() -> None:
    async def check(conn: SSEConnection, gate: Gate) -> None:
        unstarted = following(conn)
        with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
            unstarted.send("x")
        unstarted.close()
        with pytest.raises(ZeroDivisionError):
            following(conn).throw(ZeroDivisionError)
        with pytest.raises(StopIteration) as caught:
            following(conn).send(None)
        assert caught.value.value.data == "1"
        with pytest.raises(StopIteration) as caught:
            next(following(conn).__await__())
        assert caught.value.value.data == "2"
        await following(conn)
        waiting = following(conn)
        waiting.send(None)
        with pytest.raises(ZeroDivisionError):
            waiting.throw(ZeroDivisionError())
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            waiting.throw(ZeroDivisionError())

    run(check)
