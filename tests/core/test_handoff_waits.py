"""Waiting for the hand-off: timeouts, cancellation, one consumer at a time."""

from __future__ import annotations

import asyncio
import gc
import random
import time
import weakref
from typing import TYPE_CHECKING

import pytest

from sseclient_dual.handoff import Finished
from sseclient_dual.waiting import Latch, ThreadWaiter
from support.handoffs import Cyclic, Job, Parks, abandon, get, make, new_loop, offer, put, repeatedly, run, turns
from support.waiting import LONG, PATIENCE

if TYPE_CHECKING:
    from support.apis import Api


# --- timeouts -----------------------------------------------------------------------------------------------


def test_a_timeout_of_zero_returns_a_queued_item(api: Api) -> None:
    handoff = make()
    offer(handoff, [1, 2])
    assert [get(api, handoff, 0), get(api, handoff, 0)] == [1, 2]
    with pytest.raises(TimeoutError, match="nothing is lost"):
        get(api, handoff, 0)


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_a_timeout_loses_no_items(api: Api, timeout: float) -> None:
    handoff = make()
    with pytest.raises(TimeoutError):
        get(api, handoff, timeout)
    offer(handoff, [1, 2])
    assert [get(api, handoff, timeout), get(api, handoff)] == [1, 2]


def test_a_timeout_does_not_end_early(api: Api) -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        get(api, make(), 0.05)
    assert time.monotonic() - start >= 0.05 - time.get_clock_info("monotonic").resolution - 0.002


def test_a_timeout_may_be_very_long(api: Api, parks: Parks) -> None:
    handoff = make()

    def offer_later() -> None:
        parks.await_next()
        offer(handoff, [1])

    job = Job(offer_later)
    assert get(api, handoff, 1e12) == 1
    job.result()


def test_a_spurious_wake_up_does_not_end_the_wait(api: Api, parks: Parks) -> None:
    handoff = make()

    def wake() -> int:
        for _ in range(3):
            parks.await_next()
            parks.waiters[-1].wake()
        parks.await_next()
        return offer(handoff, [1])

    job = Job(wake)
    assert get(api, handoff, PATIENCE) == 1
    assert job.result() == 1


def test_spurious_wake_ups_do_not_prolong_the_wait(api: Api, parks: Parks) -> None:
    def wake() -> None:
        if parks.waiters:
            parks.waiters[-1].wake()

    with repeatedly(wake), pytest.raises(TimeoutError):
        get(api, make(), 0.05)


@pytest.mark.parametrize("timeout", [0, 1e-7, 1e-6, 1e-5])
def test_a_very_short_timeout_does_not_wait_forever(timeout: float) -> None:
    def park_repeatedly() -> None:
        for _ in range(3000):
            assert not ThreadWaiter().park(timeout)

    Job(park_repeatedly).result()


@pytest.mark.usefixtures("frequent_switches")
def test_items_that_race_with_timeouts_are_never_lost(api: Api) -> None:
    rng = random.Random(1)
    handoff = make(4)
    count = 1500
    received: list[int] = []
    timeouts = 0

    def produce() -> None:
        for item in range(count):
            put(handoff, [item])
            if item % 5 == 0:
                time.sleep(rng.random() * 3e-4)

    async def aconsume() -> None:
        nonlocal timeouts
        while len(received) < count:
            try:
                received.append(await handoff.aget(rng.random() * 2e-4))
            except TimeoutError:
                timeouts += 1

    def consume() -> None:
        nonlocal timeouts
        while len(received) < count:
            try:
                received.append(handoff.get(rng.random() * 2e-4))
            except TimeoutError:
                timeouts += 1

    producer = Job(produce)
    run(api, consume, aconsume)
    producer.result()
    assert received == list(range(count))
    assert timeouts, "no wait timed out"


# --- cancellation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cancelled_after", range(6))
@pytest.mark.parametrize("offered_after", range(6))
def test_a_wait_cancelled_in_any_loop_iteration_loses_no_items(offered_after: int, cancelled_after: int) -> None:
    async def main() -> list[int]:
        handoff = make()
        received: list[int] = []
        task = asyncio.ensure_future(handoff.aget())
        for turn in range(8):
            if turn == offered_after:
                offer(handoff, [1, 2])
            if turn == cancelled_after:
                task.cancel()
            await asyncio.sleep(0)
        assert task.done()
        if not task.cancelled():
            received.append(task.result())
        while len(handoff):
            received.append(await handoff.aget(0))
        return received

    assert asyncio.run(main()) == [1, 2]


@pytest.mark.usefixtures("frequent_switches")
def test_cancelling_at_random_loses_no_items() -> None:
    rng = random.Random(2)
    handoff = make(3)
    count = 2000

    def produce() -> None:
        for item in range(count):
            put(handoff, [item])
            if rng.random() < 0.1:
                time.sleep(1e-5)

    async def main() -> None:
        received: list[int] = []
        cancelled = 0
        while len(received) < count:
            task = asyncio.ensure_future(handoff.aget())
            await turns(rng.randrange(5))
            task.cancel()
            try:
                received.append(await task)
            except asyncio.CancelledError:
                cancelled += 1
        assert received == list(range(count))
        assert cancelled

    producer = Job(produce)
    asyncio.run(main())
    producer.result()


