"""Flow control: bounded queues, and fairness to other tasks."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

from sseclient_dual import Opened, SSEClient
from sseclient_dual.testing import HANG, Gate, SSEServer, stream
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    import pytest

    from support.apis import Api


# -- bounded queues


def test_a_full_queue_pauses_reading_and_loses_no_events(api: Api) -> None:
    count = 200_000
    sent = 0

    def numbers() -> object:
        nonlocal sent
        for start in range(0, count, 100):
            sent = start
            yield "".join(f"data: {number} {'x' * 100}\n\n" for number in range(start, start + 100))

    with (
        SSEServer(stream(numbers)) as server,  # type: ignore[arg-type]
        api.client() as client,
        api.connect(client, server.url, queue_size=50, reconnect=False) as conn,
    ):
        wait_until(lambda: conn.stats.queued == 50, "a full queue")
        before = -1
        while before != sent:  # until TCP flow control has stopped the server, too
            before = sent
            time.sleep(0.3)
        assert sent < count - 100
        assert conn.stats.queued == 50
        for number, event in enumerate(api.rest(conn)):
            assert event.data.startswith(f"{number} ")
        assert number == count - 1


def test_the_queue_is_bounded_in_bytes_and_one_event_always_fits(api: Api) -> None:
    mebibyte = 1024 * 1024
    sizes = [3, 3, 3, 20, 1, 1]
    events = [f"data: {'x' * (size * mebibyte)}\n\n" for size in sizes]
    with (
        SSEServer(stream(*events, HANG)) as server,
        api.client() as client,
        api.connect(client, server.url) as conn,
    ):
        wait_until(lambda: conn.stats.queued == 2, "a full queue")
        time.sleep(0.2)  # long enough for a third event to arrive
        assert conn.stats.queued == 2
        assert [len(event.data) // mebibyte for event in api.take(conn, len(sizes))] == sizes


def test_comments_count_towards_the_bound_in_bytes(api: Api) -> None:
    mebibyte = "x" * 1024 * 1024
    with SSEServer(stream(*[f": {mebibyte * 3}\n"] * 5, HANG)) as server, api.client() as client:
        conn = client.connect(server.url)
        signals = api.signals(conn)
        assert isinstance(signals.next(), Opened)
        wait_until(lambda: conn.stats.queued == 2, "a full queue")
        assert conn.stats.bytes < 12 * 1024 * 1024
        assert len(signals.take(5)) == 5
        api.close(conn)


def test_a_queue_size_of_one(api: Api) -> None:
    with (
        SSEServer(stream("".join(f"data: {number}\n\n" for number in range(500)))) as server,
        api.client() as client,
        api.connect(client, server.url, queue_size=1, reconnect=False) as conn,
    ):
        assert [event.data for event in api.rest(conn)] == [str(number) for number in range(500)]


# -- asyncio


def test_waiting_uses_no_executor_thread() -> None:
    async def main(url: str) -> None:
        async with SSEClient() as client:
            connections = [client.connect(url) for _ in range(50)]
            tasks = [asyncio.create_task(conn.arecv()) for conn in connections]
            await asyncio.to_thread(server.wait_for_requests, 50)
            names = {thread.name for thread in threading.enumerate()}
            assert len([name for name in names if name.startswith("asyncio_")]) <= 1  # for the line above
            assert await asyncio.wait_for(asyncio.to_thread(lambda: 5), PATIENCE) == 5
            gate.open()
            assert [event.data for event in await asyncio.gather(*tasks)] == ["x"] * 50

    gate = Gate()
    with SSEServer(default=stream(gate, "data: x\n\n", HANG)) as server:
        asyncio.run(main(server.url))


def test_a_busy_stream_does_not_starve_other_tasks() -> None:
    async def main(url: str) -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticker = asyncio.create_task(tick())
        async with SSEClient() as client, client.connect(url, reconnect=False) as conn:
            await asyncio.to_thread(wait_until, lambda: conn.stats.queued == 1024)
            ticks = 0
            async for _ in conn:
                pass
        ticker.cancel()
        return ticks

    with SSEServer(stream("data: x\n\n" * 50_000)) as server:
        assert asyncio.run(main(server.url)) >= 20


def test_one_wake_up_delivers_all_queued_events(monkeypatch: pytest.MonkeyPatch) -> None:
    wake_ups = 0

    async def main(url: str) -> None:
        nonlocal wake_ups
        loop = asyncio.get_running_loop()
        real = loop.call_soon_threadsafe

        def counted(*arguments: Any, **options: Any) -> asyncio.Handle:
            nonlocal wake_ups
            wake_ups += 1
            return real(*arguments, **options)

        async with SSEClient() as client, client.connect(url, reconnect=False) as conn:
            await asyncio.to_thread(wait_until, lambda: conn.stats.queued == 1000)
            monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
            assert len([event async for event in conn]) == 1000

    with SSEServer(stream("data: x\n\n" * 1000, framing="close")) as server:
        asyncio.run(main(server.url))
        assert wake_ups <= 3  # for the end of the stream and the end of the thread


def test_one_client_serves_two_loops_in_two_threads() -> None:
    def consume(url: str, seen: list[str]) -> None:
        async def main() -> None:
            async with client.connect(url, reconnect=False) as conn:
                seen.extend([event.data async for event in conn])

        asyncio.run(main())

    seen: list[list[str]] = [[], []]
    with SSEServer(default=stream("data: x\n\n" * 500)) as server, SSEClient() as client:
        threads = [threading.Thread(target=consume, args=(server.url, each)) for each in seen]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert [len(each) for each in seen] == [500, 500]
