"""The parser: conformance vectors, comparison with the reference parser, run time and arguments."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sseclient_dual.event import Comment, SSEEvent
from sseclient_dual.parser import EventStreamParser
from support.parsing import (
    BOM,
    LARGEST_EXACT_RETRY,
    VECTORS,
    all_splits_in_two,
    assert_agrees,
    block_by_block,
    body_of,
    chunks_of,
    cut,
    events_of,
    every_byte,
    feed_all,
    line_by_line,
    random_chunks_of,
)
from support.reference_parser import read

if TYPE_CHECKING:
    from collections.abc import Callable


WAYS: dict[str, Callable[[dict[str, Any]], list[bytes]]] = {
    "whole": lambda vector: [body_of(vector)],
    "every-byte": lambda vector: every_byte(body_of(vector)),
    "line-by-line": lambda vector: line_by_line(body_of(vector)),
    "block-by-block": lambda vector: block_by_block(body_of(vector)),
    "vector-chunks": chunks_of,
    "random-chunks": random_chunks_of,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vector(vector: dict[str, Any], way: str) -> None:
    outcome = feed_all(EventStreamParser(strict=False, comments="comments" in vector), WAYS[way](vector))
    assert outcome.error is None
    events = [item for item in outcome.items if isinstance(item, SSEEvent)]
    assert [{"event": event.type, "data": event.data, "id": event.last_event_id} for event in events] == vector[
        "events"
    ]
    assert outcome.parser.last_event_id == vector["last_event_id"]
    if "retry_at_least" in vector:
        assert outcome.parser.retry is not None
        assert outcome.parser.retry >= vector["retry_at_least"]
    else:
        assert outcome.parser.retry == vector["retry"]
    if "comments" in vector:
        assert [item.text for item in outcome.items if isinstance(item, Comment)] == vector["comments"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vector_after_an_event(vector: dict[str, Any]) -> None:
    # Between two events the parser uses its fast path, which does not apply where a block is cut.
    before = b"data: before\n\n"
    body = body_of(vector)[:500]
    reading = read(before + body, strict=False)
    for pieces in all_splits_in_two(body):
        outcome = feed_all(EventStreamParser(strict=False, comments=True), [before, *pieces])
        assert_agrees(outcome, reading, comments=True)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vector_in_the_reference_parser(vector: dict[str, Any]) -> None:
    # The other tests rely on the reference parser, so it has to pass the vectors, too.
    reading = read(body_of(vector), strict=False)
    assert [
        {"event": event.event or "message", "data": event.data, "id": event.last_event_id} for event in reading.events
    ] == vector["events"]
    assert reading.last_event_id == vector["last_event_id"]
    if "retry_at_least" in vector:
        assert reading.retry is not None
        assert reading.retry >= vector["retry_at_least"]
    else:
        assert reading.retry == vector["retry"]
    assert reading.comments == vector.get("comments", reading.comments)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vector_in_strict_mode(vector: dict[str, Any]) -> None:
    body = body_of(vector)
    reading = read(body, strict=True)
    for chunks in ([body], every_byte(body), chunks_of(vector), random_chunks_of(vector)):
        outcome = feed_all(EventStreamParser(comments=True), chunks)
        assert_agrees(outcome, reading, comments=True)


def test_no_vector_is_missing() -> None:
    assert len(VECTORS) == 142


# --- any bytes, cut anywhere, against the reference parser --------------------------------------------------

TOKENS = [
    b"data", b"event", b"id", b"retry", b"Data", b"dat", b"data ", b"other", b"x", b"[DONE]",
    b"{", b"}", b"[", b"]", b"<", b'"', b"_", b"-", b".", b"/", b'{"error": "x"}',
    b":", b": ", b":  ", b" ", b"\t",
    b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r", b"\r\n\n",
    BOM, BOM[:1], BOM[:2], BOM[1:], BOM[2:],
    b"\0", b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\x1f", b"\x7f", b"\x85", b"\xa0",
    "\u0085".encode(), "\u2028".encode(), "\u2029".encode(), "é".encode(), "☃".encode(), "😀".encode(),
    "😀".encode()[:1], "😀".encode()[:2], "😀".encode()[:3], "☃".encode()[:2], "é".encode()[:1],
    b"\xff", b"\xfe", b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xed\xa0\x80",
    b"\xed\xbf\xbf", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf5",
    b"0", b"7", b"10", b"3000", b"007", b"+5", b"-1", b"1_000", b"1e3", b"0x10", b"1.5",
    b"9007199254740991", b"9007199254740993", b"9" * 30,
    "٣".encode(), "\uff11\uff10\uff10".encode(), "①".encode(), "²".encode(),
]  # fmt: skip
LINES = [
    b"data: a\n", b"data: b\r\n", b"data:c\r", b"data\n", b"data:\n", b"data: \n", b"event: tick\n",
    b"event\n", b"event:\r\n", b"id: 1\n", b"id: 2\r\n", b"id\n", b"id:\r", b"id: a\0b\n", b"retry: 10\n",
    b"retry: 5x\n", b"retry\n", b"retry:\n", b": comment\n", b":\n", b":c\r\n", b"unknown: x\n",
    b"no colon\n", b"{\n", b'{"a":1}\n', b"<p>\n", b"a b: c\n",
    b"data: x\n\n", b"id: 3\ndata: y\n\n", b"\n", b"\r", b"\r\n",
]  # fmt: skip
# Bodies of single tokens test unusual bytes; bodies of whole lines test the sequence of blocks.
bodies = st.one_of(
    st.lists(st.one_of(st.sampled_from(TOKENS), st.sampled_from(LINES), st.binary(max_size=4)), max_size=40),
    st.lists(st.sampled_from(LINES), max_size=30),
    st.lists(st.sampled_from(TOKENS), max_size=30),
    st.lists(st.binary(max_size=30), max_size=3),
).map(b"".join)
offsets = st.lists(st.integers(min_value=0, max_value=400), max_size=12)
thorough = settings(max_examples=400)


def cut_somewhere(body: bytes, offsets: list[int]) -> list[bytes]:
    """Cut a body at offsets that are wrapped to fit it."""
    return cut(body, [offset % (len(body) + 1) for offset in offsets])


@pytest.mark.slow
@thorough
@given(body=bodies, offsets=offsets, strict=st.booleans(), comments=st.booleans())
@example(body=BOM + BOM + b"data: x\n\n", offsets=[1, 2], strict=False, comments=False)
@example(body=b"data: x\r\r", offsets=[8], strict=True, comments=True)
@example(body=b"data: x\r\n\r\n", offsets=[8, 9, 10], strict=True, comments=True)
@example(body=b"\xef\xbbdata: x\n\n", offsets=[1, 2], strict=False, comments=False)
@example(body=b"id: 1\n\nid: 2\n", offsets=[], strict=True, comments=False)
def test_any_bytes_cut_anywhere(body: bytes, offsets: list[int], strict: bool, comments: bool) -> None:
    reading = read(body, strict=strict)
    for chunks in ([body], every_byte(body), cut_somewhere(body, offsets)):
        outcome = feed_all(EventStreamParser(strict=strict, comments=comments), chunks)
        assert_agrees(outcome, reading, comments=comments)


@pytest.mark.slow
@thorough
@given(
    body=bodies,
    offsets=offsets,
    strict=st.booleans(),
    comments=st.booleans(),
    limit=st.integers(min_value=3, max_value=40),
)
@example(body=b"data: 1234\ndata: 1234\n\n", offsets=[], strict=True, comments=False, limit=10)
@example(body=BOM + b"data: 12345", offsets=[1], strict=True, comments=False, limit=4)
@example(body=b"data:" + b"\xff" * 4 + b"\n\n", offsets=[], strict=True, comments=False, limit=10)
def test_any_bytes_cut_anywhere_with_a_size_limit(
    body: bytes, offsets: list[int], strict: bool, comments: bool, limit: int
) -> None:
    reading = read(body, strict=strict, limit=limit)
    for chunks in ([body], every_byte(body), cut_somewhere(body, offsets)):
        parser = EventStreamParser(strict=strict, comments=comments, max_event_size=limit)
        assert_agrees(feed_all(parser, chunks), reading, comments=comments)


@pytest.mark.slow
@thorough
@given(
    responses=st.lists(st.tuples(bodies, offsets), min_size=2, max_size=4),
    strict=st.booleans(),
    last_event_id=st.sampled_from(["", "7", "☃"]),
)
def test_any_sequence_of_responses(
    responses: list[tuple[bytes, list[int]]], strict: bool, last_event_id: str
) -> None:
    parser = EventStreamParser(strict=strict, comments=True, last_event_id=last_event_id)
    retry = None
    for body, offsets in responses:
        reading = read(body, strict=strict, last_event_id=last_event_id)
        last_event_id = reading.last_event_id
        retry = reading.retry = retry if reading.retry is None else reading.retry
        assert_agrees(feed_all(parser, cut_somewhere(body, offsets)), reading, comments=True)
        parser.reset()
        assert parser.last_event_id == last_event_id


@pytest.mark.slow
@thorough
@given(body=bodies)
def test_an_event_is_returned_with_its_last_byte(body: bytes) -> None:
    # After each byte, the parser has returned the same number of items as the reference parser finds so far.
    parser = EventStreamParser(strict=False, comments=True)
    count = 0
    for end in range(1, len(body) + 1):
        count += len(parser.feed(body[end - 1 : end]))
        assert count == len(read(body[:end], strict=False).items)


@given(
    data=st.text(max_size=30),
    event=st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=8),
    event_id=st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=8),
    retry=st.none() | st.integers(min_value=0, max_value=LARGEST_EXACT_RETRY),
)
def test_an_encoded_event_parses_to_the_same_event(
    data: str, event: str | None, event_id: str | None, retry: int | None
) -> None:
    data = data.replace("\r\n", "\n").replace("\r", "\n")
    sent = SSEEvent(data, event, event_id, retry)
    assert events_of(sent.encode()) == [sent]


# --- run time is linear -------------------------------------------------------------------------------------


def cpu_seconds(pieces: list[bytes], repeat: int = 3) -> float:
    """Return the minimum CPU time that a parser needs for the pieces, fed one by one."""
    minimum = float("inf")
    for _ in range(repeat):
        parser = EventStreamParser(comments=True)
        start = time.thread_time()
        for piece in pieces:
            parser.feed(piece)
        minimum = min(minimum, time.thread_time() - start)
        assert parser.error is None
    return minimum


def pieces_of_a_line(size: int) -> list[bytes]:
    return [b"data: ", *[b"x" * 100] * (size // 100), b"\n", b"\n"]


def pieces_of_many_lines(size: int) -> list[bytes]:
    return [*[b"data: " + b"x" * 90 + b"\n"] * (size // 97), b"\n"]


def pieces_of_half_lines(size: int) -> list[bytes]:
    return [b"data: ", *[b"x" * 80 + b"\ndata: " + b"x" * 10] * (size // 97), b"\n\n"]


def pieces_of_a_comment(size: int) -> list[bytes]:
    return [b": ", *[b"x" * 100] * (size // 100), b"\n"]


def one_piece_of_small_events(size: int) -> list[bytes]:
    return [b"data: x\n\n" * (size // 9)]


def one_piece_of_blank_lines(size: int) -> list[bytes]:
    return [b"\r\n" * (size // 2)]


@pytest.mark.slow
@pytest.mark.usefixtures("restore_gc")
@pytest.mark.parametrize(
    "pieces",
    [
        pieces_of_a_line,
        pieces_of_many_lines,
        pieces_of_half_lines,
        pieces_of_a_comment,
        one_piece_of_small_events,
        one_piece_of_blank_lines,
    ],
)
def test_run_time_is_linear_in_the_size(pieces: Callable[[int], list[bytes]]) -> None:
    # Four times the bytes take about four times as long; a quadratic algorithm would take sixteen times as long.
    gc.disable()  # its run time is not linear in the number of objects
    small = cpu_seconds(pieces(1_000_000))
    large = cpu_seconds(pieces(4_000_000))
    assert large < 10 * small + 0.05


# --- arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_feed_accepts_any_bytes_like_type(kind: Callable[[bytes], bytes | bytearray | memoryview]) -> None:
    parser = EventStreamParser()
    assert parser.feed(kind(b"data: \xe2\x98")) == []
    assert parser.feed(kind(b"\x83\n\nda")) == [SSEEvent("☃")]
    assert parser.feed(kind(b"")) == []
    assert parser.feed(kind(b"ta: x\n\n")) == [SSEEvent("x")]


def test_a_buffer_may_be_changed_after_feed() -> None:
    parser = EventStreamParser()
    buffer = bytearray(b"data: x")
    parser.feed(buffer)
    buffer[:] = b"nonsense"
    parser.feed(memoryview(buffer)[:0])
    buffer.clear()
    assert parser.feed(b"\n\n") == [SSEEvent("x")]


@pytest.mark.parametrize("argument", ["data: x\n\n", "", None, 7, [b"data: x\n\n"]])
def test_feed_rejects_other_types(argument: Any) -> None:
    parser = EventStreamParser()
    with pytest.raises(TypeError):
        parser.feed(argument)
    assert parser.feed(b"data: ok\n\n") == [SSEEvent("ok")]


def test_an_empty_feed_changes_nothing() -> None:
    parser = EventStreamParser(comments=True)
    assert parser.feed(b"") == []
    assert (parser.last_event_id, parser.retry, parser.error) == ("", None, None)


def test_parsers_share_no_state() -> None:
    one, other = EventStreamParser(), EventStreamParser()
    one.feed(b"id: 1\nretry: 5\n\nevent: x\ndata: one\n")
    assert (other.last_event_id, other.retry) == ("", None)
    assert other.feed(b"data: other\n\n") == [SSEEvent("other")]
    assert one.feed(b"\n") == [SSEEvent("one", "x")]
