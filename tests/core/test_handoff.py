"""Proves that the hand-off loses nothing, wakes whoever waits and never deadlocks, whoever interrupts whom.

Three ways: each promise by a test of its name, on both faces where there are two; real threads, loops, signals and
finalizers against each other many times over; and, for what chance finds once in a year, a trace function that
interrupts the hand-off's code at each instruction or line, one run for each.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import itertools
import queue
import random
import signal
import sys
import threading
import time
import weakref
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeAlias, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseclient_dual import handoff as module
from sseclient_dual.handoff import Deadline, Finished, Handoff, Latch
from support.apis import AsyncFace
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from types import FrameType

    from typing_extensions import Self

    from support.apis import Face

T = TypeVar("T")

LONG = 3600.0  # seconds that no test could wait
ROOMY = 10**9  # a bound that is out of the question


# --- helpers ------------------------------------------------------------------------------------------------


def make(max_items: int = 1024, max_weight: int = ROOMY, weigh: Callable[[int], int] | None = None) -> Handoff[int]:
    return Handoff(max_items, max_weight, weigh or (lambda item: 1))


def offer(handoff: Handoff[int], items: Sequence[int]) -> int:
    """Put what there is room for, without waiting; return how many that was."""
    return handoff.put(items, module.ThreadWaiter(), lambda: True)


def put(handoff: Handoff[int], items: Sequence[int]) -> int:
    """Put all, waiting for room."""
    return handoff.put(items, module.ThreadWaiter(), lambda: False)


def get(face: Face, handoff: Handoff[T], timeout: float | None = None) -> T:
    if isinstance(face, AsyncFace):
        return face.run(lambda: handoff.aget(timeout))
    return handoff.get(timeout)


def drain(face: Face, handoff: Handoff[int], pause: Callable[[], float] = lambda: 0) -> list[int]:
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
        run(face, drain, adrain)
    return items


def run(face: Face, call: Callable[[], None], acall: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do what does the same thing many times over, by the face."""
    if isinstance(face, AsyncFace):
        face.loop.set_debug(False)  # too slow for that
        face.run(acall)
    else:
        call()


class Job(Generic[T]):
    """A call on a thread of its own."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._outcome: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome.append(self._call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            self._error = error

    @property
    def ident(self) -> int:
        assert self._thread.native_id is not None
        return self._thread.native_id

    def result(self) -> T:
        """Return what the call returns, or raise what it raises; fail if it does neither."""
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            pytest.fail("left waiting for ever")
        if self._error is not None:
            raise self._error
        return self._outcome[0]


class WouldBlockError(Exception):
    """The main thread was about to wait for ever."""


class Parks:
    """Tells when somebody who has announced himself is about to park."""

    def __init__(self) -> None:
        self._seen: queue.Queue[None] = queue.Queue()
        self._waiters: list[weakref.ref[module.ThreadWaiter | module.TaskWaiter]] = []
        self.strict = False  # whether to raise instead of letting the main thread wait without a limit

    def note(self, waiter: module.ThreadWaiter | module.TaskWaiter) -> None:
        self._waiters.append(weakref.ref(waiter))
        self._seen.put(None)

    @property
    def waiters(self) -> list[module.ThreadWaiter | module.TaskWaiter]:
        """Who has parked and is still there, a waiter as often as it parked."""
        return [waiter for reference in self._waiters if (waiter := reference()) is not None]

    def await_next(self) -> None:
        self._seen.get(timeout=PATIENCE)


@pytest.fixture
def parks(monkeypatch: pytest.MonkeyPatch) -> Parks:
    """Note each park."""
    parks = Parks()

    class ThreadWaiter(module.ThreadWaiter):
        def park(self, timeout: float | None = None) -> bool:
            parks.note(self)
            if not parks.strict or timeout is not None or threading.current_thread() is not threading.main_thread():
                return super().park(timeout)
            if super().park(0):
                return True
            sys.settrace(None)  # what an `Interruption` could do from here on would come while it waits
            if super().park(0):
                return True
            raise WouldBlockError

    class TaskWaiter(module.TaskWaiter):
        async def park(self, timeout: float | None = None) -> bool:
            parks.note(self)
            return await super().park(timeout)

    monkeypatch.setattr(module, "ThreadWaiter", ThreadWaiter)
    monkeypatch.setattr(module, "TaskWaiter", TaskWaiter)
    return parks


@pytest.fixture
def restless() -> Iterator[None]:
    """Have the interpreter switch threads far more often than it would."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def untraced() -> Iterator[None]:
    """Keep a measurement of coverage out of what is interrupted: its own locks do not survive that."""
    previous = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(previous)


@contextmanager
def often(act: Callable[[], object], rest: float = 5e-4) -> Iterator[None]:
    """Do something again and again, on another thread, at random moments."""
    rng = random.Random(5)
    over = threading.Event()

    def run() -> None:
        while not over.wait(rng.random() * rest):
            act()

    job = Job(run)
    try:
        yield
    finally:
        over.set()
        job.result()


class Dropped:
    """Something in a reference cycle, which only the collector can end."""

    def __init__(self) -> None:
        self.cycle = self


@contextmanager
def new_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