@pytest.mark.usefixtures("frequent_switches")
def test_wait_for_loses_no_items() -> None:
    rng = random.Random(3)
    handoff = make(3)
    count = 1000

    def produce() -> None:
        for item in range(count):
            put(handoff, [item])
            if rng.random() < 0.2:
                time.sleep(rng.random() * 3e-4)

    async def main() -> None:
        received: list[int] = []
        timeouts = 0
        while len(received) < count:
            try:
                received.append(await asyncio.wait_for(handoff.aget(), rng.random() * 2e-4))
            except asyncio.TimeoutError:
                timeouts += 1
        assert received == list(range(count))
        assert timeouts

    producer = Job(produce)
    asyncio.run(main())
    producer.result()


# --- one consumer at a time ---------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["thread", "task"])
def test_a_second_consumer_gets_an_error_and_the_first_continues(api: Api, parks: Parks, first: str) -> None:
    handoff = make()
    waiting = Job(handoff.get if first == "thread" else lambda: asyncio.run(handoff.aget()))
    parks.await_next()
    for timeout in (None, 0, LONG):
        with pytest.raises(RuntimeError, match="another consumer is waiting"):
            get(api, handoff, timeout)
    offer(handoff, [1, 2])
    assert waiting.result() == 1
    assert get(api, handoff) == 2


def test_a_second_consumer_in_the_same_loop_gets_an_error() -> None:
    async def main() -> None:
        handoff = make()
        task = asyncio.ensure_future(handoff.aget())
        await turns(2)
        with pytest.raises(RuntimeError, match="another consumer"):
            await handoff.aget()
        with pytest.raises(RuntimeError, match="another consumer"):
            handoff.get()
        assert not task.done()
        offer(handoff, [1])
        assert await task == 1

    asyncio.run(main())


def test_a_woken_consumer_keeps_its_place_until_it_runs() -> None:
    async def main() -> None:
        handoff = make()
        task = asyncio.ensure_future(handoff.aget())
        await turns(2)
        offer(handoff, [1])  # wakes the task, which runs in the next iteration of the loop
        with pytest.raises(RuntimeError, match="another consumer"):
            handoff.get(0)
        second = asyncio.ensure_future(handoff.aget(0))
        await turns(3)
        assert await task == 1
        with pytest.raises(RuntimeError, match="another consumer"):
            await second

    asyncio.run(main())


def test_consumers_may_take_turns() -> None:
    handoff = make()
    offer(handoff, range(6))
    received = [handoff.get(), Job(handoff.get).result()]
    received += [asyncio.run(handoff.aget()), Job(lambda: asyncio.run(handoff.aget())).result(), handoff.get()]
    assert [*received, asyncio.run(handoff.aget())] == list(range(6))
    with pytest.raises(TimeoutError):
        Job(lambda: handoff.get(0)).result()
    with pytest.raises(TimeoutError):
        asyncio.run(handoff.aget(0))
    with pytest.raises(TimeoutError):
        handoff.get(0)


def test_a_consumer_in_a_closed_loop_is_replaced(api: Api) -> None:
    handoff = make()
    with new_loop() as loop:
        task = loop.create_task(handoff.aget())
        loop.run_until_complete(turns(2))
    with pytest.raises(TimeoutError):
        get(api, handoff, 0)
    offer(handoff, [1])
    assert get(api, handoff) == 1
    abandon(task)


@pytest.mark.parametrize("wake", ["put", "finish", "close"])
def test_waking_a_consumer_in_a_closed_loop_does_nothing(wake: str) -> None:
    handoff = make()
    with new_loop() as loop:
        task = loop.create_task(handoff.aget())
        loop.run_until_complete(turns(2))
    if wake == "put":
        assert offer(handoff, [1]) == 1
        assert handoff.get() == 1
    else:
        getattr(handoff, wake)()
        with pytest.raises(Finished):
            handoff.get()
    abandon(task)


@pytest.mark.parametrize("awaited", ["item", "latch"])
def test_a_waiter_in_a_closed_loop_is_not_kept_alive(awaited: str) -> None:
    handoff = make()
    latch = Latch()

    async def wait(local: object) -> None:
        await (handoff.aget() if awaited == "item" else latch)

    def close_the_loop_of_a_waiter() -> weakref.ref[Cyclic]:
        local = Cyclic()
        with new_loop() as loop:
            task = loop.create_task(wait(local))
            loop.run_until_complete(turns(2))
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        return weakref.ref(local)

    reference = close_the_loop_of_a_waiter()
    gc.collect()
    assert reference() is None
    assert offer(handoff, [1]) == 1
    latch.set()
