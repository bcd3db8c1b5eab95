"""Proxies that refuse, break or do not answer."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from sseclient_dual import ReadyState, SSEClient, SSEConnectionError, SSEStatusError
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, raw, status, stream
from support.leaks import streams
from support.policies import QUICK_CAPPED
from support.processes import HOST, Process, free_port
from support.proxies import CREDENTIALS, closes_at_once, start, tinyproxy_with
from support.waiting import AT_ONCE, PATIENCE, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from support.apis import Api
    from support.tls import Tls


pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")


def refused_by(api: Api, proxy: str, url: str, caplog: pytest.LogCaptureFixture) -> SSEConnectionError:
    """Return the final error of a connection that reconnects; check that no text contains the secret."""
    caplog.set_level(logging.DEBUG)
    with api.client(proxy=proxy, policy=QUICK_CAPPED) as client:
        with pytest.raises(SSEConnectionError) as caught:
            api.open(client.connect(url))
    for text in (str(caught.value), repr(caught.value.__cause__), caplog.text):
        assert "secret" not in text
    return caught.value


@pytest.mark.parametrize("credentials", ["", "nobody:secret@"])
def test_a_proxy_that_rejects_the_credentials(
    api: Api, credentials: str, proxy_py: Process, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = f"http://{credentials}{HOST}:{proxy_py.port}"
    error = refused_by(api, proxy, "https://127.0.0.1:9/", caplog)
    assert "https://127.0.0.1:9: the proxy http://127.0.0.1:" in str(error)
    assert "407 Proxy Authentication Required" in str(error)
    error = refused_by(api, proxy, "http://127.0.0.1:9/", caplog)
    assert isinstance(error, SSEStatusError)
    assert error.status == 407
    assert "through the proxy" in str(error)


@pytest.mark.parametrize("credentials", ["", "nobody:secret@"])
def test_a_socks_proxy_that_rejects_the_credentials(
    api: Api, credentials: str, microsocks_auth: Process, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = f"socks5://{credentials}{HOST}:{microsocks_auth.port}"
    for url in ("https://127.0.0.1:9/", "http://127.0.0.1:9/"):
        error = refused_by(api, proxy, url, caplog)
        assert "the SOCKS proxy refused access" in str(error)
        assert "check the credentials" in str(error)


def test_a_proxy_that_forbids_a_port(api: Api, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with tinyproxy_with(tmp_path, "ConnectPort 563", "BasicAuth user secret") as process:
        error = refused_by(api, f"http://user:secret@{HOST}:{process.port}", "https://127.0.0.1:9/", caplog)
    assert "answered CONNECT with status 403 Access violation" in str(error)


def test_a_server_that_a_proxy_cannot_reach_is_retried(
    api: Api, proxy: tuple[str, Process], both_authorities: str
) -> None:
    with SSEServer(stream("data: x\n\n")) as server:
        server.refuse()
        with api.client(proxy=proxy[0], policy=QUICK_CAPPED, verify=both_authorities) as client:
            conn = client.connect(server.url)
            start(conn)
            wait_until(lambda: conn.stats.reconnects >= 2, "some attempts")
            server.listen()
            assert api.recv(conn, PATIENCE).data == "x"
            api.close(conn)


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@pytest.mark.parametrize("target", ["http", "https"])
def test_a_proxy_that_is_down_is_retried(api: Api, scheme: str, target: str) -> None:
    port = free_port()
    with api.client(proxy=f"{scheme}://user:secret@{HOST}:{port}", policy=QUICK_CAPPED) as client:
        with pytest.raises(SSEConnectionError, match=r"could not use the proxy \(Connection refused\)") as caught:
            api.open(client.connect(f"{target}://stream.invalid/", reconnect=False))
        assert f"{target}://stream.invalid (through the proxy {scheme}://{HOST}:{port})" in str(caught.value)
        conn = client.connect(f"{target}://stream.invalid/")
        with pytest.raises(TimeoutError):
            api.recv(conn, 0.05)
        wait_until(lambda: conn.stats.reconnects >= 2, "some attempts")
        api.close(conn)


def test_a_proxy_that_comes_back_is_used_again(api: Api, tmp_path: Path, tls: Tls) -> None:
    with (
        SSEServer(stream("id: 1\ndata: a\n\n", HANG), stream("data: b\n\n", HANG), tls=tls[0]) as server,
        tinyproxy_with(tmp_path) as process,
        api.client(proxy=f"http://{HOST}:{process.port}", policy=QUICK_CAPPED, verify=tls[1]) as client,
        api.connect(client, server.url) as conn,
    ):
        assert api.next(conn).data == "a"
        process.kill()
        wait_until(lambda: conn.ready_state is ReadyState.CONNECTING and conn.stats.reconnects > 1, "the drop")
        process.start()
        assert api.next(conn).data == "b"
        assert server.requests[-1].last_event_id == "1"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (raw("HTTP/1.1 502 Bad Gateway\r\n\r\n"), "answered CONNECT with status 502 Bad Gateway"),
        (raw("HTTP/1.1 200 OK\r\n\r\n", CUT), "TLS failed"),
        (raw(CUT), "the server closed the connection without a response"),
        (raw("SSH-2.0-OpenSSH\r\n"), "the response is not HTTP"),
        (status(429), "answered CONNECT with status 429 Too Many Requests"),
    ],
)
def test_a_tunnel_that_fails_is_retried(api: Api, answer: Any, message: str) -> None:
    with SSEServer(default=answer) as proxy, api.client(proxy=proxy.url, policy=QUICK_CAPPED) as client:
        with pytest.raises(SSEConnectionError, match=message):
            api.open(client.connect("https://stream.invalid/", reconnect=False))
        assert proxy.requests[0].method == "CONNECT"
        assert proxy.requests[0].target == "stream.invalid:443"
        # A POST is retried, too: none of it was sent.
        conn = client.connect("https://stream.invalid/", "POST", data="x")
        with pytest.raises(TimeoutError):
            api.recv(conn, 0.05)
        proxy.wait_for_requests(4)
        api.close(conn)


def test_a_silent_proxy_is_bounded_by_the_connect_timeout(api: Api) -> None:
    timeout = urllib3.Timeout(connect=0.2, read=None)
    with SSEServer(default=raw(HANG)) as proxy, api.client(proxy=proxy.url, timeout=timeout) as client:
        with pytest.raises(
            SSEConnectionError, match=rf"through the proxy {proxy.origin}\): could not connect within 0\.2 s"
        ):
            api.open(client.connect("https://stream.invalid/", reconnect=False))
    gate = Gate()
    with SSEServer(handshake=gate) as proxy:
        with api.client(proxy=f"socks5h://{HOST}:{proxy.port}", timeout=timeout) as client:
            with pytest.raises(SSEConnectionError, match=r"could not use the proxy \(timed out\)"):
                api.open(client.connect("https://stream.invalid/", reconnect=False))


@pytest.mark.parametrize("target", ["http", "https"])
@pytest.mark.parametrize("scheme", ["http", "https", "socks4a", "socks5", "socks5h"])
def test_closing_while_a_proxy_is_silent(scheme: str, target: str) -> None:
    gate = Gate()
    with SSEServer(handshake=gate) as proxy, SSEClient(proxy=f"{scheme}://u:p@{HOST}:{proxy.port}") as client:
        conn = client.connect(f"{target}://127.0.0.1:9/")
        start(conn)
        gate.wait_reached()
        time.sleep(0.05)  # until the client has sent its first bytes and waits
        closes_at_once(conn)
        proxy.wait_for_connections(0)


def test_closing_in_the_middle_of_a_socks_negotiation() -> None:
    with socket.create_server((HOST, 0)) as listener:
        asked = threading.Event()

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(100)
                sock.sendall(b"\5\0")
                sock.recv(100)
                sock.sendall(b"\5")  # the rest of the answer never arrives
                asked.set()
                while sock.recv(100):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        with SSEClient(proxy=f"socks5h://{HOST}:{listener.getsockname()[1]}") as client:
            conn = client.connect("http://stream.invalid/")
            start(conn)
            assert asked.wait(PATIENCE)
            closes_at_once(conn)
        thread.join()


def test_closing_during_the_tls_handshake_inside_a_tunnel(
    proxy_py_tls: Process, tls: Tls, both_authorities: str
) -> None:
    gate = Gate()
    url = f"https://{CREDENTIALS}@{HOST}:{proxy_py_tls.port}"
    with SSEServer(tls=tls[0], handshake=gate) as server, SSEClient(proxy=url, verify=both_authorities) as client:
        conn = client.connect(server.url)
        start(conn)
        gate.wait_reached()
        closes_at_once(conn)
        server.wait_for_connections(0)


def test_closing_while_socks5_resolves_a_name_locally(monkeypatch: pytest.MonkeyPatch, microsocks: Process) -> None:
    asked, answered = threading.Event(), threading.Event()
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: Any, **options: Any) -> Any:
        if host == "slow.invalid":
            asked.set()
            answered.wait(PATIENCE)
        return real(HOST, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with SSEServer() as server, SSEClient(proxy=f"socks5://{HOST}:{microsocks.port}") as client:
        conn = client.connect(f"http://slow.invalid:{server.port}/")
        start(conn)
        assert asked.wait(PATIENCE)
        begun = time.monotonic()
        conn.close()
        assert time.monotonic() - begun < AT_ONCE
        assert conn._reader.finished.is_set  # awaiting close() does not wait for the name server
        answered.set()
        wait_until(lambda: not streams(), "the thread's end")
        assert server.requests == []
