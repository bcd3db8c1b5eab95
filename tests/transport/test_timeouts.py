"""Timeouts of an attempt: connect, read and total."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import urllib3

from sseclient_dual import SSEConnectionError
from sseclient_dual.testing import HANG, Gate, SSEServer, pause, raw, redirect, stream
from sseclient_dual.transport import split_timeout
from support.listeners import full_backlog
from support.policies import QUICK

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
    with SSEServer(stream(pause(0.5), "data: x\n\n"), raw(HANG)) as server, api.client(timeout=0.1) as client:
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
