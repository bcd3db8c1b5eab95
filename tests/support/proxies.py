"""HTTP and SOCKS proxies as processes."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from sseclient_dual import ReadyState
from support.apis import Ended
from support.leaks import streams
from support.processes import HOST, Process, free_port, program, python
from support.waiting import AT_ONCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


USER, PASSWORD = "us er", "p@:/?#%ß☃"
CREDENTIALS = f"{quote(USER)}:{quote(PASSWORD, safe='')}"


@contextmanager
def tinyproxy_with(folder: Path, *lines: str) -> Iterator[Process]:
    port = free_port()
    settings = folder / "tinyproxy.conf"
    settings.write_text("\n".join([f"Port {port}", f"Listen {HOST}", "Timeout 600", "LogLevel Connect", *lines, ""]))
    command = [program("tinyproxy", "tinyproxy-bin"), "-d", "-c", str(settings)]
    with Process(command, port, log=folder / "log") as process:
        yield process


@contextmanager
def proxy_py_with(folder: Path, *options: str) -> Iterator[Process]:
    port = free_port()
    command = ["proxy", "--hostname", HOST, "--port", str(port), "--num-workers", "1", "--num-acceptors", "1"]
    with Process(python(*command, "--data-dir", str(folder), *options), port, log=folder / "log") as process:
        yield process


@contextmanager
def microsocks_with(folder: Path, *options: str) -> Iterator[Process]:
    port = free_port()
    command = [program("microsocks", "microsocks"), "-i", HOST, "-p", str(port), *options]
    with Process(command, port, log=folder / "log") as process:
        yield process


def has_connected(process: Process, port: int) -> bool:
    """Return True if the proxy has logged a connection to `port`."""
    return f":{port}" in process.printed()


def start(conn: Any) -> None:
    """Start to connect, without waiting for the connection."""
    with pytest.raises(TimeoutError):
        conn.recv(timeout=0.01)


def closes_at_once(conn: Any) -> None:
    """Close a connection; assert that `close` returns at once and that the thread ends."""
    begun = time.monotonic()
    conn.close()
    assert time.monotonic() - begun < AT_ONCE
    assert conn.ready_state is ReadyState.CLOSED
    wait_until(lambda: not streams(), "the thread's end", AT_ONCE)
    with pytest.raises((Ended, StopIteration)):
        next(conn)
