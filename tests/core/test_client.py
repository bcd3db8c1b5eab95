"""`SSEClient` and the arguments of `connect`: what is checked at once, and what is shared."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from sseclient_dual import ReadyState, ReconnectPolicy, SSEClient, SSEStatusError
from sseclient_dual.testing import HANG, SSEServer, stream
from support.parameters import without_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.apis import Face

URL = "http://127.0.0.1:9/"


@pytest.fixture(scope="module")
def httpserver() -> Iterator[HTTPServer]:
    with HTTPServer(host="127.0.0.1") as server:
        yield server


@pytest.fixture(autouse=True)
def fresh(httpserver: HTTPServer) -> None:
    httpserver.clear()


def events(*data: str) -> Response:
    return Response("".join(f"data: {line}\n\n" for line in data), content_type="text/event-stream")


BAD_ARGUMENTS: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (TypeError, "url", {"url": b"http://x/"}),
    (TypeError, "url", {"url": None}),
    (ValueError, "url", {"url": ""}),
    (ValueError, "url", {"url": "example.com/stream"}),
    (ValueError, "url", {"url": "ftp://example.com/"}),
    (ValueError, "url", {"url": "file:///etc/passwd"}),
    (ValueError, "url", {"url": "http://"}),
    (ValueError, "url", {"url": "http:///path"}),
    (ValueError, "url", {"url": "http://host:port/"}),
    (ValueError, "url", {"url": "http://[::1/"}),
    (TypeError, "method", {"method": None}),
    (ValueError, "method", {"method": "GET /"}),
    (ValueError, "method", {"method": ""}),
    (TypeError, "headers", {"headers": "Accept: x"}),
    (TypeError, "headers", {"headers": 5}),
    (TypeError, "headers", {"headers": {"X": None}}),
    (TypeError, "headers", {"headers": {"X": 1}}),
    (TypeError, "headers", {"headers": {1: "x"}}),
    (TypeError, "headers", {"headers": [("a", "b", "c")]}),
    (ValueError, "headers", {"headers": {"X": "a\r\nEvil: yes"}}),
    (ValueError, "headers", {"headers": {"X": "a\nb"}}),
    (ValueError, "headers", {"headers": {"X": "a\0b"}}),
    (ValueError, "headers", {"headers": {"X\r\nY": "a"}}),
    (ValueError, "headers", {"headers": {"X Y": "a"}}),
    (ValueError, "headers", {"headers": {"": "a"}}),
    (TypeError, "headers", {"headers": False}),
    (TypeError, "headers", {"headers": ""}),
    (ValueError, "headers", {"headers": {"X": "\ud800"}}),
    (ValueError, "params", {"params": {"a": "\ud800"}}),
    (ValueError, "data", {"data": "\ud800"}),
    (ValueError, "data", {"data": {"a": "\ud800"}}),
    (ValueError, "json", {"json": "\ud800"}),
    (TypeError, "params", {"params": "a=b"}),
    (TypeError, "params", {"params": 5}),
    (TypeError, "data", {"data": 5}),
    (TypeError, "data", {"data": iter([b"x"])}),
    (TypeError, "data and json", {"data": b"", "json": {}}),
    (TypeError, "data", {"multipart": True}),
    (TypeError, "data", {"multipart": True, "data": b"x"}),
    (TypeError, "data", {"multipart": True, "data": [("a", "b")]}),
    (TypeError, "data", {"multipart": True, "data": {"a": None}}),
    (TypeError, "data", {"multipart": True, "data": {"a": ["b", "c"]}}),
    (TypeError, "data", {"multipart": True, "data": {"a": ("name", "content", "text/plain", "more")}}),
    (TypeError, "data", {"multipart": True, "data": {"a": ("name", object())}}),
    (TypeError, "data and json", {"multipart": True, "data": {}, "json": {}}),
    (TypeError, "multipart", {"multipart": 1, "data": {}}),
    (TypeError, "json", {"json": object()}),
    (ValueError, "json", {"json": float("nan")}),
    (TypeError, "timeout", {"timeout": "5"}),
    (TypeError, "timeout", {"timeout": True}),
    (ValueError, "timeout", {"timeout": 0}),
    (ValueError, "timeout", {"timeout": -1}),
    (ValueError, "timeout", {"timeout": float("nan")}),
    (TypeError, "redirect", {"redirect": 1}),
    (TypeError, "keep_connection", {"keep_connection": None}),
    (TypeError, "strict", {"strict": "yes"}),
    (TypeError, "reconnect", {"reconnect": 1}),
    (TypeError, "retry_delay", {"retry_delay": "3"}),
    (ValueError, "retry_delay", {"retry_delay": -1}),
    (TypeError, "last_event_id", {"last_event_id": 5}),
    (ValueError, "last_event_id", {"last_event_id": "a\rb"}),
    (ValueError, "last_event_id", {"last_event_id": "a\nb"}),
    (ValueError, "last_event_id", {"last_event_id": "a\0b"}),
    (ValueError, "last_event_id", {"last_event_id": "\ud800"}),
    (TypeError, "policy", {"policy": {"retry_delay": 5}}),
    (TypeError, "queue_size", {"queue_size": 1.5}),
    (ValueError, "queue_size", {"queue_size": 0}),
    (TypeError, "max_event_size", {"max_event_size": None}),
    (ValueError, "max_event_size", {"max_event_size": 0}),
]


@pytest.mark.parametrize(
    ("kind", "name", "arguments"), BAD_ARGUMENTS, ids=[without_address(row[2]) for row in BAD_ARGUMENTS]
)
def test_a_bad_argument_is_named_at_once(kind: type[Exception], name: str, arguments: dict[str, Any]) -> None:
    with SSEClient() as client, pytest.raises(kind, match=f"^{name}\\b"):
        client.connect(**({"url": URL} | arguments))


@pytest.mark.parametrize(
    ("kind", "name", "arguments"),
    [
        (TypeError, "pool", {"pool": urllib3.HTTPConnectionPool("127.0.0.1")}),
        (TypeError, "headers", {"headers": 5}),
        (ValueError, "headers", {"headers": {"X": "\r"}}),
        (TypeError, "timeout", {"timeout": "5"}),
        (TypeError, "policy", {"policy": 5}),
    ],
)
def test_a_bad_argument_of_the_client_is_named_at_once(
    kind: type[Exception], name: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(kind, match=f"^{name}\\b"):
        SSEClient(**arguments)


def test_no_secret_is_in_the_message_of_a_bad_url() -> None:
    with SSEClient() as client, pytest.raises(ValueError, match="url") as caught:
        client.connect("http://user:secret@host:port/?key=secret")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_connect_does_no_io() -> None:
    with SSEServer() as server, SSEClient() as client:
        conn = client.connect(server.url)
        assert conn.ready_state is ReadyState.CONNECTING
        assert (conn.status, conn.response_url, dict(conn.headers)) == (None, None, {})
        assert server.requests == []


# -- ordinary HTTP, against a server that is not ours


def test_a_stream_of_an_ordinary_server(face: Face, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/events").respond_with_handler(lambda _: events("a", "ä☃"))
    with (
        face.client() as client,
        face.connect(client, httpserver.url_for("/events"), reconnect=False) as conn,
    ):
        assert [event.data for event in face.rest(conn)] == ["a", "ä☃"]


def test_a_request_is_as_asked_for(face: Face, httpserver: HTTPServer) -> None:
    seen: list[Request] = []

    def handler(request: Request) -> Response:
        request.get_data()
        seen.append(request)
        return events("x")

    httpserver.expect_request("/p ä").respond_with_handler(handler)
    with (
        face.client(headers={"X-All": "1", "x-both": "client"}) as client,
        face.connect(
            client,
            httpserver.url_for("/") + "p ä?q=1#fragment",
            "put",
            [
                ("X-Both", "own"),
                ("X-Two", "a"),
                ("x-two", b"b"),
                ("Cookie", "a=1"),
                ("Cookie", "b=2"),
                ("X-Utf", "☃"),
            ],
            [("n", 1), ("s", "ä&="), ("none", None), ("many", [1, 2])],
            "größe",
            reconnect=False,
        ) as conn,
    ):
        assert face.next(conn).data == "x"
        assert conn.url == conn.response_url
        assert conn.url.endswith("/p%20%C3%A4?q=1&n=1&s=%C3%A4%26%3D&many=1&many=2")
    (request,) = seen
    assert request.method == "PUT"
    assert request.query_string == b"q=1&n=1&s=%C3%A4%26%3D&many=1&many=2"
    assert request.get_data() == "größe".encode()
    headers = request.headers
    assert headers["Accept"] == "text/event-stream"
    assert headers["Cache-Control"] == "no-cache"
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("sseclient_dual")
    assert (headers["X-All"], headers["X-Both"], headers["X-Two"]) == ("1", "own", "a, b")
    assert headers["Cookie"] == "a=1; b=2"
    assert headers["X-Utf"].encode("latin-1").decode() == "☃"
    assert "Content-Type" not in headers
    assert "Last-Event-Id" not in headers


@pytest.mark.parametrize(
    ("body", "sent", "media_type"),
    [
        ({"data": b"\x00\xff"}, b"\x00\xff", None),
        ({"data": bytearray(b"a")}, b"a", None),
        ({"data": b""}, b"", None),
        ({"data": {"a": "ä b", "c": [1, 2]}}, b"a=%C3%A4+b&c=1&c=2", "application/x-www-form-urlencoded"),
        ({"json": {"a": [1, None, "ä"]}}, '{"a":[1,null,"ä"]}'.encode(), "application/json"),
        ({"json": []}, b"[]", "application/json"),
        ({"json": 0}, b"0", "application/json"),
        ({"json": {}, "headers": {"content-type": "application/vnd.x+json"}}, b"{}", "application/vnd.x+json"),
        ({}, b"", None),
    ],
    ids=str,
)
def test_a_body_is_sent_as_given(
    face: Face, httpserver: HTTPServer, body: dict[str, Any], sent: bytes, media_type: str | None
) -> None:
    seen: list[tuple[bytes, str | None]] = []

    def handler(request: Request) -> Response:
        seen.append((request.get_data(), request.headers.get("Content-Type")))
        return events("x")

    httpserver.expect_request("/", method="POST").respond_with_handler(handler)
    with face.client() as client, face.connect(client, httpserver.url_for("/"), "POST", **body) as conn:
        assert [event.data for event in face.rest(conn)] == ["x"]
    assert seen == [(sent, media_type)]


def test_a_multipart_body(face: Face, httpserver: HTTPServer) -> None:
    seen: list[tuple[str | None, bytes]] = []

    def handler(request: Request) -> Response:
        seen.append((request.headers.get("Content-Type"), request.get_data(cache=True)))
        assert request.form.to_dict() == {"text": "größe", "number": "5", 'odd "name"': "", "raw": "bytes"}
        files = {name: (file.filename, file.content_type, file.read()) for name, file in request.files.items()}
        assert files == {
            "plain": ("ä.txt", "text/plain", "☃".encode()),
            "image": ("x.bin", "application/x-own", bytes(range(256))),
            "guessed": ("x.json", "application/json", b"{}"),
        }
        return events("x")

    data: dict[str, Any] = {
        "text": "größe",
        "number": 5,
        'odd "name"': "",
        "raw": b"bytes",
        "plain": ("ä.txt", "☃"),
        "image": ("x.bin", bytes(range(256)), "application/x-own"),
        "guessed": ("x.json", "{}"),
    }
    httpserver.expect_request("/", method="POST").respond_with_handler(handler)
    with face.client(policy=ReconnectPolicy(retry_delay=1, dedup=False)) as client:
        conn = client.connect(httpserver.url_for("/"), "POST", data=data, multipart=True, reconnect=True)
        data["text"] = "changed"
        with face.enter(conn):
            assert [event.data for event in face.take(conn, 3)] == ["x"] * 3
    httpserver.check()
    assert len(set(seen)) == 1  # the same bytes, boundary included, on every reconnect
    assert (seen[0][0] or "").startswith("multipart/form-data; boundary=")


def test_a_body_is_a_snapshot(face: Face) -> None:
    body = {"messages": ["first"]}
    raw = bytearray(b"first")
    with SSEServer(*[stream("data: x\n\n")] * 2) as server, face.client() as client:
        connections = [
            client.connect(server.url, "POST", json=body, reconnect=False),
            client.connect(server.url, "POST", data=raw, reconnect=False),
        ]
        body["messages"].append("second")
        raw += b"second"
        for conn in connections:
            assert len(face.rest(conn)) == 1
        assert [request.body for request in server.requests] == [b'{"messages":["first"]}', b"first"]


def test_a_large_body_may_take_longer_than_any_timeout(face: Face) -> None:
    body = b"x" * 5_000_000
    with SSEServer(stream("data: x\n\n")) as server, face.client(timeout=5) as client:
        with face.connect(client, server.url, "POST", data=body) as conn:
            assert face.next(conn).data == "x"
        assert server.requests[0].body == body
        assert server.requests[0].headers["Content-Length"] == "5000000"
        assert "Transfer-Encoding" not in server.requests[0].headers


def test_standard_headers_can_be_replaced(face: Face) -> None:
    own = {"accept": "text/event-stream, */*", "CACHE-CONTROL": "max-age=0", "user-agent": "me", "Host": "else.where"}
    with SSEServer(stream("data: x\n\n")) as server, face.client() as client:
        with face.connect(client, server.url, headers=own) as conn:
            face.next(conn)
        (request,) = server.requests
        assert {name.lower(): request.headers[name] for name in own} == {n.lower(): v for n, v in own.items()}


# -- callable headers


def test_callable_headers_are_asked_before_every_attempt(face: Face) -> None:
    count = iter(range(10))
    with (
        SSEServer(*[stream("data: x\n\n")] * 3) as server,
        face.client(policy=ReconnectPolicy(retry_delay=1, dedup=False)) as client,
        face.connect(client, server.url, headers=lambda: {"Authorization": f"Bearer {next(count)}"}) as conn,
    ):
        assert len(face.rest(conn)) == 3
        assert [request.headers["Authorization"] for request in server.requests] == [f"Bearer {n}" for n in range(4)]


@pytest.mark.parametrize("options", [{}, {"reconnect": False}, {"method": "POST", "data": "x"}], ids=str)
def test_a_401_asks_a_callable_once_more(face: Face, httpserver: HTTPServer, options: dict[str, Any]) -> None:
    tokens = iter(["stale", "fresh"])

    def handler(request: Request) -> Response:
        fresh = request.headers["Authorization"] == "fresh"
        return events("x") if fresh else Response("stale", 401)

    httpserver.expect_request("/").respond_with_handler(handler)
    with (
        face.client() as client,
        face.connect(
            client, httpserver.url_for("/"), headers=lambda: [("Authorization", next(tokens))], **options
        ) as conn,
    ):
        assert face.next(conn).data == "x"


def test_a_second_401_is_raised(face: Face, httpserver: HTTPServer) -> None:
    calls: list[int] = []

    def headers() -> dict[str, str]:
        calls.append(1)
        return {"Authorization": "stale"}

    httpserver.expect_request("/").respond_with_data("stale", 401)
    with face.client() as client:
        with pytest.raises(SSEStatusError):
            face.open(client.connect(httpserver.url_for("/"), headers=headers))
        assert len(calls) == 2
        with pytest.raises(SSEStatusError):
            face.open(client.connect(httpserver.url_for("/"), headers={"Authorization": "stale"}))


def test_what_a_callable_returns_is_checked(face: Face) -> None:
    with SSEServer() as server, face.client() as client:
        with pytest.raises(ValueError, match="headers hold a control character"):
            face.open(client.connect(server.url, headers=lambda: {"X": "a\nb"}))
        assert server.requests == []


def test_callable_headers_see_their_callers_context(face: Face) -> None:
    import contextvars  # noqa: PLC0415 - for this test alone

    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
    with SSEServer(default=stream("data: x\n\n")) as server, face.client() as client:

        def use() -> None:
            tenant.set("somebody")
            with face.connect(client, server.url, headers=lambda: {"X-Tenant": tenant.get()}) as conn:
                face.next(conn)

        contextvars.copy_context().run(use)
        assert server.requests[0].headers["X-Tenant"] == "somebody"


# -- what is shared


def test_a_pool_lends_its_settings_and_is_left_alone(face: Face, tls: tuple[Any, str]) -> None:
    pool = urllib3.PoolManager(ca_certs=tls[1], headers={"X-Pool": "1"}, maxsize=1, block=True)
    before = dict(pool.connection_pool_kw)
    with SSEServer(default=stream("data: x\n\n", HANG), tls=tls[0]) as server:
        with face.client(pool, headers={"X-Client": "2"}) as client:
            # Two at a time, though the pool would block the second one.
            with face.connect(client, server.url) as one, face.connect(client, server.url) as two:
                assert face.next(one).data == face.next(two).data == "x"
            assert server.requests[0].headers["X-Pool"] == "1"
            assert server.requests[0].headers["X-Client"] == "2"
        assert pool.connection_pool_kw == before
        assert len(pool.pools) == 0


def test_a_kept_connection_is_used_again(face: Face) -> None:
    with (
        SSEServer(*[stream("data: x\n\n")] * 3) as server,
        face.client(policy=ReconnectPolicy(retry_delay=1, dedup=False)) as client,
    ):
        with face.connect(client, server.url, keep_connection=True) as conn:
            assert len(face.rest(conn)) == 3
        assert len({request.connection for request in server.requests}) == 1


def test_a_connection_is_closed_unless_it_shall_be_kept(face: Face) -> None:
    with (
        SSEServer(*[stream("data: x\n\n")] * 3) as server,
        face.client(policy=ReconnectPolicy(retry_delay=1, dedup=False)) as client,
        face.connect(client, server.url) as conn,
    ):
        assert len(face.rest(conn)) == 3
        assert len({request.connection for request in server.requests}) == 4
        server.wait_for_connections(0)


def test_a_connection_left_mid_stream_is_closed_though_it_might_be_kept(face: Face) -> None:
    with SSEServer(*[stream("data: x\n\n", HANG)] * 2) as server, face.client() as client:
        for _ in range(2):
            with face.connect(client, server.url, keep_connection=True) as conn:
                face.next(conn)
            server.wait_for_connections(0)


def test_one_client_serves_both_faces_and_several_loops() -> None:
    async def consume(client: SSEClient, url: str) -> list[str]:
        async with client.connect(url, reconnect=False) as conn:
            return [event.data async for event in conn]

    with SSEServer(default=stream("data: x\n\n")) as server, SSEClient() as client:
        assert asyncio.run(consume(client, server.url)) == ["x"]
        assert asyncio.run(consume(client, server.url)) == ["x"]
        with client.connect(server.url, reconnect=False) as conn:
            assert [event.data for event in conn] == ["x"]
