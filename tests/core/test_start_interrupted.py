"""A signal handler that raises while a connection starts: exactly one thread reads the stream afterwards."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pytest

import sseclient_dual.connection
import sseclient_dual.reader
from sseclient_dual import SSEClient
from sseclient_dual.testing import HANG, SSEServer, stream
from support.interruptions import Interruption
from support.waiting import wait_until

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
    """Wait for the end of all reader threads; make `threading` forget those that died while they started."""

    def readers() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "sseclient_dual"]

    wait_until(
        lambda: not [thread for thread in readers() if thread.ident in sys._current_frames()], "the readers' end"
    )
    for thread in readers():
        threading._limbo.pop(thread, None)  # type: ignore[attr-defined]
        threading._active.pop(thread.ident, None)  # type: ignore[attr-defined]


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


def test_closing_without_a_thread_completes() -> None:
    with SSEClient() as client:
        conn = client.connect("http://127.0.0.1:9/")
        conn.close()
        assert conn._reader.finished.is_set
