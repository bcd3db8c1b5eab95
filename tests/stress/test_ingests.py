"""Ingests and Redis are killed: each event is stored once. `make soak ARGS=ingests` runs longer."""

from __future__ import annotations

import os
import random

import pytest

from stress.ingests import KINDS, Failures
from support.redis_servers import valkey

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork and signals")


@pytest.mark.parametrize("kind", KINDS)
def test_each_event_is_stored_once(kind: str) -> None:
    seed = random.randrange(2**32)
    count = 50 if kind == "kill" else 12
    outcome = Failures(kind, count, seed, valkey())
    assert not outcome.failures, f"seed {seed}: {outcome.failures}; {outcome}"
