"""A signal handler that raises while a connection starts: exactly one thread reads the stream afterwards."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

import sseclient_dual.connection
import sseclient_dual.reader
from sseclient_dual import SSEClient
from sseclient_dual.testing import HANG, SSEServer, stream
from support.interruptions import Interruption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sseclient_dual import SSEConnection

EVENTS = [str(number) for number in range(20)]
REPLY = stream(*(f"data: {data}\n\n" for data in EVENTS), HANG)
SOURCES = (sseclient_dual.connection.__file__, sseclient_dual.reader.__file__, threading.__file__)


class HandlerError(Exception):
    """Raised by a signal handler; unlike KeyboardInterrupt, `Thread.start` catches it."""


@pytest.fixture
def untraced() -> Iterator[None]:
    """Turn off coverage measurement, whose own locks do not survive an interruption."""
    previous = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(previous)


def join_readers() -> None:
    """Wait for the end of all reader threads, and forget those that were interrupted before they started."""
    for thread in [thread for thread in threading.enumerate() if thread.name == "sseclient_dual"]:
        if thread.ident is None:
            threading._limbo.pop(thread, None)  # type: ignore[attr-defined]
        else:
            thread.join(10)
            assert not thread.is_alive()


def read_all(conn: SSEConnection) -> list[str]:
    return [conn.recv(10).data for _ in EVENTS]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a thread that died in its bootstrap
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("error", [KeyboardInterrupt, HandlerError])
def test_an_exception_at_any_line_of_the_start_leaves_one_reader(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    interrupted = 0
    with SSEServer(default=REPLY) as server, SSEClient() as client:
        for step in range(1000):
            conn = client.connect(server.url)
            interruption = Interruption(step, fail, "line", SOURCES)
            try:
                with interruption:
                    conn._start()
            except (error, RuntimeError):  # threading raises a RuntimeError if its own lock is interrupted
                interrupted += 1
            assert read_all(conn) == EVENTS, interruption.where
            assert len(server.requests) == step + 1, interruption.where
            conn.close()
            join_readers()
            if not interruption.happened:
                break
        else:
            pytest.fail("the start has no end")
    assert interrupted > 20


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("untraced")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="interval timers are POSIX")
def test_a_time_limit_at_any_moment_of_the_start_leaves_one_reader() -> None:
    armed = False  # a signal may be delivered to another thread first, and so arrive here late

    def handler(*_: Any) -> None:
        if armed:
            raise HandlerError

    previous = signal.signal(signal.SIGALRM, handler)
    interrupted = 0
    try:
        with SSEServer(default=REPLY) as server, SSEClient() as client:
            for attempt in range(500):
                conn = client.connect(server.url)
                armed = True
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.00001 + 0.00059 * attempt / 500)
                    conn._start()
                    armed = False
                except HandlerError:
                    armed = False
                    interrupted += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
                assert read_all(conn) == EVENTS
                assert len(server.requests) == attempt + 1
                conn.close()
                join_readers()
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert interrupted


def test_closing_without_a_thread_completes() -> None:
    with SSEClient() as client:
        conn = client.connect("http://127.0.0.1:9/")
        conn.close()
        assert conn._reader.finished.is_set
