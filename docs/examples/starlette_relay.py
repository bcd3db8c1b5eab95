r"""Relay an event stream to browsers with Starlette: http://localhost:8000/.

UPSTREAM=https://example.com/stream \
    uvicorn --timeout-graceful-shutdown 5 starlette_relay:app

FastAPI works the same way: its `StreamingResponse` is Starlette's.
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
    from starlette.requests import Request

UPSTREAM = os.environ["UPSTREAM"]
HEARTBEAT = float(os.environ.get("HEARTBEAT", "15"))  # seconds
PAGE = Path(__file__).with_name("page.html")

client = SSEClient()
log = logging.getLogger(__name__)


async def page(_request: Request) -> Response:
    """Return the page that lists the events."""
    return FileResponse(PAGE)


async def events(request: Request) -> Response:
    """Relay the events after the browser's last one."""
    if request.method == "HEAD":  # Starlette routes HEAD here and would stream
        return Response(media_type="text/event-stream")
    # Browsers send the id in UTF-8; frameworks decode headers as Latin-1.
    last_event_id = (
        request.headers.get("Last-Event-ID", "")
        .encode("latin-1")
        .decode(errors="replace")
    )
    connection = client.connect(UPSTREAM, last_event_id=last_event_id)
    try:
        await asyncio.wait_for(connection, timeout=1)
    except asyncio.TimeoutError:
        pass  # keep trying: an error status would make the browser give up
    except SSEError as error:
        log.warning("%s", error)
        return Response(status_code=502)
    if connection.status == 204:
        return Response(status_code=204)  # the end: browsers stop reconnecting
    # The second header turns off buffering in nginx.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        connection.arelay(HEARTBEAT),
        media_type="text/event-stream",
        headers=headers,
    )


app = Starlette(routes=[Route("/", page), Route("/events", events)])
