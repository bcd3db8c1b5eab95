"""TLS settings: how certificates are checked, for the connections of a pool."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import SSLError
from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs, resolve_ssl_version

if TYPE_CHECKING:
    from collections.abc import Iterator

_TLS_SETTINGS = frozenset(
    {"ssl_context", "cert_reqs", "ca_certs", "ca_cert_dir", "ca_cert_data", "cert_file", "key_file", "key_password",
     "assert_hostname", "assert_fingerprint", "ssl_version", "ssl_minimum_version", "ssl_maximum_version"}
)  # fmt: skip
_CONTEXT_SETTINGS = _TLS_SETTINGS - {"assert_hostname", "assert_fingerprint"}  # that make a context
_IN_HASHED_FOLDER = re.compile(r"[0-9a-f]{8}\.\d+").fullmatch  # the names that OpenSSL looks up


def tls_settings(
    settings: dict[str, Any],
    verify: bool | str | None,  # noqa: FBT001 - or a path
    ssl_context: ssl.SSLContext | None,
) -> dict[str, Any]:
    """Return the changes to the pool settings `settings` that `verify` and `ssl_context` ask for.

    :param verify: whether to check certificates, or the path of the authorities' certificates; None for no change.
    :param ssl_context: replaces all other TLS settings.
    :raises TypeError: an argument has the wrong type, or both are given.
    :raises ValueError: `verify` is not a path of certificates, or `settings` would change a context of the user.
    """
    if ssl_context is not None:
        if not isinstance(ssl_context, ssl.SSLContext):
            raise TypeError(f"ssl_context must be an ssl.SSLContext, not {type(ssl_context).__name__}")
        if verify is not None:
            raise TypeError("pass either verify or ssl_context, not both: the context has all TLS settings")
        return dict.fromkeys(_TLS_SETTINGS & settings.keys()) | {"ssl_context": UnmodifiedContext(ssl_context)}
    own = settings.get("ssl_context")
    if verify is None:
        if not isinstance(own, ssl.SSLContext):
            return {}
        check_unmodified("an ssl_context", own, settings)
        return {"ssl_context": UnmodifiedContext(own)}
    if verify is True and (own is None or own.verify_mode == ssl.CERT_REQUIRED):
        return {} if own is not None else {"cert_reqs": ssl.CERT_REQUIRED}  # with the authorities that are set
    authorities = dict.fromkeys({"ssl_context", "ca_certs", "ca_cert_dir", "ca_cert_data"} & settings.keys())
    if isinstance(verify, bool):
        return authorities | {"cert_reqs": ssl.CERT_REQUIRED if verify else ssl.CERT_NONE}
    if not isinstance(verify, (str, os.PathLike)):
        raise TypeError(f"verify must be a bool or a path, not {type(verify).__name__}")
    path = os.fspath(verify)
    kind = "ca_cert_dir" if Path(path).is_dir() else "ca_certs"
    try:
        if not path:  # would otherwise be the current folder
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if kind == "ca_certs":
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:  # includes ssl.SSLError
        raise ValueError(
            f"verify must be the path of a certificate file or folder: could not load {path!r} ({error.strerror})"
        ) from error
    return authorities | {"cert_reqs": ssl.CERT_REQUIRED, kind: path}


def checks_certificates(settings: dict[str, Any]) -> bool:
    """Return True if a pool with these settings rejects untrusted certificates."""
    if settings.get("assert_fingerprint"):
        return True
    return _verify_mode(settings) != ssl.CERT_NONE


def _verify_mode(settings: dict[str, Any]) -> ssl.VerifyMode:
    context, reqs = settings.get("ssl_context"), settings.get("cert_reqs")
    return resolve_cert_reqs(context.verify_mode if reqs is None and context is not None else reqs)


def check_unmodified(name: str, context: ssl.SSLContext, settings: dict[str, Any]) -> None:
    """Refuse settings beside `context` that urllib3 would apply to it.

    :raises ValueError: there are such settings.
    """
    names = [name for name in ("ca_certs", "ca_cert_dir", "ca_cert_data", "cert_file") if settings.get(name)]
    if settings.get("cert_reqs") is not None and resolve_cert_reqs(settings["cert_reqs"]) != context.verify_mode:
        names.append("cert_reqs")
    if context.check_hostname:
        names += [n for n in ("assert_hostname", "assert_fingerprint") if settings.get(n) is not None]
    if names:
        raise ValueError(
            f"pool has {name}, and {names[0]}, which would change that context: configure the context instead"
        )


class UnmodifiedContext:
    """Wraps the caller's TLS context and ignores the changes that urllib3 makes."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._wrapped = context

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of the context
        return getattr(self._context(), name)

    def _context(self) -> ssl.SSLContext:
        return self._wrapped

    def _ignore(self, *_settings: object) -> None:
        """Leave the context unchanged."""

    set_alpn_protocols = _ignore
    load_verify_locations = _ignore  # earlier versions of urllib3 add the server's authorities to a proxy's context


