"""Helpers for the hand-off's tests: short calls, calls in threads, and a record of each park."""

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
    from collections.abc import Callable, Coroutine, Iterable, Iterator

    from support.apis import Api


T = TypeVar("T")
NO_BOUND = 10**9  # a bound that no test reaches


def make(
    max_items: int = 1024, max_weight: int = NO_BOUND, weigh: Callable[[int], int] | None = None
) -> Handoff[int]:
    return Handoff(max_items, max_weight, weigh or (lambda item: 1))


def offer(handoff: Handoff[int], items: Iterable[int]) -> int:
    """Put the items that fit, without waiting; return their number."""
    batch = list(items)
    left = handoff.offer(batch, waiting.ThreadWaiter())
    return len(batch) - (handoff.withdraw() if left else 0)


def put(handoff: Handoff[int], items: Iterable[int], waiter: waiting.ThreadWaiter | None = None) -> int:
    """Put all items, waiting for room; return their number."""
    batch = list(items)
    waiter = waiter or waiting.ThreadWaiter()
    if not handoff.offer(batch, waiter):
        return len(batch)
    while handoff.is_full and not handoff._closed:
        waiter.park()
    return len(batch) - handoff.withdraw()


def get(api: Api, handoff: Handoff[T], timeout: float | None = None) -> T:
    if isinstance(api, AsyncApi):
        return api.run(lambda: handoff.aget(timeout))
    return handoff.get(timeout)


def run(api: Api, call: Callable[[], None], acall: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `call` for the sync API, or `acall` for the async API; both make many calls."""
    if isinstance(api, AsyncApi):
        api.loop.set_debug(False)  # debug mode is too slow for many calls
        api.run(acall)
    else:
        call()


class Job(Generic[T]):
    """A call in its own thread."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._outcome: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome.append(self._call())
        except BaseException as error:  # noqa: BLE001 - `result` raises it
            self._error = error

    @property
    def ident(self) -> int:
        assert self._thread.native_id is not None
        return self._thread.native_id

    def result(self) -> T:
        """Return the result of the call, or raise its error; fail the test if the call does not end."""
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            pytest.fail(f"the call did not end within {PATIENCE:g} s")
        if self._error is not None:
            raise self._error
        return self._outcome[0]


class Parks:
    """Records each park of a waiter; the waiter is registered by then."""

    def __init__(self) -> None:
        self._seen: queue.Queue[None] = queue.Queue()
        self._waiters: list[weakref.ref[waiting.ThreadWaiter | waiting.TaskWaiter]] = []
        self.strict = False  # True: raise an error if the main thread would wait without a timeout

    def note(self, waiter: waiting.ThreadWaiter | waiting.TaskWaiter) -> None:
        self._waiters.append(weakref.ref(waiter))
        self._seen.put(None)

    @property
    def waiters(self) -> list[waiting.ThreadWaiter | waiting.TaskWaiter]:
        """The waiters that have parked and are still alive, each once per park."""
        return [waiter for reference in self._waiters if (waiter := reference()) is not None]

    def await_next(self) -> None:
        self._seen.get(timeout=PATIENCE)


@contextmanager
def repeatedly(act: Callable[[], object], max_pause: float = 5e-4) -> Iterator[None]:
    """Call `act` repeatedly, in another thread, at random moments."""
    rng = random.Random(5)
    stopped = threading.Event()

    def run() -> None:
        while not stopped.wait(rng.random() * max_pause):
            act()

    job = Job(run)
    try:
        yield
    finally:
        stopped.set()
        job.result()


class Cyclic:
    """An object in a reference cycle, which only the garbage collector frees."""

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
    """Yield to the event loop `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)


def abandon(task: asyncio.Task[Any]) -> None:
    """Suppress the warning about a pending task whose loop is closed."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    task.get_coro().close()


needs_signals = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals to threads need POSIX")


@contextmanager
def on_signal(act: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Call `act` in a signal handler in the main thread; yield a function that sends the signal from any thread."""
    previous = signal.signal(signal.SIGUSR1, lambda number, frame: act())
    ident = threading.main_thread().ident
    assert ident is not None
    try:
        yield lambda: signal.pthread_kill(ident, signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, previous)
