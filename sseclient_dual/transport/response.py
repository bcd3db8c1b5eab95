"""http.client's response, reading the whole head and all chunks that one read returns."""

from __future__ import annotations

import http.client
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from .body import Body
from .chunks import BadChunk, Chunks
from .headers import combine_fields, combine_lengths, recover_fields
from .sockets import receive_until

if TYPE_CHECKING:
    from sseclient_dual.waiting import Deadline

_HEAD_READ_SIZE = 8 * 1024
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
        self.sock = sock
        self._receive = sock.recv if deadline is None else receive_until(deadline, sock)
        self._buffered = b""
        self._begun = False
        self._room = _LONGEST_HEAD

    def take_buffered(self) -> bytes:
        """Return the bytes that came with the head."""
        buffered, self._buffered = self._buffered, b""
        return buffered

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
            buffered, self._buffered = self._buffered[:size], self._buffered[size:]
            return buffered
        try:
            block: bytes = self._receive(size)
        except BrokenPipeError:  # the end of the stream, see `Body`
            return b""
        return block


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

    def body(self) -> Body | None:
        """Return the body, to be read in place of this object and without blocking; None if that is impossible.

        It is for a body with a content coding or a length, which urllib3 decodes or checks, and for TLS within TLS.
        """
        file = self._file
        if self.fp is None or self.is_encoded or self.length is not None or not isinstance(file.sock, socket.socket):
            return None
        file.sock.settimeout(0)
        return Body(file.sock, self._chunks if self.chunked else None, file.take_buffered(), file.close)

    def finish(self) -> None:
        """Consider the body as read to its end."""
        self._close_conn()  # type: ignore[attr-defined]

    def read1(self, n: int = -1) -> bytes:
        """Return the next bytes of the body as soon as they arrive; b"" at its end."""
        if self.fp is None or not self.chunked:
            return super().read1(n)
        while not self._pieces:
            if self._chunks.broken:
                raise BadChunk
            block = b"" if self._chunks.stopped else self.fp.read1(n)
            if block:
                pieces = self._chunks.feed(block)
                # Return compressed chunks singly, so that an undecodable one does not discard the others.
                self._pieces = pieces[::-1] if self.is_encoded else [b"".join(pieces)] if pieces else []
            elif self._chunks.last:  # some servers omit the line after the last chunk
                self.finish()
                return b""
            else:
                raise http.client.IncompleteRead(b"")
        return self._pieces.pop()
