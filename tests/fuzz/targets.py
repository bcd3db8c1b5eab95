"""What fuzzing feeds, and what has to hold of it: each target is a function of bytes that fails where it does not.

The bytes stand for an input whole, decisions first, so that whoever makes them up, be it a coverage-guided fuzzer,
hypothesis or somebody who writes down a regression, means the same input by the same bytes.
"""

from __future__ import annotations

import socket
import zlib
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any
from unittest import mock

import sseclient_dual.parser as parsing
from sseclient_dual import (
    EventStreamParser,
    SSEClient,
    SSEClosedError,
    SSEConnectionError,
    SSEEvent,
    SSEEventTooLargeError,
    SSEParsingError,
)
from sseclient_dual.testing import CUT, SSEServer, raw
from support.leaks import Leftovers
from support.parsing import VECTORS, assert_agrees, body_of, cut, every_byte, feed_all
from support.reference_parser import read
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from types import TracebackType


class Decisions:
    """Decisions taken from the first bytes of an input; where there are no more, the first of the choices."""

    def __init__(self, data: bytes, count: int) -> None:
        self.rest = data[count:]
        self._taken = iter(data[:count])

    def below(self, limit: int) -> int:
        return next(self._taken, 0) % limit

    def yes(self) -> bool:
        return self.below(2) == 1


# -- the parser

_MANY_LINES = parsing._MANY_LINES


def parser(data: bytes) -> None:
    """Feed a body whole, cut in three and perhaps byte by byte, and compare with the oracle what comes of it."""
    decide = Decisions(data, 4)
    flags = decide.below(256)
    strict, comments, limited, behind, joined = (bool(flags >> bit & 1) for bit in range(5))
    singly, twice = flags >> 5 == 1, flags >> 5 == 2
    limit = 3 + decide.below(62) if limited else None
    body = decide.rest
    if behind:  # where the parser goes another way than at the beginning
        body = b"data: b\n\n" + body
    size = len(body) + 1
    options: dict[str, Any] = {} if limit is None else {"max_event_size": limit}
    reading = read(body, strict=strict, limit=limit)
    again = read(body, strict=strict, limit=limit, last_event_id=reading.last_event_id) if twice else None
    ways = [[body], cut(body, [decide.below(size), decide.below(size)]), *([every_byte(body)] if singly else [])]
    parsing._MANY_LINES = 2 if joined else _MANY_LINES
    try:
        for chunks in ways:
            fed = EventStreamParser(strict=strict, comments=comments, **options)
            assert_agrees(feed_all(fed, chunks), reading, comments=comments)
            if again is not None:
                fed.reset()
                assert_agrees(feed_all(fed, chunks), again, comments=comments)
    finally:
        parsing._MANY_LINES = _MANY_LINES


def parser_seeds() -> list[bytes]:
    return [bytes([index * 7 % 256, 20, 5, 9]) + body_of(vector)[:400] for index, vector in enumerate(VECTORS)]


# -- HTTP

