"""One upstream stream for many processes and machines, over Redis or Valkey; needs the extra ``redis``."""

from .checkpoint import RedisCheckpoint
from .feed import RedisFeed
from .ingest import IngestStats, RedisIngest

__all__ = ["IngestStats", "RedisCheckpoint", "RedisFeed", "RedisIngest"]
