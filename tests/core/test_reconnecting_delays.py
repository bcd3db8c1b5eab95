"""Reconnecting: delays, and requests that are not sent again."""

from __future__ import annotations

import logging
import time
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import Interrupted, ReconnectPolicy, SSEConnectionError, SSEStatusError
from sseclient_dual.testing import CUT, HANG, RESET, SSEServer, raw, status, stream
from support.apis import Ended
from support.policies import QUICK
from support.streams import ONE, TWO

if TYPE_CHECKING:
    from support.apis import Api


# -- requests that are not sent again


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("ending", [(), (CUT,), (RESET,)], ids=["clean", "cut", "reset"])
def test_a_post_is_not_sent_again(api: Api, method: str, ending: tuple[object, ...]) -> None:
    with (
        SSEServer(stream(ONE, *ending)) as server,  # type: ignore[arg-type]
        api.client(policy=QUICK) as client,
        api.connect(client, server.url, method, json={"stream": True}) as conn,
    ):
        assert api.next(conn).data == "one"
        with pytest.raises(SSEConnectionError if ending else Ended):
            api.next(conn)
        assert len(server.requests) == 1


@pytest.mark.parametrize("code", [408, 500, 502, 504])
def test_a_post_is_not_sent_again_if_the_server_may_have_acted_on_it(api: Api, code: int) -> None:
    with (
        SSEServer(status(code), stream(ONE)) as server,
        api.client(policy=QUICK) as client,
        pytest.raises(SSEStatusError),
        api.connect(client, server.url, "POST", data="x"),
    ):
        pass
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [429, 503])
def test_a_post_is_sent_again_if_the_server_did_not_act_on_it(api: Api, code: int) -> None:
    with (
        SSEServer(status(code), stream(ONE, HANG)) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url, "POST", json=[1]) as conn,
    ):
        assert api.next(conn).data == "one"
        assert [request.body for request in server.requests] == [b"[1]", b"[1]"]


def test_a_post_that_did_not_reach_the_server_is_sent_again(api: Api) -> None:
    with SSEServer(stream(ONE, HANG)) as server, api.client(policy=QUICK) as client:
        server.refuse()
        conn = client.connect(server.url, "POST", data=b"body")
        with pytest.raises(TimeoutError):
            api.recv(conn, 0.2)
        server.listen()
        assert api.next(conn).data == "one"
        assert [request.body for request in server.requests] == [b"body"]
        api.close(conn)


def test_a_post_is_sent_again_with_reconnect_true(api: Api) -> None:
    with (
        SSEServer(stream(ONE, CUT), stream(TWO)) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url, "POST", json={"a": "ä"}, reconnect=True) as conn,
    ):
        assert [event.data for event in api.rest(conn)] == ["one", "two"]
        assert len(server.requests) == 3
        assert len({request.body for request in server.requests}) == 1


# -- delays


def delays(api: Api, server: SSEServer, policy: ReconnectPolicy, **options: object) -> list[float]:
    """Read a stream to its end; return the delay of each `Interrupted` in milliseconds."""
    with api.client(policy=policy) as client:
        conn = client.connect(server.url, **options)  # type: ignore[arg-type]
        signals = api.signals(conn).rest()
        return [signal.retry_in for signal in signals if isinstance(signal, Interrupted)]


def test_the_server_sets_the_reconnection_time(api: Api) -> None:
    with SSEServer(stream("retry: 150\n", ONE, CUT), stream(TWO)) as server:
        began = time.monotonic()
        assert delays(api, server, ReconnectPolicy(retry_delay=60_000, jitter=0)) == [150, 150]
        assert time.monotonic() - began >= 0.3


def test_attempts_without_progress_back_off_and_progress_resets_the_delay(api: Api) -> None:
    policy = ReconnectPolicy(retry_delay=10, min_retry_delay=0, max_retry_delay=35, jitter=0)
    with SSEServer(stream(ONE), stream(), status(503), raw(CUT), stream(), stream(TWO), stream()) as server:
        assert delays(api, server, policy) == [10, 10, 20, 35, 35, 10, 10]


def test_jitter_is_added(api: Api) -> None:
    with SSEServer(*[stream(ONE)] * 20) as server:
        announced = delays(api, server, ReconnectPolicy(retry_delay=10, jitter=1.0, dedup=False))
        assert all(10 <= wait <= 20 for wait in announced)
        assert len(set(announced)) > 1


def test_retry_delay_overrides_the_policy(api: Api) -> None:
    with SSEServer(stream(ONE)) as server:
        assert delays(api, server, ReconnectPolicy(retry_delay=60_000, jitter=0), retry_delay=10) == [10]


def test_retry_after_sets_the_delay(api: Api) -> None:
    with SSEServer(status(503, headers={"Retry-After": "1"})) as server:
        began = time.monotonic()
        assert delays(api, server, QUICK) == [1000]
        assert time.monotonic() - began >= 1.0


def test_retry_after_may_be_a_date(api: Api) -> None:
    with SSEServer(status(429, headers={"Retry-After": formatdate(time.time() + 100_000, usegmt=True)})) as server:
        with api.client(policy=QUICK) as client:
            conn = client.connect(server.url)
            (interrupted,) = api.signals(conn).take(1)
            assert isinstance(interrupted, Interrupted)
            assert interrupted.retry_in == 86_400_000  # the maximum: a day
            api.close(conn)


def test_max_retries_raises_the_last_error(api: Api) -> None:
    policy = ReconnectPolicy(retry_delay=10, max_retries=2)
    with SSEServer(stream(ONE), default=status(503)) as server, api.client(policy=policy) as client:
        with api.connect(client, server.url) as conn:
            assert api.next(conn).data == "one"
            with pytest.raises(SSEStatusError):
                api.next(conn)
        assert len(server.requests) == 4


def test_max_retries_limits_connections_without_an_event(api: Api) -> None:
    policy = ReconnectPolicy(retry_delay=10, max_retries=1)
    with SSEServer(default=stream()) as server, api.client(policy=policy) as client:
        with api.connect(client, server.url) as conn, pytest.raises(SSEConnectionError, match="without a new event"):
            api.next(conn)
        assert len(server.requests) == 2


def test_connections_without_an_event_are_logged_as_failures(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with SSEServer(stream(), stream()) as server, api.client(policy=QUICK) as client:
        with api.connect(client, server.url) as conn:
            assert api.rest(conn) == []
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert warnings[1].endswith("(attempt 3)")
