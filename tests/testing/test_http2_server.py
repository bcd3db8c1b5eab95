"""The scripted server over HTTP/2: the same replies, several streams on a connection, frames of its own."""

from __future__ import annotations

import importlib.util
import shutil
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING, NoReturn

import pytest
from h2.events import (
    ConnectionTerminated,
    PingAckReceived,
    PingReceived,
    ResponseReceived,
    SettingsAcknowledged,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

from sseclient_dual.testing import (
    CUT,
    HANG,
    HTTP2,
    RESET,
    Gate,
    ReceivedFrame,
    ReceivedRequest,
    Reply,
    SSEServer,
    Step,
    goaway,
    half_chunk,
    pause,
    raw,
    redirect,
    reset_stream,
    status,
    stream,
    trailers,
    wire,
)
from support.dialling import answer, dial, read_all
from support.http2 import Http2Client, dial_http2, frame

if TYPE_CHECKING:
    from support.dialling import Contexts

CURL = shutil.which("curl")
needs_curl = pytest.mark.skipif(
    CURL is None or "HTTP2" not in subprocess.check_output([CURL, "--version"], text=True),
    reason="needs curl with HTTP/2",
)
INITIAL_WINDOW = 65535  # bytes, unless a setting says otherwise (RFC 9113, section 6.5.2)


def curl(server: SSEServer, *options: str) -> str:
    """Return head and body of a response, as curl prints them."""
    command = ["curl", "--silent", "--include", "--insecure", "--max-time", "10", *options, server.url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# --- an independent client ----------------------------------------------------------------------------------


@needs_curl
def test_curl_reads_replies_by_prior_knowledge() -> None:
    replies = stream("data: a\n\n", headers={"X-Test": "1"}), status(503, "busy", retry_after=3), redirect("/x")
    with SSEServer(*replies, stream("b", trailers({"X-End": "2"}), "never", interim=[103]), http2=True) as server:
        head, _, body = curl(server, "--http2-prior-knowledge").partition("\n\n")
        assert head.split("\n") == ["HTTP/2 200 ", "content-type: text/event-stream", "x-test: 1"]
        assert body == "data: a\n\n"
        assert curl(server, "--http2-prior-knowledge") == ("HTTP/2 503 \nretry-after: 3\ncontent-length: 4\n\nbusy")
        assert curl(server, "--http2-prior-knowledge").startswith("HTTP/2 302 \nlocation: /x\n")
        received = curl(server, "--http2-prior-knowledge")
        assert received.startswith("HTTP/2 103 \n\nHTTP/2 200 \n")
        assert received.endswith(("b\nx-end: 2\n", "bx-end: 2\n"))
        assert {request.version for request in server.requests} == {"HTTP/2"}


@needs_curl
@pytest.mark.parametrize(
    ("alpn", "option", "version"),
    [
        (("h2", "http/1.1"), "--http2", "HTTP/2"),
        (("h2", "http/1.1"), "--http1.1", "HTTP/1.1"),
        (("http/1.1",), "--http2", "HTTP/1.1"),
    ],
)
def test_curl_chooses_the_version_by_alpn(
    contexts: Contexts, alpn: tuple[str, ...], option: str, version: str
) -> None:
    with SSEServer(status(200, "a" * 100_000), tls=contexts.server, http2=HTTP2(alpn=alpn)) as server:
        assert curl(server, option).partition(" ")[0] == version
        assert server.requests[0].version == version


def test_servers_may_share_a_context(contexts: Contexts) -> None:
    contexts.client.set_alpn_protocols(["h2", "http/1.1"])
    with (
        SSEServer(tls=contexts.server, http2=True) as both,
        SSEServer(tls=contexts.server) as http1,
        SSEServer(tls=contexts.server, http2=HTTP2(alpn=("http/1.1",))) as only_http1,
    ):
        for _ in range(2):
            for server, chosen in (both, "h2"), (http1, None), (only_http1, "http/1.1"):
                with dial(server) as plain, contexts.wrap(plain) as sock:
                    assert sock.selected_alpn_protocol() == chosen


@needs_curl
def test_curl_sends_a_body() -> None:
    with SSEServer(status(204), http2=True) as server:
        assert curl(server, "--http2-prior-knowledge", "--data", "x" * 100_000).startswith("HTTP/2 204")
        (request,) = server.requests
        assert (request.method, request.path, len(request.body), request.stream) == ("POST", "/", 100_000, 1)
        assert request.headers["host"] == f"127.0.0.1:{server.port}"
        assert (b":scheme", b"http") in request.raw_headers


# --- the choice of a version --------------------------------------------------------------------------------


def test_a_client_without_the_preface_speaks_http1() -> None:
    with SSEServer(status(204), status(204), http2=True) as server:
        with dial(server) as sock:
            sock.sendall(b"P")  # could be the preface, still
            sock.sendall(b"OST / HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert read_all(sock) == b"HTTP/1.1 204 No Content\r\n\r\n"
        with dial_http2(server) as client:
            client.wait_for(ResponseReceived, client.get())
        assert [(request.version, request.stream) for request in server.requests] == [("HTTP/1.1", 0), ("HTTP/2", 1)]


def test_the_preface_is_a_strange_request_without_http2() -> None:
    with SSEServer(stream("a", framing="close")) as server, dial(server) as sock:
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert read_all(sock).startswith(b"HTTP/1.1 200 OK\r\n")


def test_options_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="http2 must be a bool or an HTTP2, not 'yes'"):
        SSEServer(http2="yes")  # type: ignore[arg-type]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs the package h2: pip install 'sseclient-dual\[http2\]'"):
        SSEServer(http2=True)


# --- streams ------------------------------------------------------------------------------------------------


def test_streams_share_a_connection_and_wait_alone() -> None:
    gates = [Gate() for _ in range(5)]
    with SSEServer(*(stream(gate, f"{number}") for number, gate in enumerate(gates)), http2=True) as server:
        with dial_http2(server) as client:
            streams = [client.get(f"/{number}") for number in range(5)]
            for number in 3, 1, 4, 0, 2:
                gates[number].open()
                assert client.body(streams[number]) == b"%d" % number
            assert [(request.connection, request.stream) for request in server.requests] == [
                (1, stream) for stream in streams
            ]
            server.wait_for_connections(1)
        server.wait_for_connections(0)


def test_a_stream_that_the_client_resets_ends_alone() -> None:
    with SSEServer(stream("a", HANG), stream(pause(60)), stream("b"), http2=True) as server:
        with dial_http2(server) as client:
            for count in 1, 2:
                number = client.get()
                client.wait_for(ResponseReceived, number)
                client.h2.reset_stream(number, 8)
                client.send()
                assert server.wait_for_frames("RST_STREAM", count)[-1:] == [ReceivedFrame("RST_STREAM", 1, number, 8)]
            assert client.body(client.get()) == b"b"


def test_the_number_of_streams_is_announced() -> None:
    with SSEServer(http2=HTTP2(max_concurrent_streams=3)) as server, dial_http2(server) as client:
        client.wait_for(SettingsAcknowledged)
        assert client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] == 3


def test_flow_control_is_respected() -> None:
    data = bytes(3 * INITIAL_WINDOW)
    with SSEServer(stream(data, content_type=None), stream("b"), http2=True) as server:
        with dial_http2(server, acknowledge=False) as client:
            number = client.get()
            assert len(client.body(number, INITIAL_WINDOW)) == INITIAL_WINDOW
            client.h2.increment_flow_control_window(2 * INITIAL_WINDOW)
            client.h2.increment_flow_control_window(INITIAL_WINDOW, number)
            client.send()
            assert len(client.body(number, 2 * INITIAL_WINDOW)) == 2 * INITIAL_WINDOW
            assert client.body(client.get()) == b"b"  # the window of the first stream is closed, not the connection's
            client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2 * INITIAL_WINDOW})
            client.h2.increment_flow_control_window(INITIAL_WINDOW)
            client.send()
            assert client.body(number) == data
            assert [(update.stream, update.value) for update in server.wait_for_frames("WINDOW_UPDATE", 3)] == [
                (0, 2 * INITIAL_WINDOW),
                (number, INITIAL_WINDOW),
                (0, INITIAL_WINDOW),
            ]


