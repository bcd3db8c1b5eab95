"""The server of the part `scale`, a separate process: one selector loop sends events to all streams at a set rate.

It prints one line of JSON with its port when it is ready, and exits at the end of its standard input. Each line of
input is a command, in JSON: ``{"rate": 1000, "total": 5000}`` sends that many events, to one stream after another,
and is answered when the last one has been created; ``{"end": true}`` ends all streams.

The data of an event is its number in its stream, from 0, and the time of its creation. Event 0 follows the response
head at once. A client that begins with the preface of HTTP/2 gets its streams over that.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import sys
import time
from typing import TYPE_CHECKING

from http2_frames import PREFACE, Http2, response_head
from limits import raise_open_files
from payloads import LAST_CHUNK, chunk

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_EVENT = b"data: %010d %020d\n\n"
_CHUNK = chunk(_EVENT % (0, 0)).replace(_EVENT % (0, 0), _EVENT)
_WARM_UP = "/warm-up"
_BACKLOG = 4096
_BURST = 1000  # events between two looks at the sockets, when the loop is behind


class Connection:
    """A socket, and what it has not accepted yet."""

    __slots__ = ("ending", "http2", "sock", "waiting")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.waiting = bytearray()
        self.ending = False
        self.http2: Http2 | None = None


class Stream:
    """A response, and what it has been sent."""

    __slots__ = ("connection", "id", "number")

    def __init__(self, connection: Connection, stream_id: int = 0) -> None:
        self.connection = connection
        self.id = stream_id
        self.number = 0  # of the last event


class Pace:
    """A number of events to create, evenly spread over time."""

    def __init__(self, rate: float, total: int) -> None:
        self._begin = time.monotonic()
        self._rate = rate
        self.total = total
        self.created = 0
        self.lag = 0.0
        """The longest delay of an event by this process, in seconds."""

    def due(self) -> int:
        """Return the number of events to create now."""
        late = time.monotonic() - self._begin
        self.lag = max(self.lag, late - (self.created + 1) / self._rate)
        return min(int(late * self._rate) - self.created, self.total - self.created, _BURST)

    def pause(self) -> float:
        """Return the seconds until the next event is due."""
        return max(0.0, self._begin + (self.created + 1) / self._rate - time.monotonic())


class Server:
    """Accepts streams, and sends them events."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._streams: list[Stream] = []
        self._pace: Pace | None = None
        self._connections = 0  # that are open
        self._commands = b""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._listener.settimeout(0)

    def run(self) -> None:
        """Serve until the end of standard input."""
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self._read_commands)
        _answer(port=self._listener.getsockname()[1])
        while True:
            for key, _ in self._selector.select(self._pace.pause() if self._pace else None):
                work: Callable[[], None] = key.data
                work()
            if self._pace:
                self._create(self._pace)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        sock.settimeout(0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections += 1
        connection = Connection(sock)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._serve(connection))

    def _serve(self, connection: Connection) -> None:
        """Answer a request, send what waits, or notice a disconnect."""
        try:
            block = connection.sock.recv(65536)
        except BlockingIOError:
            self._flush(connection)
            return
        except OSError:
            block = b""
        if not block:
            self._close(connection)
        elif block.startswith(PREFACE[:3]) or connection.http2:
            self._serve_http2(connection, block)
        else:
            self._begin(Stream(connection), block.split(b" ", 2)[1].decode(), _HEAD)

    def _serve_http2(self, connection: Connection, block: bytes) -> None:
        if connection.http2 is None:
            connection.http2 = Http2()
        requests = connection.http2.receive(block)
        answers, connection.http2.answers = connection.http2.answers, bytearray()
        if answers:
            self._send(connection, answers)
        for request in requests:
            self._begin(Stream(connection, request.stream), request.target, response_head(request.stream))

    def _begin(self, stream: Stream, target: str, head: bytes) -> None:
        self._send_event(stream, head)
        if target == _WARM_UP:
            self._end(stream)
        else:
            self._streams.append(stream)

    def _send_event(self, stream: Stream, head: bytes = b"") -> None:
        """Create an event, and send it; what the windows of HTTP/2 do not accept follows later."""
        connection = stream.connection
        if connection.http2 is None:
            data = _CHUNK % (stream.number, time.monotonic_ns())
        else:
            data = connection.http2.send(stream.id, _EVENT % (stream.number, time.monotonic_ns()))
        stream.number += 1
        if head or data:
            self._send(connection, head + data)

    def _create(self, pace: Pace) -> None:
        streams, count = self._streams, len(self._streams)
        for number in range(pace.created, pace.created + pace.due()):
            self._send_event(streams[number % count])
            pace.created += 1
        if pace.created == pace.total:
            self._pace = None
            _answer(lag=pace.lag, connections=self._connections)

    def _send(self, connection: Connection, data: bytes | bytearray) -> None:
        """Send `data`; keep what the socket does not accept until it is writable again."""
        if connection.waiting:
            connection.waiting += data
            return
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(connection)
            return
        if sent < len(data):
            connection.waiting += data[sent:]
            self._watch(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
        elif connection.ending:
            self._close(connection)

    def _flush(self, connection: Connection) -> None:
        """Send what waits, as far as the socket accepts it."""
        try:
            del connection.waiting[: connection.sock.send(connection.waiting)]
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)
            return
        if not connection.waiting:
            self._watch(connection, selectors.EVENT_READ)
            if connection.ending:
                self._close(connection)

    def _watch(self, connection: Connection, events: int) -> None:
        self._selector.modify(connection.sock, events, self._selector.get_key(connection.sock).data)

    def _end(self, stream: Stream) -> None:
        """End a response: over HTTP/1.1 with its connection, over HTTP/2 alone."""
        connection = stream.connection
        if connection.http2 is not None:
            self._send(connection, connection.http2.end(stream.id))
        else:
            connection.ending = True
            self._send(connection, LAST_CHUNK)

    def _close(self, connection: Connection) -> None:
        if connection.sock.fileno() >= 0:
            self._connections -= 1
            self._selector.unregister(connection.sock)
            connection.sock.close()

    def _read_commands(self) -> None:
        block = os.read(sys.stdin.fileno(), 65536)
        if not block:
            sys.exit()
        *lines, self._commands = (self._commands + block).split(b"\n")
        for command in map(json.loads, lines):
            if "end" in command:
                for stream in self._streams:
                    self._end(stream)
            else:
                self._pace = Pace(command["rate"], command["total"])


def _answer(**values: float) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    raise_open_files()
    with contextlib.suppress(PermissionError):
        # It stands for another machine, so the threads of a client must not starve it. Two thousand threads starve
        # even a process with the best nice value. Needs root.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    Server().run()
