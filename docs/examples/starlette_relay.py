r"""Relay event streams to browsers with Starlette: http://localhost:8000/.

UPSTREAM=https://example.com/stream \
    uvicorn --timeout-graceful-shutdown 5 starlette_relay:app

All browsers share one upstream connection. The page /users/NAME/ shows a
stream of its own instead: that of UPSTREAM with the parameter user=NAME.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from sseclient_dual import SSEClient, SSEError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

UPSTREAM = os.environ["UPSTREAM"]
HEARTBEAT = float(os.environ.get("HEARTBEAT", "15"))  # seconds
# Seconds for which the upstream stays open without browsers.
LINGER = float(os.environ.get("LINGER", "30"))
PAGE = Path(__file__).with_name("page.html")

client = SSEClient()
feed = client.share(UPSTREAM, linger=LINGER)
log = logging.getLogger(__name__)


async def page(_request: Request) -> Response:
    """Return the page that lists the events of the URL `events`."""
    return FileResponse(PAGE)


async def events(request: Request) -> Response:
    """Relay the events after the browser's last one, or the last ten."""
    if request.method == "HEAD":  # Starlette routes HEAD here and would stream
        return Response(media_type="text/event-stream")
    if feed.ended:
        return Response(status_code=204)  # the end: browsers stop reconnecting
    last_event_id = request.headers.get("Last-Event-ID")
    return stream(feed.arelay(last_event_id, history=10, heartbeat=HEARTBEAT))


async def events_of_user(request: Request) -> Response:
    """Relay a stream of one browser alone, over a connection of its own."""
    if request.method == "HEAD":
        return Response(media_type="text/event-stream")
    connection = client.connect(
        UPSTREAM,
        params={"user": request.path_params["user"]},
        last_event_id=request.headers.get("Last-Event-ID"),
    )
    try:
        await asyncio.wait_for(connection, timeout=1)
    except asyncio.TimeoutError:
        pass  # keep trying: an error status would make the browser give up
    except SSEError as error:
        log.warning("%s", error)
        return Response(status_code=502)
    if connection.status == 204:
        return Response(status_code=204)
    return stream(connection.arelay(HEARTBEAT))


def stream(body: AsyncIterator[bytes]) -> Response:
    """Return a response that browsers get event by event."""
    # The second header turns off buffering in nginx.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        body, media_type="text/event-stream", headers=headers
    )


app = Starlette(
    routes=[
        Route("/", page),
        Route("/events", events),
        Route("/users/{user}/", page),
        Route("/users/{user}/events", events_of_user),
    ]
)
