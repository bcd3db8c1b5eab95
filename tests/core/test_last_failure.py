"""Why nothing arrives: the failure in a `TimeoutError`, and the last one of a request that is not repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import Interrupted, ReconnectPolicy, SSEClosedError, SSEConnectionError, SSEStatusError
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, status, stream
from support.policies import QUICK, SLOW
from support.streams import ONE, TWO
from support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from support.apis import Api

BRIEF = 0.05  # seconds, to let a timeout expire
QUICKEST = ReconnectPolicy(retry_delay=10, min_retry_delay=0, max_retry_delay=10, jitter=0)


# --- in a TimeoutError --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "prices"])
def test_a_timeout_names_the_last_failure(api: Api, name: str | None) -> None:
    with SSEServer(status(503, "busy")) as server, api.client(policy=SLOW) as client:
        conn = client.connect(server.url, name=name)
        with pytest.raises(TimeoutError):
            conn.open(BRIEF)
        wait_until(lambda: conn._reader.failure, "the first attempt")
        for wait in (api.recv, lambda conn, timeout: conn.open(timeout)):
            with pytest.raises(TimeoutError, match=r"; last failure: .*503") as caught:
                wait(conn, BRIEF)
            assert isinstance(caught.value.__cause__, SSEStatusError)
            assert caught.value.__cause__.body == b"busy"
            assert str(caught.value).endswith(f"; last failure: {caught.value.__cause__}")
            assert str(caught.value).startswith("prices: " if name else ("no event", "could not open"))
        api.close(conn)


def test_a_timeout_names_an_unreachable_host(api: Api) -> None:
    with SSEServer() as server, api.client(policy=SLOW) as client:
        server.refuse()
        conn = client.connect(server.url)
        with pytest.raises(TimeoutError):
            api.recv(conn, BRIEF)
        wait_until(lambda: conn._reader.failure, "the first attempt")
        with pytest.raises(TimeoutError, match=f"; last failure: {server.origin}: could not connect") as caught:
            api.recv(conn, BRIEF)
        assert isinstance(caught.value.__cause__, SSEConnectionError)
        api.close(conn)


def test_a_timeout_of_an_open_stream_has_no_failure(api: Api) -> None:
    with SSEServer(stream(ONE, CUT), stream(TWO, HANG)) as server, api.client(policy=QUICK) as client:
        conn = client.connect(server.url)
        assert [event.data for event in api.take(conn, 2)] == ["one", "two"]
        with pytest.raises(TimeoutError, match=r"^no event arrived in time; nothing is lost, .*waiting$") as caught:
            api.recv(conn, BRIEF)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        api.close(conn)


def test_a_timeout_after_a_clean_end_has_no_failure(api: Api) -> None:
    with SSEServer(stream(ONE)) as server, api.client(policy=SLOW) as client:
        conn = client.connect(server.url)
        assert api.next(conn).data == "one"
        with pytest.raises(TimeoutError) as caught:
            api.recv(conn, BRIEF)
        assert caught.value.__cause__ is None
        api.close(conn)


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_failure_after_a_timeout_is_raised_by_the_next_call_of_open(
    api: Api, tmp_path: Path, *, checkpoint: bool
) -> None:
    path = tmp_path / "last.id" if checkpoint else None
    gate = Gate()
    with SSEServer(status(404), handshake=gate) as server, api.client() as client:
        conn = client.connect(server.url, checkpoint=path)
        with pytest.raises(TimeoutError):
            conn.open(BRIEF)
        gate.open()
        wait_until(lambda: conn._reader.finished.is_set, "the failure")
        with pytest.raises(SSEClosedError):
            conn.restart()
        with pytest.raises(SSEStatusError):
            api.open(conn)
        with pytest.raises(SSEClosedError):
            api.open(conn)


# --- of a request that is not repeated ----------------------------------------------------------------------


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_refused_request_has_five_attempts(api: Api, method: str, code: int) -> None:
    with SSEServer(default=status(code, "busy")) as server, api.client(policy=QUICKEST) as client:
        with pytest.raises(SSEStatusError) as caught:
            api.rest(client.connect(server.url, method))
        assert caught.value.status == code
        assert len(server.requests) == 5


def test_an_unreachable_host_has_five_attempts(api: Api) -> None:
    with SSEServer() as server, api.client(policy=QUICKEST) as client:
        server.refuse()
        conn = client.connect(server.url, "POST")
        signals = api.signals(conn)
        for _ in range(4):
            assert isinstance(signals.next(), Interrupted)
        with pytest.raises(SSEConnectionError, match="could not connect"):
            signals.next()


def test_an_attempt_that_is_accepted_ends_the_count(api: Api) -> None:
    replies = *[status(503)] * 4, stream(ONE)
    with SSEServer(*replies) as server, api.client(policy=QUICKEST) as client:
        assert [event.data for event in api.rest(client.connect(server.url, "POST"))] == ["one"]


@pytest.mark.parametrize(
    ("options", "retries"),
    [
        ({"policy": ReconnectPolicy(retry_delay=10, min_retry_delay=0, max_retry_delay=10, max_retries=7)}, 7),
        ({"policy": ReconnectPolicy(retry_delay=10, max_retries=0)}, 0),
        ({"reconnect": True}, 9),
        ({"method": "GET"}, 9),
    ],
    ids=["max_retries=7", "max_retries=0", "reconnect=True", "GET"],
)
def test_another_number_of_attempts(api: Api, options: dict[str, Any], retries: int) -> None:
    replies = *[status(503)] * retries, status(404)
    with SSEServer(*replies) as server, api.client(policy=QUICKEST) as client:
        with pytest.raises(SSEStatusError):
            api.rest(client.connect(server.url, **{"method": "POST"} | options))
        assert len(server.requests) == retries + 1
