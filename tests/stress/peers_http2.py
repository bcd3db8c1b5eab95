"""The table of hostile peers over HTTP/2, as `peers` has them over HTTP/1.1.

The server of the tests takes the preface of the client for a request, and answers it with the bytes of these replies,
which thus control all frames from the first one on. The client's request is stream 1.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from itertools import repeat
from typing import TYPE_CHECKING, Any

from hpack import Encoder

from sseclient_dual import SSEEventTooLargeError, SSEParsingError, SSEStatusError
from sseclient_dual.testing import CUT, HANG, RESET, Reply, Step, raw
from stress.gauge import MIB
from stress.peers import END, Peer, compressed, single_bytes
from support.http2 import frame
from support.waiting import silence

if TYPE_CHECKING:
    from collections.abc import Callable

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, ACK = 0x1, 0x4, 0x8, 0x1
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, ENABLE_PUSH = 3, 4, 5, 2
LARGEST = 16_384  # bytes of the payload of a frame
FIELDS = ((":status", "200"), ("content-type", "text/event-stream"))
OPTIONS: dict[str, Any] = {"http2": "prior-knowledge"}


def block(*fields: tuple[str, str]) -> bytes:
    """Return the encoded fields of a head."""
    return Encoder().encode(fields, huffman=False)


def head(*fields: tuple[str, str], status: str = "200", flags: int = END_HEADERS) -> bytes:
    """Return the head of a stream, with more fields."""
    return frame(HEADERS, flags, 1, block((":status", status), FIELDS[1], *fields))


def settings(**values: int) -> bytes:
    """Return SETTINGS."""
    numbers = {"streams": MAX_CONCURRENT_STREAMS, "window": INITIAL_WINDOW_SIZE, "frame": MAX_FRAME_SIZE, "push": 2}
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HL", numbers[name], value) for name, value in values.items()))


def data(payload: bytes, flags: int = 0) -> bytes:
    """Return a frame of the body."""
    return frame(DATA, flags, 1, payload)


def number(value: int) -> bytes:
    """Return a number of 32 bits."""
    return struct.pack(">L", value)


SET = settings() + frame(SETTINGS, ACK)
BEGUN = SET + head()
ENDED = data(END)
LAST_PIECE = frame(CONTINUATION, END_HEADERS, 1)
UNKNOWN_SETTING = frame(SETTINGS, 0, 0, bytes.fromhex("bebe00000009"))
UNKNOWN = frame(0xBE, 0xFF, 1, bytes(100))
POST = OPTIONS | {"data": bytes(MIB), "timeout": silence(0.1)}


def answer(*steps: Step) -> Callable[[int], Reply]:
    """Reply with the bytes of a connection, then keep silent."""
    return lambda _size: raw(*steps, HANG)


def flood(begin: bytes, repeated: bytes) -> Callable[[int], Reply]:
    """Reply with bytes, and repeat others until the client disconnects."""
    return lambda _size: raw(begin, repeat(repeated * max(1, LARGEST // len(repeated))))


def endless(line: bytes, *, begin: bytes = b"") -> Callable[[int], Reply]:
    """Reply with endless frames of body, whatever the windows are."""
    return flood(BEGUN + data(begin), data(line * (LARGEST // len(line))))


def bomb(line: bytes) -> Callable[[int], Reply]:
    """Reply with a compressed body that repeats `line` until the client disconnects."""
    begin, repeated, _, _ = compressed(line, 1)
    return flood(SET + head(("content-encoding", "gzip")) + data(begin), data(repeated))


def comments(size: int) -> Reply:
    """Reply with compressed comments, and an event after them."""
    begin, repeated, end, unpacked = compressed(b":" + b" " * 62 + b"\n", 1)
    body = begin + repeated * -(-size // unpacked) + end
    frames = [data(body[start : start + LARGEST]) for start in range(0, len(body), LARGEST)]
    return raw(SET + head(("content-encoding", "gzip")), *frames, HANG)


def header_bomb() -> bytes:
    """Return a head of 16 kB whose fields have 48 MB: one large field, which the others refer to."""
    field = b"\x40\x01x\x7f" + _continued(4000 - 127) + 4000 * b"x"  # to be added to the table
    return frame(HEADERS, END_HEADERS, 1, b"\x88" + field + b"\xbe" * 12_000)  # 62: the last one added


def large_field() -> bytes:
    """Return a head with a field of a megabyte."""
    return b"".join(pieces(block(*FIELDS) + b"\x00\x01x\x7f" + _continued(MIB - 127) + MIB * b"x", LARGEST))


def pieces(fields: bytes, size: int) -> list[bytes]:
    """Return a head in frames of this size."""
    parts = [fields[start : start + size] for start in range(0, len(fields), size)]
    return [frame(HEADERS, 0, 1, parts[0]), *(frame(CONTINUATION, 0, 1, part) for part in parts[1:]), LAST_PIECE]


def padded(whole: bytes) -> bytes:
    """Return a frame with padding."""
    return frame(whole[3], whole[4] | PADDED, 1, b"\xff" + whole[9:] + bytes(255))


def _continued(rest: int) -> bytes:
    """Return the bytes of a number that follow its first byte (RFC 7541, section 5.1)."""
    encoded = b""
    while rest >= 128:
        encoded += bytes([rest % 128 | 128])
        rest //= 128
    return encoded + bytes([rest])


_MALFORMED = {
    "DATA without a stream": frame(DATA, 0, 0, b"x"),
    "DATA of a stream that does not exist": frame(DATA, 0, 9, b"x"),
    "DATA of a stream of the server": frame(DATA, 0, 2, b"x"),
    "more padding than DATA": frame(DATA, PADDED, 1, b"\xffx"),
    "HEADERS without a stream": frame(HEADERS, END_HEADERS, 0, block((":status", "200"))),
    "HEADERS of a stream that does not exist": frame(HEADERS, END_HEADERS, 9, block((":status", "200"))),
    "HEADERS of a stream of the server": frame(HEADERS, END_HEADERS, 2, block((":status", "200"))),
    "more padding than HEADERS": frame(HEADERS, PADDED | END_HEADERS, 1, b"\xff\x88"),
    "CONTINUATION of nothing": frame(CONTINUATION, END_HEADERS, 1, b"\x88"),
    "HEADERS within HEADERS": 2 * frame(HEADERS, 0, 1, b"\x88"),
    "PING within HEADERS": frame(HEADERS, 0, 1, b"\x88") + frame(PING, 0, 0, bytes(8)),
    "RST_STREAM without a stream": frame(RST_STREAM, 0, 0, number(8)),
    "RST_STREAM that is too short": frame(RST_STREAM, 0, 1, b"\0\0\0"),
    "SETTINGS of a stream": frame(SETTINGS, 0, 1),
    "SETTINGS that are too short": frame(SETTINGS, 0, 0, b"\0\3\0\0\0"),
    "SETTINGS that acknowledge and set": frame(SETTINGS, ACK, 0, struct.pack(">HL", MAX_CONCURRENT_STREAMS, 9)),
    "a window that is too large": settings(window=2**31),
    "frames that are too small": settings(frame=1),
    "frames that are too large": settings(frame=2**24),
    "push that is neither on nor off": settings(push=2),
    "a push promise": frame(PUSH_PROMISE, END_HEADERS, 1, number(2) + block((":method", "GET"), (":path", "/"))),
    "PING of a stream": frame(PING, 0, 1, bytes(8)),
    "PING that is too short": frame(PING, 0, 0, bytes(7)),
    "GOAWAY that is too short": frame(GOAWAY, 0, 0, bytes(4)),
    "WINDOW_UPDATE by nothing": frame(WINDOW_UPDATE, 0, 0, number(0)),
    "WINDOW_UPDATE that is too short": frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"),
    "a window that overflows": 2 * frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1)),
    "a frame that is too long": frame(DATA, 0, 1, bytes(LARGEST + 1)),
    "a frame of 16 MB": b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "an index without a field": frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\x0f"),
    "a number without an end": frame(HEADERS, END_HEADERS, 1, b"\xff" + b"\xff" * 200),
    "a field that is cut": frame(HEADERS, END_HEADERS, 1, b"\x88\x40\x7f"),
    "a Huffman code that does not exist": frame(HEADERS, END_HEADERS, 1, b"\x40\x84\xff\xff\xff\xff\x01x"),
    "a table that is too large": frame(HEADERS, END_HEADERS, 1, b"\x3f" + _continued(2**30) + b"\x88"),
}
_HEADS = {
    "a head without a status": block(("content-type", "text/event-stream")),
    "a status that is not a number": block((":status", "two")),
    "a negative status": block((":status", "-200")),
    "a status of 10,000 digits": block((":status", "2" * 10_000)),
    "an empty status": block((":status", "")),
    "two statuses": block((":status", "200"), (":status", "204")),
    "a status after the fields": block(("x", "y"), (":status", "200")),
    "a pseudo-field that does not exist": block((":status", "200"), (":x", "y")),
    "a pseudo-field of requests": block((":status", "200"), (":path", "/")),
    "capitals in a name": block((":status", "200"), ("X-Y", "z")),
    "a field of HTTP/1.1": block((":status", "200"), ("transfer-encoding", "chunked")),
    "a line break in a value": block((":status", "200"), ("x", "y\r\nevil: 1")),
    "NUL in a value": block((":status", "200"), ("x", "y\0")),
    "an empty name": block((":status", "200"), ("", "y")),
}

BROKE = "violated HTTP/2"
LOST = "closed the connection|connection broke|cut short"
INVALID = f"{BROKE}|too large|invalid GOAWAY|invalid status"
PEERS = [
    # Not HTTP/2.
    Peer(
        "HTTP/1.1 in place of HTTP/2", answer(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), "not HTTP/2"
    ),
    Peer("another protocol in place of HTTP/2", answer(b"SSH-2.0-OpenSSH_9.6\r\n"), "not HTTP/2"),
    Peer("a frame before SETTINGS", answer(frame(PING, 0, 0, bytes(8))), "not HTTP/2"),
    Peer("endless bytes in place of HTTP/2", flood(b"", b"x"), "not HTTP/2", floods=True),
    # Silence.
    Peer("no SETTINGS", answer(), "no data arrived for 0.1 s", options={"timeout": silence(0.1)}),
    Peer("only SETTINGS", answer(SET), "no data arrived for 0.1 s", options={"timeout": silence(0.1)}),
    Peer(
        "no streams allowed",
        answer(settings(streams=0)),
        "no data arrived for 0.1 s",
        options={"timeout": silence(0.1)},
    ),
    Peer("a window that never opens", answer(settings(window=0)), "no data arrived", options=POST),
    # The order of frames.
    Peer("DATA before the head", answer(SET + ENDED), BROKE),
    Peer("trailers that end nothing", answer(BEGUN + frame(HEADERS, END_HEADERS, 1, block(("x", "y")))), BROKE),
    Peer("a second head", answer(BEGUN + head()), BROKE),
    Peer("more data than the length", answer(SET + head(("content-length", "3")) + ENDED), BROKE),
    Peer("less data than the length", answer(SET + head(("content-length", "99")) + data(END, END_STREAM)), BROKE),
    Peer("two lengths", answer(SET + head(("content-length", "1"), ("content-length", "2")) + ENDED), ""),
    # Ends.
    Peer("GOAWAY at once", answer(SET + frame(GOAWAY, 0, 0, number(0) + number(0))), r"NO_ERROR", each=2),
    Peer("GOAWAY as the first frame", answer(frame(GOAWAY, 0, 0, number(0) + number(0))), "not HTTP/2"),
    Peer("GOAWAY with an error", lambda _: raw(BEGUN + frame(GOAWAY, 0, 0, number(1) + number(11)), CUT), "ENHANCE"),
    Peer("GOAWAY with an unknown error", lambda _: raw(SET + frame(GOAWAY, 0, 0, number(1) + number(99)), CUT), "99"),
    *(
        Peer(
            f"a reset with {code:#x} after {len(begin)} bytes",
            answer(begin + frame(RST_STREAM, 0, 1, number(code))),
            "reset",
        )
        for begin in (SET, BEGUN)
        for code in (7, 8, 2**32 - 1)
    ),
    *(
        Peer(f"{len(sent)} bytes, then {end}", lambda _size, sent=sent, end=end: raw(sent, end), LOST)  # type: ignore[misc]
        for sent in (b"", SET[:5], SET, BEGUN[:-5], BEGUN + data(b"data: x\n\n")[:-5])
        for end in (CUT, RESET)
    ),
    # Floods.
    *(
        Peer(f"endless {name}", flood(BEGUN, repeated), "floods the connection", floods=True)
        for name, repeated in (
            ("PING", frame(PING, 0, 0, bytes(8))),
            ("answers to no PING", frame(PING, ACK, 0, bytes(8))),
            ("SETTINGS", settings(window=65_535)),
            ("empty SETTINGS", settings()),
            ("acknowledgements", frame(SETTINGS, ACK)),
            ("empty DATA", data(b"")),
            ("padding", frame(DATA, PADDED, 1, b"\xff" + bytes(255))),
            ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, number(1))),
            ("PRIORITY", frame(PRIORITY, 0, 1, bytes(5))),
            ("unknown frames", UNKNOWN),
            ("GOAWAY", frame(GOAWAY, 0, 0, number(1) + number(0))),
        )
    ),
    Peer("endless resets", flood(BEGUN, frame(RST_STREAM, 0, 1, number(8))), "reset"),
    Peer("endless CONTINUATION", flood(SET + head(flags=0), frame(CONTINUATION, 0, 1, b"\x88")), BROKE, floods=True),
    Peer("endless empty CONTINUATION", flood(SET + head(flags=0), frame(CONTINUATION, 0, 1)), BROKE, floods=True),
    Peer("endless interim heads", flood(SET, head(status="103")), "too many interim responses", floods=True),
    Peer("a header bomb", answer(SET + header_bomb()), BROKE, floods=True),
    Peer("a field of a megabyte", answer(SET + large_field()), BROKE, floods=True),
    # The body.
    Peer("a compression bomb of comments over HTTP/2", comments, floods=True),
    Peer(
        "a compression bomb of one line over HTTP/2", bomb(b":"), "larger than", SSEEventTooLargeError, 1, floods=True
    ),
    # It ignores the windows, too, which a client on a busy machine may notice first.
    Peer(
        "an endless line over HTTP/2",
        endless(b"x", begin=b"data: "),
        "larger than|ignored the window",
        SSEEventTooLargeError,
        1,
        floods=True,
    ),
    Peer("not an event stream over HTTP/2", answer(BEGUN + data(b"<html>\n")), "check that", SSEParsingError, 2),
    Peer("chunks in HTTP/2", answer(BEGUN + data(b"9\r\ndata: x\n\n\r\n")), "check that", SSEParsingError, 2),
    Peer("an error over HTTP/2", answer(SET + head(status="503") + data(b"busy", END_STREAM)), "503", SSEStatusError),
    # Unusual, and allowed.
    Peer("a stream over HTTP/2 in single bytes", lambda _size: raw(single_bytes(BEGUN, ENDED), HANG)),
    Peer("unknown frames", answer(UNKNOWN_SETTING, UNKNOWN, BEGUN, UNKNOWN, ENDED)),
    Peer("priorities", answer(BEGUN, frame(PRIORITY, 0, 1, bytes(5)), frame(PRIORITY, 0, 99, bytes(5)), ENDED)),
    Peer("padding", answer(SET, padded(head()), padded(ENDED))),
    Peer(
        "padding at the end, and a length",
        answer(SET, head(("content-length", str(len(END)))), padded(data(END, END_STREAM))),
    ),
    Peer("a head in pieces", answer(SET, *pieces(block(*FIELDS), 1), ENDED)),
    Peer("RST_STREAM of a stream that does not exist", answer(BEGUN, frame(RST_STREAM, 0, 9, number(8)), ENDED)),
    Peer("GOAWAY, and the stream goes on", answer(BEGUN, frame(GOAWAY, 0, 0, number(1) + number(0)), ENDED)),
]
MALFORMED = [  # before the head, and after it
    *(Peer(f"{name}, first", answer(SET + malformed), INVALID) for name, malformed in _MALFORMED.items()),
    *(Peer(f"{name}, in the body", answer(BEGUN + malformed), INVALID) for name, malformed in _MALFORMED.items()),
    *(Peer(name, answer(SET + frame(HEADERS, END_HEADERS, 1, fields)), INVALID) for name, fields in _HEADS.items()),
]
PEERS, MALFORMED = (
    [replace(peer, options=OPTIONS | dict(peer.options)) for peer in peers] for peers in (PEERS, MALFORMED)
)
