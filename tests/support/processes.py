"""Servers and proxies in separate processes, which can be killed with all their children."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import cycle
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

HOST = "127.0.0.1"
TESTS = Path(__file__).parent.parent


class Process:
    """A server with its own port and process group; a `with` block starts and kills it.

    :param command: the command that starts it.
    :param port: the port on which it listens.
    :param log: the file for its output; None: pytest captures the output.
    :param environment: variables added to those of this process.
    """

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        *,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port
        self.log = log
        self._environment = dict(environment or {})
        self._command = command
        self._name = " ".join(command[:3])

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
        output = None if self.log is None else self.log.open("ab")
        try:
            self._process = subprocess.Popen(
                self._command,
                cwd=TESTS,
                env=environment | self._environment,
                start_new_session=True,
                stdout=output,
                stderr=output,
            )
        finally:
            if output is not None:
                output.close()
        wait_until(self._accepts_or_died, f"{self._name} to accept connections")
        assert self._process.poll() is None, f"{self._name} did not start; its output:\n{self.printed()}"

    def kill(self) -> None:
        """Kill all processes of its group, and wait until the port refuses connections."""
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        wait_until(lambda: not self._accepts(), "the last process of the group to die")

    def printed(self) -> str:
        """Return its output so far, if it goes to a file."""
        return "" if self.log is None else self.log.read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.kill()

    def _accepts_or_died(self) -> bool:
        return self._process.poll() is not None or self._accepts()

    def _accepts(self) -> bool:
        with suppress(OSError), socket.create_connection((HOST, self.port), timeout=PATIENCE):
            return True
        return False


def wait_until_asleep(process: subprocess.Popen[str]) -> None:
    """Wait until the main thread of a process waits for something, where Linux tells its state."""
    state = Path(f"/proc/{process.pid}/task/{process.pid}/stat")
    if state.exists():
        wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "S", "the process to wait")


def restore_ctrl_c() -> None:
    """Handle SIGINT as usual.

    A shell starts background jobs with SIGINT ignored, and child processes inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def python(*arguments: str) -> list[str]:
    """Return the command that runs a module with this interpreter."""
    return [sys.executable, "-m", *arguments]


def script(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of the tests with warnings as errors; it needs `with_tests`."""
    return [sys.executable, "-X", "dev", "-W", "error", "-m", module, *arguments]


def with_tests(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment in which processes can import the modules of the tests."""
    return {**environment, "PYTHONPATH": str(TESTS)}


def run(
    script: str, *arguments: str, flags: Sequence[str] = ("-X", "dev", "-W", "error")
) -> subprocess.CompletedProcess[str]:
    """Run a script with all warnings as errors."""
    return subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@contextmanager
def piped(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a process with piped output, and kill it if the test leaves it running.

    The timeout of the test ends a read that never returns.

    :param options: of `subprocess.Popen`.
    """
    defaults: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen(command, **(defaults | options)) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(output: IO[str] | None) -> str:
    """Return the next line of what a process prints to a pipe."""
    assert output is not None
    return output.readline()


def free_port() -> int:
    """Return a free port that no other process of tests chooses."""
    while True:
        port = next(_ports)
        with suppress(OSError), socket.socket() as sock:
            sock.bind((HOST, port))
            return port


def _reserve_ports() -> Iterator[int]:
    """Return the ports of a block that is this process's own, over and over; its first port is bound to tell others.

    A server needs a second until it listens. Another test that chose its port meanwhile would meet the wrong server.
    """
    blocks = list(_PORTS[::_BLOCK])
    random.shuffle(blocks)
    for first in blocks:
        with suppress(OSError), socket.socket() as sock:
            sock.bind((HOST, first))
            sock.detach()  # stays open until the process ends
            return cycle(range(first + 1, first + _BLOCK))
    raise OSError("too many processes run tests: no ports are left for this one")


_PORTS = range(20000, 32000)  # below the range for client sockets, so that no client takes one
_BLOCK = 200
_ports = _reserve_ports()


@lru_cache
def program(name: str, package: str) -> str:
    """Return the path of a program; if it is missing, install its Debian package, or skip the test."""
    found = _find(name)
    if found is None and shutil.which("apt-get") and os.name == "posix" and os.geteuid() == 0:
        import fcntl  # noqa: PLC0415 - Windows has none

        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        with Path(__file__).open("rb") as lock:  # one test process at a time: apt does not wait for another
            fcntl.flock(lock, fcntl.LOCK_EX)
            for command in (["update"], ["install", "--yes", "--no-install-recommends", package]):
                subprocess.run(["apt-get", *command], env=environment, capture_output=True, timeout=300, check=False)
        found = _find(name)
    if found is None:
        pytest.skip(f"needs {name}: apt-get install {package}")
    return found


def _find(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
