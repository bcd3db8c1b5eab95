"""Headers and params from functions of the user, async ones included: `UserCalls`."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import os
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import (
    Interrupted,
    Opened,
    SSEClient,
    SSEClosedError,
    SSEConnectionError,
    SSEStatusError,
)
from sseclient_dual.testing import CUT, HANG, SSEServer, status, stream
from sseclient_dual.transport import callables
from support.apis import AsyncApi
from support.failures import OopsError
from support.policies import QUICK, QUICK_NO_DEDUP
from support.waiting import AT_ONCE, LONG, PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from sseclient_dual import SSEConnection
    from sseclient_dual.testing import ReceivedRequest
    from support.apis import Api

X = "data: x\n\n"


def only(argument: str, value: object) -> dict[str, Any]:
    """Return the keyword arguments of `connect` with this one; none for "client"."""
    return {} if argument == "client" else {argument: value}


class Source:
    """Returns other tokens each time; in several kinds of callables."""

    def __init__(self) -> None:
        self.calls = 0

    def sync(self) -> dict[str, str]:
        self.calls += 1
        return {"token": str(self.calls)}

    async def coroutine(self) -> dict[str, str]:
        await asyncio.sleep(0)
        return self.sync()

    async def pairs(self, name: str) -> list[tuple[str, str]]:
        return [(name, self.sync()["token"])]

    def awaitable(self) -> Awaitable[dict[str, str]]:
        return _Awaitable(self.coroutine)


class _Awaitable:
    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __await__(self) -> Generator[Any, None, dict[str, str]]:
        value: dict[str, str] = yield from self._make().__await__()
        return value


class _Callable:
    def __init__(self, source: Source) -> None:
        self._source = source

    async def __call__(self) -> dict[str, str]:
        return self._source.sync()


KINDS: dict[str, Callable[[Source], Callable[[], Any]]] = {
    "def": lambda source: source.sync,
    "async def": lambda source: source.coroutine,
    "partial": lambda source: functools.partial(source.pairs, "token"),
    "awaitable": lambda source: source.awaitable,
    "object": _Callable,
}


# --- what is sent -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_callable_is_called_before_every_attempt(api: Api, kind: str) -> None:
    headers, params, all_headers = (KINDS[kind](Source()) for _ in range(3))
    replies = [stream(X), stream(X, CUT), status(503), stream(X), status(204)]

    def renamed() -> Any:
        value = all_headers()
        return {"all": value["token"]} if isinstance(value, dict) else rename(value)

    async def rename(value: Awaitable[Any]) -> dict[str, str]:
        return {"all": dict(await value)["token"]}

    with SSEServer(*replies) as server, api.client(headers=renamed, policy=QUICK_NO_DEDUP) as client:
        assert len(api.rest(client.connect(server.url, headers=headers, params=params))) == 3
        expected = [str(number) for number in range(1, 6)]
        assert [request.headers["token"] for request in server.requests] == expected
        assert [request.headers["all"] for request in server.requests] == expected
        assert [request.query for request in server.requests] == [{"token": token} for token in expected]


def test_the_headers_of_the_connection_replace_those_of_the_client(api: Api) -> None:
    async def client_headers() -> dict[str, str]:
        return {"A": "client", "B": "client", "Content-Type": "text/client"}

    async def headers() -> dict[str, str]:
        return {"b": "own"}

    with SSEServer(default=stream(X, HANG)) as server, api.client(headers=client_headers, auth=("u", "p")) as client:
        for own in (headers, {"b": "own"}):
            with api.connect(client, server.url, "POST", json={}, headers=own):
                received = server.requests[-1].headers
                assert (received["a"], received["b"]) == ("client", "own")
                assert received["content-type"] == "application/json"
                assert received["authorization"].startswith("Basic ")


def test_params_of_a_callable_are_added_to_the_query(api: Api) -> None:
    async def params() -> list[tuple[str, Any]]:
        return [("b", "ä &"), ("c", None), ("d", [1, 2])]

    with SSEServer(default=stream(X, HANG)) as server, api.client() as client:
        for url, query in ((server.url, ""), (f"{server.url}?a=1", "a=1&")):
            with api.connect(client, url, params=params) as conn:
                assert server.requests[-1].target.partition("?")[2] == f"{query}b=%C3%A4+%26&d=1&d=2"
                assert conn.url == url
                assert conn.response_url == f"{server.origin}{server.requests[-1].target}"
        with api.connect(client, server.url, params=dict):
            assert "?" not in server.requests[-1].target


@pytest.mark.parametrize("where", ["client", "headers", "params"])
def test_a_401_calls_it_once_more(api: Api, where: str) -> None:
    tokens = iter(["stale", "fresh"])

    async def token() -> dict[str, str]:
        return {"token": next(tokens)}

    def answer(request: ReceivedRequest) -> Any:
        found = request.query.get("token") or request.headers.get("token")
        return stream(X) if found == "fresh" else status(401)

    with SSEServer(default=answer) as server, api.client(headers=token if where == "client" else None) as client:
        with api.connect(client, server.url, "POST", **only(where, token)) as conn:
            assert api.next(conn).data == "x"
        assert len(server.requests) == 2
        tokens = iter(["stale", "stale"])
        with pytest.raises(SSEStatusError):
            api.open(client.connect(server.url, **only(where, token)))


def test_the_params_are_not_logged(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sseclient_dual")

    async def secret() -> dict[str, str]:
        return {"token": "hunter2"}

    with SSEServer(stream(X, CUT), status(404)) as server, api.client(policy=QUICK) as client:
        conn = client.connect(server.url, params=secret, headers=secret)
        with pytest.raises(SSEStatusError) as caught:
            api.rest(conn)
    assert len(caplog.records) == 2
    assert "hunter2" not in caplog.text + str(caught.value) + repr(conn) + conn.url


WRONG = [
    ("headers", {"x": 1}, TypeError, "^headers must map names to str or bytes"),
    ("headers", None, TypeError, "^headers must be a mapping or pairs, not NoneType"),
    ("headers", {"x": "a\nb"}, ValueError, "^headers has a control character"),
    ("params", "a=1", TypeError, "^params must be a mapping or pairs, not str"),
    ("params", {"a": "\ud800"}, ValueError, "^params contains a lone surrogate"),
]


@pytest.mark.parametrize(("argument", "value", "error", "message"), WRONG)
def test_the_result_is_checked(api: Api, argument: str, value: Any, error: type[Exception], message: str) -> None:
    async def callable_() -> Any:
        return value

    with SSEServer() as server, api.client() as client:
        for function in (callable_, lambda: value):
            with pytest.raises(error, match=message):
                api.open(client.connect(server.url, **only(argument, function)))
        assert server.requests == []


def test_an_async_generator_is_not_a_mapping(api: Api) -> None:
    async def headers() -> Any:
        yield "a", "b"

    with SSEServer() as server, api.client() as client:
        with pytest.raises(TypeError, match="headers must be a mapping or pairs, not async_generator"):
            api.open(client.connect(server.url, headers=headers))


# --- where it runs ------------------------------------------------------------------------------------------


class Places:
    """Records the loop and the thread in which a function is awaited."""

    def __init__(self) -> None:
        self.loops: list[asyncio.AbstractEventLoop] = []
        self.threads: list[str] = []

    async def __call__(self) -> dict[str, str]:
        self.loops.append(asyncio.get_running_loop())
        self.threads.append(threading.current_thread().name)
        return {}


def test_an_awaitable_runs_on_the_loop_that_opened_the_connection(api: Api) -> None:
    places = Places()
    with SSEServer(stream(X, CUT), stream(X, HANG)) as server, api.client(policy=QUICK_NO_DEDUP) as client:
        conn = client.connect(server.url, headers=places, params=places)
        assert len(api.take(conn, 2)) == 2
    if isinstance(api, AsyncApi):
        assert places.loops == [api.loop] * 4
        assert set(places.threads) == {threading.current_thread().name}
    else:
        assert places.loops == [callables.private_loop()] * 4
        assert set(places.threads) == {"sseclient_dual loop"}


def test_the_first_wait_of_the_async_api_opens_the_connection_too(api: Api) -> None:
    places = Places()
    with SSEServer(stream(X, HANG)) as server, api.client() as client:
        assert isinstance(api.signals(client.connect(server.url, headers=places)).next(), Opened)
        assert places.loops == [api.loop if isinstance(api, AsyncApi) else callables.private_loop()]


def test_the_sync_api_in_the_thread_of_a_running_loop_uses_the_private_loop() -> None:
    """As in a notebook: the running loop is blocked meanwhile."""
    places = Places()

    async def cell() -> None:
        with SSEServer(stream(X, HANG)) as server, SSEClient(headers=places) as client:
            with client.connect(server.url) as conn:
                assert next(conn).data == "x"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it blocks the loop
        asyncio.run(cell())
    assert places.loops == [callables.private_loop()]


def test_a_closed_loop_is_replaced_by_the_private_one() -> None:
    places = Places()
    with SSEServer(stream(X), stream(X, HANG)) as server, SSEClient(policy=QUICK_NO_DEDUP) as client:
        conn = client.connect(server.url, headers=places, retry_delay=LONG * 1000)

        async def one_event() -> None:
            assert (await anext(conn)).data == "x"

        asyncio.run(one_event())
        wait_until(lambda: conn.ready_state.name == "CONNECTING", "the end of the response")
        conn.restart()
        assert next(conn).data == "x"
    assert places.loops[0] is not places.loops[1] is callables.private_loop()


def test_connections_of_the_sync_api_can_share_an_asyncio_lock() -> None:
    """A lock belongs to the event loop of its first waiter."""
    waiting = 0
    lock = all_wait = None

    async def headers() -> dict[str, str]:
        nonlocal waiting, lock, all_wait
        lock = lock or asyncio.Lock()
        all_wait = all_wait or asyncio.Event()
        waiting += 1
        if waiting == 5:
            all_wait.set()
        async with lock:
            await all_wait.wait()
        return {}

    with SSEServer(default=stream(X, HANG)) as server, SSEClient(headers=headers) as client:
        conns = [client.connect(server.url) for _ in range(5)]
        threads = [threading.Thread(target=conn.open) for conn in conns]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [conn.status for conn in conns] == [200] * 5


def test_an_awaitable_runs_in_the_context_of_the_opener(api: Api) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")

    async def headers() -> dict[str, str]:
        return {"X-Tenant": tenant.get()}

    with SSEServer(default=stream(X)) as server, api.client() as client:

        def use() -> None:
            tenant.set("somebody")
            with api.connect(client, server.url, headers=headers) as conn:
                api.next(conn)

        contextvars.copy_context().run(use)
        assert server.requests[0].headers["X-Tenant"] == "somebody"


def test_the_private_loop_does_not_run_in_the_context_of_its_first_user(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")
    contexts: list[contextvars.Context] = []
    monkeypatch.setattr(callables, "_run", lambda _: contexts.append(contextvars.copy_context()))
    private = callables._PrivateLoop()
    token = tenant.set("somebody")
    loop = private.get()
    tenant.reset(token)
    wait_until(lambda: contexts)
    loop.close()
    assert tenant not in contexts[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_forked_child_has_a_private_loop_of_its_own() -> None:
    async def headers() -> dict[str, str]:
        return {"X-Process": str(os.getpid())}

    with SSEServer(default=stream(X, HANG)) as server, SSEClient(headers=headers) as client:
        next(client.connect(server.url))
        pid = os.fork()
        if pid == 0:
            ended = 1
            try:
                ended = 0 if client.connect(server.url).recv(PATIENCE).data == "x" else 2
            finally:
                os._exit(ended)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert [request.headers["X-Process"] for request in server.requests] == [str(os.getpid()), str(pid)]


# --- the end of a wait --------------------------------------------------------------------------------------


class Hanging:
    """Waits for ever, and records that it began and that it was cancelled."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    async def __call__(self) -> dict[str, str]:
        self.begun.set()
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return {}


