"""Errors that servers and proxies cause: their messages, which contain no secret."""

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


# -- servers


def case(message: str, *script: Reply) -> Any:
    return pytest.param(script, message, id=message)


CASES = [
    case("closed the connection without a response; if this repeats, check the scheme", raw(CUT)),
    case(r"the connection broke \(Connection reset by peer\)", raw(RESET)),
    case("no data arrived for 0.3 s", raw(HANG)),
    case(r"the response is not HTTP \(BadStatusLine\); check", raw(b"220 mail ready, not HTTP\r\n", HANG)),
    case(r"the response is not HTTP \(UnknownProtocol\); check", raw(b"HTTP/3.0 200 OK\r\n\r\n", HANG)),
    case("the response head is too large; check", raw(HEAD, b"X: " + 70_000 * b"x" + b"\r\n\r\n", HANG)),
    case("the response head is too large; check.*", raw(HEAD, 200 * b"X: x\r\n", b"\r\n", HANG)),
    case("headers contradict each other; check", raw(HEAD, b"Content-Length: 1, 2\r\n\r\n", HANG)),
    case("the response was cut short", raw(HEAD, CUT)),
    case("the response was cut short.*", raw(HEAD, b"Content-Length: 99\r\n\r\n: x\n", CUT)),
    case("the response was cut short.*.*", stream(": x\n", CUT)),
    case("invalid chunked framing", raw(HEAD, b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", HANG)),
    case("Content-Encoding .* Accept-Encoding", raw(HEAD, b"Content-Encoding: gzip\r\n\r\nno gzip", HANG)),
    case("Content-Encoding .* Accept-Encoding.*", raw(HEAD, b"Content-Encoding: deflate\r\n\r\nno deflate", HANG)),
    case("content encoding .* install", raw(HEAD, b"Content-Encoding: lzma\r\n\r\n", HANG)),
    case("the host name is not valid .* check", redirect(f"http://{70 * 'a'}.test/?{TOKEN}")),
    case("a Location header that is not a URL; check", redirect(f"http://[{TOKEN}")),
    case("does not lead to an HTTP server; check", redirect(f"ftp://{TOKEN}/")),
    case("has no Location header; check", redirect("")),
    case("answered with media type", raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", CUT)),
    case("answered with status 404", raw(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", CUT)),
    case("answered with status 503", raw(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", CUT)),
]


@pytest.fixture
def no_secret_in_logs(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], None]]:
    """Check that the secret is in no log record of the package, and in no other record at level INFO or above."""
    caplog.set_level(logging.DEBUG)

    def check() -> None:
        formatter = logging.Formatter("%(message)s")
        for record in caplog.records:
            if record.name == "sseclient_dual" or record.levelno >= logging.INFO:
                assert TOKEN not in formatter.format(record)

    yield check
    check()


def fail_with_secrets(api: Api, url: str, message: str, **options: Any) -> SSEConnectionError:
    """Connect with the secret in every argument; return the error, which must not contain it."""
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
@pytest.mark.parametrize(("script", "message"), CASES)
def test_an_error_that_the_server_causes(
    api: Api, script: tuple[Reply, ...], message: str, no_secret_in_logs: Callable[[], None], *, reconnect: bool
) -> None:
    with SSEServer(*script * 3) as server:
        timeout = 0.3 if "0.3 s" in message else 10
        error = fail_with_secrets(api, server.url, message, reconnect=reconnect, timeout=timeout)
        assert len(server.requests) == (2 if reconnect and retried(error) else 1)


def retried(error: SSEConnectionError) -> bool:
    return not error.final and getattr(error, "status", 503) == 503


def test_a_refused_connection(api: Api, no_secret_in_logs: Callable[[], None]) -> None:
    error = fail_with_secrets(
        api, f"http://127.0.0.1:{closed_port()}/", r"could not connect \(Connection refused\); c"
    )
    assert isinstance(error.__cause__, urllib3.exceptions.NewConnectionError)


def test_an_unknown_host_name(
    api: Api, no_secret_in_logs: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_args: Any, **_options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = fail_with_secrets(
        api, "http://nobody.invalid/", "could not resolve the host name .Name or service not known.; check"
    )
    assert isinstance(error.__cause__, urllib3.exceptions.NameResolutionError)


def test_a_connect_timeout_after_a_redirect_is_reported_as_one(
    api: Api, tls: Tls, no_secret_in_logs: Callable[[], None]
) -> None:
    # The first request was sent; the second attempt ends in the handshake, to which the connect timeout applies.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = "https://{}:{}/".format(*silent.getsockname())
        with SSEServer(redirect(target), redirect(target)) as server:
            timeout = urllib3.Timeout(connect=0.2, read=5)
            fail_with_secrets(api, server.url, r"^https://.* could not connect within 0\.2 s; check", timeout=timeout)


def test_plain_text_instead_of_tls(api: Api, no_secret_in_logs: Callable[[], None]) -> None:
    with greeting() as port:
        fail_with_secrets(
            api, f"https://127.0.0.1:{port}/", r"TLS failed \([A-Z_]+\); check the scheme and port in the URL"
        )


def test_a_certificate_of_an_unknown_authority(api: Api, tls: Tls, no_secret_in_logs: Callable[[], None]) -> None:
    with SSEServer(tls=tls[0]) as server:
        error = fail_with_secrets(api, server.url, "^the certificate of https://127.0.0.1:.* was rejected .*; check")
        assert error.final


def test_a_tls_stream_cut_short_is_not_a_tls_failure(
    api: Api, tls: Tls, no_secret_in_logs: Callable[[], None]
) -> None:
    with SSEServer(stream(": x\n", CUT), stream(": x\n", RESET), tls=tls[0]) as server:
        for _ in range(2):
            message = "the response was cut short|the connection broke"
            fail_with_secrets(api, server.url, message, verify=tls[1], reconnect=False)


def test_a_malformed_head_is_accepted_and_logged_without_the_query(
    api: Api, no_secret_in_logs: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    with SSEServer(raw(HEAD, b"no header at all\r\n\r\ndata: x\n\n", CUT)) as server, api.client() as client:
        with api.connect(client, f"{server.url}path?token={TOKEN}", reconnect=False) as conn:
            assert api.rest(conn) == [SSEEvent("x")]
        (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
        assert warning.name.startswith("urllib3")
        assert f"url={server.url}path)" in warning.getMessage()


def test_reading_a_response_before_its_request_raises() -> None:
    with pytest.raises(http.client.ResponseNotReady):
        HTTPConnection("example.test").getresponse()


# -- proxies


def test_a_proxy_that_is_not_running(api: Api, no_secret_in_logs: Callable[[], None]) -> None:
    proxy = f"http://user:{TOKEN}@127.0.0.1:{closed_port()}"
    for scheme in ("http", "https"):
        fail_with_secrets(
            api,
            f"{scheme}://example.test/",
            rf"^{scheme}://example.test .*could not use the proxy \(Connection refused\); check its URL",
            proxy=proxy,
        )


def test_an_invalid_proxy_in_the_environment(
    api: Api, no_secret_in_logs: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"gopher://user:{TOKEN}@proxy.test")
    error = fail_with_secrets(api, "http://example.test/", "proxy set by the environment must be a URL like")
    assert error.final


@pytest.mark.parametrize("code", [403, 407, 502])
def test_a_proxy_that_refuses_the_tunnel(api: Api, no_secret_in_logs: Callable[[], None], code: int) -> None:
    def refuse(_request: ReceivedRequest) -> Reply:
        return raw(b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\n\r\n" % code, CUT)

    with SSEServer(default=refuse) as proxy:
        fail_with_secrets(
            api,
            "https://example.test/",
            rf"the proxy http://127.*answered CONNECT with status {code} Refused; check the URL and credentials",
            proxy=proxy.url.replace("://", f"://user:{TOKEN}@"),
        )


def test_a_socks_proxy_that_is_not_running(api: Api, no_secret_in_logs: Callable[[], None]) -> None:
    pytest.importorskip("socks")
    proxy = f"socks5h://user:{TOKEN}@127.0.0.1:{closed_port()}"
    fail_with_secrets(api, "http://example.test/", "Connection refused.*; check", proxy=proxy)


def test_a_server_that_is_not_a_socks_proxy(api: Api, no_secret_in_logs: Callable[[], None]) -> None:
    pytest.importorskip("socks")
    with greeting() as port:
        proxy = f"socks5h://user:{TOKEN}@127.0.0.1:{port}"
        fail_with_secrets(api, "http://example.test/", "; check", proxy=proxy)


def closed_port() -> int:
    """Return a port on which no socket listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def greeting() -> Iterator[int]:
    """Listen on a port; send each client a greeting that is neither TLS nor SOCKS."""
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
    # docs/logging.rst warns about it. If this fails, urllib3 no longer logs the query: remove the warning.
    caplog.set_level(logging.DEBUG)
    with SSEServer(stream("data: x\n\n")) as server, SSEClient() as client:
        with client.connect(f"{server.url}?token={TOKEN}", reconnect=False) as conn:
            assert [event.data for event in conn] == ["x"]
    assert {record.name.partition(".")[0] for record in caplog.records if TOKEN in record.getMessage()} == {"urllib3"}
