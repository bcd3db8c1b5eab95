"""A checkpoint in the async API: it does not block the loop, and cancelled waits lose neither events nor saves."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import SSEClient
from sseclient_dual.testing import HANG, SSEServer, stream
from support.checkpoints import Memory
from support.streams import ONE, TWO
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from sseclient_dual import SSEConnection, SSEEvent


class Gated(Memory):
    """Blocks each call until `go_on` is set, and records the calls that run at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Event()
        self.go_on = threading.Event()
        self.running = self.most_running = 0
        self.threads: set[int] = set()

    def load(self) -> str | None:
        self._block()
        return super().load()

    def save(self, last_event_id: str) -> None:
        self._block()
        super().save(last_event_id)

    def _block(self) -> None:
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        self.threads.add(threading.get_ident())
        self.began.set()
        assert self.go_on.wait(PATIENCE)
        self.running -= 1

    async def begun(self) -> None:
        """Wait until a call has begun, while the loop runs."""
        assert await asyncio.to_thread(self.began.wait, PATIENCE)
        self.began.clear()


def receiving(conn: SSEConnection) -> asyncio.Task[SSEEvent]:
    async def receive() -> SSEEvent:
        return await anext(conn)

    return asyncio.ensure_future(receive())


async def cancel(task: asyncio.Task[SSEEvent]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_loop_runs_while_the_checkpoint_loads_and_saves() -> None:
    memory = Gated()

    async def main(url: str) -> None:
        async with SSEClient() as client:
            first = receiving(conn := client.connect(url, checkpoint=memory))
            await memory.begun()
            assert not first.done()
            memory.go_on.set()
            assert (await first).data == "one"
            memory.began.clear()
            memory.go_on.clear()
            second = receiving(conn)
            await memory.begun()
            # At an interval of 0, the save is finished before the next event is handed over.
            assert not second.done()
            assert conn.last_event_id == "1"
            memory.go_on.set()
            assert (await second).data == "two"
            assert memory.saved == ["1"]

    with SSEServer(stream(ONE, TWO, HANG)) as server:
        asyncio.run(main(server.url))
    assert threading.get_ident() not in memory.threads


def test_a_cancelled_wait_leaves_the_save_running_and_the_next_one_waits_for_it() -> None:
    memory = Gated()
    memory.go_on.set()

    async def main(url: str) -> None:
        async with SSEClient() as client, client.connect(url, checkpoint=memory) as conn:
            await anext(conn)
            memory.began.clear()
            memory.go_on.clear()
            first = receiving(conn)
            await memory.begun()
            await cancel(first)
            second, committing = receiving(conn), asyncio.ensure_future(conn.acommit())
            await asyncio.sleep(0)
            assert memory.running == 1
            memory.go_on.set()
            assert (await second).data == "two"
            await committing
            assert memory.saved[0] == "1"
            assert memory.most_running == 1

    with SSEServer(stream(ONE, TWO, HANG)) as server:
        asyncio.run(main(server.url))
    assert memory.saved == ["1", "2"]


def test_leaving_the_block_waits_for_a_save_that_is_running() -> None:
    memory = Gated()
    memory.go_on.set()

    async def main(url: str) -> None:
        async with SSEClient() as client:
            conn = await client.connect(url, checkpoint=memory)
            await anext(conn)
            memory.began.clear()
            memory.go_on.clear()
            first = receiving(conn)
            await memory.begun()
            await cancel(first)
            closing = asyncio.ensure_future(conn.aclose())
            await conn._reader.finished
            assert not closing.done()
            memory.go_on.set()
            await closing
            assert memory.saved == ["1"]

    with SSEServer(stream(ONE, TWO, HANG)) as server:
        asyncio.run(main(server.url))


def test_a_cancelled_load_is_not_repeated() -> None:
    memory = Gated()

    async def main(url: str) -> None:
        async with SSEClient() as client:
            conn = client.connect(url, checkpoint=memory)
            first = receiving(conn)
            await memory.begun()
            await cancel(first)
            memory.go_on.set()
            assert (await anext(conn)).data == "one"

    with SSEServer(stream(ONE, HANG)) as server:
        asyncio.run(main(server.url))
    assert memory.loads == 1


def test_a_cancelled_commit_at_the_end_of_the_block_closes_the_connection() -> None:
    memory = Gated()
    memory.go_on.set()

    async def main(url: str) -> None:
        async def use() -> None:
            async with client.connect(url, checkpoint=memory) as conn:
                await anext(conn)
                memory.began.clear()
                memory.go_on.clear()
                leaving.set()

        leaving = asyncio.Event()
        async with SSEClient() as client:
            using = asyncio.ensure_future(use())
            await leaving.wait()
            await memory.begun()
            using.cancel()
            asyncio.get_running_loop().call_later(0.01, memory.go_on.set)
            with pytest.raises(asyncio.CancelledError):
                await using
            assert memory.saved == ["1"]  # the end of the block has waited for the save

    with SSEServer(stream(ONE, HANG)) as server:
        asyncio.run(main(server.url))
        server.wait_for_connections(0)


def test_the_checkpoint_sees_the_context_of_the_task() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    class Seeing(Memory):
        def save(self, last_event_id: str) -> None:
            seen.append(variable.get())
            super().save(last_event_id)

    async def main(url: str) -> None:
        async with SSEClient() as client, client.connect(url, checkpoint=Seeing()) as conn:
            await anext(conn)
            variable.set("set")

    with SSEServer(stream(ONE, HANG)) as server:
        asyncio.run(main(server.url))
    assert seen == ["set"]


@pytest.mark.usefixtures("restore_gc")
def test_an_error_of_a_save_is_not_kept() -> None:
    class BrokenError(Exception):
        pass

    class Broken(Memory):
        def save(self, last_event_id: str) -> None:
            raise BrokenError(last_event_id)

    async def main(url: str) -> None:
        async with SSEClient() as client:
            conn = await client.connect(url, checkpoint=Broken())
            await anext(conn)
            gc.disable()
            try:
                await anext(conn)
            except BrokenError as error:
                errors.add(error)
            assert list(errors) == []

    errors: weakref.WeakSet[BrokenError] = weakref.WeakSet()
    with SSEServer(stream(ONE, TWO, HANG)) as server:
        asyncio.run(main(server.url))
