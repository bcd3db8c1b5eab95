"""The hand-off under load and when idle: waiting does not poll, and other tasks can run."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual.handoff import Finished
from sseclient_dual.waiting import Latch
from support.handoffs import Job, Parks, make, offer, put, turns
from support.interruptions import outcome_of
from support.waiting import LONG, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable


def voluntary_switches(ident: int) -> int:
    """Return how many times a thread gave up the CPU voluntarily; it does so whenever it goes to sleep."""
    status = Path(f"/proc/self/task/{ident}/status").read_text(encoding="ascii")
    return int(status.split("voluntary_ctxt_switches:")[1].split()[0])


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc of Linux")
@pytest.mark.parametrize("waits", ["get", "get with a timeout", "aget", "put", "latch"])
def test_waiting_does_not_poll(parks: Parks, waits: str) -> None:
    handoff = make(1)
    latch = Latch()
    calls: dict[str, Callable[[], Any]] = {
        "get": handoff.get,
        "get with a timeout": lambda: handoff.get(LONG),
        "aget": lambda: asyncio.run(handoff.aget()),
        "put": lambda: put(handoff, [1, 2]),
        "latch": latch.wait,
    }
    job = Job(calls[waits])
    parks.await_next()

    def keeps_sleeping() -> bool:
        before = voluntary_switches(job.ident)
        time.sleep(0.1)  # a fixed time: a polling thread wakes up meanwhile
        return voluntary_switches(job.ident) == before

    wait_until(keeps_sleeping, "0.1 s without a wake-up of the thread")
    latch.set()
    handoff.close()
    outcome_of(job.result)


def test_a_loop_is_woken_once_for_several_items(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        handoff = make()
        loop = asyncio.get_running_loop()
        wake = loop.call_soon_threadsafe
        wakes: list[object] = []

        def counting(*arguments: Any) -> Any:
            wakes.append(arguments)
            return wake(*arguments)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
        task = asyncio.ensure_future(handoff.aget())
        await turns(2)
        for item in range(100):
            offer(handoff, [item])
        assert [await task, *[await handoff.aget() for _ in range(99)]] == list(range(100))
        assert len(wakes) == 1

    asyncio.run(main())


def test_other_tasks_run_while_the_producer_is_busy() -> None:
    max_items = 16
    handoff = make(max_items)
    received_since_tick = longest = 0

    def produce() -> None:
        for start in range(0, 20_000, 50):
            put(handoff, range(start, start + 50))
        handoff.finish()

    async def tick() -> None:
        nonlocal received_since_tick
        while True:
            received_since_tick = 0
            await asyncio.sleep(0)

    async def main() -> None:
        nonlocal received_since_tick, longest
        ticking = asyncio.ensure_future(tick())
        with suppress(Finished):
            while True:
                await handoff.aget()
                received_since_tick += 1
                longest = max(longest, received_since_tick)
        ticking.cancel()

    job = Job(produce)
    asyncio.run(main())
    job.result()
    assert 0 < longest <= max_items


def test_other_tasks_run_while_the_queue_is_never_empty() -> None:
    async def main() -> None:
        handoff = make(8)
        others = 0

        async def other() -> None:
            nonlocal others
            while True:
                others += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        for _ in range(800):
            offer(handoff, range(8))  # the queue is never empty, so aget() never waits
            await handoff.aget()
        task.cancel()
        assert others >= 800 // 8

    asyncio.run(main())
