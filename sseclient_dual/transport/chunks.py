"""Remove the chunked framing from a response body (RFC 9112, section 7.1): pure, no I/O."""

from __future__ import annotations

import http.client
import re

from sseclient_dual.speedups import ChunksBase, compiled

_LONGEST_CHUNK_LINE = 64 * 1024  # bytes of a chunk's first line, extensions included; also of all trailers together
_LONGEST_CHUNK_SIZE = 16  # digits
_CACHED_CHUNK_SIZES = 1024
_MANY_CHUNKS = 8  # from this many on, one split is faster than a loop
_SMALL_CHUNK = 4096  # bytes
_split_at_crlf = re.compile(rb"\r\n").split  # several times as fast as bytes.split, except for short lines
_HEX_DIGITS = b"0123456789ABCDEFabcdef"


class BadChunk(http.client.HTTPException):
    """The body does not have valid chunked framing."""


class _ChunkSizes(dict[bytes, int]):
    """Chunk sizes by the first line of a chunk, -1 for an invalid line; common lines are cached."""

    def __missing__(self, line: bytes) -> int:
        digits = line.partition(b";")[0].rstrip(b" \t")
        if not 0 < len(digits) <= _LONGEST_CHUNK_SIZE or digits.strip(_HEX_DIGITS) or b"\n" in line:
            return -1
        size = int(digits, 16)
        if len(line) <= _LONGEST_CHUNK_SIZE and len(self) < _CACHED_CHUNK_SIZES:
            self[line] = size
        return size


_sizes = _ChunkSizes()  # of all bodies: each of thousands would fill a cache of its own


@compiled
class Chunks(ChunksBase):
    """Decodes a chunked body block by block; a block may contain any number of chunks, cut anywhere."""

    __slots__ = ("_left", "_line", "_trailers", "_within", "broken", "last", "stopped")

    def __init__(self) -> None:
        self.last = False
        """True once the last chunk was read, so that only trailers follow."""
        self.stopped = False
        """True once the end of the body, or invalid framing, was read; the data returned before it is valid."""
        self.broken = False
        """True if it was invalid framing."""
        self._left = 0  # bytes of the current chunk still to come
        self._within = False  # True if the next line ends a chunk's data
        self._line = b""  # the beginning of the current line
        self._trailers = 0  # bytes of trailers read so far

    def feed(self, block: bytes) -> list[bytes]:
        """Take the next bytes of the framed body; return the data in them, one piece per chunk."""
        if not (self._left or self._within or self.last or self._line):
            # Fast path for a live event: the block is one chunk.
            end = block.find(b"\r\n")
            if end > 0 and 0 < _sizes[block[:end]] == len(block) - end - 4 and block[-2:] == b"\r\n":
                return [block[end + 2 : -2]]
        pieces: list[bytes] = []
        position = 0
        looked_ahead = False
        while position < len(block) and not self.stopped:
            if self._left:
                piece = block[position : position + self._left]
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                continue
            if not (looked_ahead or self._within or self.last or self._line):
                looked_ahead = True
                position = self._take_whole(block, position, pieces)
            end = block.find(b"\n", position) + 1
            self._line += block[position : end or None]
            if end:
                position = end
                self._take_line()
            elif len(self._line) > _LONGEST_CHUNK_LINE:
                self.stopped = self.broken = True
            else:
                break
        return pieces

    def _take_whole(self, block: bytes, position: int, pieces: list[bytes]) -> int:
        """Append the data of complete chunks to `pieces`; return the position after them.

        Stop at anything else, the last chunk included: `feed` handles that line by line.
        """
        tried_split = False
        while (end := block.find(b"\r\n", position)) >= 0:
            size = _sizes[block[position:end]]
            if size < min(_SMALL_CHUNK, (len(block) - position) // _MANY_CHUNKS) and not tried_split:
                # Fast path for many small chunks: split at every CRLF. If each odd line is as long as the size line
                # before it says, the lines are the chunks, and no data contains a CRLF.
                tried_split = True
                *lines, rest = _split_at_crlf(block[position:] if position else block)
                if len(lines) % 2:
                    rest = lines.pop() + b"\r\n" + rest
                data = lines[1::2]
                if all(data) and list(map(_sizes.__getitem__, lines[::2])) == list(map(len, data)):
                    pieces += data
                    return len(block) - len(rest)
            begin, end = end + 2, end + 2 + size
            if size <= 0 or block[end : end + 2] != b"\r\n":
                break
            pieces.append(block[begin:end])
            position = end + 2
        return position

    def _take_line(self) -> None:
        line, self._line = self._line.rstrip(b"\r\n"), b""
        if self.last:
            self._trailers += len(line)
            self.broken = self._trailers > _LONGEST_CHUNK_LINE
            self.stopped = not line or self.broken
        elif self._within:
            self._within = False
            self.stopped = self.broken = bool(line)
        else:
            size = _sizes[line]
            self.stopped = self.broken = size < 0
            self._left = max(size, 0)
            self._within = True
            self.last = size == 0
