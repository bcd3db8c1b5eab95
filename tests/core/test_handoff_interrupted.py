"""The hand-off closed at each instruction, and interrupted by Ctrl-C at each line."""

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
from support.handoffs import Job, Parks, handling, make, needs_signals, new_loop, offer, often, put, turns
from support.interruptions import Interruption, interrupt, is_foreseen, outcome_of, torn, traces_instructions
from support.waiting import LONG, PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


# --- a close at each instruction ----------------------------------------------------------------------------


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
