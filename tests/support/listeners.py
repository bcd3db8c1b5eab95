"""Listening sockets that do not answer."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def full_backlog() -> Iterator[tuple[str, int]]:
    """Yield the address of a listener whose backlog is full, so that connects time out."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as others:
        host, port = server.getsockname()
        while True:
            other = others.enter_context(socket.socket())
            other.settimeout(0.05)
            if other.connect_ex((host, port)):
                break
        yield host, port
