"""The server, a process of its own: raw sockets, bytes built beforehand, a thread a connection.

It prints one line of JSON with its ports when it is ready, and ends when its standard input does. A request of
``/prepare`` builds a body and tells what is in it; the same query at ``/stream`` then sends it in one call.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import socket
import ssl
import sys
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import trustme

import payloads
from limits import raise_open_files

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n"
_PLAIN = _HEAD + b"\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
_LINE = 1024  # characters of a line of a large event in lines
_FAREWELL = 2.0  # seconds that a client may take to end TLS


def prepare(sock: socket.socket, payload: str, framing: str, count: int) -> None:
    """Build a body, and answer with what is in it."""
    body = payloads.body(payload, framing, count)
    answer = json.dumps({"count": body.events, "chars": body.chars, "size": body.size, "wire": len(body.wire)})
    sock.sendall(_PLAIN.replace(b"text/event-stream", b"application/json") + answer.encode())


def stream(sock: socket.socket, payload: str, framing: str, count: int) -> None:
    """Send a whole body as fast as it is read."""
    sock.sendall(_PLAIN if framing == "close" else _CHUNKED)
    sock.sendall(payloads.body(payload, framing, count).wire)


def stamps(sock: socket.socket, count: int, interval: float) -> None:
    """Send an event every `interval` seconds that says when: CLOCK_MONOTONIC is one for all processes of Linux."""
    sock.sendall(_CHUNKED)
    for _ in range(count):
        time.sleep(interval)
        sock.sendall(payloads.chunk(b"data: %d\n\n" % time.monotonic_ns()))
    sock.sendall(payloads.LAST_CHUNK)


def silence(sock: socket.socket) -> None:
    """Send a head, and nothing more until the client goes."""
    sock.sendall(_CHUNKED)
    sock.recv(1)


def endless(sock: socket.socket) -> None:
    """Send events as fast as they are read, until the client goes."""
    sock.sendall(_CHUNKED)
    block = payloads.body("ticks", "chunk-per-event", 2000).wire.removesuffix(payloads.LAST_CHUNK)
    while True:
        sock.sendall(block)


def large(sock: socket.socket, mib: int, shape: str) -> None:
    """Send one event of `mib` MiB of data, in one line or in lines of 1 KiB, in chunks of 64 KiB."""
    size = mib * 2**20
    if shape == "line":
        event = b"data: " + b"x" * size + b"\n\n"
    else:
        event = (b"data: " + b"x" * (_LINE - 1) + b"\n") * (size // _LINE) + b"\n"
    sock.sendall(
        _CHUNKED + b"".join(map(payloads.chunk, payloads.cut([event], payloads.BLOCK))) + payloads.LAST_CHUNK
    )


class Ticker:
    """Sends one event a second to each of many connections, spread over the second, from one thread."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, socket.socket, int]] = []  # when, a tie-break, to whom, how many are left
        self._changed = threading.Condition()
        self._number = 0
        threading.Thread(target=self._run, daemon=True).start()

    def add(self, sock: socket.socket, count: int, delay: float) -> None:
        """Begin to send `count` events to `sock`, the first in `delay` seconds."""
        sock.sendall(_CHUNKED)
        with self._changed:
            self._number += 1
            heapq.heappush(self._due, (time.monotonic() + delay, self._number, sock, count))
            self._changed.notify()

    def _run(self) -> None:
        event = payloads.chunk(b'data: {"n":1}\n\n')
        while True:
            with self._changed:
                while not self._due or self._due[0][0] > time.monotonic():
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                due, number, sock, left = heapq.heappop(self._due)
            with contextlib.suppress(OSError):
                if left:
                    sock.sendall(event)
                    with self._changed:
                        heapq.heappush(self._due, (due + 1, number, sock, left - 1))
                else:
                    sock.sendall(payloads.LAST_CHUNK)
                    sock.close()


class Server:
    """Listens on a plain and a TLS port of the loopback interface."""

    def __init__(self) -> None:
        self._authority = trustme.CA()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("localhost", "127.0.0.1").configure_cert(self._tls)
        self._ticker = Ticker()

    def start(self) -> dict[str, Any]:
        """Listen, and return what clients need to know."""
        ports = []
        for tls in (False, True):
            listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
            ports.append(listener.getsockname()[1])
            threading.Thread(target=self._accept, args=(listener, tls), daemon=True).start()
        return {"port": ports[0], "tls_port": ports[1], "ca": self._authority.cert_pem.bytes().decode()}

    def _accept(self, listener: socket.socket, tls: bool) -> None:  # noqa: FBT001 - one of two listeners
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=self._serve, args=(sock, tls), daemon=True).start()

    def _serve(self, sock: socket.socket, tls: bool) -> None:  # noqa: FBT001 - as above
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                sock = self._tls.wrap_socket(sock, server_side=True)
            head = b""
            while b"\r\n\r\n" not in head:
                block = sock.recv(65536)
                if not block:
                    break
                head += block
            url = urlsplit(head.split()[1].decode() if head else "/")
            asked = {name: int(value) if value.isdigit() else value for name, value in parse_qsl(url.query)}
            if url.path == "/ticks":
                self._ticker.add(sock, int(asked["count"]), float(asked["delay"]))
                return
            routes: dict[str, Callable[..., None]] = {
                "/prepare": prepare,
                "/stream": stream,
                "/silence": silence,
                "/endless": endless,
                "/large": large,
            }
            if url.path == "/stamps":
                stamps(sock, int(asked["count"]), float(asked["interval"]))
            elif url.path in routes:
                routes[url.path](sock, **asked)
            if isinstance(sock, ssl.SSLSocket):
                sock.settimeout(_FAREWELL)
                sock = sock.unwrap()
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        sock.close()


if __name__ == "__main__":
    raise_open_files()
    print(json.dumps(Server().start()), flush=True)
    sys.stdin.read()
