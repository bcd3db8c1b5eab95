"""Reconnecting over real sockets: each row of the table of what happened, with reconnecting on and off."""

from __future__ import annotations

import logging
import time
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import (
    Interrupted,
    Opened,
    ReadyState,
    ReconnectPolicy,
    SSEClosedError,
    SSEConnectionError,
    SSEContentTypeError,
    SSEEvent,
    SSEEventTooLargeError,
    SSEParsingError,
    SSEStatusError,
)
from sseclient_dual.testing import (
    CUT,
    HANG,
    RESET,
    Gate,
    Reply,
    SSEServer,
    raw,
    status,
    stream,
    wire,
)
from support.apis import Ended
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from support.apis import Face

QUICK = ReconnectPolicy(retry_delay=10, jitter=0)
ONE = "id: 1\ndata: one\n\n"
TWO = "id: 2\ndata: two\n\n"

DROPS = {
    "reset": stream(ONE, RESET),
    "chunked body cut short": stream(ONE, CUT),
    "chunk size that is no number": stream(ONE, wire("zz\r\n"), CUT),
    "sized body cut short": stream(ONE, CUT, framing="sized", headers={"Content-Length": "1000"}),
    "silence": stream(ONE, HANG),
    "content that is not gzip": stream(ONE, wire("5\r\nhello\r\n"), HANG, encoding="gzip"),
}


@pytest.mark.parametrize("reply", DROPS.values(), ids=DROPS)
def test_a_drop_is_followed_by_another_connection(face: Face, reply: Reply) -> None:
    with (
        SSEServer(reply, stream(TWO, HANG)) as server,
        face.client(policy=QUICK, timeout=0.5) as client,
        face.connect(client, server.url) as conn,
    ):
        assert [event.data for event in face.take(conn, 2)] == ["one", "two"]
        assert server.requests[1].last_event_id == "1"
        assert conn.stats.reconnects == 1


@pytest.mark.parametrize("reply", DROPS.values(), ids=DROPS)
def test_a_drop_is_raised_once_with_reconnecting_off(face: Face, reply: Reply) -> None:
    with (
        SSEServer(reply) as server,
        face.client(timeout=0.5) as client,
        face.connect(client, server.url, reconnect=False) as conn,
    ):
        assert face.next(conn).data == "one"  # nothing already received is lost
        with pytest.raises(SSEConnectionError) as caught:
            face.next(conn)
        assert caught.value.__cause__ is not None
        assert server.origin in str(caught.value)
        assert conn.ready_state is ReadyState.CLOSED
        with pytest.raises(Ended):
            face.next(conn)
        with pytest.raises(SSEClosedError):
            face.recv(conn)
        assert len(server.requests) == 1


NO_ANSWERS = {
    "closed without an answer": raw(CUT),
    "not HTTP": raw(b"SSH-2.0-OpenSSH\r\n", CUT),
    "head cut short": raw(b"HTTP/1.1 200 OK\r\nContent-Ty", CUT),
    "never answered": raw(HANG),
}


