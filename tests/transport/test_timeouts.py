"""Timeouts of an attempt: connect, read and total."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from sseclient_dual import SSEConnectionError
from sseclient_dual.testing import HANG, Gate, SSEServer, pause, raw, redirect, stream
from sseclient_dual.transport import split_timeout
from sseclient_dual.transport.connections import HTTPConnection
from support.listeners import dripping, full_backlog
from support.policies import QUICK
from support.tunnels import tunnel
from support.waiting import silence

if TYPE_CHECKING:
    from support.apis import Api
    from support.tls import Tls


def test_the_head_may_take_longer_than_the_connect_timeout(api: Api) -> None:
    timeout = urllib3.Timeout(connect=0.2, read=None)
    with (
        SSEServer(stream(pause(0.8), "data: x\n\n", HANG, head_with_body=True)) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url, timeout=timeout) as conn,
    ):
        assert api.next(conn).data == "x"
        assert len(server.requests) == 1


def test_the_wait_for_the_head_is_bounded_by_the_read_timeout(api: Api) -> None:
    timeout = urllib3.Timeout(connect=None, read=0.2)
    with SSEServer(raw(HANG)) as server, api.client() as client:
        with pytest.raises(SSEConnectionError, match=r"no data arrived for 0\.2 s"):
            api.open(client.connect(server.url, timeout=timeout, reconnect=False))
        server.wait_for_connections(0)


def test_a_tls_handshake_is_bounded_by_the_connect_timeout(api: Api, tls: Tls) -> None:
    timeout = urllib3.Timeout(connect=0.2, read=None)
    with SSEServer(tls=tls[0], handshake=Gate()) as server, api.client() as client:
        with pytest.raises(SSEConnectionError, match=r"could not connect within 0\.2 s"):
            api.open(client.connect(server.url, timeout=timeout, reconnect=False))


def test_a_connect_is_bounded_by_the_connect_timeout(api: Api) -> None:
    with full_backlog() as address, api.client(timeout=0.2) as client:
        with pytest.raises(SSEConnectionError, match=r"could not connect within 0\.2 s"):
            api.open(client.connect("http://{}:{}/".format(*address), reconnect=False))


def test_a_total_timeout_bounds_both_parts(api: Api) -> None:
    with SSEServer(raw(HANG)) as server, api.client(timeout=urllib3.Timeout(total=0.2)) as client:
        with pytest.raises(SSEConnectionError, match=r"no data arrived for 0\.\d+ s"):
            api.open(client.connect(server.url, reconnect=False))


def test_none_overrides_the_timeout_of_the_client(api: Api) -> None:
    with (
        SSEServer(stream(pause(0.5), "data: x\n\n"), raw(HANG)) as server,
        api.client(timeout=silence(0.1)) as client,
    ):
        with api.connect(client, server.url, timeout=None, reconnect=False) as conn:
            assert api.next(conn).data == "x"
        with pytest.raises(SSEConnectionError, match="no data arrived"):
            api.open(client.connect(server.url, reconnect=False))


def test_a_timeout_may_be_an_int(api: Api) -> None:
    with SSEServer(stream("data: x\n\n")) as server, api.client(timeout=5) as client:
        with api.connect(client, server.url, timeout=urllib3.Timeout(connect=1)) as conn:
            assert api.next(conn).data == "x"


def test_a_connect_after_a_redirect_is_bounded_by_the_connect_timeout(api: Api, tls: Tls) -> None:
    timeout = urllib3.Timeout(connect=0.2, read=None)
    with SSEServer(tls=tls[0], handshake=Gate()) as target, api.client() as client:
        with SSEServer(redirect(target.url)) as server:
            with pytest.raises(SSEConnectionError, match=f"{target.origin}: could not connect within 0.2 s"):
                api.open(client.connect(server.url, timeout=timeout, reconnect=False))


def test_an_unset_part_of_a_timeout_gets_the_default() -> None:
    assert split_timeout(urllib3.Timeout(read=30)) == (10, 30)
    assert split_timeout(urllib3.Timeout(connect=5)) == (5, None)
    assert split_timeout(urllib3.Timeout(connect=None, read=None)) == (None, None)
    assert split_timeout(5) == (5, 5)
    assert split_timeout(None) == (None, None)


def test_a_timeout_too_long_for_system_calls_is_accepted(api: Api) -> None:
    with SSEServer(stream("data: x\n\n")) as server, api.client(timeout=1e12) as client:
        with api.connect(client, server.url) as conn:
            assert api.next(conn).data == "x"


# -- peers that send one byte after the other: each arrives in time

TLS_RECORD = b"\x16\x03\x03\x40\x00"  # the head of a record of 16 KiB
UNFINISHED = b"HTTP/1.1 200 OK\r\nX: "
CONNECTED = b"HTTP/1.1 200 OK\r\n\r\n"
SOCKS_GREETING = b"\5\0\5\0\0\3\xff"  # up to a name of 255 bytes


@pytest.mark.parametrize(
    ("scheme", "answers", "message"),
    [
        ("http", [UNFINISHED], "could not connect within 0.5 s"),
        ("https", [UNFINISHED], "could not connect within 0.5 s"),
        ("http", [CONNECTED, TLS_RECORD], "could not connect within 0.5 s"),
        ("https", [CONNECTED, TLS_RECORD], "could not connect within 0.5 s"),
        ("socks5h", [SOCKS_GREETING], r"could not use the proxy \(timed out\)"),
    ],
    ids=["connect", "connect-over-tls", "handshake", "tls-in-tls", "socks"],
)
def test_a_dripping_proxy_is_bounded_by_the_connect_timeout(
    api: Api, tls: Tls, scheme: str, answers: list[bytes], message: str
) -> None:
    timeout = urllib3.Timeout(connect=0.5, read=None)
    with dripping(*answers, tls=tls[0] if scheme == "https" else None) as port:
        with api.client(proxy=f"{scheme}://127.0.0.1:{port}", verify=tls[1], timeout=timeout) as client:
            begun = time.monotonic()
            with pytest.raises(SSEConnectionError, match=message):
                api.open(client.connect("https://stream.invalid/", reconnect=False))
            assert time.monotonic() - begun < 5


def test_a_dripping_tls_handshake_is_bounded_by_the_connect_timeout(api: Api) -> None:
    timeout = urllib3.Timeout(connect=0.5, read=None)
    with dripping(TLS_RECORD) as port, api.client(timeout=timeout) as client:
        with pytest.raises(SSEConnectionError, match=r"could not connect within 0\.5 s"):
            api.open(client.connect(f"https://127.0.0.1:{port}/", reconnect=False))


def test_the_handshake_in_a_tunnel_has_the_whole_connect_timeout(
    api: Api, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[float] = []
    real = HTTPConnection._tunnel

    def record(self: Any) -> None:
        real(self)
        left.append(self.sock.gettimeout())

    monkeypatch.setattr(HTTPConnection, "_tunnel", record)
    with SSEServer(stream("data: x\n\n"), tls=tls[0]) as server, tunnel(server.port, CONNECTED) as proxy:
        with api.client(proxy=proxy, verify=tls[1], timeout=30) as client:
            with api.connect(client, server.url, reconnect=False) as conn:
                assert api.next(conn).data == "x"
    assert left == [30]
