r"""Call a tool of an MCP server with the transport "streamable HTTP".

python mcp_call.py http://localhost:8000/mcp add '{"a": 20, "b": 22}'

The server answers a request with an event stream or with JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import count
from typing import TYPE_CHECKING, Any

import urllib3

from sseclient_dual import (
    SSEClient,
    SSEContentTypeError,
    SSEError,
    SSEStatusError,
)

if TYPE_CHECKING:
    from sseclient_dual import SSEEvent

VERSION = "2025-06-18"


class Session:
    """A session with an MCP server."""

    def __init__(self, client: SSEClient, url: str) -> None:
        self._client = client
        self._url = url
        self._ids = count(1)
        self._headers = {
            # Because JSON is accepted here, error.json() is all of it.
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": VERSION,
        }

    def start(self) -> None:
        """Agree on a version; the server may assign a session id."""
        self.request(
            "initialize",
            protocolVersion=VERSION,
            capabilities={},
            clientInfo={"name": "example", "version": "1"},
        )
        message = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        # The answer to a notification has no body: urllib3 is enough.
        urllib3.request("POST", self._url, json=message, headers=self._headers)

    def request(self, method: str, **params: object) -> dict[str, Any]:
        """Return the result of a request.

        :raises ValueError: the server answered with an error.
        """
        message = {
            "jsonrpc": "2.0",
            "id": next(self._ids),
            "method": method,
            "params": params,
        }
        try:
            with self._client.connect(
                self._url, headers=self._headers, json=message, until=is_answer
            ) as connection:
                *_, event = connection  # the answer is the last message
                headers, answer = connection.headers, event.json()
        except SSEContentTypeError as error:
            if error.content_type != "application/json":
                raise
            headers, answer = error.headers, error.json()
        if session_id := headers.get("Mcp-Session-Id"):
            self._headers["Mcp-Session-Id"] = session_id
        if "error" in answer:
            raise ValueError(answer["error"]["message"])
        result: dict[str, Any] = answer["result"]
        return result


def is_answer(event: SSEEvent) -> bool:
    """Return False for the notifications and requests before the answer."""
    return event.data != "" and "method" not in event.json()


def main(url: str, tool: str, values: dict[str, Any]) -> None:
    """Print the result of the tool as JSON."""
    with SSEClient() as client:
        session = Session(client, url)
        session.start()
        result = session.request("tools/call", name=tool, arguments=values)
        print(json.dumps(result["content"], ensure_ascii=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url")
    parser.add_argument("tool")
    parser.add_argument("values", type=json.loads, metavar="json")
    arguments = parser.parse_args()
    try:
        main(arguments.url, arguments.tool, arguments.values)
    except SSEStatusError as refusal:  # the body has the reason
        reason = refusal.body.decode(errors="replace")
        sys.exit(f"error: status {refusal.status}: {reason}")
    except (SSEError, ValueError) as failure:
        sys.exit(f"error: {failure}")
    except KeyboardInterrupt:
        sys.exit("cancelled")