async def turns(count: int) -> None:
    """Let the loop go round `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)


# --- bounds and order ---------------------------------------------------------------------------------------


def test_items_come_out_in_the_order_in_which_they_went_in(face: Face) -> None:
    handoff = make()
    assert offer(handoff, [1, 2]) == 2
    assert offer(handoff, [3]) == 1
    assert [get(face, handoff) for _ in range(3)] == [1, 2, 3]


def test_holds_as_many_items_as_it_may_and_no_more(face: Face) -> None:
    handoff = make(max_items=3)
    assert offer(handoff, [1, 2, 3, 4, 5]) == 3
    assert offer(handoff, [4]) == 0
    assert len(handoff) == 3
    assert get(face, handoff) == 1
    assert offer(handoff, [4, 5]) == 1, "what was taken from the thread, but not yet handed out, counts"
    assert len(handoff) == 3
    assert [get(face, handoff) for _ in range(3)] == [2, 3, 4]
    assert len(handoff) == 0


def test_holds_as_much_weight_as_it_may_and_no_more() -> None:
    handoff = make(max_weight=10, weigh=lambda item: item)
    assert offer(handoff, [4, 6, 1]) == 2
    assert offer(handoff, [1]) == 0
    assert offer(handoff, [0]) == 1, "what weighs nothing fits"


def test_weight_that_was_taken_counts_until_all_of_it_is_handed_out(face: Face) -> None:
    handoff = make(max_weight=10, weigh=lambda item: item)
    assert offer(handoff, [4, 6]) == 2
    assert get(face, handoff) == 4
    assert offer(handoff, [4]) == 0
    assert get(face, handoff) == 6
    assert offer(handoff, [4]) == 1
    assert get(face, handoff) == 4
    assert offer(handoff, [4, 6]) == 2


@pytest.mark.parametrize("weight", [11, 1_000])
def test_a_single_item_always_fits_and_is_alone(face: Face, weight: int) -> None:
    handoff = make(max_weight=10, weigh=lambda item: item)
    assert offer(handoff, [1, weight]) == 1
    assert offer(handoff, [weight]) == 0
    assert get(face, handoff) == 1
    assert offer(handoff, [weight, 1]) == 1
    assert offer(handoff, [1]) == 0
    assert get(face, handoff) == weight
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


def test_put_waits_for_room_and_hands_over_all(face: Face) -> None:
    handoff = make(max_items=2)
    producer = Job(lambda: put(handoff, range(50)))
    assert [get(face, handoff, PATIENCE) for _ in range(50)] == list(range(50))
    assert producer.result() == 50


@pytest.mark.parametrize("max_items", [1, 2, 3, 10, 11])
def test_a_waiting_producer_goes_on_when_the_queue_is_half_empty(face: Face, parks: Parks, max_items: int) -> None:
    handoff = make(max_items)
    producer = Job(lambda: put(handoff, range(max_items + 1)))
    parks.await_next()
    for _ in range(max_items - max_items // 2):
        get(face, handoff)
    assert producer.result() == max_items + 1


def test_a_producer_that_waits_for_a_heavy_item_goes_on_when_that_is_handed_out(face: Face, parks: Parks) -> None:
    handoff = make(max_weight=10, weigh=lambda item: item)
    producer = Job(lambda: put(handoff, [12, 11]))
    parks.await_next()
    assert get(face, handoff) == 12
    assert producer.result() == 2


@pytest.mark.parametrize("bounds", [(100, ROOMY), (ROOMY, 100)], ids=["items", "weight"])
def test_a_waiting_producer_is_not_woken_for_each_item(face: Face, parks: Parks, bounds: tuple[int, int]) -> None:
    handoff = make(*bounds)
    waiter = module.ThreadWaiter()
    producer = Job(lambda: handoff.put(range(1000), waiter, lambda: False))
    assert [get(face, handoff, PATIENCE) for _ in range(1000)] == list(range(1000))
    assert producer.result() == 1000
    assert parks.waiters.count(waiter) <= 1000 // 10


def test_put_gives_up_when_it_is_told_to(parks: Parks) -> None:
    handoff = make(2)
    waiter = module.ThreadWaiter()
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
def test_all_items_arrive_once_and_in_order(face: Face, max_items: int, slow: str) -> None:
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
    assert drain(face, handoff, pause if slow == "consumer" else lambda: 0) == list(range(count))
    producer.result()


# --- time-outs ----------------------------------------------------------------------------------------------


def test_a_time_out_of_zero_takes_what_is_there(face: Face) -> None:
    handoff = make()
    offer(handoff, [1, 2])
    assert [get(face, handoff, 0), get(face, handoff, 0)] == [1, 2]
    with pytest.raises(TimeoutError, match="nothing is lost"):
        get(face, handoff, 0)


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_a_time_out_loses_nothing(face: Face, timeout: float) -> None:
    handoff = make()
    with pytest.raises(TimeoutError):
        get(face, handoff, timeout)
    offer(handoff, [1, 2])
    assert [get(face, handoff, timeout), get(face, handoff)] == [1, 2]


def test_a_time_out_is_not_up_before_its_time(face: Face) -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        get(face, make(), 0.05)
    assert time.monotonic() - start >= 0.05 - time.get_clock_info("monotonic").resolution - 0.002


def test_a_time_out_of_any_length_will_do(face: Face, parks: Parks) -> None:
    handoff = make()

    def come_late() -> None:
        parks.await_next()
        offer(handoff, [1])

    job = Job(come_late)
    assert get(face, handoff, 1e12) == 1
    job.result()


def test_a_wake_up_for_no_reason_does_not_end_the_wait(face: Face, parks: Parks) -> None:
    handoff = make()

    def wake() -> int:
        for _ in range(3):
            parks.await_next()
            parks.waiters[-1].wake()
        parks.await_next()
        return offer(handoff, [1])

    job = Job(wake)
    assert get(face, handoff, PATIENCE) == 1
    assert job.result() == 1


def test_wake_ups_for_no_reason_do_not_prolong_the_wait(face: Face, parks: Parks) -> None:
    def wake() -> None:
        if parks.waiters:
            parks.waiters[-1].wake()

    with often(wake), pytest.raises(TimeoutError):
        get(face, make(), 0.05)


@pytest.mark.parametrize("timeout", [0, 1e-7, 1e-6, 1e-5])
def test_a_time_out_however_short_is_no_wait_for_ever(timeout: float) -> None:
    def park_often() -> None:
        for _ in range(3000):
            assert not module.ThreadWaiter().park(timeout)

    Job(park_often).result()


@pytest.mark.usefixtures("restless")
def test_items_that_race_with_time_outs_are_never_lost(face: Face) -> None:
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
    run(face, consume, aconsume)
    producer.result()
    assert received == list(range(count))
    assert timeouts, "no race was run"


def test_a_deadline() -> None:
    assert Deadline(None).remaining() is None
    assert Deadline(0).remaining() == 0
    remaining = Deadline(LONG).remaining()
    assert remaining is not None
    assert LONG - PATIENCE < remaining <= LONG


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


def test_a_wake_up_that_comes_twice_or_too_late_is_no_error() -> None:
    async def main() -> None:
        troubles: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: troubles.append(context))
        waiter = module.TaskWaiter()
        waiter.wake()
        waiter.wake()
        assert await waiter.park()
        waiter = module.TaskWaiter()
        assert not await waiter.park(0)
        waiter.wake()
        waiter = module.TaskWaiter()
        task = asyncio.ensure_future(waiter.park())
        await turns(2)
        task.cancel()
        waiter.wake()
        await turns(3)
        assert task.cancelled()
        assert not troubles

    asyncio.run(main())


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
def test_a_second_consumer_is_turned_away_and_the_first_goes_on(face: Face, parks: Parks, first: str) -> None:
    handoff = make()
    waiting = Job(handoff.get if first == "thread" else lambda: asyncio.run(handoff.aget()))
    parks.await_next()
    for timeout in (None, 0, LONG):
        with pytest.raises(RuntimeError, match="another consumer is waiting"):
            get(face, handoff, timeout)
    offer(handoff, [1, 2])
    assert waiting.result() == 1
    assert get(face, handoff) == 2


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


def test_whoever_waits_in_a_loop_that_was_closed_is_replaced(face: Face) -> None:
    handoff = make()
    with new_loop() as loop:
        task = loop.create_task(handoff.aget())
        loop.run_until_complete(turns(2))
    with pytest.raises(TimeoutError):
        get(face, handoff, 0)
    offer(handoff, [1])
    assert get(face, handoff) == 1
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


def abandon(task: asyncio.Task[Any]) -> None:
    """Keep a task that can never end from complaining about it."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    task.get_coro().close()