def test_a_large_request_body_is_received() -> None:
    with SSEServer(status(204), http2=True) as server, dial_http2(server) as client:
        client.wait_for(ResponseReceived, client.get(body=b"x" * 16_000, te="trailers"))
        (request,) = server.requests
        assert (request.method, request.body, request.headers["te"]) == ("POST", b"x" * 16_000, "trailers")


def test_a_request_that_is_reset_before_its_end_is_not_answered() -> None:
    with SSEServer(stream("a"), http2=True) as server, dial_http2(server) as client:
        head = [(":method", "POST"), (":path", "/"), (":scheme", "http"), ("host", "test")]
        client.h2.send_headers(1, head)
        client.h2.reset_stream(1)
        client.h2.send_headers(3, head, end_stream=True)
        client.send()
        assert client.body(3) == b"a"
        assert [(request.stream, request.headers["host"]) for request in server.requests] == [(3, "test")]
        assert server.frames == [ReceivedFrame("RST_STREAM", 1, 1, 0)]


# --- replies ------------------------------------------------------------------------------------------------


def fields(client: Http2Client, number: int) -> dict[bytes, bytes]:
    return dict(client.wait_for(ResponseReceived, number).headers)


def test_the_head_has_no_fields_of_http1() -> None:
    headers: list[tuple[str | bytes, str | bytes]] = [("Keep-Alive", "5"), ("X-A", b"\xbe")]
    with SSEServer(
        stream("a", framing="close", headers=headers), stream("abc", framing="sized"), http2=True
    ) as server:
        with dial_http2(server) as client:
            assert fields(client, client.get()) == {
                b":status": b"200",
                b"content-type": b"text/event-stream",
                b"x-a": b"\xbe",
            }
            number = client.get()
            assert fields(client, number)[b"content-length"] == b"3"
            assert client.body(number) == b"abc"


