"""The scripted server: connections, ports, the order of replies, errors of scripts."""

from __future__ import annotations

import errno
import socket
import threading
from typing import TYPE_CHECKING, NoReturn

import pytest

from sseclient_dual.testing import HANG, ReceivedRequest, Reply, SSEServer, Step, raw, status, stream
from support.dialling import CHUNKED, dial, expect, expect_nothing, get, read, read_all

if TYPE_CHECKING:
    from collections.abc import Iterator


def expect_refused(server: SSEServer) -> None:
    with pytest.raises(ConnectionRefusedError), dial(server):
        pass


# --- connections --------------------------------------------------------------------------------------------


def test_a_connection_is_reused_if_framing_and_request_allow() -> None:
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


def test_the_port_stays_reserved_while_connections_are_refused() -> None:
    with SSEServer() as server, socket.socket() as other:
        server.refuse()
        with pytest.raises(OSError) as caught:
            other.bind((server.host, server.port))
        assert caught.value.errno == errno.EADDRINUSE


def test_a_connection_made_before_refuse_is_served() -> None:
    with SSEServer(status(204)) as server, dial(server) as sock:
        server.refuse()
        get(sock, "/", "Connection: close")
        assert read_all(sock) == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_a_reply_may_refuse_and_drop_connections() -> None:
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


def test_the_port_can_be_chosen_and_may_be_in_use() -> None:
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


def test_the_url_before_start_raises_runtime_error() -> None:
    with pytest.raises(RuntimeError, match="before it is started"):
        _ = SSEServer().url


# --- the order of replies, errors of scripts ----------------------------------------------------------------


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


def test_concurrent_requests_use_each_reply_once() -> None:
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
        (stream("a", lambda: 1), TypeError),  # type: ignore[arg-type,return-value]
        (stream(lambda: "\ud800"), UnicodeEncodeError),
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
    def fail_in_the_context() -> None:
        with SSEServer(failing) as server, dial(server) as sock:
            get(sock)
            read_all(sock)
            raise AssertionError("the client's")

    with pytest.raises(OSError, match="of the script") as caught:
        fail_in_the_context()
    assert isinstance(caught.value.__context__, AssertionError)


def test_an_invalid_reply_raises_at_once() -> None:
    with pytest.raises(TypeError, match="'data: 1'"):
        SSEServer("data: 1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="None"):
        SSEServer(default=None)  # type: ignore[arg-type]
    server = SSEServer()
    with pytest.raises(TypeError, match="204"):
        server.add(status(204), 204)  # type: ignore[arg-type]
    assert server.replies_left == 0


def test_replies_are_appended_by_name() -> None:
    with SSEServer(raw("first")) as server:
        server.stream("data: x\n\n", headers={"A": "b"})
        server.status(503, retry_after=1)
        server.redirect("/x", 307)
        server.raw("HTTP/1.1 200 OK\r\n\r\nraw")
        assert server.replies_left == 5
        answers = []
        for _ in range(5):
            with dial(server) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
                answers.append(read_all(sock))
    assert answers[0] == b"first"
    assert answers[1].endswith(b"\r\nA: b\r\n\r\n9\r\ndata: x\n\n\r\n0\r\n\r\n")
    assert b"\r\nRetry-After: 1\r\n" in answers[2]
    assert answers[3].startswith(b"HTTP/1.1 307 ")
    assert answers[4].endswith(b"raw")
    assert SSEServer.stream.__name__ == "stream"
    assert SSEServer.status.__doc__ == "Append one reply: ``add(status(...))``."