class OwnContext(UnmodifiedContext):
    """Makes a TLS context from pool settings at its first use, once, because loading the authorities is slow.

    Later connections open no file, so a lack of descriptors cannot make them reject a certificate.

    :param settings: the pool's.
    :param assert_hostname: replaces OpenSSL's check of the host name, as in urllib3.
    :param assert_fingerprint: likewise.
    :param send_certificate: whether to send the client certificate of the settings.
    :param http2: whether to offer HTTP/2 to the server.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        *,
        assert_hostname: str | bool | None,
        assert_fingerprint: str | None,
        send_certificate: bool,
        http2: bool = False,
    ) -> None:
        self._settings = settings
        self._protocols = ["h2", "http/1.1"] if http2 else ["http/1.1"]
        self._send_certificate = send_certificate
        self._lock = threading.Lock()  # guards _made
        self._made: ssl.SSLContext | None = None
        # urllib3 reads and sets these three for each connection, before it uses the context.
        self.verify_mode = _verify_mode(settings)
        asserts = assert_fingerprint or assert_hostname or assert_hostname is False
        self.check_hostname = self.verify_mode == ssl.CERT_REQUIRED and not asserts
        self.hostname_checks_common_name = False

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._made is None:
                try:
                    self._made = self._make_context()
                except OSError as error:  # includes ssl.SSLError
                    raise SSLError(error) from error
            return self._made

    def _make_context(self) -> ssl.SSLContext:
        setting = self._settings.get
        context = create_urllib3_context(
            resolve_ssl_version(setting("ssl_version")),
            self.verify_mode,
            ssl_minimum_version=setting("ssl_minimum_version"),
            ssl_maximum_version=setting("ssl_maximum_version"),
        )
        context.check_hostname = self.check_hostname
        context.set_alpn_protocols(self._protocols)
        self._load_authorities(context)
        certificate, password = setting("cert_file"), setting("key_password")
        if certificate and self._send_certificate:
            context.load_cert_chain(
                certificate, setting("key_file"), _refuse_prompt if password is None else password
            )
        return context

    def _load_authorities(self, context: ssl.SSLContext) -> None:
        setting = self._settings.get
        file, folder, data = setting("ca_certs"), setting("ca_cert_dir"), setting("ca_cert_data")
        if file or folder or data:
            file, folder = (path and os.path.expanduser(path) for path in (file, folder))  # noqa: PTH111 - "" stays
            context.load_verify_locations(file, folder, data)
        elif self.verify_mode != ssl.CERT_NONE:
            context.load_default_certs()
            paths = ssl.get_default_verify_paths()
            if not context.cert_store_stats()["x509"] and paths.cafile:
                with _ignoring_invalid_files():
                    context.load_verify_locations(paths.cafile)  # OpenSSL skipped it if it could not open it
            if not context.cert_store_stats()["x509"]:
                folder = paths.capath
        if folder:
            _load_folder(context, folder)


def _refuse_prompt() -> str:
    """Raise an error instead of letting OpenSSL ask for the password on the terminal."""
    raise SSLError("Client private key is encrypted, password is required")


def _load_folder(context: ssl.SSLContext, folder: str) -> None:
    """Load the authorities of a folder now: in a handshake, OpenSSL skips the files that it cannot open."""
    paths: list[Path] = []
    with _ignoring_invalid_files():
        paths += Path(folder).iterdir()
    for path in paths:
        if _IN_HASHED_FOLDER(path.name):
            with _ignoring_invalid_files():
                context.load_verify_locations(path)


@contextlib.contextmanager
def _ignoring_invalid_files() -> Iterator[None]:
    """Ignore errors of loading authorities, as OpenSSL does, unless no descriptor is left."""
    try:
        yield
    except OSError as error:
        if is_out_of_descriptors(error):
            raise


def is_out_of_descriptors(error: BaseException) -> bool:
    """Return True if the process, or the whole system, has too many files and sockets open."""
    return (
        isinstance(error, OSError)
        and not isinstance(error, ssl.SSLError)  # whose errno is a code of OpenSSL
        and error.errno in {errno.EMFILE, errno.ENFILE}
    )


def with_own_context(settings: dict[str, Any], *, http2: bool) -> dict[str, Any]:
    """Return the pool settings `settings` with one `OwnContext` for all connections, unless they have a context.

    :param http2: see `OwnContext`.
    """
    if settings.get("ssl_context") is not None:
        return settings
    context = OwnContext(
        settings,
        assert_hostname=settings.get("assert_hostname"),
        assert_fingerprint=settings.get("assert_fingerprint"),
        send_certificate=True,
        http2=http2,
    )
    return {name: value for name, value in settings.items() if name not in _CONTEXT_SETTINGS} | {
        "ssl_context": context
    }
