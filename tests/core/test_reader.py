"""The reader's thread: when it cannot start, fails, or is not wanted any more."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import ReconnectPolicy, SSEClient, SSEClosedError
from sseclient_dual.policy import Outcome
from sseclient_dual.testing import SSEServer, stream
from support.failures import OopsError
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from sseclient_dual import SSEConnection
    from support.apis import Api


async def closed(closing: Awaitable[None]) -> None:
    await closing


def test_a_thread_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_thread: threading.Thread) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    with SSEServer() as server, SSEClient() as client:
        conn = client.connect(server.url)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            with pytest.raises(RuntimeError, match="new thread"):
                conn.open()
        asyncio.run(asyncio.wait_for(closed(conn.close()), PATIENCE))


def test_an_unforeseen_error_of_the_thread_reaches_the_consumer(api: Api) -> None:
    def headers() -> dict[str, str]:
        raise OopsError

    with SSEServer() as server, api.client() as client:
        conn = client.connect(server.url, headers=headers)
        with pytest.raises(OopsError):
            api.open(conn)
        assert api.rest(conn) == []


@pytest.mark.parametrize("mistakable", [StopIteration, StopAsyncIteration, SSEClosedError, TimeoutError])
def test_what_a_callable_raises_is_taken_neither_for_the_end_nor_for_a_wait_in_vain(
    api: Api, mistakable: type[Exception]
) -> None:
    def headers() -> dict[str, str]:
        if server.requests:
            raise mistakable
        return {}

    def relayed(conn: SSEConnection) -> bytes:
        with api.relay(conn) as pieces:
            return next(pieces)

    policy = ReconnectPolicy(retry_delay=1)
    for receive in (api.next, partial(api.recv, timeout=PATIENCE), relayed):
        with SSEServer(stream("data: x\n\n")) as server, api.client(policy=policy) as client:
            conn = client.connect(server.url, headers=headers)
            assert api.next(conn).data == "x"
            with pytest.raises(RuntimeError, match=f"the headers callable raised {mistakable.__name__}") as caught:
                receive(conn)
            assert type(caught.value.__cause__) is mistakable


def test_an_attempt_that_is_not_wanted_any_more_is_not_made() -> None:
    with SSEServer() as server, SSEClient() as client:
        conn = client.connect(server.url)
        conn.close()
        assert conn._reader._attempt() == Outcome(sent=False)  # as of a thread that comes late
        assert server.requests == []
