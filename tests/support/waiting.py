"""Waiting for a condition, and time limits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import urllib3

if TYPE_CHECKING:
    from collections.abc import Callable

AT_ONCE = 2.0  # seconds for one thing that waits for nothing, such as a close(), on a busy machine
BOUND = 0.1  # seconds that most closes may take
LONG = 3600.0  # seconds, more than any test may take
PATIENCE = 100.0  # seconds for something that happens at once, or that a process does, on an idle machine


def silence(seconds: float) -> urllib3.Timeout:
    """Return a timeout for a server that sends nothing; connecting may take longer, on a busy machine."""
    return urllib3.Timeout(connect=PATIENCE, read=seconds)


def wait_until(condition: Callable[[], object], what: str = "the condition", limit: float = PATIENCE) -> None:
    """Wait until `condition()` is true; after `limit` seconds, fail the test and name `what`."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {limit:g} s for {what}")
        time.sleep(0.005)
