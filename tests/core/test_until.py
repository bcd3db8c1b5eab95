"""The last event of a stream, named by its data or recognised by a callable: `connect(until=)`."""

from __future__ import annotations

import _thread
import threading
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import (
    Comment,
    Interrupted,
    Opened,
    ReadyState,
    ReconnectPolicy,
    SSEClient,
    SSEClosedError,
    SSEConnectionError,
    SSEEvent,
    SSEParsingError,
)
from sseclient_dual.testing import CUT, HANG, RESET, Gate, Reply, SSEServer, status, stream
from support.apis import Ended
from support.failures import OopsError
from support.leaks import forget_idle_workers, idle_workers, workers
from support.policies import QUICK
from support.streams import ONE, TWO
from support.waiting import AT_ONCE, silence, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.apis import Api

DONE = "data: [DONE]\n\n"
STOP = "event: stop\ndata: {}\n\n"
AFTER = "data: after\n\n"


def is_stop(event: SSEEvent) -> bool:
    return event.type == "stop"


# --- the last event -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [(), (HANG,), (CUT,), (RESET,)], ids=["end", "hang", "cut", "reset"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_data_of_the_last_event_ends_the_iteration(api: Api, method: str, end: tuple[Any, ...]) -> None:
    gate = Gate()
    with SSEServer(stream(ONE, TWO, gate, DONE, *end)) as server, api.client(policy=QUICK) as client:
        conn = client.connect(server.url, method, until="[DONE]")
        assert [event.data for event in api.take(conn, 2)] == ["one", "two"]
        gate.open()
        assert api.rest(conn) == []
        assert conn.last_event_id == "2"
        assert conn.ready_state is ReadyState.CLOSED
        assert (conn.stats.events, conn.stats.reconnects) == (2, 0)
        with pytest.raises(SSEClosedError):
            api.recv(conn)
        server.wait_for_connections(0)
        assert len(server.requests) == 1


