"""Translate every error of the layers below (urllib3, http.client, ssl, socket) to an `SSEConnectionError`."""

from __future__ import annotations

import errno
import http.client
import re
import ssl
from typing import TYPE_CHECKING

from urllib3 import exceptions
from urllib3.util.ssl_match_hostname import CertificateError

from sseclient_dual.errors import Remedy, SSEConnectionError, quoted

try:
    import resource
except ImportError:  # pragma: no cover - on Windows
    resource = None  # type: ignore[assignment]

from .chunks import BadChunk
from .frames import HTTP2Error
from .tls import is_out_of_descriptors

if TYPE_CHECKING:
    from .request import Request

_EXPECTED = (exceptions.HTTPError, http.client.HTTPException, OSError, ValueError)
_CONNECT_REFUSED = re.compile(r"Tunnel connection failed: ((\d)(\d\d).*)").match  # http.client's message
_CLIENT_CERTIFICATE_ALERTS = frozenset(
    {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE",
     "SSLV3_ALERT_CERTIFICATE_EXPIRED", "SSLV3_ALERT_CERTIFICATE_REVOKED", "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
     "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"}
)  # fmt: skip


def explain(
    error: Exception, *, origin: str, where: str, proxy: str | None, asked: bool, request: Request
) -> SSEConnectionError:
    """Return the error to raise in place of `error`: it says what happened, where, and what to do.

    Texts of `error` are quoted only where they cannot contain a secret, such as a URL or a header value.

    :param origin: the server's origin.
    :param where: the same, with the proxy where there is one.
    :param proxy: the URL of the proxy, without credentials.
    :param asked: whether a byte of the request may have reached the server.
    """
    causes = _causes(error)
    for cause in causes:
        known = _explain_cause(cause, error, origin=origin, where=where, proxy=proxy)
        if known is not None:
            return known
    if not isinstance(error, _EXPECTED):
        return SSEConnectionError(
            f"{where}: unexpected error ({type(error).__name__})", remedy=Remedy.READ_CAUSE, final=True
        )
    problem, remedy = _describe(error, causes[-1], asked=asked, request=request)
    final = isinstance(error, exceptions.LocationValueError) or isinstance(causes[-1], http.client.InvalidURL)
    return SSEConnectionError(f"{where}: {problem}", remedy=remedy, final=final)


def _explain_cause(
    cause: BaseException, error: Exception, *, origin: str, where: str, proxy: str | None
) -> SSEConnectionError | None:
    """Return the error for a cause that explains the failure by itself, None for any other cause."""
    if is_out_of_descriptors(cause):
        return SSEConnectionError(
            f"{where}: no file descriptor is left ({_descriptor_limit(cause)})",
            remedy="close other files and connections, or raise the limit (ulimit -n)",
        )
    if isinstance(cause, (ssl.SSLCertVerificationError, CertificateError)) or _is_wrong_fingerprint(cause):
        why = getattr(cause, "verify_message", "") or "it does not match"
        owner = f"the proxy {proxy or 'to ' + origin}" if isinstance(error, exceptions.ProxyError) else origin
        return SSEConnectionError(
            f"the certificate of {owner} was rejected ({why})",
            remedy=Remedy.TRUST_AUTHORITY,
            final=True,
        )
    if isinstance(cause, ssl.SSLError) and getattr(cause, "reason", None) in _CLIENT_CERTIFICATE_ALERTS:
        return SSEConnectionError(
            f"{where}: the client certificate was rejected or is missing ({cause.reason})",
            remedy=Remedy.SET_CLIENT_CERTIFICATE,
            final=True,
        )
    if refusal := _CONNECT_REFUSED(str(cause)) if type(cause) is OSError else None:
        return SSEConnectionError(
            f"{origin}: the proxy {proxy} answered CONNECT with status {quoted(refusal[1])}",
            remedy="check the URL and credentials of the proxy, and whether it allows this host and port",
            final=refusal[2] == "4" and refusal[3] not in {"08", "29"},
        )
    if _is_of_pysocks(cause) and type(cause).__name__ == "SOCKS5AuthError":
        return SSEConnectionError(
            f"{origin}: the SOCKS proxy refused access ({cause})",
            remedy="check the credentials in its URL",
            final=True,
        )
    return None


