"""The reader's thread: it cannot start, it fails, or it starts after `close()`."""

from __future__ import annotations

import _thread
import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import ReconnectPolicy, SSEClient, SSEClosedError
from sseclient_dual.policy import Outcome
from sseclient_dual.testing import SSEServer, stream
from support.failures import OopsError
from support.leaks import forget_idle_workers
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from sseclient_dual import SSEConnection
    from support.apis import Api


async def await_close(closing: Awaitable[None]) -> None:
    await closing


def test_a_thread_that_cannot_start_raises_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    with SSEServer() as server, SSEClient() as client:
        conn = client.connect(server.url)
        forget_idle_workers()
        with monkeypatch.context() as patch:
            patch.setattr(_thread, "start_new_thread", fail)
            with pytest.raises(RuntimeError, match="raise the limit of threads") as caught:
                conn.open()
        assert "can't start new thread" in str(caught.value.__cause__)
        asyncio.run(asyncio.wait_for(await_close(conn.close()), PATIENCE))


def test_a_start_that_failed_may_be_repeated(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    with SSEServer(stream("data: x\n\n")) as server, api.client() as client:
        conn = client.connect(server.url, reconnect=False)
        forget_idle_workers()
        with monkeypatch.context() as patch:
            patch.setattr(_thread, "start_new_thread", fail)
            with pytest.raises(RuntimeError, match="none can be started"):
                api.open(conn)
        api.open(conn)
        assert [event.data for event in api.rest(conn)] == ["x"]


def test_an_unexpected_error_in_the_thread_reaches_the_consumer(api: Api) -> None:
    def headers() -> dict[str, str]:
        raise OopsError

    with SSEServer() as server, api.client() as client:
        conn = client.connect(server.url, headers=headers)
        with pytest.raises(OopsError):
            api.open(conn)
        assert api.rest(conn) == []


@pytest.mark.parametrize("exception", [StopIteration, StopAsyncIteration, SSEClosedError, TimeoutError])
def test_an_error_of_a_callable_is_not_mistaken_for_the_end_or_a_timeout(
    api: Api, exception: type[Exception]
) -> None:
    def headers() -> dict[str, str]:
        if server.requests:
            raise exception
        return {}

    def relayed(conn: SSEConnection) -> bytes:
        with api.relay(conn) as pieces:
            return next(pieces)

    policy = ReconnectPolicy(retry_delay=10)
    for receive in (api.next, partial(api.recv, timeout=PATIENCE), relayed):
        with SSEServer(stream("data: x\n\n")) as server, api.client(policy=policy) as client:
            conn = client.connect(server.url, headers=headers)
            assert api.next(conn).data == "x"
            with pytest.raises(RuntimeError, match=f"the headers callable raised {exception.__name__}") as caught:
                receive(conn)
            assert type(caught.value.__cause__) is exception


def test_no_attempt_is_made_after_close() -> None:
    with SSEServer() as server, SSEClient() as client:
        conn = client.connect(server.url)
        conn.close()
        with pytest.raises(StopIteration) as stopped:
            next(conn._reader._attempt())  # as by a routine that begins late
        assert stopped.value.value == Outcome(sent=False)
        assert server.requests == []
