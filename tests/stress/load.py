"""Load, and what it must not cost: in short in `test_load.py`, five minutes in `make soak ARGS=load`; on Linux only.

`Flood` reads, slowly, what a server sends as fast as it can. `Churn` opens, uses and closes many connections, again
and again. Each does that when it is made; its `str` tells what it came to, and `broken` which promises were broken.
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
from support.processes import HOST, PATIENCE, Process, free_port, python
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sseclient_dual import SSEEvent

ApiName = Literal["sync", "async"]

MIB = 1024 * 1024
QUEUE = 1024  # events that a queue holds
QUEUED_DATA = 8 * MIB  # characters that it holds
GROWTH = 16 * MIB  # of memory that allocators may keep for themselves, however much has gone through them
SIZES = {"small": 500, "large": 64 * 1024}  # characters of an event: what fills a queue by number, and by weight
APPETITE = 32 * 1024  # characters that a slow consumer takes between two rests
REST = 0.01  # seconds
SECONDS = 110  # for each API
CONNECTIONS = 1000
ROUNDS = 10
EVERY = 10.0  # seconds between two lines that tell how it goes


@contextmanager
def server() -> Iterator[str]:
    """Run the server, as a process; give its URL."""
    port = free_port()
    with Process(python("servers.load_app", str(port)), port):
        yield f"http://{HOST}:{port}"


class Memory:
    """Memory of this process over time."""

    def __init__(self) -> None:
        self._samples: list[float] = []  # MiB

    def sample(self) -> None:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        self._samples.append(pages * os.sysconf("SC_PAGE_SIZE") / MIB)

    @property
    def broken(self) -> list[str]:
        grown = self._samples[-1] - self._samples[0]
        return [f"memory has grown by {grown:.1f} MiB"] if grown > GROWTH / MIB else []

    def __str__(self) -> str:
        *_, end = start, *_ = samples = self._samples
        middle = samples[len(samples) // 2]
        return f"RSS {start:.1f} MiB at the start, {middle:.1f} in the middle, {end:.1f} at the end"


class Tally:
    """What has come of the events of a stream."""

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
        """Count what is missing at the end of so many events; others may follow, from 1 on."""
        self.sent += sent
        self.lost += sent - self._last
        self._last = 0

    @property
    def broken(self) -> list[str]:
        counts = {"lost": self.lost, "duplicated": self.duplicated, "garbled": self.garbled}
        broken = [f"{count} events {what}" for what, count in counts.items() if count]
        return broken if self.sent else [*broken, "there was nothing to count"]

    def __str__(self) -> str:
        return f"sent {self.sent}, received {self.received}, lost {self.lost}, duplicated {self.duplicated}"


# -- a server that is faster than its consumer


class _Stream:
    """A stream of the flood, and the slow way to consume it in either API."""

    def __init__(self, url: str, client: SSEClient, size: int) -> None:
        self.tally = Tally()
        self.conn = client.connect(f"{url}/flood", params={"size": size}, queue_size=QUEUE)
        self.most_queued = 0
        self.room = min(QUEUE, QUEUED_DATA // size)
        self._size = size
        self._eaten = 0

    def consume(self, hurry: threading.Event) -> None:
        for event in self.conn:
            if event.type == "end":
                return self.tally.end(int(event.data))
            if self._has_enough(event) and not hurry.is_set():
                time.sleep(REST)
        return None

    async def aconsume(self, hurry: threading.Event) -> None:
        async for event in self.conn:
            if event.type == "end":
                return self.tally.end(int(event.data))
            if self._has_enough(event) and not hurry.is_set():
                await asyncio.sleep(REST)
        return None

    def _has_enough(self, event: SSEEvent) -> bool:
        self.tally.count(event, self._size)
        self._eaten = (self._eaten + self._size) % APPETITE
        return self._eaten < self._size

    def look(self) -> bool:
        """See how much is queued; tell whether the server is ahead.

        By weight, reading goes on as late as when all is used up that the consumer took at once, which may be most.
        """
        queued = self.conn.stats.queued
        self.most_queued = max(self.most_queued, queued)
        return queued > self.room // 4

    @property
    def broken(self) -> list[str]:
        if self.room // 4 < self.most_queued <= self.room:
            return self.tally.broken
        return [*self.tally.broken, f"{self.most_queued} events were queued, where {self.room} have room"]


class Flood:
    """A stream of small events and one of large ones, read slowly for so many seconds and then to their ends.

    :param say: is told how it goes.
    """

    def __init__(self, api: ApiName, seconds: float, say: Callable[[str], None]) -> None:
        self._api = api
        self._memory = Memory()
        hurry = threading.Event()
        with ThreadPoolExecutor() as pool, server() as url, SSEClient() as client:
            self._streams = {name: _Stream(url, client, size) for name, size in SIZES.items()}
            streams = self._streams.values()

            async def aconsume() -> None:
                await asyncio.gather(*(stream.aconsume(hurry) for stream in streams))

            if api == "sync":
                consuming = [pool.submit(stream.consume, hurry) for stream in streams]
            else:
                consuming = [pool.submit(lambda: asyncio.run(aconsume()))]
            for stream in streams:
                wait_until(stream.look, "a full queue", PATIENCE)
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                self._look()
                say(f"flood, {api}, {left:.0f} s to go: {self._memory}")
                time.sleep(min(left, 0.5))
            self._look()
            hurry.set()
            list(client.connect(f"{url}/stop"))
            for each in consuming:
                each.result(PATIENCE)

    def _look(self) -> None:
        self._memory.sample()
        for stream in self._streams.values():
            stream.look()

    @property
    def broken(self) -> list[str]:
        of_streams = [f"{name}: {what}" for name, stream in self._streams.items() for what in stream.broken]
        return of_streams + self._memory.broken

    def __str__(self) -> str:
        streams = [
            f"{name} events {stream.tally}, queued {stream.most_queued} of {stream.room} at the most"
            for name, stream in self._streams.items()
        ]
        return "; ".join([f"flood, {self._api}", *streams, str(self._memory)])


# -- many connections, again and again


class Churn:
    """So many connections open at a time, used and closed, so many times over.

    :param say: is told how it goes.
    """

    def __init__(self, api: ApiName, count: int, rounds: int, say: Callable[[str], None]) -> None:
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
                    asyncio.run(self._ause(f"{url}/few"))
                deadline = time.monotonic() + PATIENCE
                while (now := Open()) != self._before and time.monotonic() < deadline:
                    time.sleep(0.01)
                self._after = now
                self._memory.sample()
                say(f"churn, {api}, round {number} of {rounds}: {now}, {self._memory}")
                if now != self._before:
                    break

    def _use(self, url: str) -> None:
        with SSEClient() as client:
            conns = [client.connect(url).open() for _ in range(self._count)]
            for conn in conns:
                self._note([next(conn) for _ in range(FEW)])
            self._peak = Open()

    async def _ause(self, url: str) -> None:
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
    def broken(self) -> list[str]:
        broken = self._tally.broken + self._memory.broken
        if self._peak.threads < self._before.threads + self._count:
            broken.append(f"there were never {self._count} connections open at a time")
        if self._after != self._before:
            broken.append(f"{self._before} before, {self._after} afterwards")
        return broken

    def __str__(self) -> str:
        figures = f"{self._before} before, {self._peak} at the peak, {self._after} afterwards"
        return f"churn, {self._api}, {self._count} at a time; events {self._tally}; {figures}; {self._memory}"


# -- for minutes


class Progress:
    """Prints what it is told, if it is time for that."""

    def __init__(self) -> None:
        self._next = time.monotonic()

    def __call__(self, line: str) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY
            print(line, flush=True)


def main() -> int:
    """Play all parts by both APIs; return 1 if a promise was broken."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # a thousand connections at once are slow to open, of course
    allow_descriptors()
    apis: list[ApiName] = ["sync", "async"]
    say = Progress()
    broken = 0
    for part in (partial(Flood, seconds=SECONDS), partial(Churn, count=CONNECTIONS, rounds=ROUNDS)):
        for api in apis:
            outcome = part(api, say=say)
            print(f"== {outcome}", *outcome.broken, sep="\n!! ", flush=True)
            broken += len(outcome.broken)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
