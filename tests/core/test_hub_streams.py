"""Streams on the hub: one thread reads them, nothing that blocks delays another one, and failures are told."""

from __future__ import annotations

import _thread
import errno
import logging
import os
import ssl
import threading
from typing import TYPE_CHECKING

from sseclient_dual import Interrupted, Opened, ReadyState, SSEEvent, hub
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, stream
from sseclient_dual.transport.body import Body
from support.leaks import forget_idle_workers, idle_workers, streams, workers
from support.policies import QUICK
from support.processes import run
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    import pytest

    from sseclient_dual.hub import Routine, Wait
    from support.apis import Api
    from support.tls import Tls


def test_many_streams_need_one_thread(api: Api) -> None:
    with SSEServer(default=stream("data: x\n\n", HANG)) as server, api.client() as client:
        conns = [client.connect(server.url) for _ in range(50)]
        for conn in conns:
            assert api.next(conn).data == "x"
        wait_until(lambda: idle_workers() == len(workers()), "the workers' ends")
        assert streams() == 50
        hubs = [thread for thread in threading.enumerate() if thread.name == "sseclient_dual hub"]
        assert len(hubs) == 1


def test_a_callable_for_headers_that_blocks_delays_no_other_stream(api: Api) -> None:
    called, release = threading.Event(), threading.Event()

    def headers() -> dict[str, str]:
        called.set()
        release.wait(PATIENCE)
        return {}

    with SSEServer(default=stream("data: x\n\n", HANG)) as server, api.client() as client:
        blocked = client.connect(server.url, headers=headers)
        blocked._start()
        assert called.wait(PATIENCE)
        assert api.next(client.connect(server.url)).data == "x"
        assert not blocked._reader.opened.is_set
        release.set()
        assert api.next(blocked).data == "x"


class BlockingHandler(logging.Handler):
    """Blocks while it handles the record of a reconnect."""

    def __init__(self) -> None:
        super().__init__()
        self.blocked, self.unblock = threading.Event(), threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "reconnecting" in record.getMessage():
            self.blocked.set()
            self.unblock.wait(PATIENCE)


def test_a_log_handler_that_blocks_delays_no_other_stream(api: Api) -> None:
    gate, handler = Gate(), BlockingHandler()
    logging.getLogger("sseclient_dual").addHandler(handler)
    with (
        SSEServer(stream("data: x\n\n", gate, "data: y\n\n", HANG)) as server,
        SSEServer(stream("data: 1\n\n", CUT), stream("data: 2\n\n", HANG)) as dropping,
        api.client(policy=QUICK) as client,
    ):
        try:
            conn, other = client.connect(server.url), client.connect(dropping.url)
            assert api.next(conn).data == "x"
            assert api.next(other).data == "1"
            assert handler.blocked.wait(PATIENCE)
            gate.open()
            assert api.next(conn).data == "y"
        finally:
            handler.unblock.set()
            logging.getLogger("sseclient_dual").removeHandler(handler)
        assert api.next(other).data == "2"


