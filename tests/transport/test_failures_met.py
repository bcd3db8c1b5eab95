"""Errors as servers and proxies provoke them: what is said, and that no secret is."""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
import urllib3.exceptions

from sseclient_dual import SSEClient, SSEConnectionError, SSEEvent
from sseclient_dual.testing import CUT, HANG, RESET, ReceivedRequest, Reply, SSEServer, raw, redirect, stream
from sseclient_dual.transport.connections import HTTPConnection
from support.failures import TOKEN, assert_search
from support.policies import QUICK_ONCE
from support.streams import HEAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.apis import Api
    from support.tls import Tls


# -- over sockets


def said(message: str, *script: Reply) -> Any:
    return pytest.param(script, message, id=message)


PROVOKED = [
    said("closed the connection without a response", raw(CUT)),
    said(r"the connection broke \(Connection reset by peer\)", raw(RESET)),
    said("no data arrived for 0.3 s", raw(HANG)),
    said(r"the response is not HTTP \(BadStatusLine\); check", raw(b"220 mail ready, not HTTP\r\n", HANG)),
    said(r"the response is not HTTP \(UnknownProtocol\); check", raw(b"HTTP/3.0 200 OK\r\n\r\n", HANG)),
    said("the response head is too large; check", raw(HEAD, b"X: " + 70_000 * b"x" + b"\r\n\r\n", HANG)),
    said("the response head is too large; check.*", raw(HEAD, 200 * b"X: x\r\n", b"\r\n", HANG)),
    said("headers contradict each other; check", raw(HEAD, b"Content-Length: 1, 2\r\n\r\n", HANG)),
    said("the response was cut short", raw(HEAD, CUT)),
    said("the response was cut short.*", raw(HEAD, b"Content-Length: 99\r\n\r\n: x\n", CUT)),
    said("the response was cut short.*.*", stream(": x\n", CUT)),
    said("invalid chunked framing", raw(HEAD, b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", HANG)),
    said("Content-Encoding .* Accept-Encoding", raw(HEAD, b"Content-Encoding: gzip\r\n\r\nno gzip", HANG)),
    said("Content-Encoding .* Accept-Encoding.*", raw(HEAD, b"Content-Encoding: deflate\r\n\r\nno deflate", HANG)),
    said("content encoding .* install", raw(HEAD, b"Content-Encoding: lzma\r\n\r\n", HANG)),
    said("the host name is not valid .* check", redirect(f"http://{70 * 'a'}.test/?{TOKEN}")),
    said("a Location header that is not a URL; check", redirect(f"http://[{TOKEN}")),
    said("does not lead to an HTTP server; check", redirect(f"ftp://{TOKEN}/")),
    said("has no Location header; check", redirect("")),
    said("answered with media type", raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", CUT)),
    said("answered with status 404", raw(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", CUT)),
    said("answered with status 503", raw(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", CUT)),
]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], None]]:
    """Prove that the secret is in no record of the package, and in no warning of urllib3."""
    caplog.set_level(logging.DEBUG)

    def check() -> None:
        formatter = logging.Formatter("%(message)s")
        for record in caplog.records:
            if record.name == "sseclient_dual" or record.levelno >= logging.INFO:
                assert TOKEN not in formatter.format(record)

    yield check
    check()


def fail_with_secrets(api: Api, url: str, message: str, **options: Any) -> SSEConnectionError:
    """Connect with secrets everywhere, and see both the log and the error tell none of them."""
    secret_url = url.replace("://", f"://user:{TOKEN}@") + f"path?token={TOKEN}"
    given: dict[str, Any] = {
        "headers": {"X-Api-Key": TOKEN, "Cookie": TOKEN},
        "params": {"key": TOKEN},
        "last_event_id": TOKEN,
        "timeout": urllib3.Timeout(connect=10, read=10),
        "policy": QUICK_ONCE,
    }
    client_options = {name: options.pop(name) for name in ("proxy", "verify") if name in options}
    with api.client(**client_options) as client, pytest.raises(SSEConnectionError, match=message) as caught:
        with api.connect(client, secret_url, **(given | options)) as conn:
            api.rest(conn)
    assert_search(r"https?://[\w.]+(:\d+)?\b", str(caught.value))
    trace = "".join(traceback.format_exception(caught.value))
    assert TOKEN not in trace
    return caught.value


@pytest.mark.parametrize("reconnect", [False, True])
@pytest.mark.parametrize(("script", "message"), PROVOKED)
def test_what_a_server_can_provoke(
    api: Api, script: tuple[Reply, ...], message: str, told: Callable[[], None], *, reconnect: bool
) -> None:
    with SSEServer(*script * 3) as server:
        timeout = 0.3 if "0.3 s" in message else 10
        error = fail_with_secrets(api, server.url, message, reconnect=reconnect, timeout=timeout)
        assert len(server.requests) == (2 if reconnect and retried(error) else 1)


def retried(error: SSEConnectionError) -> bool:
    return not error.final and getattr(error, "status", 503) == 503


def test_a_refused_connection(api: Api, told: Callable[[], None]) -> None:
    error = fail_with_secrets(
        api, f"http://127.0.0.1:{closed_port()}/", r"could not connect \(Connection refused\); c"
    )
    assert isinstance(error.__cause__, urllib3.exceptions.NewConnectionError)


def test_a_name_that_nobody_knows(api: Api, told: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: Any, **_options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = fail_with_secrets(
        api, "http://nobody.invalid/", "could not resolve the host name .Name or service not known.; check"
    )
    assert isinstance(error.__cause__, urllib3.exceptions.NameResolutionError)


def test_a_redirect_to_where_nobody_answers_is_not_taken_for_a_silence(
    api: Api, tls: Tls, told: Callable[[], None]
) -> None:
    # The first request was sent; the second got no further than the handshake, which the connect part bounds.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = "https://{}:{}/".format(*silent.getsockname())
        with SSEServer(redirect(target), redirect(target)) as server:
            timeout = urllib3.Timeout(connect=0.2, read=5)
            fail_with_secrets(api, server.url, r"^https://.* could not connect within 0\.2 s; check", timeout=timeout)


def test_plain_text_where_tls_was_expected(api: Api, told: Callable[[], None]) -> None:
    with greeting() as port:
        fail_with_secrets(
            api, f"https://127.0.0.1:{port}/", r"TLS failed \([A-Z_]+\); check the scheme and port in the URL"
        )


def test_a_certificate_that_nobody_signed(api: Api, tls: Tls, told: Callable[[], None]) -> None:
    with SSEServer(tls=tls[0]) as server:
        error = fail_with_secrets(api, server.url, "^the certificate of https://127.0.0.1:.* was rejected .*; check")
        assert error.final


def test_a_tls_stream_that_is_cut_did_not_fail_to_begin(api: Api, tls: Tls, told: Callable[[], None]) -> None:
    with SSEServer(stream(": x\n", CUT), stream(": x\n", RESET), tls=tls[0]) as server:
        for _ in range(2):
            message = "the response was cut short|the connection broke"
            fail_with_secrets(api, server.url, message, verify=tls[1], reconnect=False)


def test_a_head_that_is_malformed_is_read_and_logged_without_the_query(
    api: Api, told: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    with SSEServer(raw(HEAD, b"no header at all\r\n\r\ndata: x\n\n", CUT)) as server, api.client() as client:
        with api.connect(client, f"{server.url}path?token={TOKEN}", reconnect=False) as conn:
            assert api.rest(conn) == [SSEEvent("x")]
        (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
        assert warning.name.startswith("urllib3")
        assert f"url={server.url}path)" in warning.getMessage()


def test_a_response_is_not_read_before_its_request() -> None:
    with pytest.raises(http.client.ResponseNotReady):
        HTTPConnection("example.test").getresponse()


# -- proxies


def test_a_proxy_that_is_not_there(api: Api, told: Callable[[], None]) -> None:
    proxy = f"http://user:{TOKEN}@127.0.0.1:{closed_port()}"
    for scheme in ("http", "https"):
        fail_with_secrets(
            api,
            f"{scheme}://example.test/",
            rf"^{scheme}://example.test .*could not use the proxy \(Connection refused\); check its URL",
            proxy=proxy,
        )


def test_a_proxy_of_the_environment_that_can_be_none(
    api: Api, told: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"gopher://user:{TOKEN}@proxy.test")
    error = fail_with_secrets(api, "http://example.test/", "proxy set by the environment must be a URL like")
    assert error.final


@pytest.mark.parametrize("code", [403, 407, 502])
def test_a_proxy_that_refuses(api: Api, told: Callable[[], None], code: int) -> None:
    def refuse(_request: ReceivedRequest) -> Reply:
        return raw(b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\n\r\n" % code, CUT)

    with SSEServer(default=refuse) as proxy:
        fail_with_secrets(
            api,
            "https://example.test/",
            rf"the proxy http://127.*answered CONNECT with status {code} Refused; check the URL and credentials",
            proxy=proxy.url.replace("://", f"://user:{TOKEN}@"),
        )


def test_a_socks_proxy_that_is_not_there(api: Api, told: Callable[[], None]) -> None:
    pytest.importorskip("socks")
    proxy = f"socks5h://user:{TOKEN}@127.0.0.1:{closed_port()}"
    fail_with_secrets(api, "http://example.test/", "Connection refused.*; check", proxy=proxy)


def test_a_socks_proxy_that_is_none(api: Api, told: Callable[[], None]) -> None:
    pytest.importorskip("socks")
    with greeting() as port:
        proxy = f"socks5h://user:{TOKEN}@127.0.0.1:{port}"
        fail_with_secrets(api, "http://example.test/", "; check", proxy=proxy)


def closed_port() -> int:
    """Return a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def greeting() -> Iterator[int]:
    """Listen, and greet whoever connects with something that is neither TLS nor SOCKS."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = server.accept()
                    with peer:
                        peer.sendall(b"220 mail.example.test ready\r\n")
                        peer.recv(1024)

        thread = threading.Thread(target=greet)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_the_debug_log_of_urllib3_shows_the_query_and_ours_does_not(caplog: pytest.LogCaptureFixture) -> None:
    # docs/logging.rst says so, and how to turn it off; should this fail, urllib3 has changed for the better.
    caplog.set_level(logging.DEBUG)
    with SSEServer(stream("data: x\n\n")) as server, SSEClient() as client:
        with client.connect(f"{server.url}?token={TOKEN}", reconnect=False) as conn:
            assert [event.data for event in conn] == ["x"]
    assert {record.name.partition(".")[0] for record in caplog.records if TOKEN in record.getMessage()} == {"urllib3"}
