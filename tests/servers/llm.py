"""APIs of language models: a server that has no model, and the wire formats for scripted servers.

The formats are those of the API references of OpenAI (chat completions) and Anthropic (Messages).
"""

from __future__ import annotations

import json
from typing import Any

from servers.running import Server, need, python

PANGRAM = "Příliš žluťoučký кінь 🐎 の馬 ran."
"""What `fakellm` answers to a message that contains "pangram"; see ``fakellm.yaml``."""

DONE = "data: [DONE]\n\n"
"""The end marker of OpenAI's style."""

STOP = 'event: message_stop\ndata: {"type": "message_stop"}\n\n'
"""The last event of Anthropic's style."""

PING = 'event: ping\ndata: {"type": "ping"}\n\n'
"""An event of Anthropic's style without content."""


def fakellm() -> Server:
    """Return a server of the package `fakellm`, which serves the APIs of OpenAI and Anthropic."""
    need("fakellm", "uvicorn")
    command = python("uvicorn --host {host} --port {port} fakellm.server:app")
    return Server(command, {"FAKELLM_CONFIG": "servers/fakellm.yaml"})


def token(text: str, **choice: Any) -> str:
    """Return a piece of an answer in OpenAI's style."""
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}, **choice}]})}\n\n"


def delta(text: str) -> str:
    """Return a piece of an answer in Anthropic's style."""
    content = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    return f"event: content_block_delta\ndata: {json.dumps(content)}\n\n"


def failure(message: str) -> str:
    """Return the JSON of an error; its ``error.message`` is common to both styles."""
    return json.dumps({"type": "error", "error": {"type": "api_error", "message": message}})
