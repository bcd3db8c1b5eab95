"""A signal handler that raises while a connection starts: exactly one thread reads the stream afterwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import sseclient_dual.connection
import sseclient_dual.hub.hub
import sseclient_dual.hub.workers
import sseclient_dual.reader
import sseclient_dual.waiting
from sseclient_dual import SSEClient
from sseclient_dual.testing import HANG, SSEServer, stream
from support.interruptions import Interruption
from support.leaks import forget_idle_workers, streams
from support.processes import python, with_tests
from support.starts import TRIES
from support.waiting import wait_until

if TYPE_CHECKING:
    from sseclient_dual import SSEConnection

pytestmark = pytest.mark.slow

EVENTS = [str(number) for number in range(20)]
REPLY = stream(*(f"data: {data}\n\n" for data in EVENTS), HANG)
SOURCES = (
    sseclient_dual.connection.__file__,
    sseclient_dual.hub.hub.__file__,
    sseclient_dual.hub.workers.__file__,
    sseclient_dual.reader.__file__,
    sseclient_dual.waiting.__file__,
)


class HandlerError(Exception):
    """Raised by a signal handler; unlike KeyboardInterrupt, an `Exception`."""


def read_all(conn: SSEConnection) -> list[str]:
    return [conn.recv(10).data for _ in EVENTS]


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("unit", ["line", "call"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, HandlerError])
def test_an_exception_at_any_line_or_call_of_the_start_leaves_one_reader(
    error: type[BaseException], unit: str
) -> None:
    def fail() -> None:
        raise error

    interrupted = 0
    with SSEServer(default=REPLY) as server, SSEClient() as client:
        for step in range(1000):
            conn = client.connect(server.url)
            interruption = Interruption(step, fail, unit, SOURCES)
            try:
                with interruption:
                    conn._start()
            except error:
                interrupted += 1
            assert read_all(conn) == EVENTS, interruption.where
            assert len(server.requests) == step + 1, interruption.where
            conn.close()
            wait_until(lambda: not streams(), "the end of the stream")
            forget_idle_workers()
            if not interruption.happened:
                break
        else:
            pytest.fail("the start has no end")
    assert interrupted > 5


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="interval timers are POSIX")
@pytest.mark.parametrize("call", ["open", "recv", "await"])
def test_an_exception_at_any_time_of_the_start_leaves_one_reader(call: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    seed = str(random.randrange(10**6))
    with SSEServer(default=REPLY) as server:
        process = subprocess.run(
            python("support.starts", f"{server.url}/", call, seed),
            env=with_tests(environment),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert process.returncode == 0, (seed, process.stderr)
        requests = Counter(request.path for request in server.requests)
    assert int(process.stdout) > 10, seed
    assert len(requests) == TRIES
    assert set(requests.values()) == {1}, (seed, requests)


def test_closing_without_a_thread_completes() -> None:
    with SSEClient() as client:
        conn = client.connect("http://127.0.0.1:9/")
        conn.close()
        assert conn._reader.finished.is_set
