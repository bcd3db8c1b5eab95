r"""Ask several models at once, print the first answer and cancel the rest.

OPENAI_BASE_URL=http://localhost:11434/v1 OPENAI_API_KEY=... \
    python first_answer.py "Why is the sky blue?" MODEL MODEL ...
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING

from sseclient_dual import SSEClient, SSEError, SSEStatusError

if TYPE_CHECKING:
    from collections.abc import Iterable

BASE = os.environ.get("OPENAI_BASE_URL", "http://localhost:11434/v1")
KEY = os.environ.get("OPENAI_API_KEY", "none")


async def ask(client: SSEClient, model: str, question: str) -> str:
    """Return the whole answer of a model; cancelling it ends the request."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "stream": True,
    }
    answer = f"{model}: "
    connection = client.connect(
        f"{BASE}/chat/completions", json=body, until="[DONE]", name=model
    )
    try:
        async with connection:
            async for event in connection:
                # The errors of an API are events, too, in one of two styles.
                if event.type == "error" or event.json().get("error"):
                    raise ValueError(f"{model}: {event.data}")
                for choice in event.json()["choices"]:
                    answer += choice["delta"].get("content") or ""
    except SSEStatusError as refusal:  # the body has the reason
        reason = refusal.body.decode(errors="replace")
        status = refusal.status
        raise ValueError(f"{model}: status {status}: {reason}") from refusal
    return answer


async def first_answer(question: str, models: Iterable[str]) -> str:
    """Return the first answer that is complete."""
    async with SSEClient(headers={"Authorization": f"Bearer {KEY}"}) as client:
        tasks = [
            asyncio.create_task(ask(client, model, question))
            for model in models
        ]
        try:
            for first in asyncio.as_completed(tasks):
                try:
                    return await first
                except (SSEError, ValueError) as error:
                    print("error:", error, file=sys.stderr)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    raise ValueError("no model answered")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("question")
    parser.add_argument("models", nargs="+", metavar="model")
    arguments = parser.parse_args()
    try:
        print(asyncio.run(first_answer(arguments.question, arguments.models)))
    except ValueError as failure:
        sys.exit(f"error: {failure}")
    except KeyboardInterrupt:
        sys.exit("cancelled")
