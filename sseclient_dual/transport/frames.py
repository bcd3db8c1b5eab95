"""HTTP/2 frames: the parts that this package reads itself, and how many a server may send; no I/O.

The package ``h2`` carries the protocol. But it takes about 9 µs for a frame, and servers send one event per DATA
frame. So this package reads these itself, and passes all others on.
"""

from __future__ import annotations

import http.client
import struct
import time

DATA, SETTINGS, GOAWAY, WINDOW_UPDATE = 0x0, 0x4, 0x7, 0x8
END_STREAM, PADDED = 0x1, 0x8
HEADER_SIZE = 9
MAX_FRAME_SIZE = 16 * 1024  # bytes of payload, the default of the protocol (RFC 9113, section 4.2)

PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 1, 3, 6, 7, 8, 11
HTTP_1_1_REQUIRED = 13
_ERROR_NAMES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip

_header = struct.Struct(">IBI")
pack_header = _header.pack
unpack_header = _header.unpack_from
"""Return length and type of a frame as one number (length times 256, plus type), its flags, and its stream."""
_unpack_size_and_kind = struct.Struct(">HB6s").unpack_from
_pack_window_update = struct.Struct(">IBII").pack
_unpack_goaway = struct.Struct(">II").unpack_from


def join_payloads(data: bytes, start: int) -> tuple[bytes, int]:
    """Return the payload of the DATA frame at `start` and of those like it that follow, and the end of the last one.

    They have the same stream and flags, and a payload. Servers send one event per frame, so there may be thousands.
    """
    kind = data[start + 3 : start + HEADER_SIZE]  # with flags and stream
    pieces, end = [], len(data)
    last = end - HEADER_SIZE
    while start <= last:
        high, low, kind_here = _unpack_size_and_kind(data, start)
        begin = start + HEADER_SIZE
        stop = begin + (high << 8 | low)
        if kind_here != kind or stop > end or not begin < stop <= begin + MAX_FRAME_SIZE:
            break
        pieces.append(data[begin:stop])
        start = stop
    return b"".join(pieces), start


class HTTP2Error(http.client.HTTPException):
    """The server, or the connection to it, failed in a way that only HTTP/2 has; the text may be shown to users."""


class UnprocessedError(HTTP2Error):
    """The server has certainly not acted on the request, because the connection ends; another one may take it."""


class HTTP1RequiredError(HTTP2Error):
    """The server answers this request over HTTP/1.1 only."""


class HTTP2ProtocolError(HTTP2Error):
    """The server violates the protocol, or sends far more than it has to.

    :param code: the error code to tell it (RFC 9113, section 7).
    """

    def __init__(self, text: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(text)
        self.code = code


def error_name(code: int) -> str:
    """Return the name of an error code of RFC 9113, section 7."""
    return _ERROR_NAMES[code] if code < len(_ERROR_NAMES) else f"error {code}"


def window_update(stream_id: int, increment: int) -> bytes:
    """Return a frame that lets the server send so many bytes more; of a stream, or with 0 of the connection."""
    return _pack_window_update(4 << 8 | WINDOW_UPDATE, 0, stream_id, increment)


def parse_goaway(frame: bytes) -> tuple[int, int]:
    """Return the last stream that the server may have processed, and its error code.

    :raises HTTP2ProtocolError: the frame is too short.
    """
    if len(frame) < HEADER_SIZE + 8:
        raise HTTP2ProtocolError("the server sent an invalid GOAWAY frame", FRAME_SIZE_ERROR)
    last_stream, code = _unpack_goaway(frame, HEADER_SIZE)
    return last_stream & 0x7FFFFFFF, code


class Allowance:
    """How many frames the server may send that carry no data, such as PING, SETTINGS and empty DATA frames.

    Each costs some work and perhaps an answer, so a flood of them would keep the hub busy.
    """

    _MOST = 1000.0
    _PER_SECOND = 100.0

    def __init__(self) -> None:
        self._left = self._MOST
        self._since = time.monotonic()

    def add(self, count: int) -> None:
        """Allow further frames."""
        self._left += count

    def spend(self) -> None:
        """Count a frame.

        :raises HTTP2ProtocolError: there were too many.
        """
        self._left -= 1
        if self._left < 0:
            now = time.monotonic()
            self._left += min(self._MOST, (now - self._since) * self._PER_SECOND)
            self._since = now
            if self._left < 0:
                raise HTTP2ProtocolError(
                    "the server floods the connection with frames that carry no data", ENHANCE_YOUR_CALM
                )
