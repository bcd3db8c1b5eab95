"""The signals of a connection: events, comments, openings and interruptions, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sseclient_dual import Comment, Interrupted, Opened, SSEConnectionError, SSEEvent, SSEStatusError
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, redirect, status, stream
from support.apis import Ended
from support.policies import QUICK
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.apis import Api

pytestmark = pytest.mark.usefixtures("both_versions")


def test_signals_are_in_order(api: Api) -> None:
    with (
        SSEServer(
            stream(": hello\n", "id: 1\ndata: a\n\n", CUT),
            status(503),
            redirect("/there"),
            stream("data: b\n\n:bye\n"),
        ) as server,
        api.client(policy=QUICK) as client,
    ):
        conn = client.connect(server.url)
        signals = api.signals(conn).rest()
        assert [type(signal) for signal in signals] == [
            Opened, Comment, SSEEvent, Interrupted, Interrupted, Opened, SSEEvent, Comment, Interrupted,
        ]  # fmt: skip
        opened, comment, event, cut, refused, again, _, bye, ended = signals
        assert isinstance(opened, Opened)
        assert (opened.status, opened.url) == (200, server.url)
        assert opened.headers["content-type"] == "text/event-stream"
        assert (comment, bye) == (Comment(" hello"), Comment("bye"))
        assert event == SSEEvent("a", id="1")
        assert isinstance(cut, Interrupted)
        assert isinstance(cut.error, SSEConnectionError)
        assert cut.retry_in == 10
        assert isinstance(refused, Interrupted)
        assert isinstance(refused.error, SSEStatusError)
        assert isinstance(again, Opened)
        assert again.url == server.origin + "/there"
        assert ended == Interrupted(None, 10)  # the final 204 causes no signal
        assert conn.status == 204


def test_a_raised_error_causes_no_signal(api: Api) -> None:
    with SSEServer(status(404)) as server, api.client() as client:
        signals = api.signals(client.connect(server.url))
        with pytest.raises(SSEStatusError):
            signals.next()
        with pytest.raises(Ended):
            signals.next()


def test_calling_signals_starts_the_queueing_of_comments(api: Api) -> None:
    gate = Gate()
    with (
        SSEServer(stream(": one\n", "data: a\n\n", gate, ": two\n", "data: b\n\n", ": three\n\n")) as server,
        api.client() as client,
        api.connect(client, server.url, reconnect=False) as conn,
    ):
        assert api.next(conn).data == "a"
        signals = api.signals(conn)
        gate.open()
        assert signals.take(2) == [Comment(" two"), SSEEvent("b")]
        # Iterating the connection itself still returns events only.
        assert api.rest(conn) == []
        assert conn.stats.comments == 3


def test_recv_skips_other_signals(api: Api) -> None:
    with SSEServer(stream(": one\n", "data: a\n\n", ": two\n\ndata: b\n\n", HANG)) as server, api.client() as client:
        conn = client.connect(server.url)
        signals = api.signals(conn)
        assert isinstance(signals.next(), Opened)
        wait_until(lambda: conn.stats.queued == 4, "both events and both comments")
        assert [api.recv(conn).data, api.next(conn).data] == ["a", "b"]
        api.close(conn)


def test_an_event_returned_by_signals_counts_as_delivered(api: Api) -> None:
    with SSEServer(stream("id: 5\ndata: a\n\n", HANG)) as server, api.client() as client:
        conn = client.connect(server.url)
        api.signals(conn).take(2)
        assert conn.last_event_id == "5"
        api.close(conn)


def test_comments_count_towards_the_queue_size(api: Api) -> None:
    with SSEServer(stream(": x\n" * 100, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, queue_size=10)
        signals = api.signals(conn)
        assert isinstance(signals.next(), Opened)
        wait_until(lambda: conn.stats.queued >= 9, "a full queue")
        assert len(signals.take(100)) == 100
        api.close(conn)


def test_a_signal_waits_for_room_in_the_queue(api: Api) -> None:
    with SSEServer(stream("data: x\n\n", CUT), stream(HANG)) as server, api.client(policy=QUICK) as client:
        conn = client.connect(server.url, queue_size=2)
        signals = api.signals(conn)
        conn._start()
        wait_until(lambda: conn._reader.handoff.is_full, "a full queue")
        assert conn.stats.queued == 2
        assert [type(signal) for signal in signals.take(4)] == [Opened, SSEEvent, Interrupted, Opened]
