r"""A scripted SSE server for tests, on real loopback sockets: exact to the byte and to the moment.

Each request is answered by the next reply of a script, and a reply is a sequence of steps: data to send,
something to wait for, and how to end::

    gate = Gate()
    with SSEServer(
        stream("id: 1\ndata: one\n\n", CUT),          # one event, then the connection drops
        status(503, headers={"Retry-After": "1"}),
        stream("data: two\n\n", gate, "data: three\n\n"),
    ) as server:
        ...                                           # connect to server.url
        assert server.wait_for_requests(3)[1].last_event_id == "1"
        gate.open()                                   # now the third event is sent

Nothing here sleeps to synchronise or polls. Every wait of the server ends when the server closes, and closing
leaves no thread and no socket. All sockets are bound to 127.0.0.1.
"""

from __future__ import annotations

import enum
import json
import os
import selectors
import socket
import ssl
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import responses
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args
from urllib.parse import parse_qsl, urlsplit

from .event import SSEEvent

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "CUT",
    "HANG",
    "RESET",
    "Gate",
    "Headers",
    "ReceivedRequest",
    "Reply",
    "SSEServer",
    "Step",
    "half_chunk",
    "pause",
    "raw",
    "redirect",
    "status",
    "stream",
    "wire",
]

_AT_MOST: Final = 65536  # bytes that one read asks for

_Answer: TypeAlias = "Reply | Callable[[ReceivedRequest], Reply]"
_Fields: TypeAlias = "Mapping[str, str | bytes] | Iterable[tuple[str | bytes, str | bytes]]"
_Framing: TypeAlias = Literal["chunked", "close", "sized", "none"]
_Encoding: TypeAlias = Literal["gzip", "deflate"]
_Action: TypeAlias = "bytes | _Wire | Gate | _Pause | _Ending"


# --- steps of a script --------------------------------------------------------------------------------------


class _Ending(enum.Enum):
    CUT = "CUT"
    RESET = "RESET"
    HANG = "HANG"


CUT: Final = _Ending.CUT
"""Ending: close the connection (FIN) without finishing the framing."""

RESET: Final = _Ending.RESET
"""Ending: reset the connection (RST).

Linux lets the peer read first what has reached it; what it had no room for yet is lost.
"""

HANG: Final = _Ending.HANG
"""Ending: stay silent with the connection open, until the peer leaves or the server is closed.

Here and at every other wait, a peer that has closed its sending side counts as gone.
"""


class Gate:
    """A step that holds the script until the test opens it; a gate opens once and stays open.

    A gate may stand in several replies, and be opened from any thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards the rest
        self._is_open = False
        self._reached = False
        self._bells: set[socket.socket] = set()  # one per connection that waits here; shutting it down rings it

    @property
    def is_open(self) -> bool:
        """Whether the gate has been opened."""
        return self._is_open

    def open(self) -> None:
        """Let everything that waits here, or comes here later, go on."""
        with self._changed:
            self._is_open = True
            while self._bells:
                self._bells.pop().shutdown(socket.SHUT_WR)

    def wait_reached(self, timeout: float = 10.0) -> None:
        """Block until a connection has come to this gate.

        :param timeout: seconds.
        :raises TimeoutError: none has come by then.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._reached, timeout):
                raise TimeoutError(f"no connection came to the gate within {timeout:g} s")

    @contextmanager
    def _visit(self, bell: socket.socket) -> Iterator[None]:
        with self._changed:
            self._reached = True
            self._bells.add(bell)
            self._changed.notify_all()
            if self._is_open:
                self.open()
        try:
            yield
        finally:
            with self._changed:
                self._bells.discard(bell)


@dataclass(frozen=True)
class _Pause:
    seconds: float


@dataclass(frozen=True)
class _Wire:
    data: bytes


