"""Replies of the scripted server: framings, endings, encodings, whole replies."""

from __future__ import annotations

import http.client
import threading
import zlib
from typing import TYPE_CHECKING

import pytest

from sseclient_dual.event import SSEEvent
from sseclient_dual.testing import (
    CUT,
    HANG,
    RESET,
    Gate,
    Reply,
    SSEServer,
    Step,
    half_chunk,
    pause,
    raw,
    redirect,
    status,
    stream,
    wire,
)
from support.dialling import CHUNKED, answer, dial, expect, expect_nothing, get, read, read_all
from support.streams import HEAD
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

# --- framings and endings -----------------------------------------------------------------------------------


def test_chunked_sends_one_chunk_per_data_step() -> None:
    event = SSEEvent("x", id="1")
    data = b"%x\r\n%b\r\n" % (len(event.encode()), event.encode())
    expected = CHUNKED + b"3\r\n\xe2\x98\x83\r\n2\r\nab\r\n1\r\nc\r\n" + data + b"0\r\n\r\n"
    assert answer(stream("☃", b"ab", bytearray(b"c"), event, "", b"")) == expected


def test_close_and_none_end_by_closing() -> None:
    assert answer(stream("a", "b", framing="close")) == HEAD + b"Connection: close\r\n\r\nab"
    assert answer(stream("a", "b", framing="none")) == HEAD + b"\r\nab"


@pytest.mark.parametrize("framing", ["close", "none"])
def test_close_and_none_close_a_connection_that_might_persist(framing: str) -> None:
    with SSEServer(stream("a", framing=framing)) as server, dial(server) as sock:  # type: ignore[arg-type]
        get(sock)
        assert read_all(sock).endswith(b"\r\n\r\na")


def test_sized_computes_the_length_or_takes_the_given_one() -> None:
    assert answer(stream("ab", [b"c"], framing="sized")) == HEAD + b"Content-Length: 3\r\n\r\nabc"
    assert answer(stream("ab", wire("c"), framing="sized")) == HEAD + b"Content-Length: 3\r\n\r\nabc"
    given = stream("abc", framing="sized", headers={"content-length": "9"})
    assert answer(given) == HEAD + b"content-length: 9\r\n\r\nabc"
    assert answer(stream("ab", CUT, "cdef", framing="sized")) == HEAD + b"Content-Length: 6\r\n\r\nab"


def test_sized_with_a_wrong_length_closes_the_connection() -> None:
    short = stream("abc", framing="sized", headers={"Content-Length": "9"})
    with SSEServer(short) as server, dial(server) as sock:
        get(sock)
        assert read_all(sock).endswith(b"abc")


def test_head_has_the_given_status_and_headers() -> None:
    reply = stream(
        CUT, status=299, headers=[("X", "1"), (b"X", b"\xff"), ("content-TYPE", "text/x")], content_type="no"
    )
    head = b"HTTP/1.1 299 \r\nTransfer-Encoding: chunked\r\nX: 1\r\nX: \xff\r\ncontent-TYPE: text/x\r\n\r\n"
    assert answer(reply) == head
    assert answer(stream(CUT, reason="Fine", content_type=None, framing="none")) == b"HTTP/1.1 200 Fine\r\n\r\n"


def test_half_chunk_and_wire_are_sent_unchanged() -> None:
    assert answer(stream(half_chunk("data: x\n\n"), CUT)) == CHUNKED + b"400\r\ndata: x\n\n"
    completed = answer(stream(half_chunk(b"ab", 4), wire("cd\r\n"), CUT, encoding="gzip"))
    assert completed.endswith(b"\r\n\r\n4\r\nabcd\r\n")


def test_nothing_is_added_to_a_raw_reply() -> None:
    assert answer(raw(b"garbage\r\n\r\n", "more", half_chunk("x", 15))) == b"garbage\r\n\r\nmoref\r\nx"
    assert answer(raw()) == b""


def test_raw_hang_never_answers() -> None:
    server = SSEServer(raw(HANG)).start()
    with dial(server) as sock:
        get(sock)
        server.wait_for_requests(1)
        expect_nothing(sock)
        server.close()
        assert read_all(sock) == b""


