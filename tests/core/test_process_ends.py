"""Connections and the process: Ctrl-C, closed event loops, forks."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from sseclient_dual import SSEClient
from sseclient_dual.testing import HANG, Gate, SSEServer, stream
from support.apis import drive
from support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("wait", ["next(conn)", "asyncio.run(consume(conn))", "conn.restart(); next(conn)"])
def test_ctrl_c_interrupts_a_wait(wait: str) -> None:
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
        time.sleep(0.2)  # let the process begin its wait; an earlier signal would work, too
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "interrupted\n"
        assert process.wait(PATIENCE) == 0


def test_the_end_of_the_process_waits_for_threads_that_are_starting() -> None:
    """CPython up to 3.11 crashes if a thread gets its first turn after the interpreter has ended."""
    script = """
        import os, threading, time
        from sseclient_dual import SSEClient

        run = threading.Thread.run
        start = threading.Thread.start

        def start_slowly(self):
            time.sleep(0.3)
            start(self)

        def announce(self):
            os.write(1, self.name.encode())
            run(self)

        threading.Thread.start, threading.Thread.run = start_slowly, announce
        try:
            SSEClient().connect("http://127.0.0.1:9/").recv(timeout=0)
        except TimeoutError:
            pass
    """
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    if sys.version_info[:2] != (3, 12):  # its first patches start no thread once the interpreter has begun to end
        assert done.stdout.startswith("sseclient_dual worker")
    assert done.stderr == ""


def test_a_stream_survives_a_closed_event_loop() -> None:
    with SSEServer(stream("data: 1\n\n", gate := Gate(), "data: 2\n\n", HANG)) as server, SSEClient() as client:
        conn = client.connect(server.url)
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(asyncio.wait_for(anext(conn), PATIENCE)).data == "1"
        waiting = loop.create_task(conn.arecv())
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()  # while the task still waits, like a program that exits without cleanup
        gate.open()
        wait_until(lambda: conn.stats.queued, "the second event")
        assert next(conn).data == "2"
        waiting.get_coro().close()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(waiting, "_log_destroy_pending", False)
            del waiting


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.parametrize("api_name", ["sync", "async"])
@pytest.mark.parametrize("ending", ["exit", "collect", "close"])
def test_a_forked_child_gets_an_error_and_does_not_disturb_its_parent(api_name: str, ending: str) -> None:
    gate = Gate()
    with SSEServer(stream("data: 1\n\ndata: 2\n\n", gate, "data: 3\n\n", HANG)) as server, SSEClient() as client:
        conn = client.connect(server.url)
        assert next(conn).data == "1"
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with drive(api_name) as api:
                    for use in (api.next, api.recv, api.open):
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
def test_a_forked_child_can_connect_with_its_parents_client() -> None:
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
        # The parent reused its kept connection; the child opened a new one.
        assert [request.connection for request in server.requests] in ([0, 1, 0], [1, 2, 1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_connection_opened_in_a_child_does_not_use_its_parents_socket() -> None:
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
