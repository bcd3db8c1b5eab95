"""The log as a streaming Flask view, and two more streams like those of real services."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from flask import Flask, Response, request

from servers import PACE, PAUSE, entry, numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

app = Flask(__name__)
live: set[Iterator[int]] = set()


@app.get("/log")
def log() -> Response:
    return streaming(events(numbers(request.headers.get("Last-Event-ID"), request.args.get("replay"))))


def events(chosen: Iterator[int]) -> Iterator[bytes]:
    """Send each event in two halves with a pause between them, so that a broken stream breaks an event."""
    live.add(chosen)
    try:
        for number in chosen:
            fields = entry(number)._asdict().items()
            lines = [f"{name}: {line}\n" for name, text in fields if text is not None for line in text.split("\n")]
            wire = "".join([*lines, ": ping\n", "\n"]).encode()
            middle = len(wire) // 2
            yield wire[:middle]
            time.sleep(PACE)
            yield wire[middle:]
    finally:
        live.discard(chosen)


@app.get("/connections")
def connections() -> str:
    return str(len(live))


@app.get("/quiet")
def quiet() -> Response:
    """Send nothing at first, not even the head: the server sends the head with the first event."""

    def pieces() -> Iterator[bytes]:
        time.sleep(PAUSE)
        yield b"data: at last\n\n"
        while True:
            time.sleep(PACE)
            yield b": ping\n\n"

    return streaming(pieces())


@app.post("/chat")
def chat() -> Response:
    """Send each word of the prompt as a token, then [DONE]."""
    words = request.get_json()["prompt"].split(" ")

    def pieces() -> Iterator[bytes]:
        for word in words:
            yield f"data: {json.dumps({'token': word})}\n\n".encode()
            time.sleep(PACE)
        yield b"data: [DONE]\n\n"

    return streaming(pieces())


def streaming(pieces: Iterator[bytes]) -> Response:
    return Response(pieces, mimetype="text/event-stream")
