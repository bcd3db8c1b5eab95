"""Merge many streams into one, in asyncio: one line of JSON per event.

python merge.py https://example.com/a https://example.com/b ...
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from typing import TYPE_CHECKING

from sseclient_dual import SSEClient, SSEError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from sseclient_dual import SSEConnection, SSEEvent

log = logging.getLogger(__name__)


async def merge(
    client: SSEClient, urls: Iterable[str]
) -> AsyncIterator[tuple[str, SSEEvent]]:
    """Yield each event with its URL, until all streams have ended."""
    # A full queue slows the servers down.
    merged: asyncio.Queue[tuple[str, SSEEvent] | None] = asyncio.Queue(
        maxsize=100
    )

    async def follow(connection: SSEConnection) -> None:
        try:
            async for event in connection:
                await merged.put((connection.url, event))
        except SSEError as error:  # ends this stream; the others continue
            log.warning("%s", error)
        await merged.put(None)

    connections = [  # each message about a stream begins with its name
        client.connect(url, name=f"stream {number}")
        for number, url in enumerate(urls, 1)
    ]
    tasks = [asyncio.create_task(follow(conn)) for conn in connections]
    for _ in tasks:
        while item := await merged.get():
            yield item


async def main(urls: Iterable[str]) -> None:
    """Print the events of all streams."""
    async with SSEClient() as client:
        async for url, event in merge(client, urls):
            print(
                json.dumps({"from": url, **event}, ensure_ascii=False),
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("urls", nargs="+", metavar="url")
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.urls))
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        pass
