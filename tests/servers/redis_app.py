"""A WSGI and an ASGI app that relay a feed, without a framework; at ``/`` is the page of ``docs/examples``.

With ``REDIS``, the feed is that of a stream in Redis, and each process has a standby ingest of the stream
``UPSTREAM``, as in a web site with many workers. Otherwise each process shares ``UPSTREAM`` among its browsers.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from sseclient_dual import Feed, ReconnectPolicy, SSEClient
from sseclient_dual.redis import RedisFeed, RedisIngest
from support.examples import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterable

HEARTBEAT = 0.5  # seconds
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
PAGE = (EXAMPLES / "page.html").read_bytes()

client = SSEClient(policy=ReconnectPolicy(retry_delay=10, min_retry_delay=0, max_retry_delay=100))
feed: Feed
if "REDIS" in os.environ:
    feed = RedisFeed(os.environ["REDIS"], "prices", replay=20)
    # From the beginning, so that nothing is lost if the first holder is killed before it has stored an event.
    upstream, redis = os.environ["UPSTREAM"], os.environ["REDIS"]
    RedisIngest(client, upstream, redis=redis, name="prices", lease=1.0, last_event_id="0").start()
else:
    feed = client.share(os.environ["UPSTREAM"], replay=20)


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Relay the feed to a browser, or return the page."""
    if environ["PATH_INFO"] == "/":
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return [PAGE]
    start_response("200 OK", [*HEADERS.items(), ("X-Worker", str(os.getpid()))])
    return feed.relay(environ.get("HTTP_LAST_EVENT_ID"), heartbeat=HEARTBEAT)


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Relay the feed to a browser, until it leaves."""
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
    pairs = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
    await send({"type": "http.response.start", "status": 200, "headers": pairs})
    relaying = asyncio.ensure_future(_relay(headers.get("last-event-id"), send))
    leaving = asyncio.ensure_future(_leave(receive))
    await asyncio.wait([relaying, leaving], return_when=asyncio.FIRST_COMPLETED)
    relaying.cancel()
    leaving.cancel()
    await asyncio.gather(relaying, leaving, return_exceptions=True)


async def _relay(last_event_id: str | None, send: Any) -> None:
    relay = feed.arelay(last_event_id, heartbeat=HEARTBEAT)
    try:
        async for piece in relay:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    finally:
        await relay.aclose()


async def _leave(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
