"""Listening sockets that do not answer, or not to the end."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
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


@contextmanager
def dripping(*answers: bytes, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Yield the port of a listener that answers one client, and then sends it single bytes without end."""
    ended = threading.Event()

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            plain, _ = listener.accept()
            with plain, plain if tls is None else tls.wrap_socket(plain, server_side=True) as sock:
                for answer in answers:
                    sock.recv(65536)
                    sock.sendall(answer)
                while not ended.wait(0.05):
                    sock.sendall(b"0")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # if no client came
            thread.join()
