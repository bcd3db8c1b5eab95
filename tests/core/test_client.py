"""Clients: arguments, and resources that their connections share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from sseclient_dual import ReadyState, SSEClient
from sseclient_dual.testing import HANG, SSEServer, stream
from support.parameters import without_address
from support.policies import QUICK_NO_DEDUP

if TYPE_CHECKING:
    from support.apis import Api
    from support.tls import Tls


URL = "http://127.0.0.1:9/"
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
    (TypeError, "method", {"method": b"GET"}),
    (ValueError, "method", {"method": "GET /"}),
    (ValueError, "method", {"method": ""}),
    (ValueError, "method", {"method": "connect"}),
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
    (TypeError, "pass either data or json", {"data": b"", "json": {}}),
    (TypeError, "data", {"multipart": True}),
    (TypeError, "data", {"multipart": True, "data": b"x"}),
    (TypeError, "data", {"multipart": True, "data": [("a", "b")]}),
    (TypeError, "data", {"multipart": True, "data": {"a": None}}),
    (TypeError, "data", {"multipart": True, "data": {"a": ["b", "c"]}}),
    (TypeError, "data", {"multipart": True, "data": {"a": ("name", "content", "text/plain", "more")}}),
    (TypeError, "data", {"multipart": True, "data": {"a": ("name", object())}}),
    (TypeError, "pass either data or json", {"multipart": True, "data": {}, "json": {}}),
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
def test_connect_names_a_bad_argument_at_once(kind: type[Exception], name: str, arguments: dict[str, Any]) -> None:
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
def test_the_client_names_a_bad_argument_at_once(kind: type[Exception], name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(kind, match=f"^{name}\\b"):
        SSEClient(**arguments)


def test_connect_does_no_io() -> None:
    with SSEServer() as server, SSEClient() as client:
        conn = client.connect(server.url)
        assert conn.ready_state is ReadyState.CONNECTING
        assert (conn.status, conn.response_url, dict(conn.headers)) == (None, None, {})
        assert server.requests == []


def test_the_callers_pool_provides_settings_and_is_not_changed(api: Api, tls: Tls) -> None:
    pool = urllib3.PoolManager(ca_certs=tls[1], headers={"X-Pool": "1"}, maxsize=1, block=True)
    before = dict(pool.connection_pool_kw)
    with SSEServer(default=stream("data: x\n\n", HANG), tls=tls[0]) as server:
        with api.client(pool, headers={"X-Client": "2"}) as client:
            # Two connections at a time, although the caller's pool would block the second one.
            with api.connect(client, server.url) as one, api.connect(client, server.url) as two:
                assert api.next(one).data == api.next(two).data == "x"
            assert server.requests[0].headers["X-Pool"] == "1"
            assert server.requests[0].headers["X-Client"] == "2"
        assert pool.connection_pool_kw == before
        assert len(pool.pools) == 0


def test_a_kept_connection_is_reused(api: Api) -> None:
    with (
        SSEServer(*[stream("data: x\n\n")] * 3) as server,
        api.client(policy=QUICK_NO_DEDUP) as client,
    ):
        with api.connect(client, server.url, keep_connection=True) as conn:
            assert len(api.rest(conn)) == 3
        assert len({request.connection for request in server.requests}) == 1


def test_a_connection_is_not_kept_by_default(api: Api) -> None:
    with (
        SSEServer(*[stream("data: x\n\n")] * 3) as server,
        api.client(policy=QUICK_NO_DEDUP) as client,
        api.connect(client, server.url) as conn,
    ):
        assert len(api.rest(conn)) == 3
        assert len({request.connection for request in server.requests}) == 4
        server.wait_for_connections(0)


def test_a_connection_left_mid_stream_is_closed_and_not_kept(api: Api) -> None:
    with SSEServer(*[stream("data: x\n\n", HANG)] * 2) as server, api.client() as client:
        for _ in range(2):
            with api.connect(client, server.url, keep_connection=True) as conn:
                api.next(conn)
            server.wait_for_connections(0)


def test_one_client_serves_both_apis_and_several_loops() -> None:
    async def consume(client: SSEClient, url: str) -> list[str]:
        async with client.connect(url, reconnect=False) as conn:
            return [event.data async for event in conn]

    with SSEServer(default=stream("data: x\n\n")) as server, SSEClient() as client:
        assert asyncio.run(consume(client, server.url)) == ["x"]
        assert asyncio.run(consume(client, server.url)) == ["x"]
        with client.connect(server.url, reconnect=False) as conn:
            assert [event.data for event in conn] == ["x"]
