"""Hand-off tests: short calls, threads that report, and notes of each park."""

from __future__ import annotations

import asyncio
import queue
import random
import signal
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pytest

from sseclient_dual import waiting
from sseclient_dual.handoff import Handoff
from support.apis import AsyncApi
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from support.apis import Api


T = TypeVar("T")
ROOMY = 10**9  # a bound that is out of the question


def make(max_items: int = 1024, max_weight: int = ROOMY, weigh: Callable[[int], int] | None = None) -> Handoff[int]:
    return Handoff(max_items, max_weight, weigh or (lambda item: 1))


def offer(handoff: Handoff[int], items: Sequence[int]) -> int:
    """Put what there is room for, without waiting; return how many that was."""
    return handoff.put(items, waiting.ThreadWaiter(), lambda: True)


def put(handoff: Handoff[int], items: Sequence[int]) -> int:
    """Put all, waiting for room."""
    return handoff.put(items, waiting.ThreadWaiter(), lambda: False)


def get(api: Api, handoff: Handoff[T], timeout: float | None = None) -> T:
    if isinstance(api, AsyncApi):
        return api.run(lambda: handoff.aget(timeout))
    return handoff.get(timeout)


def run(api: Api, call: Callable[[], None], acall: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do what does the same thing many times over, by the API."""
    if isinstance(api, AsyncApi):
        api.loop.set_debug(False)  # too slow for that
        api.run(acall)
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


class Parks:
    """Tells when somebody who has announced himself is about to park."""

    def __init__(self) -> None:
        self._seen: queue.Queue[None] = queue.Queue()
        self._waiters: list[weakref.ref[waiting.ThreadWaiter | waiting.TaskWaiter]] = []
        self.strict = False  # whether to raise instead of letting the main thread wait without a limit

    def note(self, waiter: waiting.ThreadWaiter | waiting.TaskWaiter) -> None:
        self._waiters.append(weakref.ref(waiter))
        self._seen.put(None)

    @property
    def waiters(self) -> list[waiting.ThreadWaiter | waiting.TaskWaiter]:
        """Who has parked and is still there, a waiter as often as it parked."""
        return [waiter for reference in self._waiters if (waiter := reference()) is not None]

    def await_next(self) -> None:
        self._seen.get(timeout=PATIENCE)


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


def abandon(task: asyncio.Task[Any]) -> None:
    """Keep a task that can never end from complaining about it."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    task.get_coro().close()


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
