"""How a thread or a task waits: waiters, deadlines and latches."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import threading
import time
import weakref
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import waiting
from sseclient_dual.waiting import Deadline, Latch, Lock
from support.apis import AsyncApi
from support.handoffs import Job, Parks, abandon, needs_signals, new_loop, on_signal, repeatedly, turns
from support.interruptions import Interruption, interrupt, is_expected, outcome_of, traces_instructions
from support.waiting import LONG, PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from support.apis import Api


# --- deadlines ----------------------------------------------------------------------------------------------


def test_a_deadline() -> None:
    assert Deadline(None).remaining() is None
    assert Deadline(0).remaining() == 0
    remaining = Deadline(LONG).remaining()
    assert remaining is not None
    assert LONG - PATIENCE < remaining <= LONG


# --- waiters ------------------------------------------------------------------------------------------------


def test_a_repeated_or_late_wake_up_is_not_an_error() -> None:
    async def main() -> None:
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
        waiter = waiting.TaskWaiter()
        waiter.wake()
        waiter.wake()
        assert await waiter.park()
        waiter = waiting.TaskWaiter()
        assert not await waiter.park(0)
        waiter.wake()
        waiter = waiting.TaskWaiter()
        task = asyncio.ensure_future(waiter.park())
        await turns(2)
        task.cancel()
        waiter.wake()
        await turns(3)
        assert task.cancelled()
        assert not errors

    asyncio.run(main())


@needs_signals
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("timeout", [None, LONG])
def test_a_waiting_main_thread_handles_a_signal_that_did_not_interrupt_its_wait(timeout: float | None) -> None:
    """As one that comes just before the wait begins; here another thread gets it."""

    class HandlerError(Exception):
        pass

    def fail(number: int, frame: FrameType | None) -> None:
        raise HandlerError

    def signal_itself() -> None:
        time.sleep(0.2)  # until the main thread waits; if it does not yet, it handles the signal at once
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    waiter = waiting.ThreadWaiter()
    previous = signal.signal(signal.SIGUSR1, fail)
    try:
        job = Job(signal_itself)
        with pytest.raises(HandlerError):
            waiter.park(timeout)
        job.result()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert not waiter.park(0)


def test_a_waiter_that_parks_again_keeps_its_timer() -> None:
    async def main() -> None:
        waiter = waiting.TaskWaiter()

        async def park_again(timeout: float | None = None) -> bool:
            try:
                return await waiter.parked(timeout)
            finally:
                waiter.end()

        async def wake() -> None:
            await turns(2)
            waiter.wake()

        async def park(timeout: float | None) -> bool:
            waking = asyncio.ensure_future(wake())
            woken = await park_again(timeout)
            await waking
            return woken

        assert await park(None)
        assert waiter._timer is None
        assert await park(LONG)
        first = waiter._timer
        assert await park(2 * LONG)
        assert waiter._timer is first  # due earlier
        assert not await park_again(0.001)
        assert first is not None
        assert first.cancelled()
        assert await park(LONG)
        waiter._set_timer(waiter.loop.time())  # due before the deadline of the next wait
        task = asyncio.ensure_future(park_again(LONG))
        while waiter._timer is None or waiter._due < waiter.loop.time() + 1:
            await turns(1)
        assert not task.done()
        waiter.wake()
        assert await task
        waiter._set_timer(waiter.loop.time())  # due while nothing waits
        while waiter._timer is not None:
            await turns(1)
        waiter.wake()
        await turns(2)
        assert await park_again()  # a wake-up before it is kept
        assert waiter._task is None

    asyncio.run(main())


def test_a_waiter_is_usable_in_its_own_loop() -> None:
    async def make() -> waiting.TaskWaiter:
        waiter = waiting.TaskWaiter()
        assert waiter.is_usable
        return waiter

    waiter = asyncio.run(make())

    async def use() -> None:
        assert not waiter.is_usable

    asyncio.run(use())


def test_a_task_waiter_keeps_a_wake_up_for_the_next_park() -> None:
    async def main() -> None:
        waiter = waiting.TaskWaiter()
        waiter.wake()
        await turns(2)
        assert await waiter.park()
        assert not await waiter.park(0)

    asyncio.run(main())


# --- locks --------------------------------------------------------------------------------------------------


def is_free(lock: Lock) -> bool:
    """Return True if another thread can acquire the lock."""

    def try_it() -> bool:
        acquired = lock._lock.acquire(blocking=False)
        if acquired:
            lock._lock.release()
        return acquired

    return Job(try_it).result()


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_ctrl_c_at_any_call_of_a_block_releases_its_lock_only(depth: int) -> None:
    lock = Lock()
    with ExitStack() as outer:
        for _ in range(depth):
            outer.enter_context(lock._lock)
        for at in itertools.count():
            with suppress(KeyboardInterrupt), Interruption(at, interrupt, "call", (waiting.__file__, __file__)) as it:
                with lock:
                    pass
            assert is_free(lock) == (depth == 0), it.where
            if not it.happened:
                break
        assert at > 2, "nothing was traced"
    assert is_free(lock)


@contextmanager
def held_elsewhere(lock: Lock) -> Iterator[None]:
    """Hold the lock in another thread."""
    holding, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            holding.set()
            over.wait(PATIENCE)

    owner = Job(hold)
    assert holding.wait(PATIENCE)
    yield
    over.set()
    owner.result()


@needs_signals
@pytest.mark.usefixtures("untraced")
def test_ctrl_c_during_the_wait_for_a_lock_leaves_it_to_its_owner() -> None:
    lock = Lock()
    armed = False

    def interrupt_if_armed() -> None:
        nonlocal armed
        if armed:
            armed = False
            interrupt()

    # Send it repeatedly: the interpreter misses a signal that arrives just before the system call that waits.
    with held_elsewhere(lock), on_signal(interrupt_if_armed) as send, repeatedly(send):
        for _ in range(20):
            armed = True
            with pytest.raises(KeyboardInterrupt), lock:
                pytest.fail("another thread holds the lock")
            assert not is_free(lock)
    assert is_free(lock)


def test_an_acquire_that_fails_releases_nothing() -> None:
    lock = Lock()

    def fail(frame: FrameType, event: str, argument: object) -> None:
        if event == "c_call" and frame.f_code is Lock.__enter__.__code__:
            interrupt()

    with held_elsewhere(lock):
        sys.setprofile(fail)
        with pytest.raises(KeyboardInterrupt), lock:
            pytest.fail("another thread holds the lock")
        assert not is_free(lock)
    assert is_free(lock)


# --- latches ------------------------------------------------------------------------------------------------


def wait_for(api: Api, latch: Latch) -> bool:
    if isinstance(api, AsyncApi):
        api.run(lambda: latch)
        return True
    return latch.wait()


def test_waiting_for_a_set_latch_returns_immediately(api: Api) -> None:
    latch = Latch()
    assert not latch.is_set
    latch.set()
    latch.set()
    assert latch.is_set
    assert wait_for(api, latch)
    assert latch.wait(0)


def test_a_latch_wakes_all_waiting_threads_and_tasks(api: Api, parks: Parks) -> None:
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
    assert wait_for(api, latch)
    setter.result()
    assert [job.result() for job in jobs] == [True] * 4 + [[None] * 3] * 2


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_waiting_for_a_latch_with_a_timeout(timeout: float) -> None:
    latch = Latch()
    assert latch.wait(timeout) is False
    latch.set()
    assert latch.wait(timeout) is True


def test_cancelling_one_wait_for_a_latch_does_not_affect_others(parks: Parks) -> None:
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


def test_a_latch_ignores_a_waiter_that_is_gone() -> None:
    """Ctrl-C may interrupt a wait before it is unregistered."""
    latch = Latch()
    latch._waiters.append(weakref.ref(waiting.ThreadWaiter()))
    latch.set()
    assert latch.wait()


def test_a_latch_ignores_a_waiter_in_a_closed_loop(parks: Parks) -> None:
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
    wake = waiting.ThreadWaiter.wake

    def wake_during_garbage_collection(waiter: waiting.ThreadWaiter) -> None:
        abandon(task)  # the garbage collector may do this to tasks of closed loops at any time
        wake(waiter)

    monkeypatch.setattr(waiting.ThreadWaiter, "wake", wake_during_garbage_collection)
    latch.set()
    assert all(job.result() for job in jobs)


@traces_instructions
@pytest.mark.parametrize("act", ["wait", "set"])
def test_a_latch_may_be_set_at_any_instruction(strict_parks: Parks, act: str) -> None:
    for at in itertools.count():
        latch = Latch()
        other = Job(latch.wait)
        strict_parks.await_next()
        with Interruption(at, latch.set, "opcode") as interruption:
            outcome = outcome_of(getattr(latch, act))
        latch.set()
        assert other.result()
        if not interruption.happened:
            break
        assert is_expected(outcome), (interruption.where, outcome)
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


@pytest.mark.parametrize("unit", ["line", "call"])
def test_setting_a_latch_again_completes_a_set_interrupted_by_ctrl_c(strict_parks: Parks, unit: str) -> None:
    for at in itertools.count():
        latch = Latch()
        jobs = [Job(latch.wait), Job(latch.wait)]
        for _ in jobs:
            strict_parks.await_next()
        with suppress(KeyboardInterrupt), Interruption(at, interrupt, unit) as interruption:
            latch.set()
        latch.set()
        for job in jobs:
            assert job.result(), interruption.where
        if not interruption.happened:
            break
    assert at > 3, "nothing was traced"
