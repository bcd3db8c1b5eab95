"""Every way to close a connection, in every state that it may be in, plain and over TLS; and what must hold then.

`test_closing.py` plays the product of states and ways, and ends processes with a connection in each state open.
`make soak ARGS='closings [closes]'` takes two minutes: every state by every way, again and again; a process for each
state, API and ending; and a busy TLS stream closed a thousand times by each API.
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
from stress.states import BUSY, PLACES, RESOLVING, SlowNames, State, adrain, drain, flood, place_name, quiet
from support.leaks import Leftovers, Open
from support.policies import SLOW
from support.tls import make_tls
from support.waiting import BOUND, PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.tls import Tls

CLOSES = 1000
ROUNDS = 10  # of every state by every way

Make = Callable[[], SSEConnection]
Way = Callable[["State", Make], "float | None"]


# --- ways ---------------------------------------------------------------------------------------------------


def _timed(close: Callable[[], object]) -> float:
    began = time.perf_counter()
    close()
    return time.perf_counter() - began


def _wait_in(state: State, conn: SSEConnection) -> None:
    """Wait until `conn` is in `state`, and who iterates it waits or is at it."""
    wait_until(lambda: state.reached(conn), state.name)
    if state is not BUSY and state.consumed and conn.ready_state is not ReadyState.CLOSED:
        wait_until(lambda: conn._handoff._waiting_consumer() is not None, "a waiting consumer")


def _over(conn: SSEConnection) -> None:
    assert conn.ready_state is ReadyState.CLOSED
    assert list(conn) == []
    conn.close()  # again, to no effect


def by_a_call(state: State, make: Make) -> float:
    """Nobody iterates."""
    conn = make()
    state.get_there(conn)
    took = _timed(conn.close)
    _over(conn)
    return took


def from_another_thread(state: State, make: Make) -> float:
    """One thread iterates, another one closes."""
    conn = make()
    with ThreadPoolExecutor(1) as pool:
        consumer = pool.submit(drain, conn) if state.consumed else None
        try:
            _wait_in(state, conn)
        finally:
            took = _timed(conn.close)
        if consumer is not None:
            consumer.result(PATIENCE)
    _over(conn)
    return took


def from_a_signal_handler(state: State, make: Make) -> float:
    """The handler interrupts the thread that iterates."""
    conn = make()
    times: list[float] = []

    def interrupt() -> None:
        try:
            _wait_in(state, conn)
        finally:
            signal.pthread_kill(iterating, signal.SIGUSR1)

    iterating = threading.get_ident()
    # What measures the coverage takes a lock of its own at each call, which is not re-entrant: a handler that
    # interrupts it, and waits for a thread that waits for it, would wait for ever.
    tracer = sys.gettrace()
    sys.settrace(None)
    previous = signal.signal(signal.SIGUSR1, lambda *_: times.append(_timed(conn.close)))
    try:
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(interrupt)
            if state.consumed:
                drain(conn)
            sent.result(PATIENCE)
        wait_until(lambda: times, "the signal's handler")
    finally:
        signal.signal(signal.SIGUSR1, previous)
        sys.settrace(tracer)
    _over(conn)
    return times[0]


def from_a_task(state: State, make: Make) -> float:
    """One task iterates, another one closes, and waits for that."""

    async def main() -> float:
        consumers = [asyncio.create_task(adrain(conn))] if state.consumed else []
        await asyncio.to_thread(_wait_in, state, conn)
        began = time.perf_counter()
        closing = conn.close()
        took = time.perf_counter() - began
        await closing
        await asyncio.gather(*consumers)
        return took

    conn = make()
    took = asyncio.run(asyncio.wait_for(main(), PATIENCE))
    _over(conn)
    return took


def by_cancellation(state: State, make: Make) -> None:
    """The task whose block it is gets cancelled, which is not timed: it waits for the thread's end, too."""

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
    _over(conn)


def by_dropping_it(state: State, make: Make) -> float:
    """The last reference goes."""
    conn = make()
    state.get_there(conn)
    gone = weakref.ref(conn)
    began = time.perf_counter()
    del conn
    took = time.perf_counter() - began
    assert gone() is None
    return took


WAYS: list[Way] = [
    by_a_call, from_another_thread, from_a_signal_handler, from_a_task, by_cancellation, by_dropping_it,
]  # fmt: skip


