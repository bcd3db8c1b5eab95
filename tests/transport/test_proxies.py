"""Streams by way of proxies: real ones (tinyproxy, proxy.py, microsocks), and scripted ones that misbehave."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import trustme
import urllib3

from sseclient_dual import ReadyState, ReconnectPolicy, SSEClient, SSEConnectionError, SSEStatusError
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, raw, redirect, status, stream
from support.apis import Ended, SyncFace
from support.processes import HOST, Process, free_port, program, python
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from support.apis import Face

    Tls = tuple[ssl.SSLContext, str]

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")

BOUND = 0.1  # seconds that close() may take
QUICK = ReconnectPolicy(retry_delay=10, max_retry_delay=50, jitter=0)
USER, PASSWORD = "us er", "p@:/?#%ß☃"
CREDENTIALS = f"{quote(USER)}:{quote(PASSWORD, safe='')}"


# -- the proxies, each a process for all tests of this file


@contextmanager
def tinyproxy_with(folder: Path, *lines: str) -> Iterator[Process]:
    port = free_port()
    settings = folder / "tinyproxy.conf"
    settings.write_text("\n".join([f"Port {port}", f"Listen {HOST}", "Timeout 600", "LogLevel Connect", *lines, ""]))
    command = [program("tinyproxy", "tinyproxy-bin"), "-d", "-c", str(settings)]
    with Process(command, port, log=folder / "log") as process:
        yield process


@contextmanager
def proxy_py_with(folder: Path, *options: str) -> Iterator[Process]:
    port = free_port()
    command = ["proxy", "--hostname", HOST, "--port", str(port), "--num-workers", "1", "--num-acceptors", "1"]
    with Process(python(*command, "--data-dir", str(folder), *options), port, log=folder / "log") as process:
        yield process


@contextmanager
def microsocks_with(folder: Path, *options: str) -> Iterator[Process]:
    port = free_port()
    command = [program("microsocks", "microsocks"), "-i", HOST, "-p", str(port), *options]
    with Process(command, port, log=folder / "log") as process:
        yield process


@pytest.fixture(scope="module")
def tinyproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with tinyproxy_with(tmp_path_factory.mktemp("tinyproxy")) as process:
        yield process


@pytest.fixture(scope="module")
def proxy_py(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Demand credentials, and not simple ones."""
    with proxy_py_with(tmp_path_factory.mktemp("proxy.py"), "--basic-auth", f"{USER}:{PASSWORD}") as process:
        yield process


@pytest.fixture(scope="module")
def proxy_py_tls(tls_of_proxy: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Speak TLS to the client; demand credentials."""
    certificate, _ = tls_of_proxy
    options = ["--cert-file", str(certificate), "--key-file", str(certificate)]
    folder = tmp_path_factory.mktemp("proxy.py-tls")
    with proxy_py_with(folder, "--basic-auth", f"{USER}:{PASSWORD}", *options) as process:
        yield process


@pytest.fixture(scope="module")
def tls_of_proxy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Give a proxy's certificate with its key, and its authority's, another one than that of the servers."""
    folder = tmp_path_factory.mktemp("tls-of-proxy")
    authority = trustme.CA()
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(folder / "proxy.pem"))
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    return folder / "proxy.pem", str(folder / "authority.pem")


