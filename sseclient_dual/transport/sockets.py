"""`AbortableSocket`: the socket of one attempt, which any thread can shut down while another connects or reads.

urllib3 exposes no socket before the response head has arrived. So its connections get their sockets from here, and
find the `AbortableSocket` of their attempt in a context variable.
"""

from __future__ import annotations

import contextlib
import contextvars
import errno
import functools
import logging
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Protocol

from urllib3.util.connection import allowed_gai_family

from sseclient_dual.logs import log
from sseclient_dual.waiting import Lock

from .dialling import dial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sseclient_dual.waiting import Deadline, Waiter

    from .dialling import Address

_IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", errno.EWOULDBLOCK)}
_LINGER_ZERO = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds


class Stream(Protocol):
    """A request over HTTP/2, see `streams`."""

    may_be_processed: bool
    """False as long as the server has certainly not acted on the request."""

    def set_timeout(self, seconds: float) -> None:
        """Limit how long each wait may take from now on."""

    def close(self) -> None:
        """Reset the stream, unless it has ended."""

    def abort(self) -> None:
        """End any wait of the stream, and reset it."""

    def disown(self) -> None:
        """In a forked child, close the copied descriptor of the parent's connection."""


class AbortableSocket:
    """The socket or HTTP/2 stream of an attempt at a request, used by one thread, aborted by any.

    :param read_timeout: seconds that each read may take, None for no limit.
    :param keep_connection: whether the connection may go back to its pool at the end of a response.
    """

    def __init__(self, *, read_timeout: float | None, keep_connection: bool) -> None:
        self.stream: Stream | None = None
        """The current request, if it is sent over HTTP/2."""
        self._sent = False  # a byte of any request may have reached a server
        self._sent_before = False  # likewise, before the current request
        self.asked = False
        """True once a byte of the current request may have reached its server; reset for each redirect."""
        self.take: Callable[[Any], bool] | None = None
        """Called with the new connection's socket, for HTTP/2; returns True to take it over."""
        self.waiter: Waiter | None = None
        """Woken by `abort`, while the attempt waits for another one."""
        self._read_timeout = read_timeout
        self._keep_connection = keep_connection
        self._lock = Lock()  # guards the attributes below; no socket is shut down after its close
        self._aborted = False
        self._resolving = False
        self._connecting: list[socket.socket] = []  # the attempts at the host's addresses
        self._sock: socket.socket | None = None  # the innermost one, or a duplicate until the handshake is done
        self._sock_is_duplicate = False
        self._shutdown = socket.socket.shutdown  # of that socket's class

    # -- called by the thread that connects and reads

    def connect(
        self,
        host: str,
        port: int,
        timeout: float | None,
        source: tuple[str, int] | None,
        options: Iterable[tuple[Any, ...]],
        *,
        keepalive: Iterable[tuple[Any, ...]] = (),
    ) -> socket.socket:
        """Open a TCP connection to the first address of `host` that accepts one; `abort` ends the wait, see `dial`.

        :param timeout: seconds for all addresses together, None for no limit.
        :param options: socket options; one that the system refuses is an error.
        :param keepalive: further options; one that the system refuses is logged once.
        :raises OSError: no address accepted a connection.
        """
        options, keepalive = list(options), list(keepalive)

        def start(address: Address) -> socket.socket:
            family, kind, protocol, _, target = address
            sock = socket.socket(family, kind, protocol)
            try:
                for option in options:
                    sock.setsockopt(*option)
                for option in keepalive:
                    _set_if_possible(sock, option)
                if source is not None:
                    sock.bind(source)
                self._start_to_connect(sock, target)
            except OSError:
                sock.close()
                raise
            return sock

        addresses = self.resolve(host, port, allowed_gai_family())
        sock = dial(addresses, timeout, start=start, close=self._stop_connecting)
        try:
            sock.settimeout(timeout)
            with self._lock:
                self._connecting.remove(sock)
                self.check_not_aborted()
                self._hold(sock.dup(), duplicate=True)
        except OSError:
            sock.close()
            raise
        return sock

    def resolve(self, host: str, port: int, family: socket.AddressFamily) -> list[tuple[Any, ...]]:
        """Return the addresses that `socket.getaddrinfo` finds, at least one; `abort` cannot end this wait.

        :raises OSError: the name has no address.
        """
        with self._lock:
            self.check_not_aborted()
            self._resolving = True
        try:
            addresses = socket.getaddrinfo(host.strip("[]"), port, family, socket.SOCK_STREAM)
        finally:
            with self._lock:
                self._resolving = False
        if not addresses:
            raise OSError(errno.EADDRNOTAVAIL, "the name has no address")
        return list(addresses)

    def _start_to_connect(self, sock: socket.socket, address: Any) -> None:  # noqa: ANN401 - of any family
        sock.settimeout(0)
        with self._lock:
            # Start connecting and register the socket in one step: abort() cannot end the wait by shutting down a
            # socket that has not started to connect.
            self.check_not_aborted()
            code = sock.connect_ex(address)
            if code and code not in _IN_PROGRESS:
                raise OSError(code, os.strerror(code))
            self._connecting.append(sock)

    def _stop_connecting(self, sock: socket.socket) -> None:
        with self._lock:
            self._connecting.remove(sock)
            sock.close()

    def sending(self, sock: Any) -> None:  # noqa: ANN401 - a socket, or urllib3's wrapper of one
        """Record that the request is being sent on `sock`, whose connection and handshake are complete."""
        self._sent = self.asked = True
        while not isinstance(sock, socket.socket):
            sock = sock.socket  # TLS within TLS
        with self._lock:
            self.check_not_aborted()
            if self._sock is not sock:
                self._hold(sock, duplicate=False)
                sock.settimeout(self._read_timeout)

    def hold_stream(self, stream: Stream) -> None:
        """Record that the request is being sent over HTTP/2, on a connection that other requests share."""
        self._sent = self.asked = True
        self.stream = stream
        self.check_not_aborted()

    @property
    def sent(self) -> bool:
        """True once a byte of any request may have reached a server, unless that did certainly not act on it."""
        is_unprocessed = self.stream is not None and not self.stream.may_be_processed
        return self._sent_before if is_unprocessed else self._sent

    def begin_request(self) -> None:
        """Prepare for the next request: after a redirect, or over another version of HTTP."""
        self._sent_before = self.sent
        self.asked = False
        self.stream = None

    def set_timeout(self, seconds: float) -> None:
        """Limit how long each read may take from now on."""
        if self.stream is not None:
            self.stream.set_timeout(seconds)
        with self._lock:
            if self._sock is not None:
                self._sock.settimeout(seconds)

    def _hold(self, sock: socket.socket, *, duplicate: bool) -> None:
        self.release()
        self._sock = sock
        self._sock_is_duplicate = duplicate
        # Looked up per socket: sockets made before gevent patches the module have another class.
        self._shutdown = socket.socket.shutdown

    def release(self) -> None:
        """Forget the socket, whose owner is about to close it."""
        with self._lock:
            sock, self._sock = self._sock, None
            if sock is not None and self._sock_is_duplicate:
                sock.close()

    def release_with_reset(self) -> None:
        """Forget the socket as `release` does, and make its close send a TCP reset; reset the stream."""
        if self.stream is not None:
            self.stream.close()
        with self._lock:
            if self._sock is not None:
                _reset_on_close(self._sock)
            self.release()

    def release_to_pool(self) -> bool:
        """Forget the socket at the end of its response; return True if the pool may keep its connection."""
        with self._lock:
            self.release()
            return self._keep_connection and not self._aborted

    def check_not_aborted(self) -> None:
        """Raise an error if `abort` was called."""
        if self._aborted:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the connection was closed meanwhile")

    # -- called by any thread

    @property
    def is_aborted(self) -> bool:
        """True once `abort` was called."""
        return self._aborted

    def abort(self) -> bool:
        """End any wait of the attempt, without blocking; nothing is sent from now on.

        :returns: True if the attempt ends at once; False while the host name is being resolved.
        """
        with self._lock:
            self._aborted = True
            for sock in self._connecting:
                _reset_on_close(sock)
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            if self._sock is not None:
                _reset_on_close(self._sock)
                # Not the socket's own method: that of a TLS socket drops the TLS layer, and the concurrent read
                # would return ciphertext.
                with contextlib.suppress(OSError):
                    self._shutdown(self._sock, socket.SHUT_RDWR)
            waiter, stream = self.waiter, self.stream  # once: the attempt replaces them without the lock
            if waiter is not None:
                waiter.wake()
            if stream is not None:
                stream.abort()
            return not self._resolving

    def disown(self) -> None:
        """In a forked child, close the copied descriptors of the parent's connection, which stays open there."""
        socks = [*self._connecting, *filter(None, [self._sock])]
        self._connecting, self._sock = [], None
        for sock in socks:
            with contextlib.suppress(OSError):
                os.close(sock.detach())
        if self.stream is not None:
            self.stream.disown()


