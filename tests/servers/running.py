"""Servers as separate processes: tests can kill them and ask for the number of open streams."""

from __future__ import annotations

import http.client
import importlib.util
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from support import processes
from support.certificates import unverified_context
from support.processes import HOST, Process, free_port
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["HOST", "Server", "need", "python"]


class Server(Process):
    """A server process on a free port. pytest captures its output.

    :param command: the command; it runs in the folder of the tests, with ``{host}`` and ``{port}`` filled in.
    :param tls: True if it serves TLS.
    :param port: the port; None chooses a free one.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        tls: bool = False,
        port: int | None = None,
    ) -> None:
        port = port or free_port()
        super().__init__([part.format(host=HOST, port=port) for part in command], port, environment=environment)
        self._tls = tls
        self.url = f"{'https' if tls else 'http'}://{HOST}:{port}"

    def live(self) -> int:
        """Return the number of streams that the server is sending."""
        conn: http.client.HTTPConnection
        if self._tls:
            conn = http.client.HTTPSConnection(HOST, self.port, timeout=PATIENCE, context=unverified_context())
        else:
            conn = http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE)
        with closing(conn):
            conn.request("GET", "/connections")
            return int(conn.getresponse().read())


def python(command: str) -> list[str]:
    """Return the command that runs a module with arguments."""
    return processes.python(*command.split())


def need(*modules: str) -> None:
    """Skip the test unless all these modules are installed."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        pytest.skip(
            f"{' and '.join(missing)} not installed; install the extra 'servers' or 'environments', if it supports "
            "this Python"
        )
