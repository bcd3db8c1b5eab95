"""Chunked bodies, split at any byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseclient_dual import SSEConnectionError
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, pause, stream, wire
from sseclient_dual.transport import chunks as module
from sseclient_dual.transport.chunks import Chunks

if TYPE_CHECKING:
    from support.apis import Api


CHUNKED = {
    "one chunk": (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "several chunks": (b"1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n", b"abcdef"),
    "no chunks": (b"0\r\n\r\n", b""),
    "upper and lower case": (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
    "leading zeros": (b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
    "extensions": (b"5;a=b\r\nhello\r\n5 ;c\r\nworld\r\n0;d\r\n\r\n", b"helloworld"),
    "a long extension": (b"5;name=value;and=another\r\nhello\r\n0\r\n\r\n", b"hello"),
    "chunks that contain line ends": (b"2\r\n\r\n\r\n3\r\na\r\n\r\n1\r\n\n\r\n0\r\n\r\n", b"\r\na\r\n\n"),
    "small, large, small": (
        b"1\r\na\r\n%x\r\n%b\r\n1\r\nc\r\n0\r\n\r\n" % (5000, b"b" * 5000),
        b"a" + b"b" * 5000 + b"c",
    ),
    "large, small": (b"%x\r\n%b\r\n1\r\nc\r\n0\r\n\r\n" % (5000, b"b" * 5000), b"b" * 5000 + b"c"),
    "trailers": (b"5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n", b"hello"),
    "bare line feeds": (b"5\nhello\n0\n\n", b"hello"),
    "data that looks like framing": (b"7\r\n0\r\n\r\n5\r\r\n0\r\n\r\n", b"0\r\n\r\n5\r"),
    "data after the end": (b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK", b"hello"),
}


@pytest.mark.parametrize(("framed", "data"), CHUNKED.values(), ids=CHUNKED)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 100, 100_000])
def test_chunked_framing_is_removed_at_any_split(framed: bytes, data: bytes, size: int) -> None:
    chunks = Chunks()
    got = [b"".join(chunks.feed(framed[start : start + size])) for start in range(0, len(framed), size)]
    assert b"".join(got) == data
    assert chunks.stopped
    assert not chunks.broken


@pytest.mark.parametrize(
    "framed",
    [b"\r\n", b"x\r\n", b"-5\r\nhello\r\n", b"+5\r\n", b"0x5\r\n", b"1_0\r\n", b" 5\r\n", b"5 5\r\n",
     b"5\r\nhelloX\r\n", b"11111111111111111\r\n", b"5;" + b"x" * 70_000, "\u0665\r\n".encode()],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 100_000])
def test_invalid_chunked_framing_is_an_error(framed: bytes, size: int) -> None:
    chunks = Chunks()
    pieces = []
    for start in range(0, len(framed), size):
        pieces += chunks.feed(framed[start : start + size])
    assert chunks.broken
    assert b"".join(pieces) in {b"", b"hello"}


@given(sizes=st.lists(st.integers(1, 40)), split=st.integers(1, 300), data=st.data())
def test_random_chunks_are_decoded_at_any_split(sizes: list[int], split: int, data: st.DataObject) -> None:
    bodies = [
        data.draw(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"1", b"0"]), min_size=n, max_size=n)) for n in sizes
    ]
    parts = [b"".join(body) for body in bodies]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    chunks = Chunks()
    got = [piece for start in range(0, len(framed), split) for piece in chunks.feed(framed[start : start + split])]
    assert b"".join(got) == b"".join(parts)
    assert chunks.stopped
    assert not chunks.broken


def test_the_cache_of_chunk_sizes_is_bounded() -> None:
    chunks = Chunks()
    for size in range(1, 10_000):
        assert chunks.feed(b"%x\r\n%b\r\n" % (size, b"x" * size)) == [b"x" * size]
    assert len(module._sizes) <= 1024


@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_invalid_framing_raises_a_connection_error(api: Api, encoding: Literal["gzip"] | None) -> None:
    reply = stream("data: x\n\n", wire("-5\r\nhello\r\n"), HANG, encoding=encoding)
    with SSEServer(reply) as server, api.client() as client:
        with api.connect(client, server.url, reconnect=False) as conn:
            assert api.next(conn).data == "x"
            with pytest.raises(SSEConnectionError, match="invalid chunked framing"):
                api.next(conn)


def test_a_body_without_its_final_line_is_complete(api: Api) -> None:
    with SSEServer(stream("data: x\n\n", wire("0\r\n"), CUT)) as server, api.client() as client:
        with api.connect(client, server.url, reconnect=False) as conn:
            assert [event.data for event in api.rest(conn)] == ["x"]


def test_an_event_is_delivered_before_the_end_of_its_chunk(api: Api) -> None:
    gate = Gate()
    steps = [wire("9\r\ndata: x\n\n"), gate, wire("\r"), pause(0.01), wire("\n9\r\ndata: y\n\n\r\n"), HANG]
    with SSEServer(stream(*steps)) as server, api.client() as client, api.connect(client, server.url) as conn:
        assert api.next(conn).data == "x"
        gate.open()
        assert api.next(conn).data == "y"