def test_cut_is_a_fin() -> None:
    with SSEServer(stream("a", CUT, "never")) as server, dial(server) as sock:
        get(sock)
        assert read_all(sock) == CHUNKED + b"1\r\na\r\n"


def test_cut_is_a_fin_even_with_unread_data() -> None:
    sent = threading.Event()

    def wait() -> Step:
        assert sent.wait(10)
        return CUT

    with SSEServer(stream("a", wait)) as server, dial(server) as sock:
        get(sock)
        expect(sock, CHUNKED + b"1\r\na\r\n")
        sock.sendall(b"x" * 1000)  # a plain close with unread data would send an RST
        sent.set()
        assert read_all(sock) == b""


def test_reset_is_an_rst_after_the_data() -> None:
    with SSEServer(stream("a", RESET), raw(RESET)) as server:
        for expected in CHUNKED + b"1\r\na\r\n", b"":
            with dial(server) as sock:
                get(sock)
                server.wait_for_connections(0)
                assert read(sock, len(expected)) == expected
                with pytest.raises(ConnectionResetError):
                    sock.recv(1)


def test_hang_is_silence_until_the_server_closes() -> None:
    server = SSEServer(stream("a", HANG)).start()
    with dial(server) as sock:
        get(sock)
        expect(sock, CHUNKED + b"1\r\na\r\n")
        server.wait_for_connections(1)
        server.close()
        assert read_all(sock) == b""


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("framing", ["chunked", "close", "sized"])
def test_each_piece_is_compressed_and_flushed(encoding: str, framing: str) -> None:
    gates = Gate(), Gate()
    reply = stream("one" * 9, gates[0], "two", gates[1], framing=framing, encoding=encoding)  # type: ignore[arg-type]
    decoder = zlib.decompressobj(31 if encoding == "gzip" else 15)
    with SSEServer(reply) as server:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=PATIENCE)
        connection.request("GET", "/")
        response = connection.getresponse()
        assert response.getheader("Content-Encoding") == encoding
        for gate, text in zip(gates, (b"one" * 9, b"two"), strict=True):
            plain = b""
            while plain != text:
                plain += decoder.decompress(response.read1())
            gate.open()
        assert decoder.decompress(response.read()) == b""
        assert decoder.eof
        connection.close()


def test_a_cut_compressed_body_has_no_trailer() -> None:
    body = answer(stream("one", CUT, framing="none", encoding="gzip")).partition(b"\r\n\r\n")[2]
    decoder = zlib.decompressobj(31)
    assert decoder.decompress(body) == b"one"
    assert not decoder.eof


@pytest.mark.parametrize("head_with_body", [False, True])
def test_head_is_sent_alone_or_with_the_first_data(head_with_body: bool) -> None:
    gate = Gate()
    with (
        SSEServer(stream(gate, "", "a", HANG, head_with_body=head_with_body)) as server,
        dial(server) as sock,
    ):
        get(sock)
        gate.wait_reached()
        expect(sock, b"" if head_with_body else CHUNKED)
        gate.open()
        assert sock.recv(65536) == (CHUNKED if head_with_body else b"") + b"1\r\na\r\n"


def test_head_with_body_is_sent_at_a_clean_end() -> None:
    assert answer(stream(head_with_body=True)) == CHUNKED + b"0\r\n\r\n"
    assert answer(stream(CUT, head_with_body=True)) == b""


def test_unknown_framing_and_encoding_are_refused() -> None:
    with pytest.raises(ValueError, match="'lines'"):
        stream(framing="lines")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'br'"):
        stream(encoding="br")  # type: ignore[arg-type]


# --- complete replies ---------------------------------------------------------------------------------------


