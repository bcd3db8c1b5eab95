"""Random network faults: every event arrives once and in order. `make soak` makes more faults."""

from __future__ import annotations

import os
import random

import pytest

from stress import chaos


@pytest.mark.parametrize(
    ("switch_interval", "http2"),
    [(chaos.SWITCH_INTERVALS[0], False), (chaos.SWITCH_INTERVALS[1], False), (chaos.SWITCH_INTERVALS[1], True)],
    ids=["usual threads", "eager threads", "HTTP/2"],
)
def test_every_event_arrives_once_and_in_order(switch_interval: float, http2: bool) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(2**32))
    tally = chaos.run(seed, faults=320, switch_interval=switch_interval, http2=http2)
    assert not tally.failures, f"to repeat this run, set CHAOS_SEED={seed}: {tally.failures}"
    assert sum(tally.faults.values()) == 320
    assert tally.received > 0
    assert tally.duplicates > 0
