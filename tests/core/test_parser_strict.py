"""Strict parsing: which lines are malformed, and what the error says about them."""

from __future__ import annotations

import pytest

from sseclient_dual.errors import SSEParsingError
from sseclient_dual.event import Comment, SSEEvent
from sseclient_dual.parser import EventStreamParser
from support.parsing import BOM, INVALID_NUMBERS, cuts, every_byte, feed_all
from support.reference_parser import NAME_CHARACTERS, REPLACEMENT

MALFORMED_LINES = {
    "no colon": [
        "no colon", "[DONE]", "Data", " data", "data ", "datas", "ret", "Forbidden", "null", "[1, 2]",
        "\ufeff", "\0", "\u2028", " ", "\t",
    ],
    "looks like JSON": [
        '{"error":"x"}', '{"error": "x"}', "{", "{}", '{"error"', '  "error": "x",', '\t"error"', "{'error': 'x'}",
        '"x"', "[", "[]", "[ ]", '["a", "b"]', "[{", ' [ {"a": 1}]', "[[1, 2]]",
    ],
    "looks like HTML": [
        "<", "<html>", "<!DOCTYPE html>", '<html lang="en">', "  <p>at 12:30</p>", '<a href="https://example.com/">',
        '<?xml version="1.0"?>', '<x:a xmlns:x="urn:x">', "<<: x",
    ],
    "invalid retry": [
        *(f"retry: {value}" for value in INVALID_NUMBERS), "retry", "retry:", "retry:soon", 'retry: {"a": 1}',
    ],
    "invalid field name": [
        " data: x", "\tdata: x", "data : x", "data\t:x", "\ufeffdata: x", "\0: x", "data\0: x", "é: x", "dätä: x",
        "☃:", "retry : 1", " retry: 1", "id : 1", "event\u00a0: x", "٣: x", "a/b: x", "a=b: c", "[12:30] started",
        "[DONE]: x", "html lang: x", "}: x", "\x0b: x", "so far: it came",
    ],
}  # fmt: skip
LINES_OF_PROBLEMS = [(problem, line) for problem, lines in MALFORMED_LINES.items() for line in lines]
NO_PROBLEM_WHEN_CUT = {"Data", "datas", "ret", "Forbidden", "null", "retry", "retry:", "retry: "}


def assert_malformed(error: object, problem: str, line: str) -> None:
    assert isinstance(error, SSEParsingError)
    assert error.line == line
    assert f"not in the event-stream format ({problem}); check" in str(error)


@pytest.mark.parametrize(("problem", "line"), LINES_OF_PROBLEMS)
def test_strict_parsing_reports_a_malformed_line(problem: str, line: str) -> None:
    body = f"data: good\n\n{line}\ndata: never\n\n".encode()
    for chunks in cuts(body):
        outcome = feed_all(EventStreamParser(), chunks)
        assert outcome.items == [SSEEvent("good")]
        assert_malformed(outcome.error, problem, line)


@pytest.mark.parametrize(("problem", "line"), LINES_OF_PROBLEMS)
def test_tolerant_parsing_ignores_a_malformed_line(problem: str, line: str) -> None:
    body = f"data: good\n\n{line}\ndata: more\n\n{line}".encode()
    for chunks in cuts(body):
        outcome = feed_all(EventStreamParser(strict=False), chunks)
        assert outcome.error is None, problem
        assert outcome.items == [SSEEvent("good"), SSEEvent("more")]


@pytest.mark.parametrize(
    "line",
    [
        "data", "event", "id", ":", "", "::", ": {", ":<", "id: a\0b", "id: é", "event: <html>", "retry: 007",
        "unknown:", "x: y", "Data: x", "RETRY: soon", "retry2: x", "retry-after: x", "http://example.com", "-: x",
        "12:30", f"{NAME_CHARACTERS}: x",
    ],
)  # fmt: skip
def test_strict_parsing_accepts_valid_lines(line: str) -> None:
    body = f"{line}\ndata: ok\n\n{line}".encode()
    for chunks in cuts(body):
        outcome = feed_all(EventStreamParser(), chunks)
        assert outcome.error is None
        (event,) = [item for item in outcome.items if isinstance(item, SSEEvent) and item.data]
        assert event.data.endswith("ok")


@pytest.mark.parametrize("lines", MALFORMED_LINES.values(), ids=MALFORMED_LINES)
def test_the_message_quotes_nothing_of_the_line(lines: list[str]) -> None:
    for line in lines:
        error = feed_all(EventStreamParser(), [f"\n{line} s3cret\n".encode()]).error
        assert isinstance(error, SSEParsingError)
        assert "s3cret" in error.line
        assert "s3cret" not in str(error)


def test_a_line_is_not_malformed_before_it_ends() -> None:
    parser = EventStreamParser()
    assert parser.feed(b"Forbidden") == []
    assert parser.error is None
    assert parser.feed(b"-Reason: none\n") == []
    assert parser.error is None


def test_invalid_utf8_in_a_malformed_line_is_replaced() -> None:
    for end in (b"\n", b""):
        assert_malformed(feed_all(EventStreamParser(), [b"\xff\xfe" + end]).error, "no colon", REPLACEMENT * 2)


# --- the end of a response ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("problem", "line"), LINES_OF_PROBLEMS)
def test_finish_reports_a_last_line_that_begins_no_valid_one(problem: str, line: str) -> None:
    for chunks in cuts(f"data: good\n\n{line}".encode()):
        outcome = feed_all(EventStreamParser(), chunks)
        assert outcome.items == [SSEEvent("good")]
        if line in NO_PROBLEM_WHEN_CUT:
            assert outcome.error is None
        else:
            assert_malformed(outcome.error, problem, line)


@pytest.mark.parametrize(
    "line", [b"data: x", b"event: tick", b"id: 7", b"retry: 3000", b": c\xe2\x98\x83", b"x-1.5_y: z", BOM]
)
def test_a_valid_line_may_be_cut_anywhere_at_the_end(line: bytes) -> None:
    for end in range(len(line) + 1):
        for chunks in ([line[:end]], every_byte(line[:end])):
            assert feed_all(EventStreamParser(), chunks).error is None


def test_a_last_line_after_a_cr_is_checked_too() -> None:
    assert_malformed(feed_all(EventStreamParser(), [b"data: a\r", b'\n{"a":1}']).error, "looks like JSON", '{"a":1}')
    assert feed_all(EventStreamParser(), [b"data: a\r", b"\n"]).error is None


def test_finish_prepares_for_the_next_response() -> None:
    parser = EventStreamParser(comments=True)
    assert parser.feed(b"id: 1\nretry: 5\n\nid: 2\ndata: half\ndata: ha") == []
    parser.finish()
    assert (parser.last_event_id, parser.retry) == ("1", 5)
    assert parser.feed(BOM + b": c\n\ndata: x\n\n") == [Comment(" c"), SSEEvent("x")]
    parser.finish()


def test_an_error_of_finish_is_raised_until_reset() -> None:
    parser = EventStreamParser()
    assert parser.feed(b"id: 1\ndata: a\n\n<html>") == [SSEEvent("a", id="1")]
    assert parser.error is None
    for _ in range(2):
        with pytest.raises(SSEParsingError) as caught:
            parser.finish()
        assert parser.error is caught.value
    with pytest.raises(SSEParsingError):
        parser.feed(b"data: x\n\n")
    parser.reset()
    assert parser.last_event_id == "1"
    assert parser.feed(b"data: x\n\n") == [SSEEvent("x")]