def test_a_thread_that_cannot_start_is_a_failed_attempt_of_its_stream(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with (
        SSEServer(stream("data: 1\n\n", Gate()), stream("data: 2\n\n", HANG)) as server,
        api.client(policy=QUICK) as client,
    ):
        conn = client.connect(server.url)
        signals = api.signals(conn)
        assert [type(signal) for signal in signals.take(2)] == [Opened, SSEEvent]
        wait_until(lambda: idle_workers() == len(workers()), "a wait on the hub")
        forget_idle_workers()
        with monkeypatch.context() as patch:
            patch.setattr(_thread, "start_new_thread", fail)
            conn.restart()
            restarted, failed = signals.take(2)
        assert isinstance(restarted, Interrupted)
        assert restarted.error is None
        assert isinstance(failed, Interrupted)
        assert "no thread could be started for a call that may block; raise the limit of threads" in str(failed.error)
        while not isinstance(signal := signals.next(), SSEEvent):
            pass
        assert signal.data == "2"


def test_a_socket_that_cannot_be_watched_is_a_drop(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system limits the number of watched sockets, too."""

    def fail(_routine: Routine, wait: Wait) -> None:
        if wait.sock is not None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    replies = [stream(f"data: {number}\n\n", HANG) for number in range(1000)]
    with SSEServer(*replies) as server, api.client(policy=QUICK) as client:
        conn = client.connect(server.url)
        signals = api.signals(conn)
        with monkeypatch.context() as patch:
            patch.setattr(hub.current(), "_watch", fail)
            while not isinstance(interrupted := signals.next(), Interrupted):
                pass
        assert "the connection broke (No space left on device)" in str(interrupted.error)
        while not isinstance(signals.next(), SSEEvent):
            pass
        wait_until(lambda: conn.ready_state is ReadyState.OPEN)


def test_a_compressed_body_needs_a_worker_after_a_wait_for_room(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading it blocks, so that it must never be read on the hub."""

    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    events = "".join(f"data: {number}\n\n" for number in range(10))
    compressed = stream(events, HANG, encoding="gzip")
    with SSEServer(compressed, stream("data: again\n\n", HANG)) as server, api.client(policy=QUICK) as client:
        conn = client.connect(server.url, queue_size=2)
        assert [event.data for event in api.take(conn, 2)] == ["0", "1"]
        wait_until(lambda: idle_workers() == len(workers()), "a wait on the hub")
        forget_idle_workers()
        with monkeypatch.context() as patch:
            patch.setattr(_thread, "start_new_thread", fail)
            assert [event.data for event in api.take(conn, 8)] == [str(number) for number in range(2, 10)]
            wait_until(lambda: conn._reader._reconnector.failures, "a failed attempt")
        assert api.next(conn).data == "again"


def test_a_read_that_has_to_write_first_waits_until_it_can(api: Api, tls: Tls) -> None:
    """OpenSSL may have to send before it can receive, as for a renewal of keys."""
    gate = Gate()
    asked: list[int] = []
    with (
        SSEServer(stream("data: x\n\n", gate, "data: y\n\n", HANG), tls=tls[0]) as server,
        api.client(verify=tls[1]) as client,
    ):
        conn = client.connect(server.url)
        assert api.next(conn).data == "x"
        body = conn._reader._exchange.body  # type: ignore[union-attr]
        assert isinstance(body, Body)
        receive = body._receive

        def want_write_once(size: int) -> bytes:
            asked.append(size)
            if len(asked) == 1:
                raise ssl.SSLWantWriteError
            return receive(size)

        body._receive = want_write_once
        gate.open()
        assert api.next(conn).data == "y"
    assert len(asked) >= 2


FAILING_HUB = """
    import sys, time
    from sseclient_dual import SSEClient, hub

    def fail(timeout):
        raise MemoryError

    with SSEClient() as client:
        conns = [client.connect(sys.argv[1]) for _ in range(3)]
        for conn in conns:
            print(next(conn).data)
        while not all(conn._reader._routine.is_here for conn in conns):  # a worker may still have the last one
            time.sleep(0.005)
        hub.current()._poller.wait = fail
        conns[0]._reader._routine.wake()
        for conn in conns:
            try:
                conn.recv(10)
            except RuntimeError as error:
                print(error, type(error.__cause__).__name__)
        print(next(client.connect(sys.argv[1])).data)
"""


def test_a_hub_that_fails_tells_every_consumer_and_the_next_stream_works() -> None:
    with SSEServer(default=stream("data: x\n\n", HANG)) as server:
        done = run(FAILING_HUB, server.url)
    failure = "the thread that reads all streams failed MemoryError"
    assert (done.stdout.splitlines(), done.stderr) == (["x"] * 3 + [failure] * 3 + ["x"], "")