def test_each_piece_is_sent_compressed() -> None:
    gate = Gate()
    with SSEServer(stream("one", gate, "two", encoding="gzip"), http2=True) as server, dial_http2(server) as client:
        number, decoder = client.get(), zlib.decompressobj(31)
        assert decoder.decompress(client.body(number, 15)) == b"one"
        before = len(client.body(number, 15))
        gate.open()
        assert decoder.decompress(client.body(number)[before:]) == b"two"
        assert decoder.eof


def test_a_head_with_its_body_is_sent_at_once() -> None:
    gate = Gate()
    with SSEServer(stream(gate, "a", HANG, head_with_body=True), http2=True) as server, dial_http2(server) as client:
        number = client.get()
        gate.wait_reached()
        gate.open()
        client.wait_for(ResponseReceived, number)
        assert client.body(number, 0) == b"a"


def test_trailers_and_interim_responses() -> None:
    end = trailers({"X-End": "1"})
    with SSEServer(stream("a", end), stream(end, head_with_body=True, interim=[100]), http2=True) as server:
        with dial_http2(server) as client:
            for _ in range(2):
                number = client.get()
                assert fields(client, number)[b":status"] == b"200"
                assert client.wait_for(TrailersReceived, number).headers == [(b"x-end", b"1")]


def test_trailers_and_interim_responses_over_http1() -> None:
    reply = stream("a", trailers([("X-End", b"1")]), "never", interim=[100, 103])
    received = answer(reply)
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert received.endswith(b"\r\n\r\n1\r\na\r\n0\r\nX-End: 1\r\n\r\n")


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (stream("a", reset_stream()), "ResetStream.* is for HTTP/2 only; use CUT or RESET"),
        (stream("a", goaway()), "GoAway.* is for HTTP/2 only"),
        (stream("a", trailers({"X": "1"}), framing="close"), "only framing='chunked' has trailers"),
    ],
)
def test_steps_that_http1_does_not_have_are_errors(reply: Reply, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        answer(reply)


def test_raw_replies_and_wire_are_bytes_of_the_connection() -> None:
    ping = frame(6, payload=b"12345678")
    ended = frame(0, 1, 1, b"a")
    with SSEServer(
        stream(wire(ping), wire(ended), HANG), raw(ping, reset_stream(7)), raw(ping), http2=True
    ) as server:
        with dial_http2(server) as client:
            assert client.body(client.get()) == b"a"
            assert client.wait_for(StreamReset, client.get()).error_code == 7
            client.get()
            client.rest()


def test_half_a_chunk_is_half_a_frame() -> None:
    with SSEServer(stream(half_chunk("abc"), CUT, head_with_body=True), http2=True) as server:
        with dial_http2(server) as client:
            client.wait_for(ResponseReceived, client.get())
            client.sock.settimeout(10)
            client.rest()
            assert client.h2.incoming_buffer._data == b"\0\4\0\0\0\0\0\0\1abc"


@pytest.mark.parametrize("rest", [wire("defg"), [wire("de"), wire("fg")]])
def test_other_streams_send_nothing_within_a_frame(rest: Step) -> None:
    half, other, sent = Gate(), Gate(), Gate()
    ping = wire(frame(6, payload=b"a stream"))
    replies = stream("ab", half_chunk("c", 5), half, rest, HANG), stream("1", other, "2", ping, sent, HANG)
    with SSEServer(*replies, http2=True) as server, dial_http2(server) as client:
        first, second = client.get(), client.get()
        half.wait_reached()
        other.open()
        sent.wait_reached()
        client.sock.sendall(frame(6, payload=b"12345678"))  # answered after the frame, too
        server.wait_for_frames("PING")
        half.open()
        assert client.body(first, 7) == b"abcdefg"
        assert client.body(second, 2) == b"12"
        client.wait_for(PingReceived)
        client.wait_for(PingAckReceived)


def test_nothing_follows_a_frame_that_is_cut() -> None:
    half, other, sent = Gate(), Gate(), Gate()
    replies = stream(half_chunk("abc"), half, CUT), stream("1", other, "2", sent, HANG)
    with SSEServer(*replies, http2=True) as server, dial_http2(server) as client:
        client.get(), client.get()
        half.wait_reached()
        other.open()
        sent.wait_reached()
        half.open()
        client.rest()
        assert client.h2.incoming_buffer._data.endswith(b"\0\4\0\0\0\0\0\0\1abc")


# --- ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 7, 0xFFFF])
def test_a_stream_is_reset_with_any_code(code: int) -> None:
    with SSEServer(stream("a", reset_stream(code)), stream("b"), http2=True) as server, dial_http2(server) as client:
        assert client.wait_for(StreamReset, client.get()).error_code == code
        assert client.body(client.get()) == b"b"


def test_cut_ends_the_connection_with_all_its_streams() -> None:
    gate = Gate()
    with SSEServer(stream("a", HANG), stream("b", gate, CUT), http2=True) as server, dial_http2(server) as client:
        first, second = client.get(), client.get()
        assert client.body(first, 1) + client.body(second, 1) == b"ab"
        gate.open()
        client.rest()
        server.wait_for_connections(0)


def test_reset_resets_the_connection() -> None:
    with SSEServer(stream("a", RESET), http2=True) as server, dial_http2(server) as client:
        client.get()
        with pytest.raises(ConnectionResetError):
            client.rest()


def test_goaway_lets_earlier_streams_end() -> None:
    gate = Gate()
    with SSEServer(stream(gate, "a"), stream(goaway(), "b"), http2=True) as server, dial_http2(server) as client:
        first, second = client.get(), client.get()
        # Received without h2, which accepts no data after GOAWAY.
        data = b""
        while frame(7, payload=struct.pack(">LL", second, 0)) not in data:
            data += client.sock.recv(65536)
        client.get("/late")
        gate.open()
        data += read_all(client.sock)
        assert frame(0, 0, first, b"a") in data
        assert [request.path for request in server.requests] == ["/", "/"]


def test_goaway_with_any_stream_and_code() -> None:
    with (
        SSEServer(stream(goaway(11, last_stream=2**31 - 1), HANG), http2=True) as server,
        dial_http2(server) as client,
    ):
        client.get()
        gone = client.wait_for(ConnectionTerminated)
        assert (gone.last_stream_id, gone.error_code) == (2**31 - 1, 11)
        server.refuse(drop=True)
        assert client.sock.recv(1) == b""


def test_pings_are_recorded_and_answered_or_not() -> None:
    for answered in True, False:
        with SSEServer(status(204), http2=HTTP2(answer_pings=answered)) as server, dial_http2(server) as client:
            client.h2.ping(b"12345678")
            client.send()
            assert server.wait_for_frames("PING") == [ReceivedFrame("PING", 1, 0, 0)]
            client.wait_for(ResponseReceived, client.get())
            assert any(isinstance(event, PingAckReceived) for event in client.events) == answered
            assert server.frames[0].kind == "PING"


def test_waiting_for_a_frame_has_a_timeout() -> None:
    with SSEServer(http2=True) as server, pytest.raises(TimeoutError, match="2 frames PING"):
        server.wait_for_frames("PING", 2, timeout=0.01)


def test_the_client_leaves_by_goaway() -> None:
    with SSEServer(stream("a", HANG), http2=True) as server, dial_http2(server) as client:
        client.body(client.get(), 1)
        client.h2.close_connection(1)
        client.send()
        client.rest()
        assert server.frames == [ReceivedFrame("GOAWAY", 1, 0, 1)]


def test_a_client_that_breaks_the_protocol_gets_goaway() -> None:
    with SSEServer(stream("a", HANG), http2=True) as server, dial_http2(server) as client:
        client.body(client.get(), 1)
        client.sock.sendall(frame(0, 0, 99, b"x"))
        assert client.wait_for(ConnectionTerminated).error_code == 1
        server.wait_for_connections(0)


@pytest.mark.parametrize("closed", [False, True])
def test_a_peer_that_reads_nothing_does_not_hold_up_close(closed: bool) -> None:
    """The server waits for a window, or for room in the buffers of the system."""
    server = SSEServer(stream(*[bytes(100_000)] * 200, content_type=None), http2=True).start()
    with dial_http2(server) as client:
        client.h2.increment_flow_control_window(INITIAL_WINDOW if closed else 2**30)
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2**30})
        client.get()
        server.wait_for_requests(1)
        server.close()


def test_an_error_of_a_script_cuts_the_connection() -> None:
    def fail() -> NoReturn:
        raise LookupError("no step")

    server = SSEServer(stream("a", HANG), stream("b", fail), http2=True).start()
    with dial_http2(server) as client:
        client.get()
        client.get()
        client.rest()
        with pytest.raises(LookupError, match="no step"):
            server.close()


def test_a_reply_may_drop_the_connections() -> None:
    def crash(request: ReceivedRequest) -> Reply:
        server.refuse(drop=True)
        return stream("never")

    with SSEServer(crash, http2=True) as server, dial_http2(server) as client:
        client.get()
        client.rest()


def test_streams_over_tls(contexts: Contexts) -> None:
    with SSEServer(*[stream(bytes(50_000))] * 20, tls=contexts.server, http2=True) as server:
        contexts.client.set_alpn_protocols(["h2"])
        with dial(server) as plain, contexts.wrap(plain) as sock:
            assert sock.selected_alpn_protocol() == "h2"
            client = Http2Client(sock)
            for number in [client.get() for _ in range(20)]:
                assert len(client.body(number)) == 50_000
