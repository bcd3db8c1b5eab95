"""The tasks of a worker: one function for each measurement, run in the process of the measured client.

The loop is the same for all clients, and reads the data of each event, as a program would.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import clients
import parsers
import payloads
import proc

if TYPE_CHECKING:
    from collections.abc import Callable

Result = dict[str, Any]


def consume(client: str, url: str, ca: str | None = None) -> Result:
    """Read a stream to its end. The time starts with the request."""
    if clients.is_async(client):
        return asyncio.run(_consume_async(client, url, ca))
    with clients.make(client)(ca) as stream:
        cpu, begin = time.process_time(), time.perf_counter()
        with stream(url) as events:
            count, chars = _count_bytes(events) if client in clients.BYTES else _count(events)
        return _spent(count, chars, cpu, begin)


async def _consume_async(client: str, url: str, ca: str | None) -> Result:
    async with clients.make(client)(ca) as stream:
        cpu, begin = time.process_time(), time.perf_counter()
        async with stream(url) as events:
            count, chars = await (_count_dicts(events) if client in clients.DICT_EVENTS else _count_async(events))
        return _spent(count, chars, cpu, begin)


def _spent(count: int, chars: int, cpu: float, begin: float) -> Result:
    seconds = time.perf_counter() - begin
    return {"count": count, "chars": chars, "seconds": seconds, "cpu": time.process_time() - cpu}


def _count(events: Any) -> tuple[int, int]:  # noqa: ANN401 - each client has its own class, here and below
    count = chars = 0
    try:
        for event in events:
            count += 1
            chars += len(event.data)
    except clients.Ended:
        pass
    return count, chars


async def _count_async(events: Any) -> tuple[int, int]:  # noqa: ANN401
    count = chars = 0
    try:
        async for event in events:
            count += 1
            chars += len(event.data)
    except clients.Ended:
        pass
    return count, chars


async def _count_dicts(events: Any) -> tuple[int, int]:  # noqa: ANN401
    count = chars = 0
    async for event in events:
        count += 1
        chars += len(event["data"])
    return count, chars


def _count_bytes(pieces: Any) -> tuple[int, int]:  # noqa: ANN401
    return 0, sum(map(len, pieces))


def parse(parser: str, payload: str, cut: str, count: int) -> Result:
    """Parse a stream from memory, in pieces of 64 KiB or of one event."""
    pieces, chars = payloads.events(payload, count)
    if parser in parsers.IN_NODE:
        return {**parsers.in_node(parser, pieces, cut), "expected": [count, chars]}
    if cut == "64k":
        pieces = payloads.cut(pieces, payloads.BLOCK)
    cpu, begin = time.process_time(), time.perf_counter()
    got = parsers.PARSERS[parser](pieces)
    return {**_spent(*got, cpu, begin), "expected": [count, chars]}


def latency(client: str, url: str) -> Result:
    """Return the nanoseconds from the server's time stamp to the consumer, for each event."""
    now = time.monotonic_ns
    if clients.is_async(client) or client == clients.TO_LOOP:
        return {"ns": asyncio.run(_latency_async(client, url))}
    taken = []
    with clients.make(client)(None) as stream, stream(url) as events:
        if client == clients.BARE_LOOP or client in clients.HANDED_OVER:
            for piece in events:
                taken.append(now() - int(piece.split(b":")[1]))  # noqa: PERF401 - the clock is read per item
        else:
            for event in events:
                taken.append(now() - int(event.data))  # noqa: PERF401
    return {"ns": taken}


async def _latency_async(client: str, url: str) -> list[int]:
    now = time.monotonic_ns
    taken = []
    async with clients.make(client)(None) as stream, stream(url) as events:
        if client in clients.HANDED_OVER:
            async for piece in events:
                taken.append(now() - int(piece.split(b":")[1]))  # noqa: PERF401
        else:
            async for event in events:
                taken.append(now() - int(event.data))  # noqa: PERF401
    return taken