@pytest.mark.parametrize("argument", ["headers", "params"])
def test_close_ends_the_wait(api: Api, argument: str) -> None:
    hanging = Hanging()
    with SSEServer() as server, api.client() as client:
        conn = client.connect(server.url, **only(argument, hanging))

        def close() -> None:
            assert hanging.begun.wait(PATIENCE)
            conn.close()

        closer = threading.Thread(target=close)
        closer.start()
        with pytest.raises(SSEClosedError):
            api.open(conn)
        closer.join()
        api.close(conn)
        wait_until(lambda: conn._reader.finished.is_set, "the end of reading", AT_ONCE)
        if isinstance(api, AsyncApi):
            api.run(lambda: asyncio.sleep(0))
        assert hanging.cancelled.wait(PATIENCE)
        assert server.requests == []


def test_close_ends_the_wait_for_an_awaitable_that_ignores_its_cancellation(api: Api) -> None:
    begun, released = threading.Event(), threading.Event()

    async def headers() -> dict[str, str]:
        begun.set()
        while not released.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                continue
        raise OopsError

    with SSEServer() as server, api.client() as client:
        conn = client.connect(server.url, headers=headers)
        with pytest.raises(TimeoutError):
            api.recv(conn, 0.01)
        assert begun.wait(PATIENCE)
        api.close(conn)
        wait_until(lambda: conn._reader.finished.is_set, "the end of reading")
        released.set()  # its error goes nowhere
        if isinstance(api, AsyncApi):
            api.run(lambda: asyncio.sleep(0.01))


