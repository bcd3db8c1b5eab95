"""One accepted TCP connection: receives requests and plays replies, with or without TLS."""

from __future__ import annotations

import os
import selectors
import socket
import ssl
import struct
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from .replies import Body, Reply, body_length
from .requests import Headers, ReceivedRequest
from .steps import CUT, HANG, Action, Gate, Pause, Wire, actions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_READ_SIZE: Final = 65536  # bytes


class PeerGone(Exception):  # noqa: N818 - ends the connection, and is not an error
    """The peer has disconnected, or was disconnected by `Connection.drop`."""


class Connection:
    """One accepted TCP connection, used by its own thread; only `drop` is called by others.

    TLS runs in memory, between the socket and `_received`. So there is only the socket to wait for, with and without
    TLS; and a disconnect is noticed even before the handshake, since data can be received then.
    """

    def __init__(self, sock: socket.socket, address: tuple[str, int], serial: int) -> None:
        self._address = address
        self._serial = serial
        self._sock = sock
        self._sock.settimeout(None)
        with suppress(OSError):  # some systems refuse it on a connection that the peer has reset
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()  # decrypted, not parsed yet
        self._tls: ssl.SSLObject | None = None
        self._from_peer = ssl.MemoryBIO()
        self._to_peer = ssl.MemoryBIO()

    # -- start and end

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Do the server side of a TLS handshake."""
        tls = context.wrap_bio(self._from_peer, self._to_peer, server_side=True)
        self._from_peer.write(bytes(self._received))
        self._received.clear()
        with _socket_errors_as_peer_gone():
            while self._needs_data(tls.do_handshake):
                self._from_peer.write(self._recv())
            self._decrypt(tls)  # a request may have arrived with the handshake
        self._tls = tls

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def drop(self) -> None:
        """Disconnect the peer, which raises `PeerGone` in the thread of this connection."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _finish(self) -> None:
        """End the connection cleanly: with TLS by a close_notify, then by a FIN."""
        with _socket_errors_as_peer_gone():
            if self._tls is not None:
                self._needs_data(self._tls.unwrap)
            self._sock.shutdown(socket.SHUT_WR)

    def _cut(self) -> None:
        with _socket_errors_as_peer_gone():
            self._sock.shutdown(socket.SHUT_WR)

    def _reset(self) -> None:
        """Make `close` send an RST."""
        linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # the system's `struct linger`
        with _socket_errors_as_peer_gone():
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    # -- requests

    def receive_request(self) -> ReceivedRequest:
        """Receive a request with its body.

        :raises ValueError: the request is malformed; the message says how.
        """
        start, *lines = self._take_until(b"\r\n\r\n").split(b"\r\n")
        try:
            method, target, version = start.decode("latin-1").split(" ")
        except ValueError:
            raise ValueError(f"not a request line: {start!r}") from None
        raw_headers = []
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon:
                raise ValueError(f"not a header line: {line!r}")
            raw_headers.append((name, value.strip(b" \t")))
        headers = Headers(raw_headers)
        body = self._take_body(headers)
        return ReceivedRequest(method, target, version, headers, raw_headers, body, self._address, self._serial)

    def _take_body(self, headers: Headers) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return self._take(int(headers.get("content-length", 0)))
        body = bytearray()
        while size := int(self._take_until(b"\r\n").partition(b";")[0], 16):
            body += self._take(size)
            self._take_until(b"\r\n")
        while self._take_until(b"\r\n"):  # trailers
            pass
        return bytes(body)

    def _take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        if count < 0:
            raise ValueError(f"negative length: {count}")
        while len(self._received) < count:
            self._receive()
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _take_until(self, end: bytes) -> bytes:
        """Return the next bytes before `end`, and drop `end`."""
        while end not in self._received:
            self._receive()
        return self._take(self._received.index(end) + len(end))[: -len(end)]

    # -- replies

    def play(self, reply: Reply, *, keep_alive: bool) -> bool:
        """Send `reply`; return whether another request may follow.

        :param keep_alive: whether the request allows that.
        """
        steps: Iterable[Action] = actions(reply.steps)
        head, length = reply.head, reply.length
        if reply.framing == "sized" and length is None:
            steps = list(steps)
            length = str(body_length(reply, steps))
            head += f"Content-Length: {length}\r\n".encode()
        body = Body(reply)
        unsent = head and head + b"\r\n"
        if not reply.head_with_body:
            self._send(unsent)
            unsent = b""
        for step in steps:
            if isinstance(step, (bytes, Wire)):
                if data := body.piece(step):
                    self._send(unsent + data)
                    unsent = b""
            elif isinstance(step, Gate):
                self.wait_at(step)
            elif isinstance(step, Pause):
                self._idle(seconds=step.seconds)
            elif step is HANG:
                self._idle()
            elif step is CUT:
                self._cut()
                return False
            else:
                self._reset()
                return False
        self._send(unsent + body.end())
        if keep_alive and reply.persists and length in {None, str(body.length)}:
            return True
        self._finish()
        return False

    # -- waiting

    def wait_at(self, gate: Gate) -> None:
        """Wait until the gate opens."""
        woken, waker = socket.socketpair()
        with woken, waker, gate._waking(waker):  # noqa: SLF001 - private to this package
            self._idle(woken=woken)

    def _idle(self, *, seconds: float | None = None, woken: socket.socket | None = None) -> None:
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
                    self._receive()
                elif ready or (left is not None and left <= 0):
                    return

    # -- bytes

    def _send(self, data: bytes) -> None:
        """Send `data` at once; block while the peer's buffers are full."""
        with _socket_errors_as_peer_gone():
            if self._tls is None:
                self._sock.sendall(data)
                return
            rest = memoryview(data)
            while rest:
                rest = rest[self._tls.write(rest) :]
            self._sock.sendall(self._to_peer.read())

    def _receive(self) -> None:
        """Wait for data, and append it to `_received`."""
        with _socket_errors_as_peer_gone():
            data = self._recv()
            if self._tls is None:
                self._received += data
            else:
                self._from_peer.write(data)
                self._decrypt(self._tls)

    def _recv(self) -> bytes:
        data = self._sock.recv(_READ_SIZE)
        if not data:
            raise PeerGone
        return data

    def _decrypt(self, tls: ssl.SSLObject) -> None:
        def read() -> None:
            while data := tls.read(_READ_SIZE):
                self._received += data

        length_before = len(self._received)
        if not self._needs_data(read) and len(self._received) == length_before:
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


@contextmanager
def _socket_errors_as_peer_gone() -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ssl.SSLError included
        raise PeerGone from error
