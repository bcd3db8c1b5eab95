"""Lines that parsing ignores: the counter, and the signal `Ignored`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sseclient_dual import Comment, EventStreamParser, Ignored, Opened, SSEEvent, SSEParsingError
from sseclient_dual.event import weight
from sseclient_dual.testing import CUT, HANG, SSEServer, stream
from support.policies import QUICK
from support.streams import ONE, TWO
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.apis import Api

MALFORMED = ["<html>", "no colon", '{"error": 1}', "retry: soon", "retry", "a b: c", "Data: x", "é: x"]
UNKNOWN = ["unknown: x", "X-Trace:1"]
WITH_NUL = "id: 1\0"


@pytest.mark.parametrize("line", [*MALFORMED, *UNKNOWN, WITH_NUL])
def test_a_line_that_tolerant_parsing_ignores_is_counted_and_told(api: Api, line: str) -> None:
    with SSEServer(stream(f"data: a\n{line}\ndata: b\n\n")) as server, api.client() as client:
        conn = client.connect(server.url, reconnect=False, strict=False)
        signals = api.signals(conn)
        assert isinstance(signals.next(), Opened)
        assert signals.rest() == [Ignored(line), SSEEvent("a\nb")]
        assert conn.stats.ignored == 1


@pytest.mark.parametrize("line", ["data: x", "data", "event: x", "event", "id", "retry: 1", ": comment", ":", ""])
def test_other_lines_are_not_counted(api: Api, line: str) -> None:
    with SSEServer(stream(f"{line}\n\n", ONE)) as server, api.client() as client:
        conn = client.connect(server.url, reconnect=False, strict=False)
        assert api.rest(conn)[-1].data == "one"
        assert conn.stats.ignored == 0


def test_ignored_lines_are_in_order_with_the_events(api: Api) -> None:
    script = f"first\n{ONE}:hello\nsecond\n{TWO}third\nnot a whole line"
    with SSEServer(stream(script)) as server, api.client() as client:
        conn = client.connect(server.url, reconnect=False, strict=False)
        assert [type(signal) for signal in api.signals(conn).rest()] == [
            Opened, Ignored, SSEEvent, Comment, Ignored, SSEEvent, Ignored,
        ]  # fmt: skip


def test_ignored_lines_of_all_connections_are_counted_and_not_returned_as_events(api: Api) -> None:
    replies = stream("first\n" + ONE, CUT), stream(ONE + "second\nthird\n" + TWO, HANG)
    with SSEServer(*replies) as server, api.client(policy=QUICK) as client:
        conn = client.connect(server.url, strict=False)
        assert [event.data for event in api.take(conn, 2)] == ["one", "two"]
        assert (conn.stats.ignored, conn.stats.comments, conn.stats.events) == (3, 0, 2)
        api.close(conn)


def test_strict_parsing_ignores_unknown_fields_only(api: Api) -> None:
    with SSEServer(stream("unknown: x\n\n", "<html>\n")) as server, api.client() as client:
        conn = client.connect(server.url, reconnect=False)
        signals = api.signals(conn)
        assert isinstance(signals.next(), Opened)
        assert signals.next() == Ignored("unknown: x")
        with pytest.raises(SSEParsingError):
            signals.next()
        assert conn.stats.ignored == 1


def test_a_full_queue_of_ignored_lines_stops_reading(api: Api) -> None:
    lines = [f"line {number}" for number in range(10)]
    with SSEServer(stream("\n".join(lines) + "\n", ONE, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, strict=False, queue_size=2)
        signals = api.signals(conn)
        api.open(conn)
        wait_until(lambda: conn._reader.handoff.is_full, "a full queue")
        assert [signal.line for signal in signals.take(11) if isinstance(signal, Ignored)] == lines
        assert signals.next() == SSEEvent("one", id="1")
        api.close(conn)


def test_the_weight_of_an_ignored_line() -> None:
    assert weight(Ignored("twelve chars")) == 12


def test_a_parser_of_a_user_returns_no_ignored_lines() -> None:
    parser = EventStreamParser(strict=False, comments=True)
    assert parser.feed(b"first\n:a\nsecond\ndata: x\n\n") == [Comment("a"), SSEEvent("x")]
    assert parser.ignored_seen == 2
