"""A few unsteady streams with both APIs for a few seconds; `make soak` uses 2,000 streams for ten minutes."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from stress.many_streams import ManyStreams

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux: /proc")


def test_every_event_of_many_unsteady_streams_arrives_once_and_in_order() -> None:
    seed = int(os.environ.get("MANY_STREAMS_SEED") or random.randrange(2**32))
    outcome = ManyStreams(60, 5.0, seed, print, pace=0.05)
    assert not outcome.failures, f"to repeat this run, set MANY_STREAMS_SEED={seed}: {outcome.failures}; {outcome}"
