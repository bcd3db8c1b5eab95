"""The hand-off's queue: bounds, order, the end, and closing."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseclient_dual import waiting
from sseclient_dual.handoff import Finished, Handoff
from support.handoffs import NO_BOUND, Job, Parks, get, make, offer, put, run
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.apis import Api


# --- helpers ------------------------------------------------------------------------------------------------


def drain(api: Api, handoff: Handoff[int], pause: Callable[[], float] = lambda: 0) -> list[int]:
    """Get all items in one run of the loop; `pause` returns the seconds to sleep before each one."""
    items: list[int] = []

    async def adrain() -> None:
        while True:
            if seconds := pause():
                await asyncio.sleep(seconds)
            items.append(await handoff.aget())

    def drain() -> None:
        while True:
            if seconds := pause():
                time.sleep(seconds)
            items.append(handoff.get())

    with suppress(Finished):
        run(api, drain, adrain)
    return items


# --- bounds and order ---------------------------------------------------------------------------------------


def test_items_are_returned_in_order(api: Api) -> None:
    handoff = make()
    assert offer(handoff, [1, 2]) == 2
    assert offer(handoff, [3]) == 1
    assert [get(api, handoff) for _ in range(3)] == [1, 2, 3]


def test_the_number_of_items_is_bounded(api: Api) -> None:
    handoff = make(max_items=3)
    assert offer(handoff, [1, 2, 3, 4, 5]) == 3
    assert offer(handoff, [4]) == 0
    assert len(handoff) == 3
    assert get(api, handoff) == 1
    assert offer(handoff, [4, 5]) == 1, "items that were taken but not returned count"
    assert len(handoff) == 3
    assert [get(api, handoff) for _ in range(3)] == [2, 3, 4]
    assert len(handoff) == 0


def test_the_weight_of_items_is_bounded() -> None:
    handoff = make(max_weight=10, weigh=lambda item: item)
    assert offer(handoff, [4, 6, 1]) == 2
    assert offer(handoff, [1]) == 0
    assert offer(handoff, [0]) == 1, "an item of weight 0 fits"


def test_the_weight_of_taken_items_counts_until_all_are_returned(api: Api) -> None:
    handoff = make(max_weight=10, weigh=lambda item: item)
    assert offer(handoff, [4, 6]) == 2
    assert get(api, handoff) == 4
    assert offer(handoff, [4]) == 0
    assert get(api, handoff) == 6
    assert offer(handoff, [4]) == 1
    assert get(api, handoff) == 4
    assert offer(handoff, [4, 6]) == 2


@pytest.mark.parametrize("weight", [11, 1_000])
def test_an_item_above_the_weight_bound_fits_alone(api: Api, weight: int) -> None:
    handoff = make(max_weight=10, weigh=lambda item: item)
    assert offer(handoff, [1, weight]) == 1
    assert offer(handoff, [weight]) == 0
    assert get(api, handoff) == 1
    assert offer(handoff, [weight, 1]) == 1
    assert offer(handoff, [1]) == 0
    assert get(api, handoff) == weight
    assert offer(handoff, [1]) == 1


@given(
    max_items=st.integers(1, 5),
    max_weight=st.integers(1, 12),
    steps=st.lists(st.one_of(st.none(), st.lists(st.integers(0, 15), max_size=8)), max_size=60),
)
def test_the_bounds_hold_for_any_puts_and_gets(
    max_items: int, max_weight: int, steps: list[list[int] | None]
) -> None:
    handoff = make(max_items, max_weight, weigh=lambda item: item)
    inside: list[int] = []
    for items in steps:
        if items is None:
            if inside:
                assert handoff.get(0) == inside.pop(0)
            else:
                with pytest.raises(TimeoutError):
                    handoff.get(0)
            continue
        was_empty = not inside
        count = offer(handoff, items)
        inside += items[:count]
        assert len(handoff) == len(inside) <= max_items
        assert sum(inside) <= max_weight or len(inside) == 1
        assert count or not was_empty or not items, "an empty queue has room"
        if was_empty and count < len(items):
            full = len(inside) == max_items or sum(inside) + items[count] > max_weight
            assert full, "all items that fit are queued"


def test_put_waits_for_room_and_queues_all_items(api: Api) -> None:
    handoff = make(max_items=2)
    producer = Job(lambda: put(handoff, range(50)))
    assert [get(api, handoff, PATIENCE) for _ in range(50)] == list(range(50))
    assert producer.result() == 50


@pytest.mark.parametrize("max_items", [1, 2, 3, 10, 11])
def test_a_waiting_producer_continues_when_its_last_item_is_taken(api: Api, parks: Parks, max_items: int) -> None:
    handoff = make(max_items)
    producer = Job(lambda: put(handoff, range(max_items + 1)))
    parks.await_next()
    for _ in range(max_items):
        get(api, handoff)
    assert handoff.is_full
    get(api, handoff)
    assert producer.result() == max_items + 1


def test_a_heavy_item_waits_until_the_one_before_is_consumed(api: Api, parks: Parks) -> None:
    handoff = make(max_weight=10, weigh=lambda item: item)
    producer = Job(lambda: put(handoff, [12, 11]))
    parks.await_next()
    assert get(api, handoff) == 12
    assert handoff.is_full
    assert get(api, handoff) == 11
    assert producer.result() == 2


@pytest.mark.parametrize("bounds", [(100, NO_BOUND), (NO_BOUND, 100)], ids=["items", "weight"])
def test_a_waiting_producer_is_not_woken_for_each_item(api: Api, parks: Parks, bounds: tuple[int, int]) -> None:
    handoff = make(*bounds)
    waiter = waiting.ThreadWaiter()
    producer = Job(lambda: put(handoff, range(1000), waiter))
    assert [get(api, handoff, PATIENCE) for _ in range(1000)] == list(range(1000))
    assert producer.result() == 1000
    assert parks.waiters.count(waiter) <= 1000 // 10


def test_an_offer_can_be_withdrawn(parks: Parks) -> None:
    handoff = make(2)
    waiter = waiting.ThreadWaiter()
    assert handoff.offer([1, 2, 3, 4, 5], waiter) == 3
    assert handoff.is_full
    assert handoff.withdraw() == 3
    assert not handoff.is_full
    assert [handoff.get(), handoff.get()] == [1, 2]
    assert not waiter.park(0), "a withdrawn offer causes no wake-up"


def test_put_of_nothing_does_not_wait() -> None:
    handoff = make(1)
    offer(handoff, [1])
    assert put(handoff, []) == 0


# --- many items, real threads and loops ---------------------------------------------------------------------


@pytest.mark.usefixtures("frequent_switches")
@pytest.mark.parametrize("slow", ["neither side", "producer", "consumer"])
@pytest.mark.parametrize("max_items", [1, 2, 3, 64])
def test_all_items_arrive_once_and_in_order(api: Api, max_items: int, slow: str) -> None:
    rng = random.Random(max_items)
    handoff = make(max_items, 40, weigh=lambda item: item % 23)
    count = 2000 if slow == "neither side" else 500

    def pause() -> float:
        return rng.choice([0, 0, 0, 1e-9, 1e-5])

    def produce() -> None:
        start = 0
        while start < count:
            batch = range(start, min(start + rng.randrange(1, 9), count))
            assert put(handoff, batch) == len(batch)
            start = batch.stop
            if slow == "producer" and (seconds := pause()):
                time.sleep(seconds)
        handoff.finish()

    producer = Job(produce)
    assert drain(api, handoff, pause if slow == "consumer" else lambda: 0) == list(range(count))
    producer.result()


# --- the end ------------------------------------------------------------------------------------------------


def test_finishing_ends_the_queue_after_the_last_item(api: Api) -> None:
    handoff = make()
    offer(handoff, [1, 2])
    handoff.finish()
    assert [get(api, handoff), get(api, handoff)] == [1, 2]
    for _ in range(2):
        with pytest.raises(Finished):
            get(api, handoff)
    assert handoff.take_error() is None


def test_an_error_can_be_taken_once_after_the_last_item(api: Api) -> None:
    handoff = make()
    offer(handoff, [1])
    error = OSError("broken")
    handoff.finish(error)
    assert get(api, handoff) == 1
    with pytest.raises(Finished):
        get(api, handoff)
    assert handoff.take_error() is error
    assert handoff.take_error() is None
    with pytest.raises(Finished):
        get(api, handoff)


def test_finishing_wakes_the_consumer(api: Api, parks: Parks) -> None:
    handoff = make()
    error = OSError("broken")

    def finish() -> None:
        parks.await_next()
        handoff.finish(error)

    job = Job(finish)
    with pytest.raises(Finished):
        get(api, handoff)
    assert handoff.take_error() is error
    job.result()


# --- closing ------------------------------------------------------------------------------------------------


def test_closing_discards_queued_items_and_rejects_new_ones(api: Api) -> None:
    handoff = make()
    offer(handoff, [1, 2, 3])
    assert get(api, handoff) == 1
    offer(handoff, [4])
    handoff.close()
    assert len(handoff) == 0
    assert put(handoff, [5]) == 0
    assert len(handoff) == 0
    for timeout in (None, 0, 1):
        with pytest.raises(Finished):
            get(api, handoff, timeout)


def test_closing_again_has_no_effect(api: Api) -> None:
    handoff = make()
    handoff.close()
    handoff.close()
    with pytest.raises(Finished):
        get(api, handoff)


def test_a_closed_queue_returns_no_error() -> None:
    handoff = make()
    handoff.finish(OSError("broken"))
    handoff.close()
    assert handoff.take_error() is None
    handoff = make()
    handoff.close()
    handoff.finish(OSError("broken because it was closed"))
    assert handoff.take_error() is None


def test_closing_from_another_thread_wakes_the_consumer(api: Api, parks: Parks) -> None:
    handoff = make()

    def close() -> None:
        parks.await_next()
        handoff.close()

    job = Job(close)
    with pytest.raises(Finished):
        get(api, handoff)
    job.result()


def test_closing_wakes_the_producer(parks: Parks) -> None:
    handoff = make(2)
    producer = Job(lambda: put(handoff, [1, 2, 3]))
    parks.await_next()
    handoff.close()
    assert producer.result() == 2


@pytest.mark.usefixtures("frequent_switches")
def test_closing_ends_all_waits_in_a_race_with_both_sides(api: Api) -> None:
    rng = random.Random(4)
    for _ in range(150):
        handoff = make(rng.choice([1, 2, 8]))

        def produce(handoff: Handoff[int] = handoff) -> None:
            while put(handoff, [1, 2, 3]) == 3:
                pass

        def close(handoff: Handoff[int] = handoff, delay: float = rng.random() * 3e-4) -> None:
            time.sleep(delay)
            handoff.close()

        jobs = [Job(produce), Job(close)]
        drain(api, handoff)
        for job in jobs:
            job.result()
        assert len(handoff) == 0
