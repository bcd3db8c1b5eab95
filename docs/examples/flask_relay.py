r"""Relay an event stream to browsers with Flask: http://localhost:8000/.

UPSTREAM=https://example.com/stream \
    gunicorn --worker-class gthread --threads 100 flask_relay:app

Each connected browser occupies a thread of the worker, or a greenlet with
``--worker-class gevent``. Gunicorn's default worker class, `sync`, serves
one browser at a time.
"""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask, Response, request

from sseclient_dual import SSEClient, SSEError

UPSTREAM = os.environ["UPSTREAM"]
# Seconds between heartbeats, which reveal a disconnected browser.
HEARTBEAT = float(os.environ.get("HEARTBEAT", "15"))
PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")

app = Flask(__name__)
client = SSEClient()


@app.get("/")
def page() -> str:
    """Return the page that lists the events."""
    return PAGE


@app.get("/events")
def events() -> Response:
    """Relay the events after the browser's last one."""
    # Browsers send the id in UTF-8; frameworks decode headers as Latin-1.
    last_event_id = (
        request.headers.get("Last-Event-ID", "")
        .encode("latin-1")
        .decode(errors="replace")
    )
    connection = client.connect(UPSTREAM, last_event_id=last_event_id)
    try:
        connection.open(timeout=1)
    except TimeoutError:
        pass  # keep trying: an error status would make the browser give up
    except SSEError as error:
        app.logger.warning("%s", error)
        return Response(status=502)
    if connection.status == 204:
        return Response(status=204)  # the end: browsers stop reconnecting
    # The second header turns off buffering in nginx.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return Response(
        connection.relay(HEARTBEAT),
        mimetype="text/event-stream",
        headers=headers,
    )
