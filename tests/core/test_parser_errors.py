"""The parser's errors: when they are raised, and the size limit."""

from __future__ import annotations

from typing import Any

import pytest

from sseclient_dual.errors import SSEEventTooLargeError, SSEParsingError
from sseclient_dual.event import Comment, SSEEvent
from sseclient_dual.parser import EventStreamParser
from support.parsing import BOM, cuts, data_of, feed_all

# --- when errors are raised ---------------------------------------------------------------------------------


def test_an_error_loses_no_event_and_is_raised_by_the_next_call() -> None:
    parser = EventStreamParser(comments=True)
    items = parser.feed(b"data: a\n\n: c\nid: 9\n\nretry: 5\ndata: lost\nbad\ndata: never\n\n")
    assert items == [SSEEvent("a"), Comment(" c")]
    assert isinstance(parser.error, SSEParsingError)
    assert (parser.last_event_id, parser.retry) == ("9", 5)
    with pytest.raises(SSEParsingError, match="line attribute") as caught:
        parser.feed(b"")
    assert caught.value.line == "bad"


def test_an_error_is_raised_by_the_next_call_even_without_an_event_before_it() -> None:
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


def test_finish_raises_the_error_of_the_last_chunk() -> None:
    for body, error in ((b"data: a\n\nbad\n", SSEParsingError), (b"data: a\n\ndata: 12345\n", SSEEventTooLargeError)):
        parser = EventStreamParser(max_event_size=4)
        assert parser.feed(body) == [SSEEvent("a")]
        for call in (parser.finish, parser.finish, lambda parser=parser: parser.feed(b"data: b\n\n")):
            with pytest.raises(error):
                call()
        parser.reset()
        parser.finish()


# --- the size limit -----------------------------------------------------------------------------------------


def too_large(body: bytes, limit: int, **options: Any) -> bool:
    """Return whether a body after one valid event exceeds the limit; assert that this is the same for every cut."""
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
def test_the_limit_for_a_line_is_a_data_line_of_that_size(name: bytes, end: bytes) -> None:
    longest = len("data: ") + 50
    for comments in (True, False):
        assert not too_large(name.ljust(longest, b"x") + end, 50, comments=comments)
        assert too_large(name.ljust(longest + 1, b"x") + end, 50, comments=comments)


def test_a_line_that_is_too_long_is_detected_before_it_ends() -> None:
    parser = EventStreamParser(max_event_size=4)
    assert parser.feed(b"data: 1234") == []
    assert parser.error is None
    assert parser.feed(b"5") == []
    assert isinstance(parser.error, SSEEventTooLargeError)
    with pytest.raises(SSEEventTooLargeError):
        parser.feed(b"")


def test_the_limit_applies_to_the_data_of_an_event() -> None:
    assert not too_large(b"data:" + b"x" * 50 + b"\n\n", 50)
    assert too_large(b"data:" + b"x" * 51 + b"\n\n", 50)
    # The line feed between two lines of data counts, too.
    assert not too_large(b"data: " + b"x" * 20 + b"\ndata:" + b"x" * 29 + b"\n\n", 50)
    assert too_large(b"data: " + b"x" * 20 + b"\ndata:" + b"x" * 30 + b"\n\n", 50)


def test_empty_data_lines_count_towards_the_limit() -> None:
    assert not too_large(b"data\n" * 51 + b"\n", 50)
    assert too_large(b"data\n" * 52 + b"\n", 50)


def test_data_that_is_too_large_is_detected_before_the_blank_line() -> None:
    parser = EventStreamParser(max_event_size=20)
    parser.feed(b"data: 0123456789\ndata: 012345678\n")
    assert parser.error is None
    parser.feed(b"data\n")
    assert isinstance(parser.error, SSEEventTooLargeError)


def test_the_limit_counts_utf8_bytes() -> None:
    assert not too_large("data: ☃☃☃☃☃☃\ndata: ☃☃\n\n".encode(), 25)
    assert too_large("data: ☃☃☃☃☃☃\ndata: ☃☃\n\n".encode(), 24)


def test_the_limit_counts_replacement_characters_as_utf8_bytes() -> None:
    assert not too_large(b"data:" + b"\xff" * 10 + b"\n\n", 30)
    assert too_large(b"data:" + b"\xff" * 10 + b"\n\n", 29)
    assert too_large(b": padding\ndata:" + b"\xff" * 10 + b"\n\n", 29)


def test_the_limit_applies_to_each_event_separately() -> None:
    assert not too_large((b"data: " + b"x" * 40 + b"\n\n") * 20, 50)


@pytest.mark.parametrize("comments", [True, False])
def test_comments_do_not_count_towards_the_limit(comments: bool) -> None:
    assert not too_large((b": " + b"x" * 40 + b"\n") * 50, 50, comments=comments)
    assert not too_large(b"data: x\n" + (b": " + b"x" * 40 + b"\n") * 50 + b"data: x\n\n", 50, comments=comments)


def test_other_fields_do_not_count_towards_the_limit() -> None:
    assert not too_large(b"event: " + b"x" * 40 + b"\n" + (b"id: " + b"x" * 40 + b"\n") * 20 + b"data: x\n\n", 50)


def test_the_bom_does_not_count_towards_the_limit() -> None:
    for chunks in cuts(BOM + b"data: 1234\n\n"):
        outcome = feed_all(EventStreamParser(max_event_size=4), chunks)
        assert outcome.error is None
        assert outcome.items == [SSEEvent("1234")]


def test_reset_recovers_from_an_event_that_is_too_large() -> None:
    parser = EventStreamParser(max_event_size=4)
    assert parser.feed(b"data: a\n\ndata: 12345\n\n") == [SSEEvent("a")]
    for _ in range(2):
        with pytest.raises(SSEEventTooLargeError):
            parser.feed(b"")
    parser.reset()
    assert parser.feed(b"data: 1234\n\n") == [SSEEvent("1234")]


def test_the_first_of_two_errors_is_raised() -> None:
    malformed, large = b"bad\n", b"data: 12345\n"
    for body, error in ((malformed + large, SSEParsingError), (large + malformed, SSEEventTooLargeError)):
        for chunks in cuts(body):
            assert type(feed_all(EventStreamParser(max_event_size=4), chunks).error) is error


def test_reset_clears_the_size_of_the_unfinished_block() -> None:
    parser = EventStreamParser(max_event_size=10)
    for _ in range(5):
        assert parser.feed(b"data: 1234\ndata: 1234") == []
        assert parser.error is None
        parser.reset()


def test_an_event_of_megabytes_is_within_the_default_limit() -> None:
    data = "x" * 5_000_000
    assert data_of(f"data: {data}\n\n".encode()) == [data]
