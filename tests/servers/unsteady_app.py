"""Thousands of streams of numbered events, most with faults: a server for `stress/many_streams.py`.

`/stream/NAME` is an endless log of events, numbered from 1; `Last-Event-ID` resumes it. Most responses end with a
fault. `/stop` ends all streams: each response then sends the rest of its log, and an event of type ``end`` with the
number of the last event. `/counts` returns the numbers of responses by their kind, as JSON.

The server runs as a separate process, with one thread: `unsteady_app.py PORT SEED PACE`. The pace is the average
number of seconds between two writes to a stream.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import sys
from collections import Counter

from servers.load_app import allow_descriptors

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
_BUSY = b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_LINGER_ZERO = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds
_BACKLOG = 4096
_MAX_WRITES = 60  # to a response
_BURST = 20  # events in one write, which fill the queue of a slow consumer

# The kinds of responses: most end in the middle, some before the head.
_IN_BODY = ["clean end", "cut", "reset", "stall"]
_BEFORE_HEAD = ["503", "reset before the head", "stall before the head"]
_KINDS = _IN_BODY * 4 + _BEFORE_HEAD


def encoded(name: str, number: int) -> bytes:
    """Return the event with this number in the log with this name."""
    return b"id: %d\ndata: %s %d\n\n" % (number, name.encode(), number)


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


class UnsteadyServer:
    """The logs, and the connections that send them.

    :param seed: determines the faults, not their timing.
    :param pace: see above.
    """

    def __init__(self, seed: str, pace: float) -> None:
        self._seed = seed
        self._pace = pace
        self._length: dict[str, int] = {}  # of each log: the number of its last event that was sent
        self._attempts: Counter[str] = Counter()  # by log
        self._counts: Counter[str] = Counter()
        self._stopped = False

    async def serve(self, port: int) -> None:
        """Serve until the process is killed."""
        server = await asyncio.start_server(self._answer, "127.0.0.1", port, backlog=_BACKLOG)
        await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path, last = head.split(" ", 2)[1], 0
            for line in head.split("\r\n"):
                if line.lower().startswith("last-event-id:"):
                    last = int(line.partition(":")[2])
            if path.startswith("/stream/"):
                await self._stream(path.removeprefix("/stream/"), last, reader, writer)
            else:
                self._stopped = self._stopped or path == "/stop"
                writer.write(_JSON + json.dumps(self._counts).encode())
        except (OSError, asyncio.IncompleteReadError):  # the client has left
            pass
        finally:
            writer.close()

    async def _stream(self, name: str, last: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send events from the one after `last` on, with a fault at the end."""
        self._attempts[name] += 1
        rng = random.Random(f"{self._seed}/{name}/{self._attempts[name]}")
        kind = "end of the log" if self._stopped else rng.choice(_KINDS)
        self._counts[kind] += 1
        if kind == "503":
            writer.write(_BUSY)
        elif kind in {"reset before the head", "stall before the head"}:
            await self._fail(kind, reader, writer)
        else:
            writer.write(_HEAD)
            number = max(0, last - rng.choice([0, 0, 1, 3]))  # some events again: the client drops them
            writes = rng.randint(0, _MAX_WRITES)
            while writes and not self._stopped:
                writes -= 1
                begin, number = number, number + rng.choice([1, 1, 1, 1, 1, 1, 1, _BURST])
                self._length[name] = max(number, self._length.get(name, 0))
                writer.write(_chunk(b"".join(encoded(name, each) for each in range(begin + 1, number + 1))))
                await writer.drain()
                await asyncio.sleep(self._pace * rng.uniform(0.5, 1.5))
            if self._stopped:
                self._end_log(name, number, writer)
            elif kind == "clean end":
                writer.write(_LAST_CHUNK)
            else:
                event = encoded(name, number + 1)
                writer.write(_chunk(event[: rng.randrange(len(event) - 1)] or b"\n"))  # an event that is not complete
                await self._fail(kind, reader, writer)

    def _end_log(self, name: str, number: int, writer: asyncio.StreamWriter) -> None:
        length = self._length.get(name, 0)
        rest = b"".join(encoded(name, each) for each in range(number + 1, length + 1))
        writer.write(_chunk(rest + b"event: end\ndata: %d\n\n" % length) + _LAST_CHUNK)

    async def _fail(self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if kind.startswith("stall"):
            await reader.read()  # to the end: until the client gives up
        elif kind.startswith("reset"):
            await writer.drain()
            sock: socket.socket = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            writer.transport.abort()


if __name__ == "__main__":
    allow_descriptors()
    asyncio.run(UnsteadyServer(sys.argv[2], float(sys.argv[3])).serve(int(sys.argv[1])))
