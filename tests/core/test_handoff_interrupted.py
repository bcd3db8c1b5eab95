"""Interrupting the hand-off: a close at each instruction, and Ctrl-C at each line and call."""

from __future__ import annotations

import asyncio
import gc
import itertools
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from sseclient_dual.handoff import Finished, Handoff
from support.handoffs import Job, Parks, make, needs_signals, new_loop, offer, on_signal, put, repeatedly, turns
from support.interruptions import (
    Interruption,
    interrupt,
    is_expected,
    kept_error,
    outcome_of,
    traces_instructions,
)
from support.waiting import LONG, PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

pytestmark = pytest.mark.slow


# --- a close at each instruction ----------------------------------------------------------------------------


@dataclass
class Scenario:
    """The call to interrupt in the main thread, the calls that wait in other threads, and the items to come."""

    handoff: Handoff[int]
    call: Callable[[], object]
    others: list[Job[Any]] = field(default_factory=list)
    expected: list[int] = field(default_factory=list)


SetUp: TypeAlias = "Callable[[Parks], Scenario]"


def get_from_an_empty_queue(parks: Parks) -> Scenario:
    handoff = make()
    return Scenario(handoff, handoff.get)


def get_a_queued_item(parks: Parks) -> Scenario:
    handoff = make()
    offer(handoff, [1, 2])
    return Scenario(handoff, handoff.get, expected=[1, 2])


def get_a_taken_item(parks: Parks) -> Scenario:
    handoff = make()
    offer(handoff, [0, 1, 2])
    handoff.get()
    return Scenario(handoff, handoff.get, expected=[1, 2])


def get_while_a_producer_waits(parks: Parks) -> Scenario:
    handoff = make(2)
    producer = Job(lambda: put(handoff, [1, 2, 3, 4, 5]))
    parks.await_next()
    return Scenario(handoff, handoff.get, [producer], [1, 2, 3, 4, 5])


def get_the_last_item_of_a_full_queue(parks: Parks) -> Scenario:
    handoff = make(2)
    offer(handoff, [0, 1])
    handoff.get()
    producer = Job(lambda: put(handoff, [2, 3]))
    parks.await_next()
    return Scenario(handoff, handoff.get, [producer], [1, 2, 3])


def get_at_the_end(parks: Parks) -> Scenario:
    handoff = make()
    handoff.finish(OSError("broken"))
    return Scenario(handoff, handoff.get)


def get_while_another_consumer_waits(parks: Parks) -> Scenario:
    handoff = make()
    consumer = Job(handoff.get)
    parks.await_next()
    return Scenario(handoff, handoff.get, [consumer])


def get_with_a_timeout(parks: Parks) -> Scenario:
    handoff = make()
    return Scenario(handoff, lambda: handoff.get(1e-6))


def put_into_an_empty_queue(parks: Parks) -> Scenario:
    handoff = make()
    return Scenario(handoff, lambda: put(handoff, [1, 2]))


def put_for_a_waiting_consumer(parks: Parks) -> Scenario:
    handoff = make()
    consumer = Job(handoff.get)
    parks.await_next()
    return Scenario(handoff, lambda: put(handoff, [1, 2]), [consumer])


def put_into_a_full_queue(parks: Parks) -> Scenario:
    handoff = make(2)
    return Scenario(handoff, lambda: put(handoff, [1, 2, 3]))


def put_heavy_items(parks: Parks) -> Scenario:
    handoff = make(max_weight=2)
    return Scenario(handoff, lambda: put(handoff, [1, 2, 3]))


def finish_for_a_waiting_consumer(parks: Parks) -> Scenario:
    handoff = make()
    consumer = Job(handoff.get)
    parks.await_next()
    return Scenario(handoff, lambda: handoff.finish(OSError("broken")), [consumer])


def close_for_a_waiting_consumer(parks: Parks) -> Scenario:
    handoff = make()
    consumer = Job(handoff.get)
    parks.await_next()
    return Scenario(handoff, handoff.close, [consumer])


def close_for_a_waiting_producer(parks: Parks) -> Scenario:
    handoff = make(2)
    producer = Job(lambda: put(handoff, [1, 2, 3]))
    parks.await_next()
    return Scenario(handoff, handoff.close, [producer])


GETS = [
    get_from_an_empty_queue,
    get_a_queued_item,
    get_a_taken_item,
    get_while_a_producer_waits,
    get_the_last_item_of_a_full_queue,
    get_at_the_end,
    get_while_another_consumer_waits,
    get_with_a_timeout,
]
CLOSES = [close_for_a_waiting_consumer, close_for_a_waiting_producer]
PUTS = [
    put_into_an_empty_queue,
    put_for_a_waiting_consumer,
    put_into_a_full_queue,
    put_heavy_items,
    finish_for_a_waiting_consumer,
]


@traces_instructions
@pytest.mark.parametrize("set_up", [*GETS, *PUTS, *CLOSES])
def test_a_close_at_any_instruction_ends_all_waits(strict_parks: Parks, set_up: SetUp) -> None:
    for at in itertools.count():
        scenario = set_up(strict_parks)
        handoff = scenario.handoff
        with Interruption(at, handoff.close, "opcode") as interruption:
            outcome = outcome_of(scenario.call)
        if not interruption.happened:
            handoff.close()
        assert all(is_expected(outcome_of(other.result)) for other in scenario.others), interruption.where
        if not interruption.happened:
            break
        assert is_expected(outcome), (interruption.where, outcome)
        assert outcome_of(handoff.get) == "finished", interruption.where
        assert outcome_of(Job(handoff.get).result) == "finished", interruption.where
        assert Job(partial(put, handoff, [7])).result() == 0, interruption.where
        assert len(handoff) == 0, interruption.where
    assert at > 10, "nothing was traced"


