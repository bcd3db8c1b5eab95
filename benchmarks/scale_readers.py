"""The task of a worker in the part `scale`: open many streams in one process, and note when each event arrives.

The server numbers the events of each stream and stamps them with the time; see `scale_server`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import clients
import proc
from measure import quantile

if TYPE_CHECKING:
    from collections.abc import Callable

_AT_ONCE = 1000  # connections to open at the same time: more would overflow the server's backlog
_IN_TIME = 10**9  # nanoseconds
_FIRST = 0  # the number of the event that comes with the response head


class Arrivals:
    """The delays of all events, in the order of their arrival, over several windows of a known number of events.

    Reading threads share it: each operation on its lists is atomic.
    """

    def __init__(self, totals: list[int], answer: Callable[..., None]) -> None:
        self._totals = totals
        self._ends = set(accumulate(totals))
        self.answer = answer
        self._delays: list[float] = []  # nanoseconds
        self._repeated: list[int] = []  # the positions in `_delays` at which an event arrived again or too late
        self.errors: list[str] = []

    def add(self, data: str, expected: int) -> int:
        """Note an event, and return the number to expect next in its stream."""
        number, created = map(int, data.split())
        if number == _FIRST:
            return number + 1
        if number < expected:
            self._repeated.append(len(self._delays))
            return expected
        self._delays.append(time.monotonic_ns() - created)
        if len(self._delays) in self._ends:
            self.answer(received=len(self._delays))
        return number + 1

    def windows(self) -> list[dict[str, float]]:
        """Return the results of each window that has begun; delays are in milliseconds."""
        result = []
        for begin, end in pairwise(accumulate(self._totals, initial=0)):
            delays = self._delays[begin:end]
            if delays:
                result.append(
                    {
                        "p50": quantile(delays, 0.5) / 1e6,
                        "p99": quantile(delays, 0.99) / 1e6,
                        "late": sum(delay > _IN_TIME for delay in delays),
                        "lost": end - begin - len(delays),
                        "repeated": sum(begin <= position < end for position in self._repeated),
                    }
                )
        return result


def scale(client: str, url: str, streams: int, totals: list[int], answer: Callable[..., None]) -> dict[str, Any]:
    """Open the streams, answer with the cost; answer again at the end of each window; return when all streams end."""
    arrivals = Arrivals(totals, answer)
    work = _read_async if clients.is_async(client) else _read_sync
    ended = work(client, url, streams, arrivals)
    return {"windows": arrivals.windows(), "errors": arrivals.errors, "ended": ended}


class _Opening:
    """Measures the opening of the streams."""

    def __init__(self) -> None:
        self._before = proc.memory()
        self._begin = time.perf_counter()

    def done(self) -> dict[str, Any]:
        """Return the duration, and the memory in KiB: before, and at the peak."""
        seconds = time.perf_counter() - self._begin
        return {"seconds": seconds, "before": self._before._asdict(), "peak": proc.peak_rss() * 1024}


def _read_sync(client: str, url: str, streams: int, arrivals: Arrivals) -> float:
    opened = threading.Semaphore(0)

    def read(url: str) -> None:
        expected = _FIRST
        try:
            with stream(url) as events:
                for event in events:
                    expected = arrivals.add(event.data, expected)
                    if expected == _FIRST + 1:
                        opened.release()
        except Exception as error:  # noqa: BLE001 - it is a result
            arrivals.errors.append(repr(error))
            opened.release()

    with clients.make(client)(None) as stream:
        read(f"{url}/warm-up")
        opened.acquire()
        opening = _Opening()
        readers: list[threading.Thread] = []
        for batch in _batches(streams):
            for _ in range(batch):
                readers.append(threading.Thread(target=read, args=(f"{url}/",)))
                readers[-1].start()
            for _ in range(batch):
                opened.acquire()
        arrivals.answer(**opening.done())
        for reader in readers:
            reader.join()
        return time.monotonic()


def _read_async(client: str, url: str, streams: int, arrivals: Arrivals) -> float:
    return asyncio.run(_read_in_loop(client, url, streams, arrivals))


async def _read_in_loop(client: str, url: str, streams: int, arrivals: Arrivals) -> float:
    opened = asyncio.Semaphore(0)

    async def read(url: str) -> None:
        expected = _FIRST
        try:
            async with stream(url) as events:
                async for event in events:
                    expected = arrivals.add(event.data, expected)
                    if expected == _FIRST + 1:
                        opened.release()
        except Exception as error:  # noqa: BLE001 - it is a result
            arrivals.errors.append(repr(error))
            opened.release()

    async with clients.make(client)(None) as stream:
        await read(f"{url}/warm-up")
        await opened.acquire()
        opening = _Opening()
        readers: list[asyncio.Task[None]] = []
        for batch in _batches(streams):
            readers += [asyncio.create_task(read(f"{url}/")) for _ in range(batch)]
            for _ in range(batch):
                await opened.acquire()
        arrivals.answer(**opening.done())
        await asyncio.gather(*readers)
        return time.monotonic()


def _batches(streams: int) -> list[int]:
    whole, rest = divmod(streams, _AT_ONCE)
    return [_AT_ONCE] * whole + [rest] * bool(rest)
