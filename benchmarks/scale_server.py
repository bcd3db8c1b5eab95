"""The server of the part `scale`, a separate process: one selector loop sends events to all streams at a set rate.

It prints one line of JSON with its port when it is ready, and exits at the end of its standard input. Each line of
input is a command, in JSON: ``{"rate": 1000, "total": 5000}`` sends that many events, to one stream after another,
and is answered when the last one has been created; ``{"end": true}`` ends all streams.

The data of an event is its number in its stream, from 0, and the time of its creation. Event 0 follows the response
head at once.
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

from limits import raise_open_files
from payloads import LAST_CHUNK, chunk

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_EVENT = chunk(b"data: %010d %020d\n\n" % (0, 0)).replace(b"%010d %020d" % (0, 0), b"%010d %020d")
_BACKLOG = 4096
_BURST = 1000  # events between two looks at the sockets, when the loop is behind


class Stream:
    """One connection: what it has been sent, and what its socket has not accepted yet."""

    __slots__ = ("ending", "number", "sock", "waiting")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.number = 0
        self.waiting = bytearray()
        self.ending = False


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
        stream = Stream(sock)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._serve(stream))

    def _serve(self, stream: Stream) -> None:
        """Answer the request, send what waits, or notice a disconnect."""
        try:
            request = stream.sock.recv(65536)
        except BlockingIOError:
            self._flush(stream)
            return
        except OSError:
            request = b""
        if not request:
            self._close(stream)
            return
        self._send(stream, _HEAD + _EVENT % (0, time.monotonic_ns()))
        if request.startswith(b"GET /warm-up "):
            self._end(stream)
        else:
            self._streams.append(stream)

    def _create(self, pace: Pace) -> None:
        streams, count = self._streams, len(self._streams)
        for number in range(pace.created, pace.created + pace.due()):
            stream = streams[number % count]
            stream.number += 1
            self._send(stream, _EVENT % (stream.number, time.monotonic_ns()))
            pace.created += 1
        if pace.created == pace.total:
            self._pace = None
            _answer(lag=pace.lag)

    def _send(self, stream: Stream, data: bytes) -> None:
        """Send `data`; keep what the socket does not accept until it is writable again."""
        if stream.waiting:
            stream.waiting += data
            return
        try:
            sent = stream.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(stream)
            return
        if sent < len(data):
            stream.waiting += data[sent:]
            self._watch(stream, selectors.EVENT_READ | selectors.EVENT_WRITE)
        elif stream.ending:
            self._close(stream)

    def _flush(self, stream: Stream) -> None:
        """Send what waits, as far as the socket accepts it."""
        try:
            del stream.waiting[: stream.sock.send(stream.waiting)]
        except BlockingIOError:
            return
        except OSError:
            self._close(stream)
            return
        if not stream.waiting:
            self._watch(stream, selectors.EVENT_READ)
            if stream.ending:
                self._close(stream)

    def _watch(self, stream: Stream, events: int) -> None:
        self._selector.modify(stream.sock, events, self._selector.get_key(stream.sock).data)

    def _end(self, stream: Stream) -> None:
        stream.ending = True
        self._send(stream, LAST_CHUNK)

    def _close(self, stream: Stream) -> None:
        if stream.sock.fileno() >= 0:
            self._selector.unregister(stream.sock)
            stream.sock.close()

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