# --- the end ------------------------------------------------------------------------------------------------


def test_finishing_ends_it_after_the_last_item(face: Face) -> None:
    handoff = make()
    offer(handoff, [1, 2])
    handoff.finish()
    assert [get(face, handoff), get(face, handoff)] == [1, 2]
    for _ in range(2):
        with pytest.raises(Finished):
            get(face, handoff)
    assert handoff.take_error() is None


def test_an_error_can_be_taken_once_after_the_last_item(face: Face) -> None:
    handoff = make()
    offer(handoff, [1])
    error = OSError("broken")
    handoff.finish(error)
    assert get(face, handoff) == 1
    with pytest.raises(Finished):
        get(face, handoff)
    assert handoff.take_error() is error
    assert handoff.take_error() is None
    with pytest.raises(Finished):
        get(face, handoff)


def test_finishing_wakes_the_consumer(face: Face, parks: Parks) -> None:
    handoff = make()
    error = OSError("broken")

    def finish() -> None:
        parks.await_next()
        handoff.finish(error)

    job = Job(finish)
    with pytest.raises(Finished):
        get(face, handoff)
    assert handoff.take_error() is error
    job.result()


# --- closing ------------------------------------------------------------------------------------------------


def test_closing_throws_away_what_is_queued_and_refuses_what_comes(face: Face) -> None:
    handoff = make()
    offer(handoff, [1, 2, 3])
    assert get(face, handoff) == 1
    offer(handoff, [4])
    handoff.close()
    assert len(handoff) == 0
    assert put(handoff, [5]) == 0
    assert len(handoff) == 0
    for timeout in (None, 0, 1):
        with pytest.raises(Finished):
            get(face, handoff, timeout)


