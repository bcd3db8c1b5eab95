"""Every state that a connection may be in, and how to bring it there."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import threading
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sseclient_dual import ReadyState, SSEConnection
from sseclient_dual.testing import HANG, Gate, Reply, SSEServer, Step, raw, status, stream
from support.listeners import full_backlog
from support.waiting import wait_until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator


_UNANSWERED = "slow.invalid"  # a name that the name server does not answer for


def start(conn: SSEConnection) -> None:
    """Have the connection begin to open, without waiting for it."""
    conn._start()  # `open` with no time at all would raise what comes at once


@dataclass(frozen=True)
class State:
    """What a connection may be doing.

    :param serve: gives the URL that brings a connection into this state; afterwards nobody may be connected there.
    :param reached: whether a connection is in it.
    :param consumed: whether somebody may iterate meanwhile.
    :param begin: how a connection is sent there.
    """

    name: str
    serve: Callable[[ssl.SSLContext | None], AbstractContextManager[str]]
    reached: Callable[[SSEConnection], object]
    consumed: bool = True
    begin: Callable[[SSEConnection], object] = start

    def get_there(self, conn: SSEConnection) -> None:
        """Wait until a connection that was begun is in this state; take what comes, if that is what it is about."""
        if self is BUSY:
            while not self.reached(conn):
                next(conn)
        wait_until(lambda: self.reached(conn), self.name)


def _scripted(reply: Reply, handshake: Gate | None = None) -> Callable[..., AbstractContextManager[str]]:
    @contextmanager
    def serve(tls: ssl.SSLContext | None) -> Iterator[str]:
        with SSEServer(reply, tls=tls, handshake=handshake) as server:
            yield server.url
            server.wait_for_connections(0)  # its own sends have ended, too, though they were blocked
            assert len(server.requests) <= 1

    return serve


@contextmanager
def _name_server_silent(tls: ssl.SSLContext | None) -> Iterator[str]:
    yield f"{'https' if tls else 'http'}://{_UNANSWERED}/"


@contextmanager
def _backlog_full(tls: ssl.SSLContext | None) -> Iterator[str]:
    with full_backlog() as address:
        yield "{}://{}:{}/".format("https" if tls else "http", *address)


def flood() -> Iterator[Step]:
    """Yield events without end; `drain` knows them."""
    while True:
        yield "data: " + "x" * 50 + "\n\n" + "data: yy\n\n" * 200


def _socket_of(conn: SSEConnection) -> socket.socket | None:
    exchange = conn._reader._exchange
    return None if exchange is None else exchange._socket._sock


def _connects(conn: SSEConnection) -> bool:
    return _socket_of(conn) is not None


def _shakes_hands(conn: SSEConnection) -> bool:
    sock = _socket_of(conn)
    with suppress(OSError):
        return sock is not None and bool(sock.getpeername())
    return False


RESOLVING = State(
    "resolving",
    _name_server_silent,
    lambda conn: conn._reader._exchange is not None and conn._reader._exchange._socket._resolving,
)
HANDSHAKE = State("TLS handshake", _scripted(raw(HANG), Gate()), _shakes_hands)
BUSY = State("busy", _scripted(stream(flood)), lambda conn: conn.stats.events > 1000)
STATES = [
    RESOLVING,
    State("connecting", _backlog_full, _connects),
    HANDSHAKE,
    State(
        "awaiting the head",
        _scripted(raw(HANG)),
        lambda conn: conn._reader._exchange is not None and conn._reader._exchange.sent,
    ),
    State("silent", _scripted(stream(HANG)), lambda conn: conn.ready_state is ReadyState.OPEN),
    State("half an event", _scripted(stream("data: half", HANG)), lambda conn: conn.stats.bytes),
    BUSY,
    State("queue full", _scripted(stream(flood)), lambda conn: conn.stats.queued == 1024, consumed=False),
    State("in backoff", _scripted(status(503)), lambda conn: conn._reader._reconnector.failures),
    State("closed", _scripted(stream(HANG)), lambda _: True, begin=lambda conn: conn.open().close()),
]
PLACES = [(state, secure) for state in STATES for secure in (False, True) if secure or state is not HANDSHAKE]


def place_name(place: tuple[State, bool]) -> str:
    """Return what a state is called in reports."""
    state, secure = place
    return f"{state.name}, {'tls' if secure else 'plain'}"


class SlowNames:
    """While entered, the name server does not answer for one name."""

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
    """Take events to the end, and see that they are what the server sent."""
    for event in conn:
        assert event.data in {"yy", "x" * 50}, event


async def adrain(conn: SSEConnection) -> None:
    """Do the same in a task, and let others have their turn."""
    taken = itertools.count(1)
    async for event in conn:
        assert event.data in {"yy", "x" * 50}, event
        if next(taken) % 100 == 0:
            await asyncio.sleep(0)


def quiet() -> None:
    """Log neither that connections fail, which is asked for, nor how long a callback takes on a busy machine."""
    logging.getLogger("sseclient_dual").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
