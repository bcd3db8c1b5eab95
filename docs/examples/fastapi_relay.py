r"""Relay event streams to browsers with FastAPI: http://localhost:8000/.

UPSTREAM=https://example.com/stream \
    uvicorn --timeout-graceful-shutdown 5 fastapi_relay:app

All browsers share one upstream connection. The page /users/NAME/ shows a
stream of its own instead: that of UPSTREAM with the parameter user=NAME.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException
from fastapi.responses import FileResponse, Response, StreamingResponse

from sseclient_dual import SSEClient, SSEError

UPSTREAM = os.environ["UPSTREAM"]
HEARTBEAT = float(os.environ.get("HEARTBEAT", "15"))  # seconds
# Seconds for which the upstream stays open without browsers.
LINGER = float(os.environ.get("LINGER", "30"))
PAGE = Path(__file__).with_name("page.html")

app = FastAPI()
client = SSEClient()
feed = client.share(UPSTREAM, linger=LINGER)
log = logging.getLogger(__name__)

LastEventID = Annotated[str | None, Header()]


@app.get("/", response_class=FileResponse)
@app.get("/users/{user}/", response_class=FileResponse)
async def page() -> Path:
    """Return the page that lists the events of the URL `events`."""
    return PAGE


@app.get("/events")
async def events(last_event_id: LastEventID = None) -> Response:
    """Relay the events after the browser's last one, or the last ten."""
    if feed.ended:
        return Response(status_code=204)  # the end: browsers stop reconnecting
    return stream(feed.arelay(last_event_id, history=10, heartbeat=HEARTBEAT))


@app.get("/users/{user}/events")
async def events_of_user(
    user: str, last_event_id: LastEventID = None
) -> Response:
    """Relay a stream of one browser alone, over a connection of its own."""
    connection = client.connect(
        UPSTREAM, params={"user": user}, last_event_id=last_event_id
    )
    try:
        await asyncio.wait_for(connection, timeout=1)
    except asyncio.TimeoutError:
        pass  # keep trying: an error status would make the browser give up
    except SSEError as error:
        log.warning("%s", error)
        raise HTTPException(502) from None
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
