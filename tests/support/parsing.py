"""Parser tests: the conformance vectors, cutting a body into chunks, and comparison with the reference parser."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sseclient_dual.errors import SSEConnectionError, SSEEventTooLargeError, SSEParsingError
from sseclient_dual.event import Comment, SSEEvent
from sseclient_dual.parser import EventStreamParser
from support.reference_parser import Reading, RefComment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "data" / "parse_vectors.json").read_text(encoding="utf-8")
)
BOM = "\N{ZERO WIDTH NO-BREAK SPACE}".encode()
LARGEST_EXACT_RETRY = 2**53 - 1  # the parser may clamp larger values, but never below this one
INVALID_NUMBERS = [
    "", " ", "x", "1x", "+5", "-1", "1_000", " 1", "1 ", "\t1", "1.5", "1e3", "0x10", "1,000",
    "٣", "\uff11\uff10\uff10", "①", "²", "1\0", "Infinity", "NaN", "\u0085" + "1", "1\x0b",
]  # fmt: skip

Item = SSEEvent | Comment


@dataclass
class Outcome:
    """The result of parsing a whole body."""

    items: list[Item]
    error: SSEConnectionError | None
    parser: EventStreamParser


def feed_all(parser: EventStreamParser, chunks: Iterable[bytes]) -> Outcome:
    """Feed the chunks of a body up to the first error, and finish it."""
    items: list[Item] = []
    try:
        for chunk in chunks:
            items += parser.feed(chunk)
        parser.finish()
    except SSEConnectionError as error:
        return Outcome(items, error, parser)
    return Outcome(items, None, parser)


def events_of(body: bytes, **options: Any) -> list[SSEEvent]:
    """Parse a valid body, fed whole, without comments; return its events."""
    outcome = feed_all(EventStreamParser(**options), [body])
    assert outcome.error is None
    events = [item for item in outcome.items if isinstance(item, SSEEvent)]
    assert len(events) == len(outcome.items)
    return events


def data_of(body: bytes, **options: Any) -> list[str]:
    return [event.data for event in events_of(body, **options)]


def cut(body: bytes, offsets: Iterable[int]) -> list[bytes]:
    """Cut a body at offsets; offset 0, the end and a repeated offset give empty chunks."""
    edges = [0, *sorted(offsets), len(body)]
    return [body[start:end] for start, end in pairwise(edges)]


def every_byte(body: bytes) -> list[bytes]:
    return [body[index : index + 1] for index in range(len(body))]


def line_by_line(body: bytes) -> list[bytes]:
    return body.splitlines(keepends=True)


def block_by_block(body: bytes) -> list[bytes]:
    """Cut after each blank line, like a server that flushes each event."""
    return re.split(rb"(?<=\n\n)|(?<=\r\r)|(?<=\r\n\r\n)", body)


def all_splits_in_two(body: bytes) -> list[list[bytes]]:
    return [[body[:index], body[index:]] for index in range(len(body) + 1)]


def cuts(body: bytes, seed: int = 1) -> list[list[bytes]]:
    """Return the body whole, by bytes, lines and blocks, cut at random and, if short, split at each offset."""
    ways = [[body], every_byte(body), line_by_line(body), block_by_block(body)]
    if len(body) <= 200:
        ways += all_splits_in_two(body)
    rng = random.Random(seed)
    ways += [cut(body, rng.choices(range(len(body) + 1), k=rng.randint(1, 9))) for _ in range(20)]
    return ways


def assert_agrees(outcome: Outcome, reading: Reading, *, comments: bool) -> None:
    """Compare the result of the parser with that of the reference parser."""
    expected = [item for item in reading.items if comments or not isinstance(item, RefComment)]
    assert len(outcome.items) == len(expected)
    for item, reference in zip(outcome.items, expected, strict=True):
        if isinstance(reference, RefComment):
            assert item == Comment(reference.text)
            continue
        assert isinstance(item, SSEEvent)
        assert (item.data, item.event, item.id, item.last_event_id) == (
            reference.data,
            reference.event,
            reference.id,
            reference.last_event_id,
        )
        assert_retry(item.retry, reference.retry)
    assert outcome.parser.last_event_id == reading.last_event_id
    assert_retry(outcome.parser.retry, reading.retry)
    if reading.error is None:
        assert outcome.error is None
    elif reading.error.kind == "parsing":
        assert isinstance(outcome.error, SSEParsingError)
        assert outcome.error.line == reading.error.line
        assert f"({reading.error.problem})" in str(outcome.error)
    else:
        assert isinstance(outcome.error, SSEEventTooLargeError)


def assert_retry(value: int | None, expected: int | None) -> None:
    if expected is None or expected <= LARGEST_EXACT_RETRY:
        assert value == expected
    else:
        assert value is not None
        assert LARGEST_EXACT_RETRY <= value <= expected


def body_of(vector: dict[str, Any]) -> bytes:
    if "stream_hex" in vector:
        return bytes.fromhex(vector["stream_hex"])
    stream: str = vector["stream"]
    return stream.encode()


def chunks_of(vector: dict[str, Any]) -> list[bytes]:
    """Cut a vector's body as the vector says."""
    chunks: Sequence[int] | str = vector.get("chunks", [])
    body = body_of(vector)
    return every_byte(body) if isinstance(chunks, str) else cut(body, chunks)


def random_chunks_of(vector: dict[str, Any]) -> list[bytes]:
    """Cut a vector's body at random, but the same in every run."""
    body = body_of(vector)
    rng = random.Random(vector["name"])
    return cut(body, rng.choices(range(len(body) + 1), k=rng.randint(1, 12)))
