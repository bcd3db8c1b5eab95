"""http.client's response, reading the whole head and all chunks that one read returns."""

from __future__ import annotations

import http.client
import socket
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from .chunks import BadChunk, Chunks
from .headers import combine_fields, combine_lengths, recover_fields
from .sockets import receive_until

if TYPE_CHECKING:
    from sseclient_dual.waiting import Deadline

_HEAD_READ_SIZE = 8 * 1024
_TLS_RECORD_SIZE = 16 * 1024  # maximum
_LONGEST_HEAD = 1024 * 1024  # bytes, interim responses included: there may be any number of those
_LONGEST_LINE = 64 * 1024  # bytes of a line of an interim head, as for http.client in a final one
_HTTP_1_0 = 10  # as http.client writes it
_STATUSES_WITHOUT_BODY = frozenset({HTTPStatus.SWITCHING_PROTOCOLS, HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class _ResponseFile:
    """The file from which a response is read, in place of the one that a socket makes.

    It returns all that the socket has, up to any size, and holds no buffer while it waits. It also detects a
    truncated head: http.client takes the end of the file for the end of the head, so that a stream cut there would
    look like a response without a media type.

    :param deadline: limits all reads together; None: the socket's timeout limits each.
    """

    def __init__(self, sock: Any, deadline: Deadline | None) -> None:  # noqa: ANN401 - a socket, or urllib3's wrapper of one
        raw = sock.makefile("rb", buffering=0)  # keeps the socket open until this file is closed
        self.close = raw.close
        self.flush = raw.flush
        self._sock = sock
        self._receive = sock.recv if deadline is None else receive_until(deadline, sock)
        self._returns_records = isinstance(sock, ssl.SSLSocket)
        self._buffered = b""
        self._begun = False
        self._room = _LONGEST_HEAD
        self._failure: OSError | None = None  # raised after the data that came before it

    def makefile(self, _mode: str) -> _ResponseFile:
        """Return itself: http.client takes this object for the socket."""
        return self

    def readline(self, limit: int) -> bytes:
        """Return a line of the head with its line end, or the first `limit` bytes of a longer line."""
        while (end := self._buffered.find(b"\n", 0, limit) + 1) == 0 and len(self._buffered) < limit:
            block = self._receive(_HEAD_READ_SIZE)
            if not block:
                if self._begun or self._buffered:
                    raise http.client.IncompleteRead(self._buffered)
                return b""
            self._buffered += block
        self._begun = True
        line, self._buffered = self._buffered[: end or limit], self._buffered[end or limit :]
        self._room -= len(line)
        if self._room < 0:
            raise http.client.LineTooLong("head")
        # A CR that ends no line would end one for http.client's parser (RFC 9112, section 2.2).
        return line[:-2].replace(b"\r", b" ") + line[-2:]

    def read1(self, size: int) -> bytes:
        """Return up to `size` bytes; wait until there are some; return b"" at the end."""
        if self._buffered:
            block, self._buffered = self._buffered[:size], self._buffered[size:]
            return block
        if self._failure is not None:
            raise self._failure
        try:
            received: bytes = self._receive(size)
        except BrokenPipeError:
            # The end of the stream without a TLS close: OpenSSL 3.6 reports instead that it could not send its alert.
            return b""
        if self._returns_records and len(received) >= _TLS_RECORD_SIZE:
            received = self._receive_records(received, size)
        return received

    def stop_blocking(self) -> socket.socket | None:
        """Make reads raise an error instead of waiting; return the socket, None if it cannot do that."""
        sock = self._sock
        if not isinstance(sock, socket.socket):  # urllib3's wrapper for TLS within TLS
            return None
        sock.settimeout(0)
        return sock

    @property
    def has_more(self) -> bool:
        """True if there is data, or an error, that the socket does not announce."""
        return bool(self._buffered or self._failure or (self._returns_records and self._sock.pending()))

    def _receive_records(self, first: bytes, size: int) -> bytes:
        """Return `first` and the data available after it: a TLS socket returns at most one record per call."""
        records, room = [first], size - len(first)
        timeout = self._sock.gettimeout()
        self._sock.settimeout(0)
        try:
            while room > 0 and (record := self._receive(room)):
                records.append(record)
                room -= len(record)
        except (ssl.SSLWantReadError, BrokenPipeError):  # the next read says which
            pass
        except OSError as error:
            self._failure = error
        finally:
            self._sock.settimeout(timeout)
        return b"".join(records)


class Response(http.client.HTTPResponse):
    """A response with a complete head; each read returns all chunks that one `recv` brought.

    Servers send one event per chunk, and http.client would return the chunks one by one.
    """

    def __init__(self, sock: Any, *args: Any, deadline: Deadline | None = None, **options: Any) -> None:  # noqa: ANN401
        self._file = _ResponseFile(sock, deadline)
        super().__init__(self._file, *args, **options)  # type: ignore[arg-type]
        self.is_encoded = False
        """True if the body has a content coding."""
        self._chunks = Chunks()
        self._pieces: list[bytes] = []  # decoded and not yet returned, the next one last

    def begin(self) -> None:
        """Read the head, and determine the coding, length and end of the body (RFC 9112, section 6.3).

        http.client considers the first field of each name only, with its white space. The combined fields replace
        those in `headers`, from which urllib3 determines the same again.
        """
        super().begin()
        recover_fields(self.headers)
        self.is_encoded = bool(combine_fields(self.headers, "Content-Encoding", ignored="identity"))
        codings = combine_fields(self.headers, "Transfer-Encoding", ignored="identity")
        length = combine_lengths(self.headers)
        combine_fields(self.headers, "Connection")
        is_ambiguous = bool(codings) and ("Content-Length" in self.headers or self.version == _HTTP_1_0)
        if codings:
            del self.headers["Content-Length"]
            length = None
        has_body = self._method != "HEAD" and self.status not in _STATUSES_WITHOUT_BODY  # type: ignore[attr-defined]
        self.chunked = has_body and codings[-1:] == ["chunked"]
        self.chunk_left = None
        self.length = length if has_body else 0
        has_end = self.chunked or self.length is not None
        self.will_close = is_ambiguous or not has_end or self._check_close()  # type: ignore[attr-defined]

    def _read_status(self) -> tuple[str, int, str]:
        """Return the status line of the final response: skip all interim responses (RFC 9110, section 15.2).

        http.client reads a proxy's response to CONNECT by this method, too.
        """
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == HTTPStatus.SWITCHING_PROTOCOLS:  # noqa: PLR2004
                return version, status, reason
            line = b""
            while line not in {b"\r\n", b"\n"}:
                line = self.fp.readline(_LONGEST_LINE + 1)
                if len(line) > _LONGEST_LINE:
                    raise http.client.LineTooLong("header line")

    def stop_blocking(self) -> socket.socket | None:
        """See `_ResponseFile.stop_blocking`; None at the end of the body, too."""
        return None if self.fp is None else self._file.stop_blocking()

    @property
    def has_more(self) -> bool:
        """True if the next read returns at once, and the socket does not announce it."""
        return self.fp is None or self._chunks.ended or self._chunks.broken or self._file.has_more

    def read1(self, n: int = -1) -> bytes:
        """Return the next bytes of the body as soon as they arrive; b"" at its end."""
        if self.fp is None or not self.chunked:
            return super().read1(n)
        while not self._pieces:
            if self._chunks.broken:
                raise BadChunk
            block = b"" if self._chunks.ended else self.fp.read1(n)
            if block:
                pieces = self._chunks.feed(block)
                # Return compressed chunks singly, so that an undecodable one does not discard the others.
                self._pieces = pieces[::-1] if self.is_encoded else [b"".join(pieces)] if pieces else []
            elif self._chunks.last:  # some servers omit the line after the last chunk
                self._close_conn()  # type: ignore[attr-defined]
                return b""
            else:
                raise http.client.IncompleteRead(b"")
        return self._pieces.pop()