def play(state: State, way: Way, tls: Tls, *, secure: bool) -> float | None:
    """Close a connection in `state` by `way`; return the seconds that `close()` took, if that can be timed.

    :raises AssertionError: it was not over, or something was left behind.
    """
    leftovers = Leftovers()

    def make() -> SSEConnection:
        conn = client.connect(url, timeout=None)
        state.begin(conn)
        return conn

    with SlowNames(), state.serve(tls[0] if secure else None) as url, SSEClient(verify=tls[1], policy=SLOW) as client:
        took = way(state, make)
        readers = [thread for thread in threading.enumerate() if thread.name == "sseclient_dual"]
        if state is not RESOLVING:  # which nothing can end: its thread is left alone
            for reader in readers:
                reader.join(PATIENCE)
                assert not reader.is_alive()
    assert leftovers.settle() == []
    return took


# --- many closes --------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What many closes came to."""

    seconds: list[float] = field(default_factory=list)
    """What each `close()` took."""

    @property
    def slowest(self) -> float:
        """The longest, in seconds."""
        return max(self.seconds, default=0.0)

    @property
    def p99(self) -> float:
        """What all took at the most but one in a hundred, in seconds."""
        return sorted(self.seconds)[math.ceil(0.99 * len(self.seconds)) - 1] if self.seconds else 0.0

    def __str__(self) -> str:
        return f"{len(self.seconds)} closes, slowest {1000 * self.slowest:.1f} ms, p99 {1000 * self.p99:.1f} ms"


def close_busy(api: str, count: int, tls: Tls, *, secure: bool = True) -> Iterator[float]:
    """Close a stream amid its events, and see that no event is garbage, `count` times; yield what each took."""
    with (
        SSEServer(default=stream(flood), tls=tls[0] if secure else None) as server,
        SSEClient(verify=tls[1]) as client,
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


# --- for minutes -------------------------------------------------------------------------------------------


class Report:
    """Runs what has a promise to keep, and notes where that is broken."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def run(self, what: str, act: Callable[[], float | None], tally: Tally) -> bool:
        """Have `act` add its seconds, if it has any, to `tally`; tell whether its promise was kept."""
        try:
            seconds = act()
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - all is told in the end
            self.note(f"{what}: {error!r}")
            return False
        if seconds is not None:
            tally.seconds.append(seconds)
        return True

    def note(self, wrong: str) -> None:
        """Tell of a promise that is broken."""
        self.wrong.append(wrong)
        print(f"WRONG: {wrong}", flush=True)

    def check(self, what: str, tally: Tally) -> None:
        """Tell what `tally` came to, and whether that is in bounds."""
        print(f"{what}: {tally}", flush=True)
        if tally.p99 >= BOUND:
            self.note(f"{what}: p99 is {1000 * tally.p99:.0f} ms, not below {1000 * BOUND:.0f} ms")


def main(arguments: list[str]) -> int:
    """Close, tell how it goes, and return the exit status."""
    quiet()
    closes = int(arguments[0]) if arguments else CLOSES
    begin, report = time.monotonic(), Report()
    with tempfile.TemporaryDirectory() as folder:
        tls = make_tls(Path(folder))
        cells = list(itertools.product(PLACES, WAYS))
        tally = Tally()
        for _, (place, way) in itertools.product(range(ROUNDS), cells):
            state, secure = place
            what = f"{place_name(place)}, {way.__name__}"
            report.run(what, lambda: play(state, way, tls, secure=secure), tally)
        report.check(f"{len(PLACES)} states x {len(WAYS)} ways x {ROUNDS} rounds", tally)

        exits = Tally()
        for place, api, ending in itertools.product(PLACES, ("sync", "async"), ENDINGS):
            what = f"{place_name(place)}, {api}, {ending}"
            report.run(what, lambda: end_process([place], api, ending, tls), exits)
        print(
            f"{len(PLACES)} states x 2 APIs x {len(ENDINGS)} endings: {len(exits.seconds)} processes ended, "
            f"slowest {exits.slowest:.2f} s",
            flush=True,
        )

        total = 0
        for api in ("sync", "async"):
            leftovers, before, busy = Leftovers(), Open(), Tally()
            closings = close_busy(api, closes, tls)
            while len(busy.seconds) < closes and report.run(f"busy TLS, {api}", lambda: next(closings), busy):
                pass
            next(closings, None)  # to its end
            left = leftovers.settle()
            report.check(f"busy TLS, {api}", busy)
            print(f"busy TLS, {api}: before {before}, after {Open()}", flush=True)
            if left or Open() != before:
                report.note(f"busy TLS, {api}: left behind: {left or Open()}")
            total += len(busy.seconds)
    print(
        f"in {time.monotonic() - begin:.0f} s: {ROUNDS * len(cells)} closes in all states, {len(exits.seconds)} ends "
        f"of processes, {total} closes of busy TLS streams; {len(report.wrong)} promises broken"
    )
    return bool(report.wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
