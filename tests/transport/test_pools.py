"""The caller's pools: the client uses their settings and never changes them."""

from __future__ import annotations

import os
import ssl
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import urllib3
from urllib3.contrib.socks import SOCKSProxyManager

from sseclient_dual import SSEClient, SSEConnectionError, SSEStatusError
from sseclient_dual.testing import HANG, SSEServer, raw, redirect, status, stream
from support.leaks import streams
from support.policies import QUICK
from support.processes import HOST, Process, free_port, program, run
from support.proxies import proxy_py_with
from support.tls import context_state, server_context
from support.waiting import silence, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.apis import Api
    from support.tls import Tls


def test_ca_certs_of_a_user_pool_do_not_affect_other_clients(tls: Tls, tmp_path: Path) -> None:
    assert tmp_path.exists()
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server:
        with SSEClient(urllib3.PoolManager(ca_certs=tls[1])) as trusting, trusting.connect(server.url) as conn:
            next(conn)
        with SSEClient(policy=QUICK) as distrusting, pytest.raises(SSEConnectionError, match="rejected"):
            distrusting.connect(server.url).open()
        wait_until(lambda: not streams())


class Snapshot:
    """The state of a pool; `check` asserts that it has not changed."""

    def __init__(self, pool: urllib3.PoolManager) -> None:
        self.pool = pool
        self.settings = dict(pool.connection_pool_kw)
        self.others = dict(vars(pool))
        self.text = self._text()

    def _text(self) -> str:
        return f"{self.pool.connection_pool_kw!r} {self.pool.headers!r}"  # shows changes inside mutable objects

    def check(self) -> None:
        assert self.pool.connection_pool_kw == self.settings
        assert vars(self.pool) == self.others
        assert self._text() == self.text
        assert len(self.pool.pools) == 0


def test_a_blocking_pool_does_not_block_streams(api: Api) -> None:
    pool = urllib3.PoolManager(num_pools=1, maxsize=1, block=True)
    snapshot = Snapshot(pool)
    with SSEServer(default=stream("data: x\n\n", HANG)) as server, SSEServer(default=stream("data: y\n\n")) as other:
        with api.client(pool) as client:
            connections = [client.connect(server.url) for _ in range(5)]
            assert [api.next(conn).data for conn in connections] == ["x"] * 5
            with api.connect(client, other.url) as conn:
                assert api.next(conn).data == "y"
            assert {api.next(client.connect(server.url)).data} == {"x"}
    snapshot.check()


def test_a_user_pool_stays_open_and_keeps_its_own_connections(api: Api) -> None:
    with SSEServer(default=status(200, "ok")) as server, urllib3.PoolManager() as pool:
        assert pool.request("GET", server.url).data == b"ok"
        with api.client(pool) as client:
            with pytest.raises(SSEConnectionError):
                api.open(client.connect(server.url))
        assert pool.request("GET", server.url).data == b"ok"
        assert [request.connection for request in server.requests] == [1, 2, 1]


def test_headers_of_a_pool_are_defaults(api: Api) -> None:
    headers = urllib3.HTTPHeaderDict({"X-A": "pool", "X-B": "pool", "X-C": "pool", "User-Agent": "pool"})
    headers.add("X-A", "again")
    pool = urllib3.PoolManager(headers=headers)
    snapshot = Snapshot(pool)
    with SSEServer(stream("data: x\n\n")) as server, api.client(pool, headers={"x-b": "client"}) as client:
        with api.connect(client, server.url, headers={"x-c": "own"}) as conn:
            api.next(conn)
        got = server.requests[0].headers
        assert [got[name] for name in ("X-A", "X-B", "X-C", "User-Agent")] == ["pool, again", "client", "own", "pool"]
    snapshot.check()


@pytest.mark.parametrize("retries", [0, 5, False, urllib3.Retry(5, redirect=0, status_forcelist=[418])])
def test_retries_of_a_pool_are_ignored(api: Api, retries: Any) -> None:
    pool = urllib3.PoolManager(retries=retries)
    snapshot = Snapshot(pool)
    with SSEServer(redirect("/there"), status(418)) as server, api.client(pool) as client:
        with pytest.raises(SSEStatusError) as caught:
            api.open(client.connect(server.url))
        assert caught.value.status == 418
        assert [request.target for request in server.requests] == ["/", "/there"]
    snapshot.check()


@pytest.mark.parametrize("timeout", [0.2, urllib3.Timeout(connect=5, read=0.2)])
def test_the_timeout_of_a_pool_is_the_default(api: Api, timeout: Any) -> None:
    pool = urllib3.PoolManager(timeout=timeout)
    snapshot = Snapshot(pool)
    with SSEServer(default=raw(HANG)) as server:
        with api.client(pool) as client:
            with pytest.raises(SSEConnectionError, match=r"no data arrived for 0\.2 s"):
                api.open(client.connect(server.url, reconnect=False))
            with pytest.raises(SSEConnectionError, match=r"no data arrived for 0\.1 s"):
                api.open(client.connect(server.url, reconnect=False, timeout=silence(0.1)))
        with api.client(pool, timeout=silence(0.1)) as client:
            with pytest.raises(SSEConnectionError, match=r"no data arrived for 0\.1 s"):
                api.open(client.connect(server.url, reconnect=False))
    snapshot.check()


