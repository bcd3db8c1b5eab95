"""Requests that the scripted server received."""

from __future__ import annotations

import http.client

import pytest

from sseclient_dual.testing import SSEServer, status
from support.dialling import dial, get, read_all
from support.waiting import PATIENCE


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


def test_a_chunked_request_body_is_decoded() -> None:
    with SSEServer() as server:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=PATIENCE)
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
def test_a_malformed_request_is_answered_with_400(request_head: bytes) -> None:
    with SSEServer(status(200)) as server, dial(server) as sock:
        sock.sendall(request_head)
        assert read_all(sock).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert (server.requests, server.replies_left) == ([], 1)


def test_a_timeout_error_lists_connections_and_requests() -> None:
    with SSEServer() as server:
        with pytest.raises(TimeoutError, match="1 requests; open connections: 0, requests so far: none"):
            server.wait_for_requests(1, timeout=0)
        with dial(server) as sock:
            get(sock, "/a")
            assert [request.target for request in server.wait_for_requests(1)] == ["/a"]
            with pytest.raises(TimeoutError, match=r"open connections: 1, requests so far: GET /a$"):
                server.wait_for_connections(2, timeout=0)
