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
from support.handoffs import Dropped, Job, Parks, abandon, get, make, new_loop, offer, often, put, run, turns
from support.waiting import LONG, PATIENCE

if TYPE_CHECKING:
    from support.apis import Api


# --- time-outs ----------------------------------------------------------------------------------------------


def test_a_time_out_of_zero_takes_what_is_there(api: Api) -> None:
    handoff = make()
    offer(handoff, [1, 2])
    assert [get(api, handoff, 0), get(api, handoff, 0)] == [1, 2]
    with pytest.raises(TimeoutError, match="nothing is lost"):
        get(api, handoff, 0)


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_a_time_out_loses_nothing(api: Api, timeout: float) -> None:
    handoff = make()
    with pytest.raises(TimeoutError):
        get(api, handoff, timeout)
    offer(handoff, [1, 2])
    assert [get(api, handoff, timeout), get(api, handoff)] == [1, 2]


def test_a_time_out_is_not_up_before_its_time(api: Api) -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        get(api, make(), 0.05)
    assert time.monotonic() - start >= 0.05 - time.get_clock_info("monotonic").resolution - 0.002


def test_a_time_out_of_any_length_will_do(api: Api, parks: Parks) -> None:
    handoff = make()

    def come_late() -> None:
        parks.await_next()
        offer(handoff, [1])

    job = Job(come_late)
    assert get(api, handoff, 1e12) == 1
    job.result()


def test_a_wake_up_for_no_reason_does_not_end_the_wait(api: Api, parks: Parks) -> None:
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


def test_wake_ups_for_no_reason_do_not_prolong_the_wait(api: Api, parks: Parks) -> None:
    def wake() -> None:
        if parks.waiters:
            parks.waiters[-1].wake()

    with often(wake), pytest.raises(TimeoutError):
        get(api, make(), 0.05)


@pytest.mark.parametrize("timeout", [0, 1e-7, 1e-6, 1e-5])
def test_a_time_out_however_short_is_no_wait_for_ever(timeout: float) -> None:
    def park_often() -> None:
        for _ in range(3000):
            assert not ThreadWaiter().park(timeout)

    Job(park_often).result()


@pytest.mark.usefixtures("restless")
def test_items_that_race_with_time_outs_are_never_lost(api: Api) -> None:
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
    assert timeouts, "no race was run"


# --- cancellation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cancelled_after", range(6))
@pytest.mark.parametrize("offered_after", range(6))
def test_a_wait_cancelled_in_any_turn_of_the_loop_loses_nothing(offered_after: int, cancelled_after: int) -> None:
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


@pytest.mark.usefixtures("restless")
def test_cancelling_at_random_loses_nothing() -> None:
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


@pytest.mark.usefixtures("restless")
def test_wait_for_loses_nothing() -> None:
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
def test_a_second_consumer_is_turned_away_and_the_first_goes_on(api: Api, parks: Parks, first: str) -> None:
    handoff = make()
    waiting = Job(handoff.get if first == "thread" else lambda: asyncio.run(handoff.aget()))
    parks.await_next()
    for timeout in (None, 0, LONG):
        with pytest.raises(RuntimeError, match="another consumer is waiting"):
            get(api, handoff, timeout)
    offer(handoff, [1, 2])
    assert waiting.result() == 1
    assert get(api, handoff) == 2


def test_a_second_consumer_in_the_same_loop_is_turned_away() -> None:
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


def test_a_consumer_who_was_woken_keeps_his_place_until_he_runs() -> None:
    async def main() -> None:
        handoff = make()
        task = asyncio.ensure_future(handoff.aget())
        await turns(2)
        offer(handoff, [1])  # wakes the task, which has to wait for its turn
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


def test_whoever_waits_in_a_loop_that_was_closed_is_replaced(api: Api) -> None:
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
def test_waking_whoever_waits_in_a_loop_that_was_closed_does_nothing(wake: str) -> None:
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
def test_whoever_waits_in_a_loop_that_was_closed_is_not_kept_alive(awaited: str) -> None:
    handoff = make()
    latch = Latch()

    async def wait(mine: object) -> None:
        await (handoff.aget() if awaited == "item" else latch)

    def leave() -> weakref.ref[Dropped]:
        mine = Dropped()
        with new_loop() as loop:
            task = loop.create_task(wait(mine))
            loop.run_until_complete(turns(2))
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        return weakref.ref(mine)

    left = leave()
    gc.collect()
    assert left() is None
    assert offer(handoff, [1]) == 1
    latch.set()
