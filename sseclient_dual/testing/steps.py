"""The steps of a script: what a reply sends, what it waits for, and how it ends."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from sseclient_dual.event import SSEEvent


class Ending(enum.Enum):
    """How a connection ends without a clean end of the response."""

    CUT = "CUT"
    RESET = "RESET"
    HANG = "HANG"


CUT: Final = Ending.CUT
"""An ending that closes the connection (FIN) without finishing the framing."""

RESET: Final = Ending.RESET
"""An ending that resets the connection (RST).

On Linux, the peer can still read the data that it has received; data that is still in transit is lost.
"""

HANG: Final = Ending.HANG
"""An ending that keeps the connection open and silent, until the peer disconnects or the server is closed.

Here and at every other wait, a peer that has closed its sending side counts as disconnected.
"""


class Gate:
    """A step that holds the script until the test opens it. A gate opens once and stays open.

    A gate may be used in several replies, and may be opened from any thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards the rest
        self._is_open = False
        self._reached = False
        self._wakers: set[Callable[[], None]] = set()  # one per waiting connection or stream

    @property
    def is_open(self) -> bool:
        """Whether the gate has been opened."""
        return self._is_open

    def open(self) -> None:
        """Release every connection that waits here now or reaches the gate later."""
        with self._changed:
            self._is_open = True
            while self._wakers:
                self._wakers.pop()()

    def wait_reached(self, timeout: float = 10.0) -> None:
        """Block until a connection has reached this gate.

        :param timeout: seconds.
        :raises TimeoutError: no connection reached the gate in that time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._reached, timeout):
                raise TimeoutError(f"no connection reached the gate within {timeout:g} s")

    @contextmanager
    def _waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call `wake` when the gate opens, or at once if it is open."""
        with self._changed:
            self._reached = True
            self._wakers.add(wake)
            self._changed.notify_all()
            if self._is_open:
                self.open()
        try:
            yield
        finally:
            with self._changed:
                self._wakers.discard(wake)


@dataclass(frozen=True)
class Pause:
    """A step that waits."""

    seconds: float


@dataclass(frozen=True)
class Wire:
    """A step that sends bytes without framing and compression."""

    data: bytes


@dataclass(frozen=True)
class HalfChunk:
    """A step that announces a chunk, or a frame, of `size` bytes, and sends only `data`."""

    data: bytes
    size: int


@dataclass(frozen=True)
class Trailers:
    """A step that ends the body with header fields."""

    fields: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class ResetStream:
    """A step that ends a stream of HTTP/2 with an error code."""

    code: int


@dataclass(frozen=True)
class GoAway:
    """A step that announces the end of a connection of HTTP/2."""

    code: int
    last_stream: int | None


_PLAIN: Final = (Gate, Pause, Wire, HalfChunk, Trailers, ResetStream, GoAway, Ending)
_Plain: TypeAlias = "Gate | Pause | Wire | HalfChunk | Trailers | ResetStream | GoAway | Ending"
Step: TypeAlias = "str | bytes | bytearray | SSEEvent | _Plain | Callable[[], Step] | Iterable[Step]"
"""A step of a script.

===================================  =========================================================================
``str``, ``bytes``, `SSEEvent`       one piece of the body, sent at once (text as UTF-8, an event encoded)
`Gate`                               wait until the test opens it
`pause`                              wait for some time
`wire`, `half_chunk`                 bytes that are neither framed nor compressed
`trailers`                           a clean end of the body, with header fields
`reset_stream`, `goaway`             HTTP/2 only: the end of a stream; the announced end of a connection
a callable without arguments         called when reached; its result is the step
an iterable, such as a generator     its items are steps, taken one by one as they are reached
`CUT`, `RESET`, `HANG`               an ending; the steps after it are never reached
===================================  =========================================================================
"""

Action: TypeAlias = "bytes | _Plain"

Fields: TypeAlias = "Mapping[str, str | bytes] | Iterable[tuple[str | bytes, str | bytes]]"


