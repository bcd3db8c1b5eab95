"""A checkpoint that fails: its errors reach the consumer, no event is lost, and a later call tries again."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import SSEClient, SSEClosedError
from sseclient_dual.testing import HANG, SSEServer, stream
from support.apis import Ended
from support.checkpoints import Memory
from support.streams import ONE, TWO
from support.waiting import LONG, PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from support.apis import Api

CONTROL_EXCEPTIONS = [StopIteration, StopAsyncIteration, SSEClosedError, TimeoutError]


class BrokenError(Exception):
    pass


class Failing(Memory):
    """Raises each error in `errors`, one per call, before it works."""

    def __init__(self, loaded: object = None, *errors: BaseException) -> None:
        super().__init__(loaded)  # type: ignore[arg-type]
        self.errors = list(errors)

    def load(self) -> str | None:
        self._fail()
        return super().load()

    def save(self, last_event_id: str) -> None:
        self._fail()
        super().save(last_event_id)

    def _fail(self) -> None:
        if self.errors:
            raise self.errors.pop(0)


# -- load


@pytest.mark.parametrize("by", ["open", "next", "recv"])
def test_an_error_of_load_is_raised_and_the_next_call_loads_again(api: Api, by: str) -> None:
    memory = Failing("7", BrokenError(), BrokenError())
    with SSEServer(stream(ONE, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, checkpoint=memory)
        for _ in range(2):
            with pytest.raises(BrokenError):
                getattr(api, by)(conn)
        assert server.requests == []
        assert api.next(conn).data == "one"
        assert server.requests[0].last_event_id == "7"
        api.close(conn)
        with pytest.raises(SSEClosedError):
            api.open(conn)


def test_an_error_of_load_closes_a_connection_that_is_entered(api: Api) -> None:
    with SSEServer() as server, api.client() as client:
        conn = client.connect(server.url, checkpoint=Failing(None, BrokenError()))
        with pytest.raises(BrokenError), api.enter(conn):
            pytest.fail("not entered")
        with pytest.raises(SSEClosedError):
            api.open(conn)
        assert server.requests == []


@pytest.mark.parametrize(
    ("loaded", "error", "message"),
    [(b"7", TypeError, "must be a str, not bytes"), ("a\nb", ValueError, "must not contain CR, LF or NUL")],
)
def test_load_must_return_an_id(api: Api, loaded: object, error: type[Exception], message: str) -> None:
    with SSEServer() as server, api.client() as client:
        conn = client.connect(server.url, checkpoint=Failing(loaded))
        with pytest.raises(error, match=rf"checkpoint\.load\(\) returned an invalid ID: .* {message}"):
            api.next(conn)
        assert server.requests == []


@pytest.mark.parametrize("exception", CONTROL_EXCEPTIONS)
def test_an_error_of_load_does_not_look_like_the_end_or_a_timeout(api: Api, exception: type[Exception]) -> None:
    with SSEServer() as server, api.client() as client:
        conn = client.connect(server.url, checkpoint=Failing(None, exception()))
        with pytest.raises(RuntimeError, match=f"checkpoint.load callable raised {exception.__name__}") as caught:
            api.next(conn)
        assert type(caught.value.__cause__) is exception


def test_content_that_is_not_an_id_is_raised_and_kept(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_bytes(b"a\nb\n")
    with SSEServer() as server, api.client() as client:
        conn = client.connect(server.url, checkpoint=path)
        with pytest.raises(ValueError, match="not an event ID"):
            api.open(conn)
        assert server.requests == []
    assert path.read_bytes() == b"a\nb\n"


# -- save


@pytest.mark.parametrize("by", ["next", "recv", "commit"])
def test_an_error_of_save_is_raised_and_the_next_request_saves_again(api: Api, by: str) -> None:
    memory = Failing()
    with SSEServer(stream(ONE, TWO, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, checkpoint=memory)
        api.next(conn)
        memory.errors = [BrokenError(), BrokenError()]
        for _ in range(2):
            with pytest.raises(BrokenError):
                getattr(api, by)(conn)
        assert conn.last_event_id == "1"
        assert memory.saved == []
        assert api.next(conn).data == "two"
        assert memory.saved == ["1"]
        api.close(conn)


def test_a_failed_save_is_tried_again_when_the_interval_is_over(api: Api) -> None:
    memory = Failing()
    with SSEServer(stream(ONE, TWO, "id: 3\ndata: three\n\n", HANG)) as server, api.client() as client:
        conn = client.connect(server.url, checkpoint=memory, checkpoint_interval=LONG)
        api.next(conn)
        memory.errors = [BrokenError()]
        with pytest.raises(BrokenError):
            api.next(conn)
        assert [event.id for event in api.take(conn, 2)] == ["2", "3"]
        assert memory.saved == []
        api.commit(conn)
        assert memory.saved == ["3"]
        api.close(conn)


@pytest.mark.parametrize("exception", CONTROL_EXCEPTIONS)
def test_an_error_of_save_does_not_look_like_the_end_or_a_timeout(api: Api, exception: type[Exception]) -> None:
    memory = Failing()
    with SSEServer(stream(ONE, TWO, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, checkpoint=memory)
        api.next(conn)
        memory.errors = [exception()]
        with pytest.raises(RuntimeError, match=f"checkpoint.save callable raised {exception.__name__}") as caught:
            api.recv(conn, PATIENCE)
        assert type(caught.value.__cause__) is exception
        assert api.next(conn).data == "two"
        api.close(conn)


def test_an_error_of_the_last_save_is_raised_from_the_block_which_closes_the_connection(api: Api) -> None:
    memory = Failing()
    with SSEServer(stream(ONE, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, checkpoint=memory)
        with pytest.raises(BrokenError), api.enter(conn):
            api.next(conn)
            memory.errors = [BrokenError()]
        with pytest.raises(SSEClosedError):
            api.open(conn)
        server.wait_for_connections(0)


def test_an_error_of_save_at_the_end_of_the_stream_comes_before_the_end(api: Api) -> None:
    memory = Failing()
    with SSEServer(stream(ONE)) as server, api.client() as client:
        conn = client.connect(server.url, checkpoint=memory, checkpoint_interval=LONG, reconnect=False)
        api.next(conn)
        memory.errors = [BrokenError(), BrokenError()]
        for _ in range(2):
            with pytest.raises(BrokenError):
                api.next(conn)
        with pytest.raises(Ended):
            api.next(conn)
        assert memory.saved == ["1"]


def test_an_id_that_may_have_been_saved_by_a_failed_call_is_replaced(api: Api) -> None:
    memory = Failing("1")
    with SSEServer(stream(TWO, ONE, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, checkpoint=memory)
        api.next(conn)
        memory.errors = [BrokenError()]
        with pytest.raises(BrokenError):
            api.commit(conn)
        # The checkpoint may hold "2" now. After "1" was saved before, it has to be saved again.
        memory.errors = [BrokenError()]
        with pytest.raises(BrokenError):
            api.next(conn)
        api.next(conn)
        api.commit(conn)
        assert memory.saved == ["2", "1"]
        api.close(conn)


def test_a_file_that_cannot_be_written_keeps_the_event_for_the_next_run(api: Api, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with SSEServer(stream(ONE, TWO, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, checkpoint=folder / "last.id")
        api.next(conn)
        folder.rmdir()
        with pytest.raises(FileNotFoundError, match="could not save the event ID"):
            api.next(conn)
        folder.mkdir()
        assert api.next(conn).data == "two"
        assert (folder / "last.id").read_bytes() == b"1\n"
        api.close(conn)


# -- arguments


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"checkpoint": 7}, TypeError, "checkpoint must be a path"),
        ({"checkpoint": "/dev/null"}, ValueError, "not a regular file"),
        ({"checkpoint_interval": -1}, ValueError, "checkpoint_interval must be at least 0"),
        ({"checkpoint_interval": "1"}, TypeError, "checkpoint_interval must be a number"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="needs /dev/null")
def test_invalid_arguments_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with SSEClient() as client, pytest.raises(error, match=message):
        client.connect("http://127.0.0.1/", **options)


# -- signals


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")
def test_a_signal_handler_may_commit_during_a_save() -> None:
    class Interrupted(Memory):
        def save(self, last_event_id: str) -> None:
            if not self.saved:
                self.saved.append("interrupted")
                signal.raise_signal(signal.SIGUSR1)
            super().save(last_event_id)

    memory = Interrupted()
    with SSEServer(stream(ONE, TWO, HANG)) as server, SSEClient() as client:
        with client.connect(server.url, checkpoint=memory) as conn:
            previous = signal.signal(signal.SIGUSR1, lambda *_: conn.commit())
            try:
                next(conn)
                next(conn)
            finally:
                signal.signal(signal.SIGUSR1, previous)
    assert memory.saved == ["interrupted", "1", "1", "2"]


def test_ctrl_c_during_a_save_commits_nothing_more(api: Api) -> None:
    memory = Failing()
    with SSEServer(stream(ONE, TWO, HANG)) as server, api.client() as client:
        with pytest.raises(KeyboardInterrupt), api.connect(client, server.url, checkpoint=memory) as conn:
            api.next(conn)
            memory.errors = [KeyboardInterrupt()]
            api.next(conn)
    assert memory.saved == []
