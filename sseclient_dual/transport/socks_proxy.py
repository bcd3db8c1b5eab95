"""SOCKS proxies; imported only when one is used, because it needs PySocks (the extra ``socks``)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import socks  # type: ignore[import-untyped]
import urllib3
from urllib3.contrib.socks import SOCKSConnection, SOCKSProxyManager
from urllib3.util.connection import allowed_gai_family

from sseclient_dual.waiting import Deadline

from .connections import HTTPConnection, HTTPConnectionPool, HTTPSConnection, HTTPSConnectionPool
from .sockets import current_socket, limit

if TYPE_CHECKING:
    from .proxies import Proxy

_DEFAULT_PORT = 1080


class _ConnectedSocket(socket.socket):
    def connect(self, _address: Any) -> None:  # noqa: ANN401 - as in socket
        """Do nothing: the `AbortableSocket` has connected it to the proxy."""


class _SOCKSSocket(socks.socksocket, _ConnectedSocket):  # type: ignore[misc]
    """PySocks' negotiation on a connected socket; only the negotiation calls `recv_into`.

    :ivar deadline: limits all reads of the negotiation together.
    """

    deadline: Deadline

    def recv_into(self, *arguments: Any) -> int:  # noqa: ANN401 - as in socket
        """Receive some bytes, unless the deadline has passed."""
        limit(super(socks.socksocket, self), self.deadline)  # PySocks' own method would keep the rest as its timeout
        received: int = super().recv_into(*arguments)
        return received


class _SOCKSHTTPConnection(HTTPConnection, SOCKSConnection):
    def _open_socket(self) -> socket.socket:
        options: Any = self._socks_options
        host, port, version = options["proxy_host"], options["proxy_port"] or _DEFAULT_PORT, options["socks_version"]
        target = self.host
        if not options["rdns"]:  # resolved here, so that abort() knows about it
            family = socket.AF_INET if version == socks.SOCKS4 else allowed_gai_family()
            target = current_socket.get().resolve(target, self.port, family)[0][4][0]
        try:
            plain = self._connect_socket(host, port)
            sock = _SOCKSSocket(plain.family, plain.type, plain.proto, fileno=plain.detach())
            try:
                sock.settimeout(self.timeout)
                sock.deadline = Deadline(self.timeout)
                sock.set_proxy(version, host, port, options["rdns"], options["username"], options["password"])
                sock.connect((target, self.port))
                sock.settimeout(self.timeout)
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            cause = getattr(error, "socket_err", None) or error  # PySocks wraps the errors of sockets
            raise urllib3.exceptions.ProxyError("SOCKS", cause) from cause
        return sock


class _SOCKSHTTPSConnection(_SOCKSHTTPConnection, HTTPSConnection):
    pass


class _SOCKSHTTPPool(HTTPConnectionPool):
    ConnectionCls = _SOCKSHTTPConnection  # type: ignore[assignment]


class _SOCKSHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _SOCKSHTTPSConnection  # type: ignore[assignment]


def make_socks_manager(proxy: Proxy, settings: dict[str, Any]) -> urllib3.PoolManager:
    """Return the pool manager for a SOCKS proxy."""
    manager = SOCKSProxyManager(proxy.url, *(proxy.auth or (None, None)), **settings)
    manager.pool_classes_by_scheme = {"http": _SOCKSHTTPPool, "https": _SOCKSHTTPSPool}
    return manager
