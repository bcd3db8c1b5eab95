"""The parser against each sentence of the standard: bytes to lines, lines to events, comments."""

from __future__ import annotations

import pytest

from sseclient_dual.event import Comment, SSEEvent
from sseclient_dual.parser import EventStreamParser
from support.parsing import (
    BOM,
    INVALID_NUMBERS,
    LARGEST_EXACT_RETRY,
    all_splits_in_two,
    cuts,
    data_of,
    events_of,
    every_byte,
    feed_all,
)
from support.reference_parser import REPLACEMENT

# --- bytes to lines -----------------------------------------------------------------------------------------


def test_invalid_utf8_becomes_replacement_characters_and_parsing_continues() -> None:
    body = b"data: a\xff\xfeb\n\ndata: \xe2\x98\n\ndata: \xed\xa0\x80\n\ndata: ok\n\n"
    expected = [f"a{REPLACEMENT * 2}b", REPLACEMENT, REPLACEMENT * 3, "ok"]
    for chunks in cuts(body):
        outcome = feed_all(EventStreamParser(), chunks)
        assert [item.data for item in outcome.items if isinstance(item, SSEEvent)] == expected


def test_a_character_may_be_cut_anywhere() -> None:
    body = "data: é☃😀\nevent: ☃\nid: 😀\n\n".encode()
    for chunks in all_splits_in_two(body):
        assert feed_all(EventStreamParser(), chunks).items == [SSEEvent("é☃😀", "☃", "😀")]


def test_one_leading_bom_is_dropped() -> None:
    for chunks in cuts(BOM + b"data: x\n\n"):
        assert feed_all(EventStreamParser(), chunks).items == [SSEEvent("x")]


def test_a_second_bom_belongs_to_its_line() -> None:
    for chunks in cuts(BOM + BOM + b"data: lost\ndata: x\n\n"):
        assert feed_all(EventStreamParser(strict=False), chunks).items == [SSEEvent("x")]


def test_a_bom_after_the_beginning_belongs_to_its_line() -> None:
    for chunks in cuts(b"\n" + BOM + b"data: lost\ndata: " + BOM + b"x\n\n"):
        assert feed_all(EventStreamParser(strict=False), chunks).items == [SSEEvent("\ufeffx")]


@pytest.mark.parametrize("beginning", [BOM[:1], BOM[:2]])
def test_a_partial_bom_belongs_to_its_line(beginning: bytes) -> None:
    body = beginning + b"data: lost\ndata: x\n\n"
    for chunks in cuts(body):
        assert feed_all(EventStreamParser(strict=False), chunks).items == [SSEEvent("x")]


def test_each_response_may_have_a_bom() -> None:
    parser = EventStreamParser()
    for _ in range(3):
        assert feed_all(parser, every_byte(BOM + b"data: x\n\n")).items == [SSEEvent("x")]
        parser.reset()


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_lf_cr_and_crlf_end_a_line_at_any_cut(end: bytes) -> None:
    body = end.join([b"event: e", b"data: a", b"data: b", b"id: 1", b"retry: 2", b"", b"data: c", b"", b""])
    for chunks in cuts(body):
        assert feed_all(EventStreamParser(), chunks).items == [SSEEvent("a\nb", "e", "1", 2), SSEEvent("c")]


def test_line_endings_may_be_mixed() -> None:
    body = b"data: a\rdata: b\r\ndata: c\n\rdata: d\r\n\ndata: e\r\r\ndata: f\n\r\n"
    for chunks in cuts(body):
        outcome = feed_all(EventStreamParser(), chunks)
        assert outcome.items == [SSEEvent("a\nb\nc"), SSEEvent("d"), SSEEvent("e"), SSEEvent("f")]


@pytest.mark.parametrize("character", list("\v\f\x1c\x1d\x1e\x85\u2028\u2029\0\x1f\xa0\u200b"))
def test_other_control_and_space_characters_do_not_end_a_line(character: str) -> None:
    body = f"data: a{character}data: b\n{character}data: lost\nid: i\nevent: e{character}e\n\n".encode()
    for chunks in cuts(body):
        outcome = feed_all(EventStreamParser(strict=False), chunks)
        assert outcome.items == [SSEEvent(f"a{character}data: b", f"e{character}e", "i")]


# --- lines to events ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\r\n\r", b"\n\r", b"\r\n\n"])
def test_a_blank_line_delivers_the_event_without_another_byte(end: bytes) -> None:
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


def test_a_partial_line_is_never_merged_with_the_next_response() -> None:
    parser = EventStreamParser()
    assert parser.feed(b"data: a\n\ndata: ") == [SSEEvent("a")]
    parser.reset()
    assert parser.feed(b"b: c\n\ndata: d\n\n") == [SSEEvent("d")]


def test_a_cr_at_the_end_of_a_response_does_not_pair_with_an_lf_of_the_next() -> None:
    parser = EventStreamParser()
    parser.feed(b"data: a\r")
    parser.reset()
    assert parser.feed(b"\n" + BOM + b"data: b\n\n") == []


def test_a_partial_bom_at_the_end_of_a_response_is_discarded() -> None:
    parser = EventStreamParser()
    parser.feed(BOM[:2])
    parser.reset()
    assert parser.feed(b"data: a\n\n") == [SSEEvent("a")]


def test_retry_takes_effect_at_the_end_of_its_line() -> None:
    parser = EventStreamParser()
    assert parser.retry is None
    parser.feed(b"retry: 7")
    assert parser.retry is None
    parser.feed(b"\n")
    assert parser.retry == 7
    parser.feed(b"retry: 0\r")
    assert parser.retry == 0


def test_an_event_has_the_retry_of_its_own_block() -> None:
    body = b"retry: 1\nretry: 2\ndata: a\n\ndata: b\n\nretry: 3\n\ndata: c\n\n"
    assert [event.retry for event in events_of(body)] == [2, None, None]


