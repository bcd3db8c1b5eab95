"""A connection with a checkpoint: which position it saves, and when. `test_position_errors.py` has the errors."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import Opened, SSEClient, SSEConnectionError, SSEEvent
from sseclient_dual.testing import CUT, HANG, Gate, ReceivedRequest, Reply, SSEServer, status, stream
from support.apis import Ended
from support.checkpoints import Memory
from support.policies import QUICK
from support.streams import ONE, TWO
from support.waiting import LONG, PATIENCE, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from sseclient_dual.testing import Step
    from support.apis import Api

THREE = "id: 3\ndata: three\n\n"


# -- the position at the start


@pytest.mark.parametrize("open_first", [True, False])
def test_the_first_request_resumes_after_the_position_saved(api: Api, *, open_first: bool) -> None:
    memory = Memory("…☃")
    with SSEServer(stream(ONE, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, checkpoint=memory)
        assert memory.loads == 0  # no I/O before it is opened
        if open_first:
            api.open(conn)
            api.open(conn)
            assert conn.last_event_id == "…☃"
        assert api.next(conn).data == "one"
        api.close(conn)
        assert memory.loads == 1
        assert [request.last_event_id for request in server.requests] == ["…☃"]


@pytest.mark.parametrize("saved", [None, ""])
def test_without_a_position_the_server_decides_where_the_stream_begins(api: Api, saved: str | None) -> None:
    memory = Memory(saved)
    with (
        SSEServer(stream("data: x\n\n" * 3)) as server,
        api.client() as client,
        api.connect(client, server.url, checkpoint=memory, reconnect=False) as conn,
    ):
        assert len(api.rest(conn)) == 3
    assert server.requests[0].last_event_id is None
    assert memory.saved == []  # the position has not changed


@pytest.mark.parametrize(("last_event_id", "sent"), [("3", "3"), ("", None), ("Ã©", "é")])
def test_last_event_id_replaces_the_position_saved(api: Api, last_event_id: str, sent: str | None) -> None:
    memory = Memory("7")
    with (
        SSEServer(stream("data: x\n\n", HANG)) as server,
        api.client() as client,
        api.connect(client, server.url, checkpoint=memory, last_event_id=last_event_id) as conn,
    ):
        api.commit(conn)
        assert memory.saved == []  # no event was handed over
        api.next(conn)
    assert server.requests[0].last_event_id == sent
    assert memory.loads == 0
    assert memory.saved == [sent or ""]


def test_a_dropped_connection_resumes_after_the_position_saved_until_there_is_an_id(api: Api) -> None:
    with (
        SSEServer(stream("data: x\n\n", CUT), stream(ONE, HANG)) as server,
        api.client(policy=QUICK) as client,
        api.connect(client, server.url, checkpoint=Memory("7")) as conn,
    ):
        api.take(conn, 2)
        assert [request.last_event_id for request in server.requests] == ["7", "7"]


def numbers(request: ReceivedRequest) -> Reply:
    after = int(request.last_event_id or 0)
    return stream(*(f"id: {number}\ndata: {number}\n\n" for number in range(after + 1, after + 4)), HANG)


def test_the_path_of_a_file_is_a_checkpoint(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "last.id"
    seen: list[str] = []
    with SSEServer(default=numbers) as server, api.client() as client:
        for checkpoint in (path, str(path)):
            with api.connect(client, server.url, checkpoint=checkpoint) as conn:
                seen += [event.data for event in api.take(conn, 2)]
    assert seen == ["1", "2", "3", "4"]
    assert path.read_bytes() == b"4\n"


# -- what is committed


def test_asking_for_the_next_event_commits_the_event_before(api: Api) -> None:
    memory = Memory()
    with (
        SSEServer(stream(ONE, TWO, THREE, HANG)) as server,
        api.client() as client,
        api.connect(client, server.url, checkpoint=memory) as conn,
    ):
        for count in range(3):
            assert memory.saved == ["1", "2", "3"][: max(0, count - 1)]
            api.next(conn)
        with pytest.raises(TimeoutError):
            api.recv(conn, 0)  # asking is enough
        assert memory.saved == ["1", "2", "3"]


def test_leaving_the_block_commits_the_last_event(api: Api) -> None:
    memory = Memory()
    with SSEServer(stream(ONE, TWO, HANG)) as server, api.client() as client:
        with api.connect(client, server.url, checkpoint=memory, checkpoint_interval=LONG) as conn:
            api.next(conn)
            wait_until(lambda: conn.stats.queued == 1, "the second event")
            assert memory.saved == []
    assert memory.saved == ["1"]


def test_leaving_only_the_block_of_the_client_commits_nothing(api: Api) -> None:
    memory = Memory()
    with SSEServer(stream(ONE, TWO, HANG)) as server, api.client() as client:
        api.next(client.connect(server.url, checkpoint=memory))
    assert memory.saved == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_in_the_body_commits_nothing(api: Api, error: type[BaseException]) -> None:
    memory = Memory()
    with SSEServer(stream(ONE, TWO, HANG)) as server, api.client() as client:
        with pytest.raises(error), api.connect(client, server.url, checkpoint=memory) as conn:
            api.take(conn, 2)
            raise error
    assert memory.saved == ["1"]


@pytest.mark.parametrize("end", ["204", "end of the response", "error", "close", "until"])
def test_the_end_of_the_stream_saves_the_position(api: Api, end: str) -> None:
    memory = Memory()
    endings: dict[str, list[Step]] = {"error": [CUT], "close": [HANG], "until": ["data: [DONE]\n\n", HANG]}
    first = stream(ONE, TWO, *endings.get(end, []))
    with SSEServer(first, status(403 if end == "error" else 204)) as server, api.client(policy=QUICK) as client:
        conn = client.connect(
            server.url,
            checkpoint=memory,
            checkpoint_interval=LONG,
            reconnect=False if end == "end of the response" else None,
            until="[DONE]" if end == "until" else None,
        )
        api.take(conn, 2)
        if end == "close":
            conn.close()
        assert memory.saved == ["1"]
        with pytest.raises(SSEConnectionError if end == "error" else Ended):
            api.next(conn)
        assert memory.saved == ["1", "2"]


def test_an_id_is_saved_once_and_a_reset_is_saved(api: Api) -> None:
    memory = Memory()
    script = stream("id: 1\ndata: a\n\ndata: b\n\ndata: c\n\nid\ndata: d\n\ndata: e\n\nid: 1\ndata: f\n\n", HANG)
    with (
        SSEServer(script) as server,
        api.client() as client,
        api.connect(client, server.url, checkpoint=memory) as conn,
    ):
        api.take(conn, 6)
    assert memory.saved == ["1", "", "1"]


def test_any_request_for_a_signal_commits_the_event_before(api: Api) -> None:
    memory = Memory()
    with SSEServer(stream(ONE, ": comment\n", TWO, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, checkpoint=memory)
        signals = api.signals(conn)
        assert [type(signal) for signal in signals.take(2)] == [Opened, SSEEvent]
        assert memory.saved == []
        signals.next()
        assert memory.saved == ["1"]
        signals.next()
        assert memory.saved == ["1"]
        api.close(conn)


def test_a_relay_commits_an_event_when_the_next_piece_is_requested(api: Api) -> None:
    memory = Memory()
    gate = Gate()
    with SSEServer(stream(ONE, gate, TWO)) as server, api.client() as client:
        conn = client.connect(server.url, checkpoint=memory, reconnect=False)
        with api.relay(conn, heartbeat=0.01) as pieces:
            assert b"one" in next(piece for piece in pieces if piece != b":\n\n")
            assert memory.saved == []
            assert next(pieces) == b":\n\n"
            assert memory.saved == ["1"]
            gate.open()
            assert b"two" in next(piece for piece in pieces if piece != b":\n\n")
            assert memory.saved == ["1"]
            assert [piece for piece in pieces if piece != b":\n\n"] == []
            assert memory.saved == ["1", "2"]


def test_a_relay_that_is_closed_does_not_commit_its_last_piece(api: Api) -> None:
    memory = Memory()
    with SSEServer(stream(ONE, TWO, HANG)) as server, api.client() as client:
        with api.relay(client.connect(server.url, checkpoint=memory)) as pieces:
            assert [b"one" in next(pieces), b"two" in next(pieces)] == [True, True]
    assert memory.saved == ["1"]


# -- the interval and `commit`


def test_between_two_saves_is_at_least_the_interval(api: Api) -> None:
    memory = Memory()
    with (
        SSEServer(stream(ONE, TWO, THREE, HANG)) as server,
        api.client() as client,
        api.connect(client, server.url, checkpoint=memory, checkpoint_interval=LONG) as conn,
    ):
        api.take(conn, 3)
        with pytest.raises(TimeoutError):
            api.recv(conn, 0.01)
        assert memory.saved == ["1"]
    assert memory.saved == ["1", "3"]


@pytest.mark.parametrize("timeout", [None, LONG])
def test_a_position_is_saved_when_the_interval_is_over_although_no_event_comes(
    api: Api, timeout: float | None
) -> None:
    memory = Memory()

    def third_event_after_the_save() -> str:
        wait_until(lambda: memory.saved[-1:] == ["2"], "the save")
        return THREE

    with (
        SSEServer(stream(ONE, TWO, third_event_after_the_save, HANG)) as server,
        api.client() as client,
        api.connect(client, server.url, checkpoint=memory, checkpoint_interval=0.2) as conn,
    ):
        api.take(conn, 2)
        assert api.recv(conn, timeout).data == "three"
        assert memory.saved == ["1", "2"]


def test_commit_saves_at_once_and_once(api: Api) -> None:
    memory = Memory()
    with (
        SSEServer(stream(ONE, TWO, THREE, HANG)) as server,
        api.client() as client,
        api.connect(client, server.url, checkpoint=memory, checkpoint_interval=LONG) as conn,
    ):
        api.commit(conn)
        assert memory.saved == []
        for saved in (["1"], ["1", "2"]):
            api.next(conn)
            api.commit(conn)
            api.commit(conn)
            assert memory.saved == saved
        api.next(conn)
        assert memory.saved == ["1", "2"]
    assert memory.saved == ["1", "2", "3"]


def test_commit_after_the_end_saves_the_last_event(api: Api) -> None:
    memory = Memory()
    with SSEServer(stream(ONE, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, checkpoint=memory)
        api.next(conn)
        api.close(conn)
        api.commit(conn)
    assert memory.saved == ["1"]


def test_commit_without_a_checkpoint_raises_an_error(api: Api) -> None:
    with SSEServer(stream(ONE, HANG)) as server, api.client() as client:
        with (
            api.connect(client, server.url, name="prices") as conn,
            pytest.raises(RuntimeError, match=r"^prices: this connection has no checkpoint; pass one"),
        ):
            api.commit(conn)


# -- threads


def test_saves_of_several_threads_do_not_overlap() -> None:
    running: list[str] = []

    class Checked(Memory):
        def save(self, last_event_id: str) -> None:
            running.append(last_event_id)
            super().save(last_event_id)
            assert running == [last_event_id]
            running.clear()

    memory = Checked()
    over = threading.Event()
    errors: list[BaseException] = []
    body = [f"id: {number}\ndata: x\n\n" for number in range(1, 2001)]
    with SSEServer(stream(*body)) as server, SSEClient() as client:
        conn = client.connect(server.url, checkpoint=memory, reconnect=False)

        def commit() -> None:
            try:
                while not over.is_set():
                    conn.commit()
            except BaseException as error:  # noqa: BLE001 - shown by the assertion
                errors.append(error)

        threads = [threading.Thread(target=commit) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert len(list(conn)) == 2000
        over.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert errors == []
    assert memory.saved[-1] == "2000"


def test_close_does_not_wait_for_a_save() -> None:
    saving, go_on = threading.Event(), threading.Event()

    class Slow(Memory):
        def save(self, last_event_id: str) -> None:
            saving.set()
            assert go_on.wait(PATIENCE)
            super().save(last_event_id)

    memory = Slow()
    with SSEServer(stream(ONE, HANG)) as server, SSEClient() as client:
        conn = client.connect(server.url, checkpoint=memory)
        seen: list[Any] = []
        consumer = threading.Thread(target=lambda: seen.extend(conn))
        consumer.start()
        assert saving.wait(PATIENCE)
        conn.close()
        go_on.set()
        consumer.join(PATIENCE)
    assert (len(seen), memory.saved) == (1, ["1"])
