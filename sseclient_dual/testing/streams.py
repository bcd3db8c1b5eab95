"""A stream of HTTP/2: plays its reply."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from .replies import Body, Reply, prepared
from .sockets import PeerGone
from .steps import HANG, Gate, GoAway, HalfChunk, Pause, ResetStream, Trailers, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from h2.connection import H2Connection

    from .frames import Sender

# Fields about a connection of HTTP/1.1, which HTTP/2 does not have (RFC 9113, section 8.2.2).
_CONNECTION_FIELDS: Final = frozenset({b"connection", b"keep-alive", b"transfer-encoding"})


class Stream:
    """Plays a reply in its own thread.

    :param reply: returns the reply.
    :param ended: called at the end, with the error of the script or None.
    """

    def __init__(
        self,
        sender: Sender,
        number: int,
        reply: Callable[[], Reply],
        ended: Callable[[Stream, BaseException | None], None],
    ) -> None:
        self.number: Final = number
        self.thread: Final = threading.Thread(
            target=self._run, args=(reply,), name=f"{threading.current_thread().name} stream {number}", daemon=True
        )
        self._sender = sender
        self._ended = ended
        self._head: list[tuple[bytes, bytes]] | None = None  # not sent yet
        self._changed = threading.Condition()  # guards the rest; taken under the lock of the sender, not around it
        self._has_ended = False
        self._has_window = True

    # -- called by the thread that receives, with the lock of the sender

    def end(self) -> None:
        """Raise `PeerGone` in the thread of the stream."""
        with self._changed:
            self._has_ended = True
            self._changed.notify()

    def open_window(self) -> None:
        """Let the stream try to send again."""
        with self._changed:
            self._has_window = True
            self._changed.notify()

    # -- the thread of the stream

    def _run(self, reply: Callable[[], Reply]) -> None:
        failure = None
        try:
            self._play(reply())
        except PeerGone:
            pass
        except BaseException as error:  # noqa: BLE001 - raised by SSEServer.close
            failure = error
        self._ended(self, failure)

    def _play(self, reply: Reply) -> None:
        reply, steps = prepared(reply)
        body = Body(reply.encoding, chunked=False)
        for code in reply.interim:
            with self._sending() as h2:
                h2.send_headers(self.number, [(b":status", b"%d" % code)])
        if reply.head:
            self._head = _head_fields(reply.head)
            if not reply.head_with_body:
                self._send_head()
        trailers: tuple[tuple[bytes, bytes], ...] = ()
        for step in steps:
            if isinstance(step, bytes) and reply.head:
                self._send_data(body.piece(step))
            elif isinstance(step, (bytes, Wire)):
                self._send_head()
                self._sender.send_unframed(self.number, step if isinstance(step, bytes) else step.data)
            elif isinstance(step, HalfChunk):
                self._send_head()
                self._sender.send_half(step.size, self.number, step.data)
            elif isinstance(step, Gate):
                self._wait_at(step)
            elif isinstance(step, Pause):
                self._wait(timeout=step.seconds)
            elif isinstance(step, GoAway):
                self._sender.go_away(step)
            elif isinstance(step, Trailers):
                trailers = step.fields
                break
            elif step is HANG:
                self._wait()
            elif isinstance(step, ResetStream):
                with self._sending() as h2:
                    h2.reset_stream(self.number, step.code)
                return
            else:
                self._sender.disconnect(step)
                return
        if reply.head:
            self._end_body(body.rest(), trailers)
        else:
            self._sender.disconnect()

    def _send_head(self) -> None:
        """Send the head, unless that is done."""
        if self._head is not None:
            with self._sending() as h2:
                h2.send_headers(self.number, self._head)
            self._head = None

    def _send_data(self, data: bytes) -> None:
        """Send a piece of the body, as the windows permit; the first one together with the head."""
        while data:
            with self._sending() as h2:
                if self._head is not None:
                    h2.send_headers(self.number, self._head)
                    self._head = None
                size = min(len(data), h2.local_flow_control_window(self.number), h2.max_outbound_frame_size)
                if size > 0:
                    h2.send_data(self.number, data[:size])
                    data = data[size:]
                else:
                    self._has_window = False
            self._wait(lambda: self._has_window)

    def _end_body(self, rest: bytes, trailers: tuple[tuple[bytes, bytes], ...]) -> None:
        self._send_data(rest)
        if trailers:
            self._send_head()
        fields = trailers or self._head
        with self._sending() as h2:
            if fields:
                h2.send_headers(self.number, fields, end_stream=True)
            else:
                h2.end_stream(self.number)

    @contextmanager
    def _sending(self) -> Iterator[H2Connection]:
        with self._sender.sending() as h2:
            if self._has_ended:
                raise PeerGone
            yield h2

    def _wait_at(self, gate: Gate) -> None:
        with gate._waking(self._wake):  # noqa: SLF001 - private to this package
            self._wait(lambda: gate.is_open)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _wait(self, done: Callable[[], bool] = lambda: False, timeout: float | None = None) -> None:
        """Wait until `done` or for some time; with neither, until the stream ends.

        :raises PeerGone: the stream or its connection has ended.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended or done(), timeout)
        if self._has_ended:
            raise PeerGone


def _head_fields(head: bytes) -> list[tuple[bytes, bytes]]:
    """Return the head of a reply as the fields of HTTP/2."""
    start, *lines = head.removesuffix(b"\r\n").split(b"\r\n")
    fields = [(b":status", start.split(b" ")[1])]
    for line in lines:
        name, _, value = line.partition(b": ")
        if name.lower() not in _CONNECTION_FIELDS:
            fields.append((name.lower(), value))
    return fields
