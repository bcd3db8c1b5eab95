"""The table of hostile peers: what each plays, and what a client has to make of it.

`test_hostile.py` plays all of it. `make soak ARGS=hostile` plays the peers that flood, for gigabytes each, with
events as large as they may be by default, and sees the memory stay flat.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
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
from stress.gauge import MIB, Gauge
from support.streams import HEAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

FLAT = 24  # MiB: what a client may need, besides for its largest event, whatever comes
DAY = 86_400_000  # ms
BLOCK = 64 * 1024
DEFAULT_LIMIT = 64  # MiB of an event: what is allowed by default
END = b"\n\ndata: end\n\n"


@dataclass(frozen=True)
class Peer:
    """A server that means no good.

    :param name: what it does.
    :param play: makes the reply to each request, given the bytes that a flood shall have; one that the client has
        to end itself has no end.
    :param says: a regular expression that the error's message matches; None: there is no error, and an event
        ``end`` arrives after all that, as if nothing had been.
    :param error: what kind of error it is.
    :param requests: how many are sent with reconnecting on before the error is raised: one where another would be
        pointless; None: the attempts go on, each after a longer wait.
    :param options: what the client asks for besides.
    :param floods: whether to measure what memory it takes.
    :param largest: MiB of the largest event that it sends, where that is what takes the memory.
    :param held: whether the consumer takes nothing until nothing moves any more.
    """

    name: str
    play: Callable[[int], Reply]
    says: str | None = None
    error: type[SSEConnectionError] = SSEConnectionError
    requests: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    floods: bool = False
    held: bool = False
    largest: int = 0

    def memory(self, limit: int) -> float:
        """Return how many MiB the client may need for it: a few, and a few times its largest event.

        :param limit: MiB that an event may have.
        """
        return FLAT + 5.0 * (limit if self.error is SSEEventTooLargeError else self.largest)


# -- what they play


def flood(block: bytes, size: int) -> Iterator[bytes]:
    """Send `size` bytes at the least, which are `block` over and over."""
    block *= max(1, BLOCK // len(block))
    for _ in range(-(-size // len(block))):
        yield block


def endless(block: bytes) -> Iterator[bytes]:
    """Send until the client has had enough."""
    block *= max(1, BLOCK // len(block))
    while True:
        yield block


def events(*steps: Step, **options: Any) -> Callable[[int], Reply]:
    """Play a stream."""
    return lambda _size: stream(*steps, HANG, **options)


def lines(line: bytes) -> Callable[[int], Reply]:
    """Play a stream of one line over and over."""
    return lambda size: stream(flood(line, size), END, HANG)


def no_end(*begin: Step, block: bytes, head: bytes | None = None) -> Callable[[int], Reply]:
    """Play a stream that begins so and goes on for ever; or, with a head, all that comes after that."""
    if head is not None:
        return lambda _size: raw(head, *begin, endless(block))
    return lambda _size: stream(*begin, endless(block))


def answer(*steps: Step) -> Callable[[int], Reply]:
    """Play bytes as they are, and then nothing."""
    return lambda _size: raw(*steps, HANG)


def ids(block: bytes) -> Callable[[int], Reply]:
    """Play blocks with one id of half a mebibyte each, another one each time."""

    def blocks(size: int) -> Iterator[bytes]:
        for number in range(max(128, 2 * size // MIB)):  # what adds up shows from 64 MiB on
            yield b"id: %d%b" % (number, MIB // 2 * b"i") + block

    return lambda size: stream(blocks(size), END, HANG)


def large_events(size: int) -> Reply:
    """Play events that are larger than a queue may be."""
    return stream(flood(b"data: " + 9 * MIB * b"x" + b"\n\n", size), END, HANG)


@lru_cache
def compressed(line: bytes, layers: int) -> tuple[bytes, bytes, bytes, int]:
    """Return the beginning of a bomb, what may follow it any number of times, its end, and what one makes."""
    begin, block, end, size = b"", line * (MIB // len(line)), END, MIB
    for layer in range(layers):
        compressor = zlib.compressobj(9, wbits=31)
        if layer:  # more of the same, for there to be something to compress
            block, size = 16 * block, 16 * size
        # Behind a full flush nothing refers to what was before it, so that this may follow itself.
        begin, block, end = (
            compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH) for data in (begin, block, end)
        )
    return begin, block, end, size


def bomb(line: bytes, layers: int = 1, *, ends: bool = True) -> Callable[[int], Reply]:
    """Play a stream of `line` over and over, compressed as often as there are layers."""

    def play(size: int) -> Reply:
        begin, block, end, makes = compressed(line, layers)
        headers = {"Content-Encoding": ", ".join(["gzip"] * layers)}
        blocks = repeat(block, -(-size // makes)) if ends else repeat(block)
        return stream(begin, blocks, end, HANG, headers=headers)

    return play


def refuse_with_bomb(_size: int) -> Reply:
    """Play a refusal whose body is 64 MiB of nothing."""
    begin, block, end, _ = compressed(b"\0", 1)
    return status(503, begin + 64 * block + end, headers={"Content-Encoding": "gzip"})


def singly(*parts: bytes) -> Iterator[Step]:
    """Send a byte at a time, so that each arrives alone."""
    for byte in b"".join(parts):
        yield bytes([byte])
        yield pause(0.0005)


def of_head(line: bytes) -> Callable[[int], Reply]:
    """Play a stream to the end of the connection, with a header line more."""
    return answer(HEAD, line, b"\r\n\r\n", END)


PEERS = [
    # No HTTP, or too much of it.
    Peer("speaks something else", answer(b"SSH-2.0-OpenSSH_9.6\r\n"), r"not HTTP \(BadStatusLine\)"),
    Peer("a status that is no number", answer(b"HTTP/1.1 two hundred\r\n\r\n"), "not HTTP"),
    Peer("a negative status", answer(b"HTTP/1.1 -200 OK\r\n\r\n"), "not HTTP"),
    Peer("a status of 10,000 digits", answer(b"HTTP/1.1 " + b"2" * 10_000 + b" OK\r\n\r\n"), "not HTTP"),
    Peer("a version that is none", answer(b"HTTP/9.9 200 OK\r\n\r\n"), r"not HTTP \(UnknownProtocol\)"),
    Peer("a status line with no end", no_end(block=b"H", head=b"HTTP/1.1 200 "), "head .* too large", floods=True),
    Peer("a header line with no end", no_end(block=b"x", head=HEAD + b"X: "), "head .* too large", floods=True),
    Peer("headers with no end", no_end(block=b"X: y\r\n", head=HEAD), "head .* too large", floods=True),
    Peer(
        "interim answers with no end",
        no_end(block=b"HTTP/1.1 100 Continue\r\n\r\n", head=b""),
        "head .* too large",
        floods=True,
    ),
    Peer("accepts and never answers", answer(), "no data arrived for 0.1 s", options={"timeout": 0.1}),
    Peer("a head that is cut", lambda _size: raw(HEAD, CUT), "cut short"),
    Peer("contradicting lengths", of_head(b"Content-Length: 1, 2"), "contradict each other"),
    Peer("a length of 10,000 digits", of_head(b"Content-Length: " + b"9" * 10_000)),
    Peer("a negative length", of_head(b"Content-Length: -1")),
    Peer(
        "control characters in the reason",
        lambda _size: status(503, reason="\x1b[2J \r ok" + "!" * 1000),
        r"with status 503 \\u001b\[2J \\r ok!{1,80}…, not 200",
        SSEStatusError,
    ),
    Peer(
        "control characters in the media type",
        lambda _size: status(200, content_type="text/\x1b[2J" + "\x01" * 1000),
        r"media type 'text/\\u001b\[2j(\\u0001){1,12}.{0,5}…', not",
        SSEContentTypeError,
        1,
    ),
    Peer("a bomb as the body of a refusal", refuse_with_bomb, "status 503", SSEStatusError, floods=True),
    # Redirects.
    Peer("redirects by no Location", lambda _size: redirect(None), "has no Location header; check", requests=1),
    *(
        Peer(f"redirects to {location[:20]!r}", lambda _size, to=location: redirect(to), says, requests=1)  # type: ignore[misc]
        for location, says in {
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
        Peer(f"redirects to itself by {location!r}", lambda _size, to=location: redirect(to), "20 times", requests=21)  # type: ignore[misc]
        for location in ("/", "http:///", "/\rX-Evil: 1", "/\x00\x1b", "../?\t")
    ),
    # Chunks.
    *(
        Peer(f"a chunk of size {size[:20]!r}", events(": ok\n", wire(size + b"\r\n"), END), "invalid chunked framing")
        for size in (b"-5", b"+5", b"zz", b"0x5", b"", b" ", b"1_0", b"f" * 17, "\u0665".encode())
    ),
    Peer("a chunk that is never whole", lambda _size: stream(wire(b"7fffffffffffffff\r\n: x\n"), CUT), "cut short"),
    Peer("a chunk that is longer than it says", events(wire(b"3\r\n: x\n\n\r\n")), "invalid chunked framing"),
    Peer(
        "a chunk extension with no end",
        no_end(wire("1;"), block=b"x", head=None),
        "invalid chunked framing",
        floods=True,
    ),
    Peer(
        "trailers with no end",
        no_end(b"0\r\n", block=b"X: y\r\n", head=HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
        "invalid chunked framing",
        floods=True,
    ),
    # Compression.
    Peer("says gzip and sends none", events("data: x\n\n" * 9, headers={"Content-Encoding": "gzip"}), "encoding"),
    Peer("a bomb of comments", bomb(b":" + b" " * 62 + b"\n"), floods=True),
    Peer("a bomb in a bomb", bomb(b":" + b" " * 62 + b"\n", 2), floods=True),
    Peer("a bomb of one line", bomb(b":", ends=False), "larger than", SSEEventTooLargeError, 1, floods=True),
    # Lines.
    *(
        Peer(name, no_end(begin, block=block), "larger than", SSEEventTooLargeError, 1, floods=True)
        for name, begin, block in (
            ("a line with no end", b"data: ", b"x"),
            ("a comment with no end", b": ", b"x"),
            ("bad UTF-8 with no end", b"data: ", b"\xff"),
            ("an event of short lines with no end", b"", b"data:ab\n"),
            ("an event of empty lines with no end", b"", b"data\n"),
        )
    ),
    Peer("comments and nothing else", lines(b": a comment of some length\n"), floods=True),
    Peer("blank lines and nothing else", lines(b"\r\n"), floods=True),
    Peer("a million fields in one event", lines(b"event: x\nid: y\nretry: 1000\nz: z\n"), floods=True),
    Peer("events with large ids", ids(b"\ndata: x\n\n"), floods=True, held=True),
    Peer("large ids before the events", ids(b"\n\ndata: x\n\n"), floods=True, held=True),
    Peer("more events than are taken", lines(b"event: x\ndata: " + 2000 * b"y" + b"\n\n"), floods=True, held=True),
    Peer("events larger than the queue", large_events, floods=True, held=True, largest=9),
    Peer("no event stream", events("<html>\n"), "check that the URL serves", SSEParsingError, 2),
    Peer("a retry that is no number", events("retry: \u0663\n"), "not in the event-stream", SSEParsingError, 2),
    Peer(
        "control characters in a bad line",
        events("\x1b[2J" + "\U000e0001" * 80 + "\n"),
        "check that the URL serves",
        SSEParsingError,
        2,
    ),
    # Drop by drop.
    Peer("a byte at a time", lambda _size: raw(singly(HEAD, b"\r\n", END), HANG)),
    Peer(
        "a chunk a byte at a time",
        lambda _size: raw(
            singly(HEAD, b"Transfer-Encoding: chunked\r\n\r\n", b"".join(b"1\r\n%c\r\n" % byte for byte in END)), HANG
        ),
    ),
]


# -- for minutes


def main(arguments: list[str]) -> int:
    """Play the peers that flood; return 0 if each kept what the table promises."""
    parser = argparse.ArgumentParser(description="Play the hostile peers that flood, for long.")
    parser.add_argument("--size", type=int, default=1024, help="MiB of each flood")
    parser.add_argument("--only", default="", help="the peers whose name has this in it")
    given = parser.parse_args(arguments)
    peers = [peer for peer in PEERS if peer.floods and given.only in peer.name]
    tally = []
    broken = 0
    with Gauge() as gauge:
        for number, peer in enumerate(peers, 1):
            print(f"{number}/{len(peers)} {peer.name} ...", flush=True)
            begin = time.monotonic()
            cost, requests = gauge.measure(peer, given.size * MIB, DEFAULT_LIMIT)
            allowed = peer.memory(DEFAULT_LIMIT)
            as_said = re.search(peer.says or "^$", cost.error) is not None
            all_fed = peer.says is not None or cost.bytes >= given.size * MIB
            kept = cost.memory < allowed and requests == 1 and as_said and all_fed
            broken += not kept
            tally.append(
                f"{'kept' if kept else 'BROKEN'}: {peer.name}: {cost.bytes / MIB:.1f} MiB, events: {cost.events}, "
                f"requests: {requests}, {cost.memory:.1f} of {allowed:.0f} MiB, {time.monotonic() - begin:.0f} s; "
                + (cost.error[:100] or "went on")
            )
    print(*tally, f"{len(peers)} floods, {broken} broken", sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
