"""Servers as processes of their own, which can be killed."""

from __future__ import annotations

import http.client
import importlib.util
import os
import random
import signal
import socket
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HOST = "127.0.0.1"
PATIENCE = 30.0  # seconds for a process to start, or to notice


class Server:
    """A server on a port of its own, in a process group of its own. What it prints is pytest's to capture.

    :param command: what to run in the folder of the tests; ``{host}`` and ``{port}`` in it are filled in.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.port = _free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._command = [part.format(host=HOST, port=self.port) for part in command]
        self._environment = dict(environment or {})

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
        self._process = subprocess.Popen(
            self._command,
            cwd=Path(__file__).parent.parent,
            env=environment | self._environment,
            start_new_session=True,
        )
        wait_until(self._accepts_or_died, f"{self._name} to accept connections", PATIENCE)
        assert self._process.poll() is None, f"{self._name} did not start; what it printed says why"

    def kill(self) -> None:
        """Kill every process of it, at once and for good, and wait until nobody listens."""
        with suppress(ProcessLookupError):  # it died by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        wait_until(lambda: not self._accepts(), "the last process of the group to die", PATIENCE)

    def live(self) -> int:
        """Ask how many streams it is serving."""
        with closing(http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE)) as conn:
            conn.request("GET", "/connections")
            return int(conn.getresponse().read())

    @property
    def _name(self) -> str:
        return " ".join(self._command[1:])

    def _accepts_or_died(self) -> bool:
        return self._process.poll() is not None or self._accepts()

    def _accepts(self) -> bool:
        with suppress(OSError), socket.create_connection((HOST, self.port), timeout=PATIENCE):
            return True
        return False


def python(command: str) -> list[str]:
    """Return how to run a module with arguments."""
    return [sys.executable, "-m", *command.split()]


def need(*modules: str) -> None:
    """Skip the test, saying why, unless all these modules are installed."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        pytest.skip(
            f"{' and '.join(missing)} not installed; the extra 'servers' has it where it supports this Python"
        )


def _free_port() -> int:
    """Return a port that is free, and below those that systems give to clients, so that none gets it meanwhile."""
    while True:
        port = random.randrange(20000, 32000)
        with suppress(OSError), socket.socket() as sock:
            sock.bind((HOST, port))
            return port


@contextmanager
def serving(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Start a server, and kill it in the end."""
    server = Server(command, environment)
    try:
        server.start()
        yield server
    finally:
        server.kill()
