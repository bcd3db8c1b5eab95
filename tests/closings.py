"""Every way to close a connection, in every state that it may be in, plain and over TLS; and what must hold then.

`test_closing.py` plays the product of states and ways, and ends processes with a connection in each state open.
`soak_closing.py` ends a process for each single state, and closes a busy stream a thousand times. This file is also
the script of those processes.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from conftest import PATIENCE, Leftovers, wait_until
from sseclient_dual import ReadyState, ReconnectPolicy, SSEClient, SSEClosedError, SSEConnection
from sseclient_dual.testing import HANG, Gate, Reply, SSEServer, Step, raw, status, stream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    Tls = tuple[ssl.SSLContext, str]

BOUND = 0.1  # seconds that close() may take
SLOW = ReconnectPolicy(retry_delay=600_000)
_UNANSWERED = "slow.invalid"  # a name that the name server does not answer for

Make = Callable[[], SSEConnection]
Way = Callable[["State", Make], "float | None"]


# --- states -------------------------------------------------------------------------------------------------


def start(conn: SSEConnection) -> None:
    """Have the connection begin to open, without waiting for it."""
    conn._start()  # `open` with no time at all would raise what comes at once


@dataclass(frozen=True)
class State:
    """What a connection may be doing.

    :param serve: gives the URL that brings a connection into this state; afterwards nobody may be connected there.
    :param reached: whether a connection is in it.
    :param consumed: whether somebody may iterate meanwhile.
    :param begin: how a connection is sent there.
    """

    name: str
    serve: Callable[[ssl.SSLContext | None], AbstractContextManager[str]]
    reached: Callable[[SSEConnection], object]
    consumed: bool = True
    begin: Callable[[SSEConnection], object] = start

    def get_there(self, conn: SSEConnection) -> None:
        """Wait until a connection that was begun is in this state; take what comes, if that is what it is about."""
        if self is BUSY:
            while not self.reached(conn):
                next(conn)
        wait_until(lambda: self.reached(conn), self.name)


def _scripted(reply: Reply, handshake: Gate | None = None) -> Callable[..., AbstractContextManager[str]]:
    @contextmanager
    def serve(tls: ssl.SSLContext | None) -> Iterator[str]:
        with SSEServer(reply, tls=tls, handshake=handshake) as server:
            yield server.url
            server.wait_for_connections(0)  # its own sends have ended, too, though they were blocked
            assert len(server.requests) <= 1

    return serve


@contextmanager
def _name_server_silent(tls: ssl.SSLContext | None) -> Iterator[str]:
    yield f"{'https' if tls else 'http'}://{_UNANSWERED}/"


@contextmanager
def _backlog_full(tls: ssl.SSLContext | None) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as others:
        address = server.getsockname()
        while True:  # until one does not get through: no SYN is answered any more
            other = others.enter_context(socket.socket())
            other.settimeout(0.05)
            if other.connect_ex(address):
                break
        yield "{}://{}:{}/".format("https" if tls else "http", *address)


def flood() -> Iterator[Step]:
    """Yield events without end; `drain` knows them."""
    while True:
        yield "data: " + "x" * 50 + "\n\n" + "data: yy\n\n" * 200


def _connects(conn: SSEConnection) -> bool:
    exchange = conn._reader._exchange
    return exchange is not None and exchange._sock is not None


def _shakes_hands(conn: SSEConnection) -> bool:
    exchange = conn._reader._exchange
    sock = None if exchange is None else exchange._sock
    with suppress(OSError):
        return sock is not None and bool(sock.getpeername())
    return False


RESOLVING = State(
    "resolving",
    _name_server_silent,
    lambda conn: conn._reader._exchange is not None and conn._reader._exchange._resolving,
)
HANDSHAKE = State("TLS handshake", _scripted(raw(HANG), Gate()), _shakes_hands)
BUSY = State("busy", _scripted(stream(flood)), lambda conn: conn.stats.events > 1000)
STATES = [
    RESOLVING,
    State("connecting", _backlog_full, _connects),
    HANDSHAKE,
    State(
        "awaiting the head",
        _scripted(raw(HANG)),
        lambda conn: conn._reader._exchange is not None and conn._reader._exchange.sent,
    ),
    State("silent", _scripted(stream(HANG)), lambda conn: conn.ready_state is ReadyState.OPEN),
    State("half an event", _scripted(stream("data: half", HANG)), lambda conn: conn.stats.bytes),
    BUSY,
    State("queue full", _scripted(stream(flood)), lambda conn: conn.stats.queued == 1024, consumed=False),
    State("in backoff", _scripted(status(503)), lambda conn: conn._reader._reconnector.failures),
    State("closed", _scripted(stream(HANG)), lambda _: True, begin=lambda conn: conn.open().close()),
]
PLACES = [(state, secure) for state in STATES for secure in (False, True) if secure or state is not HANDSHAKE]


def place_name(place: tuple[State, bool]) -> str:
    """Return what a state is called in reports."""
    state, secure = place
    return f"{state.name}, {'tls' if secure else 'plain'}"


class SlowNames:
    """While entered, the name server does not answer for one name."""

    def __enter__(self) -> None:
        self._real, self._answered = socket.getaddrinfo, threading.Event()

        def getaddrinfo(host: str, *arguments: object, **options: object) -> object:
            if host != _UNANSWERED:
                return self._real(host, *arguments, **options)  # type: ignore[arg-type]
            self._answered.wait()
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))]

        socket.getaddrinfo = getaddrinfo  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        socket.getaddrinfo = self._real
        self._answered.set()


# --- ways ---------------------------------------------------------------------------------------------------


def drain(conn: SSEConnection) -> None:
    """Take events to the end, and see that they are what the server sent."""
    for event in conn:
        assert event.data in {"yy", "x" * 50}, event


async def adrain(conn: SSEConnection) -> None:
    """Do the same in a task, and let others have their turn."""
    taken = itertools.count(1)
    async for event in conn:
        assert event.data in {"yy", "x" * 50}, event
        if next(taken) % 100 == 0:
            await asyncio.sleep(0)


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


# --- exits --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ending:
    """How a script ends, and what shows it."""

    status: int
    last_words: str


ENDINGS = {
    "its end": _Ending(0, ""),
    "sys.exit": _Ending(3, ""),
    "exception": _Ending(1, "ValueError: oops"),
    "Ctrl-C": _Ending(-signal.SIGINT, "KeyboardInterrupt"),
}


def end_process(places: list[tuple[State, bool]], face: str, ending: str, tls: Tls) -> float:
    """Let a process end with a connection in each of `places`; return the seconds from then on.

    :raises AssertionError: it did so with another status or other words.
    """
    with ExitStack() as stack:
        urls = [stack.enter_context(state.serve(tls[0] if secure else None)) for state, secure in places]
        named = itertools.chain.from_iterable((state.name, url) for (state, _), url in zip(places, urls, strict=True))
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-X", "dev", "-W", "error", __file__, face, ending, tls[1], *named],
                cwd=Path(__file__).parent.parent,  # where the coverage is collected
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        there = process.stdout.readline()
        began = time.perf_counter()
        if there and ending == "Ctrl-C":
            process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=PATIENCE)
        took = time.perf_counter() - began
        expected = ENDINGS[ending]
        assert process.returncode == expected.status, f"{process.returncode}: {words}"
        assert words.rpartition("\n")[0].rpartition("\n")[2] == expected.last_words, words
        assert not any(word in words for word in ("Warning", "ignored", "Fatal", "never"))
    return took


def quiet() -> None:
    """Log neither that connections fail, which is asked for, nor how long a callback takes on a busy machine."""
    logging.getLogger("sseclient_dual").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def _script(face: str, ending: str, authority: str, *named: str) -> None:
    """Bring connections into the states named, each followed by its URL, and end."""
    quiet()
    SlowNames().__enter__()
    client = SSEClient(verify=authority, policy=SLOW)
    states = [next(state for state in STATES if state.name == name) for name in named[::2]]
    conns = [client.connect(url, timeout=None) for url in named[1::2]]
    for state, conn in zip(states, conns, strict=True):
        state.begin(conn)
    if face == "async":
        asyncio.run(_aend(states, conns, ending))
    else:
        _end(states, conns, ending)


def _finish(ending: str) -> None:
    if ending == "sys.exit":
        sys.exit(3)
    if ending == "exception":
        msg = "oops"
        raise ValueError(msg)


def _end(states: list[State], conns: list[SSEConnection], ending: str) -> None:
    # Ctrl-C is to interrupt the wait of the first that somebody may wait for.
    mine = next((c for s, c in zip(states, conns, strict=True) if s.consumed), None) if ending == "Ctrl-C" else None
    for state, conn in zip(states, conns, strict=True):
        if state.consumed and conn is not mine:
            threading.Thread(target=drain, args=(conn,), daemon=True).start()
    for state, conn in zip(states, conns, strict=True):
        if conn is mine:
            state.get_there(conn)
        else:
            wait_until(lambda: state.reached(conn), state.name)
    print("there", flush=True)
    if mine is not None:
        drain(mine)
    if ending == "Ctrl-C":
        threading.Event().wait()
    _finish(ending)


async def _aend(states: list[State], conns: list[SSEConnection], ending: str) -> None:
    tasks = [asyncio.create_task(adrain(conn)) for state, conn in zip(states, conns, strict=True) if state.consumed]
    for state, conn in zip(states, conns, strict=True):
        await asyncio.to_thread(wait_until, lambda: state.reached(conn), state.name)
    print("there", flush=True)
    if ending == "Ctrl-C":
        await asyncio.Event().wait()
    _finish(ending)
    del tasks


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


def close_busy(face: str, count: int, tls: Tls, *, secure: bool = True) -> Iterator[float]:
    """Close a stream amid its events, and see that no event is garbage, `count` times; yield what each took."""
    with (
        SSEServer(default=stream(flood), tls=tls[0] if secure else None) as server,
        SSEClient(verify=tls[1]) as client,
    ):
        for _ in range(count):
            conn = client.connect(server.url)
            yield asyncio.run(_aclose_one(conn)) if face == "async" else _close_one(conn)
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


if __name__ == "__main__":
    _script(*sys.argv[1:])
