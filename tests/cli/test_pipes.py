"""Ctrl-C, signals, closed pipes, and closed standard streams."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sseclient_dual import SSEEvent
from sseclient_dual.testing import HANG, Gate, Reply, SSEServer, stream
from support.command import (
    COMMAND,
    ENVIRONMENT,
    SIGPIPE_STATUS,
    assert_one_error,
    close,
    end_of,
    on_posix,
    run,
    started,
)
from support.processes import line_of
from support.waiting import PATIENCE


@on_posix
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    "script",
    [
        pytest.param([stream("data: x\n\n", HANG)], id="during the stream"),
        pytest.param([stream("data: x\n\n"), stream(HANG, head_with_body=True)], id="before the response head"),
        pytest.param([stream("retry: 60000\ndata: x\n\n")], id="while waiting to reconnect"),
    ],
)
def test_ctrl_c(script: list[Reply]) -> None:
    with SSEServer(*script) as server:
        with started(server.url, "--retry-delay", "10") as process:
            assert line_of(process.stdout) == "x\n"
            server.wait_for_requests(len(script))
            process.send_signal(signal.SIGINT)
            assert end_of(process) == (130, "")
        server.wait_for_connections(0)


@on_posix
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("options", "first"), [([], "x"), (["--raw"], "d")])
def test_ctrl_c_while_a_write_blocks(options: list[str], first: str) -> None:
    with SSEServer(stream(SSEEvent("x" * 1_000_000), HANG)) as server, started(server.url, *options) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == first
        process.send_signal(signal.SIGINT)
        assert end_of(process) == (130, "")


@on_posix
def test_sigterm_keeps_its_default_effect() -> None:
    with SSEServer(stream("data: x\n\n", HANG)) as server, started(server.url) as process:
        assert line_of(process.stdout) == "x\n"
        process.terminate()
        assert end_of(process) == (-signal.SIGTERM, "")


@pytest.mark.parametrize("options", [[], ["--json"], ["--raw"]])
def test_a_closed_pipe_is_noticed_at_the_next_output(options: list[str]) -> None:
    gate = Gate()
    script = stream("data: x\n\n", gate, "data: x\n\n" * 100, HANG)
    with SSEServer(script) as server, started(server.url, *options) as process:
        line_of(process.stdout)
        close(process.stdout)
        gate.open()
        assert end_of(process) == (SIGPIPE_STATUS, "")


def test_a_closed_pipe_shared_with_standard_error() -> None:
    gate = Gate()
    script = stream(gate, ": c\n\n" * 100, "data: x\n\n", HANG)
    with SSEServer(script) as server, started(server.url, "-v", stderr=subprocess.STDOUT) as process:
        assert "connected" in line_of(process.stdout)
        close(process.stdout)
        gate.open()
        assert process.wait(PATIENCE) == SIGPIPE_STATUS


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may report a closed pipe only at the next write")
def test_a_closed_pipe_is_noticed_while_idle() -> None:
    with SSEServer(stream("data: x\n\n", HANG)) as server, started(server.url) as process:
        assert line_of(process.stdout) == "x\n"
        close(process.stdout)
        assert end_of(process) == (SIGPIPE_STATUS, "")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
@pytest.mark.parametrize("options", [[], ["--raw"]])
def test_a_full_output_device(options: list[str]) -> None:
    with SSEServer(stream("data: x\n\n", HANG)) as server, Path("/dev/full").open("w") as full:
        done = run(server.url, *options, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert_one_error(done, "No space left on device")


@on_posix
@pytest.mark.parametrize(("redirection", "code"), [(">&-", 1), ("2>&-", 0)])
def test_a_standard_stream_closed_before_the_start(redirection: str, code: int) -> None:
    with SSEServer(stream(": c\n\n", "data: x\n\n")) as server:
        shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, server.url, "-v", "--retry-delay", "10"]
        done = subprocess.run(
            shell, env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=PATIENCE, check=False
        )
    if code:
        assert_one_error(done, "standard output is closed")
    else:
        assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")
