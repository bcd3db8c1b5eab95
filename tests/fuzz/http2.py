"""The fuzz target for HTTP/2: frames with up to three defects, or raw bytes, through real sockets."""

from __future__ import annotations

import zlib

from hpack import Encoder

from fuzz.targets import HTTP, Decisions
from stress.peers_http2 import (
    ACK,
    BEGUN,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SET,
    SETTINGS,
    WINDOW_UPDATE,
    number,
    settings,
)
from support.http2 import frame
from support.parsing import VECTORS, body_of

DECISIONS = 27
_MEDIA_TYPES = [
    "text/event-stream",
    "Text/Event-Stream; x=y",
    "text/event-stream;charset=utf-8",
    "TEXT/EVENT-STREAM",
]
# Frames that change nothing for the stream.
_HARMLESS = [
    b"", frame(PING, 0, 0, bytes(8)), frame(SETTINGS, ACK), settings(window=1), settings(),
    frame(PRIORITY, 0, 1, bytes(5)), frame(WINDOW_UPDATE, 0, 0, number(1)), frame(0xBE, 0xFF, 1, b"x" * 9),
    frame(GOAWAY, 0, 0, number(1) + number(0)),
]  # fmt: skip
_TOKENS = [
    *_HARMLESS, frame(DATA, 0, 1), frame(DATA, END_STREAM, 1, b"data: x\n\n"), frame(DATA, PADDED, 1, b"\x02x\0\0"),
    frame(DATA, 0, 3, b"x"), frame(HEADERS, END_HEADERS, 1, b"\x88"), frame(HEADERS, 0, 1, b"\x88"),
    frame(HEADERS, END_HEADERS | END_STREAM, 1, b""), frame(CONTINUATION, END_HEADERS, 1, b"\x8d"),
    frame(RST_STREAM, 0, 1, number(7)), frame(RST_STREAM, 0, 1, number(0)),
    frame(GOAWAY, 0, 0, number(0) + number(0)), frame(PUSH_PROMISE, END_HEADERS, 1, number(2)),
    settings(window=0), settings(streams=0), settings(frame=2**24 - 1),
    frame(WINDOW_UPDATE, 0, 1, number(2**31 - 1)), b"\0", b"\xff\xff\xff", b"HTTP/1.1 200 OK\r\n\r\n",
]  # fmt: skip
_STATUSES = ["204", "206", "301", "307", "401", "404", "503", "100", "103", "999", "20", "0"]
_RAW_INPUTS = [b"", SET, BEGUN + frame(DATA, END_STREAM, 1, b"data: x\n\n"), b"HTTP/1.1 200 OK\r\n\r\n"]


class HTTP2(HTTP):
    """As `HTTP`, over HTTP/2: the server takes the preface for a request, and sends these frames."""

    def __init__(self) -> None:
        super().__init__(_response, http2="prior-knowledge")


def seeds() -> list[bytes]:
    """Return inputs without defects, and raw ones."""
    bodies = [body_of(vector)[:200] for vector in VECTORS]
    whole = [bytes([index % 2, 1, *(index * step % 256 for step in range(1, 13))]) for index in range(len(bodies))]
    heads = [head.ljust(DECISIONS, b"\0") for head in whole]
    raw_inputs = [bytes([1, 0]).ljust(DECISIONS, b"\0") + wire for wire in _RAW_INPUTS]
    return [head + body for head, body in zip(heads, bodies, strict=True)] + raw_inputs


def _response(decide: Decisions) -> tuple[bytes, bytes | None]:
    """Return the bytes of a connection, and the body of its stream, or None if they are raw or have defects."""
    if decide.below(8) == 0:
        return decide.rest, None
    payload = body = decide.rest
    fields = [(":status", "200"), ("content-type", _MEDIA_TYPES[decide.below(4)])]
    if decide.yes():
        fields.append(("content-encoding", "gzip"))
        compressor = zlib.compressobj(wbits=31)
        payload = compressor.compress(body) + compressor.flush()
    if decide.yes():
        fields.append(("content-length", str(len(payload))))
    harmless = [_HARMLESS[decide.below(len(_HARMLESS))] for _ in range(3)]
    interim = frame(HEADERS, END_HEADERS, 1, Encoder().encode([(":status", "103")])) * decide.below(3)
    size, ending = 1 + decide.below(40), decide.below(3)
    parts = [payload[start : start + size] for start in range(0, len(payload), size)]
    padding = decide.below(3)
    frames = [_data(part, padding) for part in parts]
    if ending == 0:
        frames.append(frame(DATA, END_STREAM, 1))
    elif ending == 1:
        frames.append(frame(HEADERS, END_HEADERS | END_STREAM, 1, Encoder().encode([("x-end", "1")])))
    else:
        frames = [*frames[:-1], _data(parts[-1] if parts else b"", padding, END_STREAM)]
    wire = b"".join(
        [SET, interim, harmless[0], *_head(decide, fields), harmless[1], *frames[:1], harmless[2], *frames[1:]]
    )
    defects = max(0, decide.below(8) - 4)
    for _ in range(defects):
        wire = _with_defect(decide, wire)
    return wire, None if defects else body


def _head(decide: Decisions, fields: list[tuple[str, str]]) -> list[bytes]:
    """Return a head as HEADERS and CONTINUATION."""
    encoded = Encoder().encode(fields, huffman=decide.yes())
    cut = decide.below(256) % (len(encoded) + 1)
    if cut == len(encoded):
        return [frame(HEADERS, END_HEADERS, 1, encoded)]
    return [frame(HEADERS, 0, 1, encoded[:cut]), frame(CONTINUATION, END_HEADERS, 1, encoded[cut:])]


def _data(payload: bytes, padding: int, flags: int = 0) -> bytes:
    if not padding:
        return frame(DATA, flags, 1, payload)
    return frame(DATA, flags | PADDED, 1, bytes([padding]) + payload + bytes(padding))


def _with_defect(decide: Decisions, wire: bytes) -> bytes:
    kind, position = decide.below(5), (decide.below(256) * 256 + decide.below(256)) % (len(wire) + 1)
    if kind == 0:
        return wire[:position]
    if kind == 1:
        return wire[:position] + wire[position + 1 :]
    if kind == 2:
        return wire[:position] + bytes([decide.below(256)]) + wire[position + 1 :]
    if kind == 3:
        return wire[:position] + _TOKENS[decide.below(len(_TOKENS))] + wire[position:]
    status = Encoder().encode(
        [(":status", _STATUSES[position % len(_STATUSES)]), ("content-type", "text/event-stream")]
    )
    return SET + frame(HEADERS, END_HEADERS, 1, status) + wire[len(SET) :]
