"""What becomes of every exception of the layers below, and that no secret gets out with it.

The classes are found by inspection, so one that a new urllib3 or Python brings fails a test here until somebody has
said what becomes of it. Those that a socket can provoke are provoked; all are given to the function that explains.
"""

from __future__ import annotations

import builtins
import contextlib
import http.client
import inspect
import logging
import socket
import ssl
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
import urllib3.exceptions
from urllib3.connection import HTTPConnection
from urllib3.util.ssl_match_hostname import CertificateError

from sseclient_dual import ReconnectPolicy, SSEClient, SSEConnectionError, SSEEvent
from sseclient_dual.testing import CUT, HANG, RESET, ReceivedRequest, Reply, SSEServer, raw, redirect, stream
from sseclient_dual.transport import Exchange, Pools, _HTTPConnection, _HTTPResponse, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.apis import Face

TOKEN = "hunter2"  # stands for every secret: in the query, as a password, in headers, in a body, as an id
ORIGIN = "http://example.test:8080"
URL = f"{ORIGIN}/path?token={TOKEN}"
QUICK = ReconnectPolicy(retry_delay=5, jitter=0, max_retries=1)


# -- which there are


def exceptions_of(*modules: Any) -> dict[str, type[BaseException]]:
    """Find the exceptions that are defined in modules, not those that they merely use."""
    found = {}
    for module in modules:
        for value in vars(module).values():
            if inspect.isclass(value) and issubclass(value, BaseException):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return found


def below() -> dict[str, type[BaseException]]:
    """Name every exception class that a request can meet, and more."""
    system = {
        name: cls
        for name, cls in exceptions_of(builtins, socket, ssl).items()
        if issubclass(cls, (OSError, ssl.SSLError))
    }
    return exceptions_of(urllib3.exceptions, http.client) | system


BROKE = r"the connection broke \("
NOT_HTTP = r"the answer is not HTTP \("
TOO_LARGE = "the head of the answer is too large"
REJECTED = r"^the certificate of http://example\.test:8080 was rejected \("
SILENT = r"nothing came for 7\.0 s, .* timeout"
SLOW = r"no connection within 5\.0 s; check"

# What each becomes when it comes while the request is being answered, by a piece of the message.
BECOMES = {
    "urllib3.exceptions.BodyNotHttplibCompatible": BROKE,
    "urllib3.exceptions.ClosedPoolError": BROKE,
    "urllib3.exceptions.ConnectTimeoutError": SILENT,
    "urllib3.exceptions.DecodeError": "content encoding .* Accept-Encoding",
    "urllib3.exceptions.EmptyPoolError": BROKE,
    "urllib3.exceptions.FullPoolError": BROKE,
    "urllib3.exceptions.HTTPError": BROKE,
    "urllib3.exceptions.HeaderParsingError": BROKE,
    "urllib3.exceptions.HostChangedError": BROKE,
    "urllib3.exceptions.IncompleteRead": "cut short",
    "urllib3.exceptions.InvalidChunkLength": "cut short",
    "urllib3.exceptions.InvalidHeader": "headers contradict each other; check",
    "urllib3.exceptions.LocationParseError": "no such host .* check the URL",
    "urllib3.exceptions.LocationValueError": "no such host .* check the URL",
    "urllib3.exceptions.MaxRetryError": BROKE,
    "urllib3.exceptions.NameResolutionError": r"name could not be resolved \(not known\); check",
    "urllib3.exceptions.NewConnectionError": "could not connect .* check",
    "urllib3.exceptions.PoolError": BROKE,
    "urllib3.exceptions.ProtocolError": BROKE,
    "urllib3.exceptions.ProxyError": "the proxy could not be used .* check",
    "urllib3.exceptions.ProxySchemeUnknown": "no such host .* check the URL",
    "urllib3.exceptions.ProxySchemeUnsupported": BROKE,
    "urllib3.exceptions.ReadTimeoutError": SILENT,
    "urllib3.exceptions.RequestError": BROKE,
    "urllib3.exceptions.ResponseError": BROKE,
    "urllib3.exceptions.ResponseNotChunked": BROKE,
    "urllib3.exceptions.SSLError": BROKE,
    "urllib3.exceptions.TimeoutError": SILENT,
    "urllib3.exceptions.TimeoutStateError": BROKE,
    "urllib3.exceptions.URLSchemeUnknown": "no such host .* check the URL",
    "urllib3.exceptions.UnrewindableBodyError": BROKE,
    "http.client.BadStatusLine": NOT_HTTP,
    "http.client.CannotSendHeader": BROKE,
    "http.client.CannotSendRequest": BROKE,
    "http.client.HTTPException": TOO_LARGE,  # it is raised itself for too many lines
    "http.client.ImproperConnectionState": BROKE,
    "http.client.IncompleteRead": "cut short",
    "http.client.InvalidURL": "no such URL; check",
    "http.client.LineTooLong": TOO_LARGE,
    "http.client.NotConnected": BROKE,
    "http.client.RemoteDisconnected": "closed the connection without an answer",
    "http.client.ResponseNotReady": BROKE,
    "http.client.UnimplementedFileMode": BROKE,
    "http.client.UnknownProtocol": NOT_HTTP,
    "http.client.UnknownTransferEncoding": NOT_HTTP,
    "ssl.SSLCertVerificationError": REJECTED,
    "ssl.SSLEOFError": BROKE,
    "ssl.SSLError": BROKE,
    "ssl.SSLSyscallError": BROKE,
    "ssl.SSLWantReadError": BROKE,
    "ssl.SSLWantWriteError": BROKE,
    "ssl.SSLZeroReturnError": BROKE,
    "socket.gaierror": BROKE,
    "socket.herror": BROKE,
    "builtins.BlockingIOError": BROKE,
    "builtins.BrokenPipeError": BROKE,
    "builtins.ChildProcessError": BROKE,
    "builtins.ConnectionAbortedError": BROKE,
    "builtins.ConnectionError": BROKE,
    "builtins.ConnectionRefusedError": BROKE,
    "builtins.ConnectionResetError": BROKE,
    "builtins.FileExistsError": BROKE,
    "builtins.FileNotFoundError": BROKE,
    "builtins.InterruptedError": BROKE,
    "builtins.IsADirectoryError": BROKE,
    "builtins.NotADirectoryError": BROKE,
    "builtins.OSError": BROKE,
    "builtins.PermissionError": BROKE,
    "builtins.ProcessLookupError": BROKE,
    "builtins.TimeoutError": BROKE,
}
FINAL = {
    "urllib3.exceptions.LocationParseError",
    "urllib3.exceptions.LocationValueError",
    "urllib3.exceptions.ProxySchemeUnknown",
    "urllib3.exceptions.URLSchemeUnknown",
    "http.client.InvalidURL",
    "ssl.SSLCertVerificationError",
}

