"""urllib3's connections and pools, with sockets that come from an `AbortableSocket`.

These are the only urllib3 internals that the package overrides; docs/design.rst lists them.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import urllib3
import urllib3.connection
from urllib3 import exceptions

from sseclient_dual.waiting import Deadline

from .response import Response
from .sockets import AbortableSocket, current_socket, receive_until

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

    from .streams import StreamFile

_KEEPALIVE_OPTIONS = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (
        ("TCP_KEEPIDLE", 60),
        ("TCP_KEEPALIVE", 60),
        ("TCP_KEEPINTVL", 15),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", 120_000),  # the same limit while data is unacknowledged, which suspends the probes
    )
    if hasattr(socket, name)
]
SOCKET_OPTIONS = [*urllib3.connection.HTTPConnection.default_socket_options]
"""The socket options of connections, unless the user's pool has its own; only these are joined by keep-alive."""


class HTTPConnection(urllib3.connection.HTTPConnection):
    """A connection whose socket is made, watched and shut down by the `AbortableSocket` of the current attempt."""

    abortable: AbortableSocket | None = None
    raw_response: Response | None = None
    """The response that http.client reads, inside urllib3's; None once the connection is back in its pool."""
    _connecting = False
    _deadline: Deadline | None = None  # of the exchange with the proxy
    _proxy_sock: Any = None  # whose `recv` is limited during the handshake in the tunnel

    def _new_conn(self) -> socket.socket:
        try:
            return self._open_socket()
        except socket.gaierror as error:
            raise exceptions.NameResolutionError(self.host, self, error) from error
        except UnicodeError as error:
            raise exceptions.LocationParseError(self.host) from error
        except TimeoutError as error:
            raise exceptions.ConnectTimeoutError(self, "timed out") from error
        except OSError as error:
            raise exceptions.NewConnectionError(self, str(error)) from error

    def _open_socket(self) -> socket.socket:
        return self._connect_socket(self._dns_host, self.port)

    def _connect_socket(self, host: str, port: int) -> socket.socket:
        self.abortable = current_socket.get()
        return self.abortable.connect(
            host,
            port,
            self.timeout,
            self.source_address,
            self.socket_options or (),
            # By identity: a user's pool may have equal options, and those must not be ignored.
            keepalive=_KEEPALIVE_OPTIONS if self.socket_options is SOCKET_OPTIONS else (),
        )

    def connect(self) -> None:
        """Connect, and tell this apart from sending the request: a proxy's CONNECT is sent meanwhile."""
        self._connecting = True
        try:
            super().connect()
        finally:
            self._connecting = False
            proxy_sock, self._proxy_sock = self._proxy_sock, None
            if proxy_sock is not None:
                del proxy_sock.recv

    def _tunnel(self) -> None:
        """Ask the proxy for a tunnel; limit the whole exchange by the connect timeout, and then the TLS handshake."""
        self._deadline = Deadline(self.timeout)
        try:
            super()._tunnel()
        finally:
            self._deadline = None
        self.sock.settimeout(self.timeout)
        if self.proxy is not None and self.proxy.scheme == "https":
            # The handshake of TLS in TLS reads through this socket; that of a plain one has a limit of its own.
            self._proxy_sock = self.sock
            self._proxy_sock.recv = receive_until(Deadline(self.timeout), self.sock)

    def send(self, data: Any) -> None:  # noqa: ANN401 - as in http.client
        """Send a part of the request on the socket of the current attempt."""
        if self.sock is None:
            self.connect()
        if not self._connecting:
            self.abortable = current_socket.get()
            self.abortable.sending(self.sock)
        super().send(data)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        """Return the response, and close the one of http.client if its head is malformed."""
        # urllib3 logs malformed heads with the URL: remove the query, which may contain a secret.
        options = self._response_options
        if options is not None:
            self._response_options = options._replace(request_url=options.request_url.partition("?")[0])
        self.raw_response = None
        try:
            return super().getresponse()
        except BaseException:
            if self.raw_response is not None:  # urllib3 does not close it if its headers contradict each other
                self.raw_response.close()
            raise

    def response_class(self, *args: Any, **options: Any) -> Response:  # type: ignore[override]  # noqa: ANN401
        """Make http.client's response, and keep it for `raw_response_of`."""
        self.raw_response = Response(*args, deadline=self._deadline, **options)
        return self.raw_response


class HTTPSConnection(HTTPConnection, urllib3.connection.HTTPSConnection):
    """The same over TLS."""

    def connect(self) -> None:
        """Connect, with the TLS settings of the proxy if it forwards requests for https."""
        config = self.proxy_config
        if self.proxy_is_forwarding and config is not None and config.ssl_context is not None:
            # All TLS is with the proxy. Earlier versions of urllib3 read only these attributes.
            self.ssl_context, self.cert_reqs = config.ssl_context, config.ssl_context.verify_mode
            self.ca_certs = self.ca_cert_dir = self.ca_cert_data = self.cert_file = self.key_file = None
            self.assert_hostname, self.assert_fingerprint = config.assert_hostname, config.assert_fingerprint
        super().connect()


class TakenOver(Exception):  # noqa: N818 - not an error
    """The socket of a new connection serves HTTP/2, and the request is yet to be sent there."""


class HTTPConnectionPool(urllib3.HTTPConnectionPool):
    """A pool that keeps a connection only if the `AbortableSocket` of its attempt allows it."""

    ConnectionCls = HTTPConnection

    def _put_conn(self, conn: Any) -> None:  # noqa: ANN401 - urllib3's type for it is private
        keep = True
        if conn is not None:
            # The pool must not keep the attempt and its response alive.
            abortable, conn.abortable, conn.raw_response = conn.abortable, None, None
            keep = abortable.release_to_pool()
        if keep:
            super()._put_conn(conn)
        else:
            conn.close()

    def _validate_conn(self, conn: Any) -> None:  # noqa: ANN401
        if current_socket.get().take is not None:
            _connect_and_offer(conn)


class HTTPSConnectionPool(HTTPConnectionPool, urllib3.HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = HTTPSConnection

    def _validate_conn(self, conn: Any) -> None:  # noqa: ANN401
        # Without urllib3's warning about unchecked certificates: the client warns once, in the caller's frame.
        _connect_and_offer(conn)


def _connect_and_offer(conn: Any) -> None:  # noqa: ANN401
    """Connect, unless that is done, and offer the socket to the current attempt.

    :raises TakenOver: it took the socket.
    """
    if conn.is_closed:
        conn.connect()
    take = current_socket.get().take
    if take is not None and take(conn.sock):
        conn.sock = None
        raise TakenOver


POOL_CLASSES = {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}


def raw_response_of(response: BaseHTTPResponse) -> Response | StreamFile | None:
    """Return the response inside one of urllib3, None if its connection is back in the pool."""
    connection: Any = response.connection
    return connection.raw_response if isinstance(connection, HTTPConnection) else connection