def many_streams(client: str, url: str, streams: int, seconds: int) -> Result:
    """Read many streams at once, one event per second each; return the cost for this process."""
    threads = [0]

    def sample() -> None:
        threads[0] = proc.threads()

    work = _many_async if clients.is_async(client) else _many_sync
    before, cpu, begin = 0.0, 0.0, 0.0

    def started() -> None:
        nonlocal before, cpu, begin
        before, cpu, begin = proc.rss(), time.process_time(), time.perf_counter()

    urls = [f"{url}?count={seconds}&delay={1 + number / streams:.4f}" for number in range(streams)]
    counts, errors = work(client, urls, seconds // 2, started, sample)
    return {
        "cpu": time.process_time() - cpu,
        "seconds": time.perf_counter() - begin,
        "rss": proc.peak_rss(),
        "growth": proc.peak_rss() - before,
        "threads": threads[0],
        "lost": streams * seconds - sum(counts),
        "errors": errors[:3],
    }


def _many_sync(
    client: str, urls: list[str], middle: int, started: Callable[[], None], sample: Callable[[], None]
) -> tuple[list[int], list[str]]:
    counts = [0] * len(urls)
    errors: list[str] = []

    def read(number: int) -> None:
        try:
            with stream(urls[number]) as events:
                for _ in events:
                    counts[number] += 1
                    if number == 0 and counts[0] == middle:
                        sample()
        except Exception as error:  # noqa: BLE001 - it is a result
            errors.append(repr(error))

    with clients.make(client)(None) as stream:
        started()
        readers = [threading.Thread(target=read, args=(number,)) for number in range(len(urls))]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    return counts, errors


def _many_async(
    client: str, urls: list[str], middle: int, started: Callable[[], None], sample: Callable[[], None]
) -> tuple[list[int], list[str]]:
    counts = [0] * len(urls)
    errors: list[str] = []

    async def read(stream: Any, number: int) -> None:  # noqa: ANN401
        try:
            async with stream(urls[number]) as events:
                async for event in events:
                    counts[number] += bool(event.data)
                    if number == 0 and counts[0] == middle:
                        sample()
        except Exception as error:  # noqa: BLE001 - it is a result
            errors.append(repr(error))

    async def main() -> None:
        async with clients.make(client)(None) as stream:
            started()
            await asyncio.gather(*(read(stream, number) for number in range(len(urls))))

    asyncio.run(main())
    return counts, errors


def hold(client: str, url: str, streams: int, ready: Callable[[], None]) -> None:
    """Open many silent streams, wait for an event on each, call `ready`, and stay so until killed."""
    if clients.is_async(client):
        asyncio.run(_hold_async(client, url, streams, ready))
        return
    opened = threading.Semaphore(0)

    def wait() -> None:
        with stream(url) as events:
            opened.release()
            next(iter(events))

    with clients.make(client)(None) as stream:
        for _ in range(streams):
            threading.Thread(target=wait, daemon=True).start()
        for _ in range(streams):
            opened.acquire()
        ready()
        threading.Event().wait()


async def _hold_async(client: str, url: str, streams: int, ready: Callable[[], None]) -> None:
    opened = asyncio.Semaphore(0)

    async def wait() -> None:
        async with stream(url) as events:
            opened.release()
            await anext(aiter(events))

    async with clients.make(client)(None) as stream:
        waiting = [asyncio.create_task(wait()) for _ in range(streams)]
        for _ in range(streams):
            await opened.acquire()
        ready()
        await asyncio.gather(*waiting)


def large(client: str, url: str) -> Result:
    """Read one large event; return the growth of the peak memory, too."""
    consume(client, f"{url.partition('?')[0]}?mib=0&shape=line")  # leave out the memory of imports
    before = proc.rss()
    return {**consume(client, url), "growth": proc.peak_rss() - before}


def close(api: str, state: str, url: str, times: int) -> Result:
    """Close connections in a certain state; return the seconds of each call."""
    logging.getLogger("sseclient_dual").setLevel(logging.CRITICAL)  # expected here: warnings of the backoff
    if api == "async":
        return {"seconds": [asyncio.run(_close_async(state, url)) for _ in range(times)]}
    return {"seconds": [_close_sync(state, url) for _ in range(times)]}


def _close_sync(state: str, url: str) -> float:
    from sseclient_dual import Interrupted, SSEClient  # noqa: PLC0415 - workers of other clients do not need it

    with SSEClient() as client:
        conn = client.connect(url)
        if state == "backing off":
            next(signal for signal in conn.signals() if isinstance(signal, Interrupted))
        elif state == "busy":
            for _ in range(5000):
                next(conn)
        else:
            conn.open()
        time.sleep(0.02)  # let the thread reach its wait
        begin = time.perf_counter()
        conn.close()
        return time.perf_counter() - begin


async def _close_async(state: str, url: str) -> float:
    from sseclient_dual import Interrupted, SSEClient  # noqa: PLC0415

    async with SSEClient() as client:
        conn = client.connect(url)
        if state == "backing off":
            async for signal in conn.signals():
                if isinstance(signal, Interrupted):
                    break
        elif state == "busy":
            for _ in range(5000):
                await anext(conn)
        else:
            await conn
        await asyncio.sleep(0.02)
        begin = time.perf_counter()
        await conn.close()
        return time.perf_counter() - begin
