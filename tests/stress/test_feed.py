"""Random faults for a shared feed: each subscriber gets every event, or is told of a gap. `make soak` runs longer."""

from __future__ import annotations

import logging
import os
import random

import pytest

from stress import feed


@pytest.mark.parametrize("switch_interval", feed.SWITCH_INTERVALS, ids=["usual threads", "eager threads"])
@pytest.mark.parametrize("kind", feed.KINDS)
def test_each_subscriber_gets_every_event_or_a_gap(
    kind: feed.Kind, switch_interval: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "sseclient_dual")
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(2**32))
    tally = feed.run(kind, seed, events=600, switch_interval=switch_interval)
    assert not tally.failures, f"to repeat this run, set CHAOS_SEED={seed}: {tally.failures}"
    assert set(tally.received) == {"thread", "task"}
    assert tally.catch_ups > 0
    assert (tally.gaps > 0) == (kind != "replays")
