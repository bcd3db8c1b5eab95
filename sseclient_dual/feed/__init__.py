"""Feeds: one upstream stream for many consumers.

A *ring* keeps the last events. A *subscription* is a cursor into it. An *engine* reads the upstream into the ring;
that of `SharedFeed` reads it with one connection of this process.
"""

from .interface import Feed
from .shared import SharedFeed
from .stats import FeedStats
from .subscription import Subscription

__all__ = ["Feed", "FeedStats", "SharedFeed", "Subscription"]
