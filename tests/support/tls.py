"""TLS contexts and certificate files for servers on 127.0.0.1."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, TypeAlias

import trustme

if TYPE_CHECKING:
    from pathlib import Path

Tls: TypeAlias = "tuple[ssl.SSLContext, str]"
"""A server's context, and the path of the authority that signed its certificate."""


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """Return the context of a server that has this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def make_tls(folder: Path) -> Tls:
    """Return the values of the fixture `tls`; write the authority's certificate to `folder`."""
    authority = trustme.CA()
    context = server_context(authority.issue_cert("127.0.0.1"))
    path = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return context, str(path)


def context_state(context: ssl.SSLContext) -> dict[str, Any]:
    """Return all readable settings of a context, to detect changes."""
    return {
        "verify_mode": context.verify_mode,
        "check_hostname": context.check_hostname,
        "hostname_checks_common_name": context.hostname_checks_common_name,
        "options": context.options,
        "verify_flags": context.verify_flags,
        "versions": (context.minimum_version, context.maximum_version),
        "post_handshake_auth": context.post_handshake_auth,
        "ciphers": context.get_ciphers(),
        "authorities": sorted(map(repr, context.get_ca_certs())),  # OpenSSL reorders them in a handshake
        "store": context.cert_store_stats(),
        "keylog": context.keylog_filename,
    }
