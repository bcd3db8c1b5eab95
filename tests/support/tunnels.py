"""A proxy that tunnels one connection, with a scripted response to CONNECT."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOST = "127.0.0.1"


@contextmanager
def tunnel(port: int, *answer: bytes) -> Iterator[str]:
    """Yield the URL of a proxy that sends the pieces of `answer` to the first client, then connects it to `port`."""
    with socket.create_server((_HOST, 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, port, answer))
        thread.start()
        yield f"http://{_HOST}:{listener.getsockname()[1]}"
        thread.join()


def _serve(listener: socket.socket, port: int, answer: tuple[bytes, ...]) -> None:
    client, _ = listener.accept()
    with client, socket.create_connection((_HOST, port)) as server:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += client.recv(1)
        for piece in answer:
            client.sendall(piece)
        back = threading.Thread(target=pump, args=(server, client))
        back.start()
        pump(client, server)
        back.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copy all data, until either side disconnects; then disconnect both."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    shut_down(source)
    shut_down(target)


def shut_down(sock: socket.socket) -> None:
    """Disconnect a socket, or stop a listening one, and wake the threads that wait for it."""
    with suppress(OSError):  # it is disconnected already
        sock.shutdown(socket.SHUT_RDWR)