# What is no error of a request, and why.
ELSEWHERE = {
    "email.errors.MessageDefect": "an entry of a list",
    "socket._GiveupOnSendfile": "caught in the socket module; files are sent by read and send",
    "urllib3.exceptions.DependencyWarning": "a warning",
    "urllib3.exceptions.HTTPWarning": "a warning",
    "urllib3.exceptions.InsecurePlatformWarning": "a warning",
    "urllib3.exceptions.InsecureRequestWarning": "a warning, which the client gives in its caller's frame",
    "urllib3.exceptions.NotOpenSSLWarning": "a warning",
    "urllib3.exceptions.SecurityWarning": "a warning",
    "urllib3.exceptions.SystemTimeWarning": "a warning",
}


def test_every_exception_has_its_place() -> None:
    unplaced = below().keys() - BECOMES.keys() - ELSEWHERE.keys()
    assert not unplaced, f"say in BECOMES or ELSEWHERE what becomes of {sorted(unplaced)}"


def test_what_is_elsewhere_is_said_once() -> None:
    assert not BECOMES.keys() & ELSEWHERE.keys()
    assert BECOMES.keys() >= FINAL


# -- what is said of them

_CONNECTION = HTTPConnection("example.test", 8080)
_POOL = urllib3.HTTPConnectionPool("example.test", 8080)
_UNRESOLVED = socket.gaierror(socket.EAI_NONAME, "not known")


class _Body:
    """What `InvalidChunkLength` asks of a response."""

    length_remaining = None

    def tell(self) -> int:
        return 0


# How to make those that take more than a text.
MADE_FROM: dict[str, tuple[Any, ...]] = {
    "urllib3.exceptions.HeaderParsingError": ([], TOKEN),
    "urllib3.exceptions.HostChangedError": (_POOL, URL),
    "urllib3.exceptions.IncompleteRead": (3, 4),
    "urllib3.exceptions.InvalidChunkLength": (_Body(), TOKEN.encode()),
    "urllib3.exceptions.MaxRetryError": (_POOL, URL, OSError(TOKEN)),
    "urllib3.exceptions.NameResolutionError": ("example.test", _CONNECTION, _UNRESOLVED),
    "urllib3.exceptions.NewConnectionError": (_CONNECTION, TOKEN),
    "urllib3.exceptions.ProxyError": (TOKEN, OSError(f"http://user:{TOKEN}@proxy")),
    "urllib3.exceptions.ReadTimeoutError": (_POOL, URL, TOKEN),
    "urllib3.exceptions.RequestError": (_POOL, URL, TOKEN),
    "http.client.IncompleteRead": (TOKEN.encode(), 100),
    "http.client.LineTooLong": (TOKEN,),
}


