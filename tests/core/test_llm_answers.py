"""Answers of language models, and all that may go wrong with them: the table of the guide, with both APIs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from servers.llm import DONE, failure, token
from sseclient_dual import SSEClient, SSEConnectionError, SSEContentTypeError, SSEEvent, SSEStatusError
from sseclient_dual.testing import CUT, HANG, SSEServer, status, stream
from support.policies import QUICK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sseclient_dual.testing import Reply, Step
    from support.apis import Api

QUESTION = {"stream": True}


@pytest.mark.parametrize("code", [400, 401, 404, 500])
def test_a_refusal_keeps_the_words_of_the_api(api: Api, code: int) -> None:
    with SSEServer(status(code, failure("Not like this."))) as server, api.client(policy=QUICK) as client:
        with pytest.raises(SSEStatusError) as caught:
            api.rest(client.connect(server.url, json=QUESTION, until="[DONE]"))
    assert (caught.value.status, caught.value.json()["error"]["message"]) == (code, "Not like this.")
    assert "Not like this" not in str(caught.value)
    assert len(server.requests) == 1


def test_an_answer_without_a_stream_keeps_its_body(api: Api) -> None:
    reply = stream(failure("No streams."), content_type="application/json")
    with SSEServer(reply) as server, api.client(policy=QUICK) as client:
        with pytest.raises(SSEContentTypeError) as caught:
            api.rest(client.connect(server.url, json=QUESTION, until="[DONE]"))
    assert caught.value.json()["error"]["message"] == "No streams."


@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_server_is_asked_again_with_the_same_question(api: Api, code: int) -> None:
    busy = status(code, failure("Slow down."), {"Retry-After": "0"})
    with SSEServer(busy, stream(token("well"), DONE)) as server, api.client(policy=QUICK) as client:
        (event,) = api.rest(client.connect(server.url, json=QUESTION, until="[DONE]"))
    assert event.json()["choices"][0]["delta"]["content"] == "well"
    assert [request.json() for request in server.requests] == [QUESTION, QUESTION]


@pytest.mark.parametrize(
    "error",
    [
        SSEEvent(failure("Overloaded"), "error"),
        SSEEvent(failure("Out of memory")),
    ],
    ids=["with-a-type", "without-a-type"],
)
@pytest.mark.parametrize("end", [(), (CUT,), (DONE,)], ids=["end", "cut", "done"])
def test_an_error_in_the_stream_is_an_event_and_arrives_before_the_stream_fails(
    api: Api, error: SSEEvent, end: Sequence[Step]
) -> None:
    with SSEServer(stream(token("so"), error, *end)) as server, api.client(policy=QUICK) as client:
        with api.connect(client, server.url, json=QUESTION, until="[DONE]") as conn:
            received = api.take(conn, 2)
            if end == (DONE,):
                assert api.rest(conn) == []
            else:
                with pytest.raises(SSEConnectionError, match="the response ended before its last event"):
                    api.rest(conn)
    assert received[1] == error
    assert len(server.requests) == 1


def test_leaving_the_block_in_the_middle_of_an_answer_tells_the_server(api: Api) -> None:
    with SSEServer(stream(token("so"), HANG)) as server, api.client() as client:
        with pytest.raises(KeyboardInterrupt), api.connect(client, server.url, json=QUESTION, until="[DONE]") as conn:
            api.next(conn)
            raise KeyboardInterrupt
        server.wait_for_connections(0)
    assert len(server.requests) == 1


@pytest.mark.parametrize("reply", [stream(token("so"), HANG), status(429, headers={"Retry-After": "3600"})])
def test_cancelling_the_task_that_reads_an_answer_tells_the_server(reply: Reply) -> None:
    async def read(url: str) -> None:
        async with SSEClient() as client, client.connect(url, json=QUESTION, until="[DONE]") as conn:
            async for _ in conn:
                pass

    async def main() -> None:
        with SSEServer(reply) as server:
            task = asyncio.create_task(read(server.url))
            await asyncio.to_thread(server.wait_for_requests, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(server.wait_for_connections, 0)
            assert len(server.requests) == 1

    asyncio.run(main())
