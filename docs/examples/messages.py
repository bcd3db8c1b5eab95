r"""Ask a model behind an API in the style of Anthropic's Messages.

ANTHROPIC_API_KEY=... python messages.py MODEL "Why is the sky blue?"
"""

from __future__ import annotations

import argparse
import os
import sys

from sseclient_dual import SSEClient, SSEError, SSEStatusError

BASE = os.environ.get("ANTHROPIC_BASE_URL", "https://api.anthropic.com")
HEADERS = {
    "X-Api-Key": os.environ.get("ANTHROPIC_API_KEY", "none"),
    "Anthropic-Version": "2023-06-01",
}


def main(model: str, question: str) -> None:
    """Print the answer, token by token."""
    body = {
        "model": model,
        "max_tokens": 1024,
        "messages": [{"role": "user", "content": question}],
        "stream": True,
    }
    with (
        SSEClient(headers=HEADERS) as client,
        client.connect(
            f"{BASE}/v1/messages",
            json=body,
            until=lambda event: event.type == "message_stop",
        ) as connection,
    ):
        for event in connection:  # other types, such as ping: ignored
            if event.type == "content_block_delta":
                token = event.json()["delta"].get("text", "")
                print(token, end="", flush=True)
            elif event.type == "error":
                sys.exit(f"\nerror: {event.json()['error']['message']}")
    print()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model")
    parser.add_argument("question")
    arguments = parser.parse_args()
    try:
        main(arguments.model, arguments.question)
    except SSEStatusError as refusal:  # the body has the reason
        reason = refusal.body.decode(errors="replace")
        sys.exit(f"error: status {refusal.status}: {reason}")
    except (SSEError, ValueError) as failure:
        sys.exit(f"\nerror: {failure}")
    except KeyboardInterrupt:
        sys.exit("\ncancelled")
