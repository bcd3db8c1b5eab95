"""TLS settings: how certificates are checked, for the connections of a pool."""

from __future__ import annotations

import errno
import os
import ssl
from pathlib import Path
from typing import Any

from urllib3.util.ssl_ import resolve_cert_reqs

_TLS_SETTINGS = frozenset(
    {"ssl_context", "cert_reqs", "ca_certs", "ca_cert_dir", "ca_cert_data", "cert_file", "key_file", "key_password",
     "assert_hostname", "assert_fingerprint", "ssl_version", "ssl_minimum_version", "ssl_maximum_version"}
)  # fmt: skip


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
    context, reqs = settings.get("ssl_context"), settings.get("cert_reqs")
    mode = context.verify_mode if reqs is None and context is not None else resolve_cert_reqs(reqs)
    return bool(mode != ssl.CERT_NONE)


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
        self._context = context

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of the context
        return getattr(self._context, name)

    def _ignore(self, *_settings: object) -> None:
        """Leave the context unchanged."""

    set_alpn_protocols = _ignore
    load_verify_locations = _ignore  # earlier versions of urllib3 add the server's authorities to a proxy's context
