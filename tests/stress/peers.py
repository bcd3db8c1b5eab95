"""The table of hostile peers over HTTP/1.1: the response of each, and the expected reaction of a client."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Any

from sseclient_dual import (
    SSEConnectionError,
    SSEContentTypeError,
    SSEEventTooLargeError,
    SSEParsingError,
    SSEStatusError,
)
from sseclient_dual.testing import CUT, HANG, Reply, Step, pause, raw, redirect, status, stream, wire
from stress.gauge import MIB
from support.streams import HEAD
from support.waiting import silence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

FLAT = 24  # MiB that a client may need in addition to its largest event
DAY = 86_400_000  # ms
BLOCK = 64 * 1024
END = b"\n\ndata: end\n\n"


@dataclass(frozen=True)
class Peer:
    """A hostile server.

    :param name: a description of the attack.
    :param reply: returns the reply to a request, given the length of a flood in bytes. A flood that the client must
        stop itself is endless.
    :param message: a regular expression for the error message; None: no error, and the event ``end`` arrives last.
    :param error: the class of the error.
    :param requests: the number of requests, with reconnecting on, until the error is raised: 1 if a retry is
        pointless; None: the attempts continue with growing delays.
    :param options: further arguments for the client.
    :param floods: True if the test measures memory use.
    :param largest: the size in MiB of the largest event, if that determines the memory use.
    :param held: True if the consumer starts only after the client stops reading.
    :param each: the number of requests in an attempt.
    """

    name: str
    reply: Callable[[int], Reply]
    message: str | None = None
    error: type[SSEConnectionError] = SSEConnectionError
    requests: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    floods: bool = False
    held: bool = False
    largest: int = 0
    each: int = 1

    def memory(self, limit: int) -> float:
        """Return the MiB that the client may need: a constant, and a multiple of the largest event.

        :param limit: maximum event size in MiB.
        """
        return FLAT + 5.0 * (limit if self.error is SSEEventTooLargeError else self.largest)


# -- responses


def flood(block: bytes, size: int) -> Iterator[bytes]:
    """Repeat `block` until at least `size` bytes are sent."""
    block *= max(1, BLOCK // len(block))
    for _ in range(-(-size // len(block))):
        yield block


def endless(block: bytes) -> Iterator[bytes]:
    """Repeat `block` until the client disconnects."""
    block *= max(1, BLOCK // len(block))
    while True:
        yield block


def events(*steps: Step, **options: Any) -> Callable[[int], Reply]:
    """Reply with a stream."""
    return lambda _size: stream(*steps, HANG, **options)


def lines(line: bytes) -> Callable[[int], Reply]:
    """Reply with a stream that repeats one line."""
    return lambda size: stream(flood(line, size), END, HANG)


def endless_body(*begin: Step, block: bytes, head: bytes | None = None) -> Callable[[int], Reply]:
    """Reply with an endless body; with `head`, send raw bytes in place of a framed stream."""
    if head is not None:
        return lambda _size: raw(head, *begin, endless(block))
    return lambda _size: stream(*begin, endless(block))


def answer(*steps: Step) -> Callable[[int], Reply]:
    """Reply with raw bytes, then keep silent."""
    return lambda _size: raw(*steps, HANG)


def ids(block: bytes) -> Callable[[int], Reply]:
    """Reply with blocks that each begin with a different id of half a mebibyte."""

    def blocks(size: int) -> Iterator[bytes]:
        for number in range(max(128, 2 * size // MIB)):  # growth is visible from 64 MiB on
            yield b"id: %d%b" % (number, MIB // 2 * b"i") + block

    return lambda size: stream(blocks(size), END, HANG)


def large_events(size: int) -> Reply:
    """Reply with events larger than the limit of the queue."""
    return stream(flood(b"data: " + 9 * MIB * b"x" + b"\n\n", size), END, HANG)


@lru_cache
def compressed(line: bytes, layers: int) -> tuple[bytes, bytes, bytes, int]:
    """Return a compression bomb: its beginning, a repeatable block, its end, and the unpacked size of the block."""
    begin, block, end, size = b"", line * (MIB // len(line)), END, MIB
    for layer in range(layers):
        compressor = zlib.compressobj(9, wbits=31)
        if layer:  # a longer block, so that the next layer has something to compress
            block, size = 16 * block, 16 * size
        # After a full flush no data refers to earlier data, so the block may be repeated.
        begin, block, end = (
            compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH) for data in (begin, block, end)
        )
    return begin, block, end, size


def bomb(line: bytes, layers: int = 1, *, ends: bool = True) -> Callable[[int], Reply]:
    """Reply with a stream that repeats `line`, compressed `layers` times."""

    def reply(size: int) -> Reply:
        begin, block, end, unpacked_size = compressed(line, layers)
        headers = {"Content-Encoding": ", ".join(["gzip"] * layers)}
        blocks = repeat(block, -(-size // unpacked_size)) if ends else repeat(block)
        return stream(begin, blocks, end, HANG, headers=headers)

    return reply


def error_with_bomb(_size: int) -> Reply:
    """Reply with status 503 and a compressed body of 64 MiB of zeros."""
    begin, block, end, _ = compressed(b"\0", 1)
    return status(503, begin + 64 * block + end, headers={"Content-Encoding": "gzip"})


def single_bytes(*parts: bytes) -> Iterator[Step]:
    """Send one byte at a time, so that each arrives separately."""
    for byte in b"".join(parts):
        yield bytes([byte])
        yield pause(0.0005)


def with_header(line: bytes) -> Callable[[int], Reply]:
    """Reply with a stream that has an additional header line."""
    return answer(HEAD, line, b"\r\n\r\n", END)


PEERS = [
    # Invalid or oversized HTTP heads.
    Peer("another protocol", answer(b"SSH-2.0-OpenSSH_9.6\r\n"), r"not HTTP \(BadStatusLine\)"),
    Peer("a status that is not a number", answer(b"HTTP/1.1 two hundred\r\n\r\n"), "not HTTP"),
    Peer("a negative status", answer(b"HTTP/1.1 -200 OK\r\n\r\n"), "not HTTP"),
    Peer("a status of 10,000 digits", answer(b"HTTP/1.1 " + b"2" * 10_000 + b" OK\r\n\r\n"), "not HTTP"),
    Peer("an unknown HTTP version", answer(b"HTTP/9.9 200 OK\r\n\r\n"), r"not HTTP \(UnknownProtocol\)"),
    Peer("an endless status line", endless_body(block=b"H", head=b"HTTP/1.1 200 "), "head .* too large", floods=True),
    Peer("an endless header line", endless_body(block=b"x", head=HEAD + b"X: "), "head .* too large", floods=True),
    Peer("endless headers", endless_body(block=b"X: y\r\n", head=HEAD), "head .* too large", floods=True),
    Peer(
        "endless interim responses",
        endless_body(block=b"HTTP/1.1 100 Continue\r\n\r\n", head=b""),
        "head .* too large",
        floods=True,
    ),
    Peer("no response after accepting", answer(), "no data arrived for 0.1 s", options={"timeout": silence(0.1)}),
    Peer("a head that is cut", lambda _size: raw(HEAD, CUT), "cut short"),
    Peer("contradicting content lengths", with_header(b"Content-Length: 1, 2"), "contradict each other"),
    Peer("a content length of 10,000 digits", with_header(b"Content-Length: " + b"9" * 10_000)),
    Peer("a negative content length", with_header(b"Content-Length: -1")),
    Peer(
        "control characters in the reason",
        lambda _size: status(503, reason="\x1b[2J \r ok" + "!" * 1000),
        r"with status 503 \\u001b\[2J +ok!{1,80}…, not 200",
        SSEStatusError,
    ),
    Peer(
        "control characters in the media type",
        lambda _size: status(200, content_type="text/\x1b[2J" + "\x01" * 1000),
        r"media type 'text/\\u001b\[2j(\\u0001){1,12}.{0,5}…', not",
        SSEContentTypeError,
        1,
    ),
    Peer(
        "an endless JSON answer",
        lambda _size: stream(endless(b'["a",'), content_type="application/json"),
        "media type 'application/json'",
        SSEContentTypeError,
        1,
        {"max_event_size": 4 * MIB, "headers": {"Accept": "application/json"}},
        floods=True,
        largest=4,
    ),
    Peer("a compression bomb as an error body", error_with_bomb, "status 503", SSEStatusError, floods=True),
    # Redirects.
    Peer("a redirect without Location", lambda _size: redirect(None), "has no Location header; check", requests=1),
    *(
        Peer(f"a redirect to {location[:20]!r}", lambda _size, to=location: redirect(to), message, requests=1)  # type: ignore[misc]
        for location, message in {
            "file:///etc/passwd": "does not lead to an HTTP server; check",
            "javascript:alert(1)": "does not lead to an HTTP server; check",
            "data:text/event-stream,data:x": "does not lead to an HTTP server; check",
            "unix:/run/docker.sock": "does not lead to an HTTP server; check",
            "ftp://127.0.0.1/": "does not lead to an HTTP server; check",
            "": "has no Location header; check",
            "http://[::1": "is not a URL; check",
            "http://127.0.0.1:99999/": "is not a URL; check",
        }.items()
    ),
    *(
        Peer(f"a redirect to itself: {location!r}", lambda _size, to=location: redirect(to), "20 times", requests=21)  # type: ignore[misc]
        for location in ("/", "http:///", "/\rX-Evil: 1", "/\x00\x1b", "../?\t")
    ),
    # Chunks.
    *(
        Peer(f"a chunk of size {size[:20]!r}", events(": ok\n", wire(size + b"\r\n"), END), "invalid chunked framing")
        for size in (b"-5", b"+5", b"zz", b"0x5", b"", b" ", b"1_0", b"f" * 17, "\u0665".encode())
    ),
    Peer("an incomplete chunk", lambda _size: stream(wire(b"7fffffffffffffff\r\n: x\n"), CUT), "cut short"),
    Peer("a chunk longer than its size", events(wire(b"3\r\n: x\n\n\r\n")), "invalid chunked framing"),
    Peer(
        "an endless chunk extension",
        endless_body(wire("1;"), block=b"x", head=None),
        "invalid chunked framing",
        floods=True,
    ),
    Peer(
        "endless trailers",
        endless_body(b"0\r\n", block=b"X: y\r\n", head=HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
        "invalid chunked framing",
        floods=True,
    ),
    # Compression.
    Peer(
        "gzip encoding without gzip data", events("data: x\n\n" * 9, headers={"Content-Encoding": "gzip"}), "encoding"
    ),
    Peer("a compression bomb of comments", bomb(b":" + b" " * 62 + b"\n"), floods=True),
    Peer("a compression bomb in two layers", bomb(b":" + b" " * 62 + b"\n", 2), floods=True),
    Peer(
        "a compression bomb of one line",
        bomb(b":", ends=False),
        "larger than",
        SSEEventTooLargeError,
        1,
        floods=True,
    ),
    # Lines.
    *(
        Peer(name, endless_body(begin, block=block), "larger than", SSEEventTooLargeError, 1, floods=True)
        for name, begin, block in (
            ("an endless line", b"data: ", b"x"),
            ("an endless comment", b": ", b"x"),
            ("endless invalid UTF-8", b"data: ", b"\xff"),
            ("an endless event of short lines", b"", b"data:ab\n"),
            ("an endless event of empty lines", b"", b"data\n"),
        )
    ),
    Peer("only comments", lines(b": a comment of some length\n"), floods=True),
    Peer("only blank lines", lines(b"\r\n"), floods=True),
    Peer("a million fields in one event", lines(b"event: x\nid: y\nretry: 1000\nz: z\n"), floods=True),
    Peer("events with large ids", ids(b"\ndata: x\n\n"), floods=True, held=True),
    Peer("large ids before the events", ids(b"\n\ndata: x\n\n"), floods=True, held=True),
    Peer("more events than are consumed", lines(b"event: x\ndata: " + 2000 * b"y" + b"\n\n"), floods=True, held=True),
    Peer("events larger than the queue", large_events, floods=True, held=True, largest=9),
    Peer("not an event stream", events("<html>\n"), "check that the URL serves", SSEParsingError, 2),
    Peer("a retry that is not a number", events("retry: \u0663\n"), "not in the event-stream", SSEParsingError, 2),
    Peer(
        "control characters in a bad line",
        events("\x1b[2J" + "\U000e0001" * 80 + "\n"),
        "check that the URL serves",
        SSEParsingError,
        2,
    ),
    # One byte at a time.
    Peer("a stream in single bytes", lambda _size: raw(single_bytes(HEAD, b"\r\n", END), HANG)),
    Peer(
        "chunks in single bytes",
        lambda _size: raw(
            single_bytes(
                HEAD, b"Transfer-Encoding: chunked\r\n\r\n", b"".join(b"1\r\n%c\r\n" % byte for byte in END)
            ),
            HANG,
        ),
    ),
]
