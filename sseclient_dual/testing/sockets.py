"""The socket of an accepted connection: bytes in and out, with or without TLS, waits and ends."""

from __future__ import annotations

import os
import selectors
import socket
import ssl
import struct
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .steps import Gate

_READ_SIZE: Final = 65536  # bytes


class PeerGone(Exception):  # noqa: N818 - ends the connection, and is not an error
    """The peer has disconnected, or was disconnected by `Link.drop`."""


class Link:
    """An accepted TCP connection, used by its own thread; only `drop` is called by others.

    TLS runs in memory, between the socket and `received`. So there is only the socket to wait for, with and without
    TLS; and a disconnect is noticed even before the handshake, since data can be received then.

    The streams of HTTP/2 share a link: they hold a lock around every method except `recv` and `drop`.
    """

    def __init__(self, sock: socket.socket, address: tuple[str, int], serial: int) -> None:
        self.address: Final = address
        self.serial: Final = serial
        self.received = bytearray()
        """Decrypted data that is not parsed yet."""
        self._sock = sock
        self._sock.settimeout(None)
        with suppress(OSError):  # some systems refuse it on a connection that the peer has reset
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tls: ssl.SSLObject | None = None
        self._from_peer = ssl.MemoryBIO()
        self._to_peer = ssl.MemoryBIO()

    @property
    def protocol(self) -> str | None:
        """The protocol chosen by ALPN; None without TLS or ALPN."""
        return None if self._tls is None else self._tls.selected_alpn_protocol()

    def starts_with(self, data: bytes) -> bool:
        """Wait until the received data differs from the beginning of `data` or begins with it."""
        while len(self.received) < len(data) and data.startswith(self.received):
            self.receive()
        return self.received.startswith(data)

    # -- start and end

    def start_tls(self, context: ssl.SSLContext, alpn: tuple[str, ...] = ()) -> None:
        """Do the server side of a TLS handshake.

        :param alpn: the protocols to accept; () leaves them as the context has them.
        """
        tls = context.wrap_bio(self._from_peer, self._to_peer, server_side=True)
        self._from_peer.write(bytes(self.received))
        self.received.clear()
        with _socket_errors_as_peer_gone():
            while self._needs_data(partial(_do_handshake, tls, alpn)):
                self._from_peer.write(self.recv())
            self._decrypt(tls)  # a request may have arrived with the handshake
        self._tls = tls

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def drop(self) -> None:
        """Disconnect the peer, which raises `PeerGone` in the thread of this connection."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        """End the connection cleanly: with TLS by a close_notify, then by a FIN."""
        with _socket_errors_as_peer_gone():
            if self._tls is not None:
                self._needs_data(self._tls.unwrap)
            self._sock.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """End the connection by a FIN alone."""
        with _socket_errors_as_peer_gone():
            self._sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Make `close` send an RST."""
        linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # the system's `struct linger`
        with _socket_errors_as_peer_gone():
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def stop_receiving(self) -> None:
        """Raise `PeerGone` in the thread that receives."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)

    # -- waiting

    def wait_at(self, gate: Gate) -> None:
        """Wait until the gate opens."""
        woken, waker = socket.socketpair()
        wake = partial(waker.shutdown, socket.SHUT_WR)
        with woken, waker, gate._waking(wake):  # noqa: SLF001 - private to this package
            self.idle(woken=woken)

    def idle(self, *, seconds: float | None = None, woken: socket.socket | None = None) -> None:
        """Wait for some time, or until `woken` is readable; with neither, until the peer disconnects.

        Data that the peer sends meanwhile is kept.

        :raises PeerGone: the peer disconnected, or closed its sending side.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            if woken is not None:
                selector.register(woken, selectors.EVENT_READ)
            while True:
                left = None if deadline is None else deadline - time.monotonic()
                ready = [key.fileobj for key, _ in selector.select(left)]
                if self._sock in ready:
                    self.receive()
                elif ready or (left is not None and left <= 0):
                    return

    # -- bytes

    def send(self, data: bytes) -> None:
        """Send `data` at once; block while the peer's buffers are full."""
        with _socket_errors_as_peer_gone():
            if self._tls is None:
                self._sock.sendall(data)
                return
            rest = memoryview(data)
            while rest:
                rest = rest[self._tls.write(rest) :]
            self._sock.sendall(self._to_peer.read())

    def receive(self) -> None:
        """Wait for data, and append it to `received`."""
        self.take(self.recv())

    def recv(self) -> bytes:
        """Wait for data, and return it as it came."""
        with _socket_errors_as_peer_gone():
            data = self._sock.recv(_READ_SIZE)
        if not data:
            raise PeerGone
        return data

    def take(self, data: bytes) -> None:
        """Append the data of `recv` to `received`, decrypted."""
        if self._tls is None:
            self.received += data
        else:
            with _socket_errors_as_peer_gone():
                self._from_peer.write(data)
                self._decrypt(self._tls)

    def _decrypt(self, tls: ssl.SSLObject) -> None:
        def read() -> None:
            while data := tls.read(_READ_SIZE):
                self.received += data

        length_before = len(self.received)
        if not self._needs_data(read) and len(self.received) == length_before:
            raise PeerGone  # by a close_notify without data before it

    def _needs_data(self, operation: Callable[[], object]) -> bool:
        """Run a TLS operation and send its output; return whether it needs more data from the peer."""
        try:
            operation()
        except ssl.SSLWantReadError:
            return True
        else:
            return False
        finally:  # after an error, too: then the output is an alert
            self._sock.sendall(self._to_peer.read())


def _do_handshake(tls: ssl.SSLObject, alpn: tuple[str, ...]) -> None:
    """Do a step of the handshake. A context that several servers share gets the protocols of each in turn."""
    with _alpn_lock:
        if alpn or tls.context in _alpn_contexts:
            tls.context.set_alpn_protocols(alpn)
            _alpn_contexts.add(tls.context)
        tls.do_handshake()


_alpn_lock = threading.Lock()  # guards the next line, and the protocols of all contexts
_alpn_contexts: weakref.WeakSet[ssl.SSLContext] = weakref.WeakSet()  # whose protocols were set here


@contextmanager
def _socket_errors_as_peer_gone() -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ssl.SSLError included
        raise PeerGone from error
