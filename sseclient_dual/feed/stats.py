"""`FeedStats`: the counters of a feed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FeedStats:
    """Counters of a feed."""

    subscribers: int
    """Subscriptions that have started and are not closed."""
    events: int
    """Events received from the upstream."""
    kept: int
    """Entries kept for subscriptions: events, and gaps that concern all of them."""
    kept_bytes: int
    """The size of the kept entries in bytes, as relays send them."""
    gaps: int
    """Gaps reported, each to one subscription or to all."""
    reconnects: int
    """Attempts to reconnect to the upstream."""
    catch_ups: int
    """Subscriptions that needed events that were not kept."""
