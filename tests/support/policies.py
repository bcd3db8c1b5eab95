"""Reconnect policies: short delays for fast tests, and a long delay to keep a connection waiting."""

from __future__ import annotations

from sseclient_dual import ReconnectPolicy

QUICK = ReconnectPolicy(retry_delay=10, jitter=0)
QUICK_CAPPED = ReconnectPolicy(retry_delay=10, max_retry_delay=50, jitter=0)
QUICK_ONCE = ReconnectPolicy(retry_delay=10, jitter=0, max_retries=1)
QUICK_NO_DEDUP = ReconnectPolicy(retry_delay=10, dedup=False)
RESTARTS = ReconnectPolicy(retry_delay=50, max_retry_delay=500, jitter=0)  # for a server whose process restarts
SLOW = ReconnectPolicy(retry_delay=600_000)
