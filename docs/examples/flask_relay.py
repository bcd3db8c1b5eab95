"""Relay an event stream to browsers by Flask. Open the page, http://localhost:8000/, and see events as they come.

UPSTREAM=https://example.com/stream gunicorn --worker-class gthread --threads 100 flask_relay:app

Each browser occupies a thread of the worker for as long as it stays. Greenlets instead of threads do as well:
``--worker-class gevent``. The worker class `sync`, gunicorn's default, would serve one browser at a time.
"""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask, Response, request

from sseclient_dual import SSEClient, SSEError

UPSTREAM = os.environ["UPSTREAM"]
HEARTBEAT = float(os.environ.get("HEARTBEAT", "15"))  # seconds; by it the server notices that a browser has left
PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")

app = Flask(__name__)
client = SSEClient()


@app.get("/")
def page() -> str:
    """Show the page that lists the events."""
    return PAGE


@app.get("/events")
def events() -> Response:
    """Relay what follows the event that the browser saw last."""
    # Browsers send the id in UTF-8, and frameworks read headers as Latin-1.
    last_event_id = request.headers.get("Last-Event-ID", "").encode("latin-1").decode(errors="replace")
    connection = client.connect(UPSTREAM, last_event_id=last_event_id)
    try:
        connection.open(timeout=1)
    except TimeoutError:
        pass  # it goes on trying; the browser waits, while an error status would make it give up
    except SSEError as error:
        app.logger.warning("%s", error)
        return Response(status=502)
    if connection.status == 204:
        return Response(status=204)  # the stream is over, and browsers are to know
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # that nginx passes on each event at once
    return Response(connection.relay(HEARTBEAT), mimetype="text/event-stream", headers=headers)
