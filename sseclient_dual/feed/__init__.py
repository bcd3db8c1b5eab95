"""Feeds: one upstream stream for many consumers.

A *ring* keeps the last events. A *subscription* is a cursor into it. An *engine* reads the upstream into the ring;
that of `SharedFeed` reads it with one connection of this process, that of `sseclient_dual.redis.RedisFeed` a stream
in Redis.
"""

from .base import BaseFeed
from .engine import Joined, Members, Run, closed_error
from .interface import Feed
from .ring import Entry, Ring, entry_of_gap
from .shared import SharedFeed
from .stats import FeedStats
from .subscription import Subscription

__all__ = [
    "BaseFeed",
    "Entry",
    "Feed",
    "FeedStats",
    "Joined",
    "Members",
    "Ring",
    "Run",
    "SharedFeed",
    "Subscription",
    "closed_error",
    "entry_of_gap",
]
