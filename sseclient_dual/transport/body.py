"""`Body`: reads a response body from a socket that does not block."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, Any

from .chunks import BadChunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from .chunks import Chunks

NOTHING = 0
_SMALL_READ = 4 * 1024  # bytes: enough for a live event; a large buffer takes longer to allocate
_LARGE_READ = 128 * 1024
_TLS_RECORD_SIZE = 16 * 1024  # maximum


class Body:
    """A body without content coding and without length; one thread reads it.

    It references nothing of http.client and urllib3, because thousands of streams may be open.

    :param sock: a socket; it must not block.
    :param chunks: removes the chunked framing; None if there is none.
    :param received: the bytes that came with the response head.
    :param close: closes the socket.
    """

    __slots__ = ("_chunks", "_failure", "_is_tls", "_receive", "_received", "_size", "close", "needs", "sock")

    def __init__(self, sock: Any, chunks: Chunks | None, received: bytes, close: Callable[[], object]) -> None:  # noqa: ANN401 - with or without TLS
        self.sock = sock
        self.close = close
        self.needs = NOTHING if received else EVENT_READ
        """The event of the socket to wait for before the next `read`; NOTHING to read again at once."""
        self._receive: Callable[[int], bytes] = sock.recv
        self._received = received  # and not yet returned
        self._chunks = chunks
        self._size = _SMALL_READ
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        self._failure: OSError | None = None  # raised after the data that came before it

    def read(self) -> bytes | None:
        """Return the next bytes; None if there are none yet; b"" at the end.

        :raises OSError: the connection broke.
        :raises http.client.HTTPException: the body is cut or malformed.
        """
        chunks = self._chunks
        if chunks is not None and chunks.stopped:
            if chunks.broken:
                raise BadChunk
            return b""
        self.needs = EVENT_READ
        block: bytes | None
        if self._received:
            block, self._received = self._received, b""
        elif self._is_tls:
            block = self._receive_records()
        else:
            try:
                block = self._receive(self._size)
            except BlockingIOError:
                return None
            # Large reads as long as they find more than a small one returns.
            self._size = _SMALL_READ if len(block) < _SMALL_READ else _LARGE_READ
        if chunks is None or block is None:
            return block
        if not block:
            if chunks.last:  # some servers omit the line after the last chunk
                return b""
            raise http.client.IncompleteRead(b"")
        pieces = chunks.feed(block)
        if chunks.stopped:
            self.needs = NOTHING
        return b"".join(pieces) or None

    def _receive_records(self) -> bytes | None:
        """Return the data of the next TLS record, and of those after it if they are large.

        A TLS socket that raises a BlockingIOError is broken: it has other errors for a wait.
        """
        if self._failure is not None:
            raise self._failure
        try:
            block = self._receive(_TLS_RECORD_SIZE)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLWantWriteError:
            self.needs = EVENT_WRITE
            return None
        except BrokenPipeError:
            # The end of a stream without a TLS close: OpenSSL 3.6 reports instead that its alert could not be sent.
            block = b""
        except OSError:
            forget_tls_errors()
            raise
        if not block:
            forget_tls_errors()
        elif len(block) >= _SMALL_READ:
            block = self._with_more_records(block)
        if self._failure is not None or self.sock.pending():
            self.needs = NOTHING
        return block

    def _with_more_records(self, first: bytes) -> bytes:
        blocks, room = [first], _LARGE_READ - len(first)
        try:
            while room > 0:
                if not (block := self._receive(room)):
                    self.needs = NOTHING  # TLS has ended: the next read returns that, and TCP may stay open
                    break
                blocks.append(block)
                room -= len(block)
        except ssl.SSLWantReadError:
            pass
        except OSError as error:
            forget_tls_errors()
            if not isinstance(error, BrokenPipeError):  # pragma: no branch - of OpenSSL 3.6; the end follows
                self._failure = error
            self.needs = NOTHING
        return b"".join(blocks)


def forget_tls_errors() -> None:
    """Clear the queue in which OpenSSL keeps the errors of this thread; call it after each error and end of a socket.

    The `ssl` module does not always do so. The next operation of the thread that has to wait would then report that
    error for its own socket. The beginning of any handshake clears the queue.
    """
    handshake = getattr(_threads, "handshake", None)
    if handshake is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        handshake = _threads.handshake = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    with contextlib.suppress(ssl.SSLError):  # it waits for a client
        handshake.do_handshake()


_threads = threading.local()  # a handshake without a client for each thread