@pytest.mark.parametrize("reply", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_no_answer_is_a_drop(face: Face, reply: Reply) -> None:
    with (
        SSEServer(reply, stream(ONE, HANG)) as server,
        face.client(policy=QUICK, timeout=0.5) as client,
        face.connect(client, server.url) as conn,
    ):
        assert face.next(conn).data == "one"


@pytest.mark.parametrize("reply", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_no_answer_is_raised_with_reconnecting_off(face: Face, reply: Reply) -> None:
    with (
        SSEServer(reply) as server,
        face.client(timeout=0.5) as client,
        pytest.raises(SSEConnectionError, match=server.origin),
        face.connect(client, server.url, reconnect=False),
    ):
        pass


def test_a_refused_connection_is_tried_again(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    with SSEServer(stream(ONE, HANG)) as server, face.client(policy=QUICK) as client:
        server.refuse()
        conn = client.connect(server.url)
        with pytest.raises(TimeoutError):
            face.recv(conn, 0.2)
        server.listen()
        assert face.next(conn).data == "one"
        face.close(conn)
    refusals = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert refusals
    assert all(record.name == "sseclient_dual" for record in refusals)
    # The reason, the wait and the attempt, each in one line.
    assert "refused" in refusals[0].getMessage()
    assert refusals[0].getMessage().endswith("reconnecting in 0.0 s (attempt 2)")
    assert "\n" not in refusals[0].getMessage()


def test_a_refused_connection_is_raised_with_reconnecting_off(face: Face) -> None:
    with SSEServer() as server, face.client() as client:
        server.refuse()
        with pytest.raises(SSEConnectionError, match=r"refused.*check the URL"):
            face.open(client.connect(server.url, reconnect=False))


def test_an_unknown_host_is_a_drop(face: Face) -> None:
    with face.client(policy=QUICK) as client:
        conn = client.connect("http://no-such-host.invalid/", reconnect=False)
        with pytest.raises(SSEConnectionError, match=r"no-such-host\.invalid.*name could not be resolved"):
            face.open(conn)
        conn = client.connect("http://no-such-host.invalid/", policy=ReconnectPolicy(retry_delay=1, max_retries=2))
        with pytest.raises(SSEConnectionError):
            face.open(conn)
        assert conn.stats.reconnects == 2


def test_a_clean_end_is_followed_by_another_connection(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    with (
        SSEServer(stream(ONE), stream(TWO)) as server,
        face.client(policy=QUICK) as client,
        face.connect(client, server.url) as conn,
    ):
        assert [event.data for event in face.rest(conn)] == ["one", "two"]
        assert [request.last_event_id for request in server.requests] == [None, "1", "2"]
        assert conn.status == 204
        assert conn.stats.reconnects == 2
    # Some servers end each response by design, which is no failure.
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_clean_end_ends_the_iteration_with_reconnecting_off(face: Face) -> None:
    with (
        SSEServer(stream(ONE, TWO)) as server,
        face.client() as client,
        face.connect(client, server.url, reconnect=False) as conn,
    ):
        assert [event.data for event in face.rest(conn)] == ["one", "two"]
        assert face.rest(conn) == []
        with pytest.raises(SSEClosedError):
            face.recv(conn)
        with pytest.raises(SSEClosedError):
            face.open(conn)
        assert len(server.requests) == 1


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_status_worth_retrying(face: Face, code: int) -> None:
    with (
        SSEServer(status(code, "busy"), stream(ONE, HANG), status(code, "busy")) as server,
        face.client(policy=QUICK) as client,
    ):
        with face.connect(client, server.url) as conn:
            assert face.next(conn).data == "one"
        with pytest.raises(SSEStatusError) as caught:
            face.open(client.connect(server.url, reconnect=False))
        assert (caught.value.status, caught.value.body) == (code, b"busy")


@pytest.mark.parametrize("code", [201, 202, 205, 206, 400, 401, 403, 404, 410, 501, 505])
@pytest.mark.parametrize("reconnect", [True, False])
def test_any_other_status_is_final(face: Face, code: int, *, reconnect: bool) -> None:
    with (
        SSEServer(status(code, "no")) as server,
        face.client(policy=QUICK) as client,
        pytest.raises(SSEStatusError, match=f"{server.origin} answered with status {code}"),
        face.connect(client, server.url, reconnect=reconnect),
    ):
        pass
    assert len(server.requests) == 1


def test_the_policy_says_which_statuses_are_worth_retrying(face: Face) -> None:
    policy = ReconnectPolicy(retry_delay=1, retry_statuses=frozenset({404}))
    with (
        SSEServer(status(404), stream(ONE), status(503)) as server,
        face.client(policy=policy) as client,
        face.connect(client, server.url) as conn,
    ):
        assert face.next(conn).data == "one"
        with pytest.raises(SSEStatusError) as caught:
            face.next(conn)
        assert caught.value.status == 503


@pytest.mark.parametrize("reconnect", [True, False])
def test_no_content_ends_the_iteration(face: Face, *, reconnect: bool) -> None:
    with SSEServer(status(204), stream(ONE)) as server, face.client(policy=QUICK) as client:
        conn = client.connect(server.url, reconnect=reconnect)
        assert face.open(conn) is conn
        assert conn.ready_state is ReadyState.CLOSED
        assert conn.status == 204
        assert face.rest(conn) == []
        with pytest.raises(SSEClosedError):
            face.open(conn)
        assert len(server.requests) == 1


def test_no_content_after_a_reconnect_lets_queued_events_be_taken(face: Face) -> None:
    with SSEServer(stream(ONE, TWO)) as server, face.client(policy=QUICK) as client:
        with face.connect(client, server.url) as conn:
            wait_until(lambda: conn.ready_state is ReadyState.CLOSED, "the 204")
            assert face.open(conn) is conn
            assert [event.data for event in face.rest(conn)] == ["one", "two"]


@pytest.mark.parametrize("reconnect", [True, False])
def test_another_media_type_is_final(face: Face, *, reconnect: bool) -> None:
    with (
        SSEServer(stream("<html>", content_type="text/html")) as server,
        face.client(policy=QUICK) as client,
        pytest.raises(SSEContentTypeError, match=f"{server.origin}.*text/html.*check"),
        face.connect(client, server.url, reconnect=reconnect),
    ):
        pass
    assert len(server.requests) == 1


def test_a_media_type_error_does_not_wait_for_an_endless_body(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sseclient_dual.transport._BODY_PATIENCE", 0.2)
    with (
        SSEServer(stream("<html>", HANG, content_type="text/html")) as server,
        face.client() as client,
        pytest.raises(SSEContentTypeError) as caught,
        face.connect(client, server.url),
    ):
        pass
    assert caught.value.body == b"<html>"


def test_the_body_of_an_error_is_capped(face: Face) -> None:
    with (
        SSEServer(status(500, b"x" * 100_000)) as server,
        face.client() as client,
        pytest.raises(SSEStatusError) as caught,
        face.connect(client, server.url, reconnect=False),
    ):
        pass
    assert caught.value.body == b"x" * 65536


@pytest.mark.parametrize("reconnect", [True, False])
def test_an_event_that_is_too_large_is_final(face: Face, *, reconnect: bool) -> None:
    with (
        SSEServer(stream("data: ok\n\n", "data: " + "x" * 2000 + "\n\n", HANG)) as server,
        face.client(policy=QUICK) as client,
        face.connect(client, server.url, reconnect=reconnect, max_event_size=1000) as conn,
    ):
        assert face.next(conn).data == "ok"
        with pytest.raises(SSEEventTooLargeError, match="max_event_size"):
            face.next(conn)
        assert len(server.requests) == 1


# -- lines that are no SSE


def test_one_bad_line_is_a_drop_and_a_second_connection_with_one_raises(face: Face) -> None:
    with (
        SSEServer(stream(ONE, "garbage\n", HANG), stream(TWO, "garbage\n", HANG)) as server,
        face.client(policy=QUICK) as client,
        face.connect(client, server.url) as conn,
    ):
        assert [event.data for event in face.take(conn, 2)] == ["one", "two"]
        with pytest.raises(SSEParsingError) as caught:
            face.next(conn)
        assert caught.value.line == "garbage"
        assert len(server.requests) == 2


def test_a_healthy_connection_in_between_forgives_a_bad_line(face: Face) -> None:
    bad = stream("garbage\n", HANG)
    with (
        SSEServer(bad, stream(ONE, CUT), bad, stream(TWO, HANG)) as server,
        face.client(policy=QUICK) as client,
        face.connect(client, server.url) as conn,
    ):
        assert [event.data for event in face.take(conn, 2)] == ["one", "two"]


def test_a_bad_line_is_raised_with_reconnecting_off(face: Face) -> None:
    with (
        SSEServer(stream(ONE, "retry: soon\n", HANG)) as server,
        face.client() as client,
        face.connect(client, server.url, reconnect=False) as conn,
    ):
        assert face.next(conn).data == "one"
        with pytest.raises(SSEParsingError, match="strict=False"):
            face.next(conn)


def test_the_tolerant_reading_ignores_bad_lines(face: Face) -> None:
    with (
        SSEServer(stream("garbage\nretry: soon\n" + ONE, HANG)) as server,
        face.client() as client,
        face.connect(client, server.url, strict=False) as conn,
    ):
        assert face.next(conn).data == "one"


# -- what is not sent again


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("ending", [(), (CUT,), (RESET,)], ids=["clean", "cut", "reset"])
def test_a_post_is_not_sent_again(face: Face, method: str, ending: tuple[object, ...]) -> None:
    with (
        SSEServer(stream(ONE, *ending)) as server,  # type: ignore[arg-type]
        face.client(policy=QUICK) as client,
        face.connect(client, server.url, method, json={"stream": True}) as conn,
    ):
        assert face.next(conn).data == "one"
        with pytest.raises(SSEConnectionError if ending else Ended):
            face.next(conn)
        assert len(server.requests) == 1


@pytest.mark.parametrize("code", [408, 500, 502, 504])
def test_a_post_is_not_sent_again_after_a_status_that_leaves_it_open(face: Face, code: int) -> None:
    with (
        SSEServer(status(code), stream(ONE)) as server,
        face.client(policy=QUICK) as client,
        pytest.raises(SSEStatusError),
        face.connect(client, server.url, "POST", data="x"),
    ):
        pass
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [429, 503])
def test_a_post_is_sent_again_after_a_status_that_says_it_was_not_acted_upon(face: Face, code: int) -> None:
    with (
        SSEServer(status(code), stream(ONE, HANG)) as server,
        face.client(policy=QUICK) as client,
        face.connect(client, server.url, "POST", json=[1]) as conn,
    ):
        assert face.next(conn).data == "one"
        assert [request.body for request in server.requests] == [b"[1]", b"[1]"]


def test_a_post_that_did_not_reach_the_server_is_sent_again(face: Face) -> None:
    with SSEServer(stream(ONE, HANG)) as server, face.client(policy=QUICK) as client:
        server.refuse()
        conn = client.connect(server.url, "POST", data=b"body")
        with pytest.raises(TimeoutError):
            face.recv(conn, 0.2)
        server.listen()
        assert face.next(conn).data == "one"
        assert [request.body for request in server.requests] == [b"body"]
        face.close(conn)


def test_a_post_is_sent_again_when_asked_for(face: Face) -> None:
    with (
        SSEServer(stream(ONE, CUT), stream(TWO)) as server,
        face.client(policy=QUICK) as client,
        face.connect(client, server.url, "POST", json={"a": "ä"}, reconnect=True) as conn,
    ):
        assert [event.data for event in face.rest(conn)] == ["one", "two"]
        assert len(server.requests) == 3
        assert len({request.body for request in server.requests}) == 1


# -- waiting


def waits(face: Face, server: SSEServer, policy: ReconnectPolicy, **options: object) -> list[float]:
    """Follow a stream to its end; return the milliseconds that it announced to wait each time."""
    with face.client(policy=policy) as client:
        conn = client.connect(server.url, **options)  # type: ignore[arg-type]
        signals = face.signals(conn).rest()
        return [signal.retry_in for signal in signals if isinstance(signal, Interrupted)]


def test_the_server_sets_the_reconnection_time(face: Face) -> None:
    with SSEServer(stream("retry: 150\n", ONE, CUT), stream(TWO)) as server:
        began = time.monotonic()
        assert waits(face, server, ReconnectPolicy(retry_delay=60_000, jitter=0)) == [150, 150]
        assert time.monotonic() - began >= 0.3


def test_attempts_without_progress_back_off_and_progress_resets(face: Face) -> None:
    policy = ReconnectPolicy(retry_delay=4, min_retry_delay=0, max_retry_delay=15, jitter=0)
    with SSEServer(stream(ONE), stream(), status(503), raw(CUT), stream(), stream(TWO), stream()) as server:
        assert waits(face, server, policy) == [4, 4, 8, 15, 15, 4, 4]


def test_jitter_is_added(face: Face) -> None:
    with SSEServer(*[stream(ONE)] * 20) as server:
        announced = waits(face, server, ReconnectPolicy(retry_delay=2, jitter=1.0, dedup=False))
        assert all(2 <= wait <= 4 for wait in announced)
        assert len(set(announced)) > 1


def test_retry_delay_beside_a_policy_wins(face: Face) -> None:
    with SSEServer(stream(ONE)) as server:
        assert waits(face, server, ReconnectPolicy(retry_delay=60_000, jitter=0), retry_delay=1) == [1]


def test_retry_after_is_waited_for(face: Face) -> None:
    with SSEServer(status(503, headers={"Retry-After": "1"})) as server:
        began = time.monotonic()
        assert waits(face, server, QUICK) == [1000]
        assert time.monotonic() - began >= 1.0


def test_retry_after_may_be_a_date(face: Face) -> None:
    with SSEServer(status(429, headers={"Retry-After": formatdate(time.time() + 100_000, usegmt=True)})) as server:
        with face.client(policy=QUICK) as client:
            conn = client.connect(server.url)
            (interrupted,) = face.signals(conn).take(1)
            assert isinstance(interrupted, Interrupted)
            assert interrupted.retry_in == 86_400_000  # a day at most
            face.close(conn)


def test_max_retries_raises_the_last_error(face: Face) -> None:
    policy = ReconnectPolicy(retry_delay=1, max_retries=2)
    with SSEServer(stream(ONE), default=status(503)) as server, face.client(policy=policy) as client:
        with face.connect(client, server.url) as conn:
            assert face.next(conn).data == "one"
            with pytest.raises(SSEStatusError):
                face.next(conn)
        assert len(server.requests) == 4


def test_max_retries_ends_connections_that_bring_nothing(face: Face) -> None:
    policy = ReconnectPolicy(retry_delay=1, max_retries=1)
    with SSEServer(default=stream()) as server, face.client(policy=policy) as client:
        with face.connect(client, server.url) as conn, pytest.raises(SSEConnectionError, match="no new event"):
            face.next(conn)
        assert len(server.requests) == 2


def test_connections_that_bring_nothing_are_logged_as_failures(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    with SSEServer(stream(), stream()) as server, face.client(policy=QUICK) as client:
        with face.connect(client, server.url) as conn:
            assert face.rest(conn) == []
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert warnings[1].endswith("(attempt 3)")


# -- Last-Event-ID


def test_the_first_request_resumes(face: Face) -> None:
    with (
        SSEServer(stream("data: x\n\n", CUT), stream(HANG)) as server,
        face.client(policy=QUICK) as client,
        face.connect(client, server.url, last_event_id="…☃") as conn,
    ):
        assert conn.last_event_id == "…☃"
        assert face.next(conn).last_event_id == "…☃"
        # A drop before any id was seen on a connection still sends the one from before.
        assert [request.last_event_id for request in server.wait_for_requests(2)] == ["…☃", "…☃"]


def test_an_id_that_no_header_can_carry_is_left_out(face: Face) -> None:
    with (
        SSEServer(stream("id: a\x01b\ndata: x\n\n", CUT), stream(HANG)) as server,
        face.client(policy=QUICK) as client,
        face.connect(client, server.url) as conn,
    ):
        assert face.next(conn).id == "a\x01b"
        assert server.wait_for_requests(2)[1].last_event_id is None


def test_last_event_id_is_that_of_the_last_event_handed_over(face: Face) -> None:
    with (
        SSEServer(stream(ONE + TWO, "id: 3\n\n", CUT), stream(HANG)) as server,
        face.client(policy=QUICK) as client,
        face.connect(client, server.url) as conn,
    ):
        # The network side is ahead: what is asked for is what follows the last event queued.
        assert server.wait_for_requests(2)[1].last_event_id == "3"
        assert conn.last_event_id == ""
        assert face.next(conn).data == "one"
        assert conn.last_event_id == "1"
        assert face.next(conn).data == "two"
        assert conn.last_event_id == "2"


# -- de-duplication, as a stream sees it (its rules are proved in test_policy.py)


def test_the_first_event_without_an_id_after_a_reconnect_is_compared_with_the_last(face: Face) -> None:
    with (
        SSEServer(stream("data: a\n\n", "data: b\n\n", CUT), stream("data: b\n\n", "data: b\n\n")) as server,
        face.client(policy=QUICK) as client,
        face.connect(client, server.url) as conn,
    ):
        assert [event.data for event in face.rest(conn)] == ["a", "b", "b"]


def test_one_id_for_a_whole_answer_loses_nothing(face: Face) -> None:
    tokens = ["to", "be", "or", "not", "to", "be"]
    answer = [f"id: x\ndata: {token}\n\n" for token in tokens]
    with (
        SSEServer(stream(*answer, CUT), stream(*answer)) as server,
        face.client(policy=QUICK) as client,
        face.connect(client, server.url) as conn,
    ):
        assert [event.data for event in face.rest(conn)] == [*tokens, *tokens]


def test_dedup_can_be_turned_off(face: Face) -> None:
    with (
        SSEServer(stream(ONE, CUT), stream(ONE)) as server,
        face.client(policy=ReconnectPolicy(retry_delay=1, dedup=False)) as client,
        face.connect(client, server.url) as conn,
    ):
        assert [event.data for event in face.rest(conn)] == ["one", "one"]
        assert conn.stats.duplicates == 0


# -- restart


def test_restart_reconnects_without_the_delay(face: Face) -> None:
    policy = ReconnectPolicy(retry_delay=60_000)
    with (
        SSEServer(stream(ONE, HANG), stream(TWO, HANG)) as server,
        face.client(policy=policy) as client,
    ):
        conn = client.connect(server.url)
        signals = face.signals(conn)
        kinds = [type(signal) for signal in signals.take(2)]
        conn.restart()
        kinds += [type(signal) for signal in signals.take(3)]
        assert kinds == [Opened, SSEEvent, Interrupted, Opened, SSEEvent]
        assert server.requests[1].last_event_id == "1"
        server.wait_for_connections(1)
        face.close(conn)


@pytest.mark.parametrize("options", [{"reconnect": False}, {"method": "POST", "data": "x"}], ids=["off", "post"])
def test_restart_is_done_where_reconnecting_is_not(face: Face, options: dict[str, object]) -> None:
    with (
        SSEServer(stream(ONE, HANG), stream(TWO)) as server,
        face.client() as client,
        face.connect(client, server.url, **options) as conn,
    ):
        assert face.next(conn).data == "one"
        conn.restart()
        assert [event.data for event in face.rest(conn)] == ["two"]


def test_restart_cuts_the_wait_short(face: Face) -> None:
    policy = ReconnectPolicy(retry_delay=60_000)
    with (
        SSEServer(stream(ONE), stream(TWO, HANG)) as server,
        face.client(policy=policy) as client,
        face.connect(client, server.url) as conn,
    ):
        assert face.next(conn).data == "one"
        wait_until(lambda: conn.ready_state is ReadyState.CONNECTING, "the wait")
        conn.restart()
        assert face.recv(conn, PATIENCE).data == "two"


@pytest.mark.parametrize("dedup", [True, False])
def test_restart_in_the_middle_of_a_batch_resumes_after_the_last_event_queued(face: Face, *, dedup: bool) -> None:
    events = [f"id: {number}\ndata: {number}\n\n" for number in range(100)]
    with (
        SSEServer(
            stream("".join(events), HANG, framing="close"),
            lambda request: stream(*events[int(request.last_event_id or "") + 1 :], HANG),
        ) as server,
        face.client(policy=ReconnectPolicy(retry_delay=10, dedup=dedup)) as client,
        face.connect(client, server.url, queue_size=10) as conn,
    ):
        wait_until(lambda: conn.stats.queued == 10, "a full queue")
        conn.restart()
        assert server.wait_for_requests(2)[1].last_event_id == "9"
        assert [event.data for event in face.take(conn, 100)] == [str(number) for number in range(100)]
        assert conn.stats.duplicates == 0


def test_restart_of_a_connection_that_is_not_open_does_nothing(face: Face) -> None:
    with SSEServer(stream(ONE)) as server, face.client() as client:
        conn = client.connect(server.url)
        conn.restart()
        assert server.requests == []
        face.close(conn)
        with pytest.raises(SSEClosedError):
            conn.restart()


def test_restart_of_a_stream_that_is_over_says_so(face: Face) -> None:
    with (
        SSEServer(stream(ONE)) as server,
        face.client() as client,
        face.connect(client, server.url, reconnect=False) as conn,
    ):
        wait_until(lambda: conn.ready_state is ReadyState.CLOSED and conn._reader.finished.is_set, "the end")
        with pytest.raises(SSEClosedError):
            conn.restart()
        assert face.next(conn).data == "one"  # what came before is still there


def test_restart_while_connecting(face: Face) -> None:
    gate = Gate()
    with SSEServer(raw(gate, HANG), stream(ONE, HANG)) as server, face.client(policy=QUICK) as client:
        conn = client.connect(server.url)
        with pytest.raises(TimeoutError):
            face.recv(conn, 0)
        gate.wait_reached()
        conn.restart()
        assert face.next(conn).data == "one"
        face.close(conn)
