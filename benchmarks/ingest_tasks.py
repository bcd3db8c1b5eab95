"""The tasks of a worker in the part `redis`: an ingest, and a web worker with a browser."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from measure import quantile
from sseclient_dual import SSEClient

if TYPE_CHECKING:
    from collections.abc import Callable


def ingest(url: str, redis: str, name: str, batch: int, lease: float, answer: object) -> dict[str, float]:
    """Read the upstream, or stand by, until the process is killed."""
    from sseclient_dual.redis import RedisIngest  # noqa: PLC0415 - needs an extra

    del answer
    with SSEClient() as client:
        RedisIngest(client, url, redis=redis, name=name, batch=batch, lease=lease, maxlen=10**6).run()
    return {}


def browse(redis: str, name: str, total: int, answer: Callable[..., None]) -> dict[str, float]:
    """Relay the feed to a browser; answer when it waits, and return the delays of `total` events."""
    return asyncio.run(_browse(redis, name, total, answer))


async def _browse(redis: str, name: str, total: int, answer: Callable[..., None]) -> dict[str, float]:
    from sseclient_dual.redis import RedisFeed  # noqa: PLC0415 - needs an extra

    delays: list[float] = []  # milliseconds
    async with RedisFeed(redis, name) as feed:
        async for piece in feed.arelay(history=1):
            _, has_data, data = piece.partition(b"data: ")
            if not has_data:  # only an id
                continue
            number, created = map(int, data.split())
            if number == 0:  # it came before the others
                answer(ready=True)
                continue
            delays.append((time.monotonic_ns() - created) / 1e6)
            if number == total:
                break
    return {"p50": quantile(delays, 0.5), "p99": quantile(delays, 0.99)}
