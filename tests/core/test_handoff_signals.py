"""The hand-off used in signal handlers and finalizers."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from sseclient_dual.handoff import Finished, Handoff
from support.handoffs import Cyclic, Job, Parks, get, make, needs_signals, offer, on_signal, put, repeatedly
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

    # Send it repeatedly: the interpreter misses a signal that arrives just before the system call that waits.
    with on_signal(close) as send, repeatedly(send), pytest.raises(Finished):
        get(api, handoff)


@needs_signals
@pytest.mark.usefixtures("untraced")
def test_a_signal_handler_may_close_while_the_producer_waits(parks: Parks) -> None:
    handoff = make(2)

    def close() -> None:
        if parks.waiters:
            handoff.close()

    with on_signal(close) as send, repeatedly(send):
        assert put(handoff, [1, 2, 3]) == 2


def test_a_close_while_the_consumer_takes_items_discards_them(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Handoff._take_part

    def take_and_close(handoff: Handoff[int]) -> None:
        take(handoff)
        handoff.close()  # as a signal handler may here

    monkeypatch.setattr(Handoff, "_take_part", take_and_close)
    handoff = make()
    offer(handoff, [1, 2])
    for _ in range(2):
        with pytest.raises(Finished):
            get(api, handoff)
    assert len(handoff) == 0


@needs_signals
@pytest.mark.usefixtures("untraced")
def test_a_get_in_a_signal_handler_does_not_end_the_interrupted_wait(parks: Parks) -> None:
    handoff = make()
    outcomes: list[object] = []

    def try_to_get() -> None:
        if parks.waiters and not outcomes:
            outcomes.append(outcome_of(lambda: handoff.get(0)))

    def offer_later() -> None:
        wait_until(lambda: outcomes, "the signal handler")
        offer(handoff, [1])

    with on_signal(try_to_get) as send, repeatedly(send):
        job = Job(offer_later)
        assert handoff.get(PATIENCE) == 1
    job.result()
    assert outcomes == ["timed out"]


@needs_signals
@pytest.mark.usefixtures("frequent_switches", "untraced")
def test_a_signal_handler_may_close_during_get_and_put() -> None:
    rng = random.Random(6)
    current = make()

    def close() -> None:
        current.close()

    with on_signal(close) as send, repeatedly(send):
        for _ in range(1000):
            current = make(4)
            with suppress(Finished):
                while True:
                    offer(current, range(rng.randrange(8)))
                    for _ in range(rng.randrange(8)):
                        current.get()


@needs_signals
@pytest.mark.usefixtures("frequent_switches", "untraced")
def test_a_signal_handler_may_close_during_aget() -> None:
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

    with on_signal(close) as send, repeatedly(send):
        asyncio.run(main())


@pytest.mark.usefixtures("restore_gc", "untraced")
def test_a_finalizer_may_close_during_get_and_put() -> None:
    rng = random.Random(8)
    for _ in range(1000):
        gc.disable()
        handoff = make(8)
        weakref.finalize(Cyclic(), handoff.close).atexit = False
        gc.set_threshold(rng.randrange(1, 100), 1000, 1000)
        gc.enable()
        allocated: list[object] = []  # unfreed objects trigger the garbage collector
        with suppress(Finished):
            for _ in range(10_000):
                allocated += [[] for _ in range(rng.randrange(20))]
                offer(handoff, range(rng.randrange(4)))
                with suppress(TimeoutError):
                    handoff.get(0)
            pytest.fail("the finalizer did not run")
        assert offer(handoff, [1]) == 0
