"""The compiled core against the pure code: the same input must have the same result, whatever it is.

An input begins with a byte for each decision; the rest is an event stream, or a body with chunked framing. `inputs`
makes them of fragments that are often valid, because a stream of random bytes ends at the first line.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any

from support.implementations import Implementation, load
from support.parsing import cut, every_byte

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DECISIONS = 7
_BLANK_LINES = re.compile(rb"(?<=\n\n)|(?<=\r\n\r\n)|(?<=\r\r)")
_LONGEST_BY_BYTE = 50  # bytes; more would take most of the time
_LINES_TO_JOIN = 2  # instead of thousands, so that short streams test it


class Speedups:
    """Checks an input with both implementations.

    :raises ImportError: the compiled core is not installed.
    """

    def __init__(self) -> None:
        self._both = load(compiled=False), load(compiled=True)

    def __call__(self, data: bytes) -> None:
        decisions, rest = data[:_DECISIONS].ljust(_DECISIONS, b"\0"), data[_DECISIONS:]
        if decisions[0] % 4 == 1:
            self._chunks(decisions, rest)
        else:
            self._parser(decisions, rest)

    def _parser(self, decisions: bytes, body: bytes) -> None:
        """Feed a stream, perhaps once more to the same parsers, and compare all that a caller can see."""
        kind, flags, more, limit, *offsets = decisions
        strict, comments, ignored, limited, toggled, joined, again, cleanly = (
            bool(flags >> bit & 1) for bit in range(8)
        )
        options: dict[str, Any] = {"strict": bool(strict), "comments": bool(comments)}
        if limited:
            options["max_event_size"] = limit
        if more & 1:
            options["last_event_id"] = "known"
        parsers = [both.parser.EventStreamParser(**options) for both in self._both]
        make: Any = (bytes, bytes, bytes, bytes, bytes, bytearray, memoryview, bytes)[more >> 1 & 7]
        for parser in parsers:
            parser.ignored = bool(ignored)
            if more >> 4 & 1:
                parser.origin = "https://example.com"
        many = self._both[0].parser._MANY_LINES
        for way in [kind >> 2, kind >> 4] if again else [kind >> 2]:
            _set_many_lines(self._both, _LINES_TO_JOIN if joined else many)
            for piece in _pieces(body, way, offsets):
                if _feed(parsers, make(piece)):
                    _feed(parsers, make(piece))  # raises the error again
                    for parser in parsers:
                        parser.reset()
                if toggled:
                    for parser in parsers:
                        parser.comments, parser.ignored = parser.ignored, not parser.comments
            _set_many_lines(self._both, many)
            _end(parsers, "finish" if cleanly else "reset")

    def _chunks(self, decisions: bytes, wire: bytes) -> None:
        """Feed a body with framing, up to its end or the first error."""
        kind, _, _, _, *offsets = decisions
        pure, compiled = (both.chunks.Chunks() for both in self._both)
        for block in _pieces(wire, kind >> 2, offsets):
            expected, actual = pure.feed(block), compiled.feed(block)
            assert actual == expected, (actual, expected)
            states = [(chunks.last, chunks.stopped, chunks.broken) for chunks in (compiled, pure)]
            assert states[0] == states[1], states
            if pure.stopped:
                return


def _set_many_lines(both: Sequence[Implementation], count: int) -> None:
    for implementation in both:
        implementation.parser._MANY_LINES = count


def _pieces(body: bytes, way: int, offsets: Sequence[int]) -> list[bytes]:
    way %= 8
    if way <= 1:
        return [body]
    if way <= 4:
        return cut(body, [offset * (len(body) + 1) // 256 for offset in offsets])
    if way <= 6:
        return _BLANK_LINES.split(body)  # as a server sends that flushes each event
    return every_byte(body[:_LONGEST_BY_BYTE])


def _feed(parsers: Sequence[Any], piece: Any) -> bool:
    """Feed a piece to both parsers and compare the results; return True if that is an error."""
    results: list[Any] = []
    for parser in parsers:
        try:
            results.append(parser.feed(piece))
        except Exception as error:  # noqa: BLE001 - compared below
            results.append(facts(error))
    pure, compiled = results
    if not (pure or compiled):
        return False
    failed = isinstance(pure, tuple)
    if not failed:
        pure, compiled = [facts(item) for item in pure], [facts(item) for item in compiled]
    assert compiled == pure, (compiled, pure)
    return failed


def _end(parsers: Sequence[Any], way: str) -> None:
    states = [state(parser) for parser in parsers]
    assert states[1] == states[0], states
    results = []
    for parser in parsers:
        result = None
        try:
            getattr(parser, way)()
        except Exception as error:  # noqa: BLE001 - compared below
            result = facts(error)
            parser.reset()
        results.append((result, state(parser)))
    assert results[1] == results[0], results


def facts(item: Any) -> tuple[object, ...]:
    """Return all that a user can see of an item or an error."""
    name = type(item).__name__
    if name == "SSEEvent":
        return item.data, item.event, item.id, item.retry, item.last_event_id, item.origin
    if isinstance(item, Exception):
        return name, str(item), getattr(item, "line", None)
    return name, repr(item)


def state(parser: Any) -> tuple[object, ...]:
    """Return all that a user can see of a parser."""
    error = parser.error and facts(parser.error)
    return (
        error, parser.last_event_id, parser.origin, parser.retry,
        parser.comments_seen, parser.ignored_seen, parser.ids_seen,
    )  # fmt: skip


# -- inputs

_LINE_ENDS = [b"\n"] * 6 + [b"\n\n"] * 8 + [b"\r\n", b"\r\n\r\n", b"\r", b"\r\r", b""]
_LINES = [
    *[b"data: x", b"data: {}", b"data: a: b", b"data: ", b"data:", b"data", b"data:x", b"data:  x ", b"data: \0"] * 4,
    *[b"data: " + text.encode() for text in ("é", "日本語", "😀", "\ufffd", "\x85\u2028\x0b", "\ufeff")] * 2,
    *[b"data: " + size * character for size in (20, 63, 64, 65, 200, 400) for character in (b"y", b"\xff")],
    *[b"event: e", b"event: ", b"event", b"event:e", b"event: \xc3\xa9"] * 3,
    *[b"id: 1", b"id: 22", b"id: ", b"id", b"id:3", b"id: a\0", b"id: \xe2\x82\xac"] * 3,
    *[b"retry: 10", b"retry: 0", b"retry:7", b"retry: 007"] * 3,
    *[b"retry: " + digits * b"9" for digits in (15, 16, 17, 30, 300)],
    *[b": comment", b":", b": \xff", b":\0"] * 3,
    *[b"unknown: x", b"a-b_c.d: x", b"datax: y", b"Data: y"],
    b"foo", b"data : x", b"retry: x", b"retry:", b"retry", b"retry: \xd9\xa3", b"retry:  1", b"{", b"<html>", b"[1]",
    b"\xef\xbb\xbf", b"\xef\xbb", b"\xef\xbb\xbfdata: x", b"data: \xff", b"data: \xe2\x82", b"\xed\xa0\x80",
    b"\xf0\x9f", b"da", b"ta: x", b"da\xffta: x", b"i", b"d: 1", b" ", b"x" * 70,
]  # fmt: skip
_DATA = [
    b"x", b"ab", b"data: x\n\n", b"\r\n", b"a\r\nb", b"\n", b"y" * 15, b"y" * 16, b"y" * 100, b"1\r\nx\r\n", b"\0",
]  # fmt: skip
_SIZE_LINES = [
    *[b"%x\r\n"] * 12, b"%X\r\n", b"0%x\r\n", b"%x;a=b\r\n", b"%x \r\n", b"%x\t;\r\n", b"%x\n", b"%x\r\r\n",
]  # fmt: skip
_ODD_PIECES = [
    b"0\r\n\r\n", b"0\r\n", b"00\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"\r\n", b"\n", b"\r", b"-1\r\n", b"g\r\n",
    b"0x1\r\n", b"ffffffffffffffff\r\n", b"00000000000000001\r\n", b"7fffffffffffffff\r\n", b"8000000000000000\r\n",
    b" 1\r\nx\r\n", b"1\r\nxx\r\n", b"2\r\nx\r\n", b"+1\r\nx\r\n", b"1_0\r\n", b";\r\n", b"1", b"x",
]  # fmt: skip


def inputs(seed: int) -> Iterator[bytes]:
    """Yield endless inputs, the same for each seed."""
    rng = random.Random(seed)
    choices, bits = rng.choices, rng.getrandbits
    chunks = [
        size_line % len(data) + data + end
        for size_line in _SIZE_LINES for data in _DATA for end in [b"\r\n"] * 12 + [b"\n", b""]
    ]  # fmt: skip
    while True:
        decisions = bits(8 * _DECISIONS).to_bytes(_DECISIONS, "little")
        count = 1 + bits(3) if bits(3) else bits(6)
        if decisions[0] % 4 == 1:
            yield decisions + b"".join(choices(chunks, k=count)) + b"".join(choices(_ODD_PIECES, k=bits(2) // 2))
        else:
            pieces = [b""] * (2 * count)
            pieces[::2], pieces[1::2] = choices(_LINES, k=count), choices(_LINE_ENDS, k=count)
            yield decisions + b"".join(pieces)
