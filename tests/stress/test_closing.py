"""Closing: from anywhere, in every state, at once, leaving nothing behind, and for good."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import weakref
from contextlib import aclosing, closing, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from sseclient_dual import (
    Interrupted,
    ReadyState,
    ReconnectPolicy,
    SSEClient,
    SSEClosedError,
    SSEConnectionError,
    SSEEvent,
    SSEStatusError,
)
from sseclient_dual.policy import Outcome
from sseclient_dual.reader import Reader
from sseclient_dual.testing import CUT, HANG, Gate, Reply, SSEServer, raw, status, stream
from sseclient_dual.transport import Exchange
from stress.closings import BOUND, WAYS, Tally, close_busy, play
from stress.endings import ENDINGS, end_process
from stress.states import PLACES, flood, place_name, start
from support.apis import Ended, drive
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from sseclient_dual import SSEConnection
    from stress.closings import Way
    from stress.states import State, Tls
    from support.apis import Face


@pytest.mark.parametrize(("state", "secure"), PLACES, ids=map(place_name, PLACES))
@pytest.mark.parametrize("way", WAYS, ids=[way.__name__.replace("_", " ") for way in WAYS])
def test_close_in_every_state_by_every_way(
    state: State,
    way: Way,
    tls: Tls,
    caplog: pytest.LogCaptureFixture,
    *,
    secure: bool,
) -> None:
    # What waits for something does so each time; a machine that has other things to do does not.
    assert any((play(state, way, tls, secure=secure) or 0) < BOUND for _ in range(3))
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("face_name", ["sync", "async"])
def test_a_process_ends_at_once_with_connections_in_every_state(face_name: str, ending: str, tls: Tls) -> None:
    assert end_process(PLACES, face_name, ending, tls) < PATIENCE / 2


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("face_name", ["sync", "async"])
def test_many_closes_of_a_busy_stream_hand_over_no_garbage(face_name: str, tls: Tls, *, secure: bool) -> None:
    seconds = list(close_busy(face_name, 50, tls, secure=secure))
    assert sum(took >= BOUND for took in seconds) <= 2, Tally(seconds)  # when the machine had other things to do


async def closed(closing: Awaitable[None]) -> None:
    await closing


def test_a_name_resolution_that_ends_after_the_close_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
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
        wait_until(lambda: not any(t.name == "sseclient_dual" for t in threading.enumerate()), "the thread's end")
        assert server.requests == []


def test_close_from_a_signal_handler_while_events_pour_in() -> None:
    for _ in range(30):
        with SSEServer(stream(flood)) as server, SSEClient() as client:
            conn = client.connect(server.url).open()
            # What measures the coverage takes a lock of its own at each call, which is not re-entrant: a handler that
            # interrupts it, and waits for a thread that waits for it, would wait for ever.
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
def test_a_signal_handler_may_close_what_it_interrupts(monkeypatch: pytest.MonkeyPatch, inside: str) -> None:
    # It comes just while the locks are held.
    owner, name = (Reader, "start") if inside == "open" else (Exchange, "abort")
    interrupted = getattr(owner, name)

    def signalled(self: object) -> object:
        monkeypatch.setattr(owner, name, interrupted)
        signal.raise_signal(signal.SIGUSR1)
        return interrupted(self)

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


def test_what_is_queued_is_thrown_away(face: Face) -> None:
    with SSEServer(stream("data: 1\n\ndata: 2\n\n", HANG)) as server, face.client() as client:
        conn = client.connect(server.url)
        assert face.next(conn).data == "1"
        face.close(conn)
        with pytest.raises(Ended):
            face.next(conn)
        with pytest.raises(SSEClosedError):
            face.recv(conn)
        with pytest.raises(SSEClosedError):
            face.open(conn)


def test_an_error_that_nobody_took_is_gone_after_the_close(face: Face) -> None:
    with SSEServer(status(404), handshake=(gate := Gate())) as server, face.client() as client:
        conn = client.connect(server.url)
        start(conn)
        gate.open()
        wait_until(lambda: conn.ready_state is ReadyState.CLOSED, "the 404")
        face.close(conn)
        assert face.rest(conn) == []


def test_a_connection_never_opened_can_be_closed(face: Face) -> None:
    with SSEServer() as server, face.client() as client:
        conn = client.connect(server.url)
        face.close(conn)
        face.close(conn)
        assert conn.ready_state is ReadyState.CLOSED
        assert face.rest(conn) == []
        with pytest.raises(SSEClosedError):
            face.open(conn)
        assert server.requests == []


def test_a_consumer_that_waits_to_open_is_woken(face: Face) -> None:
    with SSEServer(raw(HANG)) as server, face.client() as client:
        conn = client.connect(server.url)
        threading.Thread(target=lambda: (server.wait_for_requests(1), conn.close())).start()
        with pytest.raises(SSEClosedError):
            face.open(conn)


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


# -- leaving in the middle


class _OopsError(Exception):
    pass


def leave_by_break(face: Face, client: SSEClient, url: str) -> None:
    with face.connect(client, url) as conn:
        for _ in range(2):
            face.next(conn)
            break


def leave_by_exception(face: Face, client: SSEClient, url: str) -> None:
    with pytest.raises(_OopsError), face.connect(client, url) as conn:
        face.next(conn)
        raise _OopsError


def leave_by_return(face: Face, client: SSEClient, url: str) -> SSEEvent:
    with face.connect(client, url) as conn:
        return face.next(conn)


def leave_by_dropping(face: Face, client: SSEClient, url: str) -> None:
    face.next(client.connect(url))


def leave_by_del(face: Face, client: SSEClient, url: str) -> None:
    conn = client.connect(url)
    face.next(conn)
    del conn


def leave_by_garbage_collection(face: Face, client: SSEClient, url: str) -> None:
    conn = client.connect(url)
    face.next(conn)
    cycle: list[object] = [conn]
    cycle.append(cycle)
    gone = weakref.ref(conn)
    del conn, cycle
    gc.collect()
    assert gone() is None


LEAVING = [
    leave_by_break, leave_by_exception, leave_by_return, leave_by_dropping, leave_by_del, leave_by_garbage_collection,
]  # fmt: skip


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_leaving_in_the_middle_of_a_stream_leaves_nothing(
    face: Face, leave: Callable[[Face, SSEClient, str], object], tls: Tls, *, secure: bool
) -> None:
    with (
        SSEServer(stream("data: 1\n\ndata: 2\n\n", HANG), tls=tls[0] if secure else None) as server,
        face.client(urllib3.PoolManager(ca_certs=tls[1])) as client,
    ):
        leave(face, client, server.url)
        server.wait_for_connections(0)
        wait_until(lambda: not any(t.name == "sseclient_dual" for t in threading.enumerate()), "the thread's end")
        assert len(server.requests) == 1


def test_breaking_out_and_iterating_again_continues(face: Face) -> None:
    with (
        SSEServer(stream(*(f"data: {number}\n\n" for number in range(4)))) as server,
        face.client() as client,
        face.connect(client, server.url, reconnect=False) as conn,
    ):
        assert face.next(conn).data == "0"
        assert face.next(conn).data == "1"
        assert [event.data for event in face.rest(conn)] == ["2", "3"]


def test_an_async_loop_left_by_break_leaves_nothing() -> None:
    async def main(url: str) -> None:
        async with SSEClient() as client:
            async for event in client.connect(url):
                assert event.data == "1"
                break
            gc.collect()
            await asyncio.to_thread(server.wait_for_connections, 0)

    with SSEServer(stream("data: 1\n\ndata: 2\n\n", HANG)) as server:
        asyncio.run(main(server.url))


def test_the_client_closes_its_connections(face: Face) -> None:
    with SSEServer(default=stream("data: x\n\n", HANG)) as server:
        with face.client() as client:
            connections = [client.connect(server.url) for _ in range(3)]
            for conn in connections:
                face.next(conn)
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


# -- processes


@pytest.mark.parametrize("wait", ["next(conn)", "asyncio.run(consume(conn))", "conn.restart(); next(conn)"])
def test_ctrl_c_is_prompt(wait: str) -> None:
    script = """
        import asyncio, sys
        from sseclient_dual import SSEClient

        async def consume(conn):
            async for event in conn:
                pass

        conn = SSEClient().connect(sys.argv[1])
        print(next(conn).data, flush=True)
        try:
            WAIT
        except KeyboardInterrupt:
            print("interrupted")
    """
    with SSEServer(stream("data: x\n\n", HANG), stream(HANG)) as server, subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(script).replace("WAIT", wait), server.url],
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "x\n"
        time.sleep(0.2)  # let it come to its wait; earlier would be as good
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "interrupted\n"
        assert process.wait(PATIENCE) == 0


def test_an_event_loop_that_was_closed_with_a_stream_open_is_tolerated() -> None:
    with SSEServer(stream("data: 1\n\n", gate := Gate(), "data: 2\n\n", HANG)) as server, SSEClient() as client:
        conn = client.connect(server.url)
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(asyncio.wait_for(anext(conn), PATIENCE)).data == "1"
        waiting = loop.create_task(conn.arecv())
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()  # with the task still waiting, as a program does that ends in a hurry
        gate.open()
        wait_until(lambda: conn.stats.queued, "the second event")
        assert next(conn).data == "2"
        waiting.get_coro().close()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(waiting, "_log_destroy_pending", False)
            del waiting


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("face_name", ["sync", "async"])
@pytest.mark.parametrize("ending", ["exit", "collect", "close"])
def test_a_forked_child_gets_an_error_and_disturbs_nothing(face_name: str, ending: str) -> None:
    gate = Gate()
    with SSEServer(stream("data: 1\n\ndata: 2\n\n", gate, "data: 3\n\n", HANG)) as server, SSEClient() as client:
        conn = client.connect(server.url)
        assert next(conn).data == "1"
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with drive(face_name) as face:
                    for use in (face.next, face.recv, face.open):
                        try:
                            use(conn)
                        except RuntimeError as error:
                            assert "fork" in str(error)  # noqa: PT017 - in a forked child
                        else:
                            os._exit(2)
                    with pytest.raises(RuntimeError, match="fork"):
                        conn.restart()
                if ending == "close":
                    conn.close()
                elif ending == "collect":
                    del conn
                    gc.collect()
                code = 0
            finally:
                if ending == "exit":
                    import atexit  # noqa: PLC0415

                    atexit._run_exitfuncs()
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        gate.open()
        assert [next(conn).data for _ in range(2)] == ["2", "3"]
        assert len(server.requests) == 1
        conn.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_can_connect_with_the_parents_client() -> None:
    with SSEServer(default=stream("data: 1\n\n")) as server, SSEClient() as client:
        with client.connect(server.url, keep_connection=True, reconnect=False) as conn:
            assert len(list(conn)) == 1
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with client.connect(server.url, keep_connection=True, reconnect=False) as conn:
                    code = 0 if [event.data for event in conn] == ["1"] else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with client.connect(server.url, keep_connection=True, reconnect=False) as conn:
            assert len(list(conn)) == 1
        # The parent's second connection was its first, kept; the child made one of its own.
        assert [request.connection for request in server.requests] in ([0, 1, 0], [1, 2, 1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_connection_opened_in_a_child_does_not_take_the_parents_socket() -> None:
    with SSEServer(default=stream("data: 1\n\n")) as server, SSEClient() as client:
        with client.connect(server.url, keep_connection=True, reconnect=False) as conn:
            assert len(list(conn)) == 1
        unopened = client.connect(server.url, keep_connection=True, reconnect=False)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if [event.data for event in unopened] == ["1"] else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        first, second = server.requests
        assert first.connection != second.connection
        unopened.close()


def test_a_block_that_is_not_entered_leaves_nothing() -> None:
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


def test_a_thread_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_thread: threading.Thread) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    with SSEServer() as server, SSEClient() as client:
        conn = client.connect(server.url)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            with pytest.raises(RuntimeError, match="new thread"):
                conn.open()
        asyncio.run(asyncio.wait_for(closed(conn.close()), PATIENCE))


def test_closing_while_reading_a_refusal(face: Face) -> None:
    with SSEServer(stream("<html>", HANG, content_type="text/html")) as server, face.client() as client:
        conn = client.connect(server.url)
        start(conn)
        server.wait_for_requests(1)
        began = time.perf_counter()
        face.close(conn)
        assert time.perf_counter() - began < PATIENCE / 5
        assert face.rest(conn) == []


def test_an_unforeseen_error_of_the_thread_reaches_the_consumer(face: Face) -> None:
    def headers() -> dict[str, str]:
        raise _OopsError

    with SSEServer() as server, face.client() as client:
        conn = client.connect(server.url, headers=headers)
        with pytest.raises(_OopsError):
            face.open(conn)
        assert face.rest(conn) == []


@pytest.mark.parametrize("mistakable", [StopIteration, StopAsyncIteration, SSEClosedError, TimeoutError])
def test_what_a_callable_raises_is_taken_neither_for_the_end_nor_for_a_wait_in_vain(
    face: Face, mistakable: type[Exception]
) -> None:
    def headers() -> dict[str, str]:
        if server.requests:
            raise mistakable
        return {}

    def relayed(conn: SSEConnection) -> bytes:
        with face.relay(conn) as pieces:
            return next(pieces)

    policy = ReconnectPolicy(retry_delay=1)
    for receive in (face.next, partial(face.recv, timeout=PATIENCE), relayed):
        with SSEServer(stream("data: x\n\n")) as server, face.client(policy=policy) as client:
            conn = client.connect(server.url, headers=headers)
            assert face.next(conn).data == "x"
            with pytest.raises(RuntimeError, match=f"the headers raised {mistakable.__name__}") as caught:
                receive(conn)
            assert type(caught.value.__cause__) is mistakable


# -- memory


@pytest.fixture
def without_gc() -> Iterator[None]:
    """Freed by reference counting alone, or not at all."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_gc")
