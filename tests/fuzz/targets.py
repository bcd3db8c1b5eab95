"""The fuzz targets: functions that take bytes and raise an exception if a check fails.

The bytes determine the whole input: first the decisions, then the data. The same bytes give the same input in a
coverage-guided fuzzer, in hypothesis and in a regression test.
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
from support.leaks import Leftovers, running_hub
from support.parsing import VECTORS, assert_agrees, body_of, cut, every_byte, feed_all
from support.reference_parser import read
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Decisions:
    """Decisions from the first bytes of an input; without further bytes, each decision is 0."""

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
    """Feed and finish a body whole, in three chunks, perhaps byte by byte; compare with the reference parser."""
    decide = Decisions(data, 4)
    flags = decide.below(256)
    strict, comments, limited, after_event, joined = (bool(flags >> bit & 1) for bit in range(5))
    bytewise, twice = flags >> 5 == 1, flags >> 5 == 2
    limit = 3 + decide.below(62) if limited else None
    body = decide.rest
    if after_event:  # the parser takes another path after the first event
        body = b"data: b\n\n" + body
    size = len(body) + 1
    options: dict[str, Any] = {} if limit is None else {"max_event_size": limit}
    reading = read(body, strict=strict, limit=limit)
    again = read(body, strict=strict, limit=limit, last_event_id=reading.last_event_id) if twice else None
    ways = [[body], cut(body, [decide.below(size), decide.below(size)]), *([every_byte(body)] if bytewise else [])]
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


_NO_STREAMS = [
    b'{"error": "x"}', b'{\n  "error": "x"\n}\n', b'[{"error": "x"}]', b"<html>", b'<?xml version="1.0"?>\n',
    b"[DONE]\n", b"Forbidden", b"Forbidden\n", b"Not Found: /x\n", b"a-b_c.d: x\n", b"data : x\n",
    b"retry: soon", b"retry: 3000",
]  # fmt: skip


def parser_seeds() -> list[bytes]:
    bodies = [body_of(vector)[:400] for vector in VECTORS]
    seeds = [bytes([index * 7 % 256, 20, 5, 9]) + body for index, body in enumerate(bodies)]
    return seeds + [bytes([1, 20, 5, 9]) + body for body in _NO_STREAMS]  # strict


# -- HTTP

_HEADS = [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 200 Fine, thanks"]
_INTERIM_HEADS = [
    b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n" * 3,
    b"HTTP/1.1 100 Continue\r\nContent-Length: 7\r\n\r\n",
]  # fmt: skip
_MEDIA_TYPES = [
    b"text/event-stream", b'text/html;x=",", Text/Event-Stream ; x', b"text/event-stream\r\nContent-Type: */*",
    b"text/event-stream,text/event-stream",
]  # fmt: skip
_SPELLINGS = [
    b"%(name)b: %(value)b", b"%(name)b:\t%(value)b \t", b"%(name)b: ,\r\n%(name)b: %(value)b,",
    b"%(name)b:\r\n %(value)b",
]  # fmt: skip
_CHUNKED = [b"chunked", b"identity, Chunked"]
_CHUNK_LINES = [b"%x\r\n", b"%X;name=value\r\n", b'%x ; name="quoted; value"\r\n', b"000%x\r\n"]
_LAST_CHUNKS = [b"0\r\n\r\n", b"00;last\r\n\r\n", b"0\r\nX-Trailer: 1\r\nY: 2\r\n\r\n", b"0\r\n"]
_TOKENS = [
    b"", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b"\r", b":", b"-", b"ffffffffffffffff", b"HTTP/1.1 100 Continue\r\n\r\n",
    b"\r\nTransfer-Encoding: chunked", b"\r\nContent-Length: 7", b"\r\nContent-Encoding: gzip",
    b"\r\nLocation: /there", b"\r\nContent-Encoding: deflate, gzip", b"\r\nRetry-After: 1", b"\r\n more", b"\x1b[2J",
]  # fmt: skip
_STATUSES = [b"204", b"206", b"301", b"302", b"303", b"307", b"308", b"401", b"404", b"503", b"100", b"103", b"999"]
_DECISIONS = 27
_RAW_INPUTS = [
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n: x\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\ndata: x\n\n",
    b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n",
    b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: 9\r\nContent-Length: 4\r\n\r\nbusy",
    b"SSH-2.0-OpenSSH\r\n",
    b"HTTP/1.1 103\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9, 9\r\n\r\ndata: x\n\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nBad\r\nContent-Length : 9\r\n\r\ndata: x\n\n",
]
_BATCH = 500
_LONGEST_MESSAGE = 500


class HTTP(AbstractContextManager["HTTP"]):
    """Sends the bytes of an input as a response, over real sockets, and checks the reaction of a client.

    An input is either an HTTP response with up to three defects, or raw bytes. For a response without defects, the
    events must be those that the reference parser finds in the body. Every response must end, without an exception or
    with a documented one. After each batch no thread or socket may be left.

    :param make: returns the bytes of a response, and its body, or None if the response is raw or has defects.
    :param options: further arguments of the client.
    """

    def __init__(self, make: Callable[[Decisions], tuple[bytes, bytes | None]] | None = None, **options: Any) -> None:
        self._make = make or _response
        self._options = options
        self.inputs = 0
        self.valid = 0
        """The number of inputs without defects: these are compared with the reference parser."""
        self._wire: list[bytes] = []
        self._hub = ExitStack()
        self._hub.enter_context(running_hub())
        self._batch = ExitStack()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._batch.close()
        self._hub.close()

    def __call__(self, data: bytes) -> None:
        if self.inputs % _BATCH == 0:
            self._begin_batch()
        self.inputs += 1
        decide = Decisions(data, _DECISIONS)
        strict = decide.yes()
        wire, body = self._make(decide)
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
        self.valid += 1
        reading = read(body, strict=strict)
        assert [(event.data, event.event, event.id, event.last_event_id) for event in events] == [
            (event.data, event.event, event.id, event.last_event_id) for event in reading.events
        ]
        if reading.error is None:
            assert error is None
        else:
            assert isinstance(error, SSEParsingError if reading.error.kind == "parsing" else SSEEventTooLargeError)

    def _read(self, *, strict: bool) -> tuple[list[SSEEvent], SSEConnectionError | None]:
        """Return the received events, and the error that ended them, if any. Other exceptions are findings."""
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

    def _begin_batch(self) -> None:
        """Check for leftovers of the last batch, and begin a new one with another server and client."""
        self._batch.close()
        leftovers = Leftovers()

        def check_leftovers() -> None:
            left = leftovers.settle()
            assert not left, left

        self._batch.callback(check_leftovers)
        self._server = self._batch.enter_context(SSEServer(default=lambda request: raw(*self._wire, CUT)))
        port = self._server.port
        resolve = socket.getaddrinfo

        def resolve_server_only(host: str, service: object, *args: Any, **options: Any) -> Any:
            if (host, service) != ("127.0.0.1", port):  # a redirect must not reach other servers
                raise socket.gaierror(socket.EAI_NONAME, "not the server of this test")
            return resolve(host, port, *args, **options)

        self._batch.enter_context(mock.patch.object(socket, "getaddrinfo", resolve_server_only))
        self._client = self._batch.enter_context(SSEClient(trust_env=False, **self._options))


def http_seeds() -> list[bytes]:
    bodies = [*(body_of(vector)[:200] for vector in VECTORS), *_NO_STREAMS]
    whole = [bytes([index % 2, 1, *(index * step % 256 for step in range(1, 17))]) for index in range(len(bodies))]
    raw_inputs = [bytes([1, 0]).ljust(_DECISIONS, b"\0") + wire for wire in _RAW_INPUTS]
    return [head + body for head, body in zip(whole, bodies, strict=True)] + raw_inputs


def _response(decide: Decisions) -> tuple[bytes, bytes | None]:
    """Return the bytes of a response, and its body, or None if the response is raw or has defects."""
    if decide.below(8) == 0:
        return decide.rest, None
    body = decide.rest
    lines = [_HEADS[decide.below(len(_HEADS))], b"Content-Type: " + _MEDIA_TYPES[decide.below(4)]]
    interim = _INTERIM_HEADS[decide.below(4)]
    spelling = decide.below(8)
    framing = decide.below(4)
    size = 1 + decide.below(40)
    style = decide.below(16)
    coding = decide.below(4)
    payload = body
    if coding == 1:
        lines.append(_field(b"Content-Encoding", b"gzip", spelling))
        compressor = zlib.compressobj(wbits=31)
        payload = compressor.compress(body) + compressor.flush()
    if framing == 0:
        lengths = [b"%d" % len(payload)] * (1 + spelling // 4)
        lines.append(_field(b"Content-Length", b", ".join(lengths), spelling))
    elif framing == 1 and b"HTTP/1.0" not in lines[0]:
        lines.append(_field(b"Transfer-Encoding", _CHUNKED[spelling // 4], spelling))
        line = _CHUNK_LINES[style % 4]
        pieces = [payload[start : start + size] for start in range(0, len(payload), size)]
        payload = b"".join(line % len(piece) + piece + b"\r\n" for piece in pieces) + _LAST_CHUNKS[style // 4]
    wire = interim + b"\r\n".join(lines) + b"\r\n\r\n" + payload
    defects = max(0, decide.below(8) - 4)
    for _ in range(defects):
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
    return wire, None if defects else body


def _field(name: bytes, value: bytes, spelling: int) -> bytes:
    """Return the lines of a header field; all spellings mean the same."""
    return _SPELLINGS[spelling % 4] % {b"name": name, b"value": value}