def receive_until(deadline: Deadline, sock: Any) -> Callable[[int], bytes]:  # noqa: ANN401 - a socket, or a wrapper of one
    """Return the method `recv` of a socket, limited by `deadline`: its own timeout limits each call by itself."""
    receive = sock.recv

    def limited(size: int) -> bytes:
        limit(sock, deadline)
        received: bytes = receive(size)
        return received

    return limited


def limit(sock: Any, deadline: Deadline) -> None:  # noqa: ANN401 - a socket, or a wrapper of one
    """Set the timeout of a socket to what is left until `deadline`.

    :raises TimeoutError: nothing is left.
    """
    left = deadline.remaining()
    if left == 0:
        raise TimeoutError("timed out")  # as a socket does
    sock.settimeout(left)


def _set_if_possible(sock: socket.socket, option: tuple[Any, ...]) -> None:
    """Set an option unless the system refuses it, as some sandboxes do."""
    try:
        sock.setsockopt(*option)
    except OSError as error:
        _log_refused_option(error.strerror)


@functools.cache
def _log_refused_option(why: str) -> None:
    """Log it once in a process: it happens again at every connect."""
    log(logging.DEBUG, "the system refused a TCP keep-alive option, which is left out (%s)", why)


def _reset_on_close(sock: socket.socket) -> None:
    """Make the close of `sock` send a reset; otherwise a server that is sending may block for a minute."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)


current_socket: contextvars.ContextVar[AbortableSocket] = contextvars.ContextVar("current_socket")
"""The socket of the attempt for which urllib3 makes or uses a connection in this context."""