@pytest.mark.parametrize("reply", [status(404), stream("data: x\n\n", HANG)], ids=["refused", "open"])
def test_a_dropped_connection_is_freed_without_garbage_collection(reply: Reply) -> None:
    def use(client: SSEClient, url: str) -> tuple[weakref.ref[object], weakref.ref[object]]:
        conn = client.connect(url)
        try:
            next(conn)
        except SSEStatusError as error:
            inner = error.__context__, traceback.format_exception(error)
            assert inner[0] is None
            assert not [line for line in inner[1] if "handoff.py" in line]
        return weakref.ref(conn), weakref.ref(conn._reader)

    with SSEServer(reply) as server, SSEClient() as client:
        conn, reader = use(client, server.url)
        # The thread may be on its way out, with the error in its hands, and the error leads to this test's frames.
        wait_until(lambda: conn() is None and reader() is None, "the reader's end")


@pytest.mark.usefixtures("without_gc")
def test_a_signal_that_is_kept_keeps_nothing_else() -> None:
    with SSEServer(stream("data: " + "x" * 100_000, CUT), stream(HANG)) as server, SSEClient() as client:
        conn = client.connect(server.url)
        _, interrupted = itertools.islice(conn.signals(), 2)
        assert isinstance(interrupted, Interrupted)
        reader = weakref.ref(conn._reader)
        del conn
        wait_until(lambda: reader() is None, "the reader's end")
        assert isinstance(interrupted.error, SSEConnectionError)
        assert isinstance(interrupted.error.__cause__, urllib3.exceptions.ProtocolError)


def test_a_kept_tcp_connection_does_not_outlive_its_client() -> None:
    def use(url: str) -> None:
        client = SSEClient()
        with client.connect(url, "POST", data=b"x" * 1000, keep_connection=True) as conn:
            assert len(list(conn)) == 1

    with SSEServer(default=stream("data: x\n\n")) as server:
        use(server.url)
        gc.collect()
        server.wait_for_connections(0)


def test_an_attempt_that_is_not_wanted_any_more_is_not_made() -> None:
    with SSEServer() as server, SSEClient() as client:
        conn = client.connect(server.url)
        conn.close()
        assert conn._reader._attempt() == Outcome(sent=False)  # as of a thread that comes late
        assert server.requests == []
