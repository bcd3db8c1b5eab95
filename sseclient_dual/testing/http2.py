"""HTTP/2 on one accepted connection: receives requests, and answers each in a stream of its own."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import h2.events
from h2.exceptions import ProtocolError

from .frames import ACK, PING, Sender, frame_head
from .requests import FrameKind, Headers, ReceivedFrame, ReceivedRequest
from .sockets import Link, PeerGone
from .streams import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from .options import HTTP2
    from .replies import Reply


class Http2Connection:
    """Receives in its own thread, and answers each request in a thread per stream.

    :param answer: records a request, and returns a callable that returns its reply.
    :param record: records a frame.
    """

    def __init__(
        self,
        link: Link,
        options: HTTP2,
        answer: Callable[[ReceivedRequest], Callable[[], Reply]],
        record: Callable[[ReceivedFrame], None],
    ) -> None:
        self._link = link
        self._options = options
        self._answer = answer
        self._record = record
        self._sender = Sender(link, max_concurrent_streams=options.max_concurrent_streams)
        self._h2 = self._sender.h2
        # Guarded by the sender's lock:
        self._incoming: dict[int, tuple[list[tuple[bytes, bytes]], bytearray]] = {}  # requests that are not complete
        self._streams: dict[int, Stream] = {}
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def serve(self) -> None:
        """Answer requests until the connection ends; raise the first error of a script."""
        try:
            self._h2.initiate_connection()
            self._receive(b"")
            while True:
                self._receive(self._link.recv())
        except PeerGone:
            pass
        finally:
            with self._sender.lock:
                self._end_streams()
            for thread in self._threads:
                thread.join()
        if self._errors:
            raise self._errors[0]

    def _receive(self, data: bytes) -> None:
        with self._sender.lock:
            try:
                self._link.take(data)
                self._handle_received()
            except PeerGone:
                self._end_streams()  # before they get the lock, because h2 lets them send no more
                raise

    # -- receiving, with the lock held

    def _end_streams(self) -> None:
        for stream in self._streams.values():
            stream.end()

    def _handle_received(self) -> None:
        """Handle the received data; send what h2 answers by itself, such as acknowledgements."""
        data = bytes(self._link.received)
        self._link.received.clear()
        try:
            events = self._h2.receive_data(data)
        except ProtocolError:
            self._sender.send(self._h2.data_to_send())  # GOAWAY
            self._link.finish()
            raise PeerGone from None
        answers = self._h2.data_to_send()
        for event in events:
            if isinstance(event, h2.events.PingReceived) and not self._options.answer_pings:
                answers = answers.replace(frame_head(8, PING, ACK, 0) + event.ping_data, b"", 1)
            self._handle(event)
        self._sender.send(answers + self._h2.data_to_send())

    def _handle(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self._incoming[event.stream_id] = event.headers, bytearray()
        elif isinstance(event, h2.events.DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self._incoming[event.stream_id][1].extend(event.data)
        elif isinstance(event, h2.events.StreamEnded):
            self._start(event.stream_id, *self._incoming.pop(event.stream_id))
        elif isinstance(event, h2.events.StreamReset):
            self._incoming.pop(event.stream_id, None)
            if event.stream_id in self._streams:
                self._streams[event.stream_id].end()
            self._log("RST_STREAM", event.stream_id, event.error_code)
        elif isinstance(event, h2.events.WindowUpdated):
            self._open_windows(event.stream_id)
            self._log("WINDOW_UPDATE", event.stream_id, event.delta)
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            self._open_windows()
        elif isinstance(event, h2.events.PingReceived):
            self._log("PING")
        elif isinstance(event, h2.events.ConnectionTerminated):
            self._log("GOAWAY", value=event.error_code)
            raise PeerGone

    def _log(self, kind: FrameKind, stream: int = 0, value: int | None = None) -> None:
        self._record(ReceivedFrame(kind, self._link.serial, stream, int(value or 0)))

    def _open_windows(self, number: int = 0) -> None:
        """Wake the streams that wait for a window: the stream with this number, or all of them."""
        for stream in list(self._streams.values()):
            if number in {0, stream.number}:
                stream.open_window()

    def _start(self, number: int, fields: list[tuple[bytes, bytes]], body: bytearray) -> None:
        """Answer a complete request in a thread, unless a GOAWAY frame has excluded it."""
        if self._sender.last_stream is not None and number > self._sender.last_stream:
            return
        pseudo = {name: value.decode("latin-1") for name, value in fields if name.startswith(b":")}
        regular = [(name, value) for name, value in fields if not name.startswith(b":")]
        if b":authority" in pseudo:
            regular.append((b"host", pseudo[b":authority"].encode("latin-1")))
        request = ReceivedRequest(
            pseudo[b":method"],
            pseudo.get(b":path", ""),
            "HTTP/2",
            Headers(regular),
            fields,
            bytes(body),
            self._link.address,
            self._link.serial,
            number,
        )
        self._streams[number] = stream = Stream(self._sender, number, self._answer(request), self._forget)
        self._threads = [*filter(threading.Thread.is_alive, self._threads), stream.thread]
        stream.thread.start()

    def _forget(self, stream: Stream, error: BaseException | None) -> None:
        """Remove a stream whose script has ended; an error cuts the connection."""
        with self._sender.lock:
            del self._streams[stream.number]
            is_last = self._sender.last_stream is not None and not self._streams
            if error is not None:
                self._errors.append(error)
                self._link.drop()
        if is_last:
            with suppress(PeerGone):
                self._sender.disconnect()
