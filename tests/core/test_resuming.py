"""Resuming: `Last-Event-ID`, de-duplication of a whole stream, and `restart()`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import Interrupted, Opened, ReadyState, ReconnectPolicy, SSEClosedError, SSEEvent
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, raw, stream
from support.policies import QUICK, QUICK_NO_DEDUP, SLOW
from support.streams import ONE, TWO
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from support.apis import Api

pytestmark = pytest.mark.usefixtures("both_versions")


# -- Last-Event-ID


def test_the_first_request_sends_the_given_last_event_id(api: Api) -> None:
    with (
        SSEServer(stream("data: x\n\n", CUT), stream(HANG)) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url, last_event_id="…☃") as conn,
    ):
        assert conn.last_event_id == "…☃"
        assert api.next(conn).last_event_id == "…☃"
        # After a drop before the first id, the client sends the earlier id again.
        assert [request.last_event_id for request in server.wait_for_requests(2)] == ["…☃", "…☃"]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("é✓", "é✓"),
        ("é✓".encode().decode("latin-1"), "é✓"),
        ("é", "é"),  # not UTF-8 as Latin-1
        ("", None),
    ],
)
def test_an_id_is_taken_as_utf_8_and_as_latin_1(api: Api, given: str, sent: str | None) -> None:
    with (
        SSEServer(stream("data: x\n\n", HANG)) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url, last_event_id=given) as conn,
    ):
        assert conn.last_event_id == (sent or "")
        assert server.wait_for_requests(1)[0].last_event_id == sent


def test_an_id_that_is_invalid_in_a_header_is_not_sent(api: Api) -> None:
    with (
        SSEServer(stream("id: a\x01b\ndata: x\n\n", CUT), stream(HANG)) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        assert api.next(conn).id == "a\x01b"
        assert server.wait_for_requests(2)[1].last_event_id is None


def test_last_event_id_is_that_of_the_last_event_delivered(api: Api) -> None:
    with (
        SSEServer(stream(ONE + TWO, "id: 3\n\n", CUT), stream(HANG)) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        # The reader is ahead of the consumer: it asks for the events after the last one queued.
        assert server.wait_for_requests(2)[1].last_event_id == "3"
        assert conn.last_event_id == ""
        assert api.next(conn).data == "one"
        assert conn.last_event_id == "1"
        assert api.next(conn).data == "two"
        assert conn.last_event_id == "2"


# -- de-duplication of a whole stream (test_dedup.py tests the rules)


def test_the_first_event_without_an_id_after_a_reconnect_is_compared_with_the_last(api: Api) -> None:
    with (
        SSEServer(stream("data: a\n\n", "data: b\n\n", CUT), stream("data: b\n\n", "data: b\n\n")) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        assert [event.data for event in api.rest(conn)] == ["a", "b", "b"]


def test_one_id_for_a_whole_answer_loses_no_event(api: Api) -> None:
    tokens = ["to", "be", "or", "not", "to", "be"]
    answer = [f"id: x\ndata: {token}\n\n" for token in tokens]
    with (
        SSEServer(stream(*answer, CUT), stream(*answer)) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url) as conn,
    ):
        assert [event.data for event in api.rest(conn)] == [*tokens, *tokens]


def test_dedup_by_id_drops_no_event_without_an_id(api: Api) -> None:
    replies = stream(ONE, "data: a\n\n", CUT), stream("data: a\n\n", ONE, "data: b\n\n", CUT), stream(ONE)
    with SSEServer(*replies) as server, api.client(policy=replace(QUICK, dedup="id")) as client:
        conn = client.connect(server.url)
        assert [event.data for event in api.rest(conn)] == ["one", "a", "a", "b"]
        assert conn.stats.duplicates == 2


def test_dedup_can_be_turned_off(api: Api) -> None:
    with (
        SSEServer(stream(ONE, CUT), stream(ONE)) as server,
        api.client(policy=QUICK_NO_DEDUP) as client,
        api.connect(client, server.url) as conn,
    ):
        assert [event.data for event in api.rest(conn)] == ["one", "one"]
        assert conn.stats.duplicates == 0


# -- restart


def test_restart_reconnects_without_the_delay(api: Api) -> None:
    policy = SLOW
    with (
        SSEServer(stream(ONE, HANG), stream(TWO, HANG)) as server,
        api.client(policy=policy) as client,
    ):
        conn = client.connect(server.url)
        signals = api.signals(conn)
        kinds = [type(signal) for signal in signals.take(2)]
        conn.restart()
        kinds += [type(signal) for signal in signals.take(3)]
        assert kinds == [Opened, SSEEvent, Interrupted, Opened, SSEEvent]
        assert server.requests[1].last_event_id == "1"
        server.wait_for_connections(1)
        api.close(conn)


@pytest.mark.parametrize("options", [{"reconnect": False}, {"method": "POST", "data": "x"}], ids=["off", "post"])
def test_restart_works_with_reconnecting_off(api: Api, options: dict[str, object]) -> None:
    with (
        SSEServer(stream(ONE, HANG), stream(TWO)) as server,
        api.client() as client,
        api.connect(client, server.url, **options) as conn,
    ):
        assert api.next(conn).data == "one"
        conn.restart()
        assert [event.data for event in api.rest(conn)] == ["two"]


def test_restart_ends_the_backoff(api: Api) -> None:
    policy = SLOW
    with (
        SSEServer(stream(ONE), stream(TWO, HANG)) as server,
        api.client(policy=policy) as client,
        api.connect(client, server.url) as conn,
    ):
        assert api.next(conn).data == "one"
        wait_until(lambda: conn.ready_state is ReadyState.CONNECTING, "the backoff")
        conn.restart()
        assert api.recv(conn, PATIENCE).data == "two"


@pytest.mark.parametrize("dedup", [True, False])
def test_restart_in_the_middle_of_a_batch_resumes_after_the_last_event_queued(api: Api, *, dedup: bool) -> None:
    events = [f"id: {number}\ndata: {number}\n\n" for number in range(100)]
    with (
        SSEServer(
            stream("".join(events), HANG, framing="close"),
            lambda request: stream(*events[int(request.last_event_id or "") + 1 :], HANG),
        ) as server,
        api.client(policy=ReconnectPolicy(retry_delay=10, dedup=dedup)) as client,
        api.connect(client, server.url, queue_size=10) as conn,
    ):
        wait_until(lambda: conn.stats.queued == 10, "a full queue")
        conn.restart()
        assert server.wait_for_requests(2)[1].last_event_id == "9"
        assert [event.data for event in api.take(conn, 100)] == [str(number) for number in range(100)]
        assert conn.stats.duplicates == 0


def test_restart_of_a_connection_that_is_not_open_does_nothing(api: Api) -> None:
    with SSEServer(stream(ONE)) as server, api.client() as client:
        conn = client.connect(server.url)
        conn.restart()
        assert server.requests == []
        api.close(conn)
        with pytest.raises(SSEClosedError):
            conn.restart()


def test_restart_of_an_ended_stream_raises_closed_error(api: Api) -> None:
    with (
        SSEServer(stream(ONE)) as server,
        api.client() as client,
        api.connect(client, server.url, reconnect=False) as conn,
    ):
        wait_until(lambda: conn.ready_state is ReadyState.CLOSED and conn._reader.finished.is_set, "the end")
        with pytest.raises(SSEClosedError):
            conn.restart()
        assert api.next(conn).data == "one"  # the queued event is not lost


def test_restart_while_connecting(api: Api) -> None:
    gate = Gate()
    with SSEServer(raw(gate, HANG), stream(ONE, HANG)) as server, api.client(policy=QUICK) as client:
        conn = client.connect(server.url)
        with pytest.raises(TimeoutError):
            api.recv(conn, 0)
        gate.wait_reached()
        conn.restart()
        assert api.next(conn).data == "one"
        api.close(conn)
