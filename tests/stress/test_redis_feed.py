"""Many subscribers of a feed in Redis, some of them stalled. `make soak` has more of them."""

from __future__ import annotations

from stress import redis_feed


def test_stalled_subscribers_cost_neither_memory_nor_connections_and_lose_nothing() -> None:
    tally = redis_feed.run(150, 15)
    assert not tally.failures
    assert tally.received == 150 * 4 * redis_feed.EVENTS
    assert (tally.upstream_connections, tally.redis_connections) == (1, [1] * 4)
    assert tally.blocks[-1] < 1.05 * tally.blocks[0]
