"""Each error of the lower layers becomes an `SSEConnectionError` that states the problem."""

from __future__ import annotations

import builtins
import errno
import http.client
import inspect
import os
import re
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
from sseclient_dual.transport.body import Body
from support.failures import ORIGIN, TOKEN, URL, assert_search
from support.policies import QUICK_ONCE

if TYPE_CHECKING:
    from support.apis import Api


# -- the exceptions of the lower layers


def exceptions_of(*modules: Any) -> dict[str, type[BaseException]]:
    """Return the exception classes in these modules, under their qualified names."""
    found = {}
    for module in modules:
        for value in vars(module).values():
            if inspect.isclass(value) and issubclass(value, BaseException):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return found


def lower_exceptions() -> dict[str, type[BaseException]]:
    """Return every exception class that a request can raise, and some that it cannot."""
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
SLOW = r"could not connect within 5\.0 s; check the scheme, host and port"
# A pattern of the message for each exception that is raised after the request was sent.
MESSAGES = {
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
    "http.client.HTTPException": TOO_LARGE,  # http.client raises the base class for too many header lines
    "http.client.ImproperConnectionState": BROKE,
    "http.client.IncompleteRead": "cut short",
    "http.client.InvalidURL": "the URL is not valid; check it",
    "http.client.LineTooLong": TOO_LARGE,
    "http.client.NotConnected": BROKE,
    "http.client.RemoteDisconnected": "closed the connection without a response; if this repeats, check",
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
# Exceptions that are not errors of a request, with the reason.
NOT_ERRORS = {
    "email.errors.MessageDefect": "listed in HeaderParsingError, never raised",
    "socket._GiveupOnSendfile": "caught inside the socket module",
    "urllib3.exceptions.DependencyWarning": "a warning",
    "urllib3.exceptions.HTTPWarning": "a warning",
    "urllib3.exceptions.InsecurePlatformWarning": "a warning",
    "urllib3.exceptions.InsecureRequestWarning": "a warning, which the client emits in its caller's frame",
    "urllib3.exceptions.NotOpenSSLWarning": "a warning",
    "urllib3.exceptions.SecurityWarning": "a warning",
    "urllib3.exceptions.SystemTimeWarning": "a warning",
}


def test_every_exception_is_listed() -> None:
    unlisted = lower_exceptions().keys() - MESSAGES.keys() - NOT_ERRORS.keys()
    assert not unlisted, f"add to MESSAGES or NOT_ERRORS: {sorted(unlisted)}"


def test_the_lists_do_not_overlap() -> None:
    assert not MESSAGES.keys() & NOT_ERRORS.keys()
    assert MESSAGES.keys() >= FINAL


# -- the messages

_CONNECTION = HTTPConnection("example.test", 8080)
_POOL = urllib3.HTTPConnectionPool("example.test", 8080)
_UNRESOLVED = socket.gaierror(socket.EAI_NONAME, "not known")


class _Body:
    """The attributes of a response that `InvalidChunkLength` reads."""

    length_remaining = None

    def tell(self) -> int:
        return 0


# The arguments of exceptions that take more than a message.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
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
    """Return an exception that contains the secret wherever it can."""
    cls: Any = lower_exceptions()[name]
    if name in ARGUMENTS:
        error = cls(*ARGUMENTS[name])
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


@pytest.mark.parametrize("name", [name for name in MESSAGES if name in lower_exceptions()])
def test_each_exception_gets_its_message(name: str) -> None:
    explained = explain(make(name))
    assert_search(MESSAGES[name], str(explained))
    assert explained.final == (name in FINAL)


@pytest.mark.parametrize(
    "name", [name for name in MESSAGES if name.partition(".")[0] != "urllib3" and name in lower_exceptions()]
)
def test_an_exception_wrapped_by_urllib3_gets_the_same_message(name: str) -> None:
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
    ids=["handshake timeout", "connect timeout", "TLS ended", "TLS failed"],
)
def test_an_error_before_sending_is_reported_as_a_connect_error(error: Exception, message: str) -> None:
    assert_search(message, str(explain(error, asked=False)))


@pytest.mark.parametrize(
    "error",
    [
        CertificateError("hostname 'example.test' doesn't match 'other.test'"),
        urllib3.exceptions.SSLError('Fingerprints did not match. Expected "aa", got "bb"'),
        urllib3.exceptions.SSLError(ssl.SSLCertVerificationError(1, "self-signed")),
    ],
)
def test_a_rejected_certificate_is_final(error: Exception) -> None:
    explained = explain(error)
    assert_search(REJECTED, str(explained))
    assert explained.final


def test_a_rejected_certificate_of_a_proxy_names_the_proxy() -> None:
    error = urllib3.exceptions.ProxyError("Unable to connect to proxy", ssl.SSLCertVerificationError(1, "bad"))
    assert_search(r"^the certificate of the proxy to http://example\.test:8080 was rejected", str(explain(error)))


@pytest.mark.parametrize("error", [EOFError(TOKEN), RuntimeError(TOKEN), KeyError(TOKEN), AttributeError(TOKEN)])
def test_an_unexpected_error_is_final(monkeypatch: pytest.MonkeyPatch, api: Api, error: Exception) -> None:
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
            patch.setattr(Body, "read", fail)
            with pytest.raises(SSEConnectionError, match="unexpected error") as caught:
                api.next(client.connect(server.url))
        assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("code", "text"),
    [(errno.EMFILE, r"this process may open \d+ files"), (errno.ENFILE, "Too many open files in system")],
)
def test_a_lack_of_descriptors_names_the_limit(code: int, text: str) -> None:
    error = OSError(code, os.strerror(code))
    failure = explain(error, asked=False)
    assert re.search(rf"no file descriptor is left \({text}\); close other files", str(failure))
    assert not failure.final
