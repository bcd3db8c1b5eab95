"""Hostile peers cause a clear error or a delayed retry. No secret leaks, and memory use stays bounded.

The tables of peers are in `peers.py` and `peers_http2.py`. Each test runs with both APIs; floods run in a separate,
measured process.
"""

from __future__ import annotations

import itertools
import logging
import re
import sys
import time
import traceback
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import pytest

from sseclient_dual import Interrupted, ReconnectPolicy, SSEConnectionError, SSEEventTooLargeError
from sseclient_dual.testing import HANG, Gate, SSEServer, redirect, status, stream
from stress import peers_http2
from stress.gauge import MIB, Gauge
from stress.hostile import PEERS
from stress.peers import BLOCK, DAY, Peer
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sseclient_dual import SSEClient
    from support.apis import Api

SECRET = "hunter2"
SMALL = BLOCK  # bytes: flood and event size where memory is not tested
LARGE = 8 * MIB  # bytes of a flood
LIMIT = 4  # MiB: maximum event size
ATTEMPTS = 4
GROWING = ReconnectPolicy(retry_delay=10, min_retry_delay=10, jitter=0, max_retries=ATTEMPTS - 1)
every_peer = pytest.mark.parametrize("peer", [*PEERS, *peers_http2.MALFORMED], ids=lambda peer: peer.name)


