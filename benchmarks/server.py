"""The server, a separate process: raw sockets, bodies built in advance, one thread per connection.

It prints one line of JSON with its ports when it is ready, and exits at the end of its standard input. A request to
``/prepare`` builds a body and returns its sizes; ``/stream`` with the same query sends the body in one call. Over
HTTP/2, there is only ``/stream``; the windows of the client may divide the body.
"""

from __future__ import annotations

import bisect
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
from http2_frames import END_STREAM, PREFACE, Http2, data, response_head
from limits import raise_open_files

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n"
_PLAIN = _HEAD + b"\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
_LINE = 1024  # characters per line of a large event with the shape "lines"
_TLS_CLOSE_TIMEOUT = 2.0  # seconds for a client to close TLS


def prepare(sock: socket.socket, payload: str, framing: str, count: int) -> None:
    """Build a body, and send its number of events, characters and bytes."""
    body = payloads.body(payload, framing, count)
    answer = json.dumps({"count": body.events, "chars": body.chars, "size": body.size, "wire": len(body.wire)})
    sock.sendall(_PLAIN.replace(b"text/event-stream", b"application/json") + answer.encode())


def stream(sock: socket.socket, payload: str, framing: str, count: int) -> None:
    """Send a whole body as fast as the client reads it."""
    sock.sendall(_PLAIN if framing == "close" else _CHUNKED)
    sock.sendall(payloads.body(payload, framing, count).wire)


def stream_http2(sock: socket.socket, block: bytes) -> None:
    """Answer one request over HTTP/2, and wait for the end of the connection."""
    http2 = Http2()
    requests = http2.receive(block)
    while not requests:
        requests = http2.receive(sock.recv(65536))
    number, target = requests[0]
    sock.sendall(http2.answers + response_head(number))
    http2.answers.clear()
    _, query = _parsed(target)
    body = payloads.frames(number=number, **query)
    sent = 0  # frames
    while sent < len(body.sizes):
        room = min(http2.window, http2.windows[number]) + (body.sizes[sent - 1] if sent else 0)
        end = bisect.bisect_right(body.sizes, room, sent)
        if end > sent:
            sock.sendall(body.wire[body.ends[sent] : body.ends[end]])
            size = body.sizes[end - 1] - (body.sizes[sent - 1] if sent else 0)
            http2.window -= size
            http2.windows[number] -= size
            sent = end
        else:
            _answer(sock, http2)
    sock.sendall(data(number, b"", END_STREAM))
    while _answer(sock, http2):
        pass


def _answer(sock: socket.socket, http2: Http2) -> bool:
    """Receive once; return False at the end of the connection."""
    block = sock.recv(65536)
    http2.receive(block)
    if http2.answers:
        sock.sendall(http2.answers)
        http2.answers.clear()
    return bool(block)


def _parsed(target: str) -> tuple[str, dict[str, Any]]:
    """Return path and query of a request."""
    url = urlsplit(target)
    return url.path, {name: int(value) if value.isdigit() else value for name, value in parse_qsl(url.query)}


def stamps(sock: socket.socket, count: int, interval: float) -> None:
    """Send a time stamp every `interval` seconds. On Linux all processes share CLOCK_MONOTONIC."""
    sock.sendall(_CHUNKED)
    for _ in range(count):
        time.sleep(interval)
        sock.sendall(payloads.chunk(b"data: %d\n\n" % time.monotonic_ns()))
    sock.sendall(payloads.LAST_CHUNK)


def silence(sock: socket.socket) -> None:
    """Send a response head, then nothing until the client disconnects."""
    sock.sendall(_CHUNKED)
    sock.recv(1)


def endless(sock: socket.socket) -> None:
    """Send events as fast as the client reads them, until it disconnects."""
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
    """Sends one event per second to each of many connections, spread over the second, from one thread."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, socket.socket, int]] = []  # due time, tie-break, connection, events left
        self._changed = threading.Condition()
        self._number = 0
        threading.Thread(target=self._run, daemon=True).start()

    def add(self, sock: socket.socket, count: int, delay: float) -> None:
        """Schedule `count` events for `sock`, the first in `delay` seconds."""
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
        self._tls.set_alpn_protocols(["h2", "http/1.1"])
        self._ticker = Ticker()

    def start(self) -> dict[str, Any]:
        """Listen, and return the ports and the CA certificate."""
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
            while b"\r\n\r\n" not in head or (head.startswith(PREFACE[:3]) and len(head) < len(PREFACE)):
                block = sock.recv(65536)
                if not block:
                    break
                head += block
            if head.startswith(PREFACE):
                stream_http2(sock, head)
                head = b""
            path, query = _parsed(head.split()[1].decode() if head else "/")
            if path == "/ticks":
                self._ticker.add(sock, int(query["count"]), float(query["delay"]))
                return
            routes: dict[str, Callable[..., None]] = {
                "/prepare": prepare,
                "/stream": stream,
                "/silence": silence,
                "/endless": endless,
                "/large": large,
            }
            if path == "/stamps":
                stamps(sock, int(query["count"]), float(query["interval"]))
            elif path in routes:
                routes[path](sock, **query)
            if isinstance(sock, ssl.SSLSocket):
                sock.settimeout(_TLS_CLOSE_TIMEOUT)
                sock = sock.unwrap()
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        sock.close()


if __name__ == "__main__":
    raise_open_files()
    print(json.dumps(Server().start()), flush=True)
    sys.stdin.read()
