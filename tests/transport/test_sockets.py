"""Sockets: keep-alive, options, addresses and names."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

import pytest
import urllib3

from sseclient_dual import SSEClient, SSEConnectionError
from sseclient_dual.testing import CUT, HANG, SSEServer, stream
from sseclient_dual.transport import connections, sockets
from sseclient_dual.waiting import Deadline
from support.policies import QUICK

if TYPE_CHECKING:
    from support.apis import Api
    from support.tls import Tls

REFUSED = (socket.IPPROTO_TCP, 9999, 1)  # no system has this option


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_tcp_keep_alive_is_on(tls: Tls, *, secure: bool) -> None:
    with (
        SSEServer(stream(HANG), tls=tls[0] if secure else None) as server,
        SSEClient(verify=tls[1]) as client,
        client.connect(server.url) as conn,
    ):
        exchange = conn._reader._exchange
        assert exchange is not None
        sock = exchange._socket._sock
        assert sock is not None
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        options = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
        for name, value in {**options, "TCP_USER_TIMEOUT": 120_000}.items():
            if hasattr(socket, name):  # the options differ between systems
                assert sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value


def test_socket_options_of_a_user_pool_are_used() -> None:
    pool = urllib3.PoolManager(socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)])
    with SSEServer(stream(HANG)) as server, SSEClient(pool) as client, client.connect(server.url) as conn:
        sock = conn._reader._exchange._socket._sock  # type: ignore[union-attr]
        assert sock is not None
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_refused_keep_alive_option_is_logged_once_and_ignored(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "_KEEPALIVE_OPTIONS", [REFUSED, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)])
    sockets._log_refused_option.cache_clear()
    caplog.set_level(logging.DEBUG, "sseclient_dual")
    with SSEServer(stream("data: x\n\n", CUT), default=stream("data: y\n\n", HANG)) as server:
        with api.client(policy=QUICK) as client, api.connect(client, server.url) as conn:
            assert [event.data for event in api.take(conn, 2)] == ["x", "y"]
            assert conn._reader._exchange._socket._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)  # type: ignore[union-attr]
    refusals = [record for record in caplog.records if "keep-alive" in record.getMessage()]
    assert [record.levelno for record in refusals] == [logging.DEBUG]


def test_a_refused_option_of_a_user_pool_is_an_error(api: Api) -> None:
    pool = urllib3.PoolManager(socket_options=[REFUSED])
    with SSEServer() as server, api.client(pool) as client:
        with pytest.raises(SSEConnectionError, match="could not connect"):
            api.open(client.connect(server.url, reconnect=False))


def test_the_source_address_of_a_user_pool_is_used() -> None:
    pool = urllib3.PoolManager(source_address=("127.0.0.2", 0))
    with SSEServer(stream("data: x\n\n")) as server, SSEClient(pool) as client, client.connect(server.url) as conn:
        next(conn)
        assert server.requests[0].client_address[0] == "127.0.0.2"


def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with SSEServer(stream("data: x\n\n")) as server, SSEClient() as client:
        refused = ("127.0.0.2", server.port)  # no socket listens there
        right = ("127.0.0.1", server.port)
        answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in (refused, right)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: answer)
        with client.connect("http://two.invalid/") as conn:
            assert next(conn).data == "x"


def test_an_address_of_an_unsupported_family_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    with SSEServer(stream("data: x\n\n")) as server, SSEClient() as client:
        answer = [
            (family, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port)) for family in (12345, socket.AF_INET)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: answer)
        with client.connect("http://two.invalid/") as conn:
            assert next(conn).data == "x"


def test_a_host_name_without_addresses_raises_connection_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: [])
    with SSEClient() as client, pytest.raises(SSEConnectionError, match="no address"):
        client.connect("http://none.invalid/", reconnect=False).open()


def test_an_invalid_host_name_raises_connection_error() -> None:
    with SSEClient() as client, pytest.raises(SSEConnectionError):
        client.connect(f"http://{'a' * 70}.example/", reconnect=False).open()


def test_nothing_is_received_after_a_deadline() -> None:
    with socket.socket() as sock, pytest.raises(TimeoutError, match="timed out"):
        sockets.receive_until(Deadline(0), sock)(1)
