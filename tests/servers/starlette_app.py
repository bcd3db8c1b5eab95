"""The log as a Starlette app with sse-starlette."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from servers import PACE, entry, numbers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

live: set[Request] = set()


async def log(request: Request) -> EventSourceResponse:
    assert request.client is not None
    # The port of the client tells connections apart.
    return EventSourceResponse(events(request), headers={"X-Connection": str(request.client.port)})


async def events(request: Request) -> AsyncIterator[dict[str, Any]]:
    live.add(request)
    try:
        for number in numbers(request.headers.get("Last-Event-ID"), request.query_params.get("replay")):
            yield entry(number)._asdict()
            if number % 3 == 0:  # on a busy machine, the first of more frequent pings might be sent before the head
                yield {"comment": "ping"}
            await asyncio.sleep(PACE)
    finally:
        live.discard(request)


async def connections(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(live)))


app = Starlette(routes=[Route("/log", log), Route("/connections", connections)])
