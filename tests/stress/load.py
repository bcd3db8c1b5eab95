"""Load tests, on Linux only: short ones in `test_load.py`, five minutes in `make soak ARGS=load`.

`Flood` is a slow consumer of a fast server. `Churn` opens, uses and closes many connections repeatedly. Each runs in
its constructor; `str` returns the results, and `failures` lists the failed checks.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from servers.load_app import FEW, FEW_SIZE, allow_descriptors, numbered
from sseclient_dual import SSEClient
from support.leaks import Open
from support.processes import HOST, Process, free_port, python
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sseclient_dual import SSEEvent

ApiName = Literal["sync", "async"]

MIB = 1024 * 1024
QUEUE = 1024  # maximum events in a queue
QUEUED_DATA = 8 * MIB  # maximum characters in a queue
GROWTH = 8 * MIB  # memory that allocators may keep, independent of the amount of data
# Characters of an event: small events reach the event limit of a queue, large ones the character limit.
SIZES = {"small": 500, "large": 64 * 1024}
PORTION = 32 * 1024  # characters that a slow consumer reads between two pauses
CONSUMER_PAUSE = 0.01  # seconds
SECONDS = 110  # for each API
CONNECTIONS = 1000
ROUNDS = 10
INTERVAL = 10.0  # seconds between two progress lines


@contextmanager
def server() -> Iterator[str]:
    """Run the server as a process, and yield its URL."""
    port = free_port()
    with Process(python("servers.load_app", str(port)), port):
        yield f"http://{HOST}:{port}"


class Memory:
    """The memory use of this process over time.

    :param growth: the number of bytes by which it may grow in the second half of the time.
    """

    def __init__(self, growth: int = GROWTH) -> None:
        self._growth = growth
        self._samples: list[float] = []  # MiB

    def sample(self) -> None:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        self._samples.append(pages * os.sysconf("SC_PAGE_SIZE") / MIB)

    @property
    def failures(self) -> list[str]:
        # In the first half, memory settles: how many threads start at a time is a matter of chance.
        settled = max(self._samples[: (len(self._samples) + 1) // 2])
        grown = self._samples[-1] - settled
        return [f"memory use grew by {grown:.1f} MiB"] if grown > self._growth / MIB else []

    def __str__(self) -> str:
        if not self._samples:
            return "RSS not measured yet"
        *_, end = start, *_ = samples = self._samples
        middle = samples[len(samples) // 2]
        return f"RSS {start:.1f} MiB at the start, {middle:.1f} in the middle, {end:.1f} at the end"


class Tally:
    """Counts the events of a stream: sent, received, lost, duplicated, garbled."""

    def __init__(self) -> None:
        self.sent = self.received = self.lost = self.duplicated = self.garbled = 0
        self._last = 0

    def count(self, event: SSEEvent, size: int) -> None:
        number = int(event.id or 0)
        self.received += 1
        self.lost += max(0, number - self._last - 1)
        self.duplicated += number <= self._last
        self.garbled += event != numbered(number, size)
        self._last = number

    def end(self, sent: int) -> None:
        """Count the events that are missing after `sent` events; another stream may follow, numbered from 1."""
        self.sent += sent
        self.lost += sent - self._last
        self._last = 0

    @property
    def failures(self) -> list[str]:
        counts = {"lost": self.lost, "duplicated": self.duplicated, "garbled": self.garbled}
        failures = [f"{count} events {kind}" for kind, count in counts.items() if count]
        return failures if self.sent else [*failures, "no events were counted"]

    def __str__(self) -> str:
        return f"sent {self.sent}, received {self.received}, lost {self.lost}, duplicated {self.duplicated}"


# -- a server faster than its consumer


class _Stream:
    """A stream of the flood, and a slow consumer for each API."""

    def __init__(self, url: str, client: SSEClient, size: int) -> None:
        self.tally = Tally()
        self.conn = client.connect(f"{url}/flood", params={"size": size}, queue_size=QUEUE)
        self.max_queued = 0
        self.room = min(QUEUE, QUEUED_DATA // size)
        self._size = size
        self._portion = 0

    def consume(self, full_speed: threading.Event) -> None:
        for event in self.conn:
            if event.type == "end":
                return self.tally.end(int(event.data))
            if self._pauses_after(event) and not full_speed.is_set():
                time.sleep(CONSUMER_PAUSE)
        return None

    async def aconsume(self, full_speed: threading.Event) -> None:
        async for event in self.conn:
            if event.type == "end":
                return self.tally.end(int(event.data))
            if self._pauses_after(event) and not full_speed.is_set():
                await asyncio.sleep(CONSUMER_PAUSE)
        return None

    def _pauses_after(self, event: SSEEvent) -> bool:
        self.tally.count(event, self._size)
        self._portion = (self._portion + self._size) % PORTION
        return self._portion < self._size

    def record_queued(self) -> bool:
        """Record the number of queued events; return True if the queue is more than a quarter full.

        At the character limit, the client resumes reading only after the consumer uses up its batch, which may be
        most of the queue.
        """
        queued = self.conn.stats.queued
        self.max_queued = max(self.max_queued, queued)
        return queued > self.room // 4

    @property
    def failures(self) -> list[str]:
        if self.room // 4 < self.max_queued <= self.room:
            return self.tally.failures
        return [*self.tally.failures, f"at most {self.max_queued} events were queued; the capacity is {self.room}"]


class Flood:
    """A stream of small events and one of large events: read slowly for `seconds`, then at full speed to the end.

    :param report: is called with progress lines.
    """

    def __init__(self, api: ApiName, seconds: float, report: Callable[[str], None]) -> None:
        self._api = api
        self._memory = Memory()
        full_speed = threading.Event()
        with ThreadPoolExecutor() as pool, server() as url, SSEClient() as client:
            self._streams = {name: _Stream(url, client, size) for name, size in SIZES.items()}
            streams = self._streams.values()

            async def aconsume() -> None:
                await asyncio.gather(*(stream.aconsume(full_speed) for stream in streams))

            if api == "sync":
                consuming = [pool.submit(stream.consume, full_speed) for stream in streams]
            else:
                consuming = [pool.submit(lambda: asyncio.run(aconsume()))]
            for stream in streams:
                wait_until(stream.record_queued, "a full queue")
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                self._sample()
                report(f"flood, {api}, {left:.0f} s left: {self._memory}")
                time.sleep(min(left, 0.5))
            self._sample()
            full_speed.set()
            list(client.connect(f"{url}/stop"))
            for each in consuming:
                each.result(PATIENCE)

    def _sample(self) -> None:
        self._memory.sample()
        for stream in self._streams.values():
            stream.record_queued()

    @property
    def failures(self) -> list[str]:
        of_streams = [f"{name}: {failure}" for name, stream in self._streams.items() for failure in stream.failures]
        return of_streams + self._memory.failures

    def __str__(self) -> str:
        streams = [
            f"{name} events: {stream.tally}, at most {stream.max_queued} of {stream.room} queued"
            for name, stream in self._streams.items()
        ]
        return "; ".join([f"flood, {self._api}", *streams, str(self._memory)])


# -- many connections, opened and closed repeatedly


class Churn:
    """Opens `count` connections at a time, uses and closes them, and repeats that `rounds` times.

    :param report: is called with progress lines.
    """

    def __init__(self, api: ApiName, count: int, rounds: int, report: Callable[[str], None]) -> None:
        self._api = api
        self._count = count
        self._tally = Tally()
        self._memory = Memory()
        with server() as url:
            self._before = self._peak = self._after = Open()
            for number in range(1, rounds + 1):
                if api == "sync":
                    self._use(f"{url}/few")
                else:
                    asyncio.run(self._use_async(f"{url}/few"))
                deadline = time.monotonic() + PATIENCE
                while (now := Open()) != self._before and time.monotonic() < deadline:
                    time.sleep(0.01)
                self._after = now
                self._memory.sample()
                report(f"churn, {api}, round {number} of {rounds}: {now}, {self._memory}")
                if now != self._before:
                    break

    def _use(self, url: str) -> None:
        with SSEClient() as client:
            conns = [client.connect(url).open() for _ in range(self._count)]
            for conn in conns:
                self._note([next(conn) for _ in range(FEW)])
            self._peak = Open()

    async def _use_async(self, url: str) -> None:
        async with SSEClient() as client:
            conns = await asyncio.gather(*(client.connect(url) for _ in range(self._count)))
            for conn in conns:
                self._note([await anext(conn) for _ in range(FEW)])
            self._peak = Open()

    def _note(self, events: list[SSEEvent]) -> None:
        for event in events:
            self._tally.count(event, FEW_SIZE)
        self._tally.end(FEW)

    @property
    def failures(self) -> list[str]:
        failures = self._tally.failures + self._memory.failures
        if self._peak.streams < self._before.streams + self._count:
            failures.append(f"fewer than {self._count} connections were open at a time")
        if self._after != self._before:
            failures.append(f"{self._before} before, {self._after} afterwards")
        return failures

    def __str__(self) -> str:
        figures = f"{self._before} before, {self._peak} at the peak, {self._after} afterwards"
        return f"churn, {self._api}, {self._count} at a time; events: {self._tally}; {figures}; {self._memory}"


# -- the soak test


class Progress:
    """Prints a progress line, at most one per interval."""

    def __init__(self) -> None:
        self._next = time.monotonic()

    def __call__(self, line: str) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + INTERVAL
            print(line, flush=True)


def main() -> int:
    """Run both tests with both APIs; return 1 if a check failed."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # opening a thousand connections at once is slow
    allow_descriptors()
    apis: list[ApiName] = ["sync", "async"]
    progress = Progress()
    failures = 0
    for part in (partial(Flood, seconds=SECONDS), partial(Churn, count=CONNECTIONS, rounds=ROUNDS)):
        for api in apis:
            outcome = part(api, report=progress)
            print(f"== {outcome}", *outcome.failures, sep="\nFAILURE: ", flush=True)
            failures += len(outcome.failures)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
