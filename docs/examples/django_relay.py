r"""Relay event streams to browsers with Django, in one file.

Synchronous views, http://localhost:8000/, with threads or, with
``--worker-class gevent``, with greenlets::

    UPSTREAM=https://example.com/stream \
        gunicorn --worker-class gthread --threads 100 django_relay:wsgi

Asynchronous views, http://localhost:8000/async/::

    UPSTREAM=https://example.com/stream uvicorn --lifespan off \
        --timeout-graceful-shutdown 5 django_relay:asgi

All browsers share one upstream connection. The pages /users/NAME/ and
/async/users/NAME/ show a stream of their own instead: that of UPSTREAM with
the parameter user=NAME.

Under gunicorn each connected browser occupies a thread of the worker.
Use synchronous streams with WSGI only and asynchronous streams with ASGI
only: Django reads the other kind to its end before it sends anything.
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
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    StreamingHttpResponse,
)
from django.urls import path
from django.views.decorators.http import require_GET

from sseclient_dual import SSEClient, SSEConnection, SSEError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

UPSTREAM = os.environ["UPSTREAM"]
# Seconds between heartbeats, which let gunicorn detect a disconnected browser.
HEARTBEAT = float(os.environ.get("HEARTBEAT", "15"))
# Seconds for which the upstream stays open without browsers.
LINGER = float(os.environ.get("LINGER", "30"))
PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"],
)
client = SSEClient()
feed = client.share(UPSTREAM, linger=LINGER)
log = logging.getLogger(__name__)


def page(_request: HttpRequest, **_names: str) -> HttpResponse:
    """Return the page that lists the events of the URL `events`."""
    return HttpResponse(PAGE)


def events(request: HttpRequest) -> HttpResponseBase:
    """Relay the events after the browser's last one, or the last ten; WSGI."""
    if feed.ended:
        return ended()
    last_event_id = request.headers.get("Last-Event-ID")
    return stream(feed.relay(last_event_id, history=10, heartbeat=HEARTBEAT))


async def async_events(request: HttpRequest) -> HttpResponseBase:
    """Relay the events after the browser's last one, or the last ten; ASGI."""
    if feed.ended:
        return ended()
    last_event_id = request.headers.get("Last-Event-ID")
    return stream(feed.arelay(last_event_id, history=10, heartbeat=HEARTBEAT))


def events_of_user(request: HttpRequest, user: str) -> HttpResponseBase:
    """Relay a stream of one browser alone, under WSGI."""
    connection = connect(request, user)
    try:
        connection.open(timeout=1)
    except TimeoutError:
        pass  # keep trying: an error status would make the browser give up
    except SSEError as error:
        return refused(error)
    if connection.status == 204:
        return ended()
    return stream(connection.relay(HEARTBEAT))


async def async_events_of_user(
    request: HttpRequest, user: str
) -> HttpResponseBase:
    """Relay a stream of one browser alone, under ASGI."""
    connection = connect(request, user)
    try:
        await asyncio.wait_for(connection, timeout=1)
    except asyncio.TimeoutError:
        pass
    except asyncio.CancelledError:  # the browser has disconnected
        connection.close()
        raise
    except SSEError as error:
        return refused(error)
    if connection.status == 204:
        return ended()
    return stream(connection.arelay(HEARTBEAT))


def connect(request: HttpRequest, user: str) -> SSEConnection:
    """Return an upstream connection for one browser."""
    return client.connect(
        UPSTREAM,
        params={"user": user},
        last_event_id=request.headers.get("Last-Event-ID"),
    )


def refused(error: SSEError) -> HttpResponse:
    """Return 502: the upstream refused."""
    log.warning("%s", error)
    return HttpResponse(status=502)


def ended() -> HttpResponse:
    """Return 204: the stream has ended, and browsers stop reconnecting."""
    return HttpResponse(status=204)


def stream(body: Iterator[bytes] | AsyncIterator[bytes]) -> HttpResponseBase:
    """Return a response that browsers get event by event."""
    headers = {
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",  # no buffering in nginx
        "Content-Encoding": "identity",  # no buffering in GZipMiddleware
    }
    return StreamingHttpResponse(
        body, content_type="text/event-stream", headers=headers
    )


urlpatterns = [  # for a HEAD request Django would read the whole stream
    path("", page),
    path("events", require_GET(events)),
    path("users/<user>/", page),
    path("users/<user>/events", require_GET(events_of_user)),
    path("async/", page),
    path("async/events", require_GET(async_events)),
    path("async/users/<user>/", page),
    path("async/users/<user>/events", require_GET(async_events_of_user)),
]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
