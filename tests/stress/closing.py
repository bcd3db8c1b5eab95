"""Close connections in every state and in every way, plain, over TLS and over HTTP/2, and check the result.

`test_closing.py` tests each state with each way once, and ends processes with open connections in every state.
`make soak ARGS='closing [closes]'` takes three minutes: it tests each state with each way many times, ends a process
for each state, API and ending, and closes a busy stream a thousand times with each API, over TLS and over HTTP/2.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import signal
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import ReadyState, SSEClient, SSEClosedError, SSEConnection
from sseclient_dual.testing import SSEServer, stream
from stress.endings import ENDINGS, end_process
from stress.states import (
    BUSY,
    PLACES,
    RESOLVING,
    WIRES,
    SlowNames,
    State,
    adrain,
    drain,
    flood,
    place_name,
    serve,
)
from support.leaks import Leftovers, Open, running_hub, streams
from support.logs import quiet
from support.policies import SLOW
from support.tls import make_tls
from support.waiting import BOUND, PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stress.states import Wire
    from support.tls import Tls

CLOSES = 1000
ROUNDS = 10  # of all states with all ways

Make = Callable[[], SSEConnection]
Way = Callable[["State", Make], "float | None"]


# --- ways ---------------------------------------------------------------------------------------------------


def _timed(close: Callable[[], object]) -> float:
    began = time.perf_counter()
    close()
    return time.perf_counter() - began


def _wait_for(state: State, conn: SSEConnection) -> None:
    """Wait until `conn` is in `state`, and (unless that is `BUSY`) until its consumer, if any, waits for an event."""
    wait_until(lambda: state.reached(conn), state.name)
    if state is not BUSY and state.consumed and conn.ready_state is not ReadyState.CLOSED:
        wait_until(lambda: conn._reader.handoff._waiting_consumer() is not None, "a waiting consumer")


def _assert_closed(conn: SSEConnection) -> None:
    assert conn.ready_state is ReadyState.CLOSED
    assert list(conn) == []
    conn.close()  # a second close has no effect


def by_a_call(state: State, make: Make) -> float:
    """Close a connection without a consumer."""
    conn = make()
    state.get_there(conn)
    took = _timed(conn.close)
    _assert_closed(conn)
    return took


def from_another_thread(state: State, make: Make) -> float:
    """Iterate in one thread, close in another."""
    conn = make()
    with ThreadPoolExecutor(1) as pool:
        consumer = pool.submit(drain, conn) if state.consumed else None
        try:
            _wait_for(state, conn)
        finally:
            took = _timed(conn.close)
        if consumer is not None:
            consumer.result(PATIENCE)
    _assert_closed(conn)
    return took


def from_a_signal_handler(state: State, make: Make) -> float:
    """Close in a signal handler that interrupts the iterating thread."""
    conn = make()
    times: list[float] = []

    def interrupt() -> None:
        try:
            _wait_for(state, conn)
        finally:
            signal.pthread_kill(iterating, signal.SIGUSR1)

    iterating = threading.get_ident()
    # The coverage tracer takes a lock at each call, and the lock is not re-entrant. A handler that interrupts the
    # tracer would deadlock if it waited for a thread that needs the lock.
    tracer = sys.gettrace()
    sys.settrace(None)
    previous = signal.signal(signal.SIGUSR1, lambda *_: times.append(_timed(conn.close)))
    try:
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(interrupt)
            if state.consumed:
                drain(conn)
            sent.result(PATIENCE)
        wait_until(lambda: times, "the signal handler")
    finally:
        signal.signal(signal.SIGUSR1, previous)
        sys.settrace(tracer)
    _assert_closed(conn)
    return times[0]


def from_a_task(state: State, make: Make) -> float:
    """Iterate in one task, close in another and await the close."""

    async def main() -> float:
        consumers = [asyncio.create_task(adrain(conn))] if state.consumed else []
        await asyncio.to_thread(_wait_for, state, conn)
        began = time.perf_counter()
        closing = conn.close()
        took = time.perf_counter() - began
        await closing
        await asyncio.gather(*consumers)
        return took

    conn = make()
    took = asyncio.run(asyncio.wait_for(main(), PATIENCE))
    _assert_closed(conn)
    return took


def by_cancellation(state: State, make: Make) -> None:
    """Cancel the task that has the `async with` block. Not timed: it also waits for the thread to end."""

    async def block() -> None:
        async with conn:
            if state.consumed:
                await adrain(conn)
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        await asyncio.to_thread(wait_until, lambda: state.reached(conn), state.name)
        task.cancel()
        with suppress(asyncio.CancelledError, SSEClosedError):
            await task

    conn = make()
    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    _assert_closed(conn)


def by_dropping_the_reference(state: State, make: Make) -> float:
    """Drop the last reference."""
    conn = make()
    state.get_there(conn)
    reference = weakref.ref(conn)
    began = time.perf_counter()
    del conn
    took = time.perf_counter() - began
    assert reference() is None
    return took


WAYS: list[Way] = [
    by_a_call, from_another_thread, from_a_signal_handler, from_a_task, by_cancellation, by_dropping_the_reference,
]  # fmt: skip


def close_in_state(state: State, way: Way, tls: Tls, wire: Wire) -> float | None:
    """Close a connection in `state` by `way`; return the seconds that `close()` took, or None if not timed.

    :raises AssertionError: the connection was not closed, or left something behind.
    """
    leftovers = Leftovers()

    def make() -> SSEConnection:
        conn = client.connect(url, timeout=None)
        state.begin(conn)
        return conn

    with (
        SlowNames(),
        serve(state, wire, tls) as url,
        SSEClient(verify=tls[1], policy=SLOW, http2=wire == "http2") as client,
    ):
        took = way(state, make)
        if state is not RESOLVING:  # nothing can end name resolution, so its worker keeps running
            wait_until(lambda: not streams(), "the end of the stream")
    assert leftovers.settle() == []
    return took


# --- many closes --------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """The durations of many closes."""

    seconds: list[float] = field(default_factory=list)
    """The duration of each `close()`."""

    @property
    def slowest(self) -> float:
        """The longest duration, in seconds."""
        return max(self.seconds, default=0.0)

    @property
    def p99(self) -> float:
        """The 99th percentile of the durations, in seconds."""
        return sorted(self.seconds)[math.ceil(0.99 * len(self.seconds)) - 1] if self.seconds else 0.0

    def __str__(self) -> str:
        return f"{len(self.seconds)} closes, slowest {1000 * self.slowest:.1f} ms, p99 {1000 * self.p99:.1f} ms"


def close_busy(api: str, count: int, tls: Tls, wire: Wire) -> Iterator[float]:
    """Close a busy stream `count` times, check every event, and yield the duration of each close."""
    with (
        SSEServer(default=stream(flood), tls=None if wire == "plain" else tls[0], http2=wire == "http2") as server,
        SSEClient(verify=tls[1], http2=wire == "http2") as client,
    ):
        for _ in range(count):
            conn = client.connect(server.url)
            yield asyncio.run(_aclose_one(conn)) if api == "async" else _close_one(conn)
        server.wait_for_connections(0)


def _close_one(conn: SSEConnection) -> float:
    with ThreadPoolExecutor(1) as pool:
        consumer = pool.submit(drain, conn)
        try:
            wait_until(lambda: conn.stats.events > 100 or consumer.done(), "events")
        finally:
            took = _timed(conn.close)
        consumer.result(PATIENCE)
    return took


async def _aclose_one(conn: SSEConnection) -> float:
    consumer = asyncio.create_task(adrain(conn))
    await asyncio.to_thread(wait_until, lambda: conn.stats.events > 100 or consumer.done(), "events")
    began = time.perf_counter()
    closing = conn.close()
    took = time.perf_counter() - began
    await closing
    await consumer
    return took


# --- the soak test ----------------------------------------------------------------------------------------


class Report:
    """Runs the checks, and prints and collects their failures."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def run(self, name: str, action: Callable[[], float | None], tally: Tally) -> bool:
        """Run `action` and add the seconds it returns to `tally`; return False if it failed."""
        try:
            seconds = action()
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - every failure is reported
            self.fail(f"{name}: {error!r}")
            return False
        if seconds is not None:
            tally.seconds.append(seconds)
        return True

    def fail(self, failure: str) -> None:
        """Print and collect a failure."""
        self.failures.append(failure)
        print(f"FAILURE: {failure}", flush=True)

    def check(self, name: str, tally: Tally) -> None:
        """Print `tally`, and fail if its p99 is too long."""
        print(f"{name}: {tally}", flush=True)
        if tally.p99 >= BOUND:
            self.fail(f"{name}: p99 is {1000 * tally.p99:.0f} ms, not below {1000 * BOUND:.0f} ms")


