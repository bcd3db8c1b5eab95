"""A WSGI and an ASGI app that relay the feed ``prices`` of the Redis server ``REDIS``, without a framework.

Each process has a standby ingest of the stream ``UPSTREAM``, as in a web site with many workers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sseclient_dual import ReconnectPolicy, SSEClient
from sseclient_dual.redis import RedisFeed, RedisIngest

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}

feed = RedisFeed(os.environ["REDIS"], "prices", replay=20)
client = SSEClient(policy=ReconnectPolicy(retry_delay=10, min_retry_delay=0, max_retry_delay=100))
ingest = RedisIngest(client, os.environ["UPSTREAM"], redis=os.environ["REDIS"], name="prices", lease=1.0).start()


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Relay the feed to a browser."""
    start_response("200 OK", list(HEADERS.items()))
    return feed.relay(environ.get("HTTP_LAST_EVENT_ID"), heartbeat=0.5)


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Relay the feed to a browser."""
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
    pairs = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
    await send({"type": "http.response.start", "status": 200, "headers": pairs})
    relay = feed.arelay(headers.get("last-event-id"), heartbeat=0.5)
    try:
        async for piece in relay:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    finally:
        await relay.aclose()
