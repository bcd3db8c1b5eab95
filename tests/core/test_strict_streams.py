"""Strict parsing over sockets: bodies that are no event stream although their media type says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sseclient_dual import SSEConnectionError, SSEParsingError
from sseclient_dual.testing import CUT, HANG, RESET, Reply, SSEServer, stream
from support.apis import Ended
from support.policies import QUICK
from support.streams import ONE, TWO

if TYPE_CHECKING:
    from support.apis import Api

BODIES = {
    "JSON": ('{"error": {"message": "s3cret"}}', "looks like JSON"),
    "indented JSON": ('{\n  "error": "s3cret"\n}', "looks like JSON"),
    "JSON list": ('[{"error": "s3cret"}]', "looks like JSON"),
    "HTML": ("<!DOCTYPE html><html><h1>s3cret: Bad Gateway</h1></html>", "looks like HTML"),
    "XML": ('<?xml version="1.0"?><Error><Code>s3cret</Code></Error>', "looks like HTML"),
    "text": ("Not found s3cret", "no colon"),
    "text with a colon": ("Not found: s3cret", "invalid field name"),
    "retry": ("retry: s3cret", "invalid retry"),
}


@pytest.mark.parametrize("framing", ["chunked", "sized", "close"])
@pytest.mark.parametrize("end", ["\n", ""], ids=["with line end", "without line end"])
@pytest.mark.parametrize(("body", "problem"), BODIES.values(), ids=BODIES)
def test_a_body_that_is_no_stream_is_an_error(api: Api, body: str, problem: str, end: str, framing: str) -> None:
    reply = stream(ONE + body + end, framing=framing)  # type: ignore[arg-type]
    with (
        SSEServer(reply) as server,
        api.client() as client,
        api.connect(client, server.url, reconnect=False) as conn,
    ):
        assert api.next(conn).data == "one"  # an event before the error is not lost
        with pytest.raises(SSEParsingError, match="pass strict=False to ignore such lines") as caught:
            api.next(conn)
        assert caught.value.line == (body + end).splitlines()[0]
        message = str(caught.value)
        assert message.startswith(f"{server.url.rstrip('/')}: a line of the stream is not in the event-stream format")
        assert f"({problem})" in message
        assert "s3cret" not in message
        with pytest.raises(Ended):
            api.next(conn)


@pytest.mark.parametrize("end", ["\n", ""], ids=["with line end", "without line end"])
@pytest.mark.parametrize("body", [body for body, _ in BODIES.values()], ids=BODIES)
def test_tolerant_parsing_ignores_a_body_that_is_no_stream(api: Api, body: str, end: str) -> None:
    with (
        SSEServer(stream(ONE + body + end)) as server,
        api.client() as client,
        api.connect(client, server.url, reconnect=False, strict=False) as conn,
    ):
        assert api.next(conn).data == "one"
        with pytest.raises(Ended):
            api.next(conn)


def test_a_second_body_in_a_row_that_is_no_stream_is_raised(api: Api) -> None:
    with (
        SSEServer(stream('{"error": 1}'), stream(TWO + '{"error": 2}')) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        assert api.next(conn).data == "two"
        with pytest.raises(SSEParsingError) as caught:
            api.next(conn)
        assert caught.value.line == '{"error": 2}'
        assert len(server.requests) == 2


@pytest.mark.parametrize("rest", ["dat", "data: x", "event", ": x", "Forbidden", "retry: 1", "id: 1\ndata: x\n"])
def test_a_clean_end_in_the_middle_of_a_valid_line_ends_the_iteration(api: Api, rest: str) -> None:
    with (
        SSEServer(stream(ONE, lambda: rest)) as server,
        api.client() as client,
        api.connect(client, server.url, reconnect=False) as conn,
    ):
        assert api.next(conn).data == "one"
        with pytest.raises(Ended):
            api.next(conn)


BROKEN = {
    "cut": stream(ONE + '{"error": 1}', CUT),
    "reset": stream(ONE + "<html>", RESET),
    "silent": stream(ONE + "<html>", HANG),
}


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN)
def test_the_last_line_of_a_broken_connection_is_not_checked(api: Api, reply: Reply) -> None:
    with (
        SSEServer(reply) as server,
        api.client(timeout=0.5) as client,
        api.connect(client, server.url, reconnect=False) as conn,
    ):
        assert api.next(conn).data == "one"
        with pytest.raises(SSEConnectionError) as caught:
            api.next(conn)
        assert not isinstance(caught.value, SSEParsingError)


def test_a_restart_ignores_the_unfinished_line(api: Api) -> None:
    with (
        SSEServer(
            stream(ONE + "<html>", HANG), stream(TWO + "<html>", HANG), stream("data: three\n\n", HANG)
        ) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        for data in ("one", "two"):
            assert api.next(conn).data == data
            conn.restart()
        assert api.next(conn).data == "three"