@pytest.fixture(scope="module")
def both_authorities(tls: Tls, tls_of_proxy: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("authorities") / "both.pem"
    path.write_bytes(b"".join(Path(name).read_bytes() for name in (tls[1], tls_of_proxy[1])))
    return str(path)


@pytest.fixture(scope="module")
def microsocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with microsocks_with(tmp_path_factory.mktemp("microsocks")) as process:
        yield process


@pytest.fixture(scope="module")
def microsocks_auth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with microsocks_with(tmp_path_factory.mktemp("microsocks"), "-u", USER, "-P", PASSWORD) as process:
        yield process


# Each: how to spell the URL of a proxy, and the fixture that runs it.
HTTP_PROXIES = {
    "tinyproxy": ("http://127.0.0.1:{}", "tinyproxy"),
    "proxy.py": (f"http://{CREDENTIALS}@127.0.0.1:{{}}", "proxy_py"),
    "proxy.py by TLS": (f"https://{CREDENTIALS}@127.0.0.1:{{}}", "proxy_py_tls"),
}
SOCKS_PROXIES = {
    "socks5": ("socks5://127.0.0.1:{}", "microsocks"),
    "socks5h": ("socks5h://127.0.0.1:{}/", "microsocks"),
    "socks5 with credentials": (f"socks5://{CREDENTIALS}@127.0.0.1:{{}}", "microsocks_auth"),
}
PROXIES = HTTP_PROXIES | SOCKS_PROXIES


@pytest.fixture(params=PROXIES)
def proxy(request: pytest.FixtureRequest) -> tuple[str, Process]:
    """Run the test once per proxy; give its URL and its process."""
    url, fixture = PROXIES[request.param]
    process: Process = request.getfixturevalue(fixture)
    return url.format(process.port), process


def saw(process: Process, port: int) -> bool:
    """Tell whether a proxy has printed that it connected to that port."""
    return f":{port}" in process.printed()


# -- there and back


def test_a_stream_by_a_proxy(face: Face, proxy: tuple[str, Process], both_authorities: str) -> None:
    url, process = proxy
    gates = [Gate(), Gate()]
    with SSEServer(
        stream("id: 1\ndata: a\n\n", gates[0], "id: 2\ndata: ☃\n\n", gates[1], CUT), stream("data: c\n\n", HANG)
    ) as server:
        with (
            face.client(proxy=url, policy=QUICK, verify=both_authorities) as client,
            face.connect(client, server.url + "path?q=1", headers={"X-Own": "1"}) as conn,
        ):
            assert face.next(conn).data == "a"  # each as it is sent, not when something else is
            gates[0].open()
            assert face.next(conn).data == "☃"
            gates[1].open()
            assert face.next(conn).data == "c"
            assert conn.response_url == server.url + "path?q=1"
            wait_until(lambda: saw(process, server.port), "the proxy to tell of it")
        server.wait_for_connections(0)
        assert [request.target for request in server.requests] == ["/path?q=1"] * 2
        assert server.requests[1].last_event_id == "2"
        for request in server.requests:
            assert request.headers["Accept"] == "text/event-stream"
            assert request.headers["X-Own"] == "1"
            assert "Proxy-Authorization" not in request.headers


def test_a_stream_over_tls_by_a_proxy(
    face: Face, proxy: tuple[str, Process], tls: Tls, both_authorities: str
) -> None:
    url, process = proxy
    gates = [Gate(), Gate()]
    with SSEServer(
        stream("id: 1\ndata: a\n\n", gates[0], "id: 2\ndata: ☃\n\n", gates[1], CUT),
        stream("data: " + "c" * 200_000 + "\n\n", HANG),
        tls=tls[0],
    ) as server:
        with (
            face.client(proxy=url, policy=QUICK, verify=both_authorities) as client,
            face.connect(client, server.url, "PUT", data=b"x" * 100_000) as conn,
        ):
            assert face.next(conn).data == "a"
            gates[0].open()
            assert face.next(conn).data == "☃"
            gates[1].open()
            assert len(face.next(conn).data) == 200_000
            wait_until(lambda: saw(process, server.port), "the proxy to tell of it")
        server.wait_for_connections(0)
        for request in server.requests:
            assert request.target == "/"
            assert request.body == b"x" * 100_000
            assert "Proxy-Authorization" not in request.headers


def test_a_connection_by_a_proxy_can_be_kept(
    face: Face, proxy: tuple[str, Process], tls: Tls, both_authorities: str
) -> None:
    with (
        SSEServer(*[stream("data: x\n\n")] * 3, tls=tls[0]) as server,
        face.client(
            proxy=proxy[0], policy=ReconnectPolicy(retry_delay=1, dedup=False), verify=both_authorities
        ) as client,
        face.connect(client, server.url, keep_connection=True) as conn,
    ):
        assert len(face.rest(conn)) == 3
        assert len({request.connection for request in server.requests}) == 1


def test_closing_a_flood_by_a_proxy_is_prompt(proxy: tuple[str, Process], tls: Tls, both_authorities: str) -> None:
    with SSEServer(default=stream("data: x\n\n" * 1000 for _ in range(1000)), tls=tls[0]) as server:
        with SSEClient(proxy=proxy[0], verify=both_authorities) as client:
            conn = client.connect(server.url)
            next(conn)
            closes_at_once(conn)
        server.wait_for_connections(0)


def test_an_absolute_form_has_one_of_each_header(face: Face) -> None:
    own = {"accept": "text/event-stream, */*", "host": "else.where", "proxy-authorization": "own"}
    with SSEServer(default=stream("data: x\n\n")) as server:
        with face.client(proxy=server.url) as client:
            for headers in ({}, own):
                with face.connect(client, "http://stream.invalid/p", headers=headers) as conn:
                    face.next(conn)
        plain, replaced = server.requests
        assert plain.target == replaced.target == "http://stream.invalid/p"
        assert plain.headers["Host"] == "stream.invalid"
        assert plain.headers["Accept"] == "text/event-stream"  # several would have been joined
        for name, value in own.items():
            assert replaced.headers[name] == value


def test_a_proxy_without_a_scheme_is_an_http_proxy(face: Face) -> None:
    with (
        SSEServer(stream("data: x\n\n")) as server,
        face.client(proxy=f"user:word@{HOST}:{server.port}") as client,
        face.connect(client, "http://stream.invalid/") as conn,
    ):
        face.next(conn)
        assert server.requests[0].headers["Proxy-Authorization"] == "Basic dXNlcjp3b3Jk"


def test_socks_resolves_names_on_the_side_that_was_asked_for(
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
            with pytest.raises(SSEConnectionError, match="name could not be resolved"):
                client.connect("http://nowhere.invalid/", reconnect=False).open()
        asked.clear()
        with SSEClient(proxy=f"socks5h://{HOST}:{microsocks.port}") as client:
            with client.connect(f"http://localhost:{server.port}/") as conn:
                next(conn)
            assert asked == [HOST]
            with pytest.raises(SSEConnectionError, match=r"proxy .* could not be used"):
                client.connect("http://here.invalid/", reconnect=False).open()


@pytest.mark.parametrize(("scheme", "remote"), [("socks4", False), ("socks4a", True)])
def test_socks4(face: Face, scheme: str, *, remote: bool) -> None:
    """No proxy of our own choice speaks it, so the exchange is scripted, to the byte."""
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
        with face.client(proxy=url) as client, face.connect(client, "http://localhost:99/", reconnect=False) as conn:
            assert face.next(conn).data == "x"
        thread.join()
    address = b"\0\0\0\1" if remote else b"\x7f\0\0\1"
    assert asked == b"\x04\x01\0\x63" + address + b"me\0" + (b"localhost\0" if remote else b"")


# -- TLS with the proxy


def test_the_certificate_of_a_proxy_is_checked(face: Face, tls: Tls, proxy_py_tls: Process) -> None:
    proxy = f"https://{HOST}:{proxy_py_tls.port}"
    with SSEServer(tls=tls[0]) as secure, SSEServer() as plain:
        with face.client(proxy=proxy.replace("://", f"://{CREDENTIALS}@"), verify=tls[1], policy=QUICK) as client:
            for server in (secure, plain):
                with pytest.raises(SSEConnectionError, match="rejected") as caught:
                    face.open(client.connect(server.url))
                assert f"certificate of the proxy {proxy} was rejected" in str(caught.value)
        assert secure.requests == plain.requests == []


def test_the_certificate_behind_a_proxy_is_checked(
    face: Face, proxy: tuple[str, Process], tls: Tls, tls_of_proxy: tuple[Path, str]
) -> None:
    with SSEServer(tls=tls[0]) as server:
        with face.client(proxy=proxy[0], verify=tls_of_proxy[1], policy=QUICK) as client:
            with pytest.raises(SSEConnectionError, match=f"certificate of {server.origin} was rejected"):
                face.open(client.connect(server.url))
        assert server.requests == []


@pytest.mark.parametrize("secure", [True, False])
def test_an_ssl_context_is_for_the_proxy_too(
    face: Face, tls: Tls, both_authorities: str, proxy_py_tls: Process, *, secure: bool
) -> None:
    import ssl  # noqa: PLC0415 - elsewhere for types alone

    context = ssl.create_default_context(cafile=both_authorities)
    proxy = f"https://{CREDENTIALS}@{HOST}:{proxy_py_tls.port}"
    with (
        SSEServer(stream("data: x\n\n"), tls=tls[0] if secure else None) as server,
        face.client(proxy=proxy, ssl_context=context) as client,
        face.connect(client, server.url) as conn,
    ):
        assert face.next(conn).data == "x"
    assert context.check_hostname


def test_a_proxy_that_speaks_no_tls_is_told(face: Face, tinyproxy: Process) -> None:
    with face.client(proxy=f"https://{HOST}:{tinyproxy.port}", timeout=0.2) as client:
        for url in ("https://stream.invalid/", "http://stream.invalid/"):
            with pytest.raises(SSEConnectionError, match=r"the proxy could not be used \(.*handshake.* timed out\)"):
                face.open(client.connect(url, reconnect=False))


# -- what the environment says


@contextmanager
def two_ways() -> Iterator[tuple[SSEServer, SSEServer]]:
    """Give a proxy, which answers by itself, and a server."""
    with SSEServer(default=stream("data: by proxy\n\n")) as proxy:
        with SSEServer(default=stream("data: directly\n\n")) as server:
            yield proxy, server


def way(face: Face, url: str, **options: Any) -> str:
    with face.client(**options) as client, face.connect(client, url, reconnect=False) as conn:
        return face.next(conn).data


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "Http_Proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_the_environment_names_a_proxy(monkeypatch: pytest.MonkeyPatch, face: Face, name: str, scheme: str) -> None:
    with two_ways() as (proxy, server):
        assert way(face, server.url) == "directly"
        monkeypatch.setenv(name, f"{scheme}u:p@{HOST}:{proxy.port}")
        assert way(face, server.url) == "by proxy"
        assert way(face, server.url, trust_env=False) == "directly"
        assert way(face, server.url, pool=urllib3.PoolManager()) == "directly"
        assert way(face, server.url, proxy=server.url) == "directly"  # and that is by the other one
        (request,) = proxy.requests
        assert request.target == server.url
        assert request.headers["Proxy-Authorization"] == "Basic dTpw"


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_the_environment_names_a_proxy_for_https(
    monkeypatch: pytest.MonkeyPatch, face: Face, name: str, tls: Tls, tinyproxy: Process
) -> None:
    monkeypatch.setenv(name, f"http://{HOST}:{tinyproxy.port}")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with SSEServer(stream("data: x\n\n"), tls=tls[0]) as server:
        assert way(face, server.url, verify=tls[1]) == "x"
        wait_until(lambda: saw(tinyproxy, server.port), "the proxy to tell of it")


def test_the_environment_names_a_socks_proxy(
    monkeypatch: pytest.MonkeyPatch, face: Face, microsocks_auth: Process
) -> None:
    monkeypatch.setenv("all_proxy", f"socks5h://{CREDENTIALS}@{HOST}:{microsocks_auth.port}")
    with SSEServer(stream("data: x\n\n")) as server:
        assert way(face, server.url) == "x"
        wait_until(lambda: saw(microsocks_auth, server.port), "the proxy to tell of it")


def test_the_lower_case_of_the_environment_wins(monkeypatch: pytest.MonkeyPatch, face: Face) -> None:
    with two_ways() as (proxy, server):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("http_proxy", proxy.url)
        assert way(face, server.url) == "by proxy"
        monkeypatch.setenv("http_proxy", "")
        monkeypatch.delenv("ALL_PROXY")
        assert way(face, server.url) == "directly"


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
        ("127.0.0.0/8", "localhost", False),  # a name is not looked up for this
        ("", "localhost", False),
        (",", "localhost", False),
    ],
)
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_the_environment_names_exceptions(
    monkeypatch: pytest.MonkeyPatch, exceptions: str, host: str, variable: str, *, directly: bool
) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(name: str, *arguments: Any, **options: Any) -> Any:
        return real(HOST if "localhost" in name else name, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with two_ways() as (proxy, server):
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv(variable, exceptions.format(port=server.port))
        assert way(SyncFace(), f"http://{host}:{server.port}/") == ("directly" if directly else "by proxy")


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
def test_exceptions_without_a_server_to_go_to(
    monkeypatch: pytest.MonkeyPatch, url: str, exceptions: str, *, directly: bool
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example")
    monkeypatch.setenv("NO_PROXY", exceptions)
    with SSEClient() as client:
        assert (client._pools.proxy_for(url) is None) == directly


def test_the_environment_is_asked_anew_for_each_attempt(monkeypatch: pytest.MonkeyPatch, face: Face) -> None:
    gate = Gate()
    with (
        SSEServer(stream("data: by proxy\n\n", HANG)) as proxy,
        SSEServer(stream("data: directly\n\n", gate, CUT)) as server,
        face.client(policy=QUICK) as client,
        face.connect(client, server.url) as conn,
    ):
        assert face.next(conn).data == "directly"
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        gate.open()
        assert face.next(conn).data == "by proxy"


@pytest.mark.parametrize("value", ["ftp://user:secret@127.0.0.1", "http://user:secret@", "http://us%3Aer:secret@h"])
def test_an_environment_that_names_no_proxy_is_told(monkeypatch: pytest.MonkeyPatch, face: Face, value: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    with face.client(policy=QUICK) as client:
        with pytest.raises(
            SSEConnectionError, match=r"http://127\.0\.0\.1:9: the proxy that the environment names"
        ) as e:
            face.open(client.connect("http://127.0.0.1:9/"))
        assert "secret" not in str(e.value)


def test_a_redirect_may_lead_from_a_proxied_host_to_a_direct_one_and_back(
    monkeypatch: pytest.MonkeyPatch, face: Face
) -> None:
    with SSEServer() as proxy, SSEServer() as server, face.client() as client:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("://", "://u:p@"))
        monkeypatch.setenv("NO_PROXY", f"{HOST}:{server.port}")
        proxy.add(redirect(server.url + "direct"))
        server.add(redirect("http://other.invalid/there"))
        proxy.add(stream("data: x\n\n"))
        with face.connect(
            client, "http://stream.invalid/start", headers={"Authorization": "mine"}, reconnect=False
        ) as conn:
            assert face.next(conn).data == "x"
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
def test_a_bad_proxy_is_named_at_once(kind: type[Exception], value: Any) -> None:
    with pytest.raises(kind, match=r"^proxy\b") as caught:
        SSEClient(proxy=value)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_trust_env_is_checked() -> None:
    with pytest.raises(TypeError, match=r"^trust_env"):
        SSEClient(trust_env="yes")  # type: ignore[arg-type]


def test_socks_without_its_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from sseclient_dual import transport  # noqa: PLC0415 - for this test alone

    monkeypatch.setitem(sys.modules, "socks", None)
    transport._socks_pools.cache_clear()
    with pytest.raises(ValueError, match=r"^proxy is a SOCKS proxy.*pip install 'sseclient-dual\[socks\]'"):
        SSEClient(proxy="socks5://127.0.0.1")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1")
    with SSEClient() as client, pytest.raises(SSEConnectionError, match="SOCKS proxy, which needs an extra"):
        client.connect("http://127.0.0.1:9/").open()


# -- proxies that refuse, or do not answer


def refused_by(face: Face, proxy: str, url: str, caplog: pytest.LogCaptureFixture) -> SSEConnectionError:
    """Return the error of a connection that reconnects, and so must be final; see that nothing tells a secret."""
    caplog.set_level(logging.DEBUG)
    with face.client(proxy=proxy, policy=QUICK) as client:
        with pytest.raises(SSEConnectionError) as caught:
            face.open(client.connect(url))
    for text in (str(caught.value), repr(caught.value.__cause__), caplog.text):
        assert "secret" not in text
    return caught.value


@pytest.mark.parametrize("credentials", ["", "nobody:secret@"])
def test_a_proxy_that_wants_other_credentials(
    face: Face, credentials: str, proxy_py: Process, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = f"http://{credentials}{HOST}:{proxy_py.port}"
    error = refused_by(face, proxy, "https://127.0.0.1:9/", caplog)
    assert "https://127.0.0.1:9: the proxy http://127.0.0.1:" in str(error)
    assert "407 Proxy Authentication Required" in str(error)
    error = refused_by(face, proxy, "http://127.0.0.1:9/", caplog)
    assert isinstance(error, SSEStatusError)
    assert error.status == 407
    assert "by the proxy" in str(error)


@pytest.mark.parametrize("credentials", ["", "nobody:secret@"])
def test_a_socks_proxy_that_wants_other_credentials(
    face: Face, credentials: str, microsocks_auth: Process, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = f"socks5://{credentials}{HOST}:{microsocks_auth.port}"
    for url in ("https://127.0.0.1:9/", "http://127.0.0.1:9/"):
        error = refused_by(face, proxy, url, caplog)
        assert "the SOCKS proxy refused" in str(error)
        assert "check the credentials" in str(error)


def test_a_proxy_that_lets_a_port_not_through(face: Face, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with tinyproxy_with(tmp_path, "ConnectPort 563", "BasicAuth user secret") as process:
        error = refused_by(face, f"http://user:secret@{HOST}:{process.port}", "https://127.0.0.1:9/", caplog)
    assert "answered CONNECT with status 403 Access violation" in str(error)


def test_a_server_that_a_proxy_cannot_reach_is_tried_again(
    face: Face, proxy: tuple[str, Process], both_authorities: str
) -> None:
    with SSEServer(stream("data: x\n\n")) as server:
        server.refuse()
        with face.client(proxy=proxy[0], policy=QUICK, verify=both_authorities) as client:
            conn = client.connect(server.url)
            start(conn)
            wait_until(lambda: conn.stats.reconnects >= 2, "some attempts")
            server.listen()
            assert face.recv(conn, PATIENCE).data == "x"
            face.close(conn)


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@pytest.mark.parametrize("target", ["http", "https"])
def test_a_proxy_that_is_down_is_a_drop(face: Face, scheme: str, target: str) -> None:
    port = free_port()
    with face.client(proxy=f"{scheme}://user:secret@{HOST}:{port}", policy=QUICK) as client:
        with pytest.raises(SSEConnectionError, match=r"proxy could not be used \(Connection refused\)") as caught:
            face.open(client.connect(f"{target}://stream.invalid/", reconnect=False))
        assert f"{target}://stream.invalid (by the proxy {scheme}://{HOST}:{port})" in str(caught.value)
        conn = client.connect(f"{target}://stream.invalid/")
        with pytest.raises(TimeoutError):
            face.recv(conn, 0.05)
        wait_until(lambda: conn.stats.reconnects >= 2, "some attempts")
        face.close(conn)


def test_a_proxy_that_comes_back_is_used_again(face: Face, tmp_path: Path, tls: Tls) -> None:
    with (
        SSEServer(stream("id: 1\ndata: a\n\n", HANG), stream("data: b\n\n", HANG), tls=tls[0]) as server,
        tinyproxy_with(tmp_path) as process,
        face.client(proxy=f"http://{HOST}:{process.port}", policy=QUICK, verify=tls[1]) as client,
        face.connect(client, server.url) as conn,
    ):
        assert face.next(conn).data == "a"
        process.kill()
        wait_until(lambda: conn.ready_state is ReadyState.CONNECTING and conn.stats.reconnects > 1, "the drop")
        process.start()
        assert face.next(conn).data == "b"
        assert server.requests[-1].last_event_id == "1"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (raw("HTTP/1.1 502 Bad Gateway\r\n\r\n"), "answered CONNECT with status 502 Bad Gateway"),
        (raw("HTTP/1.1 200 OK\r\n\r\n", CUT), "TLS failed"),
        (raw(CUT), "the server closed the connection without an answer"),
        (raw("SSH-2.0-OpenSSH\r\n"), "the answer is not HTTP"),
        (status(429), "answered CONNECT with status 429 Too Many Requests"),
    ],
)
def test_what_a_proxy_may_do_to_a_tunnel_is_a_drop(face: Face, answer: Any, message: str) -> None:
    with SSEServer(default=answer) as proxy, face.client(proxy=proxy.url, policy=QUICK) as client:
        with pytest.raises(SSEConnectionError, match=message):
            face.open(client.connect("https://stream.invalid/", reconnect=False))
        assert proxy.requests[0].method == "CONNECT"
        assert proxy.requests[0].target == "stream.invalid:443"
        # A POST, too: nothing of it has been sent.
        conn = client.connect("https://stream.invalid/", "POST", data="x")
        with pytest.raises(TimeoutError):
            face.recv(conn, 0.05)
        proxy.wait_for_requests(4)
        face.close(conn)


def test_a_proxy_that_does_not_answer_is_bounded_by_the_connect_timeout(face: Face) -> None:
    timeout = urllib3.Timeout(connect=0.2, read=None)
    with SSEServer(default=raw(HANG)) as proxy, face.client(proxy=proxy.url, timeout=timeout) as client:
        with pytest.raises(SSEConnectionError, match=rf"by the proxy {proxy.origin}\): no connection within 0\.2 s"):
            face.open(client.connect("https://stream.invalid/", reconnect=False))
    gate = Gate()
    with SSEServer(handshake=gate) as proxy:
        with face.client(proxy=f"socks5h://{HOST}:{proxy.port}", timeout=timeout) as client:
            with pytest.raises(SSEConnectionError, match=r"proxy could not be used \(timed out\)"):
                face.open(client.connect("https://stream.invalid/", reconnect=False))


@pytest.mark.parametrize("target", ["http", "https"])
@pytest.mark.parametrize("scheme", ["http", "https", "socks4a", "socks5", "socks5h"])
def test_closing_while_a_proxy_is_silent(scheme: str, target: str) -> None:
    gate = Gate()
    with SSEServer(handshake=gate) as proxy, SSEClient(proxy=f"{scheme}://u:p@{HOST}:{proxy.port}") as client:
        conn = client.connect(f"{target}://127.0.0.1:9/")
        start(conn)
        gate.wait_reached()
        time.sleep(0.05)  # until it has sent what it has to say, and waits
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
                sock.sendall(b"\5")  # and the rest of the answer does not come
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


def test_closing_during_tls_within_a_tunnel(proxy_py_tls: Process, tls: Tls, both_authorities: str) -> None:
    gate = Gate()
    url = f"https://{CREDENTIALS}@{HOST}:{proxy_py_tls.port}"
    with SSEServer(tls=tls[0], handshake=gate) as server, SSEClient(proxy=url, verify=both_authorities) as client:
        conn = client.connect(server.url)
        start(conn)
        gate.wait_reached()
        closes_at_once(conn)
        server.wait_for_connections(0)


def test_closing_while_socks_resolves_the_name_here(monkeypatch: pytest.MonkeyPatch, microsocks: Process) -> None:
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
        assert time.monotonic() - begun < BOUND
        assert conn._reader.finished.is_set  # what is awaited does not wait for the name server
        answered.set()
        wait_until(lambda: not [t for t in threading.enumerate() if t.name == "sseclient_dual"], "the thread's end")
        assert server.requests == []


def start(conn: Any) -> None:
    """Begin to connect, without waiting for it."""
    with pytest.raises(TimeoutError):
        conn.recv(timeout=0.01)


def closes_at_once(conn: Any) -> None:
    begun = time.monotonic()
    conn.close()
    assert time.monotonic() - begun < BOUND
    assert conn.ready_state is ReadyState.CLOSED
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "sseclient_dual"], "the thread's end", 1)
    with pytest.raises((Ended, StopIteration)):
        next(conn)