def _describe(error: Exception, root: BaseException, *, asked: bool, request: Request) -> tuple[str, str]:
    """Return the problem and its remedy; the remedy is "" if there is none.

    :param root: the innermost cause of `error`.
    """
    reason = getattr(root, "reason", None) if isinstance(root, ssl.SSLError) else None
    detail = reason or getattr(root, "strerror", None) or type(root).__name__
    match error:
        case exceptions.NameResolutionError():
            return f"could not resolve the host name ({detail})", "check the host in the URL, and the network"
        case exceptions.NewConnectionError():
            return (
                f"could not connect ({detail})",
                "check the host and port in the URL, and that the server is running",
            )
        case exceptions.TimeoutError() if not asked:
            return f"could not connect within {request.connect_timeout} s", Remedy.ALLOW_SLOW_CONNECT
        case exceptions.TimeoutError() if request.read_timeout is not None:
            return (
                f"no data arrived for {request.read_timeout} s, so the connection is treated as dead",
                Remedy.ALLOW_SILENCE,
            )
        case exceptions.ProxyError():
            # The texts of these errors say more than their types, and contain no secret.
            why = str(root) if isinstance(root, TimeoutError) or _is_of_pysocks(root) else detail
            return f"could not use the proxy ({why})", "check its URL and credentials, and that it is running"
        case exceptions.SSLError() if not asked:
            return f"TLS failed ({detail})", "check the scheme and port in the URL"
        case exceptions.DecodeError():
            return (
                "the response body does not match its Content-Encoding header",
                "request another encoding with Accept-Encoding",
            )
        case exceptions.InvalidHeader():
            return "the response headers contradict each other", "check the port in the URL, and the server"
        case exceptions.LocationValueError():
            return f"the host name is not valid ({detail})", "check the URL"
    match root:
        case http.client.InvalidURL():
            return "the URL is not valid", "check it"
        case http.client.RemoteDisconnected():
            return (
                "the server closed the connection without a response",
                "if this repeats, check the scheme and port in the URL",
            )
        case http.client.IncompleteRead():
            return "the response was cut short", ""
        case HTTP2Error():
            return str(root), ""
        case BadChunk():
            return "the response has invalid chunked framing", ""
        case http.client.BadStatusLine() | http.client.UnknownProtocol() | http.client.UnknownTransferEncoding():
            return f"the response is not HTTP ({detail})", "check the scheme and port in the URL"
    if isinstance(root, http.client.LineTooLong) or type(root) is http.client.HTTPException:  # too many headers
        return "the response head is too large", "check the scheme and port in the URL"
    return f"the connection broke ({detail})", ""


def as_urllib3_error(error: OSError | http.client.HTTPException) -> exceptions.HTTPError:
    """Return the error that urllib3 raises in place of an error of reading."""
    if isinstance(error, TimeoutError):
        return exceptions.ReadTimeoutError(None, None, "Read timed out.")  # type: ignore[arg-type]
    if isinstance(error, ssl.SSLError):
        return exceptions.SSLError(error)
    return exceptions.ProtocolError(f"Connection broken: {error!r}", error)


def _descriptor_limit(error: BaseException) -> str:
    """Return what limits the number of descriptors, with the number if it is the process's limit."""
    if resource is None or getattr(error, "errno", None) != errno.EMFILE:
        return str(getattr(error, "strerror", ""))
    return f"this process may open {resource.getrlimit(resource.RLIMIT_NOFILE)[0]} files"


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and its causes, outermost first; urllib3 keeps a cause as ``__cause__`` or as argument."""
    seen: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None and inner not in seen:
        seen.append(inner)
        nested = [argument for argument in inner.args if isinstance(argument, BaseException)]
        inner = nested[-1] if nested else inner.__cause__
    return seen


def _is_wrong_fingerprint(error: BaseException) -> bool:
    """Return True if a certificate does not match the fingerprint of a user's pool; urllib3 has no class for it."""
    return isinstance(error, exceptions.SSLError) and str(error).startswith("Fingerprints did not match")


def _is_of_pysocks(error: BaseException) -> bool:
    return type(error).__module__ == "socks"