_HEADS = [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 200 Fine, thanks"]
_CHUNK_LINES = [b"%x\r\n", b"%X;name=value\r\n", b'%x ; name="quoted; value"\r\n', b"000%x\r\n"]
_LAST_CHUNKS = [b"0\r\n\r\n", b"00;last\r\n\r\n", b"0\r\nX-Trailer: 1\r\nY: 2\r\n\r\n", b"0\r\n"]
_TOKENS = [
    b"", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b"\r", b":", b"-", b"ffffffffffffffff", b"HTTP/1.1 100 Continue\r\n\r\n",
    b"\r\nTransfer-Encoding: chunked", b"\r\nContent-Length: 7", b"\r\nContent-Encoding: gzip",
    b"\r\nLocation: /there", b"\r\nContent-Encoding: deflate, gzip", b"\r\nRetry-After: 1", b"\r\n more", b"\x1b[2J",
]  # fmt: skip
_STATUSES = [b"204", b"206", b"301", b"302", b"303", b"307", b"308", b"401", b"404", b"503", b"100", b"103", b"999"]
_DECISIONS = 24
_NAKED = [
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n: x\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\ndata: x\n\n",
    b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n",
    b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: 9\r\nContent-Length: 4\r\n\r\nbusy",
    b"SSH-2.0-OpenSSH\r\n",
]
_BATCH = 500
_LONGEST_MESSAGE = 500


class HTTP(AbstractContextManager["HTTP"]):
    """Answers requests with the bytes of an input, over real sockets, and looks at what a client makes of them.

    An input is a response that is framed as HTTP has it, with up to three wounds; or else bytes from end to end. Of
    one without a wound the events have to be those that the oracle finds in its body. Of any the end has to come,
    with a documented exception or without one, and to leave neither thread nor socket, which is looked at every
    so often.
    """

    def __init__(self) -> None:
        self.inputs = 0
        self.whole = 0
        """How many of them were without a wound, so that the oracle knew what comes of them."""
        self._wire: list[bytes] = []
        self._batch = ExitStack()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._batch.close()

    def __call__(self, data: bytes) -> None:
        if self.inputs % _BATCH == 0:
            self._renew()
        self.inputs += 1
        decide = Decisions(data, _DECISIONS)
        strict = decide.yes()
        wire, body = _response(decide)
        before = len(self._server.requests)
        self._wire = cut(wire, [decide.below(256), decide.below(256)])
        events, error = self._read(strict=strict)
        assert len(self._server.requests) - before <= (21 if body is None else 1)
        if error is not None:
            message = str(error)
            assert message.isprintable(), message
            assert len(message) < _LONGEST_MESSAGE, message
            assert "secret" not in message, message
        if body is None:
            return
        self.whole += 1
        reading = read(body, strict=strict)
        assert [(event.data, event.event, event.id, event.last_event_id) for event in events] == [
            (event.data, event.event, event.id, event.last_event_id) for event in reading.events
        ]
        if reading.error is None:
            assert error is None
        else:
            assert isinstance(error, SSEParsingError if reading.error.kind == "parsing" else SSEEventTooLargeError)

    def _read(self, *, strict: bool) -> tuple[list[SSEEvent], SSEConnectionError | None]:
        """Return the events that came, and the error if one ended them. Any other exception is a finding."""
        events: list[SSEEvent] = []
        url = f"{self._server.url}?key=secret"
        conn = self._client.connect(url, headers={"X-Api-Key": "secret"}, reconnect=False, strict=strict)
        try:
            conn.open(PATIENCE)
            while True:
                events.append(conn.recv(PATIENCE))
        except SSEClosedError:
            return events, None
        except SSEConnectionError as error:
            return events, error
        finally:
            conn.close()

    def _renew(self) -> None:
        """Begin a batch, with a server and a client of its own, after a look at what the last one left."""
        self._batch.close()
        leftovers = Leftovers()

        def look() -> None:
            left = leftovers.settle()
            assert not left, left

        self._batch.callback(look)
        self._server = self._batch.enter_context(SSEServer(default=lambda request: raw(*self._wire, CUT)))
        port = self._server.port
        resolve = socket.getaddrinfo

        def resolve_us_alone(host: str, service: object, *args: Any, **options: Any) -> Any:
            if (host, service) != ("127.0.0.1", port):  # where a redirect may lead is nobody's to be bothered
                raise socket.gaierror(socket.EAI_NONAME, "not of this test")
            return resolve(host, port, *args, **options)

        self._batch.enter_context(mock.patch.object(socket, "getaddrinfo", resolve_us_alone))
        self._client = self._batch.enter_context(SSEClient(trust_env=False))


def http_seeds() -> list[bytes]:
    bodies = [body_of(vector)[:200] for vector in VECTORS]
    whole = [bytes([index % 2, 1, *(index * step % 256 for step in range(1, 17))]) for index in range(len(bodies))]
    naked = [bytes([1, 0]).ljust(_DECISIONS, b"\0") + wire for wire in _NAKED]
    return [head + body for head, body in zip(whole, bodies, strict=True)] + naked


def _response(decide: Decisions) -> tuple[bytes, bytes | None]:
    """Return the bytes of a response, and the body in it if there is one and the framing is as it should be."""
    if decide.below(8) == 0:
        return decide.rest, None
    body = decide.rest
    lines = [_HEADS[decide.below(len(_HEADS))], b"Content-Type: text/event-stream"]
    framing = decide.below(4)
    size = 1 + decide.below(40)
    style = decide.below(16)
    coding = decide.below(4)
    payload = body
    if coding == 1:
        lines.append(b"Content-Encoding: gzip")
        compressor = zlib.compressobj(wbits=31)
        payload = compressor.compress(body) + compressor.flush()
    if framing == 0:
        lines.append(b"Content-Length: %d" % len(payload))
    elif framing == 1 and b"HTTP/1.0" not in lines[0]:
        lines.append(b"Transfer-Encoding: chunked")
        line = _CHUNK_LINES[style % 4]
        pieces = [payload[start : start + size] for start in range(0, len(payload), size)]
        payload = b"".join(line % len(piece) + piece + b"\r\n" for piece in pieces) + _LAST_CHUNKS[style // 4]
    wire = b"\r\n".join(lines) + b"\r\n\r\n" + payload
    wounds = max(0, decide.below(8) - 4)
    for _ in range(wounds):
        kind, position = decide.below(4), (decide.below(256) * 256 + decide.below(256)) % (len(wire) + 1)
        token = _TOKENS[decide.below(len(_TOKENS))]
        if kind == 0:
            wire = wire[:position]
        elif kind == 1:
            wire = wire[:position] + wire[position + 1 :]
        elif kind == 2:
            wire = wire[:position] + token + wire[position:]
        else:
            wire = wire[:9] + _STATUSES[position % len(_STATUSES)] + wire[12:]
    return wire, None if wounds else body