@pytest.mark.parametrize("how", ["no limit", "none"])
def test_a_pool_without_a_timeout(how: str) -> None:
    pool = urllib3.PoolManager(timeout=None) if how == "no limit" else urllib3.PoolManager()
    with SSEClient(pool) as client:
        request = client.connect("http://127.0.0.1:9/")._reader._request
    assert (request.connect_timeout, request.read_timeout) == ((None, None) if how == "no limit" else (10, None))


def test_tls_settings_of_a_pool(api: Api, tls: Tls) -> None:
    authority = Path(tls[1]).read_text(encoding="ascii")
    context = ssl.create_default_context(cafile=tls[1])
    good: list[dict[str, Any]] = [
        {"ca_certs": tls[1]},
        {"ca_cert_data": authority},
        {"ssl_context": context},
        {"ca_certs": tls[1], "assert_hostname": HOST, "cert_reqs": "REQUIRED"},
        {"ca_certs": tls[1], "assert_hostname": False},
        {"ca_certs": tls[1], "ssl_minimum_version": ssl.TLSVersion.TLSv1_3},
    ]
    bad: list[dict[str, Any]] = [
        {},
        {"ca_certs": tls[1], "assert_hostname": "example.com"},
        {"ca_certs": tls[1], "server_hostname": "example.com"},
    ]
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server:
        for settings in good:
            pool = urllib3.PoolManager(**settings)
            snapshot = Snapshot(pool)
            with api.client(pool) as client, api.connect(client, server.url) as conn:
                assert api.next(conn).data == "x"
            snapshot.check()
        for settings in bad:
            with api.client(urllib3.PoolManager(**settings)) as client:
                with pytest.raises(SSEConnectionError, match="rejected"):
                    api.open(client.connect(server.url))


def test_the_clients_tls_settings_win_over_the_pools(api: Api, tls: Tls, tmp_path: Path) -> None:
    other = str(tmp_path / "other.pem")
    trustme.CA().cert_pem.write_to_path(other)
    pool = urllib3.PoolManager(ca_certs=other)
    snapshot = Snapshot(pool)
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server:
        for settings in ({"verify": tls[1]}, {"ssl_context": ssl.create_default_context(cafile=tls[1])}):
            with api.client(pool, **settings) as client, api.connect(client, server.url) as conn:
                assert api.next(conn).data == "x"
    snapshot.check()


def test_a_pool_with_a_proxy_argument_raises_type_error() -> None:
    for pool in (urllib3.PoolManager(), urllib3.ProxyManager("http://127.0.0.1:9")):
        with pytest.raises(TypeError, match=r"^pass either proxy or pool"):
            SSEClient(pool, proxy="http://127.0.0.1:9")


@pytest.mark.parametrize("pool", ["http://x", 5, urllib3.HTTPConnectionPool("127.0.0.1"), urllib3.PoolManager])
def test_an_invalid_pool_raises_type_error(pool: Any) -> None:
    with pytest.raises(TypeError, match=r"^pool\b"):
        SSEClient(pool)


# -- proxies of a pool


def test_the_proxy_of_a_pool(api: Api) -> None:
    with SSEServer(default=stream("data: x\n\n")) as server:
        pool = urllib3.ProxyManager(
            server.url.replace("://", "://user:word@"), headers={"X-Pool": "1"}, proxy_headers={"X-Proxy": "2"}
        )
        snapshot = Snapshot(pool)
        with api.client(pool) as client, api.connect(client, "http://stream.invalid/") as conn:
            assert api.next(conn).data == "x"
        (request,) = server.requests
        assert request.target == "http://stream.invalid/"
        assert (request.headers["X-Pool"], request.headers["X-Proxy"]) == ("1", "2")
        # urllib3 ignores credentials in the URL of a proxy; the client sends them.
        assert request.headers["Proxy-Authorization"] == "Basic dXNlcjp3b3Jk"
        snapshot.check()


@pytest.mark.parametrize("userinfo", ["", "other:one@"])
def test_credentials_in_the_proxy_headers_are_sent_once(api: Api, userinfo: str) -> None:
    headers = urllib3.make_headers(proxy_basic_auth="user:word")
    with SSEServer(default=status(407)) as server:
        pool = urllib3.ProxyManager(server.url.replace("://", f"://{userinfo}"), proxy_headers=headers)
        with api.client(pool) as client:
            for url in ("http://stream.invalid/", "https://stream.invalid/"):
                with pytest.raises(SSEConnectionError, match="407"):
                    api.open(client.connect(url))
        for request in server.requests:
            assert request.headers["Proxy-Authorization"] == "Basic dXNlcjp3b3Jk"


