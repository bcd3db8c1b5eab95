"""The task of a worker in the part `feed`: pass the events of an upstream on to many subscribers of the process.

The server numbers the events and stamps them with the time; see `scale_server`. Event 0 comes with the response head,
and does not count.
"""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import proc
from measure import quantile
from sseclient_dual import SSEClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SHARED = "share()"
RELAYED = "share(), relayed"
QUEUES = "a queue each"
CONNECTIONS = "a connection each"
LOWER_BOUND = "a future each"
IN_TASKS = (SHARED, RELAYED, QUEUES, CONNECTIONS, LOWER_BOUND)
IN_THREADS = (SHARED, RELAYED, QUEUES, CONNECTIONS)
_SAMPLE = 16  # of so many events of a subscriber, the delay of one is noted
_AT_ONCE = 500  # connections to open at the same time
_SETTLE = 1.0  # seconds


def feed(
    way: str, kind: str, url: str, subscribers: int, total: int, answer: Callable[..., None]
) -> dict[str, float]:
    """Begin to wait for events in all subscribers, answer with their memory, and return when all have all events."""
    results = _Results(total, answer)
    if kind == "threads":
        _in_threads(way, url, subscribers, results)
    else:
        asyncio.run(_in_tasks(way, url, subscribers, results))
    return results.delays()


class _Results:
    """The memory of the subscribers, and a sample of the delays of their events."""

    def __init__(self, total: int, answer: Callable[..., None]) -> None:
        self.total = total
        self._answer = answer
        self._delays: list[float] = []  # nanoseconds
        self._before = 0

    def begin(self) -> None:
        """Note the memory before the subscribers."""
        gc.collect()
        self._before = proc.memory().rss

    def ready(self, subscribers: int) -> None:
        """Answer with the memory of the subscribers."""
        gc.collect()
        self._answer(memory=(proc.memory().rss - self._before) / subscribers)

    def add(self, place: int, data: str | bytes) -> bool:
        """Note the delay of some events; return True after the last one."""
        if place % _SAMPLE == 0:
            self._delays.append(time.monotonic_ns() - int(data.split()[-1]))
        return place == self.total

    def delays(self) -> dict[str, float]:
        """Return the delays in milliseconds."""
        return {"p50": quantile(self._delays, 0.5) / 1e6, "p99": quantile(self._delays, 0.99) / 1e6}


def _places() -> Iterable[int]:
    return iter(range(1, 2**62))


# -- tasks


async def _in_tasks(way: str, url: str, subscribers: int, results: _Results) -> None:
    async with SSEClient() as client:
        async for _ in client.connect(f"{url}/warm-up", reconnect=False):
            pass
        consume, pump = await _tasks(way, client, f"{url}/", results)
        results.begin()
        opened = asyncio.Semaphore(_AT_ONCE)
        tasks = [asyncio.create_task(consume(opened)) for _ in range(subscribers)]
        await asyncio.sleep(_SETTLE)
        for _ in range(_AT_ONCE):  # until all connections are open
            await opened.acquire()
        results.ready(subscribers)
        await asyncio.gather(*tasks)
        if pump is not None:
            pump.cancel()


async def _tasks(way: str, client: SSEClient, url: str, results: _Results) -> tuple[Any, asyncio.Task[None] | None]:
    """Return the function of a subscriber and, if there is one, the task that passes the events on."""
    queues: list[asyncio.Queue[str]] = []
    futures: list[asyncio.Future[str]] = []
    is_open = asyncio.Event()

    async def fill_queues() -> None:
        async for event in client.connect(url):
            is_open.set()
            for each in queues:
                each.put_nowait(event.data)

    async def resolve_futures() -> None:
        nonlocal futures
        async for event in client.connect(url):
            is_open.set()
            woken, futures = futures, []
            for future in woken:
                future.set_result(event.data)

    async def from_queue(_: object) -> None:
        own: asyncio.Queue[str] = asyncio.Queue()
        queues.append(own)
        for place in _places():
            if results.add(place, await own.get()):
                return

    async def from_future(_: object) -> None:
        loop = asyncio.get_running_loop()
        for place in _places():
            future: asyncio.Future[str] = loop.create_future()
            futures.append(future)
            if results.add(place, await future):
                return

    async def from_connection(opened: asyncio.Semaphore) -> None:
        await opened.acquire()
        place = 0
        async for event in client.connect(url):
            if place == 0:
                opened.release()
            elif results.add(place, event.data):
                return
            place += 1

    if way == CONNECTIONS:
        return from_connection, None
    if way in {QUEUES, LOWER_BOUND}:
        pump = asyncio.create_task(fill_queues() if way == QUEUES else resolve_futures())
        await is_open.wait()
        return (from_queue if way == QUEUES else from_future), pump

    shared = client.share(url)

    async def keep_open() -> None:
        async for _ in shared.subscribe():
            is_open.set()

    async def from_subscription(_: object) -> None:
        place = 0
        async for event in shared.subscribe():
            place += 1
            if results.add(place, event.data):
                return

    async def from_relay(_: object) -> None:
        place = 0
        async for piece in shared.arelay():
            place += 1
            if results.add(place, piece):
                return

    pump = asyncio.create_task(keep_open())
    await is_open.wait()
    return (from_subscription if way == SHARED else from_relay), pump


# -- threads


def _in_threads(way: str, url: str, subscribers: int, results: _Results) -> None:
    with SSEClient() as client:
        list(client.connect(f"{url}/warm-up", reconnect=False))
        opened = threading.Semaphore(0)
        consume = _thread(way, client, f"{url}/", results, opened)
        results.begin()
        threads = [threading.Thread(target=consume) for _ in range(subscribers)]
        for thread in threads:
            thread.start()
        for _ in threads:
            opened.acquire()
        time.sleep(_SETTLE)
        results.ready(subscribers)
        for thread in threads:
            thread.join()


def _thread(
    way: str, client: SSEClient, url: str, results: _Results, opened: threading.Semaphore
) -> Callable[[], None]:
    """Return the function of a subscriber."""

    def consume(items: Iterable[Any]) -> None:
        opened.release()
        for place, item in enumerate(items, 1):
            if results.add(place, item if isinstance(item, bytes | str) else item.data):
                return

    if way == CONNECTIONS:

        def from_connection() -> None:
            events = client.connect(url)
            next(events)
            consume(events)

        return from_connection
    if way == QUEUES:
        queues: list[queue.SimpleQueue[str]] = []
        events = client.connect(url)
        next(events)

        def fill() -> None:
            for event in events:
                for each in queues:
                    each.put(event.data)

        def from_queue() -> None:
            own: queue.SimpleQueue[str] = queue.SimpleQueue()
            queues.append(own)
            consume(iter(own.get, None))

        threading.Thread(target=fill, daemon=True).start()
        return from_queue
    shared = client.share(url)
    keeper = shared.subscribe()
    next(keeper)
    _kept.append(keeper)
    if way == SHARED:
        return lambda: consume(shared.subscribe())
    return lambda: consume(shared.relay())


_kept: list[object] = []  # keeps the upstream open
