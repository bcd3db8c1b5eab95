"""Many subscribers of a feed in Redis, some of which stall: memory, connections, and what each receives.

`make soak ARGS='redis_feed [subscribers] [stalled]'` runs with more than `test_redis_feed.py`.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sseclient_dual import SSEClient, SSEEvent
from sseclient_dual.redis import RedisFeed, RedisIngest
from sseclient_dual.testing import SSEServer
from support.journals import Journal
from support.redis_servers import RedisServer
from support.waiting import wait_until

if TYPE_CHECKING:
    from sseclient_dual import Subscription

SUBSCRIBERS, STALLED = 1_000, 100  # in `make soak`
PATIENCE = 600.0  # seconds until the test gives up; half a minute is usual
REPLAY = 50
EVENTS = 100  # in each of the rounds


@dataclass
class Tally:
    """The counters and failures of a run."""

    subscribers: int
    stalled: int
    received: int = 0
    catch_ups: int = 0
    upstream_connections: int = 0
    redis_connections: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    """Allocated memory blocks after each round."""
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.subscribers} subscribers, {self.stalled} of them stalled: {self.received} events received, "
            f"{self.catch_ups} catch-ups; connections to the upstream {self.upstream_connections}, to Redis for the "
            f"feed {self.redis_connections}; memory blocks in use after each round {self.blocks}; "
            f"{len(self.failures)} failures"
        )


def run(subscribers: int, stalled: int) -> Tally:
    """Publish four rounds of events, in which some subscribers receive only the first event."""
    tally = Tally(subscribers, stalled)
    journal = Journal()
    with tempfile.TemporaryDirectory() as folder, SSEServer(default=journal) as upstream, SSEClient() as client:
        with RedisServer(Path(folder) / "data") as redis, redis.client() as raw:
            with RedisIngest(client, upstream.url, redis=redis.url, name="prices", lease=5.0):
                journal.wait_for_answers(1)
                with RedisFeed(redis.url, "prices", replay=REPLAY) as feed:
                    asyncio.run(asyncio.wait_for(_run(feed, journal, raw, tally), PATIENCE))
                    tally.catch_ups = feed.stats.catch_ups
                    if feed.stats.gaps:
                        tally.failures.append(f"{feed.stats.gaps} gaps")
        tally.upstream_connections = len(upstream.requests)
    return tally


async def _run(feed: RedisFeed, journal: Journal, raw: Any, tally: Tally) -> None:
    subscriptions = [feed.subscribe("0-0/") for _ in range(tally.subscribers)]
    slow, quick = subscriptions[: tally.stalled], subscriptions[tally.stalled :]
    before = _connections(raw)
    last = 0
    for _ in range(4):
        journal.publish(EVENTS)
        if not last:
            await asyncio.gather(*(_receive(each, 0, 1, tally) for each in slow))
        await asyncio.gather(*(_receive(each, last, last + EVENTS, tally) for each in quick))
        last += EVENTS
        gc.collect()
        tally.blocks.append(sys.getallocatedblocks())
        wait_until(lambda: _connections(raw) - before <= 1)  # those that catch up join the feed
        tally.redis_connections.append(_connections(raw) - before)
    await asyncio.gather(*(_receive(each, 1, last, tally) for each in slow))


async def _receive(subscription: Subscription, after: int, last: int, tally: Tally) -> None:
    """Receive the events with the numbers after `after`, up to `last`."""
    for number in range(after + 1, last + 1):
        event = await subscription.arecv()
        tally.received += 1
        if event != SSEEvent(str(number), id=str(number)):
            tally.failures.append(f"{event!r} instead of {number}")


def _connections(raw: Any) -> int:
    return int(raw.info("clients")["connected_clients"])


def main(arguments: list[str]) -> int:
    """Run once, and return the exit status."""
    numbers = [int(argument) for argument in arguments] or [SUBSCRIBERS, STALLED]
    tally = run(*numbers)
    print(tally)
    for failure in tally.failures:
        print(failure)
    return int(bool(tally.failures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
