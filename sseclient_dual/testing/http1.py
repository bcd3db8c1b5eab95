"""HTTP/1.1 on one accepted connection: receives requests and plays replies."""

from __future__ import annotations

from http import HTTPStatus
from http.client import responses
from typing import TYPE_CHECKING

from .replies import Body, Reply, prepared, status
from .requests import Headers, ReceivedRequest, keeps_alive
from .steps import CUT, HANG, RESET, Gate, HalfChunk, Pause, Trailers, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from .sockets import Link


class Http1Connection:
    """Answers the requests of one connection.

    :param answer: records a request, and returns a callable that returns its reply.
    """

    def __init__(self, link: Link, answer: Callable[[ReceivedRequest], Callable[[], Reply]]) -> None:
        self._link = link
        self._answer = answer

    def serve(self) -> None:
        """Answer request after request, until the connection ends."""
        while self._answer_request():
            pass

    def _answer_request(self) -> bool:
        """Receive one request and answer it; return whether another request may follow."""
        try:
            request = self._receive_request()
        except ValueError as error:
            return self._play(status(HTTPStatus.BAD_REQUEST, f"{error}\n"), keep_alive=False)
        reply = self._answer(request)()
        return self._play(reply, keep_alive=keeps_alive(request.version, request.headers))

    # -- requests

    def _receive_request(self) -> ReceivedRequest:
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
        return ReceivedRequest(
            method, target, version, headers, raw_headers, body, self._link.address, self._link.serial
        )

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
        while len(self._link.received) < count:
            self._link.receive()
        taken = bytes(self._link.received[:count])
        del self._link.received[:count]
        return taken

    def _take_until(self, end: bytes) -> bytes:
        """Return the next bytes before `end`, and drop `end`."""
        while end not in self._link.received:
            self._link.receive()
        return self._take(self._link.received.index(end) + len(end))[: -len(end)]

    # -- replies

    def _play(self, reply: Reply, *, keep_alive: bool) -> bool:
        """Send `reply`; return whether another request may follow.

        :param keep_alive: whether the request allows that.
        """
        reply, steps = prepared(reply)
        body = Body(reply.encoding, chunked=reply.framing == "chunked")
        for code in reply.interim:
            self._link.send(f"HTTP/1.1 {code} {responses.get(code, '')}\r\n\r\n".encode())
        unsent = reply.head and reply.head + b"\r\n"
        if not reply.head_with_body:
            self._link.send(unsent)
            unsent = b""
        trailers: tuple[tuple[bytes, bytes], ...] = ()
        for step in steps:
            if isinstance(step, (bytes, Wire, HalfChunk)):
                if data := _encode(step, body):
                    self._link.send(unsent + data)
                    unsent = b""
            elif isinstance(step, Gate):
                self._link.wait_at(step)
            elif isinstance(step, Pause):
                self._link.idle(seconds=step.seconds)
            elif isinstance(step, Trailers):
                trailers = step.fields
                break
            elif step is HANG:
                self._link.idle()
            elif step is CUT:
                self._link.cut()
                return False
            elif step is RESET:
                self._link.reset()
                return False
            else:
                raise ValueError(f"{step!r} is for HTTP/2 only; use CUT or RESET, or SSEServer(http2=True)")
        self._link.send(unsent + body.rest() + _last_chunk(reply, trailers))
        if keep_alive and reply.persists and reply.length in {None, str(body.length)}:
            return True
        self._link.finish()
        return False


def _encode(step: bytes | Wire | HalfChunk, body: Body) -> bytes:
    if isinstance(step, bytes):
        return body.piece(step)
    return body.unframed(step.data if isinstance(step, Wire) else b"%x\r\n%b" % (step.size, step.data))


def _last_chunk(reply: Reply, trailers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Return the bytes that end the framing.

    :raises ValueError: the framing has no room for trailers.
    """
    if reply.framing == "chunked":
        return b"".join([b"0\r\n", *(b"%b: %b\r\n" % field for field in trailers), b"\r\n"])
    if trailers:
        raise ValueError("over HTTP/1.1, only framing='chunked' has trailers")
    return b""