def test_status() -> None:
    assert answer(status(503, "ä", {"Retry-After": "1"})) == (
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n\xc3\xa4"
    )
    assert answer(status(401, {"error": "no"})) == (
        b'HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"error": "no"}'
    )
    assert answer(status(200, {}, content_type="text/x", reason="")) == (
        b"HTTP/1.1 200 \r\nContent-Type: text/x\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert answer(status(304)) == b"HTTP/1.1 304 Not Modified\r\n\r\n"


def test_status_with_retry_after() -> None:
    assert answer(status(503, headers={"A": "b"}, retry_after=1)) == (
        b"HTTP/1.1 503 Service Unavailable\r\nA: b\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    )
    assert b"\r\nRetry-After: 0\r\n" in answer(status(429, retry_after=0))
    with pytest.raises(ValueError, match="retry_after"):
        status(503, retry_after=-1)
    with pytest.raises(TypeError, match="retry_after"):
        status(503, retry_after="1")  # type: ignore[arg-type]


def test_redirect() -> None:
    end = b"Content-Length: 0\r\n\r\n"
    assert answer(redirect("/x", headers={"A": "b"})) == (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nA: b\r\n" + end)
    assert answer(redirect("", 301)) == b"HTTP/1.1 301 Moved Permanently\r\nLocation: \r\n" + end
    assert answer(redirect(None, 307)) == b"HTTP/1.1 307 Temporary Redirect\r\n" + end


# --- mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [stream, raw])
@pytest.mark.parametrize("step", [{"p": 1}, [{"p": 1}], ("data: x\n\n", [{}])])
def test_a_mapping_is_no_step(make: Callable[..., Reply], step: object) -> None:
    with pytest.raises(TypeError, match=r"a dict is no step; for an event with JSON use SSEEvent\(json\.dumps"):
        make(step)


def test_an_event_whose_data_is_a_mapping_is_no_step() -> None:
    event = SSEEvent({"p": 1})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        TypeError, match=r"^the data of an event is a str, not dict; for JSON use json\.dumps\(\.\.\.\)$"
    ):
        stream([event])


@pytest.mark.parametrize("step", [1, None, ["a", None], object()])
def test_other_types_are_no_steps(step: object) -> None:
    with pytest.raises(TypeError, match="not a step of a script: "):
        stream(step)  # type: ignore[arg-type]


def test_a_mapping_from_a_callable_is_no_step() -> None:
    server = SSEServer(stream(lambda: {"p": 1})).start()
    with dial(server) as sock:
        get(sock)
        read_all(sock)
    with pytest.raises(TypeError, match="a dict is no step"):
        server.close()


UNFINISHED: list[tuple[Step, ...]] = [
    ("data: x",),
    ("data: x\n",),
    ("data: x\r\n",),
    ("data",),
    ("data: x\n\n", "data: y\n"),
    (b"id: 1\n", bytearray(b"data: x\n"), ": c\n"),
    ("data: x\n", HANG, "\n"),
    ("data: x\n", Gate(), pause(0)),
    (SSEEvent("x"), "event: y\ndata: z\r"),
]
FINISHED: list[tuple[Step, ...]] = [
    (),
    ("data: x\n\n",),
    ("data: x\r\n\r\n",),
    ("data: x\r\r",),
    ("data: x\n", "\n"),
    (SSEEvent("x"), HANG),
    ("data: x\n\n", "retry: 1\n", ": c"),
    ("database: x",),
    ("<html>",),
    ("data: x", CUT),
    ("data: x", RESET),
    ("data: x", lambda: "\n\n"),
    ("data: x", iter(["\n\n"])),
    ("data: x", wire("2\r\n\n\n\r\n")),
    (lambda: "data: x",),
]


@pytest.mark.parametrize("steps", UNFINISHED)
def test_a_last_event_without_its_blank_line_is_a_warning(steps: tuple[Step, ...]) -> None:
    with pytest.warns(UserWarning, match="the last event has no blank line") as caught:
        stream(*steps)
    assert caught[0].filename == __file__
    with SSEServer() as server, pytest.warns(UserWarning, match="the last event has no blank line") as caught:
        server.stream(*steps)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("steps", FINISHED)
def test_other_streams_are_no_warning(steps: tuple[Step, ...]) -> None:
    stream(*steps)


def test_bodies_that_are_no_whole_event_streams_are_no_warning() -> None:
    stream("data: x", status=500)
    stream("data: x", content_type="text/plain")
    stream("data: x", content_type=None)
    stream("data: x", framing="sized", headers={"Content-Length": "20"})
    status(200, "data: x", content_type="text/plain")
