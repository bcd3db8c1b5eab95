"""The log as an aiohttp app with aiohttp-sse, which ends lines with CR LF."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp_sse import sse_response

from servers import PACE, chosen, entry

if TYPE_CHECKING:
    from collections.abc import Iterator

live: set[Iterator[int]] = set()


async def log(request: web.Request) -> web.StreamResponse:
    async with sse_response(request, ping_interval=3 * PACE) as response:
        asked_for = chosen(response.last_event_id, request.query.get("count"))
        live.add(asked_for)
        try:
            for number in asked_for:
                data, event, event_id = entry(number)
                await response.send(data, id=event_id, event=event)
                await asyncio.sleep(PACE)
        finally:
            live.discard(asked_for)
    return response


async def connections(_request: web.Request) -> web.Response:
    return web.Response(text=str(len(live)))


def make(_arguments: list[str]) -> web.Application:
    """Return the app for ``python -m aiohttp.web``."""
    app = web.Application()
    app.add_routes([web.get("/log", log), web.get("/connections", connections)])
    return app