_Atom: TypeAlias = "str | bytes | bytearray | SSEEvent | Gate | _Pause | _Wire | _Ending"
Step: TypeAlias = "_Atom | Callable[[], Step] | Iterable[Step]"
"""What a script is made of.

===================================  =========================================================================
``str``, ``bytes``, `SSEEvent`       one piece of the body, sent at once (text as UTF-8, an event encoded)
`Gate`                               wait until the test opens it
`pause`                              wait for some time
`wire`, `half_chunk`                 bytes that are neither framed nor compressed
a callable without arguments         called when reached; its result is the step
an iterable, such as a generator     its items are steps, taken one by one as they are reached
`CUT`, `RESET`, `HANG`               an ending; what follows it is never reached
===================================  =========================================================================
"""


def pause(seconds: float) -> Step:
    """Return a step that waits `seconds`; a peer that leaves, or `SSEServer.close`, ends it early."""
    return _Pause(seconds)


def wire(data: str | bytes) -> Step:
    """Return a step that sends `data` just as it is, with no framing and no compression."""
    return _Wire(_encode(data))


def half_chunk(data: str | bytes | SSEEvent, size: int = 0x400) -> Step:
    """Return a step that announces an HTTP chunk of `size` bytes, then sends only `data` (not compressed)."""
    return _Wire(b"%x\r\n%b" % (size, _encode(data)))


def _encode(data: str | bytes | bytearray | SSEEvent) -> bytes:
    return data.encode() if isinstance(data, (str, SSEEvent)) else bytes(data)


def _flatten(step: Step) -> Iterator[_Action]:
    """Yield what there is to do, calling callables and advancing iterables no earlier than needed."""
    if isinstance(step, (str, bytes, bytearray, SSEEvent)):
        yield _encode(step)
    elif isinstance(step, (Gate, _Pause, _Wire, _Ending)):
        yield step
    elif callable(step):
        yield from _flatten(step())
    elif isinstance(step, Iterable):
        for inner in step:
            yield from _flatten(inner)
    else:
        raise TypeError(f"not a step of a script: {step!r}")