@pytest.mark.parametrize("value", ["0", "7", "007", "9007199254740991"])
def test_retry_accepts_ascii_digits(value: str) -> None:
    for strict in (True, False):
        parser = EventStreamParser(strict=strict)
        parser.feed(f"retry: {value}\n".encode())
        assert parser.retry == int(value)


@pytest.mark.parametrize("value", INVALID_NUMBERS)
def test_retry_ignores_other_values(value: str) -> None:
    parser = EventStreamParser(strict=False)
    parser.feed(f"retry: 5\nretry: {value}\n".encode())
    assert parser.retry == 5


@pytest.mark.parametrize("digits", ["9007199254740992", "9" * 30, "1" + "0" * 4300, "9" * 5000])
def test_a_huge_retry_is_accepted(digits: str) -> None:
    parser = EventStreamParser()
    (event,) = parser.feed(f"retry: {digits}\ndata: x\n\n".encode())
    assert isinstance(event, SSEEvent)
    for value in (parser.retry, event.retry):
        assert value is not None
        assert value >= LARGEST_EXACT_RETRY


def test_leading_zeros_do_not_change_the_value() -> None:
    parser = EventStreamParser()
    parser.feed(b"retry: " + b"0" * 5000 + b"7\n")
    assert parser.retry == 7


def test_id_takes_effect_at_the_blank_line_even_without_data() -> None:
    parser = EventStreamParser()
    assert parser.last_event_id == ""
    parser.feed(b"id: 7\n")
    assert parser.last_event_id == ""
    assert parser.feed(b"\n") == []
    assert parser.last_event_id == "7"


def test_the_last_id_of_a_block_wins() -> None:
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
def test_an_empty_id_resets_the_last_event_id(line: bytes) -> None:
    events = events_of(b"id: 1\ndata: a\n\n" + line + b"\ndata: b\n\ndata: c\n\n")
    assert [event.id for event in events] == ["1", "", None]
    assert [event.last_event_id for event in events] == ["1", "", ""]


def test_only_an_id_field_sets_the_id_but_the_last_event_id_persists() -> None:
    events = events_of(b"data: a\n\nid: 1\ndata: b\n\ndata: c\n\nid: 2\n\ndata: d\n\n")
    assert [event.id for event in events] == [None, "1", None, None]
    assert [event.last_event_id for event in events] == ["", "1", "1", "2"]


def test_a_given_last_event_id_is_kept() -> None:
    parser = EventStreamParser(last_event_id="old")
    assert parser.last_event_id == "old"
    (event,) = parser.feed(b"data: x\n\n")
    assert isinstance(event, SSEEvent)
    assert (event.id, event.last_event_id) == (None, "old")


@pytest.mark.parametrize(
    "block", [b"event: x\n\n", b"id: 1\n\n", b"retry: 1\n\n", b": c\n\n", b"\n\n\n", b"x: y\n\n"]
)
def test_a_block_without_data_delivers_no_event(block: bytes) -> None:
    assert events_of(block) == []
    (event,) = events_of(block + b"data: next\n\n")
    assert (event.data, event.event, event.id, event.retry) == ("next", None, None, None)


@pytest.mark.parametrize("line", [b"data", b"data:", b"data: "])
def test_an_empty_data_line_delivers_an_empty_event(line: bytes) -> None:
    assert data_of(line + b"\n\n") == [""]
    assert data_of(line + b"\n" + line + b"\n\n") == ["\n"]


@pytest.mark.parametrize("line", [b"event", b"event:", b"event: "])
def test_an_empty_event_field_means_the_default_type(line: bytes) -> None:
    (event,) = events_of(b"event: x\n" + line + b"\ndata: a\n\n")
    assert (event.event, event.type) == (None, "message")


def test_the_last_type_of_a_block_wins_and_ends_with_the_block() -> None:
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


@pytest.mark.parametrize("line", [b"Data: x", b"DATA: x", b"datas: x", b"dat: x", b"x: y", b"data.x-1_y: z"])
@pytest.mark.parametrize("strict", [True, False])
def test_an_unknown_field_with_a_colon_is_ignored(line: bytes, strict: bool) -> None:
    assert data_of(line + b"\ndata: ok\n\n", strict=strict) == ["ok"]


@pytest.mark.parametrize(
    "line", [b" data: x", b"data : x", b"\xef\xbb\xbfdata: x", "dätä: x".encode(), b'{"data": 1}']
)
def test_a_field_name_may_have_any_characters_in_tolerant_parsing(line: bytes) -> None:
    assert data_of(b"data: ok\n" + line + b"\n\n", strict=False) == ["ok"]


def test_an_event_has_the_origin_of_the_parser() -> None:
    parser = EventStreamParser()
    parser.feed(b"data: a\n")
    assert parser.origin == ""
    parser.origin = "https://example.com"
    assert parser.origin == "https://example.com"
    (event,) = parser.feed(b"\n")
    assert isinstance(event, SSEEvent)
    assert event.origin == "https://example.com"


# --- comments -----------------------------------------------------------------------------------------------


def test_comments_are_returned_in_order_if_requested() -> None:
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


def test_a_comment_is_returned_at_the_end_of_its_line() -> None:
    parser = EventStreamParser(comments=True)
    assert parser.feed(b"data: a\n: ping") == []
    assert parser.feed(b"\r") == [Comment(" ping")]
    assert parser.feed(b"\n\n") == [SSEEvent("a")]


def test_an_unfinished_comment_is_discarded_at_the_end() -> None:
    parser = EventStreamParser(comments=True)
    assert parser.feed(b": half") == []
    parser.reset()
    assert parser.feed(b"\n") == []
