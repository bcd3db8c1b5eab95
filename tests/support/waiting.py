"""Waiting for a condition, and how long to wait for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

BOUND = 0.1  # seconds that close() may take
LONG = 3600.0  # seconds that no test could wait
PATIENCE = 10.0  # seconds for what should happen at once, on a machine that has other things to do


def wait_until(condition: Callable[[], object], what: str = "the condition", limit: float = PATIENCE) -> None:
    """Wait until `condition()` is true; fail the test, naming `what`, if it is not after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {limit:g} s in vain for {what}")
        time.sleep(0.005)