def test_restart_calls_it_again(api: Api) -> None:
    hanging = Hanging()
    called: list[Callable[[], Awaitable[dict[str, str]]]] = []

    async def headers() -> dict[str, str]:
        called.append(headers)
        return await hanging() if len(called) == 1 else {}

    with SSEServer(stream(X, HANG)) as server, api.client() as client:
        conn = client.connect(server.url, headers=headers)

        def restart() -> None:
            assert hanging.begun.wait(PATIENCE)
            conn.restart()

        restarter = threading.Thread(target=restart)
        restarter.start()
        assert api.next(conn).data == "x"
        restarter.join()
        assert len(called) == 2
        assert hanging.cancelled.is_set()


def test_close_while_the_loop_does_not_run_leaves_no_coroutine() -> None:
    """A coroutine that was never awaited would be a warning, which is an error here."""
    places = Places()
    loop = asyncio.new_event_loop()
    stopped = threading.Event()
    called = threading.Semaphore(0)

    def coroutine() -> Awaitable[dict[str, str]]:
        assert stopped.wait(PATIENCE)
        called.release()
        return places()

    def awaitable() -> Awaitable[dict[str, str]]:
        assert stopped.wait(PATIENCE)
        called.release()
        return _Awaitable(places)

    with SSEServer() as server, SSEClient() as client:

        async def start(conn: SSEConnection) -> None:
            with pytest.raises(TimeoutError):
                await conn.arecv(0)

        for headers in (coroutine, awaitable):
            stopped.clear()
            conn = client.connect(server.url, headers=headers)
            loop.run_until_complete(start(conn))
            stopped.set()
            assert called.acquire(timeout=PATIENCE)
            conn.close()
            assert conn._reader.finished.wait(PATIENCE)
        loop.run_until_complete(asyncio.sleep(0))  # it finds nothing to await
    loop.close()
    assert places.loops == []