def main(arguments: list[str]) -> int:
    """Run all checks, print the progress, and return the exit status."""
    quiet()
    closes = int(arguments[0]) if arguments else CLOSES
    begin, report = time.monotonic(), Report()
    # The hub's thread would otherwise end, and count as left behind until then, after each close.
    with running_hub(), tempfile.TemporaryDirectory() as folder:
        tls = make_tls(Path(folder))
        combinations = list(itertools.product(PLACES, WAYS))
        tally = Tally()
        for _, (place, way) in itertools.product(range(ROUNDS), combinations):
            state, wire = place
            name = f"{place_name(place)}, {way.__name__}"
            report.run(name, lambda: close_in_state(state, way, tls, wire), tally)
        report.check(f"{len(PLACES)} states x {len(WAYS)} ways x {ROUNDS} rounds", tally)

        exits = Tally()
        for place, api, ending in itertools.product(PLACES, ("sync", "async"), ENDINGS):
            name = f"{place_name(place)}, {api}, {ending}"
            report.run(name, lambda: end_process([place], api, ending, tls), exits)
        print(
            f"{len(PLACES)} states x 2 APIs x {len(ENDINGS)} endings: {len(exits.seconds)} processes ended, "
            f"slowest {exits.slowest:.2f} s",
            flush=True,
        )

        total = 0
        for wire, api in itertools.product(WIRES[1:], ("sync", "async")):
            name = f"busy {wire}, {api}"
            leftovers, before, busy = Leftovers(), Open(), Tally()
            closings = close_busy(api, closes, tls, wire)
            while len(busy.seconds) < closes and report.run(name, lambda: next(closings), busy):
                pass
            next(closings, None)  # lets the generator end
            left = leftovers.settle()
            report.check(name, busy)
            print(f"{name}: before {before}, after {Open()}", flush=True)
            if left or Open() != before:
                report.fail(f"{name}: left behind: {left or Open()}")
            total += len(busy.seconds)
    print(
        f"in {time.monotonic() - begin:.0f} s: {ROUNDS * len(combinations)} closes in all states, "
        f"{len(exits.seconds)} processes ended, {total} closes of busy streams; {len(report.failures)} failures"
    )
    return bool(report.failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
