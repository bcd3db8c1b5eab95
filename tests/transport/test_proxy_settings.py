"""The choice of the proxy: the environment, its exceptions, and bad arguments."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from sseclient_dual import SSEClient, SSEConnectionError
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, redirect, stream
from support.apis import SyncApi
from support.policies import QUICK_CAPPED
from support.processes import HOST, Process
from support.proxies import CREDENTIALS, has_connected
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.apis import Api
    from support.tls import Tls


pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")


# -- proxies of the environment


@contextmanager
def proxy_and_server() -> Iterator[tuple[SSEServer, SSEServer]]:
    """Start a server that answers as a proxy, and a server to connect to directly."""
    with SSEServer(default=stream("data: by proxy\n\n")) as proxy:
        with SSEServer(default=stream("data: directly\n\n")) as server:
            yield proxy, server


def first_data(api: Api, url: str, **options: Any) -> str:
    with api.client(**options) as client, api.connect(client, url, reconnect=False) as conn:
        return api.next(conn).data


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "Http_Proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, api: Api, name: str, scheme: str
) -> None:
    with proxy_and_server() as (proxy, server):
        assert first_data(api, server.url) == "directly"
        monkeypatch.setenv(name, f"{scheme}u:p@{HOST}:{proxy.port}")
        assert first_data(api, server.url) == "by proxy"
        assert first_data(api, server.url, trust_env=False) == "directly"
        assert first_data(api, server.url, pool=urllib3.PoolManager()) == "directly"
        assert first_data(api, server.url, proxy=server.url) == "directly"  # through the server as a proxy
        (request,) = proxy.requests
        assert request.target == server.url
        assert request.headers["Proxy-Authorization"] == "Basic dTpw"


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_for_https_is_used(
    monkeypatch: pytest.MonkeyPatch, api: Api, name: str, tls: Tls, tinyproxy: Process
) -> None:
    monkeypatch.setenv(name, f"http://{HOST}:{tinyproxy.port}")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with SSEServer(stream("data: x\n\n"), tls=tls[0]) as server:
        assert first_data(api, server.url, verify=tls[1]) == "x"
        wait_until(lambda: has_connected(tinyproxy, server.port), "the proxy to log the connection")


def test_a_socks_proxy_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, api: Api, microsocks_auth: Process
) -> None:
    monkeypatch.setenv("all_proxy", f"socks5h://{CREDENTIALS}@{HOST}:{microsocks_auth.port}")
    with SSEServer(stream("data: x\n\n")) as server:
        assert first_data(api, server.url) == "x"
        wait_until(lambda: has_connected(microsocks_auth, server.port), "the proxy to log the connection")


def test_lower_case_variables_of_the_environment_win(monkeypatch: pytest.MonkeyPatch, api: Api) -> None:
    with proxy_and_server() as (proxy, server):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("http_proxy", proxy.url)
        assert first_data(api, server.url) == "by proxy"
        monkeypatch.setenv("http_proxy", "")
        monkeypatch.delenv("ALL_PROXY")
        assert first_data(api, server.url) == "directly"


@pytest.mark.parametrize(
    ("exceptions", "host", "directly"),
    [
        ("*", "localhost", True),
        (" * ", "localhost", True),
        ("nowhere, *", "localhost", True),
        ("localhost", "localhost", True),
        ("LOCALHOST", "localhost", True),
        (".localhost", "localhost", True),
        ("a.example, localhost", "localhost", True),
        ("localhost:{port}", "localhost", True),
        ("localhost:1", "localhost", False),
        ("host", "localhost", False),
        ("localhost", "sub.localhost", True),
        (".localhost", "sub.localhost", True),
        ("*.localhost", "sub.localhost", True),
        ("b.localhost", "sub.localhost", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1:{port}", "127.0.0.1", True),
        ("127.0.0.1:1", "127.0.0.1", False),
        ("127.0.0.0/8", "127.0.0.1", True),
        ("10.0.0.0/8,127.0.0.1/16", "127.0.0.1", True),
        ("127.0.0.2/32", "127.0.0.1", False),
        ("::1/128", "127.0.0.1", False),
        ("127.0.0.0/8", "localhost", False),  # names are not resolved for this
        ("", "localhost", False),
        (",", "localhost", False),
    ],
)
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_no_proxy_excludes_hosts(
    monkeypatch: pytest.MonkeyPatch, exceptions: str, host: str, variable: str, *, directly: bool
) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(name: str, *arguments: Any, **options: Any) -> Any:
        return real(HOST if "localhost" in name else name, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with proxy_and_server() as (proxy, server):
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv(variable, exceptions.format(port=server.port))
        assert first_data(SyncApi(), f"http://{host}:{server.port}/") == ("directly" if directly else "by proxy")


@pytest.mark.parametrize(
    ("url", "exceptions", "directly"),
    [
        ("http://stream.example/", "stream.example:80", True),
        ("https://stream.example/", "stream.example:443", True),
        ("https://stream.example/", "stream.example:80", False),
        ("http://[::1]/", "::1", True),
        ("http://[::1]/", "[::1]", True),
        ("http://[::1]:81/", "fc00::/7, ::/64", True),
        ("http://[::1]:81/", "fc00::/7", False),
        ("http://stream.example:81/", "stream.example:80", False),
    ],
)
def test_no_proxy_with_default_ports_and_ipv6_networks(
    monkeypatch: pytest.MonkeyPatch, url: str, exceptions: str, *, directly: bool
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example")
    monkeypatch.setenv("NO_PROXY", exceptions)
    with SSEClient() as client:
        assert (client._pools.proxy_for(url) is None) == directly


def test_the_environment_is_read_for_each_attempt(monkeypatch: pytest.MonkeyPatch, api: Api) -> None:
    gate = Gate()
    with (
        SSEServer(stream("data: by proxy\n\n", HANG)) as proxy,
        SSEServer(stream("data: directly\n\n", gate, CUT)) as server,
        api.client(policy=QUICK_CAPPED) as client,
        api.connect(client, server.url) as conn,
    ):
        assert api.next(conn).data == "directly"
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        gate.open()
        assert api.next(conn).data == "by proxy"


@pytest.mark.parametrize("value", ["ftp://user:secret@127.0.0.1", "http://user:secret@", "http://us%3Aer:secret@h"])
def test_an_invalid_proxy_of_the_environment_raises_connection_error(
    monkeypatch: pytest.MonkeyPatch, api: Api, value: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    with api.client(policy=QUICK_CAPPED) as client:
        with pytest.raises(SSEConnectionError, match=r"http://127\.0\.0\.1:9: the proxy set by the environment") as e:
            api.open(client.connect("http://127.0.0.1:9/"))
        assert "secret" not in str(e.value)


def test_a_redirect_may_switch_between_proxied_and_direct_hosts(monkeypatch: pytest.MonkeyPatch, api: Api) -> None:
    with SSEServer() as proxy, SSEServer() as server, api.client() as client:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("://", "://u:p@"))
        monkeypatch.setenv("NO_PROXY", f"{HOST}:{server.port}")
        proxy.add(redirect(server.url + "direct"))
        server.add(redirect("http://other.invalid/there"))
        proxy.add(stream("data: x\n\n"))
        with api.connect(
            client, "http://stream.invalid/start", headers={"Authorization": "mine"}, reconnect=False
        ) as conn:
            assert api.next(conn).data == "x"
            assert conn.response_url == "http://other.invalid/there"
        assert [request.target for request in proxy.requests] == [
            "http://stream.invalid/start",
            "http://other.invalid/there",
        ]
        assert [request.target for request in server.requests] == ["/direct"]
        assert "Proxy-Authorization" not in server.requests[0].headers
        assert all(request.headers["Proxy-Authorization"] == "Basic dTpw" for request in proxy.requests)
        assert ["Authorization" in request.headers for request in proxy.requests] == [True, False]


# -- bad arguments


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (TypeError, b"http://127.0.0.1"),
        (TypeError, 5),
        (TypeError, {"http": "http://127.0.0.1"}),
        (ValueError, ""),
        (ValueError, "http://"),
        (ValueError, "ftp://user:secret@127.0.0.1"),
        (ValueError, "socks://user:secret@127.0.0.1"),
        (ValueError, "http://user:secret@127.0.0.1:port"),
        (ValueError, "http://user:secret@[::1"),
        (ValueError, "http://us%3Aer:secret@127.0.0.1"),
        (ValueError, "http://user:secret%FF@127.0.0.1"),
        (ValueError, "socks5://user:secret%FF@127.0.0.1"),
    ],
)
def test_a_bad_proxy_raises_at_once(kind: type[Exception], value: Any) -> None:
    with pytest.raises(kind, match=r"^proxy\b") as caught:
        SSEClient(proxy=value)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_trust_env_is_checked() -> None:
    with pytest.raises(TypeError, match=r"^trust_env"):
        SSEClient(trust_env="yes")  # type: ignore[arg-type]


def test_socks_without_its_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socks", None)
    with pytest.raises(ValueError, match=r"^proxy is a SOCKS proxy.*pip install 'sseclient-dual\[socks\]'"):
        SSEClient(proxy="socks5://127.0.0.1")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1")
    with SSEClient() as client, pytest.raises(SSEConnectionError, match="SOCKS proxy, which needs an extra"):
        client.connect("http://127.0.0.1:9/").open()