def test_close_after_the_loop_was_closed_with_its_tasks() -> None:
    begun = asyncio.Event()

    async def headers() -> dict[str, str]:
        begun.set()
        await asyncio.sleep(LONG)
        return {}

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # the pending task that asyncio reports
    with SSEServer() as server, SSEClient() as client:
        conn = client.connect(server.url, headers=headers)

        async def start() -> None:
            with pytest.raises(TimeoutError):
                await conn.arecv(0.01)
            await begun.wait()

        loop.run_until_complete(start())
        loop.close()
        conn.close()
        wait_until(lambda: conn._reader.finished.is_set)


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["headers", "params"])
def test_an_error_is_raised_to_the_consumer(api: Api, argument: str) -> None:
    async def callable_() -> dict[str, str]:
        if server.requests:
            raise OopsError
        return {}

    with SSEServer(stream(X)) as server, api.client(policy=QUICK) as client:
        conn = client.connect(server.url, **only(argument, callable_))
        assert api.next(conn).data == "x"
        with pytest.raises(OopsError):
            api.next(conn)
        assert api.rest(conn) == []


@pytest.mark.parametrize("argument", ["headers", "params"])
@pytest.mark.parametrize("exception", [StopAsyncIteration, SSEClosedError, TimeoutError])
def test_an_error_is_not_mistaken_for_the_end_or_a_timeout(
    api: Api, argument: str, exception: type[Exception]
) -> None:
    async def callable_() -> dict[str, str]:
        raise exception

    with SSEServer() as server, api.client() as client:
        with pytest.raises(RuntimeError, match=f"the {argument} callable raised {exception.__name__}") as caught:
            api.open(client.connect(server.url, **only(argument, callable_)))
        assert type(caught.value.__cause__) is exception


def test_a_cancellation_by_others_is_an_error(api: Api) -> None:
    async def headers() -> dict[str, str]:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(LONG)
        return {}

    with SSEServer() as server, api.client() as client:
        with pytest.raises(RuntimeError, match="the headers callable was cancelled"):
            api.open(client.connect(server.url, headers=headers))


def test_an_exit_in_the_private_loop_is_raised_to_the_consumer() -> None:
    async def headers() -> dict[str, str]:
        raise SystemExit(3)

    with SSEServer(stream(X, HANG)) as server, SSEClient() as client:
        for _ in range(2):
            with pytest.raises(SystemExit):
                client.connect(server.url, headers=headers).open()
        assert next(client.connect(server.url, headers=Places())).data == "x"


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), OSError("too many open files")], ids=repr)
def test_a_private_loop_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    failures = 0

    class PrivateLoop(callables._PrivateLoop):
        def get(self) -> asyncio.AbstractEventLoop:
            nonlocal failures
            if failures:
                return private.get()
            failures += 1
            raise error

    private = callables._private_loop
    monkeypatch.setattr(callables, "_private_loop", PrivateLoop())
    with SSEServer(stream(X, HANG)) as server, SSEClient(headers=Places(), policy=QUICK) as client:
        signals = client.connect(server.url).signals()
        interrupted, opened = next(signals), next(signals)
        assert isinstance(opened, Opened)
        assert isinstance(interrupted, Interrupted)
        assert "no event loop could be started for the headers callable" in str(interrupted.error)
        assert isinstance(interrupted.error, SSEConnectionError)
        assert interrupted.error.__cause__ is error


def test_a_loop_without_its_thread_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    private = callables._PrivateLoop()

    def fail(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="new thread"):
            private.get()
    assert private._loop is None
