"""A Server-Sent Events client with a sync and an async API: ``for`` in threads, ``async for`` in tasks.

::

    from sseclient_dual import SSEClient

    for event in SSEClient().connect("https://example.com/stream"):
        print(event.type, event.data)
"""

from .checkpoint import Checkpoint, FileCheckpoint
from .client import SSEClient
from .connection import SSEConnection
from .errors import (
    SSEClosedError,
    SSEConnectionError,
    SSEContentTypeError,
    SSEError,
    SSEEventTooLargeError,
    SSEParsingError,
    SSEStatusError,
)
from .event import Comment, Gap, Ignored, Interrupted, Opened, ReadyState, SSEEvent
from .feed import Feed, FeedStats, SharedFeed, Subscription
from .parser import EventStreamParser
from .policy import ReconnectPolicy
from .speedups import __version__ as __version__
from .speedups import speedups_active

__all__ = [
    "Checkpoint",
    "Comment",
    "EventStreamParser",
    "Feed",
    "FeedStats",
    "FileCheckpoint",
    "Gap",
    "Ignored",
    "Interrupted",
    "Opened",
    "ReadyState",
    "ReconnectPolicy",
    "SSEClient",
    "SSEClosedError",
    "SSEConnection",
    "SSEConnectionError",
    "SSEContentTypeError",
    "SSEError",
    "SSEEvent",
    "SSEEventTooLargeError",
    "SSEParsingError",
    "SSEStatusError",
    "SharedFeed",
    "Subscription",
    "speedups_active",
]