ASYNC_GETS: dict[str, Callable[[Handoff[int]], Coroutine[Any, Any, int]]] = {
    "without a timeout": lambda handoff: handoff.aget(),
    "with a timeout": lambda handoff: handoff.aget(LONG),
}


@traces_instructions
@pytest.mark.parametrize("get", ASYNC_GETS)
@pytest.mark.parametrize("queued", [0, 2])
@pytest.mark.parametrize("meanwhile", ["nothing", "put", "cancel"])
def test_a_close_at_any_instruction_ends_the_wait_of_a_task(get: str, queued: int, meanwhile: str) -> None:
    async def main(at: int) -> bool:
        handoff = make()
        offer(handoff, range(queued))
        with Interruption(at, handoff.close, "opcode") as interruption:
            task = asyncio.ensure_future(ASYNC_GETS[get](handoff))
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


# --- Ctrl-C at each line and call ---------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["line", "call"])
@pytest.mark.parametrize("set_up", GETS)
def test_ctrl_c_at_any_line_or_call_of_get_leaves_the_queue_usable(
    strict_parks: Parks, set_up: SetUp, unit: str
) -> None:
    for at in itertools.count():
        scenario = set_up(strict_parks)
        handoff = scenario.handoff
        with suppress(KeyboardInterrupt), Interruption(at, interrupt, unit) as interruption:
            first = outcome_of(scenario.call)
            assert not interruption.happened
            if isinstance(first, int):
                scenario.expected.remove(first)
        if set_up is get_while_another_consumer_waits:
            assert offer(handoff, [1]) == 1
            assert outcome_of(scenario.others[0].result) == 1, interruption.where
        elif set_up is get_at_the_end:
            assert outcome_of(lambda: handoff.get(PATIENCE)) == "finished", interruption.where
        else:
            check_remaining_items(handoff, scenario.expected, interruption)
        handoff.close()
        for other in scenario.others:
            other.result()
        if not interruption.happened:
            break
    assert at > 0, "nothing was traced"


def check_remaining_items(handoff: Handoff[int], expected: list[int], interruption: Interruption) -> None:
    """Get the remaining items; then check that a task and another thread can wait.

    The first expected item may be missing if the interrupted call had already taken it.
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
    kept_error.clear()
    assert outcome_of(Job(lambda: handoff.get(0)).result) == "timed out", interruption.where


@pytest.mark.parametrize("unit", ["line", "call"])
@pytest.mark.parametrize("queued", [0, 2])
def test_ctrl_c_at_any_line_or_call_of_aget_leaves_the_queue_usable(queued: int, unit: str) -> None:
    with new_loop() as loop:
        for at in itertools.count():
            handoff = make()
            offer(handoff, range(queued))
            expected = list(range(queued))
            task = loop.create_task(handoff.aget(1e-6))
            with suppress(KeyboardInterrupt), Interruption(at, interrupt, unit) as interruption:
                first = outcome_of(partial(loop.run_until_complete, task))
                if isinstance(first, int):
                    expected.remove(first)
            task.cancel()  # as asyncio.run does
            loop.run_until_complete(turns(2))
            check_remaining_items(handoff, expected, interruption)
            if not interruption.happened:
                break
        assert at > 0, "nothing was traced"


@pytest.mark.parametrize("unit", ["line", "call"])
@pytest.mark.parametrize("set_up", CLOSES)
def test_closing_again_completes_a_close_interrupted_by_ctrl_c(strict_parks: Parks, set_up: SetUp, unit: str) -> None:
    for at in itertools.count():
        scenario = set_up(strict_parks)
        with suppress(KeyboardInterrupt), Interruption(at, interrupt, unit) as interruption:
            scenario.handoff.close()
        scenario.handoff.close()
        for other in scenario.others:
            assert is_expected(outcome_of(other.result)), interruption.where
        if not interruption.happened:
            break
    assert at > 0, "nothing was traced"


@needs_signals
@pytest.mark.usefixtures("frequent_switches", "untraced", "restore_gc")
def test_ctrl_c_at_any_time_leaves_the_queue_usable() -> None:
    gc.disable()  # Ctrl-C must not interrupt a garbage collection
    handoff = make(4)
    interrupts = 0
    armed = False

    def interrupt_if_armed() -> None:
        nonlocal armed
        if armed:
            armed = False  # one at a time: two in a row break even a `with` block in Python 3.10
            interrupt()

    def produce() -> None:
        items = itertools.count()
        while put(handoff, [next(items)]):
            pass

    producer = Job(produce)
    received: list[int] = []
    with closing(handoff), on_signal(interrupt_if_armed) as send, repeatedly(send, 2e-4):
        while interrupts < 2000:
            try:
                while True:
                    armed = True
                    received.append(handoff.get(PATIENCE))
            except KeyboardInterrupt:
                interrupts += 1
    producer.result()
    assert received == sorted(set(received))
