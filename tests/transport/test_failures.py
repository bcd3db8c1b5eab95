"""Every error of the layers below becomes an `SSEConnectionError` that says what happened."""

from __future__ import annotations

import builtins
import http.client
import inspect
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
import urllib3.exceptions
from urllib3.connection import HTTPConnection
from urllib3.util.ssl_match_hostname import CertificateError

from sseclient_dual import SSEConnectionError
from sseclient_dual.testing import HANG, SSEServer, stream
from sseclient_dual.transport import failures, prepare
from sseclient_dual.transport.response import Response
from support.failures import ORIGIN, TOKEN, URL, assert_search
from support.policies import QUICK_ONCE

if TYPE_CHECKING:
    from support.apis import Api


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
NOT_HTTP = r"the response is not HTTP \("
TOO_LARGE = "the response head is too large"
REJECTED = r"^the certificate of http://example\.test:8080 was rejected \("
SILENT = r"no data arrived for 7\.0 s, .* timeout"
SLOW = r"could not connect within 5\.0 s; check"
# What each becomes when it comes while the request is being answered, by a piece of the message.
BECOMES = {
    "urllib3.exceptions.BodyNotHttplibCompatible": BROKE,
    "urllib3.exceptions.ClosedPoolError": BROKE,
    "urllib3.exceptions.ConnectTimeoutError": SILENT,
    "urllib3.exceptions.DecodeError": "Content-Encoding .* Accept-Encoding",
    "urllib3.exceptions.EmptyPoolError": BROKE,
    "urllib3.exceptions.FullPoolError": BROKE,
    "urllib3.exceptions.HTTPError": BROKE,
    "urllib3.exceptions.HeaderParsingError": BROKE,
    "urllib3.exceptions.HostChangedError": BROKE,
    "urllib3.exceptions.IncompleteRead": "cut short",
    "urllib3.exceptions.InvalidChunkLength": "cut short",
    "urllib3.exceptions.InvalidHeader": "headers contradict each other; check",
    "urllib3.exceptions.LocationParseError": "the host name is not valid .* check the URL",
    "urllib3.exceptions.LocationValueError": "the host name is not valid .* check the URL",
    "urllib3.exceptions.MaxRetryError": BROKE,
    "urllib3.exceptions.NameResolutionError": r"could not resolve the host name \(not known\); check",
    "urllib3.exceptions.NewConnectionError": "could not connect .* check",
    "urllib3.exceptions.PoolError": BROKE,
    "urllib3.exceptions.ProtocolError": BROKE,
    "urllib3.exceptions.ProxyError": "could not use the proxy .* check",
    "urllib3.exceptions.ProxySchemeUnknown": "the host name is not valid .* check the URL",
    "urllib3.exceptions.ProxySchemeUnsupported": BROKE,
    "urllib3.exceptions.ReadTimeoutError": SILENT,
    "urllib3.exceptions.RequestError": BROKE,
    "urllib3.exceptions.ResponseError": BROKE,
    "urllib3.exceptions.ResponseNotChunked": BROKE,
    "urllib3.exceptions.SSLError": BROKE,
    "urllib3.exceptions.TimeoutError": SILENT,
    "urllib3.exceptions.TimeoutStateError": BROKE,
    "urllib3.exceptions.URLSchemeUnknown": "the host name is not valid .* check the URL",
    "urllib3.exceptions.UnrewindableBodyError": BROKE,
    "http.client.BadStatusLine": NOT_HTTP,
    "http.client.CannotSendHeader": BROKE,
    "http.client.CannotSendRequest": BROKE,
    "http.client.HTTPException": TOO_LARGE,  # it is raised itself for too many lines
    "http.client.ImproperConnectionState": BROKE,
    "http.client.IncompleteRead": "cut short",
    "http.client.InvalidURL": "the URL is not valid; check it",
    "http.client.LineTooLong": TOO_LARGE,
    "http.client.NotConnected": BROKE,
    "http.client.RemoteDisconnected": "closed the connection without a response",
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


def explain(error: Exception, *, asked: bool = True) -> SSEConnectionError:
    request = prepare("GET", URL, headers={"X-Api-Key": TOKEN}, timeout=urllib3.Timeout(connect=5.0, read=7.0))
    explained = failures.explain(
        error, origin=request.origin, where=request.origin, proxy=None, asked=asked, request=request
    )
    assert ORIGIN in str(explained)
    assert TOKEN not in str(explained)
    assert "\n" not in str(explained)
    return explained


@pytest.mark.parametrize("name", [name for name in BECOMES if name in below()])
def test_what_each_becomes(name: str) -> None:
    explained = explain(make(name))
    assert_search(BECOMES[name], str(explained))
    assert explained.final == (name in FINAL)


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
def test_an_error_that_nobody_foresaw_is_final(monkeypatch: pytest.MonkeyPatch, api: Api, error: Exception) -> None:
    def fail(*_args: Any, **_options: Any) -> Any:
        raise error

    explained = explain(error)
    assert_search(rf"unexpected error \({type(error).__name__}\)", str(explained))
    assert explained.final
    with SSEServer(stream("data: x\n\n", HANG)) as server, api.client(policy=QUICK_ONCE) as client:
        with monkeypatch.context() as patch:
            patch.setattr(urllib3.PoolManager, "urlopen", fail)
            with pytest.raises(SSEConnectionError, match="unexpected error") as caught:
                api.open(client.connect(server.url))
        assert caught.value.__cause__ is error
        with monkeypatch.context() as patch:
            patch.setattr(Response, "read1", fail)
            with pytest.raises(SSEConnectionError, match="unexpected error") as caught:
                api.next(client.connect(server.url))
        assert caught.value.__cause__ is error
