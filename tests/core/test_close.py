"""Closing a connection or a client: by a call, from a signal handler, by leaving a loop or a block."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
import threading
import weakref
from contextlib import aclosing, closing, nullcontext
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from sseclient_dual import ReadyState, SSEClient, SSEClosedError, SSEEvent
from sseclient_dual.reader import Reader
from sseclient_dual.testing import HANG, Gate, SSEServer, raw, status, stream
from sseclient_dual.transport import Exchange, exchange
from stress.states import flood, start
from support.apis import Ended
from support.failures import OopsError
from support.leaks import streams
from support.waiting import LONG, PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.apis import Api
    from support.tls import Tls

pytestmark = pytest.mark.usefixtures("both_versions")


def test_no_request_is_sent_if_name_resolution_ends_after_the_close(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    asked, answered = threading.Event(), threading.Event()

    def getaddrinfo(*arguments: Any) -> object:
        asked.set()
        answered.wait(PATIENCE)
        return real(*arguments)

    with SSEServer(stream("data: x\n\n")) as server, SSEClient() as client:
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        conn = client.connect(server.url)
        start(conn)
        asked.wait(PATIENCE)
        conn.close()
        answered.set()
        wait_until(lambda: not streams(), "the thread's end")
        assert server.requests == []


def test_close_from_a_signal_handler_while_events_arrive() -> None:
    for _ in range(30):
        with SSEServer(stream(flood)) as server, SSEClient() as client:
            conn = client.connect(server.url).open()
            # The coverage tracer takes a lock at each call, and the lock is not re-entrant. A handler that interrupts
            # the tracer, and waits for a thread that waits for this lock, would cause a deadlock.
            tracer = sys.gettrace()
            sys.settrace(None)
            previous = signal.signal(signal.SIGALRM, lambda *_, conn=conn: conn.close())
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.01)
                assert all(len(event.data) in {2, 50} for event in conn)
            finally:
                sys.settrace(tracer)
                signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize("inside", ["open", "close", "restart"])
def test_a_signal_handler_may_close_during_a_call(monkeypatch: pytest.MonkeyPatch, inside: str) -> None:
    # The signal arrives while the locks are held.
    owner, name = (Reader, "start") if inside == "open" else (Exchange, "abort")
    interrupted = getattr(owner, name)

    def signalled(self: object, *args: object) -> object:
        monkeypatch.setattr(owner, name, interrupted)
        signal.raise_signal(signal.SIGUSR1)
        return interrupted(self, *args)

    previous = signal.signal(signal.SIGUSR1, lambda *_: conn.close())
    try:
        with SSEServer(stream(HANG)) as server, SSEClient() as client:
            conn = client.connect(server.url)
            if inside != "open":
                conn.open()
            monkeypatch.setattr(owner, name, signalled)
            with pytest.raises(SSEClosedError) if inside == "open" else nullcontext():
                getattr(conn, inside)()
            assert getattr(owner, name) is interrupted
            assert list(conn) == []
            server.wait_for_connections(0)
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_close_discards_queued_events(api: Api) -> None:
    with SSEServer(stream("data: 1\n\ndata: 2\n\n", HANG)) as server, api.client() as client:
        conn = client.connect(server.url)
        assert api.next(conn).data == "1"
        api.close(conn)
        with pytest.raises(Ended):
            api.next(conn)
        with pytest.raises(SSEClosedError):
            api.recv(conn)
        with pytest.raises(SSEClosedError):
            api.open(conn)


def test_close_discards_an_error_that_was_not_raised_yet(api: Api) -> None:
    with SSEServer(status(404), handshake=(gate := Gate())) as server, api.client() as client:
        conn = client.connect(server.url)
        start(conn)
        gate.open()
        wait_until(lambda: conn.ready_state is ReadyState.CLOSED, "the 404")
        api.close(conn)
        assert api.rest(conn) == []


def test_an_unopened_connection_can_be_closed(api: Api) -> None:
    with SSEServer() as server, api.client() as client:
        conn = client.connect(server.url)
        api.close(conn)
        api.close(conn)
        assert conn.ready_state is ReadyState.CLOSED
        assert api.rest(conn) == []
        with pytest.raises(SSEClosedError):
            api.open(conn)
        assert server.requests == []


def test_close_wakes_a_consumer_that_waits_for_the_opening(api: Api) -> None:
    with SSEServer(raw(HANG)) as server, api.client() as client:
        conn = client.connect(server.url)
        threading.Thread(target=lambda: (server.wait_for_requests(1), conn.close())).start()
        with pytest.raises(SSEClosedError):
            api.open(conn)


def test_closing_and_aclosing() -> None:
    with SSEServer(default=stream("data: x\n\n", HANG)) as server, SSEClient() as client:
        with closing(client.connect(server.url)) as conn:
            assert next(conn).data == "x"
        assert conn.ready_state is ReadyState.CLOSED

        async def main() -> None:
            async with aclosing(client.connect(server.url)) as conn:
                assert (await anext(conn)).data == "x"
            assert conn.ready_state is ReadyState.CLOSED

        asyncio.run(main())
        server.wait_for_connections(0)


# -- leaving in the middle of a stream


def leave_by_break(api: Api, client: SSEClient, url: str) -> None:
    with api.connect(client, url) as conn:
        for _ in range(2):
            api.next(conn)
            break


def leave_by_exception(api: Api, client: SSEClient, url: str) -> None:
    with pytest.raises(OopsError), api.connect(client, url) as conn:
        api.next(conn)
        raise OopsError


def leave_by_return(api: Api, client: SSEClient, url: str) -> SSEEvent:
    with api.connect(client, url) as conn:
        return api.next(conn)


def leave_by_dropping(api: Api, client: SSEClient, url: str) -> None:
    api.next(client.connect(url))


def leave_by_del(api: Api, client: SSEClient, url: str) -> None:
    conn = client.connect(url)
    api.next(conn)
    del conn


def leave_by_garbage_collection(api: Api, client: SSEClient, url: str) -> None:
    conn = client.connect(url)
    api.next(conn)
    cycle: list[object] = [conn]
    cycle.append(cycle)
    reference = weakref.ref(conn)
    del conn, cycle
    gc.collect()
    assert reference() is None


LEAVING = [
    leave_by_break, leave_by_exception, leave_by_return, leave_by_dropping, leave_by_del, leave_by_garbage_collection,
]  # fmt: skip


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_leaving_mid_stream_closes_the_connection_and_ends_the_thread(
    api: Api, leave: Callable[[Api, SSEClient, str], object], tls: Tls, *, secure: bool
) -> None:
    with (
        SSEServer(stream("data: 1\n\ndata: 2\n\n", HANG), tls=tls[0] if secure else None) as server,
        api.client(urllib3.PoolManager(ca_certs=tls[1])) as client,
    ):
        leave(api, client, server.url)
        server.wait_for_connections(0)
        wait_until(lambda: not streams(), "the thread's end")
        assert len(server.requests) == 1


def test_iteration_can_continue_after_a_break(api: Api) -> None:
    with (
        SSEServer(stream(*(f"data: {number}\n\n" for number in range(4)))) as server,
        api.client() as client,
        api.connect(client, server.url, reconnect=False) as conn,
    ):
        assert api.next(conn).data == "0"
        assert api.next(conn).data == "1"
        assert [event.data for event in api.rest(conn)] == ["2", "3"]


def test_breaking_out_of_an_async_loop_closes_the_connection() -> None:
    async def main(url: str) -> None:
        async with SSEClient() as client:
            async for event in client.connect(url):
                assert event.data == "1"
                break
            gc.collect()
            await asyncio.to_thread(server.wait_for_connections, 0)

    with SSEServer(stream("data: 1\n\ndata: 2\n\n", HANG)) as server:
        asyncio.run(main(server.url))


def test_the_client_closes_its_connections(api: Api) -> None:
    with SSEServer(default=stream("data: x\n\n", HANG)) as server:
        with api.client() as client:
            connections = [client.connect(server.url) for _ in range(3)]
            for conn in connections:
                api.next(conn)
        assert all(conn.ready_state is ReadyState.CLOSED for conn in connections)
        server.wait_for_connections(0)
        with pytest.raises(SSEClosedError, match="client is closed"):
            client.connect(server.url)


def test_aclose_of_a_client() -> None:
    async def main(url: str) -> None:
        client = SSEClient()
        conn = await client.connect(url)
        await client.aclose()
        assert conn.ready_state is ReadyState.CLOSED

    with SSEServer(stream(HANG)) as server:
        asyncio.run(main(server.url))


# -- before and during opening


def test_cancelling_the_entry_of_a_block_closes_the_connection() -> None:
    async def main(url: str) -> None:
        async with SSEClient() as client:
            conn = client.connect(url)

            async def enter() -> None:
                async with conn:
                    pass

            task = asyncio.create_task(enter())
            await asyncio.to_thread(server.wait_for_requests, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert conn.ready_state is ReadyState.CLOSED
            await asyncio.to_thread(server.wait_for_connections, 0)

    with SSEServer(raw(HANG)) as server:
        asyncio.run(main(server.url))


def test_closing_while_the_body_of_an_error_response_is_read(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_BODY_TIMEOUT", LONG)
    with SSEServer(stream("<html>", HANG, content_type="text/html")) as server, api.client() as client:
        conn = client.connect(server.url)
        start(conn)
        server.wait_for_requests(1)
        api.close(conn)
        assert api.rest(conn) == []
