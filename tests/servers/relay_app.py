"""A Flask app whose views read or relay a stream of the server ``UPSTREAM``.

The client and one connection are created at import: with ``gunicorn --preload`` before the fork, and before gevent
patches anything. If ``OPEN_AT_IMPORT`` is set, the connection is also opened at import.
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
    """Relay a stream."""
    return Response(client.connect(UPSTREAM + path, reconnect=False).relay(), mimetype="text/event-stream")


@app.get("/read/<path:path>")
def read(path: str) -> list[str]:
    """Read a stream to its end."""
    return [event.data for event in client.connect(UPSTREAM + path, reconnect=False)]


@app.get("/import/<int:count>")
def at_import(count: int) -> list[str]:
    """Return `count` events of the connection made at import, or the error message."""
    try:
        return [next(made_at_import).data for _ in range(count)]
    except RuntimeError as error:
        return [str(error)]


@app.get("/locks")
def locks() -> str:
    """Return the module of the lock class."""
    return type(threading.Lock()).__module__
