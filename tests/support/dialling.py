"""Plain sockets that talk to the scripted server."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trustme

from sseclient_dual.testing import Reply, SSEServer
from support.streams import HEAD
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@contextmanager
def dial(server: SSEServer) -> Iterator[socket.socket]:
    """Yield a socket that is connected to the server, with a timeout."""
    with socket.create_connection((server.host, server.port), timeout=PATIENCE) as sock:
        yield sock


def get(sock: socket.socket, target: str = "/", *headers: str, version: str = "HTTP/1.1") -> None:
    lines = [f"GET {target} {version}", "Host: test", *headers]
    sock.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())


def read(sock: socket.socket, size: int) -> bytes:
    """Return exactly `size` bytes, or fewer if the connection ends."""
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


def read_all(sock: socket.socket) -> bytes:
    """Return all bytes up to the end of the connection, which must be a FIN."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


def expect(sock: socket.socket, data: bytes) -> None:
    """Read exactly `data`, and assert that no more data has arrived."""
    assert read(sock, len(data)) == data
    expect_nothing(sock)


def expect_nothing(sock: socket.socket) -> None:
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv(1)
    sock.settimeout(PATIENCE)


def answer(*replies: Reply, version: str = "HTTP/1.1") -> bytes:
    """Return all bytes of the response to a request with `Connection: close`."""
    with SSEServer(*replies) as server, dial(server) as sock:
        get(sock, "/", "Connection: close", version=version)
        return read_all(sock)


class Contexts:
    """A server's and a client's TLS context that trust each other."""

    def __init__(self) -> None:
        authority = trustme.CA()
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(self.server)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)

    def wrap(self, sock: socket.socket) -> ssl.SSLSocket:
        return self.client.wrap_socket(sock, server_hostname="127.0.0.1", suppress_ragged_eofs=False)
