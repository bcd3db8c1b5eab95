"""Streams through HTTP and SOCKS proxies, plain and over TLS."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEClient, SSEConnectionError
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, stream
from support.policies import QUICK_CAPPED, QUICK_NO_DEDUP
from support.processes import HOST, Process
from support.proxies import CREDENTIALS, closes_at_once, has_connected
from support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from support.apis import Api
    from support.tls import Tls


pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")


# -- streams through a proxy


def test_a_stream_through_a_proxy(api: Api, proxy: tuple[str, Process], both_authorities: str) -> None:
    url, process = proxy
    gates = [Gate(), Gate()]
    with SSEServer(
        stream("id: 1\ndata: a\n\n", gates[0], "id: 2\ndata: ☃\n\n", gates[1], CUT), stream("data: c\n\n", HANG)
    ) as server:
        with (
            api.client(proxy=url, policy=QUICK_CAPPED, verify=both_authorities) as client,
            api.connect(client, server.url + "path?q=1", headers={"X-Own": "1"}) as conn,
        ):
            assert api.next(conn).data == "a"  # each arrives before the next is sent
            gates[0].open()
            assert api.next(conn).data == "☃"
            gates[1].open()
            assert api.next(conn).data == "c"
            assert conn.response_url == server.url + "path?q=1"
            wait_until(lambda: has_connected(process, server.port), "the proxy to log the connection")
        server.wait_for_connections(0)
        assert [request.target for request in server.requests] == ["/path?q=1"] * 2
        assert server.requests[1].last_event_id == "2"
        for request in server.requests:
            assert request.headers["Accept"] == "text/event-stream"
            assert request.headers["X-Own"] == "1"
            assert "Proxy-Authorization" not in request.headers


def test_a_tls_stream_through_a_proxy(api: Api, proxy: tuple[str, Process], tls: Tls, both_authorities: str) -> None:
    url, process = proxy
    gates = [Gate(), Gate()]
    with SSEServer(
        stream("id: 1\ndata: a\n\n", gates[0], "id: 2\ndata: ☃\n\n", gates[1], CUT),
        stream("data: " + "c" * 200_000 + "\n\n", HANG),
        tls=tls[0],
    ) as server:
        with (
            api.client(proxy=url, policy=QUICK_CAPPED, verify=both_authorities) as client,
            api.connect(client, server.url, "PUT", data=b"x" * 100_000) as conn,
        ):
            assert api.next(conn).data == "a"
            gates[0].open()
            assert api.next(conn).data == "☃"
            gates[1].open()
            assert len(api.next(conn).data) == 200_000
            wait_until(lambda: has_connected(process, server.port), "the proxy to log the connection")
        server.wait_for_connections(0)
        for request in server.requests:
            assert request.target == "/"
            assert request.body == b"x" * 100_000
            assert "Proxy-Authorization" not in request.headers


def test_a_connection_through_a_proxy_can_be_kept(
    api: Api, proxy: tuple[str, Process], tls: Tls, both_authorities: str
) -> None:
    with (
        SSEServer(*[stream("data: x\n\n")] * 3, tls=tls[0]) as server,
        api.client(proxy=proxy[0], policy=QUICK_NO_DEDUP, verify=both_authorities) as client,
        api.connect(client, server.url, keep_connection=True) as conn,
    ):
        assert len(api.rest(conn)) == 3
        assert len({request.connection for request in server.requests}) == 1


def test_close_ends_a_busy_stream_through_a_proxy_at_once(
    proxy: tuple[str, Process], tls: Tls, both_authorities: str
) -> None:
    with SSEServer(default=stream("data: x\n\n" * 1000 for _ in range(1000)), tls=tls[0]) as server:
        with SSEClient(proxy=proxy[0], verify=both_authorities) as client:
            conn = client.connect(server.url)
            next(conn)
            closes_at_once(conn)
        server.wait_for_connections(0)


def test_a_request_to_a_proxy_has_each_header_once(api: Api) -> None:
    own = {"accept": "text/event-stream, */*", "host": "else.where", "proxy-authorization": "own"}
    with SSEServer(default=stream("data: x\n\n")) as server:
        with api.client(proxy=server.url) as client:
            for headers in ({}, own):
                with api.connect(client, "http://stream.invalid/p", headers=headers) as conn:
                    api.next(conn)
        plain, replaced = server.requests
        assert plain.target == replaced.target == "http://stream.invalid/p"
        assert plain.headers["Host"] == "stream.invalid"
        assert plain.headers["Accept"] == "text/event-stream"  # duplicates would be joined
        for name, value in own.items():
            assert replaced.headers[name] == value


def test_a_proxy_without_a_scheme_is_an_http_proxy(api: Api) -> None:
    with (
        SSEServer(stream("data: x\n\n")) as server,
        api.client(proxy=f"user:word@{HOST}:{server.port}") as client,
        api.connect(client, "http://stream.invalid/") as conn,
    ):
        api.next(conn)
        assert server.requests[0].headers["Proxy-Authorization"] == "Basic dXNlcjp3b3Jk"


def test_socks5_resolves_names_locally_and_socks5h_at_the_proxy(
    microsocks: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo
    asked: list[str] = []

    def getaddrinfo(host: str, *arguments: Any, **options: Any) -> Any:
        asked.append(host)
        return real(HOST if host == "here.invalid" else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with SSEServer(default=stream("data: x\n\n")) as server:
        with SSEClient(proxy=f"socks5://{HOST}:{microsocks.port}") as client:
            with client.connect(f"http://here.invalid:{server.port}/") as conn:
                next(conn)
            assert "here.invalid" in asked
            with pytest.raises(SSEConnectionError, match="could not resolve the host name"):
                client.connect("http://nowhere.invalid/", reconnect=False).open()
        asked.clear()
        with SSEClient(proxy=f"socks5h://{HOST}:{microsocks.port}") as client:
            with client.connect(f"http://localhost:{server.port}/") as conn:
                next(conn)
            assert asked == [HOST]
            with pytest.raises(SSEConnectionError, match=r"could not use the proxy"):
                client.connect("http://here.invalid/", reconnect=False).open()


@pytest.mark.parametrize(("scheme", "remote"), [("socks4", False), ("socks4a", True)])
def test_socks4(api: Api, scheme: str, *, remote: bool) -> None:
    """Script the exchange byte by byte: the proxies of these tests do not support SOCKS4."""
    with socket.create_server((HOST, 0)) as listener:
        asked = bytearray()

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                while asked.count(0, 8) < 1 + remote:
                    asked.extend(sock.recv(100))
                sock.sendall(b"\0\x5a" + bytes(6))
                sock.recv(65536)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n")

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"{scheme}://me@{HOST}:{listener.getsockname()[1]}"
        with api.client(proxy=url) as client, api.connect(client, "http://localhost:99/", reconnect=False) as conn:
            assert api.next(conn).data == "x"
        thread.join()
    address = b"\0\0\0\1" if remote else b"\x7f\0\0\1"
    assert asked == b"\x04\x01\0\x63" + address + b"me\0" + (b"localhost\0" if remote else b"")


# -- TLS with the proxy


def test_the_certificate_of_a_proxy_is_checked(api: Api, tls: Tls, proxy_py_tls: Process) -> None:
    proxy = f"https://{HOST}:{proxy_py_tls.port}"
    with SSEServer(tls=tls[0]) as secure, SSEServer() as plain:
        with api.client(
            proxy=proxy.replace("://", f"://{CREDENTIALS}@"), verify=tls[1], policy=QUICK_CAPPED
        ) as client:
            for server in (secure, plain):
                with pytest.raises(SSEConnectionError, match="rejected") as caught:
                    api.open(client.connect(server.url))
                assert f"certificate of the proxy {proxy} was rejected" in str(caught.value)
        assert secure.requests == plain.requests == []


def test_the_certificate_of_a_server_behind_a_proxy_is_checked(
    api: Api, proxy: tuple[str, Process], tls: Tls, tls_of_proxy: tuple[Path, str]
) -> None:
    with SSEServer(tls=tls[0]) as server:
        with api.client(proxy=proxy[0], verify=tls_of_proxy[1], policy=QUICK_CAPPED) as client:
            with pytest.raises(SSEConnectionError, match=f"certificate of {server.origin} was rejected"):
                api.open(client.connect(server.url))
        assert server.requests == []


@pytest.mark.parametrize("secure", [True, False])
def test_an_ssl_context_applies_to_the_proxy_too(
    api: Api, tls: Tls, both_authorities: str, proxy_py_tls: Process, *, secure: bool
) -> None:
    context = ssl.create_default_context(cafile=both_authorities)
    proxy = f"https://{CREDENTIALS}@{HOST}:{proxy_py_tls.port}"
    with (
        SSEServer(stream("data: x\n\n"), tls=tls[0] if secure else None) as server,
        api.client(proxy=proxy, ssl_context=context) as client,
        api.connect(client, server.url) as conn,
    ):
        assert api.next(conn).data == "x"
    assert context.check_hostname


def test_a_proxy_without_tls_is_reported(api: Api, tinyproxy: Process) -> None:
    # It waits for the rest of the request; or it answers in plain text, if the random bytes of the client contain an
    # empty line. The larger key shares of OpenSSL 3.5 do so more often.
    reason = r"could not use the proxy \((.*handshake.* timed out|WRONG_VERSION_NUMBER)\)"
    with api.client(proxy=f"https://{HOST}:{tinyproxy.port}", timeout=0.2) as client:
        for url in ("https://stream.invalid/", "http://stream.invalid/"):
            with pytest.raises(SSEConnectionError, match=reason):
                api.open(client.connect(url, reconnect=False))
