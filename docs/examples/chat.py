r"""Chat with a model behind an OpenAI-compatible API, token by token.

OPENAI_BASE_URL=http://localhost:11434/v1 OPENAI_API_KEY=... \
    python chat.py MODEL

Ctrl-C cancels an answer, Ctrl-D ends the chat. An answer that fails or is
cancelled is not part of the conversation: ask again.
"""

from __future__ import annotations

import argparse
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sseclient_dual import (
    ReconnectPolicy,
    SSEClient,
    SSEContentTypeError,
    SSEError,
    SSEStatusError,
)

if TYPE_CHECKING:
    from sseclient_dual import SSEEvent

Message = dict[str, str]

BASE = os.environ.get("OPENAI_BASE_URL", "http://localhost:11434/v1")
KEY = os.environ.get("OPENAI_API_KEY", "none")


class ModelError(Exception):
    """The API sent an error in the stream, after its status 200."""


def answer(client: SSEClient, model: str, messages: list[Message]) -> str:
    """Print the model's answer token by token, and return it."""
    url = f"{BASE}/chat/completions"
    question = {"model": model, "messages": messages, "stream": True}
    text = ""
    with client.connect(url, json=question, until="[DONE]") as connection:
        for event in connection:
            for choice in chunk_of(event).get("choices", []):
                token = choice["delta"].get("content") or ""
                print(token, end="", flush=True)
                text += token
                if choice.get("finish_reason") == "length":
                    print(" [the limit of tokens is reached]", end="")
    print()
    return text


def chunk_of(event: SSEEvent) -> dict[str, Any]:
    """Return the JSON of an event, unless it is an error."""
    chunk: dict[str, Any] = {}
    with suppress(ValueError):
        chunk = event.json()
    # An error has the type "error", or no type and an "error" in the JSON.
    if event.type == "error" or not chunk or chunk.get("error"):
        raise ModelError(f"error from the API: {message_of(event.data)}")
    return chunk


def message_of(text: str) -> str:
    """Return the message in the JSON of an error, or else the text itself."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return text.strip()[:500]


def explain(error: Exception) -> str:
    """Return what to tell the user: the API's own words, if it sent any."""
    if isinstance(error, SSEStatusError):
        message = message_of(error.body.decode(errors="replace"))
        return f"status {error.status}: {message or error.reason}"
    if isinstance(error, SSEContentTypeError):
        message = message_of(error.body.decode(errors="replace"))
        return f"{error.content_type} instead of a stream: {message}"
    return str(error)


def main(model: str) -> None:
    """Alternate between a line from the terminal and the model's answer."""
    messages: list[Message] = []
    headers = {"Authorization": f"Bearer {KEY}"}
    policy = ReconnectPolicy(retry_delay=500, max_retries=3)
    with SSEClient(headers=headers, policy=policy) as client:
        while True:
            question = {"role": "user", "content": input("> ")}
            try:
                text = answer(client, model, [*messages, question])
            except KeyboardInterrupt:
                print("\n[cancelled]")
            except (SSEError, ModelError, ValueError) as error:
                print(f"\n[{explain(error)}]")
            else:
                messages += [question, {"role": "assistant", "content": text}]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model")
    arguments = parser.parse_args()
    with suppress(EOFError, KeyboardInterrupt):
        main(arguments.model)
