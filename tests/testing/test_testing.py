"""The scripted server does what its script says, to the byte and to the moment; driven by sockets only."""

from __future__ import annotations

import errno
import gc
import http.client
import itertools
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
import trustme

from sseclient_dual.event import SSEEvent
from sseclient_dual.testing import (
    CUT,
    HANG,
    RESET,
    Gate,
    ReceivedRequest,
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

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 3600.0  # seconds that no test could wait
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@contextmanager
def dial(server: SSEServer) -> Iterator[socket.socket]:
    """Give a socket that is connected to the server and gives up a wait after 10 s."""
    with socket.create_connection((server.host, server.port), timeout=10) as sock:
        yield sock


def get(sock: socket.socket, target: str = "/", *headers: str, version: str = "HTTP/1.1") -> None:
    lines = [f"GET {target} {version}", "Host: test", *headers]
    sock.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())


def read(sock: socket.socket, size: int) -> bytes:
    """Return exactly `size` bytes, or those before the end."""
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


def read_all(sock: socket.socket) -> bytes:
    """Return everything to the end, which must be a FIN."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


def expect(sock: socket.socket, data: bytes) -> None:
    """Read exactly `data`, and see that there is nothing behind it now."""
    assert read(sock, len(data)) == data
    expect_nothing(sock)


def expect_nothing(sock: socket.socket) -> None:
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv(1)
    sock.settimeout(10)


def expect_refused(server: SSEServer) -> None:
    with pytest.raises(ConnectionRefusedError), dial(server):
        pass


def answer(*replies: Reply, version: str = "HTTP/1.1") -> bytes:
    """Return all bytes of the answer to a request that asks for the connection to be closed."""
    with SSEServer(*replies) as server, dial(server) as sock:
        get(sock, "/", "Connection: close", version=version)
        return read_all(sock)


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
    given = stream("abc", framing="sized", headers={"content-length": "9"})
    assert answer(given) == HEAD + b"content-length: 9\r\n\r\nabc"
    assert answer(stream("ab", CUT, "cdef", framing="sized")) == HEAD + b"Content-Length: 6\r\n\r\nab"


def test_sized_with_a_length_not_kept_closes_the_connection() -> None:
    short = stream("abc", framing="sized", headers={"Content-Length": "9"})
    with SSEServer(short) as server, dial(server) as sock:
        get(sock)
        assert read_all(sock).endswith(b"abc")


def test_head_is_as_told() -> None:
    reply = stream(
        CUT, status=299, headers=[("X", "1"), (b"X", b"\xff"), ("content-TYPE", "text/x")], content_type="no"
    )
    head = b"HTTP/1.1 299 \r\nTransfer-Encoding: chunked\r\nX: 1\r\nX: \xff\r\ncontent-TYPE: text/x\r\n\r\n"
    assert answer(reply) == head
    assert answer(stream(CUT, reason="Fine", content_type=None, framing="none")) == b"HTTP/1.1 200 Fine\r\n\r\n"


def test_half_chunk_and_wire_go_out_as_they_are() -> None:
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


def test_cut_is_a_fin_though_something_came_that_was_not_read() -> None:
    sent = threading.Event()

    def wait() -> Step:
        assert sent.wait(10)
        return CUT

    with SSEServer(stream("a", wait)) as server, dial(server) as sock:
        get(sock)
        expect(sock, CHUNKED + b"1\r\na\r\n")
        sock.sendall(b"x" * 1000)  # merely closing, with this unread, would be an RST
        sent.set()
        assert read_all(sock) == b""


def test_reset_is_an_rst_behind_the_data() -> None:
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
        connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
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


def test_head_with_body_goes_out_at_a_clean_end() -> None:
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


def test_redirect() -> None:
    end = b"Content-Length: 0\r\n\r\n"
    assert answer(redirect("/x", headers={"A": "b"})) == (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nA: b\r\n" + end)
    assert answer(redirect("", 301)) == b"HTTP/1.1 301 Moved Permanently\r\nLocation: \r\n" + end
    assert answer(redirect(None, 307)) == b"HTTP/1.1 307 Temporary Redirect\r\n" + end


# --- steps --------------------------------------------------------------------------------------------------


def test_a_gate_holds_what_follows() -> None:
    gate = Gate()
    with SSEServer(stream("a", gate, "b", HANG)) as server, dial(server) as sock:
        with pytest.raises(TimeoutError, match="no connection came to the gate"):
            gate.wait_reached(0)
        get(sock)
        gate.wait_reached()
        expect(sock, CHUNKED + b"1\r\na\r\n")
        assert not gate.is_open
        gate.open()
        assert gate.is_open
        expect(sock, b"1\r\nb\r\n")


def test_a_gate_opens_once_for_all() -> None:
    gate = Gate()
    with SSEServer(stream(gate, "a"), default=stream(gate, "a")) as server:
        with dial(server) as one, dial(server) as two:
            for sock in one, two:
                get(sock, "/", "Connection: close")
                assert read(sock, len(CHUNKED)) == CHUNKED
            threading.Thread(target=gate.open).start()
            assert read_all(one) == read_all(two) == b"1\r\na\r\n0\r\n\r\n"
        gate.open()
        with dial(server) as sock:
            get(sock, "/", "Connection: close")
            assert read_all(sock) == CHUNKED + b"1\r\na\r\n0\r\n\r\n"


def test_pause_waits() -> None:
    times: list[float] = []

    def note() -> Step:
        times.append(time.monotonic())
        return ()

    answer(stream(note, pause(0.05), note))
    assert times[1] - times[0] >= 0.05


def test_what_the_peer_sends_during_a_wait_is_kept() -> None:
    gate = Gate()
    with SSEServer(stream(gate, pause(0), "a"), status(204)) as server, dial(server) as sock:
        get(sock)
        gate.wait_reached()
        get(sock, "/next", "Connection: close")
        gate.open()
        assert read_all(sock) == CHUNKED + b"1\r\na\r\n0\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
        assert [request.target for request in server.requests] == ["/", "/next"]


def test_callables_and_iterables_are_evaluated_when_reached() -> None:
    gate, called = Gate(), list[str]()

    def steps() -> Iterator[Step]:
        called.append("begun")
        yield "a", gate
        called.append("gone on")
        yield lambda: ["b", lambda: "c"]

    with SSEServer(stream(steps, CUT)) as server, dial(server) as sock:
        assert not called
        get(sock)
        gate.wait_reached()
        assert called == ["begun"]
        gate.open()
        assert read_all(sock) == CHUNKED + b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n"
        assert called == ["begun", "gone on"]


def test_an_endless_stream_ends_with_its_peer() -> None:
    with SSEServer(stream(lambda: (f"data: {n}\n\n" for n in itertools.count()))) as server:
        with dial(server) as sock:
            get(sock)
            assert b"data: 99\n" in read(sock, 9999)
        server.wait_for_connections(0)


# --- the peer leaves, the server closes ---------------------------------------------------------------------


@pytest.mark.parametrize("leave", ["FIN", "RST"])
@pytest.mark.parametrize("step", [HANG, Gate(), pause(LONG)], ids=["HANG", "Gate", "pause"])
def test_a_peer_that_leaves_is_noticed(step: Step, leave: str) -> None:
    with SSEServer(stream("a", step)) as server:
        with dial(server) as sock:
            get(sock)
            expect(sock, CHUNKED + b"1\r\na\r\n")
            server.wait_for_connections(1)
            if leave == "RST":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.wait_for_connections(0)


@pytest.mark.parametrize("step", [HANG, Gate(), pause(LONG)], ids=["HANG", "Gate", "pause"])
def test_close_ends_every_wait(step: Step) -> None:
    server = SSEServer(stream("a", step)).start()
    with dial(server) as idle, dial(server) as silent, dial(server) as busy:
        get(idle, "/", "Content-Length: 5")
        get(busy)
        expect(busy, CHUNKED + b"1\r\na\r\n")
        server.wait_for_connections(3)
        server.close()
        assert read_all(idle) == read_all(silent) == read_all(busy) == b""


@pytest.mark.parametrize("tls", [False, True])
def test_close_ends_a_blocked_send(tls: bool, contexts: Contexts) -> None:
    reached = threading.Event()

    def reach() -> Step:
        reached.set()
        return ()

    reply = stream(b"x" * (1 << 26), reach)
    server = SSEServer(reply, tls=contexts.server if tls else None).start()
    with dial(server) as plain, contexts.wrap(plain) if tls else plain as sock:
        get(sock)
        assert read(sock, 300).endswith(b"xxx")
        server.close()
        assert not reached.is_set()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system does not list open descriptors")
def test_nothing_is_left_after_close() -> None:
    def there() -> tuple[list[str], set[threading.Thread]]:
        return os.listdir("/proc/self/fd"), set(threading.enumerate())  # noqa: PTH208 - its own is the same each time

    gc.collect()
    before = there()
    gate = Gate()
    with SSEServer(stream(HANG), stream(gate), stream(pause(LONG)), raw(RESET), handshake=gate) as server:
        gate.open()
        with (
            dial(server),
            dial(server) as one,
            dial(server) as two,
            dial(server) as three,
            dial(server) as four,
        ):
            for sock in one, two, three, four:
                get(sock)
            server.wait_for_requests(4)
            server.refuse()
            server.listen()
    assert there() == before


def test_close_waits_for_the_script() -> None:
    called, release, gone_on = threading.Event(), threading.Event(), threading.Event()

    def block() -> Step:
        called.set()
        assert release.wait(10)
        gone_on.set()
        return ()

    server = SSEServer(stream(block)).start()
    closer = threading.Thread(target=server.close)
    with dial(server) as sock:
        get(sock)
        assert called.wait(10)
        closer.start()
        assert read_all(sock) == CHUNKED  # the end of it shows that closing has come as far as to the threads
        closer.join(0.05)
        assert closer.is_alive()
        release.set()
        closer.join()
    assert gone_on.is_set()


def test_close_may_be_called_again_and_start_too() -> None:
    server = SSEServer(default=stream("a"))
    server.close()
    assert server.start() is server
    url = server.url
    server.listen()
    server.close()
    server.close()
    with server:
        assert server.url == url
        with dial(server) as sock:
            get(sock, "/", "Connection: close")
            assert read_all(sock).endswith(b"0\r\n\r\n")


def test_a_server_that_nobody_closes_does_not_keep_the_process() -> None:
    code = "from sseclient_dual.testing import SSEServer; SSEServer().start()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- connections --------------------------------------------------------------------------------------------


def test_a_connection_is_used_again_where_framing_and_request_allow() -> None:
    replies = stream("a"), stream("a", framing="sized"), status(204), status(304), status(200, "a")
    with SSEServer(*replies) as server, dial(server) as sock:
        for number in range(len(replies)):
            get(sock, f"/{number}")
        get(sock, "/last", "Connection: close")
        assert read_all(sock).count(b"HTTP/1.1") == len(replies) + 1
        assert [request.connection for request in server.requests] == [1] * (len(replies) + 1)


@pytest.mark.parametrize(
    ("version", "request_header", "reply_header", "persists"),
    [
        ("HTTP/1.1", "X: y", {}, True),
        ("HTTP/1.1", "connection: Close", {}, False),
        ("HTTP/1.1", "X: y", {"Connection": "close"}, False),
        ("HTTP/1.0", "X: y", {}, False),
        ("HTTP/1.0", "Connection: Keep-Alive", {}, True),
    ],
)
def test_a_connection_persists(
    version: str, request_header: str, reply_header: dict[str, str], persists: bool
) -> None:
    with SSEServer(status(200, "a", reply_header)) as server, dial(server) as sock:
        get(sock, "/", request_header, version=version)
        if not persists:
            assert read_all(sock).endswith(b"\r\n\r\na")
            return
        expect(sock, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
        get(sock, "/again", "Connection: close")
        assert read_all(sock) == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_refuse_and_listen_on_the_same_port() -> None:
    with SSEServer(default=stream("a", HANG)) as server:
        port = server.port
        for drop in False, True:
            with dial(server) as sock:
                get(sock)
                expect(sock, CHUNKED + b"1\r\na\r\n")
                server.refuse(drop=drop)
                server.refuse()
                for _ in range(20):
                    expect_refused(server)
                if drop:
                    assert read_all(sock) == b""
                else:
                    expect_nothing(sock)
            server.wait_for_connections(0)
            server.listen()
            assert server.port == port
        with dial(server) as sock:
            get(sock)
            assert read(sock, len(CHUNKED)) == CHUNKED


def test_the_port_stays_reserved_while_refused() -> None:
    with SSEServer() as server, socket.socket() as other:
        server.refuse()
        with pytest.raises(OSError) as caught:
            other.bind((server.host, server.port))
        assert caught.value.errno == errno.EADDRINUSE


def test_what_connected_before_refuse_is_served() -> None:
    with SSEServer(status(204)) as server, dial(server) as sock:
        server.refuse()
        get(sock, "/", "Connection: close")
        assert read_all(sock) == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_a_reply_may_take_the_server_down() -> None:
    def crash(request: ReceivedRequest) -> Reply:
        server.refuse(drop=True)
        return stream("never")

    with SSEServer(crash) as server:
        with dial(server) as sock:
            get(sock)
            assert read_all(sock) == b""
        expect_refused(server)
        server.listen()
        with dial(server) as sock:
            get(sock, "/", "Connection: close")
            assert read_all(sock) == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_the_port_may_be_chosen_and_taken() -> None:
    with SSEServer() as one:
        with pytest.raises(OSError) as caught:
            SSEServer(port=one.port).start()
        assert caught.value.errno == errno.EADDRINUSE
        port = one.port
        one.refuse()
        with SSEServer(port=port):
            with pytest.raises(OSError) as caught:
                one.listen()
            assert caught.value.errno == errno.EADDRINUSE
    with SSEServer(port=port) as two:
        assert two.url == f"{two.origin}/" == f"http://127.0.0.1:{port}/"


def test_there_is_no_port_before_start() -> None:
    with pytest.raises(RuntimeError, match="before it is started"):
        _ = SSEServer().url


# --- TLS ----------------------------------------------------------------------------------------------------


class Contexts:
    """A server's and a client's TLS context that trust each other."""

    def __init__(self) -> None:
        authority = trustme.CA()
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(self.server)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)

    def wrap(self, sock: socket.socket) -> ssl.SSLSocket:
        return self.client.wrap_socket(sock, server_hostname="127.0.0.1", suppress_ragged_eofs=False)


@pytest.fixture(scope="module")
def contexts() -> Contexts:
    return Contexts()


def test_tls_ends_cleanly_or_is_cut(contexts: Contexts) -> None:
    with SSEServer(
        stream("a", b"b" * 100_000, framing="close"), stream("a", CUT), raw(RESET), tls=contexts.server
    ) as server:
        assert server.url == f"https://127.0.0.1:{server.port}/"
        with dial(server) as plain, contexts.wrap(plain) as sock:
            get(sock)
            assert read_all(sock) == HEAD + b"Connection: close\r\n\r\na" + b"b" * 100_000
        with dial(server) as plain, contexts.wrap(plain) as sock:
            get(sock)
            assert read(sock, len(CHUNKED) + 6) == CHUNKED + b"1\r\na\r\n"
            with pytest.raises(ssl.SSLEOFError):
                sock.recv(1)
        with dial(server) as plain, contexts.wrap(plain) as sock:
            get(sock)
            server.wait_for_connections(0)
            # Beneath TLS, which tells of a reset in other words in some versions of Python.
            with pytest.raises(ConnectionResetError):
                list(iter(lambda: socket.socket.recv(sock, 65536), b""))


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_connections_persist(contexts: Contexts, maximum: ssl.TLSVersion) -> None:
    server_context = Contexts()
    server_context.server.maximum_version = maximum
    with SSEServer(stream("a"), stream("b"), tls=server_context.server) as server:
        connection = http.client.HTTPSConnection(server.host, server.port, timeout=10, context=server_context.client)
        for expected in b"a", b"b":
            connection.request("POST", "/", body=b"x" * 100_000)
            assert connection.getresponse().read() == expected
        connection.close()
        assert [(request.connection, len(request.body)) for request in server.requests] == [(1, 100_000)] * 2


@pytest.mark.parametrize("notify", [False, True])
def test_a_tls_peer_that_leaves_is_noticed(contexts: Contexts, notify: bool) -> None:
    with SSEServer(stream("a", HANG), tls=contexts.server) as server:
        with dial(server) as plain, contexts.wrap(plain) as sock:
            get(sock)
            assert read(sock, len(CHUNKED) + 6) == CHUNKED + b"1\r\na\r\n"
            server.wait_for_connections(1)
            if notify:
                with suppress(OSError):
                    sock.unwrap()
                server.wait_for_connections(0)
        server.wait_for_connections(0)


def test_a_request_is_served_though_a_close_notify_follows_it(contexts: Contexts) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = contexts.client.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with SSEServer(tls=contexts.server) as server, dial(server) as sock:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        tls.write(b"GET /last HTTP/1.1\r\n\r\n")
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        sock.sendall(outgoing.read())
        assert server.wait_for_requests(1)[0].target == "/last"


def test_tls_errors_of_the_peer_are_quiet(contexts: Contexts) -> None:
    with SSEServer(tls=contexts.server) as server:
        with dial(server) as plain, pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(plain, server_hostname="127.0.0.1")
        with dial(server) as sock:
            get(sock)
            assert read_all(sock) == b""
        server.wait_for_connections(0)


def test_tls_errors_are_told_to_the_peer() -> None:
    contexts = Contexts()
    contexts.server.minimum_version = ssl.TLSVersion.TLSv1_3
    contexts.client.maximum_version = ssl.TLSVersion.TLSv1_2
    with SSEServer(tls=contexts.server) as server, dial(server) as plain:
        with pytest.raises(ssl.SSLError) as caught:
            contexts.wrap(plain)
        assert "ALERT_PROTOCOL_VERSION" in caught.value.reason


def test_a_context_of_the_wrong_side_is_an_error_of_the_script(contexts: Contexts) -> None:
    server = SSEServer(tls=contexts.client).start()
    with dial(server) as sock:
        assert read_all(sock) == b""
    with pytest.raises(ssl.SSLError, match="server"):
        server.close()


def test_the_handshake_waits_at_its_gate(contexts: Contexts) -> None:
    gate = Gate()
    with SSEServer(stream("a"), tls=contexts.server, handshake=gate) as server, dial(server) as plain:
        gate.wait_reached()
        tls = contexts.client.wrap_socket(plain, server_hostname="127.0.0.1", do_handshake_on_connect=False)
        with tls as sock:
            sock.setblocking(False)
            for _ in range(2):  # the first sends what the client begins with
                with pytest.raises(ssl.SSLWantReadError):
                    sock.do_handshake()
            sock.settimeout(10)
            gate.open()
            sock.do_handshake()
            get(sock)
            assert read(sock, len(CHUNKED)) == CHUNKED


@pytest.mark.parametrize("tls", [False, True])
def test_a_peer_that_leaves_before_the_handshake_is_noticed(tls: bool, contexts: Contexts) -> None:
    gate = Gate()
    with SSEServer(tls=contexts.server if tls else None, handshake=gate) as server:
        with dial(server) as sock:
            get(sock)
            gate.wait_reached()
            server.wait_for_connections(1)
        server.wait_for_connections(0)
        assert not server.requests


# --- requests -----------------------------------------------------------------------------------------------


def test_a_request_is_recorded() -> None:
    head = (
        b"POST /a%20b?x=1&x=2&y=%C3%A4&z HTTP/1.1\r\nhOST: t\r\nX-Many: 1\r\nx-many:\t2 \r\nLatin: \xe4\r\n"
        b"Last-Event-ID: \xe2\x98\x83\r\nContent-Length: 10\r\nConnection: close\r\n\r\n"
    )
    with SSEServer() as server, dial(server) as sock:
        server.wait_for_connections(1)
        sock.sendall(head + b'{"a": "b"')
        assert not server.requests
        sock.sendall(b"}")
        [request] = server.wait_for_requests(1)
        client_address = sock.getsockname()
    assert (request.method, request.version) == ("POST", "HTTP/1.1")
    assert (request.target, request.path) == ("/a%20b?x=1&x=2&y=%C3%A4&z", "/a%20b")
    assert request.query == {"x": "2", "y": "ä", "z": ""}
    assert (request.headers["X-MANY"], request.headers["latin"]) == ("1, 2", "ä")
    assert list(request.headers) == [
        "host",
        "x-many",
        "latin",
        "last-event-id",
        "content-length",
        "connection",
    ]
    assert "accept" not in request.headers
    assert len(request.headers) == 6
    assert "'host': 't'" in repr(request)
    assert request.raw_headers[:4] == [
        (b"hOST", b"t"),
        (b"X-Many", b"1"),
        (b"x-many", b"2"),
        (b"Latin", b"\xe4"),
    ]
    assert request.last_event_id == "☃"
    assert request.json() == {"a": "b"}
    assert (request.client_address, request.connection) == (client_address, 1)


def test_a_chunked_request_body_is_understood() -> None:
    with SSEServer() as server:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
        connection.request("PUT", "http://a/b?c=d", iter([b"one", b"two"]), encode_chunked=True)
        assert connection.getresponse().status == 204
        connection.close()
        with dial(server) as sock:
            get(sock, "//x/y", "Transfer-Encoding: chunked", "Connection: close")
            sock.sendall(b"3;ext=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n")
            assert read_all(sock) == b"HTTP/1.1 204 No Content\r\n\r\n"
    one, two = server.requests
    assert (one.body, one.path, one.query) == (b"onetwo", "/b", {"c": "d"})
    assert (two.body, two.path, two.last_event_id) == (b"abc0123456789", "//x/y", None)


@pytest.mark.parametrize(
    "request_head",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_a_malformed_request_is_told_so(request_head: bytes) -> None:
    with SSEServer(status(200)) as server, dial(server) as sock:
        sock.sendall(request_head)
        assert read_all(sock).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert (server.requests, server.replies_left) == ([], 1)


def test_waits_for_requests_and_connections_tell_what_there_is() -> None:
    with SSEServer() as server:
        with pytest.raises(TimeoutError, match="1 requests; connections now: 0, requests so far: none"):
            server.wait_for_requests(1, timeout=0)
        with dial(server) as sock:
            get(sock, "/a")
            assert [request.target for request in server.wait_for_requests(1)] == ["/a"]
            with pytest.raises(TimeoutError, match=r"connections now: 1, requests so far: GET /a$"):
                server.wait_for_connections(2, timeout=0)


# --- replies in order, scripts in error ---------------------------------------------------------------------


def test_replies_are_used_in_order_over_all_connections() -> None:
    def echo(request: ReceivedRequest) -> Reply:
        return status(200, request.target)

    with SSEServer(status(200, "first"), echo, default=lambda request: status(404, request.method)) as server:
        assert server.replies_left == 2
        server.add(status(200, "third"))
        bodies = []
        for _ in range(4):
            with dial(server) as sock:
                get(sock, "/x", "Connection: close")
                bodies.append(read_all(sock).partition(b"\r\n\r\n")[2])
        assert bodies == [b"first", b"/x", b"third", b"GET"]
        assert server.replies_left == 0
        assert [request.connection for request in server.requests] == [1, 2, 3, 4]


def test_each_reply_is_used_once_by_many_at_a_time() -> None:
    bodies: list[bytes] = []

    def ask(server: SSEServer) -> None:
        with dial(server) as sock:
            get(sock, "/", "Connection: close")
            bodies.append(read_all(sock).partition(b"\r\n\r\n")[2])

    with SSEServer(*(status(200, str(number)) for number in range(50))) as server:
        threads = [threading.Thread(target=ask, args=(server,)) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(bodies) == sorted(str(number).encode() for number in range(50))


def failing(*_: object) -> NoReturn:
    raise OSError("of the script")


def failing_halfway() -> Iterator[Step]:
    yield "a"
    failing()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (failing, OSError),
        (lambda request: "no reply", TypeError),
        (stream("a", failing), OSError),
        (stream(failing_halfway), OSError),
        (stream("a", 1), TypeError),  # type: ignore[arg-type]
        (stream("\ud800"), UnicodeEncodeError),
        (stream(lambda: pytest.fail("of the script")), pytest.fail.Exception),
    ],
)
def test_an_error_of_the_script_is_raised_from_close(reply: Reply, error: type[BaseException]) -> None:
    server = SSEServer(reply).start()
    with dial(server) as sock:
        get(sock)
        assert b"0\r\n\r\n" not in read_all(sock)
        server.wait_for_connections(0)
    with pytest.raises(TimeoutError) as caught:
        server.wait_for_requests(2, timeout=0)
    assert isinstance(caught.value.__cause__, error)
    with pytest.raises(error):
        server.close()
    server.close()


def test_an_error_of_the_script_is_raised_from_the_end_of_the_context() -> None:
    def lose() -> None:
        with SSEServer(failing) as server, dial(server) as sock:
            get(sock)
            read_all(sock)
            raise AssertionError("the client's")

    with pytest.raises(OSError, match="of the script") as caught:
        lose()
    assert isinstance(caught.value.__context__, AssertionError)


def test_what_is_no_reply_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="'data: 1'"):
        SSEServer("data: 1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="None"):
        SSEServer(default=None)  # type: ignore[arg-type]
    server = SSEServer()
    with pytest.raises(TypeError, match="204"):
        server.add(status(204), 204)  # type: ignore[arg-type]
    assert server.replies_left == 0
