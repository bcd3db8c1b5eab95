"""Interim responses (1xx), from servers and from proxies."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import SSEConnectionError, SSEStatusError
from sseclient_dual.testing import CUT, HANG, SSEServer, pause, raw, stream
from support.parsing import every_byte
from support.tunnels import tunnel
from support.waiting import AT_ONCE, silence

if TYPE_CHECKING:
    from support.apis import Api
    from support.tls import Tls

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
BODY = b"data: x\n\n"
INTERIM = {
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "102": b"HTTP/1.1 102 Processing\r\n\r\n",
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nContent-Length: 99\r\n\r\n",
    "an unknown one": b"HTTP/1.1 199 \r\n\r\n",
    "no reason": b"HTTP/1.1 103\r\nX: y\r\n\r\n",
    "HTTP/1.0": b"HTTP/1.0 103 Early Hints\r\n\r\n",
    "line feeds only": b"HTTP/1.1 103 Early Hints\nX: y\n\n",
    "several": b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * 200,
    "many fields": b"HTTP/1.1 103 Early Hints\r\n" + b"X: y\r\n" * 500 + b"\r\n",
    "a long line": b"HTTP/1.1 103 Early Hints\r\nX: " + b"y" * 65_000 + b"\r\nY: z\r\n\r\n",
}


@pytest.mark.parametrize("name", INTERIM)
def test_interim_responses_are_skipped(api: Api, name: str) -> None:
    with (
        SSEServer(raw(INTERIM[name], HEAD, BODY), raw(INTERIM[name] + HEAD + BODY)) as server,
        api.client() as client,
    ):
        for _ in range(2):
            with api.connect(client, server.url, reconnect=False) as conn:
                assert [event.data for event in api.rest(conn)] == ["x"]
                assert (conn.status, conn.headers.get("Link")) == (200, None)


def test_the_status_after_interim_responses_counts(api: Api) -> None:
    answer = raw(INTERIM["103"], b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")
    with SSEServer(answer) as server, api.client() as client, pytest.raises(SSEStatusError) as caught:
        api.open(client.connect(server.url))
    assert (caught.value.status, caught.value.reason, caught.value.body) == (404, "Not Found", b"no")


def test_a_change_of_protocols_is_a_final_response(api: Api) -> None:
    answer = raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", HANG)
    with SSEServer(answer) as server, api.client() as client, pytest.raises(SSEStatusError) as caught:
        api.open(client.connect(server.url))
    assert (caught.value.status, caught.value.body) == (101, b"")


ENDINGS = {
    "the end of the connection": ((INTERIM["103"], CUT), "the response was cut short"),
    "an end within the fields": ((INTERIM["103"][:-2], CUT), "the response was cut short"),
    "no HTTP": ((INTERIM["103"], b"SSH-2.0-OpenSSH\r\n", HANG), "the response is not HTTP"),
    "no end of them": (repeat(INTERIM["103"] * 100), "the response head is too large"),
    "no end of a line": (repeat(b"HTTP/1.1 103 " + b"y" * 8192), "the response head is too large"),
    "a line beyond 64 KiB": (
        (b"HTTP/1.1 103 Hints\r\nX: ", b"y" * 65_532, b"\r\n\r\n", HANG),
        "the response head is too large",
    ),
    "no end of a field": ((b"HTTP/1.1 103 Hints\r\nX: ", repeat(b"y" * 8192)), "the response head is too large"),
    "silence": ((INTERIM["103"], HANG), r"no data arrived for 2\.0 s"),
    "one after the other, then silence": (((INTERIM["102"], pause(0.01)) * 3, HANG), r"no data arrived for 2\.0 s"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_interim_responses_are_bounded(api: Api, name: str) -> None:
    steps, problem = ENDINGS[name]
    with SSEServer(raw(steps)) as server, api.client(timeout=silence(AT_ONCE)) as client:
        with pytest.raises(SSEConnectionError, match=problem):
            api.open(client.connect(server.url, reconnect=False))


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_interim_responses_of_a_proxy_are_skipped(api: Api, version: bytes, tls: Tls) -> None:
    established = b"HTTP/%b 200 Connection established\r\nVia: x\r\n\r\n" % version
    interim = INTERIM["102"] + INTERIM["103"] + INTERIM["100"]
    with (
        SSEServer(raw(INTERIM["103"], HEAD, BODY), tls=tls[0]) as server,
        tunnel(server.port, *every_byte(interim + established)) as proxy,
        api.client(proxy=proxy, verify=tls[1]) as client,
        api.connect(client, server.url, reconnect=False) as conn,
    ):
        assert [event.data for event in api.rest(conn)] == ["x"]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "answered CONNECT with status 403 Forbidden"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "answered CONNECT with status 101 Switching Protocols"),
        (b"", "the response was cut short"),
    ],
)
def test_the_final_response_of_a_proxy_counts(api: Api, answer: bytes, problem: str) -> None:
    with SSEServer(raw(INTERIM["103"], answer, CUT)) as proxy, api.client(proxy=proxy.url) as client:
        with pytest.raises(SSEConnectionError, match=problem):
            api.open(client.connect("https://stream.invalid/", reconnect=False))


def test_interim_responses_by_a_proxy_that_forwards(api: Api) -> None:
    with (
        SSEServer(raw(INTERIM["several"], HEAD, BODY)) as proxy,
        api.client(proxy=proxy.url) as client,
        api.connect(client, "http://stream.invalid/", reconnect=False) as conn,
    ):
        assert [event.data for event in api.rest(conn)] == ["x"]


def test_interim_responses_on_a_connection_that_is_used_again(api: Api) -> None:
    answers = [raw(INTERIM["103"], b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n", HANG)]
    with (
        SSEServer(*answers, stream(BODY)) as server,
        api.client() as client,
        api.connect(client, server.url, reconnect=False) as conn,
    ):
        assert [event.data for event in api.rest(conn)] == ["x"]
        assert conn.response_url == server.url + "there"