def make(name: str) -> Exception:
    """Make an exception that is full of secrets."""
    cls: Any = below()[name]
    if name in MADE_FROM:
        error = cls(*MADE_FROM[name])
    elif issubclass(cls, urllib3.exceptions.PoolError):
        error = cls(_POOL, f"{URL}: {TOKEN}")
    else:
        error = cls(f"{URL}: {TOKEN}")
    if name == "urllib3.exceptions.NameResolutionError":
        error.__cause__ = _UNRESOLVED  # as urllib3 and the transport raise it
    assert isinstance(error, Exception)
    return error


def exchange(*, asked: bool = True) -> Exchange:
    timeout = urllib3.Timeout(connect=5.0, read=7.0)
    made = Exchange(Pools(), prepare("GET", URL, headers={"X-Api-Key": TOKEN}, timeout=timeout), TOKEN)
    made._asked = asked
    return made


def explain(error: Exception, *, asked: bool = True) -> SSEConnectionError:
    explained = exchange(asked=asked)._explain(error, URL)
    assert ORIGIN in str(explained)
    assert TOKEN not in str(explained)
    assert "\n" not in str(explained)
    return explained


@pytest.mark.parametrize("name", [name for name in BECOMES if name in below()])
def test_what_each_becomes(name: str) -> None:
    explained = explain(make(name))
    assert_search(BECOMES[name], str(explained))
    assert explained.final == (name in FINAL)


def assert_search(pattern: str, text: str) -> None:
    with pytest.raises(AssertionError, match=pattern):
        raise AssertionError(text)


@pytest.mark.parametrize(
    "name", [name for name in BECOMES if name.partition(".")[0] != "urllib3" and name in below()]
)
def test_it_says_the_same_in_the_wrapping_of_urllib3(name: str) -> None:
    plain = explain(make(name))
    wrapped = explain(urllib3.exceptions.ProtocolError("Connection aborted.", make(name)))
    assert (str(wrapped), wrapped.final) == (str(plain), plain.final)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (urllib3.exceptions.ReadTimeoutError(_POOL, URL, "Read timed out."), SLOW),
        (urllib3.exceptions.ConnectTimeoutError(_CONNECTION, "timed out"), SLOW),
        (urllib3.exceptions.SSLError(ssl.SSLEOFError(8, "EOF occurred")), r"TLS failed \(.*\); check"),
        (urllib3.exceptions.SSLError(TOKEN), r"TLS failed \(SSLError\); check"),
    ],
    ids=["handshake silent", "connect silent", "TLS cut", "TLS"],
)
def test_before_anything_was_sent_it_is_the_way_there_that_failed(error: Exception, message: str) -> None:
    assert_search(message, str(explain(error, asked=False)))


@pytest.mark.parametrize(
    "error",
    [
        CertificateError("hostname 'example.test' doesn't match 'other.test'"),
        urllib3.exceptions.SSLError('Fingerprints did not match. Expected "aa", got "bb"'),
        urllib3.exceptions.SSLError(ssl.SSLCertVerificationError(1, "self-signed")),
    ],
)
def test_a_certificate_that_is_rejected_is_final(error: Exception) -> None:
    explained = explain(error)
    assert_search(REJECTED, str(explained))
    assert explained.final


def test_the_certificate_of_a_proxy_is_not_taken_for_the_servers() -> None:
    error = urllib3.exceptions.ProxyError("Unable to connect to proxy", ssl.SSLCertVerificationError(1, "bad"))
    assert_search(r"^the certificate of the proxy to http://example\.test:8080 was rejected", str(explain(error)))


@pytest.mark.parametrize("error", [EOFError(TOKEN), RuntimeError(TOKEN), KeyError(TOKEN), AttributeError(TOKEN)])
def test_an_error_that_nobody_foresaw_is_final(monkeypatch: pytest.MonkeyPatch, face: Face, error: Exception) -> None:
    def fail(*_args: Any, **_options: Any) -> Any:
        raise error

    explained = explain(error)
    assert_search(rf"not foreseen \({type(error).__name__}\)", str(explained))
    assert explained.final
    with SSEServer(stream("data: x\n\n", HANG)) as server, face.client(policy=QUICK) as client:
        with monkeypatch.context() as patch:
            patch.setattr(urllib3.PoolManager, "urlopen", fail)
            with pytest.raises(SSEConnectionError, match="not foreseen") as caught:
                face.open(client.connect(server.url))
        assert caught.value.__cause__ is error
        with monkeypatch.context() as patch:
            patch.setattr(_HTTPResponse, "read1", fail)
            with pytest.raises(SSEConnectionError, match="not foreseen") as caught:
                face.next(client.connect(server.url))
        assert caught.value.__cause__ is error