# --- replies ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """The answer to a request, made by `stream`, `status`, `redirect` or `raw`; may be given many times.

    :param steps: the script of the body.
    :param head: the status line and the headers, less a computed Content-Length and the empty line; empty
        where the steps are all there is.
    :param length: the Content-Length that `head` announces.
    :param persists: whether another request may follow on the connection after a clean end.
    :param framing: as for `stream`.
    :param encoding: as for `stream`.
    :param head_with_body: as for `stream`.
    """

    steps: tuple[Step, ...]
    head: bytes = b""
    length: str | None = None
    persists: bool = False
    framing: _Framing = "none"
    encoding: _Encoding | None = None
    head_with_body: bool = False


def stream(
    *steps: Step,
    status: int = 200,
    reason: str | None = None,
    headers: _Fields = (),
    content_type: str | None = "text/event-stream",
    framing: _Framing = "chunked",
    encoding: _Encoding | None = None,
    head_with_body: bool = False,
) -> Reply:
    """Return a reply whose body is a script; without an ending as its last step it ends cleanly.

    A header of `headers` takes the place of one that would be sent by default; no others are added.

    :param steps: see `Step`.
    :param status: the status code.
    :param reason: the reason phrase, None for the usual one.
    :param headers: further headers, as a mapping or as pairs; text is sent as Latin-1.
    :param content_type: the media type, None to leave the header out.
    :param framing: ``"chunked"``: each piece of data is an HTTP chunk. ``"close"``: the body ends with the
        connection, and ``Connection: close`` says so. ``"none"``: the same, said by no header. ``"sized"``: a
        Content-Length, either given in `headers` or that of all data in the steps (also behind an ending, so
        that a body may be cut short), which are gone through up front for it and must be finite.
    :param encoding: ``"gzip"`` or ``"deflate"``: compress, and flush after each piece of data.
    :param head_with_body: hold the head back and send it with the first data, as some servers do.
    :raises ValueError: `framing` or `encoding` is none of those named.
    """
    if framing not in get_args(_Framing) or encoding not in (None, *get_args(_Encoding)):
        raise ValueError(f"unknown framing or encoding: {framing!r}, {encoding!r}")
    fields = [(_latin_1(name), _latin_1(value)) for name, value in _pairs(headers)]
    given = Headers(fields)
    defaults = {
        "Content-Type": content_type,
        "Content-Encoding": encoding,
        "Transfer-Encoding": "chunked" if framing == "chunked" else None,
        "Connection": "close" if framing == "close" else None,
    }
    start = f"HTTP/1.1 {status} {responses.get(status, '') if reason is None else reason}"
    ours = [f"{name}: {value}" for name, value in defaults.items() if value is not None and name not in given]
    lines = [*map(_latin_1, [start, *ours]), *(b"%b: %b" % pair for pair in fields)]
    return Reply(
        steps,
        head=b"".join(line + b"\r\n" for line in lines),
        length=given.get("content-length", "0" if status in {204, 304} else None),
        persists=framing in {"chunked", "sized"} and _persists("HTTP/1.1", given),
        framing=framing,
        encoding=encoding,
        head_with_body=head_with_body,
    )


def status(
    code: int,
    body: str | bytes | Mapping[str, Any] = b"",
    headers: _Fields = (),
    content_type: str | None = None,
    reason: str | None = None,
) -> Reply:
    """Return a complete reply with a Content-Length (none for 204 and 304).

    :param code: the status code.
    :param body: text (UTF-8), bytes, or a mapping that is sent as JSON.
    :param headers: further headers, as a mapping or as pairs.
    :param content_type: the media type; None: ``application/json`` for a mapping, else no header.
    :param reason: the reason phrase, None for the usual one.
    """
    if isinstance(body, Mapping):
        body, content_type = json.dumps(body), content_type or "application/json"
    return stream(
        body,
        status=code,
        reason=reason,
        headers=headers,
        content_type=content_type,
        framing="sized",
        head_with_body=True,
    )


def redirect(location: str | bytes | None, code: int = 302, headers: _Fields = ()) -> Reply:
    """Return a redirect to `location`; None leaves the header out, ``""`` sends it empty."""
    target = [] if location is None else [("Location", location)]
    return status(code, headers=[*target, *_pairs(headers)])


def raw(*steps: Step) -> Reply:
    """Return a reply to which nothing is added: the steps are all of it, the status line included.

    After the last step the connection is closed, unless that is `HANG`.
    """
    return Reply(steps)


def _pairs(headers: _Fields) -> Iterable[tuple[str | bytes, str | bytes]]:
    return headers.items() if isinstance(headers, Mapping) else headers


def _latin_1(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text


# --- requests -----------------------------------------------------------------------------------------------


class Headers(Mapping[str, str]):
    """Header fields by name, in any case; the values of one that came several times are joined by ``", "``."""

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._values: dict[str, str] = {}
        for name, value in fields:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            self._values[key] = f"{self._values[key]}, {text}" if key in self._values else text

    def __getitem__(self, name: str, /) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values!r})"


@dataclass(frozen=True)
class ReceivedRequest:
    """A request, complete with its body, as the server received it."""

    method: str
    """The method, such as ``"GET"``."""
    target: str
    """The target as sent: as a rule path and query."""
    version: str
    """The version, such as ``"HTTP/1.1"``."""
    headers: Headers
    """The header fields by case-insensitive name, decoded as Latin-1."""
    raw_headers: list[tuple[bytes, bytes]] = field(repr=False)
    """The header fields as sent, in order, less the blanks around values."""
    body: bytes
    """The body, with the chunked framing taken off."""
    client_address: tuple[str, int]
    """Host and port of the peer."""
    connection: int
    """Serial number of the TCP connection it came on, from 1: equal numbers tell of reuse."""

    @property
    def path(self) -> str:
        """The path of the target, still percent-encoded."""
        return self.target.partition("?")[0] if self.target.startswith("/") else urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The query of the target, decoded; of parameters with the same name the last."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def last_event_id(self) -> str | None:
        """The ``Last-Event-ID``, decoded as UTF-8; None if it was not sent."""
        value = self.headers.get("last-event-id")
        return None if value is None else value.encode("latin-1").decode()

    def json(self) -> Any:  # noqa: ANN401 - JSON is any of several types
        """Return the body, read as JSON."""
        return json.loads(self.body)


def _persists(version: str, headers: Mapping[str, str]) -> bool:
    """Tell whether a message lets the connection go on after it (RFC 9112, 9.3)."""
    options = headers.get("connection", "").lower()
    return "close" not in options and (version != "HTTP/1.0" or "keep-alive" in options)


# --- the server ---------------------------------------------------------------------------------------------


class SSEServer:
    """A scripted HTTP/1.1 server: each request, over all connections, is answered by the next reply.

    Used as a context manager, or by `start` and `close`. An error in the script itself, such as a callable
    that raises or a step of an unknown type, cuts the connection and is raised from `close`, which waits for
    callables of the script to return.

    :param replies: each a `Reply`, or a callable that gets the `ReceivedRequest` and returns one.
    :param tls: serve TLS with this context, a server's.
    :param port: the port; 0 takes a free one.
    :param default: answers each request after the replies are used up; as a rule a 204, which tells an SSE
        client to stop.
    :param handshake: let each new connection wait here before its TLS handshake, or without TLS before its
        first request is read.
    """

    host: Final = "127.0.0.1"
    """The address that every server listens on."""

    def __init__(
        self,
        *replies: _Answer,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
        default: _Answer = status(204),  # noqa: B008 - a constant: a Reply is frozen
        handshake: Gate | None = None,
    ) -> None:
        self._tls = tls
        self._port = port
        self._default = _check(default)
        self._handshake = handshake
        # For those who start and stop, one at a time: the thread that accepts and what stops it when closed;
        # and the bound socket that keeps the port while there is no such thread.
        self._acceptor: tuple[threading.Thread, socket.socket] | None = None
        self._reserved: socket.socket | None = None
        self._changed = threading.Condition()  # guards the rest
        self._replies: deque[_Answer] = deque()
        self._requests: list[ReceivedRequest] = []
        self._errors: list[BaseException] = []
        self._connections: set[_Connection] = set()
        self._threads: list[threading.Thread] = []
        self._accepted = 0
        self.add(*replies)

    @property
    def port(self) -> int:
        """The port, known from `start` on and kept for good."""
        if not self._port:
            raise RuntimeError("the server has no port before it is started")
        return self._port

    @property
    def origin(self) -> str:
        """Scheme, host and port, with no slash behind."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL of the server's root."""
        return f"{self.origin}/"

    @property
    def requests(self) -> list[ReceivedRequest]:
        """All requests so far, in order, in a list of the caller's own."""
        with self._changed:
            return list(self._requests)

    @property
    def replies_left(self) -> int:
        """How many replies are not used yet."""
        return len(self._replies)

    def add(self, *replies: _Answer) -> None:
        """Append `replies` to the script."""
        checked = [_check(reply) for reply in replies]
        with self._changed:
            self._replies.extend(checked)

    def wait_for_requests(self, count: int, timeout: float = 10.0) -> list[ReceivedRequest]:
        """Block until `count` requests have been received; return all that have.

        :param timeout: seconds.
        :raises TimeoutError: naming those that have been received by then.
        """
        with self._changed:
            self._wait(lambda: len(self._requests) >= count, timeout, f"{count} requests")
            return list(self._requests)

    def wait_for_connections(self, count: int, timeout: float = 10.0) -> None:
        """Block until exactly `count` accepted connections are open.

        One is over when the server is done with it, be it because the peer left.

        :param timeout: seconds.
        :raises TimeoutError: there were never as many until then.
        """
        with self._changed:
            self._wait(lambda: len(self._connections) == count, timeout, f"{count} connections")

    def start(self) -> SSEServer:
        """Take the port and begin to listen; return the server itself."""
        self.listen()
        return self

    def listen(self) -> None:
        """Listen, after `refuse` again and on the same port; does nothing while listening."""
        if self._acceptor is not None:
            return
        listener, self._reserved = self._reserved or self._bind(), None
        try:
            listener.listen(socket.SOMAXCONN)
        except OSError:
            listener.close()
            raise
        stop, stopped = socket.socketpair()
        name = f"SSEServer :{self.port}"
        thread = threading.Thread(target=self._accept, args=(listener, stopped), name=name, daemon=True)
        self._acceptor = thread, stop
        thread.start()

    def refuse(self, *, drop: bool = False) -> None:
        """Stop listening, so that connecting is refused until `listen`.

        :param drop: also drop the connections that there are, as the end of a server's process does.
        """
        if self._stop_accepting():
            # Bound but not listening, the port stays ours: no other program is given it, and neither is the
            # peer's own end of a connection, which would then connect to itself.
            self._reserved = self._bind()
        if drop:
            self._drop_all()

    def close(self) -> None:
        """End everything: stop listening, drop all connections, wait for all threads. May be called again.

        :raises BaseException: the first error of the script, if there was one.
        """
        self._stop_accepting()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None
        self._drop_all()
        for thread in self._threads:
            thread.join()
        if self._errors:
            error = self._errors[0]
            self._errors.clear()
            raise error

    def __enter__(self) -> SSEServer:  # noqa: PYI034 - Self came with Python 3.11
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def _wait(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        if not self._changed.wait_for(condition, timeout):
            received = ", ".join(f"{request.method} {request.target}" for request in self._requests) or "none"
            raise TimeoutError(
                f"waited {timeout:g} s in vain for {what}; connections now: {len(self._connections)}, "
                f"requests so far: {received}"
            ) from next(iter(self._errors), None)

    def _bind(self) -> socket.socket:
        listener = socket.socket()
        try:
            if os.name == "posix":  # pragma: no branch - on Windows it would let others take the port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.host, self._port))
        except BaseException:
            listener.close()
            raise
        listener.settimeout(0)
        self._port = listener.getsockname()[1]
        return listener

    def _accept(self, listener: socket.socket, stopped: socket.socket) -> None:
        """Accept until stopped, and then whoever connected before that; the thread of the listening side."""
        with listener, stopped, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(stopped, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if listener not in ready:
                    return
                with suppress(BlockingIOError, ConnectionError):  # it may have left already
                    self._admit(*listener.accept())

    def _stop_accepting(self) -> bool:
        """Stop listening; tell whether there was anything to stop."""
        if self._acceptor is None:
            return False
        (thread, stop), self._acceptor = self._acceptor, None
        stop.close()
        thread.join()
        return True

    def _drop_all(self) -> None:
        with self._changed:
            for connection in self._connections:
                connection.drop()

    def _admit(self, sock: socket.socket, address: tuple[str, int]) -> None:
        with self._changed:
            self._accepted += 1
            connection = _Connection(sock, address, self._accepted)
            name = f"SSEServer :{self.port} #{self._accepted}"
            thread = threading.Thread(target=self._serve, args=(connection,), name=name, daemon=True)
            self._connections.add(connection)
            self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]
            thread.start()
            self._changed.notify_all()

    def _serve(self, connection: _Connection) -> None:
        """Do all there is to do on one connection; this is its thread."""
        try:
            if self._handshake is not None:
                connection.wait_at(self._handshake)
            if self._tls is not None:
                connection.start_tls(self._tls)
            while self._exchange(connection):
                pass
        except _PeerGone:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by close()
            with self._changed:
                self._errors.append(error)
        finally:
            # One lock for this and for drop(), which must not shut down a descriptor that is no longer ours.
            with self._changed:
                connection.close()
                self._connections.discard(connection)
                self._changed.notify_all()

    def _exchange(self, connection: _Connection) -> bool:
        """Receive one request and answer it; tell whether the connection goes on."""
        try:
            request = connection.receive_request()
        except ValueError as error:
            return _play(connection, status(400, f"{error}\n"), persists=False)
        with self._changed:
            self._requests.append(request)
            answer = self._replies.popleft() if self._replies else self._default
            self._changed.notify_all()
        reply = answer if isinstance(answer, Reply) else answer(request)
        if not isinstance(reply, Reply):
            raise TypeError(f"{answer!r} returned no Reply but {reply!r}")
        return _play(connection, reply, persists=_persists(request.version, request.headers))


def _check(answer: _Answer) -> _Answer:
    if not isinstance(answer, Reply) and not callable(answer):
        raise TypeError(f"neither a Reply nor a callable that returns one: {answer!r}")
    return answer


# --- playing a reply ----------------------------------------------------------------------------------------


def _play(connection: _Connection, reply: Reply, *, persists: bool) -> bool:
    """Answer with `reply`; tell whether another request may follow, which it may not unless `persists`."""
    steps: Iterable[_Action] = _flatten(reply.steps)
    head, length = reply.head, reply.length
    if reply.framing == "sized" and length is None:
        steps = list(steps)
        length = str(_Body(reply).measure(steps))
        head += f"Content-Length: {length}\r\n".encode()
    body = _Body(reply)
    unsent = head and head + b"\r\n"
    if not reply.head_with_body:
        connection.send(unsent)
        unsent = b""
    for step in steps:
        if isinstance(step, (bytes, _Wire)):
            if data := body.piece(step):
                connection.send(unsent + data)
                unsent = b""
        elif isinstance(step, Gate):
            connection.wait_at(step)
        elif isinstance(step, _Pause):
            connection.idle(seconds=step.seconds)
        elif step is HANG:
            connection.idle()
        else:
            connection.finish(step)
            return False
    connection.send(unsent + body.end())
    if persists and reply.persists and length in {None, str(body.length)}:
        return True
    connection.finish()
    return False


class _Body:
    """Data steps as the bytes that carry them: compressed, then framed."""

    def __init__(self, reply: Reply) -> None:
        self.length = 0  # bytes so far
        self._is_chunked = reply.framing == "chunked"
        self._compressor = None
        if reply.encoding is not None:
            self._compressor = zlib.compressobj(wbits=31 if reply.encoding == "gzip" else 15)

    def piece(self, step: bytes | _Wire) -> bytes:
        """Return the bytes that carry `step` to the peer at once."""
        if isinstance(step, _Wire):
            self.length += len(step.data)
            return step.data
        if self._compressor is not None and step:
            step = self._compressor.compress(step) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        return self._frame(step)

    def end(self) -> bytes:
        """Return the bytes that end the body cleanly."""
        rest = self._frame(self._compressor.flush()) if self._compressor is not None else b""
        return rest + b"0\r\n\r\n" if self._is_chunked else rest

    def measure(self, steps: Iterable[_Action]) -> int:
        """Return the length of the body that is made of all data in `steps`."""
        for step in steps:
            if isinstance(step, (bytes, _Wire)):
                self.piece(step)
        self.end()
        return self.length

    def _frame(self, data: bytes) -> bytes:
        self.length += len(data)
        return b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked and data else data


# --- one connection -----------------------------------------------------------------------------------------


class _PeerGone(Exception):  # noqa: N818 - an end, no error
    """The peer has left, or was dropped: nobody is there to be served."""


@contextmanager
def _errors_of_the_peer() -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ssl.SSLError included
        raise _PeerGone from error


class _Connection:
    """One accepted TCP connection, used by its own thread, but for `drop`.

    TLS runs in memory, between the socket and `_received`. So the socket is the only thing to wait for, with
    TLS or without, and even before a handshake what the peer sends can be taken in to notice its leaving.
    """

    def __init__(self, sock: socket.socket, address: tuple[str, int], serial: int) -> None:
        self._address = address
        self._serial = serial
        self._sock = sock
        self._sock.settimeout(None)
        with suppress(OSError):  # some systems refuse it on a connection that the peer has reset
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()  # not asked for yet
        self._tls: ssl.SSLObject | None = None
        self._from_peer = ssl.MemoryBIO()
        self._to_peer = ssl.MemoryBIO()

    # - beginning and end

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Do the server's part of a TLS handshake."""
        tls = context.wrap_bio(self._from_peer, self._to_peer, server_side=True)
        self._from_peer.write(bytes(self._received))
        self._received.clear()
        with _errors_of_the_peer():
            while self._wants_more(tls.do_handshake):
                self._from_peer.write(self._recv())
            self._decrypt(tls)  # a request may have come along
        self._tls = tls

    def finish(self, ending: _Ending | None = None) -> None:
        """End the connection, cleanly if `ending` is None: with TLS by a close_notify, and then a FIN."""
        with _errors_of_the_peer():
            if ending is RESET:
                # What `close` does with this option is an RST; its layout is the system's `struct linger`.
                linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return
            if ending is None and self._tls is not None:
                self._wants_more(self._tls.unwrap)
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def drop(self) -> None:
        """Wake this connection's thread from whatever it does with the socket, to find the peer gone."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    # - waiting

    def wait_at(self, gate: Gate) -> None:
        """Wait until the gate opens."""
        bell, other_end = socket.socketpair()
        with bell, other_end, gate._visit(other_end):  # noqa: SLF001 - of this file
            self.idle(bell=bell)

    def idle(self, *, seconds: float | None = None, bell: socket.socket | None = None) -> None:
        """Wait for some time or for the bell, or with neither until the peer leaves; keep what it sends.

        :raises _PeerGone: the peer left, if only by closing its sending side.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            if bell is not None:
                selector.register(bell, selectors.EVENT_READ)
            while True:
                left = None if deadline is None else deadline - time.monotonic()
                ready = [key.fileobj for key, _ in selector.select(left)]
                if self._sock in ready:
                    self._receive()
                elif ready or (left is not None and left <= 0):
                    return

    # - bytes

    def send(self, data: bytes) -> None:
        """Send `data` at once, blocking while the peer has no room for it."""
        with _errors_of_the_peer():
            if self._tls is None:
                self._sock.sendall(data)
                return
            rest = memoryview(data)
            while rest:
                rest = rest[self._tls.write(rest) :]
            self._sock.sendall(self._to_peer.read())

    def _receive(self) -> None:
        """Wait for something to arrive and take it in."""
        with _errors_of_the_peer():
            data = self._recv()
            if self._tls is None:
                self._received += data
            else:
                self._from_peer.write(data)
                self._decrypt(self._tls)

    def _recv(self) -> bytes:
        data = self._sock.recv(_AT_MOST)
        if not data:
            raise _PeerGone
        return data

    def _decrypt(self, tls: ssl.SSLObject) -> None:
        def read() -> None:
            while data := tls.read(_AT_MOST):
                self._received += data

        had = len(self._received)
        if not self._wants_more(read) and len(self._received) == had:
            raise _PeerGone  # by a close_notify with nothing before it

    def _wants_more(self, operation: Callable[[], object]) -> bool:
        """Run an operation of TLS, and send what comes of it; tell whether it lacks bytes from the peer."""
        try:
            operation()
        except ssl.SSLWantReadError:
            return True
        else:
            return False
        finally:  # after an error, too: then it is an alert
            self._sock.sendall(self._to_peer.read())

    def _take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        if count < 0:
            raise ValueError(f"negative length: {count}")
        while len(self._received) < count:
            self._receive()
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _take_until(self, end: bytes) -> bytes:
        """Return the next bytes before `end`, and drop that."""
        while end not in self._received:
            self._receive()
        return self._take(self._received.index(end) + len(end))[: -len(end)]

    # - requests

    def receive_request(self) -> ReceivedRequest:
        """Receive a request with its body.

        :raises ValueError: it is malformed; the message says how.
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
        return ReceivedRequest(method, target, version, headers, raw_headers, body, self._address, self._serial)

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
