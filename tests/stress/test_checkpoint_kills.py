"""A few consumers with a checkpoint are killed; `make soak ARGS=checkpoint` kills more."""

from __future__ import annotations

import os
import random

import pytest

from stress.checkpoint import KINDS, Kills

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")


@pytest.mark.parametrize("kind", KINDS)
def test_killed_consumers_lose_nothing_and_repeat_what_was_promised(kind: str) -> None:
    seed = random.randrange(2**32)
    outcome = Kills(kind, 10, seed)
    assert not outcome.failures, f"seed {seed}: {outcome.failures}; {outcome}"
