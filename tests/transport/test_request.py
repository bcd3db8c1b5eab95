"""Requests as an ordinary HTTP server sees them: headers, bodies, headers from a callable."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from sseclient_dual import SSEClient, SSEStatusError
from sseclient_dual.testing import CUT, SSEServer, status, stream
from support.policies import QUICK, QUICK_NO_DEDUP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.apis import Api


@pytest.fixture(scope="module")
def httpserver() -> Iterator[HTTPServer]:
    with HTTPServer(host="127.0.0.1") as server:
        yield server


@pytest.fixture(autouse=True)
def clear_handlers(httpserver: HTTPServer) -> None:
    httpserver.clear()


def events(*data: str) -> Response:
    return Response("".join(f"data: {line}\n\n" for line in data), content_type="text/event-stream")


# -- requests to pytest-httpserver


def test_a_stream_from_an_ordinary_server(api: Api, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/events").respond_with_handler(lambda _: events("a", "ä☃"))
    with (
        api.client() as client,
        api.connect(client, httpserver.url_for("/events"), reconnect=False) as conn,
    ):
        assert [event.data for event in api.rest(conn)] == ["a", "ä☃"]


@pytest.mark.parametrize(
    ("arguments", "method"),
    [
        ({}, "GET"),
        ({"method": None}, "GET"),
        ({"json": {}}, "POST"),
        ({"json": False}, "POST"),
        ({"data": ""}, "POST"),
        ({"data": {"a": 1}}, "POST"),
        ({"data": {"a": "1"}, "multipart": True}, "POST"),
        ({"method": "GET", "json": {}}, "GET"),
        ({"method": "put", "data": b"x"}, "PUT"),
        ({"method": "POST"}, "POST"),
    ],
    ids=str,
)
def test_the_default_method_depends_on_the_body(api: Api, arguments: dict[str, Any], method: str) -> None:
    with SSEServer(stream("data: x\n\n")) as server, api.client() as client:
        assert len(api.rest(client.connect(server.url, reconnect=False, **arguments))) == 1
        (request,) = server.requests
    assert request.method == method


def test_a_request_has_the_given_method_headers_params_and_body(api: Api, httpserver: HTTPServer) -> None:
    seen: list[Request] = []

    def handler(request: Request) -> Response:
        request.get_data()
        seen.append(request)
        return events("x")

    httpserver.expect_request("/p ä").respond_with_handler(handler)
    with (
        api.client(headers={"X-All": "1", "x-both": "client"}) as client,
        api.connect(
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
        assert api.next(conn).data == "x"
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
    api: Api, httpserver: HTTPServer, body: dict[str, Any], sent: bytes, media_type: str | None
) -> None:
    seen: list[tuple[bytes, str | None]] = []

    def handler(request: Request) -> Response:
        seen.append((request.get_data(), request.headers.get("Content-Type")))
        return events("x")

    httpserver.expect_request("/", method="POST").respond_with_handler(handler)
    with api.client() as client, api.connect(client, httpserver.url_for("/"), "POST", **body) as conn:
        assert [event.data for event in api.rest(conn)] == ["x"]
    assert seen == [(sent, media_type)]


def test_a_multipart_body(api: Api, httpserver: HTTPServer) -> None:
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
    with api.client(policy=QUICK_NO_DEDUP) as client:
        conn = client.connect(httpserver.url_for("/"), "POST", data=data, multipart=True, reconnect=True)
        data["text"] = "changed"
        with api.enter(conn):
            assert [event.data for event in api.take(conn, 3)] == ["x"] * 3
    httpserver.check()
    assert len(set(seen)) == 1  # the same bytes, boundary included, on every reconnect
    assert (seen[0][0] or "").startswith("multipart/form-data; boundary=")


def test_a_body_is_copied(api: Api) -> None:
    body = {"messages": ["first"]}
    raw = bytearray(b"first")
    with SSEServer(*[stream("data: x\n\n")] * 2) as server, api.client() as client:
        connections = [
            client.connect(server.url, "POST", json=body, reconnect=False),
            client.connect(server.url, "POST", data=raw, reconnect=False),
        ]
        body["messages"].append("second")
        raw += b"second"
        for conn in connections:
            assert len(api.rest(conn)) == 1
        assert [request.body for request in server.requests] == [b'{"messages":["first"]}', b"first"]


def test_a_large_body_is_sent_with_its_length(api: Api) -> None:
    body = b"x" * 5_000_000
    with SSEServer(stream("data: x\n\n")) as server, api.client(timeout=5) as client:
        with api.connect(client, server.url, "POST", data=body) as conn:
            assert api.next(conn).data == "x"
        assert server.requests[0].body == body
        assert server.requests[0].headers["Content-Length"] == "5000000"
        assert "Transfer-Encoding" not in server.requests[0].headers


def test_standard_headers_can_be_replaced(api: Api) -> None:
    own = {"accept": "text/event-stream, */*", "CACHE-CONTROL": "max-age=0", "user-agent": "me", "Host": "else.where"}
    with SSEServer(stream("data: x\n\n")) as server, api.client() as client:
        with api.connect(client, server.url, headers=own) as conn:
            api.next(conn)
        (request,) = server.requests
        assert {name.lower(): request.headers[name] for name in own} == {n.lower(): v for n, v in own.items()}


# -- another serialiser


def dumps_with_dates(value: object) -> str:
    return json.dumps(value, default=str)


@pytest.mark.parametrize(
    ("dumps", "sent"),
    [
        (dumps_with_dates, b'{"a": ["2026-01-31"]}'),
        (lambda value: dumps_with_dates(value).encode(), b'{"a": ["2026-01-31"]}'),
        (lambda value: bytearray(b"own"), b"own"),
        (lambda value: "☃", "☃".encode()),
    ],
    ids=["str", "bytes", "bytearray", "UTF-8"],
)
def test_json_dumps_serialises_the_body(api: Api, dumps: Any, sent: bytes) -> None:
    with SSEServer(stream("data: x\n\n", CUT), status(204)) as server:
        with api.client(json_dumps=dumps, policy=QUICK) as client:
            body = {"a": [date(2026, 1, 31)]}
            conn = client.connect(server.url, json=body, reconnect=True)
            body["a"].clear()  # it was serialised at once
            assert len(api.rest(conn)) == 1
        assert [request.body for request in server.requests] == [sent, sent]
        assert server.requests[0].headers["Content-Type"] == "application/json"


def fail(_: object) -> str:
    raise TypeError("Type is not JSON serializable: date")


@pytest.mark.parametrize(
    ("dumps", "kind", "message"),
    [
        (fail, TypeError, "json cannot be serialised: Type is not JSON serializable: date"),
        (lambda _: float("x"), ValueError, "json cannot be serialised: could not convert"),
        (lambda _: "\ud800", ValueError, "json cannot be serialised: "),
        (lambda _: {}, TypeError, "json_dumps must return str or bytes, not dict"),
    ],
    ids=["TypeError", "ValueError", "surrogate", "dict"],
)
def test_an_error_of_json_dumps_is_raised_at_once(dumps: Any, kind: type[Exception], message: str) -> None:
    with SSEClient(json_dumps=dumps) as client, pytest.raises(kind, match=f"^{message}"):
        client.connect("http://127.0.0.1:9/", json=1)


def test_json_dumps_must_be_callable() -> None:
    with pytest.raises(TypeError, match="json_dumps must be a callable, not str"):
        SSEClient(json_dumps="orjson")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -- callable headers


def test_callable_headers_are_called_before_every_attempt(api: Api) -> None:
    count = iter(range(10))
    with (
        SSEServer(*[stream("data: x\n\n")] * 3) as server,
        api.client(policy=QUICK_NO_DEDUP) as client,
        api.connect(client, server.url, headers=lambda: {"Authorization": f"Bearer {next(count)}"}) as conn,
    ):
        assert len(api.rest(conn)) == 3
        assert [request.headers["Authorization"] for request in server.requests] == [f"Bearer {n}" for n in range(4)]


@pytest.mark.parametrize("options", [{}, {"reconnect": False}, {"method": "POST", "data": "x"}], ids=str)
def test_a_401_calls_callable_headers_once_more(api: Api, httpserver: HTTPServer, options: dict[str, Any]) -> None:
    tokens = iter(["stale", "fresh"])

    def handler(request: Request) -> Response:
        fresh = request.headers["Authorization"] == "fresh"
        return events("x") if fresh else Response("stale", 401)

    httpserver.expect_request("/").respond_with_handler(handler)
    with (
        api.client() as client,
        api.connect(
            client, httpserver.url_for("/"), headers=lambda: [("Authorization", next(tokens))], **options
        ) as conn,
    ):
        assert api.next(conn).data == "x"


def test_a_second_401_is_raised(api: Api, httpserver: HTTPServer) -> None:
    calls: list[int] = []

    def headers() -> dict[str, str]:
        calls.append(1)
        return {"Authorization": "stale"}

    httpserver.expect_request("/").respond_with_data("stale", 401)
    with api.client() as client:
        with pytest.raises(SSEStatusError):
            api.open(client.connect(httpserver.url_for("/"), headers=headers))
        assert len(calls) == 2
        with pytest.raises(SSEStatusError):
            api.open(client.connect(httpserver.url_for("/"), headers={"Authorization": "stale"}))


def test_the_result_of_callable_headers_is_checked(api: Api) -> None:
    with SSEServer() as server, api.client() as client:
        with pytest.raises(ValueError, match="headers has a control character"):
            api.open(client.connect(server.url, headers=lambda: {"X": "a\nb"}))
        assert server.requests == []


def test_callable_headers_run_in_the_callers_context(api: Api) -> None:
    import contextvars  # noqa: PLC0415 - for this test alone

    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
    with SSEServer(default=stream("data: x\n\n")) as server, api.client() as client:

        def use() -> None:
            tenant.set("somebody")
            with api.connect(client, server.url, headers=lambda: {"X-Tenant": tenant.get()}) as conn:
                api.next(conn)

        contextvars.copy_context().run(use)
        assert server.requests[0].headers["X-Tenant"] == "somebody"
