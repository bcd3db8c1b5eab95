"""Hosts with several addresses: a dead one costs a moment, not the connect timeout."""

from __future__ import annotations

import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEClient, SSEConnectionError
from sseclient_dual.testing import CUT, SSEServer, stream
from sseclient_dual.transport import dialling, sockets
from sseclient_dual.transport.sockets import AbortableSocket
from support.listeners import full_backlog
from support.policies import QUICK
from support.proxies import closes_at_once, start
from support.waiting import AT_ONCE, LONG, PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.apis import Api

HOST = "127.0.0.1"
URL = "http://several.invalid/"
REFUSED = ("127.0.0.2", 1)  # no socket listens there
REFUSED_AT_ONCE = ("255.255.255.255", 1)  # the system does not even try


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets the addresses of every host."""

    def set_addresses(*addresses: tuple[str, int]) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: [tcp(address) for address in addresses])

    return set_addresses


@pytest.fixture
def abortable() -> AbortableSocket:
    return AbortableSocket(read_timeout=None, keep_connection=False)


def tcp(address: tuple[str, int]) -> tuple[Any, ...]:
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address


def test_a_dead_first_address_delays_each_connect_only_a_moment(api: Api, resolve: Callable[..., None]) -> None:
    with full_backlog() as dead, SSEServer(stream("data: x\n\n", CUT), default=stream("data: y\n\n")) as server:
        resolve(dead, (HOST, server.port))
        begun = time.monotonic()
        with api.client(timeout=60, policy=QUICK) as client, api.connect(client, URL) as conn:
            assert [event.data for event in api.take(conn, 2)] == ["x", "y"]
        assert time.monotonic() - begun < 30


@pytest.mark.parametrize("refused", [REFUSED, REFUSED_AT_ONCE], ids=["refused", "refused-at-once"])
@pytest.mark.parametrize("has_poll", [True, False], ids=["poll", "select"])
def test_a_failed_attempt_starts_the_next_at_once(
    resolve: Callable[..., None], monkeypatch: pytest.MonkeyPatch, refused: tuple[str, int], *, has_poll: bool
) -> None:
    monkeypatch.setattr(dialling, "_ATTEMPT_DELAY", LONG)
    if not has_poll:
        monkeypatch.delattr(select, "poll")
    with SSEServer(stream("data: x\n\n")) as server, SSEClient(timeout=None) as client:
        resolve(refused, (HOST, server.port))
        with client.connect(URL) as conn:
            assert next(conn).data == "x"


def test_a_failure_while_another_attempt_waits(resolve: Callable[..., None]) -> None:
    with full_backlog() as dead, SSEServer(stream("data: x\n\n")) as server, SSEClient() as client:
        resolve(dead, REFUSED, (HOST, server.port))
        with client.connect(URL) as conn:
            assert next(conn).data == "x"


def test_the_last_failure_is_raised(api: Api, resolve: Callable[..., None]) -> None:
    resolve(REFUSED_AT_ONCE, REFUSED)
    with api.client() as client, pytest.raises(SSEConnectionError, match="Connection refused"):
        api.open(client.connect(URL, reconnect=False))


def test_the_connect_timeout_bounds_all_attempts_together(api: Api, resolve: Callable[..., None]) -> None:
    with full_backlog() as dead, api.client(timeout=1) as client:
        resolve(*[dead] * 8)
        begun = time.monotonic()
        with pytest.raises(SSEConnectionError, match=r"could not connect within 1\.0 s"):
            api.open(client.connect(URL, reconnect=False))
        assert 0.9 < time.monotonic() - begun < 6


def test_each_address_has_its_turn_within_a_short_timeout(resolve: Callable[..., None]) -> None:
    with full_backlog() as dead, SSEServer(stream("data: x\n\n")) as server, SSEClient(policy=QUICK) as client:
        resolve(dead, dead, (HOST, server.port))
        with client.connect(URL, timeout=0.25) as conn:
            assert next(conn).data == "x"


@pytest.mark.parametrize("has_poll", [True, False], ids=["poll", "select"])
def test_closing_ends_all_attempts(
    resolve: Callable[..., None], monkeypatch: pytest.MonkeyPatch, *, has_poll: bool
) -> None:
    if not has_poll:
        monkeypatch.delattr(select, "poll")
    with full_backlog() as dead, SSEServer() as server, SSEClient(timeout=None) as client:
        monkeypatch.setattr(dialling, "_ATTEMPT_DELAY", 0.01)
        attempts = [dead] * 3
        resolve(*attempts)
        conn = client.connect(URL)
        start(conn)
        wait_until(lambda: conn._reader._exchange, "the exchange")
        exchange = conn._reader._exchange
        assert exchange is not None
        wait_until(lambda: len(exchange._socket._connecting) == 3, "all attempts")
        closes_at_once(conn)
        assert exchange._socket._connecting == []
        assert server.requests == []


def test_no_attempt_starts_after_an_abort(resolve: Callable[..., None], abortable: AbortableSocket) -> None:
    errors: list[OSError] = []

    def connect() -> None:
        with pytest.raises(ConnectionAbortedError) as caught:
            abortable.connect("several.invalid", 80, None, None, ())
        errors.append(caught.value)

    with full_backlog() as dead, socket.create_server((HOST, 0)) as listener:
        resolve(dead, listener.getsockname())
        dialler = threading.Thread(target=connect)
        dialler.start()
        wait_until(lambda: abortable._connecting, "the first attempt")
        begun = time.monotonic()
        assert abortable.abort()
        dialler.join(PATIENCE)
        assert time.monotonic() - begun < AT_ONCE
        assert errors
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_an_abort_just_after_the_connect_closes_the_socket(
    monkeypatch: pytest.MonkeyPatch, abortable: AbortableSocket
) -> None:
    made: list[socket.socket] = []

    def dial(*arguments: Any, **options: Any) -> socket.socket:
        made.append(dialling.dial(*arguments, **options))
        abortable.abort()
        return made[0]

    monkeypatch.setattr(sockets, "dial", dial)
    with socket.create_server((HOST, 0)) as listener, pytest.raises(ConnectionAbortedError):
        abortable.connect(HOST, listener.getsockname()[1], None, None, ())
    assert made[0].fileno() == -1


def test_the_sockets_of_all_other_attempts_are_closed() -> None:
    made: list[socket.socket] = []

    def start_one(address: tuple[Any, ...]) -> socket.socket:
        made.append(socket.socket())
        made[-1].setblocking(False)
        made[-1].connect_ex(address[4])
        return made[-1]

    with full_backlog() as dead, socket.create_server((HOST, 0)) as listener:
        addresses = [tcp(address) for address in (REFUSED, dead, dead, listener.getsockname())]
        with dialling.dial(addresses, LONG, start=start_one, close=socket.socket.close) as sock:
            assert sock is made[-1]
            assert [one.fileno() for one in made[:-1]] == [-1] * 3


def test_a_forked_child_closes_its_copies_of_all_attempts(abortable: AbortableSocket) -> None:
    attempts = [socket.socket(), socket.socket()]
    abortable._connecting += attempts
    abortable.disown()
    assert [sock.fileno() for sock in attempts] == [-1, -1]


def test_the_address_families_alternate() -> None:
    six, four = socket.AF_INET6, socket.AF_INET
    addresses = [(six, 1), (six, 2), (six, 3), (four, 4), (four, 5)]
    assert dialling.alternate_families(addresses) == [(six, 1), (four, 4), (six, 2), (four, 5), (six, 3)]
    assert dialling.alternate_families([]) == []