def test_closing_twice_does_nothing(face: Face) -> None:
    handoff = make()
    handoff.close()
    handoff.close()
    with pytest.raises(Finished):
        get(face, handoff)


def test_a_closed_queue_has_no_error_to_tell() -> None:
    handoff = make()
    handoff.finish(OSError("broken"))
    handoff.close()
    assert handoff.take_error() is None
    handoff = make()
    handoff.close()
    handoff.finish(OSError("broken because it was closed"))
    assert handoff.take_error() is None


def test_closing_from_another_thread_wakes_the_consumer(face: Face, parks: Parks) -> None:
    handoff = make()

    def close() -> None:
        parks.await_next()
        handoff.close()

    job = Job(close)
    with pytest.raises(Finished):
        get(face, handoff)
    job.result()


def test_closing_wakes_the_producer(parks: Parks) -> None:
    handoff = make(2)
    producer = Job(lambda: put(handoff, [1, 2, 3]))
    parks.await_next()
    handoff.close()
    assert producer.result() == 2


@pytest.mark.usefixtures("restless")
def test_closing_races_with_both_sides_and_leaves_nobody_waiting(face: Face) -> None:
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
        drain(face, handoff)
        for job in jobs:
            job.result()
        assert len(handoff) == 0


# --- signal handlers and finalizers -------------------------------------------------------------------------

needs_signals = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals to a thread are POSIX")


@contextmanager
def handling(act: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Have a signal's handler do something in the main thread; give what sends the signal, from any thread."""
    previous = signal.signal(signal.SIGUSR1, lambda number, frame: act())
    ident = threading.main_thread().ident
    assert ident is not None
    try:
        yield lambda: signal.pthread_kill(ident, signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, previous)


@needs_signals
@pytest.mark.usefixtures("untraced")
def test_a_signal_handler_may_close_while_the_consumer_waits(face: Face, parks: Parks) -> None:
    handoff = make()

    def close() -> None:
        if parks.waiters:
            handoff.close()

    # Often, because the interpreter does not notice one that comes just before the system's own wait begins.
    with handling(close) as send, often(send), pytest.raises(Finished):
        get(face, handoff)


@needs_signals
@pytest.mark.usefixtures("untraced")
def test_a_signal_handler_may_close_while_the_producer_waits(parks: Parks) -> None:
    handoff = make(2)

    def close() -> None:
        if parks.waiters:
            handoff.close()

    with handling(close) as send, often(send):
        assert put(handoff, [1, 2, 3]) == 2


@needs_signals
@pytest.mark.usefixtures("untraced")
def test_a_signal_handler_that_asks_for_an_item_leaves_the_wait_that_it_interrupts_intact(parks: Parks) -> None:
    handoff = make()
    asked: list[object] = []

    def ask() -> None:
        if parks.waiters and not asked:
            asked.append(outcome_of(lambda: handoff.get(0)))

    def come_late() -> None:
        wait_until(lambda: asked, "the signal handler")
        offer(handoff, [1])

    with handling(ask) as send, often(send):
        job = Job(come_late)
        assert handoff.get(PATIENCE) == 1
    job.result()
    assert asked == ["timed out"]


@needs_signals
@pytest.mark.usefixtures("restless", "untraced")
def test_a_signal_handler_may_close_in_the_midst_of_get_and_put() -> None:
    rng = random.Random(6)
    current = make()

    def close() -> None:
        current.close()

    with handling(close) as send, often(send):
        for _ in range(1000):
            current = make(4)
            with suppress(Finished):
                while True:
                    offer(current, range(rng.randrange(8)))
                    for _ in range(rng.randrange(8)):
                        current.get()


@needs_signals
@pytest.mark.usefixtures("restless", "untraced")
def test_a_signal_handler_may_close_in_the_midst_of_aget() -> None:
    rng = random.Random(7)
    current = make()

    async def main() -> None:
        nonlocal current
        for _ in range(500):
            current = make(4)
            with suppress(Finished):
                while True:
                    offer(current, range(rng.randrange(8)))
                    for _ in range(rng.randrange(8)):
                        await current.aget()

    def close() -> None:
        current.close()

    with handling(close) as send, often(send):
        asyncio.run(main())


@pytest.fixture
def collector() -> Iterator[None]:
    """Put the collector's settings back."""
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.enable()


@pytest.mark.usefixtures("collector", "untraced")
def test_a_finalizer_may_close_in_the_midst_of_get_and_put() -> None:
    rng = random.Random(8)
    for _ in range(1000):
        gc.disable()
        handoff = make(8)
        weakref.finalize(Dropped(), handoff.close).atexit = False
        gc.set_threshold(rng.randrange(1, 100), 1000, 1000)
        gc.enable()
        ballast: list[object] = []  # the collector counts what is made and not yet freed
        with suppress(Finished):
            for _ in range(10_000):
                ballast += [[] for _ in range(rng.randrange(20))]
                offer(handoff, range(rng.randrange(4)))
                with suppress(TimeoutError):
                    handoff.get(0)
            pytest.fail("the finalizer did not run")
        assert offer(handoff, [1]) == 0


# --- a close at each instruction ----------------------------------------------------------------------------

SOURCE = Path(module.__file__)
traces_instructions = pytest.mark.skipif(
    sys.version_info[:2] == (3, 12) and sys.gettrace() is not None,
    reason="3.12.1 crashes when one thread traces instructions, and another lines, of the same code",
)


class Interruption:
    """Does something once, at the nth step that this thread makes in the hand-off's code, before that step.

    A step is an instruction, which is finer than a signal handler or finalizer can strike, or a line. Not counted
    among the lines are the ways out of `with` blocks, since the interpreter looks for signals at calls and jumps
    only, and there is none between the block and the release of its lock.
    """

    def __init__(self, at: int, act: Callable[[], object], unit: str) -> None:
        self.where = "nowhere"
        self.happened = False
        self._left = at
        self._act = act
        self._unit = unit
        self._lines: dict[FrameType, int] = {}

    def __enter__(self) -> Self:
        self._previous = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # or else 3.12 does not look whether frames want it
        sys.settrace(self._trace)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._previous)
        self._lines.clear()

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename != module.__file__:
            return None
        frame.f_trace_opcodes = self._unit == "opcode"
        if event == self._unit and not (event == "line" and self._leaves_block(frame)):
            if not self._left and not self.happened:
                self.happened = True
                self.where = f"{frame.f_code.co_name}, line {frame.f_lineno}"
                self._act()
            self._left -= 1
        return self._trace

    def _leaves_block(self, frame: FrameType) -> bool:
        before = self._lines.get(frame, 0)
        self._lines[frame] = frame.f_lineno
        return before in BLOCKS.get(frame.f_lineno, ())