def pause(seconds: float) -> Step:
    """Return a step that waits `seconds`; a disconnecting peer, or `SSEServer.close`, ends it early."""
    return Pause(seconds)


def wire(data: str | bytes) -> Step:
    """Return a step that sends `data` unchanged, without framing and compression.

    Over HTTP/2, these are bytes of the connection, between the frames of its streams.
    """
    return Wire(_encode(data))


def half_chunk(data: str | bytes | SSEEvent, size: int = 0x400) -> Step:
    """Return a step that announces an HTTP chunk of `size` bytes, then sends only `data` (not compressed).

    Over HTTP/2, it announces a DATA frame. The connection sends nothing else before `wire` has sent the rest.
    """
    return HalfChunk(_encode(data), size)


def trailers(fields: Fields) -> Step:
    """Return a step that ends the body with these header fields; the steps after it are never reached.

    Over HTTP/1.1, only a chunked body can have them.
    """
    return Trailers(tuple(encoded_fields(fields)))


def reset_stream(code: int = 0x2) -> Step:
    """Return an ending for HTTP/2: an RST_STREAM frame, which ends this stream and no other.

    :param code: the error code (RFC 9113, section 7), such as 0x2 INTERNAL_ERROR, 0x7 REFUSED_STREAM or 0x8 CANCEL.
    """
    return ResetStream(code)


def goaway(code: int = 0, last_stream: int | None = None) -> Step:
    """Return a step for HTTP/2 that sends a GOAWAY frame: the connection answers no requests on later streams.

    The script goes on. The connection ends with its last stream.

    :param code: the error code (RFC 9113, section 7); 0 is NO_ERROR.
    :param last_stream: the last stream that the server claims to have processed; None for the last one received.
    """
    return GoAway(code, last_stream)


def check(step: object) -> None:
    """Require a step, without calling callables and without advancing iterators.

    :raises TypeError: it is none.
    """
    if isinstance(step, Mapping) and not isinstance(step, SSEEvent):
        raise TypeError(f"a {type(step).__name__} is no step; for an event with JSON use SSEEvent(json.dumps(...))")
    if isinstance(step, SSEEvent) and not isinstance(step.data, str):
        raise TypeError(
            f"the data of an event is a str, not {type(step.data).__name__}; for JSON use json.dumps(...)"
        )
    if isinstance(step, (list, tuple)):
        for inner in step:
            check(inner)
    elif not (isinstance(step, (*_PLAIN, Iterable)) or callable(step)):
        raise TypeError(f"not a step of a script: {step!r}")


def is_unfinished(steps: Iterable[Step]) -> bool:
    """Return True if an event lacks its blank line when the steps end, or hang; False if nothing tells that yet."""
    text = b""
    for step in steps:
        if isinstance(step, (str, bytes, bytearray, SSEEvent)):
            text += _encode(step)
        elif step is HANG:
            break
        elif not isinstance(step, (Gate, Pause)):
            return False  # an intended end, or steps that are not known before they are reached
    *_, block = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n")
    return any(line.partition(b":")[0] == b"data" for line in block.split(b"\n"))


def actions(step: Step) -> Iterator[Action]:
    """Yield the actions of a step; call callables and advance iterables only when their turn comes."""
    check(step)
    if isinstance(step, (str, bytes, bytearray, SSEEvent)):
        yield _encode(step)
    elif isinstance(step, _PLAIN):
        yield step
    elif callable(step):
        yield from actions(step())
    else:
        for inner in step:
            yield from actions(inner)


def encoded_fields(fields: Fields) -> Iterator[tuple[bytes, bytes]]:
    """Yield names and values as bytes; text is Latin-1."""
    for pair in fields.items() if isinstance(fields, Mapping) else fields:
        name, value = (part.encode("latin-1") if isinstance(part, str) else part for part in pair)
        yield name, value


def _encode(data: str | bytes | bytearray | SSEEvent) -> bytes:
    return data.encode() if isinstance(data, (str, SSEEvent)) else bytes(data)