@pytest.mark.parametrize("until", [is_stop, lambda event: event.json() == {}], ids=["type", "data"])
def test_the_last_event_of_a_callable_is_returned(api: Api, until: Callable[[SSEEvent], bool]) -> None:
    script = 'data: {"token": 1}\n\n', STOP
    for steps in (script, ["".join(script)]):  # in two batches, and in one
        with SSEServer(stream(*steps, HANG)) as server, api.client() as client:
            conn = client.connect(server.url, until=until)
            assert [event.type for event in api.rest(conn)] == ["message", "stop"]
            assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("until", "received"), [("[DONE]", ["one"]), (lambda e: e.data == "[DONE]", ["one", "[DONE]"])]
)
def test_events_after_the_last_one_are_ignored(api: Api, until: Any, received: list[str]) -> None:
    script = ONE + DONE + AFTER + "this is no event stream\n"
    with SSEServer(stream(script, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, until=until)
        assert [event.data for event in api.rest(conn)] == received
        assert conn.stats.events == len(received)


def test_the_last_event_may_be_the_only_one(api: Api) -> None:
    with SSEServer(stream(DONE, HANG), stream(STOP, HANG)) as server, api.client() as client:
        assert api.rest(client.connect(server.url, until="[DONE]")) == []
        assert api.rest(client.connect(server.url, until=is_stop)) == [SSEEvent("{}", "stop")]


def test_the_last_event_may_come_after_a_reconnect(api: Api) -> None:
    replies = stream(ONE, CUT), stream(ONE, TWO, DONE, HANG)  # the second one begins with a duplicate
    for until in ("[DONE]", lambda event: event.data == "two"):
        with SSEServer(*replies) as server, api.client(policy=QUICK) as client:
            conn = client.connect(server.url, until=until)
            assert [event.data for event in api.rest(conn)] == ["one", "two"]
            assert conn.stats.duplicates == 1
            assert [request.last_event_id for request in server.requests] == [None, "1"]


def test_a_duplicate_is_not_shown_to_the_callable(api: Api) -> None:
    seen: list[str] = []

    def until(event: SSEEvent) -> bool:
        seen.append(event.data)
        return event.data == "two"

    with SSEServer(stream(ONE, CUT), stream(ONE, TWO)) as server, api.client(policy=QUICK) as client:
        assert len(api.rest(client.connect(server.url, until=until))) == 2
    assert seen == ["one", "two"]


def test_the_last_event_waits_for_room_in_the_queue(api: Api) -> None:
    with SSEServer(stream(ONE + TWO + DONE, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, until="[DONE]", queue_size=1)
        assert api.next(conn).data == "one"
        assert [event.data for event in api.rest(conn)] == ["two"]


def test_restart_before_the_last_event_was_queued(api: Api) -> None:
    """Events without room in the queue are requested again, and so is the last one."""
    replies = stream(ONE + TWO + STOP, HANG), stream(TWO + STOP, HANG)
    with SSEServer(*replies) as server, api.client() as client:
        conn = client.connect(server.url, until=is_stop, queue_size=1)
        api.open(conn)
        wait_until(lambda: conn._reader.handoff.is_full, "a full queue")
        conn.restart()
        server.wait_for_requests(2)
        assert [event.data for event in api.rest(conn)] == ["one", "two", "{}"]
        assert server.requests[1].last_event_id == "1"


def test_signals_end_at_the_last_event(api: Api) -> None:
    with SSEServer(stream(":a\n", ONE, ":b\n", DONE, HANG), default=stream(ONE + STOP + ":c\n")) as server:
        with api.client() as client:
            signals = api.signals(client.connect(server.url, until="[DONE]")).rest()
            assert [type(signal) for signal in signals] == [Opened, Comment, SSEEvent, Comment]
            signals = api.signals(client.connect(server.url, until=is_stop)).rest()
            assert [type(signal) for signal in signals] == [Opened, SSEEvent, SSEEvent]


def test_a_relay_ends_at_the_last_event(api: Api) -> None:
    with SSEServer(stream(DONE, HANG), stream(DONE, HANG)) as server, api.client() as client:
        with api.relay(client.connect(server.url, until="[DONE]")) as relayed:
            assert list(relayed) == []
        with api.relay(client.connect(server.url, until=lambda event: event.data == "[DONE]")) as relayed:
            assert list(relayed) == [DONE.encode()]


# --- a response that ends too early -------------------------------------------------------------------------

ENDS = {"ended": (), "cut": (CUT,), "reset": (RESET,), "silent": (HANG,)}


@pytest.mark.parametrize("options", [{"method": "POST"}, {"reconnect": False}], ids=["POST", "reconnect=False"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_an_early_end_is_an_error_if_the_request_is_not_repeated(
    api: Api, end: tuple[Any, ...], options: dict[str, Any]
) -> None:
    with SSEServer(stream(ONE, *end)) as server, api.client(timeout=silence(AT_ONCE)) as client:
        conn = client.connect(server.url, until="[DONE]", **options)
        assert api.next(conn).data == "one"
        with pytest.raises(SSEConnectionError, match="the response ended before its last event") as caught:
            api.next(conn)
        assert type(caught.value) is SSEConnectionError
        assert str(caught.value).startswith(server.origin)
        assert (caught.value.__cause__ is None) == (end == ())
        with pytest.raises(Ended):
            api.next(conn)
        assert len(server.requests) == 1


def test_an_early_end_names_a_remedy(api: Api) -> None:
    with SSEServer(stream(ONE), stream(ONE, CUT)) as server, api.client() as client:
        messages = []
        for _ in range(2):
            with pytest.raises(SSEConnectionError) as caught:
                api.rest(client.connect(server.url, "POST", until="[DONE]"))
            messages.append(str(caught.value).removeprefix(f"{server.origin}: "))
    assert messages == [
        "the response ended before its last event; check the value of until if every response ends like this",
        "the response was cut short; the response ended before its last event",
    ]


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_an_early_end_reconnects(api: Api, end: tuple[Any, ...]) -> None:
    with (
        SSEServer(stream(ONE, *end), stream(TWO, DONE)) as server,
        api.client(policy=QUICK, timeout=silence(AT_ONCE)) as client,
    ):
        signals = api.signals(client.connect(server.url, until="[DONE]")).rest()
    assert [type(signal) for signal in signals] == [Opened, SSEEvent, Interrupted, Opened, SSEEvent]
    assert isinstance(signals[2], Interrupted)
    assert "ended before its last event" in str(signals[2].error)


def test_early_ends_in_a_row_are_an_error_after_max_retries(api: Api) -> None:
    policy = ReconnectPolicy(retry_delay=10, max_retries=2)
    with SSEServer(default=stream(":\n\n")) as server, api.client(policy=policy) as client:
        with pytest.raises(SSEConnectionError, match="ended before its last event"):
            api.rest(client.connect(server.url, until="[DONE]"))
        assert len(server.requests) == 3


def test_an_error_in_the_data_keeps_its_message(api: Api) -> None:
    replies: list[Reply] = [stream("<html>\n"), stream('{"error": 1}')]
    with SSEServer(*replies) as server, api.client() as client:
        for _ in replies:
            with pytest.raises(SSEParsingError, match="looks like") as caught:
                api.rest(client.connect(server.url, "POST", until="[DONE]"))
            assert "last event" not in str(caught.value)


def test_status_204_ends_the_stream(api: Api) -> None:
    with SSEServer(stream(ONE), status(204)) as server, api.client(policy=QUICK) as client:
        assert len(api.rest(client.connect(server.url, until="[DONE]"))) == 1


def test_an_early_end_that_restart_causes_is_no_failure(api: Api) -> None:
    with SSEServer(stream(ONE, HANG), stream(TWO, DONE)) as server, api.client() as client:
        conn = client.connect(server.url, "POST", until="[DONE]")
        signals = api.signals(conn)
        assert len(signals.take(2)) == 2
        conn.restart()
        assert [type(signal) for signal in signals.rest()] == [Interrupted, Opened, SSEEvent]


# --- the callable -------------------------------------------------------------------------------------------


def test_the_callable_runs_on_a_worker() -> None:
    threads = set()

    def until(_: SSEEvent) -> bool:
        threads.add(threading.current_thread().name)
        return False

    with SSEServer(stream(ONE, TWO), status(204)) as server, SSEClient(policy=QUICK) as client:
        assert len(list(client.connect(server.url, until=until))) == 2
    assert threads == {f"sseclient_dual worker {server.origin}"}


@pytest.mark.parametrize("exception", [OopsError, SSEConnectionError("not a failed attempt")], ids=repr)
def test_an_error_of_the_callable_is_raised_after_the_events(api: Api, exception: Exception) -> None:
    def until(event: SSEEvent) -> bool:
        if event.data == "two":
            raise exception
        return False

    with SSEServer(stream(ONE + TWO + AFTER, HANG)) as server, api.client(policy=QUICK) as client:
        conn = client.connect(server.url, until=until)
        assert [event.data for event in api.take(conn, 2)] == ["one", "two"]
        with pytest.raises((OopsError, SSEConnectionError)):
            api.next(conn)
        assert api.rest(conn) == []
        server.wait_for_connections(0)


@pytest.mark.parametrize("exception", [StopIteration, StopAsyncIteration, SSEClosedError, TimeoutError])
def test_an_error_of_the_callable_is_not_mistaken_for_the_end_or_a_timeout(
    api: Api, exception: type[Exception]
) -> None:
    def until(_: SSEEvent) -> bool:
        raise exception

    with SSEServer(stream(ONE, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, until=until)
        assert api.next(conn).data == "one"
        with pytest.raises(RuntimeError, match=f"the until callable raised {exception.__name__}") as caught:
            api.next(conn)
        assert type(caught.value.__cause__) is exception


def test_an_error_of_the_callable_for_an_event_without_room_is_forgotten_by_restart(api: Api) -> None:
    calls = []

    def until(event: SSEEvent) -> bool:
        calls.append(event.data)
        if len(calls) == 2:
            raise OopsError
        return is_stop(event)

    with SSEServer(stream(ONE + TWO, HANG), stream(TWO + STOP, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, until=until, queue_size=1)
        api.open(conn)
        wait_until(lambda: conn._reader.handoff.is_full, "a full queue")
        conn.restart()
        server.wait_for_requests(2)
        assert [event.data for event in api.rest(conn)] == ["one", "two", "{}"]


def test_events_are_not_lost_if_no_thread_can_be_started_for_the_callable(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    gate = Gate()
    with SSEServer(stream(gate, ONE, HANG), stream(ONE, STOP)) as server, api.client(policy=QUICK) as client:
        conn = client.connect(server.url, until=is_stop)
        signals = api.signals(conn)
        assert isinstance(signals.next(), Opened)
        gate.wait_reached()
        wait_until(lambda: idle_workers() == len(workers()), "a wait on the hub")
        forget_idle_workers()
        with monkeypatch.context() as patch:
            patch.setattr(_thread, "start_new_thread", fail)
            gate.open()
            interrupted = signals.next()
        assert isinstance(interrupted, Interrupted)
        assert "no thread could be started" in str(interrupted.error)
        assert [signal.data for signal in signals.rest() if isinstance(signal, SSEEvent)] == ["one", "{}"]


# --- the argument -------------------------------------------------------------------------------------------


async def async_until(_: SSEEvent) -> bool:
    return True


class AsyncCallable:
    async def __call__(self, _: SSEEvent) -> bool:
        return True


@pytest.mark.parametrize(
    ("until", "message"),
    [
        (1, "until must be a str or a callable, not int"),
        (b"[DONE]", "until must be a str or a callable, not bytes"),
        (async_until, "until must not be an async function"),
    ],
    ids=["int", "bytes", "async"],
)
def test_until_must_be_a_str_or_a_callable(until: Any, message: str) -> None:
    with SSEClient() as client, pytest.raises(TypeError, match=f"^{message}"):
        client.connect("http://127.0.0.1", until=until)


@pytest.mark.parametrize("until", [AsyncCallable(), lambda event: async_until(event)])  # noqa: PLW0108 - no async def
def test_a_callable_whose_coroutine_would_count_as_true_is_an_error(api: Api, until: Any) -> None:
    with SSEServer(stream(ONE, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, until=until)
        assert api.next(conn).data == "one"
        with pytest.raises(TypeError, match="until must not be an async function"):
            api.next(conn)
