"""Thousands of unsteady streams in one process: each event arrives once and in order, and nothing is left behind.

The server (`servers/unsteady_app.py`) ends most responses with a fault. The consumers, a half of them with each API,
also close and restart their streams, and slow ones pause until their queues are full. Another thread closes and
restarts streams, too. A consumer whose stream was closed consumes a new one.

`make soak ARGS='many_streams [streams] [seconds] [seed]'` uses 2,000 streams for ten minutes. The seed determines the
faults, not their timing. Linux only.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import re
import sys
import threading
import time
import weakref
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3 import Timeout

from servers.load_app import allow_descriptors
from sseclient_dual import ReadyState, ReconnectPolicy, SSEClient, SSEClosedError
from stress.load import INTERVAL, MIB, Memory
from support.leaks import Open
from support.processes import HOST, Process, free_port, python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

    from sseclient_dual import SSEConnection, SSEEvent

STREAMS = 2000
SECONDS = 600.0
LIMIT = 60.0  # seconds for the next of the streams to end, and for the threads and descriptors to be freed
_WARM_UP = 4  # the part of the time in which the memory may grow: one in so many
# RSS grows longer than what it contains: with a thousand threads, the C library splits free memory into small pieces.
_GROWTH = 96 * MIB
_BLOCKS_GROWTH = 1.2  # of the number of blocks in use, which includes no free memory
_LIFETIME = 60  # paces after which another thread has closed or restarted a stream, on average
_PACE = 1.0  # seconds between two writes to a stream
_LOOPS = 2  # event loops, each in a thread of its own
_QUEUE = 4  # events, in the queue of a slow consumer
_STACK = 256 * 1024  # bytes, of a consumer's thread
# With a small window, which is full, and so has its final size, before the memory is compared.
_POLICY = ReconnectPolicy(retry_delay=100, min_retry_delay=0, max_retry_delay=1000, dedup_window=32)
_KINDS = [
    "closes", "duplicates dropped", "events", "full queues", "reconnects", "restarts", "streams",
]  # fmt: skip
_FAULTS = [
    "the response ended", "the response was cut short", "no data arrived for ", "answered with status 503 ",
    r"the connection broke \((Connection reset by peer|Broken pipe)\)",
]  # fmt: skip
_EXPECTED_RECORD = re.compile(
    rf"http://[\d.:]+ ({'|'.join(_FAULTS)}).*; reconnecting in [\d.]+ s \(attempt \d+\)", re.DOTALL
)


@dataclass
class Tally:
    """The counters and failures of one consumer, or of all."""

    # With all keys, because one thread reads it while another counts.
    counts: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(_KINDS, 0)))
    failures: list[str] = field(default_factory=list)

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.counts + other.counts, self.failures + other.failures)

    def __str__(self) -> str:
        return ", ".join(f"{kind} {count:,}" for kind, count in sorted(self.counts.items()))


class Consumer:
    """Consumes one stream after another: a new one when the last one was closed.

    :param name: the name of its log at the server, to which a number is added for each stream.
    :param pace: the average number of seconds between two writes to a stream.
    """

    def __init__(
        self, client: SSEClient, url: str, name: str, seed: int, pace: float, full_speed: threading.Event
    ) -> None:
        self.tally = Tally()
        self.conn: SSEConnection | None = None
        self._client = client
        self._url = url
        self._name = name
        self._rng = random.Random(f"{seed}/{name}")
        self._pace = pace
        self._full_speed = full_speed
        self._slow = self._rng.random() < 0.2
        self._last = 0  # number of the last event of the current stream
        self._complete = False
        self._closed: weakref.WeakSet[SSEConnection] = weakref.WeakSet()  # on purpose

    def consume(self) -> None:
        """Consume streams, until one ends with an event of type ``end``."""
        try:
            while not self._complete:
                with self._connected() as conn, suppress(SSEClosedError), conn:
                    for event in conn:
                        if pause := self._note(event, conn):
                            time.sleep(pause)
                            self._note_pause(conn)
        except Exception as error:  # noqa: BLE001 - a failure of the test
            self._fail(repr(error))

    async def aconsume(self) -> None:
        """Consume streams as `consume`."""
        try:
            while not self._complete:
                with self._connected() as conn, suppress(SSEClosedError):
                    async with conn:
                        async for event in conn:
                            if pause := self._note(event, conn):
                                await asyncio.sleep(pause)
                                self._note_pause(conn)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(repr(error))

    @contextmanager
    def _connected(self) -> Iterator[SSEConnection]:
        self.tally.counts["streams"] += 1
        self._last = 0
        name = f"{self._name}.{self.tally.counts['streams']}"
        conn = self._client.connect(f"{self._url}/stream/{name}", queue_size=_QUEUE if self._slow else 1024)
        self.conn = conn
        yield conn
        if not self._complete and conn not in self._closed:
            self._fail(f"the stream {name} ended after event {self._last}")
        self.tally.counts["duplicates dropped"] += conn.stats.duplicates
        self.tally.counts["reconnects"] += conn.stats.reconnects

    def _note(self, event: SSEEvent, conn: SSEConnection) -> float:
        """Check an event; perhaps close or restart the connection; return the seconds to pause."""
        name = f"{self._name}.{self.tally.counts['streams']}"
        if event.type == "end":
            self._complete = True
            if int(event.data) != self._last:
                self._fail(f"the stream {name} ended after event {self._last} of {event.data}")
            conn.close()
            return 0
        self.tally.counts["events"] += 1
        if (event.id, event.data) != (str(self._last + 1), f"{name} {self._last + 1}"):
            self._fail(f"the stream {name} continued after event {self._last} with {event}")
        self._last = int(event.id or 0)
        if self._full_speed.is_set():
            return 0
        if self._rng.random() < 0.005:
            self.disturb(self._rng)
        if self._slow and self._rng.random() < 0.1:
            return self._pace * self._rng.choice([1, 2, 8])
        return 0

    def _note_pause(self, conn: SSEConnection) -> None:
        self.tally.counts["full queues"] += conn.stats.queued >= _QUEUE

    def disturb(self, rng: random.Random) -> None:
        """Close or restart the current connection; callable from any thread."""
        conn = self.conn
        if conn is None or self._full_speed.is_set():
            return
        if rng.random() < 0.5:
            self._closed.add(conn)
            conn.close()
            self.tally.counts["closes"] += 1
        else:
            with suppress(SSEClosedError):
                conn.restart()
                self.tally.counts["restarts"] += 1

    def _fail(self, failure: str) -> None:
        if len(self.tally.failures) < 3:
            self.tally.failures.append(failure)

    def give_up(self) -> None:
        """Record a failure, and close the connection, if the consumer has not ended."""
        if self._complete or self.tally.failures:
            return
        conn = self.conn
        assert conn is not None
        self._fail(f"{conn.url} has not ended: {conn.ready_state}, event {self._last}, {conn.stats}")
        self._complete = True
        conn.close()


class UnexpectedReports:
    """The log records, and the exceptions in threads, that a run must not have; a context manager."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._handler = logging.Handler(logging.WARNING)
        self._handler.emit = self._check  # type: ignore[method-assign]
        self._loggers = {name: logging.getLogger(name) for name in ("sseclient_dual", "asyncio")}
        self._propagated = {name: logger.propagate for name, logger in self._loggers.items()}
        for logger in self._loggers.values():
            logger.addHandler(self._handler)
            logger.propagate = False
        self._hooks = threading.excepthook, sys.unraisablehook
        threading.excepthook = sys.unraisablehook = self._note
        return self

    def __exit__(self, *_: object) -> None:
        threading.excepthook, sys.unraisablehook = self._hooks
        for name, logger in self._loggers.items():
            logger.removeHandler(self._handler)
            logger.propagate = self._propagated[name]

    def _check(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno > logging.WARNING or not _EXPECTED_RECORD.fullmatch(message.replace(": ", " ", 1)):
            self._add(f"{record.name} logged: {message}")

    def _note(self, report: Any) -> None:
        self._add(f"unhandled exception: {report.exc_value!r}")

    def _add(self, failure: str) -> None:
        if len(self.failures) < 5:
            self.failures.append(failure)


class ManyStreams:
    """A run, in the constructor; `str` returns the results, and `failures` lists the failed checks.

    :param streams: the number of streams at a time.
    :param pace: the average number of seconds between two writes to a stream; stalls take a multiple of it.
    :param report: is called with progress lines.
    """

    def __init__(
        self,
        streams: int,
        seconds: float,
        seed: int,
        report: Callable[[str], None],
        *,
        pace: float = _PACE,
    ) -> None:
        self._memory = Memory(_GROWTH)
        self._blocks: list[int] = []  # numbers of blocks of memory that Python's objects use
        self._full_speed = threading.Event()
        self._reports = UnexpectedReports()
        self._faults: dict[str, int] = {}
        self._most_open = 0
        self._meanwhile = self._before = Open()
        with ExitStack() as stack:
            port = free_port()
            stack.enter_context(Process(python("servers.unsteady_app", str(port), str(seed), str(pace)), port))
            stack.enter_context(self._reports)
            self._url = f"http://{HOST}:{port}"
            # A pause between two writes takes 1.5 times the pace at most.
            client = stack.enter_context(SSEClient(policy=_POLICY, timeout=Timeout(connect=LIMIT, read=4 * pace)))
            self._consumers = [
                Consumer(client, self._url, str(number), seed, pace, self._full_speed) for number in range(streams)
            ]
            threads = self._start()
            self._disturb(seconds, seed, pace, report)
            self._stop(threads)
        self._after = _settled(self._before)

    def _start(self) -> list[threading.Thread]:
        """Start the threads that consume: one for each stream of the sync API, and one for each event loop."""
        half = len(self._consumers) // 2

        async def consume_all(consumers: list[Consumer]) -> None:
            await asyncio.gather(*(consumer.aconsume() for consumer in consumers))

        work: list[Callable[[], object]] = [consumer.consume for consumer in self._consumers[:half]]
        for number in range(_LOOPS):
            group = self._consumers[half + number :: _LOOPS]
            # Not in debug mode, which slows down thousands of tasks, and reports slow callbacks.
            work.append(partial(lambda group: asyncio.run(consume_all(group), debug=False), group))
        before = threading.stack_size(_STACK)
        try:
            threads = [threading.Thread(target=each) for each in work]
            for thread in threads:
                thread.start()
        finally:
            threading.stack_size(before)
        return threads

    def _disturb(self, seconds: float, seed: int, pace: float, report: Callable[[str], None]) -> None:
        """Close and restart connections until the time is over and nothing is missing; measure the memory."""
        rng = random.Random(f"{seed}/disturb")
        begin = time.monotonic()
        due = begin
        while (now := time.monotonic()) < begin + seconds or (self._missing() and now < begin + seconds + LIMIT):
            rng.choice(self._consumers).disturb(rng)
            if now >= due:
                due = now + min(INTERVAL, seconds / 10)
                self._most_open = max(self._most_open, count := self._open_count())
                if now > begin + seconds / _WARM_UP:
                    self._sample()
                    self._meanwhile = Open()
                memory = f"{self._memory}, {sys.getallocatedblocks():,} blocks"
                report(f"{now - begin:.0f} s: {count:,} streams open, {memory}; {self.tally}")
            time.sleep(_LIFETIME * pace / len(self._consumers))
        self._sample()

    def _sample(self) -> None:
        gc.collect()
        self._blocks.append(sys.getallocatedblocks())
        self._memory.sample()

    def _open_count(self) -> int:
        conns = [consumer.conn for consumer in self._consumers]
        return sum(conn is not None and conn.ready_state is ReadyState.OPEN for conn in conns)

    def _stop(self, threads: list[threading.Thread]) -> None:
        """Let all streams end, and wait for one thread after the other, until one takes too long."""
        self._full_speed.set()
        urllib3.request("GET", f"{self._url}/stop").close()
        for thread in threads:
            thread.join(LIMIT)
            if thread.is_alive():
                break
        for consumer in self._consumers:
            consumer.give_up()
        for thread in threads:
            thread.join(LIMIT)
        self._faults = urllib3.request("GET", f"{self._url}/counts").json()

    @property
    def tally(self) -> Tally:
        """The counters and failures of all consumers."""
        return sum((consumer.tally for consumer in self._consumers), Tally())

    def _missing(self) -> list[str]:
        """Return what has not happened, which a busy machine may delay."""
        counts = self.tally.counts
        wanted = ["events", "duplicates dropped", "reconnects", "full queues", "closes", "restarts"]
        missing = [f"no {kind}" for kind in wanted if not counts[kind]]
        if self._most_open < len(self._consumers) / 2:
            missing.append(f"no more than {self._most_open} streams were open at a time")
        return missing

    @property
    def failures(self) -> list[str]:
        failures = [*self.tally.failures[:20], *self._reports.failures, *self._memory.failures, *self._missing()]
        if self._blocks[-1] > _BLOCKS_GROWTH * self._blocks[0]:
            failures.append(
                f"the number of memory blocks in use grew from {self._blocks[0]:,} to {self._blocks[-1]:,}"
            )
        if self._after != self._before:
            failures.append(f"{self._before} before, {self._after} afterwards")
        return failures

    def __str__(self) -> str:
        faults = ", ".join(f"{kind} {count:,}" for kind, count in sorted(self._faults.items()))
        figures = f"{self._before} before, {self._meanwhile} at the end of the time, {self._after} afterwards"
        most = f"at most {self._most_open:,} streams open at a time"
        blocks = ", ".join(f"{self._blocks[at]:,}" for at in (0, len(self._blocks) // 2, -1))
        return f"{self.tally}; {most}; responses: {faults}; {figures}; {self._memory}; blocks of objects {blocks}"


def _settled(before: Open) -> Open:
    """Return what is open, as soon as it is the same as `before`, or after a while."""
    deadline = time.monotonic() + LIMIT
    while (now := Open()) != before and time.monotonic() < deadline:
        time.sleep(0.05)
    return now


def main(arguments: list[str]) -> int:
    """Run it, print the progress, and return 1 if a check failed."""
    allow_descriptors()
    streams = int(arguments[0]) if arguments else STREAMS
    seconds = float(arguments[1]) if len(arguments) > 1 else SECONDS
    seed = int(arguments[2]) if len(arguments) > 2 else random.randrange(2**32)
    print(f"many_streams, {streams:,} streams for {seconds:g} s, seed {seed}", flush=True)
    outcome = ManyStreams(streams, seconds, seed, partial(print, flush=True))
    print(f"== {outcome}", *outcome.failures, sep="\nFAILURE: ", flush=True)
    if outcome.failures:
        print(f"to repeat this run: make soak ARGS='many_streams {streams} {seconds:g} {seed}'")
    return bool(outcome.failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
