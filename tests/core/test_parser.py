"""Proves that `EventStreamParser` reads an event stream as WHATWG HTML 9.2.5 and 9.2.6 and the design say.

Three ways: the conformance vectors under every cut, each promise of the design by a test of its name, and
arbitrary bytes under arbitrary cuts against an oracle that shares nothing with the parser
(`reference_parser.py`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sseclient_dual.errors import SSEEventTooLargeError, SSEParsingError
from sseclient_dual.event import Comment, SSEEvent
from sseclient_dual.parser import EventStreamParser
from support.reference_parser import REPLACEMENT, read

if TYPE_CHECKING:
    from collections.abc import Callable

from support.parsing import (
    BOM,
    LARGEST_EXACT_RETRY,
    VECTORS,
    assert_agrees,
    block_by_block,
    body_of,
    cut,
    cuts,
    data_of,
    events_of,
    every_byte,
    every_way_in_two,
    feed_all,
    line_by_line,
    own_cut,
    random_cut,
)

WAYS: dict[str, Callable[[dict[str, Any]], list[bytes]]] = {
    "whole": lambda vector: [body_of(vector)],
    "every-byte": lambda vector: every_byte(body_of(vector)),
    "line-by-line": lambda vector: line_by_line(body_of(vector)),
    "block-by-block": lambda vector: block_by_block(body_of(vector)),
    "own-cut": own_cut,
    "random-cut": random_cut,
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
def test_vector_behind_an_event(vector: dict[str, Any]) -> None:
    # Between two events the parser goes another way than at the beginning, and has to leave it where a block is cut.
    before = b"data: before\n\n"
    body = body_of(vector)[:500]
    reading = read(before + body, strict=False)
    for pieces in every_way_in_two(body):
        outcome = feed_all(EventStreamParser(strict=False, comments=True), [before, *pieces])
        assert_agrees(outcome, reading, comments=True)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vector_read_by_the_oracle(vector: dict[str, Any]) -> None:
    # An oracle is worth as much as its own proof.
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
def test_vector_read_strictly(vector: dict[str, Any]) -> None:
    body = body_of(vector)
    reading = read(body, strict=True)
    for chunks in ([body], every_byte(body), own_cut(vector), random_cut(vector)):
        outcome = feed_all(EventStreamParser(comments=True), chunks)
        assert_agrees(outcome, reading, comments=True)


def test_vectors_are_all_there() -> None:
    assert len(VECTORS) == 142


# --- any bytes, any cut, against the oracle -----------------------------------------------------------------

TOKENS = [
    b"data", b"event", b"id", b"retry", b"Data", b"dat", b"data ", b"other", b"x", b"[DONE]",
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
    b"no colon\n", b"data: x\n\n", b"id: 3\ndata: y\n\n", b"\n", b"\r", b"\r\n",
]  # fmt: skip

# Bodies of single tokens find the odd bytes, those of whole lines the interplay of blocks.
bodies = st.one_of(
    st.lists(st.one_of(st.sampled_from(TOKENS), st.sampled_from(LINES), st.binary(max_size=4)), max_size=40),
    st.lists(st.sampled_from(LINES), max_size=30),
    st.lists(st.sampled_from(TOKENS), max_size=30),
    st.lists(st.binary(max_size=30), max_size=3),
).map(b"".join)
offsets = st.lists(st.integers(min_value=0, max_value=400), max_size=12)
thorough = settings(max_examples=400, deadline=None)


def cut_somewhere(body: bytes, offsets: list[int]) -> list[bytes]:
    return cut(body, [offset % (len(body) + 1) for offset in offsets])


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
def test_any_bytes_cut_anywhere_within_a_size(
    body: bytes, offsets: list[int], strict: bool, comments: bool, limit: int
) -> None:
    reading = read(body, strict=strict, limit=limit)
    for chunks in ([body], every_byte(body), cut_somewhere(body, offsets)):
        parser = EventStreamParser(strict=strict, comments=comments, max_event_size=limit)
        assert_agrees(feed_all(parser, chunks), reading, comments=comments)


@thorough
@given(
    responses=st.lists(st.tuples(bodies, offsets), min_size=2, max_size=4),
    strict=st.booleans(),
    last_event_id=st.sampled_from(["", "7", "☃"]),
)
def test_any_responses_one_after_the_other(
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


@thorough
@given(body=bodies)
def test_an_event_comes_with_the_byte_that_ends_it(body: bytes) -> None:
    # Fed byte by byte, as many items are out after each byte as the oracle finds in what was fed by then.
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
def test_what_an_event_encodes_to_is_that_event(
    data: str, event: str | None, event_id: str | None, retry: int | None
) -> None:
    data = data.replace("\r\n", "\n").replace("\r", "\n")
    sent = SSEEvent(data, event, event_id, retry)
    assert events_of(sent.encode()) == [sent]


# --- the design, sentence by sentence: bytes to lines -------------------------------------------------------


def test_bad_utf8_becomes_replacement_characters_and_the_stream_goes_on() -> None:
    body = b"data: a\xff\xfeb\n\ndata: \xe2\x98\n\ndata: \xed\xa0\x80\n\ndata: ok\n\n"
    expected = [f"a{REPLACEMENT * 2}b", REPLACEMENT, REPLACEMENT * 3, "ok"]
    for chunks in cuts(body):
        outcome = feed_all(EventStreamParser(), chunks)
        assert [item.data for item in outcome.items if isinstance(item, SSEEvent)] == expected


def test_a_character_may_be_cut_anywhere() -> None:
    body = "data: é☃😀\nevent: ☃\nid: 😀\n\n".encode()
    for chunks in every_way_in_two(body):
        assert feed_all(EventStreamParser(), chunks).items == [SSEEvent("é☃😀", "☃", "😀")]


def test_one_leading_bom_is_dropped() -> None:
    for chunks in cuts(BOM + b"data: x\n\n"):
        assert feed_all(EventStreamParser(), chunks).items == [SSEEvent("x")]


def test_a_second_bom_belongs_to_the_line() -> None:
    for chunks in cuts(BOM + BOM + b"data: lost\ndata: x\n\n"):
        assert feed_all(EventStreamParser(), chunks).items == [SSEEvent("x")]


def test_a_bom_that_does_not_lead_belongs_to_its_line() -> None:
    for chunks in cuts(b"\n" + BOM + b"data: lost\ndata: " + BOM + b"x\n\n"):
        assert feed_all(EventStreamParser(), chunks).items == [SSEEvent("\ufeffx")]


@pytest.mark.parametrize("beginning", [BOM[:1], BOM[:2]])
def test_the_beginning_of_a_bom_is_no_bom(beginning: bytes) -> None:
    body = beginning + b"data: lost\ndata: x\n\n"
    for chunks in cuts(body):
        assert feed_all(EventStreamParser(), chunks).items == [SSEEvent("x")]


def test_each_response_may_have_its_bom() -> None:
    parser = EventStreamParser()
    for _ in range(3):
        assert feed_all(parser, every_byte(BOM + b"data: x\n\n")).items == [SSEEvent("x")]
        parser.reset()


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_a_line_ends_at_lf_cr_and_crlf_however_it_is_cut(end: bytes) -> None:
    body = end.join([b"event: e", b"data: a", b"data: b", b"id: 1", b"retry: 2", b"", b"data: c", b"", b""])
    for chunks in cuts(body):
        assert feed_all(EventStreamParser(), chunks).items == [SSEEvent("a\nb", "e", "1", 2), SSEEvent("c")]


def test_line_ends_may_be_mixed() -> None:
    body = b"data: a\rdata: b\r\ndata: c\n\rdata: d\r\n\ndata: e\r\r\ndata: f\n\r\n"
    for chunks in cuts(body):
        outcome = feed_all(EventStreamParser(), chunks)
        assert outcome.items == [SSEEvent("a\nb\nc"), SSEEvent("d"), SSEEvent("e"), SSEEvent("f")]


@pytest.mark.parametrize("character", list("\v\f\x1c\x1d\x1e\x85\u2028\u2029\0\x1f\xa0\u200b"))
def test_a_line_ends_at_nothing_else(character: str) -> None:
    body = f"data: a{character}data: b\n{character}data: lost\nid: i\nevent: e{character}e\n\n".encode()
    for chunks in cuts(body):
        outcome = feed_all(EventStreamParser(), chunks)
        assert outcome.items == [SSEEvent(f"a{character}data: b", f"e{character}e", "i")]


# --- the design, sentence by sentence: lines to events ------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\r\n\r", b"\n\r", b"\r\n\n"])
def test_an_event_is_delivered_at_its_blank_line_without_waiting_for_another_byte(end: bytes) -> None:
    parser = EventStreamParser()
    assert parser.feed(b"data: x" + end[:-1]) == []
    assert parser.feed(end[-1:]) == [SSEEvent("x")]
    assert parser.feed(b"\n") == []
    assert parser.feed(b"data: y\n\n") == [SSEEvent("y")]


def test_an_unfinished_block_is_discarded_at_the_end() -> None:
    for rest in (b"data: half", b"data: half\n", b"event: half\nid: half\nretry: 9\ndata: half\r"):
        parser = EventStreamParser()
        assert parser.feed(b"data: whole\n\n" + rest) == [SSEEvent("whole")]
        parser.reset()
        assert parser.feed(b"\n\n") == []
        assert parser.feed(b"data: next\n\n") == [SSEEvent("next")]
        assert parser.last_event_id == ""


def test_half_a_line_is_never_merged_with_the_next_response() -> None:
    parser = EventStreamParser()
    assert parser.feed(b"data: a\n\ndata: ") == [SSEEvent("a")]
    parser.reset()
    assert parser.feed(b"b: c\n\ndata: d\n\n") == [SSEEvent("d")]


def test_a_cr_at_the_end_of_a_response_eats_no_lf_of_the_next() -> None:
    parser = EventStreamParser()
    parser.feed(b"data: a\r")
    parser.reset()
    assert parser.feed(b"\n" + BOM + b"data: b\n\n") == []


def test_half_a_bom_at_the_end_of_a_response_is_forgotten() -> None:
    parser = EventStreamParser()
    parser.feed(BOM[:2])
    parser.reset()
    assert parser.feed(b"data: a\n\n") == [SSEEvent("a")]


def test_retry_takes_effect_on_its_line() -> None:
    parser = EventStreamParser()
    assert parser.retry is None
    parser.feed(b"retry: 7")
    assert parser.retry is None
    parser.feed(b"\n")
    assert parser.retry == 7
    parser.feed(b"retry: 0\r")
    assert parser.retry == 0


def test_an_event_tells_the_retry_that_came_with_it() -> None:
    body = b"retry: 1\nretry: 2\ndata: a\n\ndata: b\n\nretry: 3\n\ndata: c\n\n"
    assert [event.retry for event in events_of(body)] == [2, None, None]


@pytest.mark.parametrize("value", ["0", "7", "007", "9007199254740991"])
def test_retry_is_a_number_in_ascii_digits(value: str) -> None:
    for strict in (True, False):
        parser = EventStreamParser(strict=strict)
        parser.feed(f"retry: {value}\n".encode())
        assert parser.retry == int(value)


NO_NUMBERS = [
    "", " ", "x", "1x", "+5", "-1", "1_000", " 1", "1 ", "\t1", "1.5", "1e3", "0x10", "1,000",
    "٣", "\uff11\uff10\uff10", "①", "²", "1\0", "Infinity", "NaN", "\u0085" + "1", "1\x0b",
]  # fmt: skip


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_retry_is_nothing_else(value: str) -> None:
    parser = EventStreamParser(strict=False)
    parser.feed(f"retry: 5\nretry: {value}\n".encode())
    assert parser.retry == 5


@pytest.mark.parametrize("digits", ["9007199254740992", "9" * 30, "1" + "0" * 4300, "9" * 5000])
def test_a_huge_retry_is_a_huge_number(digits: str) -> None:
    parser = EventStreamParser()
    (event,) = parser.feed(f"retry: {digits}\ndata: x\n\n".encode())
    assert isinstance(event, SSEEvent)
    for value in (parser.retry, event.retry):
        assert value is not None
        assert value >= LARGEST_EXACT_RETRY


def test_leading_zeros_make_no_number_huge() -> None:
    parser = EventStreamParser()
    parser.feed(b"retry: " + b"0" * 5000 + b"7\n")
    assert parser.retry == 7


def test_id_takes_effect_at_the_blank_line_also_with_no_data() -> None:
    parser = EventStreamParser()
    assert parser.last_event_id == ""
    parser.feed(b"id: 7\n")
    assert parser.last_event_id == ""
    assert parser.feed(b"\n") == []
    assert parser.last_event_id == "7"


def test_the_last_id_of_a_block_counts() -> None:
    (event,) = events_of(b"id: 1\nid: 2\ndata: x\n\n")
    assert (event.id, event.last_event_id) == ("2", "2")


@pytest.mark.parametrize("strict", [True, False])
def test_an_id_with_nul_is_ignored(strict: bool) -> None:
    body = b"id: 1\nid: 2\0\ndata: a\n\nid: \0\ndata: b\n\nid: 3\0\n\n"
    parser = EventStreamParser(strict=strict)
    outcome = feed_all(parser, [body])
    assert outcome.items == [SSEEvent("a", id="1"), SSEEvent("b")]
    assert parser.last_event_id == "1"


@pytest.mark.parametrize("line", [b"id", b"id:", b"id: "])
def test_an_empty_id_resets(line: bytes) -> None:
    events = events_of(b"id: 1\ndata: a\n\n" + line + b"\ndata: b\n\ndata: c\n\n")
    assert [event.id for event in events] == ["1", "", None]
    assert [event.last_event_id for event in events] == ["1", "", ""]


def test_an_event_has_an_id_only_if_it_carried_one_and_the_last_event_id_sticks() -> None:
    events = events_of(b"data: a\n\nid: 1\ndata: b\n\ndata: c\n\nid: 2\n\ndata: d\n\n")
    assert [event.id for event in events] == [None, "1", None, None]
    assert [event.last_event_id for event in events] == ["", "1", "1", "2"]


def test_the_last_event_id_from_before_is_kept() -> None:
    parser = EventStreamParser(last_event_id="old")
    assert parser.last_event_id == "old"
    (event,) = parser.feed(b"data: x\n\n")
    assert isinstance(event, SSEEvent)
    assert (event.id, event.last_event_id) == (None, "old")


@pytest.mark.parametrize(
    "block", [b"event: x\n\n", b"id: 1\n\n", b"retry: 1\n\n", b": c\n\n", b"\n\n\n", b"x: y\n\n"]
)
def test_a_block_with_no_data_line_delivers_nothing(block: bytes) -> None:
    assert events_of(block) == []
    (event,) = events_of(block + b"data: next\n\n")
    assert (event.data, event.event, event.id, event.retry) == ("next", None, None, None)


@pytest.mark.parametrize("line", [b"data", b"data:", b"data: "])
def test_an_empty_data_line_delivers_an_empty_event(line: bytes) -> None:
    assert data_of(line + b"\n\n") == [""]
    assert data_of(line + b"\n" + line + b"\n\n") == ["\n"]


@pytest.mark.parametrize("line", [b"event", b"event:", b"event: "])
def test_an_empty_event_field_means_no_type(line: bytes) -> None:
    (event,) = events_of(b"event: x\n" + line + b"\ndata: a\n\n")
    assert (event.event, event.type) == (None, "message")


def test_the_last_type_of_a_block_counts_and_is_forgotten_after_it() -> None:
    events = events_of(b"event: a\nevent: b\ndata: 1\n\ndata: 2\n\n")
    assert [event.event for event in events] == ["b", None]


@pytest.mark.parametrize(
    ("line", "data"),
    [
        (b"data:x", "x"),
        (b"data: x", "x"),
        (b"data:  x", " x"),
        (b"data:\tx", "\tx"),
        (b"data: x ", "x "),
        (b"data::x", ":x"),
        (b"data: : x", ": x"),
        ("data:\N{NO-BREAK SPACE}x".encode(), "\N{NO-BREAK SPACE}x"),
    ],
)
def test_one_space_after_the_colon_is_dropped(line: bytes, data: str) -> None:
    assert data_of(line + b"\n\n") == [data]


@pytest.mark.parametrize("line", [b"Data: x", b"DATA: x", b" data: x", b"data : x", b"datas: x", b"dat: x", b"x: y"])
@pytest.mark.parametrize("strict", [True, False])
def test_an_unknown_field_with_a_colon_is_ignored(line: bytes, strict: bool) -> None:
    assert data_of(line + b"\ndata: ok\n\n", strict=strict) == ["ok"]


def test_an_event_has_the_origin_that_is_set() -> None:
    parser = EventStreamParser()
    parser.feed(b"data: a\n")
    assert parser.origin == ""
    parser.origin = "https://example.com"
    assert parser.origin == "https://example.com"
    (event,) = parser.feed(b"\n")
    assert isinstance(event, SSEEvent)
    assert event.origin == "https://example.com"


# --- comments -----------------------------------------------------------------------------------------------


def test_comments_come_when_asked_for_in_their_order() -> None:
    body = b": one\ndata: a\n:two\ndata: b\n\n:\n\n:  three : x\ndata: c\r\n\r\n"
    expected = [
        Comment(" one"),
        Comment("two"),
        SSEEvent("a\nb"),
        Comment(""),
        Comment("  three : x"),
        SSEEvent("c"),
    ]
    for chunks in cuts(body):
        assert feed_all(EventStreamParser(comments=True), chunks).items == expected
        events = [item for item in expected if isinstance(item, SSEEvent)]
        assert feed_all(EventStreamParser(), chunks).items == events


def test_a_comment_comes_at_the_end_of_its_line() -> None:
    parser = EventStreamParser(comments=True)
    assert parser.feed(b"data: a\n: ping") == []
    assert parser.feed(b"\r") == [Comment(" ping")]
    assert parser.feed(b"\n\n") == [SSEEvent("a")]


def test_an_unfinished_comment_is_discarded_at_the_end() -> None:
    parser = EventStreamParser(comments=True)
    assert parser.feed(b": half") == []
    parser.reset()
    assert parser.feed(b"\n") == []


# --- the strict reading -------------------------------------------------------------------------------------

BAD_LINES = [
    "no colon",
    "<html>",
    '{"error"',
    "Data",
    " data",
    "data ",
    "datas",
    "\ufeff",
    "\0",
    "\u2028",
    "ret",
]
BAD_RETRIES = [f"retry: {value}" for value in NO_NUMBERS] + ["retry", "retry:"]


@pytest.mark.parametrize("line", BAD_LINES + BAD_RETRIES)
def test_strict_notices_a_line_that_no_event_stream_has(line: str) -> None:
    body = f"data: good\n\n{line}\ndata: never\n\n".encode()
    for chunks in cuts(body):
        outcome = feed_all(EventStreamParser(), chunks)
        assert outcome.items == [SSEEvent("good")]
        assert isinstance(outcome.error, SSEParsingError)
        assert outcome.error.line == line


@pytest.mark.parametrize("line", BAD_LINES + BAD_RETRIES)
def test_tolerant_ignores_such_a_line(line: str) -> None:
    body = f"data: good\n\n{line}\ndata: more\n\n".encode()
    for chunks in cuts(body):
        outcome = feed_all(EventStreamParser(strict=False), chunks)
        assert outcome.error is None
        assert outcome.items == [SSEEvent("good"), SSEEvent("more")]


@pytest.mark.parametrize(
    "line", ["data", "event", "id", ":", "", "unknown:", "x: y", "::", "id: a\0b", "html lang: x"]
)
def test_strict_has_nothing_against_what_the_format_allows(line: str) -> None:
    body = f"{line}\ndata: ok\n\n".encode()
    for chunks in cuts(body):
        outcome = feed_all(EventStreamParser(), chunks)
        assert outcome.error is None
        (event,) = [item for item in outcome.items if isinstance(item, SSEEvent) and item.data]
        assert event.data.endswith("ok")


def test_a_bad_line_is_one_only_when_it_has_ended() -> None:
    parser = EventStreamParser()
    assert parser.feed(b"no colon") == []
    assert parser.error is None
    assert parser.feed(b" so far: it came\n") == []
    assert parser.error is None


def test_bad_utf8_in_a_bad_line_is_shown_replaced() -> None:
    outcome = feed_all(EventStreamParser(), [b"\xff\xfe\n"])
    assert isinstance(outcome.error, SSEParsingError)
    assert outcome.error.line == REPLACEMENT * 2


def test_an_error_swallows_no_event_and_comes_with_the_next_call() -> None:
    parser = EventStreamParser(comments=True)
    items = parser.feed(b"data: a\n\n: c\nid: 9\n\nretry: 5\ndata: lost\nbad\ndata: never\n\n")
    assert items == [SSEEvent("a"), Comment(" c")]
    assert isinstance(parser.error, SSEParsingError)
    assert (parser.last_event_id, parser.retry) == ("9", 5)
    with pytest.raises(SSEParsingError, match="attribute line") as caught:
        parser.feed(b"")
    assert caught.value.line == "bad"


def test_an_error_waits_for_the_next_call_also_with_nothing_before_it() -> None:
    parser = EventStreamParser()
    assert parser.feed(b"bad\n") == []
    with pytest.raises(SSEParsingError):
        parser.feed(b"data: x\n\n")


def test_after_an_error_every_call_raises_it_until_reset() -> None:
    parser = EventStreamParser()
    parser.feed(b"id: 1\n\nid: 2\ndata: half\nbad\n")
    for chunk in (b"", b"\n", b"data: x\n\n"):
        with pytest.raises(SSEParsingError) as caught:
            parser.feed(chunk)
        assert caught.value.line == "bad"
        assert parser.error is not None
    parser.reset()
    assert parser.error is None
    assert parser.last_event_id == "1"
    assert parser.feed(b"\ndata: x\n\n") == [SSEEvent("x")]


# --- limits of size -----------------------------------------------------------------------------------------


def too_large(body: bytes, limit: int, **options: Any) -> bool:
    """Say whether a body breaks the limit, after one good event; the same under every cut."""
    body = b"data\n\n" + body
    answers = set()
    for chunks in cuts(body):
        outcome = feed_all(EventStreamParser(max_event_size=limit, **options), chunks)
        assert outcome.items[:1] == [SSEEvent("")]
        assert isinstance(outcome.error, SSEEventTooLargeError | None)
        answers.add(outcome.error is not None)
    (answer,) = answers
    return answer


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n", b""])
@pytest.mark.parametrize("name", [b"data: ", b"event: ", b"id: ", b": ", b":", b"unknown: "])
def test_a_line_may_be_as_long_as_a_data_line_of_the_limit_and_no_longer(name: bytes, end: bytes) -> None:
    longest = len("data: ") + 50
    for comments in (True, False):
        assert not too_large(name.ljust(longest, b"x") + end, 50, comments=comments)
        assert too_large(name.ljust(longest + 1, b"x") + end, 50, comments=comments)


def test_a_line_is_too_long_before_its_end_is_there() -> None:
    parser = EventStreamParser(max_event_size=4)
    assert parser.feed(b"data: 1234") == []
    assert parser.error is None
    assert parser.feed(b"5") == []
    assert isinstance(parser.error, SSEEventTooLargeError)
    with pytest.raises(SSEEventTooLargeError):
        parser.feed(b"")


def test_the_data_of_an_event_may_be_as_large_as_the_limit_and_no_larger() -> None:
    assert not too_large(b"data:" + b"x" * 50 + b"\n\n", 50)
    assert too_large(b"data:" + b"x" * 51 + b"\n\n", 50)
    # Two lines of data and the line feed between them.
    assert not too_large(b"data: " + b"x" * 20 + b"\ndata:" + b"x" * 29 + b"\n\n", 50)
    assert too_large(b"data: " + b"x" * 20 + b"\ndata:" + b"x" * 30 + b"\n\n", 50)


def test_many_empty_data_lines_add_up() -> None:
    assert not too_large(b"data\n" * 51 + b"\n", 50)
    assert too_large(b"data\n" * 52 + b"\n", 50)


def test_data_is_too_large_before_its_blank_line_is_there() -> None:
    parser = EventStreamParser(max_event_size=20)
    parser.feed(b"data: 0123456789\ndata: 012345678\n")
    assert parser.error is None
    parser.feed(b"data\n")
    assert isinstance(parser.error, SSEEventTooLargeError)


def test_the_limit_counts_bytes_of_utf8() -> None:
    assert not too_large("data: ☃☃☃☃☃☃\ndata: ☃☃\n\n".encode(), 25)
    assert too_large("data: ☃☃☃☃☃☃\ndata: ☃☃\n\n".encode(), 24)


def test_the_limit_counts_a_replacement_as_what_it_is_handed_over_as() -> None:
    assert not too_large(b"data:" + b"\xff" * 10 + b"\n\n", 30)
    assert too_large(b"data:" + b"\xff" * 10 + b"\n\n", 29)
    assert too_large(b": padding\ndata:" + b"\xff" * 10 + b"\n\n", 29)


def test_each_event_has_the_limit_for_itself() -> None:
    assert not too_large((b"data: " + b"x" * 40 + b"\n\n") * 20, 50)


@pytest.mark.parametrize("comments", [True, False])
def test_comments_do_not_add_up(comments: bool) -> None:
    assert not too_large((b": " + b"x" * 40 + b"\n") * 50, 50, comments=comments)
    assert not too_large(b"data: x\n" + (b": " + b"x" * 40 + b"\n") * 50 + b"data: x\n\n", 50, comments=comments)


def test_other_fields_do_not_add_up() -> None:
    assert not too_large(b"event: " + b"x" * 40 + b"\n" + (b"id: " + b"x" * 40 + b"\n") * 20 + b"data: x\n\n", 50)


def test_the_bom_is_no_part_of_the_line() -> None:
    for chunks in cuts(BOM + b"data: 1234\n\n"):
        outcome = feed_all(EventStreamParser(max_event_size=4), chunks)
        assert outcome.error is None
        assert outcome.items == [SSEEvent("1234")]


def test_after_too_large_an_event_a_reset_starts_anew() -> None:
    parser = EventStreamParser(max_event_size=4)
    assert parser.feed(b"data: a\n\ndata: 12345\n\n") == [SSEEvent("a")]
    for _ in range(2):
        with pytest.raises(SSEEventTooLargeError):
            parser.feed(b"")
    parser.reset()
    assert parser.feed(b"data: 1234\n\n") == [SSEEvent("1234")]


def test_of_two_errors_the_first_is_told() -> None:
    bad, large = b"bad\n", b"data: 12345\n"
    for body, error in ((bad + large, SSEParsingError), (large + bad, SSEEventTooLargeError)):
        for chunks in cuts(body):
            assert type(feed_all(EventStreamParser(max_event_size=4), chunks).error) is error


def test_a_reset_forgets_the_size_of_the_unfinished_block() -> None:
    parser = EventStreamParser(max_event_size=10)
    for _ in range(5):
        assert parser.feed(b"data: 1234\ndata: 1234") == []
        assert parser.error is None
        parser.reset()


def test_an_event_of_megabytes_is_within_the_default_limit() -> None:
    data = "x" * 5_000_000
    assert data_of(f"data: {data}\n\n".encode()) == [data]


# --- work is linear -----------------------------------------------------------------------------------------


def seconds(pieces: list[bytes], repeat: int = 3) -> float:
    """The least processor time in which a parser took the pieces, each fed by itself."""
    least = float("inf")
    for _ in range(repeat):
        parser = EventStreamParser(comments=True)
        start = time.thread_time()
        for piece in pieces:
            parser.feed(piece)
        least = min(least, time.thread_time() - start)
        assert parser.error is None
    return least


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
def test_four_times_the_bytes_are_about_four_times_the_work(pieces: Callable[[int], list[bytes]]) -> None:
    # Work that grows with the square would make it sixteen times.
    small = seconds(pieces(1_000_000))
    large = seconds(pieces(4_000_000))
    assert large < 10 * small + 0.05


# --- arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_feed_takes_bytes_of_any_kind(kind: Callable[[bytes], bytes | bytearray | memoryview]) -> None:
    parser = EventStreamParser()
    assert parser.feed(kind(b"data: \xe2\x98")) == []
    assert parser.feed(kind(b"\x83\n\nda")) == [SSEEvent("☃")]
    assert parser.feed(kind(b"")) == []
    assert parser.feed(kind(b"ta: x\n\n")) == [SSEEvent("x")]


def test_what_was_fed_may_be_changed_afterwards() -> None:
    parser = EventStreamParser()
    buffer = bytearray(b"data: x")
    parser.feed(buffer)
    buffer[:] = b"nonsense"
    parser.feed(memoryview(buffer)[:0])
    buffer.clear()
    assert parser.feed(b"\n\n") == [SSEEvent("x")]


@pytest.mark.parametrize("argument", ["data: x\n\n", "", None, 7, [b"data: x\n\n"]])
def test_feed_takes_nothing_but_bytes(argument: Any) -> None:
    parser = EventStreamParser()
    with pytest.raises(TypeError):
        parser.feed(argument)
    assert parser.feed(b"data: ok\n\n") == [SSEEvent("ok")]


def test_nothing_fed_is_nothing_said() -> None:
    parser = EventStreamParser(comments=True)
    assert parser.feed(b"") == []
    assert (parser.last_event_id, parser.retry, parser.error) == ("", None, None)


def test_parsers_share_nothing() -> None:
    one, other = EventStreamParser(), EventStreamParser()
    one.feed(b"id: 1\nretry: 5\n\nevent: x\ndata: one\n")
    assert (other.last_event_id, other.retry) == ("", None)
    assert other.feed(b"data: other\n\n") == [SSEEvent("other")]
    assert one.feed(b"\n") == [SSEEvent("one", "x")]
