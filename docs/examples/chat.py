r"""Chat with a model behind an OpenAI-compatible API, token by token.

Ctrl-D ends the chat.

OPENAI_BASE_URL=http://localhost:11434/v1 OPENAI_API_KEY=... \
    python chat.py MODEL
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from sseclient_dual import SSEClient

if TYPE_CHECKING:
    from collections.abc import Iterator

URL = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
KEY = os.environ.get("OPENAI_API_KEY", "none")


def ask(
    client: SSEClient, model: str, messages: list[dict[str, str]]
) -> Iterator[str]:
    """Yield the tokens of the answer. The request is never repeated."""
    question = {"model": model, "messages": messages, "stream": True}
    with client.connect(URL, "POST", json=question) as connection:
        for event in connection:
            if event.data == "[DONE]":
                return
            for choice in event.json()["choices"]:
                yield choice["delta"].get("content") or ""


def main(model: str) -> None:
    """Alternate between a line from the terminal and the model's answer."""
    messages: list[dict[str, str]] = []
    with SSEClient(headers={"Authorization": f"Bearer {KEY}"}) as client:
        while True:
            messages.append({"role": "user", "content": input("> ")})
            answer = ""
            for token in ask(client, model, messages):
                print(token, end="", flush=True)
                answer += token
            print()
            messages.append({"role": "assistant", "content": answer})


if __name__ == "__main__":
    with suppress(EOFError, KeyboardInterrupt):
        main(sys.argv[1])
