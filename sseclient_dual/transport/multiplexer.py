"""`Multiplexer`: the protocol of an HTTP/2 connection, from the bytes of its socket to its streams and back; no I/O.

The package ``h2`` does most of it, see `frames` for the rest.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from hpack import HeaderTuple, NeverIndexedHeaderTuple

from .frames import (
    CANCEL,
    DATA,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADER_SIZE,
    HTTP_1_1_REQUIRED,
    MAX_FRAME_SIZE,
    PADDED,
    REFUSED_STREAM,
    SETTINGS,
    Allowance,
    HTTP1RequiredError,
    HTTP2Error,
    HTTP2ProtocolError,
    UnprocessedError,
    error_name,
    join_payloads,
    pack_header,
    parse_goaway,
    unpack_header,
    window_update,
)
from .streams import WINDOW, WINDOW_STEP

if TYPE_CHECKING:
    from collections.abc import Callable

    from .streams import Stream

_ANSWERS = 8  # frames that answer one of ours: interim and final head, trailers, reset; windows for a part of a body
_CONNECTION_WINDOW = 16 * 1024 * 1024  # bytes for all streams together; given back as they arrive
_DEFAULT_WINDOW = 65_535
_LARGEST_HEAD = 256 * 1024  # bytes of a decoded head, counted as in RFC 9113, section 6.5.2
_MOST_LATE = 1000  # streams
_MOST_PADDING = 64 * 1024  # bytes of a stream that are given back together
_MOST_UNSENT = 64 * 1024  # bytes that wait for the socket, above which no body is added
_SETTINGS = {
    h2.settings.SettingCodes.ENABLE_PUSH: 0,
    h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
    h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: _LARGEST_HEAD,
}
_HARMLESS = frozenset(
    {
        b":method",
        b":scheme",
        b":authority",
        b"accept",
        b"accept-encoding",
        b"cache-control",
        b"content-type",
        b"user-agent",
    }
)

# The codec of the headers logs their values, which may be secret.
logging.getLogger("hpack").setLevel(logging.INFO)


class Multiplexer:
    """The state of a connection; used by one thread at a time.

    :param released: called with each stream that has ended.
    """

    def __init__(self, released: Callable[[Stream], object]) -> None:
        self.outgoing = bytearray()
        """The bytes to send; the caller removes them."""
        self.streams: dict[int, Stream] = {}
        """The open streams by their numbers."""
        self.changed: dict[Stream, None] = {}
        """The streams whose consumers are to be woken; the caller clears it."""
        self.most_streams: int | None = None
        """The number of streams that the server allows, None until it is known."""
        self.goaway: int | None = None
        """The error code with which the server announced the end of the connection."""
        self._released = released
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        self._late: dict[int, int] = {}  # the windows of the last streams that were reset: data may be on its way
        self._uploads: list[Stream] = []  # with a body that is not yet sent
        self._rest = b""  # the beginning of a frame
        self._received = 0  # bytes of DATA that are not yet given back to the connection's window
        self._allowance = Allowance()

    # -- to the server

    def begin(self) -> None:
        """Send the first frames."""
        self._h2.local_settings = h2.settings.Settings(client=True, initial_values=_SETTINGS)
        self._h2.decoder.max_header_list_size = _LARGEST_HEAD
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_CONNECTION_WINDOW - _DEFAULT_WINDOW)

    def open(self, stream: Stream) -> bool:
        """Send the head of a request; return False if the connection takes no more requests."""
        if self.goaway is not None:
            return False
        try:
            number = self._h2.get_next_available_stream_id()
            self._h2.send_headers(number, list(map(_as_secret, stream.fields)), end_stream=not stream.body)
        except (h2.exceptions.NoAvailableStreamIDError, h2.exceptions.TooManyStreamsError):
            return False
        self._allowance.add(_ANSWERS)
        stream.id = number
        stream.fields = ()
        stream.may_be_processed = True
        self.streams[number] = stream
        if stream.body:
            self._uploads.append(stream)
        return True

    def give_back(self, stream: Stream) -> None:
        """Let the server send as much more as the consumer has read, unless that is little."""
        amount = stream.consumed - stream.returned
        if amount < WINDOW_STEP or stream.id not in self.streams:
            return
        stream.returned += amount
        stream.window += amount
        if not stream.is_unsized:
            self._h2.increment_flow_control_window(amount, stream.id)
        else:
            self.outgoing += window_update(stream.id, amount)

    def reset(self, stream: Stream, code: int = CANCEL) -> None:
        """End a stream that is open."""
        with contextlib.suppress(h2.exceptions.StreamClosedError):
            self._h2.reset_stream(stream.id, code)
        self._late[stream.id] = stream.window
        if len(self._late) > _MOST_LATE:
            del self._late[next(iter(self._late))]
        self._release(stream)

    def ping(self) -> None:
        """Ask the server for an answer."""
        self._h2.ping(bytes(8))

    def close(self, code: int) -> None:
        """Tell the server that the connection ends; 0 if that is no error."""
        self._uploads.clear()
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self._h2.close_connection(code)
        self.outgoing += self._h2.data_to_send()

    def fill(self) -> bool:
        """Move what can be sent to `outgoing`; return True if a limit was reached that requests' bodies have."""
        self.outgoing += self._h2.data_to_send()
        for stream in self._uploads:
            while stream.body and len(self.outgoing) < _MOST_UNSENT:
                size = min(
                    len(stream.body), self._h2.local_flow_control_window(stream.id), self._h2.max_outbound_frame_size
                )
                if size <= 0:
                    break
                part, stream.body = stream.body[:size], stream.body[size:]
                self._h2.send_data(stream.id, bytes(part), end_stream=not stream.body)
                self.outgoing += self._h2.data_to_send()
                self._allowance.add(_ANSWERS)
                stream.touch()
        self._uploads = [stream for stream in self._uploads if stream.body]
        return len(self.outgoing) >= _MOST_UNSENT

    # -- from the server

    def receive(self, block: bytes) -> None:
        """Take the frames that a block completes.

        :raises HTTP2Error: the connection has to be closed.
        """
        data = self._rest + block if self._rest else block
        start, end = 0, len(data)
        while end - start >= HEADER_SIZE:
            size_and_kind, flags, number = unpack_header(data, start)
            size, kind = size_and_kind >> 8, size_and_kind & 0xFF
            stop = start + HEADER_SIZE + size
            if self.most_streams is None and kind != SETTINGS:
                raise HTTP2Error("the response is not HTTP/2; check that the server speaks it on this port")
            if size > MAX_FRAME_SIZE:
                raise HTTP2ProtocolError("the server sent a frame that is too large", FRAME_SIZE_ERROR)
            if stop > end:
                break
            stream = self.streams.get(number) if kind == DATA else None
            if kind == DATA and number in self._late:
                self._take_late_data(number, size)
            elif stream is None or not stream.is_unsized:
                self._take_frame(kind, data[start:stop])
            elif flags or not size:
                self._take_data(stream, data[start + HEADER_SIZE : stop], flags)
            else:
                payload, stop = join_payloads(data, start)
                self._received += len(payload)
                self._add(stream, payload)
            start = stop
        self._rest = data[start:]
        if end - start > HEADER_SIZE:
            self._take_part()
        if self._received >= _CONNECTION_WINDOW // 2:
            self.outgoing += window_update(0, self._received)
            self._received = 0

    def _take_part(self) -> None:
        """Take what has arrived of a DATA frame, which is the same as a frame of its own."""
        size_and_kind, flags, number = unpack_header(self._rest)
        stream = self.streams.get(number) if size_and_kind & 0xFF == DATA and not flags & PADDED else None
        if stream is not None and stream.is_unsized:
            part = self._rest[HEADER_SIZE:]
            self._rest = pack_header(size_and_kind - (len(part) << 8), flags, number)
            self._received += len(part)
            self._add(stream, part)

    def _take_data(self, stream: Stream, data: bytes, flags: int) -> None:
        """Take a DATA frame that is special, of a response without a length; h2 is told of the end only."""
        self._received += len(data)
        if flags & PADDED:
            data = self._without_padding(stream, data)
        if data:
            self._add(stream, data)
        if flags & END_STREAM:
            self._take_frame(DATA, b"\0\0\0\0" + bytes([END_STREAM]) + stream.id.to_bytes(4, "big"))
        elif not data:
            self._allowance.spend()

    def _take_late_data(self, number: int, size: int) -> None:
        """Take a DATA frame that was on its way when its stream was reset."""
        if not size:
            self._allowance.spend()
        self._received += size
        self._late[number] -= size
        if self._late[number] < 0:
            raise HTTP2ProtocolError("the server ignores that a stream was reset", FLOW_CONTROL_ERROR)

    def _without_padding(self, stream: Stream, data: bytes) -> bytes:
        padding = data[0] + 1 if data else 1
        if padding > len(data):
            raise HTTP2ProtocolError("the server violated HTTP/2 (padding)")
        stream.window -= padding
        stream.padding += padding
        if stream.padding >= _MOST_PADDING:
            stream.window += stream.padding
            self.outgoing += window_update(stream.id, stream.padding)
            stream.padding = 0
        return data[1 : len(data) + 1 - padding]

    def _add(self, stream: Stream, data: bytes) -> None:
        stream.window -= len(data)
        if stream.window < 0:
            raise HTTP2ProtocolError("the server ignored the window of a stream", FLOW_CONTROL_ERROR)
        stream.pieces.append(data)
        self.changed[stream] = None

    def _take_frame(self, kind: int, frame: bytes) -> None:
        """Take any other frame."""
        self._allowance.spend()
        if kind == GOAWAY:
            # After this frame, h2 would accept no other; but the streams go on.
            self._take_goaway(*parse_goaway(frame))
            return
        try:
            events = self._h2.receive_data(frame)
        except h2.exceptions.ProtocolError as error:
            raise HTTP2ProtocolError(
                f"the server violated HTTP/2 ({type(error).__name__})", error.error_code
            ) from error
        for event in events:
            handle = _HANDLERS.get(type(event))
            stream = self.streams.get(getattr(event, "stream_id", 0))
            if handle is not None and stream is not None:
                handle(self, stream, event)
        self.most_streams = self._h2.remote_settings.max_concurrent_streams

    def _take_goaway(self, last_stream: int, code: int) -> None:
        self.goaway = code
        for stream in list(self.streams.values()):
            if stream.id > last_stream:
                stream.may_be_processed = False
                stream.fail(UnprocessedError(f"the server closes the connection ({error_name(code)})"))
                self._release(stream)

    def _on_response(self, stream: Stream, event: h2.events.ResponseReceived) -> None:
        stream.respond(event.headers)
        self.changed[stream] = None

    def _on_interim(self, stream: Stream, _event: h2.events.InformationalResponseReceived) -> None:
        stream.inform()

    def _on_data(self, stream: Stream, event: h2.events.DataReceived) -> None:
        """Take a DATA frame of a response with a length, which h2 checks."""
        if event.flow_controlled_length:
            self._h2.increment_flow_control_window(event.flow_controlled_length)
        if padding := event.flow_controlled_length - len(event.data):
            with contextlib.suppress(h2.exceptions.StreamClosedError):  # by this frame
                self._h2.increment_flow_control_window(padding, stream.id)
        if event.data:
            self._allowance.add(1)  # back: this frame is no flood
            self._add(stream, event.data)

    def _on_end(self, stream: Stream, _event: h2.events.StreamEnded) -> None:
        stream.end()
        if stream.body:  # the server does not need the rest of the request
            self.reset(stream)
        else:
            self._release(stream)

    def _on_reset(self, stream: Stream, event: h2.events.StreamReset) -> None:
        if event.error_code == REFUSED_STREAM:
            stream.may_be_processed = False
        kind = HTTP1RequiredError if event.error_code == HTTP_1_1_REQUIRED else HTTP2Error
        stream.fail(kind(f"the server reset the stream ({error_name(event.error_code)})"))
        self._release(stream)

    def _release(self, stream: Stream) -> None:
        del self.streams[stream.id]
        stream.body = stream.body[:0]
        self.changed[stream] = None
        self._released(stream)


def _as_secret(field: tuple[bytes, bytes]) -> HeaderTuple:
    """Return a field that no compression table keeps (RFC 7541, section 7.1.3), unless its value is not secret."""
    return HeaderTuple(*field) if field[0] in _HARMLESS else NeverIndexedHeaderTuple(*field)


_HANDLERS: dict[type, Callable[[Multiplexer, Stream, Any], None]] = {
    h2.events.ResponseReceived: Multiplexer._on_response,  # noqa: SLF001 - its own
    h2.events.InformationalResponseReceived: Multiplexer._on_interim,  # noqa: SLF001
    h2.events.DataReceived: Multiplexer._on_data,  # noqa: SLF001
    h2.events.StreamEnded: Multiplexer._on_end,  # noqa: SLF001
    h2.events.StreamReset: Multiplexer._on_reset,  # noqa: SLF001
}
