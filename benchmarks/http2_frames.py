"""HTTP/2 as the servers of the benchmark speak it: framing by hand, so that they are not the bottleneck.

Only the heads of requests need a library; the response head is a constant.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_STREAMS = 128  # on a connection, as nginx allows
MAX_FRAME = 16_384  # bytes of the payload of a frame, unless the client allows more
END_STREAM = 0x1
_ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x4, 0x8, 0x20
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE = 0x0, 0x1, 0x3, 0x4, 0x6, 0x8
_MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE = 0x3, 0x4
_WINDOW = 65_535
_HEAD = struct.Struct(">HBBBL")  # the length in two parts, type, flags, stream
_TYPE = b"text/event-stream"
_RESPONSE = b"\x88\x0f\x10%c%b" % (len(_TYPE), _TYPE)  # :status 200, content-type; by the tables of RFC 7541


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame."""
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 255, kind, flags, stream) + payload


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    """Return a DATA frame."""
    return frame(_DATA, flags, stream, payload)


def response_head(stream: int) -> bytes:
    """Return the head of the response."""
    return frame(_HEADERS, _END_HEADERS, stream, _RESPONSE)


SETTINGS = frame(_SETTINGS, 0, 0, struct.pack(">HL", _MAX_CONCURRENT_STREAMS, MAX_STREAMS))


class Request(NamedTuple):
    """A request without a body."""

    stream: int
    target: str


class Http2:
    """The state of a server's connection: requests and windows. It does no I/O."""

    def __init__(self) -> None:
        from hpack import Decoder  # noqa: PLC0415 - the servers of the other parts need no HTTP/2

        self.answers = bytearray(SETTINGS)
        """Bytes to send, to be taken by the caller."""
        self.window = _WINDOW
        """The bytes of data that the client accepts on all streams together."""
        self.windows: dict[int, int] = {}
        """The same for each open stream."""
        self._initial_window = _WINDOW
        self._held: dict[int, bytearray] = {}  # data that waits for a window, by stream
        self._ending: set[int] = set()
        self._received = bytearray()
        self._preface = len(PREFACE)  # bytes to skip
        self._decoder = Decoder()

    def send(self, stream: int, payload: bytes) -> bytes:
        """Return the frame for `payload`; b"" if it has to wait for a window."""
        size = len(payload)
        window = self.windows.get(stream)
        if window is None:
            return b""  # the client has reset the stream
        if stream in self._held or size > window or size > self.window:
            self._held.setdefault(stream, bytearray()).extend(payload)
            return b""
        self.windows[stream] = window - size
        self.window -= size
        return _HEAD.pack(size >> 8, size & 255, _DATA, 0, stream) + payload

    def end(self, stream: int) -> bytes:
        """Return the frame that ends a stream; b"" if it has to wait."""
        if stream in self._held:
            self._ending.add(stream)
            return b""
        if self.windows.pop(stream, None) is None:
            return b""
        return data(stream, b"", END_STREAM)

    def receive(self, block: bytes) -> list[Request]:
        """Take the frames of the client; return its new requests."""
        self._received += block
        skipped = min(self._preface, len(self._received))
        del self._received[:skipped]
        self._preface -= skipped
        requests = []
        position = 0
        while len(self._received) - position >= _HEAD.size:
            high, low, kind, flags, stream = _HEAD.unpack_from(self._received, position)
            end = position + _HEAD.size + (high << 8 | low)
            if end > len(self._received):
                break
            payload = bytes(self._received[position + _HEAD.size : end])
            position = end
            if kind == _HEADERS:
                requests.append(self._open(flags, stream, payload))
            elif kind == _WINDOW_UPDATE:
                self._open_window(stream, struct.unpack(">L", payload)[0])
            elif kind == _SETTINGS and not flags & _ACK:
                self._set(payload)
            elif kind == _PING and not flags & _ACK:
                self.answers += frame(_PING, _ACK, 0, payload)
            elif kind == _RST_STREAM:
                self.windows.pop(stream, None)
                self._held.pop(stream, None)
        del self._received[:position]
        return requests

    def _open(self, flags: int, stream: int, payload: bytes) -> Request:
        assert flags & _END_HEADERS
        assert not flags & _PADDED
        fields = dict(self._decoder.decode(payload[5:] if flags & _PRIORITY else payload, raw=True))
        self.windows[stream] = self._initial_window
        return Request(stream, fields[b":path"].decode())

    def _set(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HL", payload):
            if name == _INITIAL_WINDOW_SIZE:
                self.windows = {
                    stream: window + value - self._initial_window for stream, window in self.windows.items()
                }
                self._initial_window = value
        self.answers += frame(_SETTINGS, _ACK, 0, b"")
        self._release()

    def _open_window(self, stream: int, size: int) -> None:
        if stream == 0:
            self.window += size
        elif stream in self.windows:
            self.windows[stream] += size
        self._release()

    def _release(self) -> None:
        """Send held data, as far as the windows allow."""
        for stream, held in list(self._held.items()):
            while size := max(0, min(len(held), self.windows[stream], self.window, MAX_FRAME)):
                self.answers += data(stream, bytes(held[:size]))
                del held[:size]
                self.windows[stream] -= size
                self.window -= size
            if not held:
                del self._held[stream]
                if stream in self._ending:
                    self.answers += self.end(stream)
