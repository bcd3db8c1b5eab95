"""The media type of a response: extracted as the Fetch standard says, from any number of fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseclient_dual import SSEContentTypeError
from sseclient_dual.testing import SSEServer, raw
from sseclient_dual.transport.headers import media_type

if TYPE_CHECKING:
    from support.apis import Api

SSE = "text/event-stream"
TYPES = {
    "": "",
    SSE: SSE,
    "Text/Event-Stream": SSE,
    " \ttext/event-stream\t ": SSE,
    "text/event-stream;charset=utf-8": SSE,
    "text/event-stream ; charset=utf-8": SSE,
    "text/event-stream\t;": SSE,
    "text/event-stream;;;": SSE,
    "text/event-stream; no parameter": SSE,
    # lists: the last valid value counts
    f"{SSE}, {SSE}": SSE,
    f"{SSE},{SSE}": SSE,
    f"application/json, {SSE}": SSE,
    f"{SSE}, application/json": "application/json",
    f"{SSE}, ": SSE,
    f", {SSE},": SSE,
    f"{SSE}, */*": SSE,
    f"{SSE}, */*;q=0.1": SSE,
    "*/*": "",
    f"{SSE}, text": SSE,
    f"{SSE}, text/": SSE,
    f"{SSE}, /html": SSE,
    f"{SSE}, text/html;x=y": "text/html",
    f"{SSE}, a/*": "a/*",  # valid: the star is a token character
    # invalid
    "text": "",
    "text/": "",
    "/event-stream": "",
    "text /event-stream": "",
    "text/ event-stream": "",
    "text/event-stream charset=utf-8": "",
    "text;x/event-stream": "",
    "text/event/stream": "",
    f'"{SSE}"': "",
    "text/event-stream\xe4": "",
    "\xa0text/event-stream": "",
    "text/event-stream\0": "",
    # commas in quoted strings
    f'text/html;x="a, {SSE}"': "text/html",
    f'text/html;x="a, {SSE}': "text/html",
    f'text/html;x="a\\", {SSE}"': "text/html",
    f'text/html;x="a\\", {SSE}': "text/html",
    f'text/html;x="a, {SSE}\\': "text/html",
    f'text/html;x="a", {SSE}': SSE,
    f'text/html;x="a\\\\", {SSE}': SSE,
    f'text/html;x="a"b", {SSE}': "text/html",
    f'text/html;x="", {SSE};x=""': SSE,
    f'"a, b", {SSE}': SSE,
    # the examples of the Fetch standard
    "text/plain;charset=gbk, text/html": "text/html",
    "text/html;charset=gbk;a=b, text/html;x=y": "text/html",
    "text/html;charset=gbk;a=b, text/html": "text/html",
    'text/html;x=",text/plain': "text/html",
    "text/html, */*": "text/html",
    "text/html, cannot-parse": "text/html",
}


@pytest.mark.parametrize("header", TYPES)
def test_the_media_type_of_a_header(header: str) -> None:
    assert media_type(header) == TYPES[header]


def split_by_the_standard(header: str) -> list[str]:
    """Do, step by step, what "get, decode, and split" of the Fetch standard does to a header that is there."""
    values, value, position = [], "", 0
    while True:
        while position < len(header) and header[position] not in '",':
            value += header[position]
            position += 1
        if position < len(header) and header[position] == '"':
            start = position
            position += 1
            while position < len(header):
                char = header[position]
                position += 1
                if char == "\\":
                    position += 1
                elif char == '"':
                    break
            value += header[start:position]
            if position < len(header):
                continue
        position += 1
        values.append(value.strip("\t "))
        value = ""
        if position > len(header):
            return values


@given(st.text(st.sampled_from('",;\\/ \ta*=\n'), max_size=30))
def test_lists_are_split_as_the_standard_does(header: str) -> None:
    types = [found for value in split_by_the_standard(header) if (found := media_type(value))]
    assert media_type(header) == (types[-1] if types else "")


@pytest.mark.parametrize("header", [header for header in TYPES if header.isascii() and "\0" not in header])
def test_a_response_with_that_header(api: Api, header: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {header}\r\n\r\n"
    with SSEServer(raw(head, "data: x\n\n")) as server, api.client() as client:
        conn = client.connect(server.url, reconnect=False)
        if TYPES[header] == SSE:
            with api.enter(conn):
                assert [event.data for event in api.rest(conn)] == ["x"]
        else:
            with pytest.raises(SSEContentTypeError, match="not 'text/event-stream'") as caught:
                api.open(conn)
            assert caught.value.content_type == TYPES[header]


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        (["text/event-stream", "text/event-stream"], None),
        (["application/json", "text/event-stream; charset=utf-8"], None),
        (["text/event-stream", "nothing", "*/*"], None),
        (["text/event-stream", "application/json; x=y"], "application/json"),
        (['text/html; x="', "text/event-stream"], "text/html"),
        (["nothing; x=y"], "nothing"),
        ([""], "(none)"),
        ([], "(none)"),
    ],
)
def test_a_response_with_several_fields(api: Api, fields: list[str], shown: str | None) -> None:
    lines = "".join(f"Content-Type: {field}\r\n" for field in fields)
    with SSEServer(raw(f"HTTP/1.1 200 OK\r\n{lines}\r\n", "data: x\n\n")) as server, api.client() as client:
        conn = client.connect(server.url, reconnect=False)
        if shown is None:
            with api.enter(conn):
                assert [event.data for event in api.rest(conn)] == ["x"]
        else:
            with pytest.raises(SSEContentTypeError) as caught:
                api.open(conn)
            assert f"answered with media type '{shown}', not 'text/event-stream'" in str(caught.value)