@pytest.fixture(scope="module")
def tls_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, trustme.CA]]:
    """Run proxy.py with a certificate; yield its URL and its authority."""
    folder = tmp_path_factory.mktemp("proxy.py")
    authority = trustme.CA()
    pem = str(folder / "proxy.pem")
    authority.issue_cert(HOST, "proxy.example").private_key_and_cert_chain_pem.write_to_path(pem)
    with proxy_py_with(folder, "--cert-file", pem, "--key-file", pem) as process:
        yield f"https://{HOST}:{process.port}", authority


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("settings", [{}, {"proxy_assert_hostname": "proxy.example"}], ids=str)
def test_the_proxy_ssl_context_of_a_pool_is_used(
    api: Api, tls: Tls, tls_proxy: tuple[str, trustme.CA], settings: dict[str, Any], *, secure: bool
) -> None:
    url, authority = tls_proxy
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.check_hostname = not settings
    context.hostname_checks_common_name = True
    before = context_state(context)
    pool = urllib3.ProxyManager(url, ca_certs=tls[1], proxy_ssl_context=context, **settings)
    snapshot = Snapshot(pool)
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0] if secure else None) as server:
        with api.client(pool) as client, api.connect(client, server.url) as conn:
            assert api.next(conn).data == "x"
        with api.client(urllib3.ProxyManager(url, ca_certs=tls[1])) as client:
            with pytest.raises(SSEConnectionError, match="certificate of the proxy"):
                api.open(client.connect(server.url))
    assert context_state(context) == before
    snapshot.check()


def test_the_proxy_ssl_context_of_a_pool_keeps_its_alpn_protocols(api: Api) -> None:
    authority = trustme.CA()
    serving = server_context(authority.issue_cert(HOST))
    serving.set_alpn_protocols(["own/1", "http/1.1"])
    sockets: list[ssl.SSLSocket | ssl.SSLObject] = []
    serving.sni_callback = lambda sock, _name, _context: sockets.append(sock)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["own/1"])
    with SSEServer(default=stream("data: x\n\n"), tls=serving) as proxy:
        pool = urllib3.ProxyManager(proxy.url, proxy_ssl_context=context)
        with api.client(pool) as client, api.connect(client, "http://stream.invalid/") as conn:
            assert api.next(conn).data == "x"
    assert [sock.selected_alpn_protocol() for sock in sockets] == ["own/1"]


@pytest.mark.parametrize(
    "settings", [{"proxy_assert_hostname": "x"}, {"proxy_assert_fingerprint": "00" * 32}], ids=str
)
def test_settings_that_would_modify_a_proxy_ssl_context_raise_value_error(settings: dict[str, Any]) -> None:
    pool = urllib3.ProxyManager("https://127.0.0.1", proxy_ssl_context=ssl.create_default_context(), **settings)
    with pytest.raises(ValueError, match=r"^pool has a proxy_ssl_context, and assert_"):
        SSEClient(pool)


def test_a_pool_that_forwards_https_requests_to_its_proxy(api: Api, tls: Tls) -> None:
    """Use the scripted server as the proxy, which receives the whole https URL."""
    context = ssl.create_default_context(cafile=tls[1])
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # urllib3 warns about the caller's own pool
            pools = [
                urllib3.ProxyManager(server.url, use_forwarding_for_https=True, **settings)
                for settings in ({"ssl_context": context}, {"proxy_ssl_context": context}, {"ca_certs": tls[1]})
            ]
        for pool in pools:
            with api.client(pool) as client, api.connect(client, "https://stream.invalid/x") as conn:
                assert api.next(conn).data == "x"
            assert server.requests[-1].target == "https://stream.invalid/x"


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("secure", [True, False])
def test_the_socks_proxy_of_a_pool(api: Api, tmp_path: Path, scheme: str, tls: Tls, *, secure: bool) -> None:
    port = free_port()
    command = [program("microsocks", "microsocks"), "-i", HOST, "-p", str(port), "-u", "us:er", "-P", "pässword"]
    with (
        Process(command, port, log=tmp_path / "log") as process,
        SSEServer(default=stream("data: x\n\n"), tls=tls[0] if secure else None) as server,
    ):
        pool = SOCKSProxyManager(
            f"{scheme}://{HOST}:{port}", "us:er", "pässword", headers={"X-Pool": "1"}, ca_certs=tls[1]
        )
        snapshot = Snapshot(pool)
        with api.client(pool) as client, api.connect(client, server.url) as conn:
            assert api.next(conn).data == "x"
        assert server.requests[0].headers["X-Pool"] == "1"
        wait_until(lambda: f":{server.port}" in process.printed(), "the proxy to log the connection")
        snapshot.check()
        with api.client(SOCKSProxyManager(f"{scheme}://{HOST}:{port}")) as client:
            with pytest.raises(SSEConnectionError, match="SOCKS proxy refused access"):
                api.open(client.connect(server.url))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_closing_the_client_in_a_forked_child_waits_for_no_lock_of_the_parent() -> None:
    done = run("""
        import os, threading, warnings
        from sseclient_dual.transport import Pools

        warnings.simplefilter("ignore")  # newer Pythons warn about a fork with threads
        pools, held, end = Pools(), threading.Event(), threading.Event()

        def hold():
            with pools._lock:
                held.set()
                end.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        child = os.fork()
        if not child:
            pools.clear()
            os._exit(7)
        try:
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        finally:
            end.set()
    """)
    assert done.stdout == "7\n", done.stderr