@pytest.fixture(autouse=True)
def clean_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that log messages of the package contain no secret and no control characters."""
    caplog.set_level(logging.DEBUG, "sseclient_dual")
    yield
    for record in caplog.records:
        if record.name == "sseclient_dual":
            assert SECRET not in record.getMessage()
            assert record.getMessage().isprintable()
            assert len(record.getMessage()) < 500


@pytest.fixture(scope="module")
def gauge() -> Iterator[Gauge]:
    """Yield a process that measures the memory use of floods."""
    with Gauge() as measuring:
        yield measuring


def with_secrets(server: SSEServer, peer: Peer) -> tuple[str, dict[str, Any]]:
    """Return a URL and options that contain the secret in every possible place, and the options of the peer."""
    url = server.url.replace("://", f"://user:{SECRET}@") + f"?key={SECRET}"
    options: dict[str, Any] = {"headers": {"X-Api-Key": SECRET, "Cookie": SECRET}, "last_event_id": SECRET}
    return url, options | ({"max_event_size": SMALL} if peer.error is SSEEventTooLargeError else {}) | dict(
        peer.options
    )


def assert_clear(error: SSEConnectionError, peer: Peer) -> None:
    """Check the class of the error, and that its message is expected, printable, short and free of secrets."""
    assert type(error) is peer.error
    assert re.search(peer.message or "", str(error))
    assert str(error).isprintable()
    assert len(str(error)) < 500
    assert SECRET not in "".join(traceback.format_exception(error))


@every_peer
def test_the_outcome_without_reconnecting(api: Api, peer: Peer) -> None:
    with SSEServer(default=lambda _request: peer.reply(SMALL)) as server, api.client() as client:
        url, options = with_secrets(server, peer)
        conn = client.connect(url, reconnect=False, **options)
        if peer.message is None:
            while api.recv(conn, PATIENCE).data != "end":
                pass
        else:
            with pytest.raises(SSEConnectionError) as caught:
                while True:
                    api.recv(conn, PATIENCE)
            assert_clear(caught.value, peer)
        api.close(conn)
        assert len(server.requests) == (21 if peer.requests == 21 else peer.each)
        assert not [request for request in server.requests if "x-evil" in request.headers]


@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.message is not None], ids=lambda peer: peer.name)
def test_the_outcome_with_reconnecting(api: Api, peer: Peer) -> None:
    with SSEServer(default=lambda _request: peer.reply(SMALL)) as server, api.client(policy=GROWING) as client:
        url, options = with_secrets(server, peer)
        conn = client.connect(url, reconnect=True, **options)
        signals = api.signals(conn)
        seen = []
        begin = time.monotonic()
        with pytest.raises(SSEConnectionError) as caught:
            while True:
                seen.append(signals.next())
        took = time.monotonic() - begin
        assert_clear(caught.value, peer)
        assert len(server.requests) == (peer.requests or ATTEMPTS * peer.each)
        waits = [signal.retry_in for signal in seen if isinstance(signal, Interrupted)]
        assert waits == ([10, 20, 40] if peer.requests is None else [10] if peer.requests == 2 else [])
        assert took > sum(waits) / 1000


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.floods], ids=lambda peer: peer.name)
def test_the_memory_use_of_a_flood(gauge: Gauge, peer: Peer) -> None:
    cost, requests = gauge.measure(peer, LARGE, LIMIT)
    assert cost.memory < peer.memory(LIMIT)
    assert re.search(peer.message or "^$", cost.error)
    assert requests == 1
    if peer.message is None:
        assert cost.bytes >= LARGE


@pytest.mark.parametrize("http2", [False, "prior-knowledge"])
def test_floods_leave_other_streams_alone(api: Api, http2: Literal["prior-knowledge"] | bool) -> None:
    gate = Gate()
    floods = [peer for peer in peers_http2.PEERS if peer.name.startswith("endless")][::3]
    with ExitStack() as stack:
        good = stack.enter_context(SSEServer(stream("data: x\n\n", gate, "data: y\n\n", HANG), http2=bool(http2)))
        client = stack.enter_context(api.client(policy=GROWING))
        conn = stack.enter_context(api.connect(client, good.url, http2=http2))
        assert api.next(conn).data == "x"
        bad = [stack.enter_context(SSEServer(default=lambda _, peer=peer: peer.reply(SMALL))) for peer in floods]  # type: ignore[misc]
        flooded = [client.connect(server.url, http2="prior-knowledge") for server in bad]
        for each in flooded:
            with pytest.raises(SSEConnectionError):
                api.rest(each)
        gate.open()
        assert api.next(conn).data == "y"
        assert conn.stats.reconnects == 0


def test_a_window_that_is_ignored(api: Api) -> None:
    reply = peers_http2.endless(b"data: x\n\n")
    with SSEServer(default=lambda _request: reply(SMALL)) as server, api.client(http2="prior-knowledge") as client:
        conn = api.open(client.connect(server.url, reconnect=False))
        server.wait_for_connections(0)
        with pytest.raises(SSEConnectionError, match="the server ignored the window of a stream"):
            api.rest(conn)
        assert conn.stats.bytes < 16 * MIB


def test_a_busy_stream_that_closes_leaves_its_connection_to_the_others(api: Api) -> None:
    gate = Gate()
    quiet = stream("data: x\n\n", gate, "data: y\n\n", HANG)

    def busy() -> Iterator[bytes]:
        while True:
            yield from [b"data: z\n\n"] * 1000

    with SSEServer(quiet, stream(busy), http2=True) as server, api.client(http2="prior-knowledge") as client:
        with api.connect(client, server.url) as conn:
            assert api.next(conn).data == "x"
            with api.connect(client, server.url) as other:
                wait_until(lambda: other.stats.queued == 1024, "a full queue")
            gate.open()
            assert api.next(conn).data == "y"
            assert conn.stats.reconnects == 0
        assert [request.connection for request in server.requests] == [1, 1]


# -- cases beyond the table


def test_a_retry_of_ten_thousand_digits_waits_a_day_and_closes_at_once(api: Api) -> None:
    with SSEServer(default=stream("retry: " + "9" * 10_000 + "\n\n")) as server, api.client() as client:
        assert_waits_a_day(api, client, server)


def test_a_retry_after_of_ten_thousand_digits_waits_a_day_and_closes_at_once(api: Api) -> None:
    busy = status(503, headers={"Retry-After": "9" * 10_000})
    with SSEServer(default=busy) as server, api.client() as client:
        assert_waits_a_day(api, client, server)


def assert_waits_a_day(api: Api, client: SSEClient, server: SSEServer) -> None:
    conn = client.connect(server.url, policy=ReconnectPolicy(jitter=0))
    signals = api.signals(conn)
    while not isinstance(interrupted := signals.next(), Interrupted):
        pass
    assert interrupted.retry_in == DAY
    api.close(conn)
    assert signals.rest() == []
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("sent", "header"),
    [
        ("a\x01b", None),
        ("\x1b[2J", None),
        ("\x7f", None),
        ("a\0b", "before"),  # the standard ignores an id with NUL
        ("a\rX-Evil: 1", "a"),
        ("a\nX-Evil: 1", "a"),
        ("a\u0085X-Evil: 1", "a\u0085X-Evil: 1"),
        ("\u2028\u560a\u560d", "\u2028\u560a\u560d"),  # their code points end with the bytes of LF and CR
        ("i" * 100_000, "i" * 100_000),
    ],
    ids=ascii,
)
def test_an_id_cannot_inject_a_header(api: Api, sent: str, header: str | None) -> None:
    with SSEServer(stream(f"id: before\ndata: x\nid: {sent}\n\n"), default=status(204)) as server:
        with api.client(policy=GROWING) as client, api.connect(client, server.url, strict=False) as conn:
            assert [event.data for event in api.rest(conn)] == ["x"]
        first, second = server.requests
        assert second.last_event_id == header
        assert set(second.headers) == set(first.headers) | ({"last-event-id"} if header is not None else set())


def test_a_redirect_loop_between_two_origins_restores_no_credentials(api: Api) -> None:
    with SSEServer() as there, SSEServer(default=redirect(there.url)) as here:
        there.add(*[redirect(here.url)] * 99)
        with api.client() as client:
            url = here.url.replace("://", f"://user:{SECRET}@")
            conn = client.connect(url, headers={"X-Api-Key": SECRET, "Cookie": SECRET})
            with pytest.raises(SSEConnectionError, match="more than 20 times"):
                api.open(conn)
        with_secret = [request for request in here.requests + there.requests if SECRET in str(request.raw_headers)]
        assert with_secret == here.requests[:1]
        assert len(here.requests + there.requests) == 21


def test_credentials_in_a_location_are_not_sent(api: Api) -> None:
    with SSEServer(stream("data: x\n\n", HANG)) as there:
        with SSEServer(redirect(there.url.replace("://", "://evil:evil@"))) as here, api.client() as client:
            with api.connect(client, here.url, auth=("user", SECRET)) as conn:
                assert api.next(conn).data == "x"
            assert "authorization" not in there.requests[0].headers


def test_endless_progress_is_not_a_busy_loop(api: Api) -> None:
    # Each response has one event and `retry: 0`. Each attempt makes progress, so there is no backoff.
    numbers = itertools.count()
    fast = SSEServer(default=lambda _request: stream(f"retry: 0\nid: {next(numbers)}\ndata: x\n\n"))
    begin = time.monotonic()
    with fast as server, api.client() as client, api.connect(client, server.url, retry_delay=100) as conn:
        assert len(api.take(conn, 4)) == 4
        assert 0.1 * (len(server.requests) - 1) <= time.monotonic() - begin
