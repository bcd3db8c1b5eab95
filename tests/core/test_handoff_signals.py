"""The hand-off used in signal handlers and finalizers."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from sseclient_dual.handoff import Finished
from support.handoffs import Dropped, Job, Parks, get, handling, make, needs_signals, offer, often, put
from support.interruptions import outcome_of
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from support.apis import Api


@needs_signals
@pytest.mark.usefixtures("untraced")
def test_a_signal_handler_may_close_while_the_consumer_waits(api: Api, parks: Parks) -> None:
    handoff = make()

    def close() -> None:
        if parks.waiters:
            handoff.close()

    # Often, because the interpreter does not notice one that comes just before the system's own wait begins.
    with handling(close) as send, often(send), pytest.raises(Finished):
        get(api, handoff)


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