def blocks() -> dict[int, range]:
    """Tell for the line of each `with` of the hand-off which lines are its body."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.With)]
    return {node.lineno: range(node.lineno + 1, (node.end_lineno or 0) + 1) for node in nodes}


BLOCKS = blocks()


@dataclass
class Scene:
    """What the main thread is going to do, to be interrupted, and who waits on other threads meanwhile."""

    handoff: Handoff[int]
    act: Callable[[], object]
    others: list[Job[Any]] = field(default_factory=list)
    still_to_come: list[int] = field(default_factory=list)


Stage: TypeAlias = "Callable[[Parks], Scene]"


def get_from_an_empty_queue(parks: Parks) -> Scene:
    handoff = make()
    return Scene(handoff, handoff.get)


def get_what_is_queued(parks: Parks) -> Scene:
    handoff = make()
    offer(handoff, [1, 2])
    return Scene(handoff, handoff.get, still_to_come=[1, 2])


def get_what_was_taken_before(parks: Parks) -> Scene:
    handoff = make()
    offer(handoff, [0, 1, 2])
    handoff.get()
    return Scene(handoff, handoff.get, still_to_come=[1, 2])


def get_what_the_producer_waits_to_put(parks: Parks) -> Scene:
    handoff = make(2)
    producer = Job(lambda: put(handoff, [1, 2, 3, 4, 5]))
    parks.await_next()
    return Scene(handoff, handoff.get, [producer], [1, 2, 3, 4, 5])


def get_the_last_item_of_a_full_queue(parks: Parks) -> Scene:
    handoff = make(2)
    offer(handoff, [0, 1])
    handoff.get()
    producer = Job(lambda: put(handoff, [2, 3]))
    parks.await_next()
    return Scene(handoff, handoff.get, [producer], [1, 2, 3])


def get_at_the_end(parks: Parks) -> Scene:
    handoff = make()
    handoff.finish(OSError("broken"))
    return Scene(handoff, handoff.get)


def get_beside_another_consumer(parks: Parks) -> Scene:
    handoff = make()
    consumer = Job(handoff.get)
    parks.await_next()
    return Scene(handoff, handoff.get, [consumer])


def get_within_a_time(parks: Parks) -> Scene:
    handoff = make()
    return Scene(handoff, lambda: handoff.get(1e-6))


def put_into_an_empty_queue(parks: Parks) -> Scene:
    handoff = make()
    return Scene(handoff, lambda: put(handoff, [1, 2]))


def put_for_a_waiting_consumer(parks: Parks) -> Scene:
    handoff = make()
    consumer = Job(handoff.get)
    parks.await_next()
    return Scene(handoff, lambda: put(handoff, [1, 2]), [consumer])


def put_into_a_full_queue(parks: Parks) -> Scene:
    handoff = make(2)
    return Scene(handoff, lambda: put(handoff, [1, 2, 3]))


def put_what_is_heavy(parks: Parks) -> Scene:
    handoff = make(max_weight=2)
    return Scene(handoff, lambda: put(handoff, [1, 2, 3]))


def finish_for_a_waiting_consumer(parks: Parks) -> Scene:
    handoff = make()
    consumer = Job(handoff.get)
    parks.await_next()
    return Scene(handoff, lambda: handoff.finish(OSError("broken")), [consumer])


def close_for_a_waiting_consumer(parks: Parks) -> Scene:
    handoff = make()
    consumer = Job(handoff.get)
    parks.await_next()
    return Scene(handoff, handoff.close, [consumer])


def close_for_a_waiting_producer(parks: Parks) -> Scene:
    handoff = make(2)
    producer = Job(lambda: put(handoff, [1, 2, 3]))
    parks.await_next()
    return Scene(handoff, handoff.close, [producer])


GETS = [
    get_from_an_empty_queue,
    get_what_is_queued,
    get_what_was_taken_before,
    get_what_the_producer_waits_to_put,
    get_the_last_item_of_a_full_queue,
    get_at_the_end,
    get_beside_another_consumer,
    get_within_a_time,
]
CLOSES = [close_for_a_waiting_consumer, close_for_a_waiting_producer]
PUTS = [
    put_into_an_empty_queue,
    put_for_a_waiting_consumer,
    put_into_a_full_queue,
    put_what_is_heavy,
    finish_for_a_waiting_consumer,
]


@pytest.fixture
def watched(parks: Parks) -> Parks:
    """Note each park, and raise where the main thread would wait for ever."""
    parks.strict = True
    return parks


@traces_instructions
@pytest.mark.parametrize("stage", [*GETS, *PUTS, *CLOSES])
def test_a_close_at_any_instruction_leaves_nobody_waiting(watched: Parks, stage: Stage) -> None:
    for at in itertools.count():
        scene = stage(watched)
        handoff = scene.handoff
        with Interruption(at, handoff.close, "opcode") as interruption:
            outcome = outcome_of(scene.act)
        if not interruption.happened:
            handoff.close()
        assert all(is_foreseen(outcome_of(other.result)) for other in scene.others), interruption.where
        if not interruption.happened:
            break
        assert is_foreseen(outcome), (interruption.where, outcome)
        assert outcome_of(handoff.get) == "finished", interruption.where
        assert outcome_of(Job(handoff.get).result) == "finished", interruption.where
        assert Job(partial(put, handoff, [7])).result() == 0, interruption.where
        assert len(handoff) == 0, interruption.where
    assert at > 10, "nothing was traced"


def outcome_of(call: Callable[[], object]) -> object:
    try:
        return call()
    except Finished:
        return "finished"
    except TimeoutError:
        return "timed out"
    except RuntimeError as error:
        return "turned away" if "another consumer" in str(error) else error
    except Exception as error:  # noqa: BLE001 - shown by the assertion
        return error


def is_foreseen(outcome: object) -> bool:
    """Tell whether a call that a close interrupted may end like this; waiting for ever it may not."""
    return outcome is None or isinstance(outcome, (int, str))


ASCRIPTS: dict[str, Callable[[Handoff[int]], Coroutine[Any, Any, int]]] = {
    "without a limit": lambda handoff: handoff.aget(),
    "within a time": lambda handoff: handoff.aget(LONG),
}


@traces_instructions
@pytest.mark.parametrize("script", ASCRIPTS)
@pytest.mark.parametrize("queued", [0, 2])
@pytest.mark.parametrize("meanwhile", ["nothing", "put", "cancel"])
def test_a_close_at_any_instruction_leaves_no_task_waiting(script: str, queued: int, meanwhile: str) -> None:
    async def main(at: int) -> bool:
        handoff = make()
        offer(handoff, range(queued))
        with Interruption(at, handoff.close, "opcode") as interruption:
            task = asyncio.ensure_future(ASCRIPTS[script](handoff))
            await turns(3)
            if meanwhile == "put":
                offer(handoff, [1])
            if meanwhile == "cancel":
                task.cancel()
            await turns(5)
        if interruption.happened:
            assert task.done(), interruption.where
            assert outcome_of(lambda: Job(handoff.get).result()) == "finished", interruption.where
            with pytest.raises(Finished):
                await handoff.aget()
        task.cancel()
        with suppress(asyncio.CancelledError, Finished):
            await task
        return interruption.happened

    with new_loop() as loop:
        at = next(at for at in itertools.count() if not loop.run_until_complete(main(at)))
    assert at > 10, "nothing was traced"


# --- Ctrl-C at each line ------------------------------------------------------------------------------------


torn: list[KeyboardInterrupt] = []  # the last one: interactive sessions keep its traceback, with its frames, too


def interrupt() -> NoReturn:
    torn[:] = [KeyboardInterrupt()]
    raise torn[0]


@pytest.mark.parametrize("stage", GETS)
def test_ctrl_c_at_any_line_of_get_leaves_the_queue_usable(watched: Parks, stage: Stage) -> None:
    for at in itertools.count():
        scene = stage(watched)
        handoff = scene.handoff
        with suppress(KeyboardInterrupt), Interruption(at, interrupt, "line") as interruption:
            first = outcome_of(scene.act)
            assert not interruption.happened
            if isinstance(first, int):
                scene.still_to_come.remove(first)
        if stage is get_beside_another_consumer:
            assert offer(handoff, [1]) == 1
            assert outcome_of(scene.others[0].result) == 1, interruption.where
        elif stage is get_at_the_end:
            assert outcome_of(lambda: handoff.get(PATIENCE)) == "finished", interruption.where
        else:
            check_the_rest(handoff, scene.still_to_come, interruption)
        handoff.close()
        for other in scene.others:
            other.result()
        if not interruption.happened:
            break
    assert at > 3, "nothing was traced"


def check_the_rest(handoff: Handoff[int], expected: list[int], interruption: Interruption) -> None:
    """Get what is still to come in this thread and then wait in others, as nothing is in the way of either.

    What whoever was interrupted had in his hand may be gone.
    """
    received: list[int] = []

    def run() -> None:
        while not received or received[-1] != expected[-1]:
            received.append(handoff.get(PATIENCE if expected else 0))

    outcome = outcome_of(run)
    if expected and received != expected:
        assert received == expected[1:], (interruption.where, outcome)
    if not expected:
        assert outcome == "timed out", interruption.where
    assert outcome_of(lambda: asyncio.run(handoff.aget(0))) == "timed out", interruption.where
    torn.clear()
    assert outcome_of(Job(lambda: handoff.get(0)).result) == "timed out", interruption.where


@pytest.mark.parametrize("queued", [0, 2])
def test_ctrl_c_at_any_line_of_aget_leaves_the_queue_usable(queued: int) -> None:
    with new_loop() as loop:
        for at in itertools.count():
            handoff = make()
            offer(handoff, range(queued))
            expected = list(range(queued))
            task = loop.create_task(handoff.aget(1e-6))
            with suppress(KeyboardInterrupt), Interruption(at, interrupt, "line") as interruption:
                first = outcome_of(partial(loop.run_until_complete, task))
                if isinstance(first, int):
                    expected.remove(first)
            task.cancel()  # as asyncio.run does
            loop.run_until_complete(turns(2))
            check_the_rest(handoff, expected, interruption)
            if not interruption.happened:
                break
        assert at > 3, "nothing was traced"


@pytest.mark.parametrize("stage", CLOSES)
def test_a_close_that_ctrl_c_broke_off_can_be_made_up_for(watched: Parks, stage: Stage) -> None:
    for at in itertools.count():
        scene = stage(watched)
        with suppress(KeyboardInterrupt), Interruption(at, interrupt, "line") as interruption:
            scene.handoff.close()
        scene.handoff.close()
        for other in scene.others:
            assert is_foreseen(outcome_of(other.result)), interruption.where
        if not interruption.happened:
            break
    assert at > 3, "nothing was traced"


@needs_signals
@pytest.mark.usefixtures("restless", "untraced", "collector")
def test_ctrl_c_at_any_time_leaves_the_queue_usable() -> None:
    gc.disable()  # what others do in the midst of a collection must not be interrupted
    handoff = make(4)
    strikes = 0
    armed = False

    def strike() -> None:
        nonlocal armed
        if armed:
            armed = False  # one at a time: two in a row break even a `with` of 3.10
            interrupt()

    def produce() -> None:
        items = itertools.count()
        while put(handoff, [next(items)]):
            pass

    producer = Job(produce)
    received: list[int] = []
    with closing(handoff), handling(strike) as send, often(send, 2e-4):
        while strikes < 2000:
            try:
                while True:
                    armed = True
                    received.append(handoff.get(PATIENCE))
            except KeyboardInterrupt:
                strikes += 1
    producer.result()
    assert received == sorted(set(received))


# --- the latch ----------------------------------------------------------------------------------------------


def wait_for(face: Face, latch: Latch) -> bool:
    if isinstance(face, AsyncFace):
        face.run(lambda: latch)
        return True
    return latch.wait()


def test_a_latch_that_is_set_keeps_nobody_waiting(face: Face) -> None:
    latch = Latch()
    assert not latch.is_set
    latch.set()
    latch.set()
    assert latch.is_set
    assert wait_for(face, latch)
    assert latch.wait(0)


def test_a_latch_wakes_all_who_wait_in_threads_and_in_loops(face: Face, parks: Parks) -> None:
    latch = Latch()

    async def several() -> list[None]:
        async def wait() -> None:
            await latch

        return await asyncio.gather(*(wait() for _ in range(3)))

    jobs: list[Job[Any]] = [Job(latch.wait) for _ in range(3)] + [Job(lambda: latch.wait(LONG))]
    jobs += [Job(lambda: asyncio.run(several())) for _ in range(2)]

    def set_it() -> None:
        for _ in range(3 + 1 + 2 * 3 + 1):
            parks.await_next()
        latch.set()

    setter = Job(set_it)
    assert wait_for(face, latch)
    setter.result()
    assert [job.result() for job in jobs] == [True] * 4 + [[None] * 3] * 2


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_a_wait_for_a_latch_may_be_bounded(timeout: float) -> None:
    latch = Latch()
    assert latch.wait(timeout) is False
    latch.set()
    assert latch.wait(timeout) is True


def test_a_cancelled_wait_for_a_latch_harms_nobody(parks: Parks) -> None:
    latch = Latch()

    async def main() -> None:
        async def wait() -> None:
            await latch

        tasks = [asyncio.ensure_future(wait()) for _ in range(2)]
        await turns(2)
        tasks[0].cancel()
        await turns(2)
        assert tasks[0].cancelled()
        latch.set()
        await asyncio.wait_for(tasks[1], PATIENCE)

    asyncio.run(main())


def test_a_latch_tolerates_who_waits_in_a_loop_that_was_closed(parks: Parks) -> None:
    latch = Latch()

    async def wait() -> None:
        await latch

    with new_loop() as loop:
        task = loop.create_task(wait())
        loop.run_until_complete(turns(2))
    job = Job(latch.wait)
    parks.await_next()
    parks.await_next()
    latch.set()
    assert job.result()
    abandon(task)


def test_a_waiter_may_leave_a_latch_while_others_are_woken(monkeypatch: pytest.MonkeyPatch, parks: Parks) -> None:
    latch = Latch()

    async def wait() -> None:
        await latch

    with new_loop() as loop:
        task = loop.create_task(wait())
        loop.run_until_complete(turns(2))
    parks.await_next()
    jobs = [Job(latch.wait) for _ in range(3)]
    for _ in jobs:
        parks.await_next()
    wake = module.ThreadWaiter.wake

    def wake_while_the_collector_runs(waiter: module.ThreadWaiter) -> None:
        abandon(task)  # as the collector does with tasks of closed loops, whatever runs at the time
        wake(waiter)

    monkeypatch.setattr(module.ThreadWaiter, "wake", wake_while_the_collector_runs)
    latch.set()
    assert all(job.result() for job in jobs)


@traces_instructions
@pytest.mark.parametrize("act", ["wait", "set"])
def test_a_latch_may_be_set_at_any_instruction(watched: Parks, act: str) -> None:
    for at in itertools.count():
        latch = Latch()
        other = Job(latch.wait)
        watched.await_next()
        with Interruption(at, latch.set, "opcode") as interruption:
            outcome = outcome_of(getattr(latch, act))
        latch.set()
        assert other.result()
        if not interruption.happened:
            break
        assert is_foreseen(outcome), (interruption.where, outcome)
        assert Job(latch.wait).result()
    assert at > 10, "nothing was traced"


@traces_instructions
def test_a_latch_may_be_set_at_any_instruction_of_an_awaited_wait() -> None:
    async def main(at: int) -> bool:
        latch = Latch()

        async def wait() -> None:
            await latch

        with Interruption(at, latch.set, "opcode") as interruption:
            task = asyncio.ensure_future(wait())
            await turns(6)
        assert task.done() == interruption.happened, interruption.where
        latch.set()
        await task
        return interruption.happened

    with new_loop() as loop:
        at = next(at for at in itertools.count() if not loop.run_until_complete(main(at)))
    assert at > 10, "nothing was traced"


def test_setting_a_latch_that_ctrl_c_broke_off_can_be_made_up_for(watched: Parks) -> None:
    for at in itertools.count():
        latch = Latch()
        jobs = [Job(latch.wait), Job(latch.wait)]
        for _ in jobs:
            watched.await_next()
        with suppress(KeyboardInterrupt), Interruption(at, interrupt, "line") as interruption:
            latch.set()
        latch.set()
        for job in jobs:
            assert job.result(), interruption.where
        if not interruption.happened:
            break
    assert at > 3, "nothing was traced"


# --- idle costs nothing, and busy is fair -------------------------------------------------------------------


def switches(ident: int) -> int:
    """How often a thread has given up the processor of its own accord, which it has to do to sleep once more."""
    status = Path(f"/proc/self/task/{ident}/status").read_text(encoding="ascii")
    return int(status.split("voluntary_ctxt_switches:")[1].split()[0])


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts of context switches as on Linux")
@pytest.mark.parametrize("waits", ["get", "get within a time", "aget", "put", "latch"])
def test_whoever_waits_does_not_poll(parks: Parks, waits: str) -> None:
    handoff = make(1)
    latch = Latch()
    calls: dict[str, Callable[[], Any]] = {
        "get": handoff.get,
        "get within a time": lambda: handoff.get(LONG),
        "aget": lambda: asyncio.run(handoff.aget()),
        "put": lambda: put(handoff, [1, 2]),
        "latch": latch.wait,
    }
    job = Job(calls[waits])
    parks.await_next()

    def sleeps_on() -> bool:
        before = switches(job.ident)
        time.sleep(0.1)  # the time is the subject: whoever polls wakes up meanwhile
        return switches(job.ident) == before

    wait_until(sleeps_on, "a time in which the thread does not wake up", limit=2)
    latch.set()
    handoff.close()
    outcome_of(job.result)


def test_a_loop_is_woken_once_for_all_that_has_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_busy_producer_leaves_other_tasks_their_turns() -> None:
    max_items = 16
    handoff = make(max_items)
    received_since_a_turn = longest = 0

    def produce() -> None:
        for start in range(0, 20_000, 50):
            put(handoff, range(start, start + 50))
        handoff.finish()

    async def tick() -> None:
        nonlocal received_since_a_turn
        while True:
            received_since_a_turn = 0
            await asyncio.sleep(0)

    async def main() -> None:
        nonlocal received_since_a_turn, longest
        ticking = asyncio.ensure_future(tick())
        with suppress(Finished):
            while True:
                await handoff.aget()
                received_since_a_turn += 1
                longest = max(longest, received_since_a_turn)
        ticking.cancel()

    job = Job(produce)
    asyncio.run(main())
    job.result()
    assert 0 < longest <= max_items


def test_a_queue_that_is_never_empty_leaves_other_tasks_their_turns() -> None:
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
            offer(handoff, range(8))  # there is always something: nothing here ever needs to wait
            await handoff.aget()
        task.cancel()
        assert others >= 800 // 8

    asyncio.run(main())
