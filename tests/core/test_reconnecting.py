"""Reconnecting: errors that are retried, errors that are raised, and clean ends."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import (
    ReadyState,
    ReconnectPolicy,
    SSEClosedError,
    SSEConnectionError,
    SSEContentTypeError,
    SSEEventTooLargeError,
    SSEParsingError,
    SSEStatusError,
)
from sseclient_dual.testing import CUT, HANG, RESET, Reply, SSEServer, raw, status, stream, wire
from support.apis import Ended
from support.policies import QUICK
from support.streams import ONE, TWO
from support.waiting import AT_ONCE, silence, wait_until

if TYPE_CHECKING:
    from support.apis import Api


DROPS = {
    "reset": stream(ONE, RESET),
    "chunked body cut short": stream(ONE, CUT),
    "invalid chunk size": stream(ONE, wire("zz\r\n"), CUT),
    "body shorter than Content-Length": stream(ONE, CUT, framing="sized", headers={"Content-Length": "1000"}),
    "silence": stream(ONE, HANG),
    "invalid gzip": stream(ONE, wire("5\r\nhello\r\n"), HANG, encoding="gzip"),
}


@pytest.mark.parametrize("reply", DROPS.values(), ids=DROPS)
def test_a_drop_reconnects(api: Api, reply: Reply) -> None:
    with (
        SSEServer(reply, stream(TWO, HANG)) as server,
        api.client(policy=QUICK, timeout=silence(AT_ONCE)) as client,
        api.connect(client, server.url) as conn,
    ):
        assert [event.data for event in api.take(conn, 2)] == ["one", "two"]
        assert server.requests[1].last_event_id == "1"
        assert conn.stats.reconnects == 1


@pytest.mark.parametrize("reply", DROPS.values(), ids=DROPS)
def test_a_drop_is_raised_once_with_reconnecting_off(api: Api, reply: Reply) -> None:
    with (
        SSEServer(reply) as server,
        api.client(timeout=silence(AT_ONCE)) as client,
        api.connect(client, server.url, reconnect=False) as conn,
    ):
        assert api.next(conn).data == "one"  # an event received before the drop is not lost
        with pytest.raises(SSEConnectionError) as caught:
            api.next(conn)
        assert caught.value.__cause__ is not None
        assert server.origin in str(caught.value)
        assert conn.ready_state is ReadyState.CLOSED
        with pytest.raises(Ended):
            api.next(conn)
        with pytest.raises(SSEClosedError):
            api.recv(conn)
        assert len(server.requests) == 1


INVALID_RESPONSES = {
    "closed without a response": raw(CUT),
    "not HTTP": raw(b"SSH-2.0-OpenSSH\r\n", CUT),
    "head cut short": raw(b"HTTP/1.1 200 OK\r\nContent-Ty", CUT),
    "never answered": raw(HANG),
}


@pytest.mark.parametrize("reply", INVALID_RESPONSES.values(), ids=INVALID_RESPONSES)
def test_a_missing_or_invalid_response_is_a_drop(api: Api, reply: Reply) -> None:
    with (
        SSEServer(reply, stream(ONE, HANG)) as server,
        api.client(policy=QUICK, timeout=silence(AT_ONCE)) as client,
        api.connect(client, server.url) as conn,
    ):
        assert api.next(conn).data == "one"


@pytest.mark.parametrize("reply", INVALID_RESPONSES.values(), ids=INVALID_RESPONSES)
def test_a_missing_or_invalid_response_is_raised_with_reconnecting_off(api: Api, reply: Reply) -> None:
    with (
        SSEServer(reply) as server,
        api.client(timeout=silence(AT_ONCE)) as client,
        pytest.raises(SSEConnectionError, match=server.origin),
        api.connect(client, server.url, reconnect=False),
    ):
        pass


def test_a_refused_connection_is_retried(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with SSEServer(stream(ONE, HANG)) as server, api.client(policy=QUICK) as client:
        server.refuse()
        conn = client.connect(server.url)
        with pytest.raises(TimeoutError):
            api.recv(conn, 0.2)
        server.listen()
        assert api.next(conn).data == "one"
        api.close(conn)
    refusals = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert refusals
    assert all(record.name == "sseclient_dual" for record in refusals)
    # Each message is one line with the reason, the delay and the number of the attempt.
    assert "refused" in refusals[0].getMessage()
    assert refusals[0].getMessage().endswith("reconnecting in 0.0 s (attempt 2)")
    assert "\n" not in refusals[0].getMessage()


def test_a_refused_connection_is_raised_with_reconnecting_off(api: Api) -> None:
    with SSEServer() as server, api.client() as client:
        server.refuse()
        with pytest.raises(SSEConnectionError, match=r"refused.*check the host and port in the URL"):
            api.open(client.connect(server.url, reconnect=False))


def test_an_unknown_host_is_a_drop(api: Api) -> None:
    with api.client(policy=QUICK) as client:
        conn = client.connect("http://no-such-host.invalid/", reconnect=False)
        with pytest.raises(SSEConnectionError, match=r"no-such-host\.invalid.*could not resolve the host name"):
            api.open(conn)
        conn = client.connect("http://no-such-host.invalid/", policy=ReconnectPolicy(retry_delay=10, max_retries=2))
        with pytest.raises(SSEConnectionError):
            api.open(conn)
        assert conn.stats.reconnects == 2


def test_a_clean_end_reconnects(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with (
        SSEServer(stream(ONE), stream(TWO)) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        assert [event.data for event in api.rest(conn)] == ["one", "two"]
        assert [request.last_event_id for request in server.requests] == [None, "1", "2"]
        assert conn.status == 204
        assert conn.stats.reconnects == 2
    # A clean end is not a failure: some servers end each response by design.
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_clean_end_ends_the_iteration_with_reconnecting_off(api: Api) -> None:
    with (
        SSEServer(stream(ONE, TWO)) as server,
        api.client() as client,
        api.connect(client, server.url, reconnect=False) as conn,
    ):
        assert [event.data for event in api.rest(conn)] == ["one", "two"]
        assert api.rest(conn) == []
        with pytest.raises(SSEClosedError):
            api.recv(conn)
        with pytest.raises(SSEClosedError):
            api.open(conn)
        assert len(server.requests) == 1


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_temporary_status_is_retried(api: Api, code: int) -> None:
    with (
        SSEServer(status(code, "busy"), stream(ONE, HANG), status(code, "busy")) as server,
        api.client(policy=QUICK) as client,
    ):
        with api.connect(client, server.url) as conn:
            assert api.next(conn).data == "one"
        with pytest.raises(SSEStatusError) as caught:
            api.open(client.connect(server.url, reconnect=False))
        assert (caught.value.status, caught.value.body) == (code, b"busy")


@pytest.mark.parametrize("code", [201, 202, 205, 206, 400, 401, 403, 404, 410, 501, 505])
@pytest.mark.parametrize("reconnect", [True, False])
def test_other_statuses_are_final(api: Api, code: int, *, reconnect: bool) -> None:
    with (
        SSEServer(status(code, "no")) as server,
        api.client(policy=QUICK) as client,
        pytest.raises(SSEStatusError, match=f"{server.origin} answered with status {code}"),
        api.connect(client, server.url, reconnect=reconnect),
    ):
        pass
    assert len(server.requests) == 1


def test_the_policy_sets_the_statuses_to_retry(api: Api) -> None:
    policy = ReconnectPolicy(retry_delay=10, retry_statuses=frozenset({404}))
    with (
        SSEServer(status(404), stream(ONE), status(503)) as server,
        api.client(policy=policy) as client,
        api.connect(client, server.url) as conn,
    ):
        assert api.next(conn).data == "one"
        with pytest.raises(SSEStatusError) as caught:
            api.next(conn)
        assert caught.value.status == 503


@pytest.mark.parametrize("reconnect", [True, False])
def test_no_content_ends_the_iteration(api: Api, *, reconnect: bool) -> None:
    with SSEServer(status(204), stream(ONE)) as server, api.client(policy=QUICK) as client:
        conn = client.connect(server.url, reconnect=reconnect)
        assert api.open(conn) is conn
        assert conn.ready_state is ReadyState.CLOSED
        assert conn.status == 204
        assert api.rest(conn) == []
        with pytest.raises(SSEClosedError):
            api.open(conn)
        assert len(server.requests) == 1


def test_no_content_after_a_reconnect_keeps_queued_events(api: Api) -> None:
    with SSEServer(stream(ONE, TWO)) as server, api.client(policy=QUICK) as client:
        with api.connect(client, server.url) as conn:
            wait_until(lambda: conn.ready_state is ReadyState.CLOSED, "the 204")
            assert api.open(conn) is conn
            assert [event.data for event in api.rest(conn)] == ["one", "two"]


@pytest.mark.parametrize("reconnect", [True, False])
def test_a_wrong_media_type_is_final(api: Api, *, reconnect: bool) -> None:
    with (
        SSEServer(stream("<html>", content_type="text/html")) as server,
        api.client(policy=QUICK) as client,
        pytest.raises(SSEContentTypeError, match=f"{server.origin}.*text/html.*check"),
        api.connect(client, server.url, reconnect=reconnect),
    ):
        pass
    assert len(server.requests) == 1


def test_a_media_type_error_does_not_wait_for_an_endless_body(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sseclient_dual.transport.exchange._BODY_TIMEOUT", 0.2)
    with (
        SSEServer(stream("<html>", HANG, content_type="text/html")) as server,
        api.client() as client,
        pytest.raises(SSEContentTypeError) as caught,
        api.connect(client, server.url),
    ):
        pass
    assert caught.value.body == b"<html>"


def test_the_body_of_an_error_is_limited(api: Api) -> None:
    with (
        SSEServer(status(500, b"x" * 100_000)) as server,
        api.client() as client,
        pytest.raises(SSEStatusError) as caught,
        api.connect(client, server.url, reconnect=False),
    ):
        pass
    assert caught.value.body == b"x" * 65536


@pytest.mark.parametrize("reconnect", [True, False])
def test_an_event_that_is_too_large_is_final(api: Api, *, reconnect: bool) -> None:
    with (
        SSEServer(stream("data: ok\n\n", "data: " + "x" * 2000 + "\n\n", HANG)) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url, reconnect=reconnect, max_event_size=1000) as conn,
    ):
        assert api.next(conn).data == "ok"
        with pytest.raises(SSEEventTooLargeError, match="max_event_size"):
            api.next(conn)
        assert len(server.requests) == 1


def test_one_malformed_line_is_a_drop_and_a_second_is_raised(api: Api) -> None:
    with (
        SSEServer(stream(ONE, "garbage\n", HANG), stream(TWO, "garbage\n", HANG)) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        assert [event.data for event in api.take(conn, 2)] == ["one", "two"]
        with pytest.raises(SSEParsingError) as caught:
            api.next(conn)
        assert caught.value.line == "garbage"
        assert len(server.requests) == 2


def test_a_connection_without_a_malformed_line_resets_the_count(api: Api) -> None:
    malformed = stream("garbage\n", HANG)
    with (
        SSEServer(malformed, stream(ONE, CUT), malformed, stream(TWO, HANG)) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        assert [event.data for event in api.take(conn, 2)] == ["one", "two"]


def test_a_malformed_line_is_raised_with_reconnecting_off(api: Api) -> None:
    with (
        SSEServer(stream(ONE, "retry: soon\n", HANG)) as server,
        api.client() as client,
        api.connect(client, server.url, reconnect=False) as conn,
    ):
        assert api.next(conn).data == "one"
        with pytest.raises(SSEParsingError, match="strict=False"):
            api.next(conn)


def test_tolerant_parsing_ignores_malformed_lines(api: Api) -> None:
    with (
        SSEServer(stream("garbage\nretry: soon\n" + ONE, HANG)) as server,
        api.client() as client,
        api.connect(client, server.url, strict=False) as conn,
    ):
        assert api.next(conn).data == "one"
