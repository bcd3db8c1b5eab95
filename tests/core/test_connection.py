"""`SSEConnection` in both faces: iterating, receiving, opening, signals, and what there is to know of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import (
    Comment,
    Interrupted,
    Opened,
    ReadyState,
    ReconnectPolicy,
    SSEClient,
    SSEClosedError,
    SSEConnection,
    SSEConnectionError,
    SSEEvent,
    SSEStatusError,
)
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, raw, redirect, status, stream
from support.apis import Ended
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from support.apis import Face

QUICK = ReconnectPolicy(retry_delay=10, jitter=0)
FULL = "event: tick\nid: 7\nretry: 5\ndata: {\ndata: }\n\n"


# -- the ways in


def test_the_first_event_asked_for_opens_the_connection(face: Face) -> None:
    with SSEServer(stream("data: x\n\n", HANG)) as server, face.client() as client:
        conn = client.connect(server.url)
        assert face.next(conn).data == "x"
        face.close(conn)


def test_recv_opens_the_connection(face: Face) -> None:
    with SSEServer(stream("data: x\n\n", HANG)) as server, face.client() as client:
        conn = client.connect(server.url)
        assert face.recv(conn).data == "x"
        face.close(conn)


def test_opening_returns_the_connection_once_the_head_is_there(face: Face) -> None:
    with SSEServer(stream(HANG)) as server, face.client() as client:
        conn = client.connect(server.url)
        assert face.open(conn) is conn
        assert (conn.ready_state, conn.status) == (ReadyState.OPEN, 200)
        assert face.open(conn) is conn  # again, to no effect
        assert len(server.requests) == 1
        face.close(conn)


def test_a_for_loop_without_anything_else() -> None:
    with SSEServer(stream("data: 1\n\ndata: 2\n\n")) as server:
        seen = [event["data"] for event in SSEClient(policy=QUICK).connect(server.url)]
        assert seen == ["1", "2"]


def test_an_async_for_loop_without_anything_else() -> None:
    async def main(url: str) -> list[str]:
        return [event["data"] async for event in SSEClient(policy=QUICK).connect(url)]

    with SSEServer(stream("data: 1\n\ndata: 2\n\n")) as server:
        assert asyncio.run(main(server.url)) == ["1", "2"]


def test_awaiting_connects_and_close_can_be_awaited() -> None:
    async def main(url: str) -> None:
        async with SSEClient() as client:
            conn = await client.connect(url)
            assert conn.ready_state is ReadyState.OPEN
            async for event in conn:
                assert event.data == "x"
                break
            await conn.close()
            await conn.close()

    with SSEServer(stream("data: x\n\n", HANG)) as server:
        asyncio.run(main(server.url))


def test_opening_waits_for_as_many_attempts_as_it_takes(face: Face) -> None:
    with SSEServer(status(503), raw(CUT), stream(HANG)) as server, face.client(policy=QUICK) as client:
        with face.connect(client, server.url) as conn:
            assert conn.stats.reconnects == 2


def test_open_with_a_timeout_goes_on_trying() -> None:
    gate = Gate()
    with SSEServer(stream(gate, "data: x\n\n", HANG, head_with_body=True)) as server, SSEClient() as client:
        conn = client.connect(server.url)
        with pytest.raises(TimeoutError, match=r"0\.1 s"):
            conn.open(timeout=0.1)
        gate.open()
        assert conn.open(timeout=PATIENCE) is conn
        assert len(server.requests) == 1
        conn.close()


def test_an_await_that_is_cancelled_can_be_awaited_again() -> None:
    async def main(url: str) -> None:
        async with SSEClient() as client:
            conn = client.connect(url)

            async def opened() -> SSEConnection:
                return await conn

            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(opened(), 0.1)
            gate.open()
            assert (await conn).status == 200

    gate = Gate()
    with SSEServer(stream(gate, "data: x\n\n", HANG, head_with_body=True)) as server:
        asyncio.run(main(server.url))


def test_an_error_while_opening_is_raised_once(face: Face) -> None:
    with SSEServer(status(404)) as server, face.client() as client:
        conn = client.connect(server.url)
        with pytest.raises(SSEStatusError):
            face.open(conn)
        assert conn.ready_state is ReadyState.CLOSED
        with pytest.raises(SSEClosedError):
            face.open(conn)
        assert face.rest(conn) == []


def test_an_error_while_opening_by_iteration_is_raised_once(face: Face) -> None:
    with SSEServer(status(404)) as server, face.client() as client:
        conn = client.connect(server.url)
        with pytest.raises(SSEStatusError):
            face.next(conn)
        assert face.rest(conn) == []
        with pytest.raises(SSEClosedError):
            face.recv(conn)


# -- events


def test_an_event_has_everything(face: Face) -> None:
    with (
        SSEServer(redirect("/there"), stream(FULL, "data\n\n", HANG)) as server,
        face.client() as client,
        face.connect(client, server.url) as conn,
    ):
        first, second = face.take(conn, 2)
        assert dict(first) == {"data": "{\n}", "event": "tick", "id": "7", "retry": 5}
        assert (first.type, first.last_event_id, first.origin) == ("tick", "7", server.origin)
        assert first.json() == {}
        assert dict(second) == {"data": "", "event": None, "id": None, "retry": None}
        assert (second.type, second.last_event_id) == ("message", "7")
        assert conn.reconnection_time == 100  # what the server asked for was less than the least


def test_recv_with_a_timeout_loses_nothing(face: Face) -> None:
    gate = Gate()
    with (
        SSEServer(stream(": ping\n\n", gate, "data: x\n\n", HANG)) as server,
        face.client() as client,
        face.connect(client, server.url) as conn,
    ):
        for timeout in (0, 0.05):
            with pytest.raises(TimeoutError, match="nothing is lost"):
                face.recv(conn, timeout)
        gate.open()
        assert face.recv(conn, PATIENCE).data == "x"


@pytest.mark.parametrize(("timeout", "kind"), [("5", TypeError), (True, TypeError), (-1, ValueError)])
def test_a_timeout_is_checked(face: Face, timeout: float, kind: type[Exception]) -> None:
    with SSEServer() as server, face.client() as client:
        conn = client.connect(server.url)
        with pytest.raises(kind, match="timeout"):
            face.recv(conn, timeout)
        with pytest.raises(kind, match="timeout"):
            conn.open(timeout)
        assert server.requests == []


def test_cancelling_a_wait_loses_nothing() -> None:
    count = 300

    async def main(url: str) -> list[str]:
        seen: list[str] = []
        async with SSEClient() as client, client.connect(url, reconnect=False) as conn:
            for attempt in itertools.count():
                if len(seen) == count:
                    break
                task = asyncio.create_task(conn.arecv())
                for _ in range(1 + attempt % 6):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    seen.append((await task).data)
        return seen

    events = [f"data: {number}\n\n" for number in range(count)]
    with SSEServer(stream(*events)) as server:
        assert asyncio.run(main(server.url)) == [str(number) for number in range(count)]


def test_wait_for_around_anext_loses_nothing() -> None:
    count = 200

    async def main(url: str) -> list[str]:
        seen: list[str] = []
        async with SSEClient() as client, client.connect(url, reconnect=False) as conn:
            while len(seen) < count:
                with contextlib.suppress(asyncio.TimeoutError):
                    seen.append((await asyncio.wait_for(anext(conn), 0.001)).data)
        return seen

    events = [f"data: {number}\n\n" for number in range(count)]
    with SSEServer(stream(*events, HANG)) as server:
        assert asyncio.run(main(server.url)) == [str(number) for number in range(count)]


def test_a_second_consumer_is_told_so_and_the_first_goes_on(face: Face) -> None:
    gate = Gate()
    with SSEServer(stream(gate, "data: x\n\n", HANG)) as server, SSEClient() as client:
        conn = client.connect(server.url).open()
        received: list[SSEEvent] = []
        first = threading.Thread(target=lambda: received.append(conn.recv()))
        first.start()
        wait_until(lambda: conn._handoff._waiting_consumer() is not None, "the first consumer's wait")
        for _ in range(2):
            with pytest.raises(RuntimeError, match="another consumer"):
                face.next(conn)
        gate.open()
        first.join(PATIENCE)
        assert [event.data for event in received] == ["x"]
        conn.close()


def test_a_second_task_is_told_so() -> None:
    async def main(url: str) -> None:
        async with SSEClient() as client, client.connect(url) as conn:
            first = asyncio.create_task(conn.arecv())
            await asyncio.sleep(0.01)
            with pytest.raises(RuntimeError, match="another consumer"):
                await anext(conn)
            gate.open()
            assert (await first).data == "x"

    gate = Gate()
    with SSEServer(stream(gate, "data: x\n\n", HANG)) as server:
        asyncio.run(main(server.url))


def test_both_faces_take_turns_on_one_connection() -> None:
    async def take(conn: SSEConnection) -> str:
        return (await anext(conn)).data

    with SSEServer(stream(*(f"data: {number}\n\n" for number in range(4)), HANG)) as server:
        with SSEClient() as client, client.connect(server.url) as conn:
            seen = [next(conn).data, asyncio.run(take(conn)), next(conn).data, asyncio.run(take(conn))]
        assert seen == ["0", "1", "2", "3"]


# -- signals


def test_signals_tell_everything_in_order(face: Face) -> None:
    with (
        SSEServer(
            stream(": hello\n", "id: 1\ndata: a\n\n", CUT),
            status(503),
            redirect("/there"),
            stream("data: b\n\n:bye\n"),
        ) as server,
        face.client(policy=QUICK) as client,
    ):
        conn = client.connect(server.url)
        told = face.signals(conn).rest()
        assert [type(signal) for signal in told] == [
            Opened, Comment, SSEEvent, Interrupted, Interrupted, Opened, SSEEvent, Comment, Interrupted,
        ]  # fmt: skip
        opened, comment, event, cut, refused, again, _, bye, ended = told
        assert isinstance(opened, Opened)
        assert (opened.status, opened.url) == (200, server.url)
        assert opened.headers["content-type"] == "text/event-stream"
        assert (comment, bye) == (Comment(" hello"), Comment("bye"))
        assert event == SSEEvent("a", id="1")
        assert isinstance(cut, Interrupted)
        assert isinstance(cut.error, SSEConnectionError)
        assert cut.retry_in == 10
        assert isinstance(refused, Interrupted)
        assert isinstance(refused.error, SSEStatusError)
        assert isinstance(again, Opened)
        assert again.url == server.origin + "/there"
        assert ended == Interrupted(None, 10)  # and the final 204 makes none
        assert conn.status == 204


def test_an_error_that_is_raised_makes_no_signal(face: Face) -> None:
    with SSEServer(status(404)) as server, face.client() as client:
        signals = face.signals(client.connect(server.url))
        with pytest.raises(SSEStatusError):
            signals.next()
        with pytest.raises(Ended):
            signals.next()


def test_what_is_no_event_is_queued_from_the_call_of_signals_on(face: Face) -> None:
    gate = Gate()
    with (
        SSEServer(stream(": one\n", "data: a\n\n", gate, ": two\n", "data: b\n\n", ": three\n\n")) as server,
        face.client() as client,
        face.connect(client, server.url, reconnect=False) as conn,
    ):
        assert face.next(conn).data == "a"
        signals = face.signals(conn)
        gate.open()
        assert signals.take(2) == [Comment(" two"), SSEEvent("b")]
        # Iterating the connection itself goes on bringing events alone.
        assert face.rest(conn) == []
        assert conn.stats.comments == 3


def test_recv_passes_over_what_is_no_event(face: Face) -> None:
    with SSEServer(stream(": one\n", "data: a\n\n", ": two\n\ndata: b\n\n", HANG)) as server, face.client() as client:
        conn = client.connect(server.url)
        face.signals(conn)
        assert [face.recv(conn).data, face.next(conn).data] == ["a", "b"]
        face.close(conn)


def test_an_event_told_as_a_signal_is_handed_over(face: Face) -> None:
    with SSEServer(stream("id: 5\ndata: a\n\n", HANG)) as server, face.client() as client:
        conn = client.connect(server.url)
        face.signals(conn).take(2)
        assert conn.last_event_id == "5"
        face.close(conn)


def test_comments_count_against_the_queue(face: Face) -> None:
    with SSEServer(stream(": x\n" * 100, HANG)) as server, face.client() as client:
        conn = client.connect(server.url, queue_size=10)
        signals = face.signals(conn)
        assert isinstance(signals.next(), Opened)
        wait_until(lambda: conn.stats.queued >= 9, "a full queue")
        assert len(signals.take(100)) == 100
        face.close(conn)


# -- what there is to know


def test_the_state_is_that_of_the_network_side(face: Face) -> None:
    with SSEServer(stream("data: x\n\n"), stream("data: y\n\n")) as server:
        with face.client(policy=ReconnectPolicy(retry_delay=1, max_retry_delay=1)) as client:
            conn = client.connect(server.url)
            assert conn.ready_state is ReadyState.CONNECTING
            assert face.next(conn).data == "x"
            wait_until(lambda: conn.ready_state is ReadyState.CLOSED, "the 204")
            assert face.next(conn).data == "y"  # it ran ahead of the consumer
            assert face.rest(conn) == []


def test_stats_are_a_snapshot(face: Face) -> None:
    body = ": c\nid: 1\ndata: a\n\nid: 2\ndata: b\n\n"
    with (
        SSEServer(stream(body, CUT), stream(body, HANG)) as server,
        face.client(policy=QUICK) as client,
        face.connect(client, server.url) as conn,
    ):
        wait_until(lambda: conn.stats.duplicates == 2, "the replay")
        stats = conn.stats
        assert (stats.events, stats.comments, stats.reconnects, stats.queued) == (2, 2, 1, 2)
        assert stats.bytes == 2 * len(body)
        face.next(conn)
        assert stats.queued == 2
        assert conn.stats.queued == 1
        with pytest.raises(AttributeError):
            stats.events = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    "name",
    ["url", "ready_state", "last_event_id", "reconnection_time", "status", "headers", "response_url", "stats"],
)
def test_what_there_is_to_know_is_read_only(name: str) -> None:
    with SSEClient() as client, pytest.raises(AttributeError):
        setattr(client.connect("http://127.0.0.1:9/"), name, None)


def test_repr_names_origin_and_state() -> None:
    with SSEClient() as client:
        conn = client.connect("http://user:pw@127.0.0.1:9/path?token=1")
        assert repr(conn) == "<SSEConnection to http://127.0.0.1:9, CONNECTING>"


# -- flow


def test_a_full_queue_stops_the_reading_and_loses_nothing(face: Face) -> None:
    count = 200_000
    sent = 0

    def numbers() -> object:
        nonlocal sent
        for start in range(0, count, 100):
            sent = start
            yield "".join(f"data: {number} {'x' * 100}\n\n" for number in range(start, start + 100))

    with (
        SSEServer(stream(numbers)) as server,  # type: ignore[arg-type]
        face.client() as client,
        face.connect(client, server.url, queue_size=50, reconnect=False) as conn,
    ):
        wait_until(lambda: conn.stats.queued == 50, "a full queue")
        before = -1
        while before != sent:  # until TCP has stopped the server, too
            before = sent
            time.sleep(0.3)
        assert sent < count - 100
        assert conn.stats.queued == 50
        for number, event in enumerate(face.rest(conn)):
            assert event.data.startswith(f"{number} ")
        assert number == count - 1


def test_the_queue_is_bounded_in_data_and_one_event_always_fits(face: Face) -> None:
    mebibyte = 1024 * 1024
    sizes = [3, 3, 3, 20, 1, 1]
    events = [f"data: {'x' * (size * mebibyte)}\n\n" for size in sizes]
    with (
        SSEServer(stream(*events, HANG)) as server,
        face.client() as client,
        face.connect(client, server.url) as conn,
    ):
        wait_until(lambda: conn.stats.queued == 2, "a full queue")
        time.sleep(0.2)  # a third one would come now
        assert conn.stats.queued == 2
        assert [len(event.data) // mebibyte for event in face.take(conn, len(sizes))] == sizes


def test_what_is_not_data_counts_against_the_bound_of_data(face: Face) -> None:
    mebibyte = "x" * 1024 * 1024
    with SSEServer(stream(*[f": {mebibyte * 3}\n"] * 5, HANG)) as server, face.client() as client:
        conn = client.connect(server.url)
        signals = face.signals(conn)
        assert isinstance(signals.next(), Opened)
        wait_until(lambda: conn.stats.queued == 2, "a full queue")
        assert conn.stats.bytes < 12 * 1024 * 1024
        assert len(signals.take(5)) == 5
        face.close(conn)


def test_a_queue_of_one(face: Face) -> None:
    with (
        SSEServer(stream("".join(f"data: {number}\n\n" for number in range(500)))) as server,
        face.client() as client,
        face.connect(client, server.url, queue_size=1, reconnect=False) as conn,
    ):
        assert [event.data for event in face.rest(conn)] == [str(number) for number in range(500)]


# -- asyncio


def test_waiting_takes_no_executor_thread() -> None:
    async def main(url: str) -> None:
        async with SSEClient() as client:
            connections = [client.connect(url) for _ in range(50)]
            tasks = [asyncio.create_task(conn.arecv()) for conn in connections]
            await asyncio.to_thread(server.wait_for_requests, 50)
            names = {thread.name for thread in threading.enumerate()}
            assert len([name for name in names if name.startswith("asyncio_")]) <= 1  # of the line above
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


def test_one_wake_up_brings_all_that_has_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert wake_ups <= 3  # the end, and the thread's


def test_tasks_of_two_loops_in_two_threads() -> None:
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