# -- over sockets


def said(message: str, *script: Reply) -> Any:
    return pytest.param(script, message, id=message)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"

PROVOKED = [
    said("closed the connection without an answer", raw(CUT)),
    said(r"the connection broke \(Connection reset by peer\)", raw(RESET)),
    said("nothing came for 0.3 s", raw(HANG)),
    said(r"the answer is not HTTP \(BadStatusLine\); check", raw(b"220 mail ready, not HTTP\r\n", HANG)),
    said(r"the answer is not HTTP \(UnknownProtocol\); check", raw(b"HTTP/3.0 200 OK\r\n\r\n", HANG)),
    said("the head of the answer is too large; check", raw(HEAD, b"X: " + 70_000 * b"x" + b"\r\n\r\n", HANG)),
    said("the head of the answer is too large; check.*", raw(HEAD, 200 * b"X: x\r\n", b"\r\n", HANG)),
    said("headers contradict each other; check", raw(HEAD, b"Content-Length: 1, 2\r\n\r\n", HANG)),
    said("the response was cut short", raw(HEAD, CUT)),
    said("the response was cut short.*", raw(HEAD, b"Content-Length: 99\r\n\r\n: x\n", CUT)),
    said("the response was cut short.*.*", stream(": x\n", CUT)),
    said("not framed as HTTP has it", raw(HEAD, b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", HANG)),
    said("content encoding .* Accept-Encoding", raw(HEAD, b"Content-Encoding: gzip\r\n\r\nno gzip", HANG)),
    said("content encoding .* Accept-Encoding.*", raw(HEAD, b"Content-Encoding: deflate\r\n\r\nno deflate", HANG)),
    said("content encoding .* install", raw(HEAD, b"Content-Encoding: lzma\r\n\r\n", HANG)),
    said("no such host .* check", redirect(f"http://{70 * 'a'}.test/?{TOKEN}")),
    said("a Location that is no URL; check", redirect(f"http://[{TOKEN}")),
    said("not HTTP; check", redirect(f"ftp://{TOKEN}/")),
    said("names no Location; check", redirect("")),
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


def fail_with_secrets(face: Face, url: str, message: str, **options: Any) -> SSEConnectionError:
    """Connect with secrets everywhere, and see both the log and the error tell none of them."""
    secret_url = url.replace("://", f"://user:{TOKEN}@") + f"path?token={TOKEN}"
    given: dict[str, Any] = {
        "headers": {"X-Api-Key": TOKEN, "Cookie": TOKEN},
        "params": {"key": TOKEN},
        "last_event_id": TOKEN,
        "timeout": urllib3.Timeout(connect=10, read=10),
        "policy": QUICK,
    }
    client_options = {name: options.pop(name) for name in ("proxy", "verify") if name in options}
    with face.client(**client_options) as client, pytest.raises(SSEConnectionError, match=message) as caught:
        with face.connect(client, secret_url, **(given | options)) as conn:
            face.rest(conn)
    assert_search(r"https?://[\w.]+(:\d+)?\b", str(caught.value))
    trace = "".join(traceback.format_exception(caught.value))
    assert TOKEN not in trace
    return caught.value


@pytest.mark.parametrize("reconnect", [False, True])
@pytest.mark.parametrize(("script", "message"), PROVOKED)
def test_what_a_server_can_provoke(
    face: Face, script: tuple[Reply, ...], message: str, told: Callable[[], None], *, reconnect: bool
) -> None:
    with SSEServer(*script * 3) as server:
        timeout = 0.3 if "0.3 s" in message else 10
        error = fail_with_secrets(face, server.url, message, reconnect=reconnect, timeout=timeout)
        assert len(server.requests) == (2 if reconnect and retried(error) else 1)


def retried(error: SSEConnectionError) -> bool:
    return not error.final and getattr(error, "status", 503) == 503


def test_a_refused_connection(face: Face, told: Callable[[], None]) -> None:
    error = fail_with_secrets(
        face, f"http://127.0.0.1:{closed_port()}/", r"could not connect \(Connection refused\); c"
    )
    assert isinstance(error.__cause__, urllib3.exceptions.NewConnectionError)


def test_a_name_that_nobody_knows(face: Face, told: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: Any, **_options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = fail_with_secrets(
        face, "http://nobody.invalid/", "could not be resolved .Name or service not known.; check"
    )
    assert isinstance(error.__cause__, urllib3.exceptions.NameResolutionError)


def test_a_redirect_to_where_nobody_answers_is_not_taken_for_a_silence(
    face: Face, tls: tuple[ssl.SSLContext, str], told: Callable[[], None]
) -> None:
    # The first request was sent; the second got no further than the handshake, which the connect part bounds.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = "https://{}:{}/".format(*silent.getsockname())
        with SSEServer(redirect(target), redirect(target)) as server:
            timeout = urllib3.Timeout(connect=0.2, read=5)
            fail_with_secrets(face, server.url, r"^https://.* no connection within 0\.2 s; check", timeout=timeout)


def test_plain_text_where_tls_was_expected(face: Face, told: Callable[[], None]) -> None:
    with greeting() as port:
        fail_with_secrets(
            face, f"https://127.0.0.1:{port}/", r"TLS failed \([A-Z_]+\); check the URL's scheme and port"
        )


def test_a_certificate_that_nobody_signed(
    face: Face, tls: tuple[ssl.SSLContext, str], told: Callable[[], None]
) -> None:
    with SSEServer(tls=tls[0]) as server:
        error = fail_with_secrets(face, server.url, "^the certificate of https://127.0.0.1:.* was rejected .*; check")
        assert error.final


def test_a_tls_stream_that_is_cut_did_not_fail_to_begin(
    face: Face, tls: tuple[ssl.SSLContext, str], told: Callable[[], None]
) -> None:
    with SSEServer(stream(": x\n", CUT), stream(": x\n", RESET), tls=tls[0]) as server:
        for _ in range(2):
            message = "the response was cut short|the connection broke"
            fail_with_secrets(face, server.url, message, verify=tls[1], reconnect=False)


def test_a_head_that_is_malformed_is_read_and_logged_without_the_query(
    face: Face, told: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    with SSEServer(raw(HEAD, b"no header at all\r\n\r\ndata: x\n\n", CUT)) as server, face.client() as client:
        with face.connect(client, f"{server.url}path?token={TOKEN}", reconnect=False) as conn:
            assert face.rest(conn) == [SSEEvent("x")]
        (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
        assert warning.name.startswith("urllib3")
        assert f"url={server.url}path)" in warning.getMessage()


def test_a_response_is_not_read_before_its_request() -> None:
    with pytest.raises(http.client.ResponseNotReady):
        _HTTPConnection("example.test").getresponse()


# -- proxies


def test_a_proxy_that_is_not_there(face: Face, told: Callable[[], None]) -> None:
    proxy = f"http://user:{TOKEN}@127.0.0.1:{closed_port()}"
    for scheme in ("http", "https"):
        fail_with_secrets(
            face,
            f"{scheme}://example.test/",
            rf"^{scheme}://example.test .*the proxy could not be used \(Connection refused\); check its URL",
            proxy=proxy,
        )


def test_a_proxy_of_the_environment_that_can_be_none(
    face: Face, told: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"gopher://user:{TOKEN}@proxy.test")
    error = fail_with_secrets(face, "http://example.test/", "proxy that the environment names must be a URL like")
    assert error.final


@pytest.mark.parametrize("code", [403, 407, 502])
def test_a_proxy_that_refuses(face: Face, told: Callable[[], None], code: int) -> None:
    def refuse(_request: ReceivedRequest) -> Reply:
        return raw(b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\n\r\n" % code, CUT)

    with SSEServer(default=refuse) as proxy:
        fail_with_secrets(
            face,
            "https://example.test/",
            rf"the proxy http://127.*answered CONNECT with status {code} Refused; check its URL, the credentials",
            proxy=proxy.url.replace("://", f"://user:{TOKEN}@"),
        )


def test_a_socks_proxy_that_is_not_there(face: Face, told: Callable[[], None]) -> None:
    pytest.importorskip("socks")
    proxy = f"socks5h://user:{TOKEN}@127.0.0.1:{closed_port()}"
    fail_with_secrets(face, "http://example.test/", "Connection refused.*; check", proxy=proxy)


def test_a_socks_proxy_that_is_none(face: Face, told: Callable[[], None]) -> None:
    pytest.importorskip("socks")
    with greeting() as port:
        proxy = f"socks5h://user:{TOKEN}@127.0.0.1:{port}"
        fail_with_secrets(face, "http://example.test/", "; check", proxy=proxy)


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
