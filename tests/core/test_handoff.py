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
from support.handoffs import ROOMY, Job, Parks, get, make, offer, put, run
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.apis import Api


# --- helpers ------------------------------------------------------------------------------------------------


def drain(api: Api, handoff: Handoff[int], pause: Callable[[], float] = lambda: 0) -> list[int]:
    """Get all items to the end, in one go of the loop; `pause` tells how long to rest before each."""
    items: list[int] = []

    async def adrain() -> None:
        while True:
            if rest := pause():
                await asyncio.sleep(rest)
            items.append(await handoff.aget())

    def drain() -> None:
        while True:
            if rest := pause():
                time.sleep(rest)
            items.append(handoff.get())

    with suppress(Finished):
        run(api, drain, adrain)
    return items


# --- bounds and order ---------------------------------------------------------------------------------------


def test_items_come_out_in_the_order_in_which_they_went_in(api: Api) -> None:
    handoff = make()
    assert offer(handoff, [1, 2]) == 2
    assert offer(handoff, [3]) == 1
    assert [get(api, handoff) for _ in range(3)] == [1, 2, 3]


def test_holds_as_many_items_as_it_may_and_no_more(api: Api) -> None:
    handoff = make(max_items=3)
    assert offer(handoff, [1, 2, 3, 4, 5]) == 3
    assert offer(handoff, [4]) == 0
    assert len(handoff) == 3
    assert get(api, handoff) == 1
    assert offer(handoff, [4, 5]) == 1, "what was taken from the thread, but not yet handed out, counts"
    assert len(handoff) == 3
    assert [get(api, handoff) for _ in range(3)] == [2, 3, 4]
    assert len(handoff) == 0


def test_holds_as_much_weight_as_it_may_and_no_more() -> None:
    handoff = make(max_weight=10, weigh=lambda item: item)
    assert offer(handoff, [4, 6, 1]) == 2
    assert offer(handoff, [1]) == 0
    assert offer(handoff, [0]) == 1, "what weighs nothing fits"


def test_weight_that_was_taken_counts_until_all_of_it_is_handed_out(api: Api) -> None:
    handoff = make(max_weight=10, weigh=lambda item: item)
    assert offer(handoff, [4, 6]) == 2
    assert get(api, handoff) == 4
    assert offer(handoff, [4]) == 0
    assert get(api, handoff) == 6
    assert offer(handoff, [4]) == 1
    assert get(api, handoff) == 4
    assert offer(handoff, [4, 6]) == 2


@pytest.mark.parametrize("weight", [11, 1_000])
def test_a_single_item_always_fits_and_is_alone(api: Api, weight: int) -> None:
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
def test_the_bounds_hold_whatever_comes_and_goes(
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
            assert full, "what fits is let in"


def test_put_waits_for_room_and_hands_over_all(api: Api) -> None:
    handoff = make(max_items=2)
    producer = Job(lambda: put(handoff, range(50)))
    assert [get(api, handoff, PATIENCE) for _ in range(50)] == list(range(50))
    assert producer.result() == 50


@pytest.mark.parametrize("max_items", [1, 2, 3, 10, 11])
def test_a_waiting_producer_goes_on_when_the_queue_is_half_empty(api: Api, parks: Parks, max_items: int) -> None:
    handoff = make(max_items)
    producer = Job(lambda: put(handoff, range(max_items + 1)))
    parks.await_next()
    for _ in range(max_items - max_items // 2):
        get(api, handoff)
    assert producer.result() == max_items + 1


def test_a_producer_that_waits_for_a_heavy_item_goes_on_when_that_is_handed_out(api: Api, parks: Parks) -> None:
    handoff = make(max_weight=10, weigh=lambda item: item)
    producer = Job(lambda: put(handoff, [12, 11]))
    parks.await_next()
    assert get(api, handoff) == 12
    assert producer.result() == 2


@pytest.mark.parametrize("bounds", [(100, ROOMY), (ROOMY, 100)], ids=["items", "weight"])
def test_a_waiting_producer_is_not_woken_for_each_item(api: Api, parks: Parks, bounds: tuple[int, int]) -> None:
    handoff = make(*bounds)
    waiter = waiting.ThreadWaiter()
    producer = Job(lambda: handoff.put(range(1000), waiter, lambda: False))
    assert [get(api, handoff, PATIENCE) for _ in range(1000)] == list(range(1000))
    assert producer.result() == 1000
    assert parks.waiters.count(waiter) <= 1000 // 10


def test_put_gives_up_when_it_is_told_to(parks: Parks) -> None:
    handoff = make(2)
    waiter = waiting.ThreadWaiter()
    answers = [False]
    producer = Job(lambda: handoff.put([1, 2, 3], waiter, lambda: answers[-1]))
    parks.await_next()
    waiter.wake()  # for no reason
    parks.await_next()
    answers.append(True)
    waiter.wake()
    assert producer.result() == 2
    assert offer(make(), [1, 2]) == 2, "what there is room for is handed over before it is asked whether to go on"


def test_put_of_nothing_does_not_wait() -> None:
    handoff = make(1)
    offer(handoff, [1])
    assert put(handoff, []) == 0


# --- many items, real threads and loops ---------------------------------------------------------------------


@pytest.mark.usefixtures("restless")
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
            if slow == "producer" and (rest := pause()):
                time.sleep(rest)
        handoff.finish()

    producer = Job(produce)
    assert drain(api, handoff, pause if slow == "consumer" else lambda: 0) == list(range(count))
    producer.result()


# --- the end ------------------------------------------------------------------------------------------------


def test_finishing_ends_it_after_the_last_item(api: Api) -> None:
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


def test_closing_throws_away_what_is_queued_and_refuses_what_comes(api: Api) -> None:
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


def test_closing_twice_does_nothing(api: Api) -> None:
    handoff = make()
    handoff.close()
    handoff.close()
    with pytest.raises(Finished):
        get(api, handoff)


def test_a_closed_queue_has_no_error_to_tell() -> None:
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


@pytest.mark.usefixtures("restless")
def test_closing_races_with_both_sides_and_leaves_nobody_waiting(api: Api) -> None:
    rng = random.Random(4)
    for _ in range(150):
        handoff = make(rng.choice([1, 2, 8]))

        def produce(handoff: Handoff[int] = handoff) -> None:
            while put(handoff, [1, 2, 3]) == 3:
                pass

        def close(handoff: Handoff[int] = handoff, rest: float = rng.random() * 3e-4) -> None:
            time.sleep(rest)
            handoff.close()

        jobs = [Job(produce), Job(close)]
        drain(api, handoff)
        for job in jobs:
            job.result()
        assert len(handoff) == 0
