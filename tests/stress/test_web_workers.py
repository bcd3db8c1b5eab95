"""Web workers that relay a feed in Redis are killed while browsers read. `make soak` kills more of them."""

from __future__ import annotations

import logging
import os
import random

import pytest

from servers.running import need
from stress import web_workers

pytestmark = [pytest.mark.real, pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")]


def test_browsers_that_hop_between_killed_workers_get_each_event_once(caplog: pytest.LogCaptureFixture) -> None:
    need("gunicorn", "gevent", "uvicorn")
    caplog.set_level(logging.CRITICAL, "sseclient_dual")
    caplog.set_level(logging.CRITICAL, "asyncio")
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(2**32))
    tally = web_workers.run(list(web_workers.COMMANDS), seed, kills=3)
    assert not tally.failures, f"to repeat this run, set CHAOS_SEED={seed}: {tally.failures}"
    assert tally.received["thread"] == tally.received["task"] == 6 * tally.published > 0
