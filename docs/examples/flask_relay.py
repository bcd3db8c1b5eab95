r"""Relay event streams to browsers with Flask: http://localhost:8000/.

UPSTREAM=https://example.com/stream \
    gunicorn --worker-class gthread --threads 100 flask_relay:app

All browsers share one upstream connection. The page /users/NAME/ shows a
stream of its own instead: that of UPSTREAM with the parameter user=NAME.

Each connected browser occupies a thread of the worker, or a greenlet with
``--worker-class gevent``. Gunicorn's default worker class, `sync`, serves
one browser at a time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask, Response, request

from sseclient_dual import SSEClient, SSEError

if TYPE_CHECKING:
    from collections.abc import Iterator

UPSTREAM = os.environ["UPSTREAM"]
# Seconds between heartbeats, which reveal a disconnected browser.
HEARTBEAT = float(os.environ.get("HEARTBEAT", "15"))
# Seconds for which the upstream stays open without browsers.
LINGER = float(os.environ.get("LINGER", "30"))
PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")

app = Flask(__name__)
client = SSEClient()
feed = client.share(UPSTREAM, linger=LINGER)


@app.get("/")
@app.get("/users/<user>/")
def page(user: str = "") -> str:  # noqa: ARG001 - the page need not know
    """Return the page that lists the events of the URL `events`."""
    return PAGE


@app.get("/events")
def events() -> Response:
    """Relay the events after the browser's last one, or the last ten."""
    if feed.ended:
        return Response(status=204)  # the end: browsers stop reconnecting
    last_event_id = request.headers.get("Last-Event-ID")
    return stream(feed.relay(last_event_id, history=10, heartbeat=HEARTBEAT))


@app.get("/users/<user>/events")
def events_of_user(user: str) -> Response:
    """Relay a stream of one browser alone, over a connection of its own."""
    connection = client.connect(
        UPSTREAM,
        params={"user": user},
        last_event_id=request.headers.get("Last-Event-ID"),
    )
    try:
        connection.open(timeout=1)
    except TimeoutError:
        pass  # keep trying: an error status would make the browser give up
    except SSEError as error:
        app.logger.warning("%s", error)
        return Response(status=502)
    if connection.status == 204:
        return Response(status=204)
    return stream(connection.relay(HEARTBEAT))


def stream(body: Iterator[bytes]) -> Response:
    """Return a response that browsers get event by event."""
    # The second header turns off buffering in nginx.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return Response(body, mimetype="text/event-stream", headers=headers)
