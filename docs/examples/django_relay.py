"""Relay an event stream to browsers by Django, all in one file. Open a page, and see events as they come.

By synchronous views, http://localhost:8000/, in threads or in greenlets (``--worker-class gevent``)::

    UPSTREAM=https://example.com/stream gunicorn --worker-class gthread --threads 100 django_relay:wsgi

By asynchronous ones, http://localhost:8000/async/::

    UPSTREAM=https://example.com/stream uvicorn --lifespan off --timeout-graceful-shutdown 5 django_relay:asgi

Under gunicorn each browser occupies a thread of the worker for as long as it stays. Synchronous streams are for WSGI
only and asynchronous ones for ASGI only: Django collects the other kind to its end before it sends anything.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import path
from django.views.decorators.http import require_GET

from sseclient_dual import SSEClient, SSEConnection, SSEError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

UPSTREAM = os.environ["UPSTREAM"]
HEARTBEAT = float(os.environ.get("HEARTBEAT", "15"))  # seconds; by it gunicorn notices that a browser has left
PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"],
)
client = SSEClient()
log = logging.getLogger(__name__)


def page(_request: HttpRequest) -> HttpResponse:
    """Show the page that lists the events."""
    return HttpResponse(PAGE)


def events(request: HttpRequest) -> HttpResponseBase:
    """Relay what follows the event that the browser saw last, under WSGI."""
    connection = connect(request)
    try:
        connection.open(timeout=1)
    except TimeoutError:
        pass  # it goes on trying; the browser waits, while an error status would make it give up
    except SSEError as error:
        return refused(error)
    return relayed(connection, connection.relay(HEARTBEAT))


async def async_events(request: HttpRequest) -> HttpResponseBase:
    """Do as `events`, under ASGI."""
    connection = connect(request)
    try:
        await asyncio.wait_for(connection, timeout=1)
    except asyncio.TimeoutError:
        pass
    except asyncio.CancelledError:  # the browser has left already
        connection.close()
        raise
    except SSEError as error:
        return refused(error)
    return relayed(connection, connection.arelay(HEARTBEAT))


def connect(request: HttpRequest) -> SSEConnection:
    """Return a connection of the browser's own."""
    # Browsers send the id in UTF-8, and frameworks read headers as Latin-1.
    last_event_id = request.headers.get("Last-Event-ID", "").encode("latin-1").decode(errors="replace")
    return client.connect(UPSTREAM, last_event_id=last_event_id)


def refused(error: SSEError) -> HttpResponse:
    """Answer that the upstream did not."""
    log.warning("%s", error)
    return HttpResponse(status=502)


def relayed(connection: SSEConnection, body: Iterator[bytes] | AsyncIterator[bytes]) -> HttpResponseBase:
    """Answer with the stream."""
    if connection.status == 204:
        return HttpResponse(status=204)  # the stream is over, and browsers are to know
    headers = {
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",  # that nginx passes on each event at once,
        "Content-Encoding": "identity",  # and so does GZipMiddleware, which would hold them back
    }
    return StreamingHttpResponse(body, content_type="text/event-stream", headers=headers)


urlpatterns = [  # of a HEAD request a stream would be read all the same
    path("", page),
    path("events", require_GET(events)),
    path("async/", page),
    path("async/events", require_GET(async_events)),
]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
