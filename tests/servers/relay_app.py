"""A Flask app whose views are clients: what they read, or pass on, is a stream of the server ``UPSTREAM``.

The client is made at import, which with ``gunicorn --preload`` is before the fork and before gevent patches anything.
So is one connection, which is opened then, too, if ``OPEN_AT_IMPORT`` says so.
"""

from __future__ import annotations

import os
import threading

from flask import Flask, Response

from sseclient_dual import SSEClient

UPSTREAM = os.environ["UPSTREAM"]

app = Flask(__name__)
client = SSEClient()
made_at_import = client.connect(f"{UPSTREAM}import", queue_size=2)
if "OPEN_AT_IMPORT" in os.environ:
    made_at_import.open()


@app.get("/relay/<path:path>")
def relay(path: str) -> Response:
    """Pass a stream on."""
    return Response(client.connect(UPSTREAM + path, reconnect=False).relay(), mimetype="text/event-stream")


@app.get("/read/<path:path>")
def read(path: str) -> list[str]:
    """Read a stream to its end."""
    return [event.data for event in client.connect(UPSTREAM + path, reconnect=False)]


@app.get("/import/<int:count>")
def at_import(count: int) -> list[str]:
    """Read so many events of the connection that was made at import, or say why that cannot be."""
    try:
        return [next(made_at_import).data for _ in range(count)]
    except RuntimeError as error:
        return [str(error)]


@app.get("/locks")
def locks() -> str:
    """Name the module that locks are of."""
    return type(threading.Lock()).__module__
