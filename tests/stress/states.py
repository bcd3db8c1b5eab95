"""The states of a connection, and how to reach each one."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from sseclient_dual import ReadyState, SSEConnection
from sseclient_dual.testing import HANG, Gate, Reply, SSEServer, Step, raw, status, stream
from support.listeners import full_backlog
from support.waiting import wait_until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from support.tls import Tls

_UNANSWERED = "slow.invalid"  # the name server does not answer for this name


def start(conn: SSEConnection) -> None:
    """Start opening the connection, without waiting."""
    conn._start()  # `open` with a timeout of 0 would raise immediate errors


@dataclass(frozen=True)
class State:
    """A state of a connection.

    :param serve: yields a URL that brings a connection into this state, over HTTP/2 or not; at exit no connection
        may be left.
    :param reached: returns a true value if a connection is in this state.
    :param consumed: True if a consumer may iterate in this state.
    :param begin: starts a connection on its way to this state.
    """

    name: str
    serve: Callable[[ssl.SSLContext | None, bool], AbstractContextManager[str]]
    reached: Callable[[SSEConnection], object]
    consumed: bool = True
    begin: Callable[[SSEConnection], object] = start

    def get_there(self, conn: SSEConnection) -> None:
        """Wait until a started connection is in this state; consume events if the state is `BUSY`."""
        if self is BUSY:
            while not self.reached(conn):
                next(conn)
        wait_until(lambda: self.reached(conn), self.name)


def _scripted(reply: Reply, handshake: Gate | None = None) -> Callable[..., AbstractContextManager[str]]:
    @contextmanager
    def serve(tls: ssl.SSLContext | None, http2: bool) -> Iterator[str]:
        with SSEServer(reply, tls=tls, handshake=handshake, http2=http2) as server:
            yield server.url
            server.wait_for_connections(0)  # blocked sends of the server have ended, too
            assert len(server.requests) <= 1

    return serve


@contextmanager
def _name_server_silent(tls: ssl.SSLContext | None, _http2: bool) -> Iterator[str]:
    yield f"{'https' if tls else 'http'}://{_UNANSWERED}/"


@contextmanager
def _backlog_full(tls: ssl.SSLContext | None, _http2: bool) -> Iterator[str]:
    with full_backlog() as address:
        yield "{}://{}:{}/".format("https" if tls else "http", *address)


def flood() -> Iterator[Step]:
    """Yield endless events; `drain` checks them."""
    while True:
        yield "data: " + "x" * 50 + "\n\n" + "data: yy\n\n" * 200


def _socket_of(conn: SSEConnection) -> socket.socket | None:
    exchange = conn._reader._exchange
    return None if exchange is None else exchange._socket._sock


def _is_connecting(conn: SSEConnection) -> bool:
    exchange = conn._reader._exchange
    return exchange is not None and bool(exchange._socket._connecting)


def _is_in_handshake(conn: SSEConnection) -> bool:
    sock = _socket_of(conn)
    with suppress(OSError):
        return sock is not None and bool(sock.getpeername())
    return False


RESOLVING = State(
    "resolving",
    _name_server_silent,
    lambda conn: conn._reader._exchange is not None and conn._reader._exchange._socket._resolving,
)
HANDSHAKE = State("TLS handshake", _scripted(raw(HANG), Gate()), _is_in_handshake)
BUSY = State("busy", _scripted(stream(flood)), lambda conn: conn.stats.events > 1000)
STATES = [
    RESOLVING,
    State("connecting", _backlog_full, _is_connecting),
    HANDSHAKE,
    State(
        "awaiting the head",
        _scripted(raw(HANG)),
        lambda conn: conn._reader._exchange is not None and conn._reader._exchange.sent,
    ),
    State("silent", _scripted(stream(HANG)), lambda conn: conn.ready_state is ReadyState.OPEN),
    State("half an event", _scripted(stream(lambda: "data: half", HANG)), lambda conn: conn.stats.bytes),
    BUSY,
    State("queue full", _scripted(stream(flood)), lambda conn: conn.stats.queued == 1024, consumed=False),
    State("in backoff", _scripted(status(503)), lambda conn: conn._reader._reconnector.failures),
    State("closed", _scripted(stream(HANG)), lambda _: True, begin=lambda conn: conn.open().close()),
]
Wire: TypeAlias = Literal["plain", "tls", "http2"]
"""HTTP/1.1 without and with TLS, and HTTP/2 over TLS."""
WIRES: Final[tuple[Wire, ...]] = get_args(Wire)
PLACES = [(state, wire) for state in STATES for wire in WIRES if wire != "plain" or state is not HANDSHAKE]


def place_name(place: tuple[State, Wire]) -> str:
    """Return the name of a place for reports."""
    state, wire = place
    return f"{state.name}, {wire}"


def serve(state: State, wire: Wire, tls: Tls) -> AbstractContextManager[str]:
    """See `State.serve`."""
    return state.serve(None if wire == "plain" else tls[0], wire == "http2")


class SlowNames:
    """A context in which the name server does not answer for one name."""

    def __enter__(self) -> None:
        self._real, self._answered = socket.getaddrinfo, threading.Event()

        def getaddrinfo(host: str, *arguments: object, **options: object) -> object:
            if host != _UNANSWERED:
                return self._real(host, *arguments, **options)  # type: ignore[arg-type]
            self._answered.wait()
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))]

        socket.getaddrinfo = getaddrinfo  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        socket.getaddrinfo = self._real
        self._answered.set()


def drain(conn: SSEConnection) -> None:
    """Consume all events, and check that the server sent them."""
    for event in conn:
        assert event.data in {"yy", "x" * 50}, event


async def adrain(conn: SSEConnection) -> None:
    """Do the same in a task, and yield to other tasks regularly."""
    counter = itertools.count(1)
    async for event in conn:
        assert event.data in {"yy", "x" * 50}, event
        if next(counter) % 100 == 0:
            await asyncio.sleep(0)
