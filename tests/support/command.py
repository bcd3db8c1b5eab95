"""The command line as a process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEEvent
from support.processes import piped
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


COMMAND = [sys.executable, "-X", "dev", "-W", "error", "-m", "sseclient_dual"]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(__file__).parents[2]),
    "PYTHONIOENCODING": "utf-8",
    "NO_COLOR": "1",
}
EVENT = SSEEvent("first\nsecond ☃", event="news", id="7", retry=100)
SIGPIPE_STATUS = 141
on_posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and inherited descriptors")


def run(*arguments: str | bytes, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    defaults = {"env": ENVIRONMENT, "capture_output": True, "encoding": "utf-8", "timeout": PATIENCE}
    return subprocess.run([*COMMAND, *arguments], check=False, **{**defaults, **options})


def started(*arguments: str, **options: Any) -> AbstractContextManager[subprocess.Popen[str]]:
    """Start the command, and end it if the test leaves it running."""
    return piped([*COMMAND, *arguments], **{"env": ENVIRONMENT, **options})


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end; return the exit status, and the rest of standard error."""
    code = process.wait(PATIENCE)
    assert process.stderr is not None
    return code, process.stderr.read()


def assert_one_error(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("sseclient-dual: ")
    for word in words:
        assert word in line


def summary_of(line: str) -> tuple[str, ...]:
    """Return the events, reconnects and last id in a line of --stats."""
    match = re.fullmatch(
        r"sseclient-dual: events (\d+) in \d+\.\d s \(\d+\.\d/s\), reconnects (\d+), last id (.*)\n?", line
    )
    assert match is not None, line
    return match.groups()


def assert_no_credentials(output: str) -> None:
    for secret in ("alice", "hunter2", "YWxpY2U6"):
        assert secret not in output


def close(output: IO[str] | None) -> None:
    assert output is not None
    output.close()
