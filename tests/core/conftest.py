"""Fixtures of the hand-off's and the waiters' tests."""

from __future__ import annotations

import gc
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from sseclient_dual import handoff, waiting
from support.handoffs import Parks

if TYPE_CHECKING:
    from collections.abc import Iterator


class WouldBlockError(Exception):
    """The main thread was about to wait for ever."""


@pytest.fixture
def parks(monkeypatch: pytest.MonkeyPatch) -> Parks:
    """Note each park."""
    parks = Parks()

    class ThreadWaiter(waiting.ThreadWaiter):
        def park(self, timeout: float | None = None) -> bool:
            parks.note(self)
            if not parks.strict or timeout is not None or threading.current_thread() is not threading.main_thread():
                return super().park(timeout)
            if super().park(0):
                return True
            sys.settrace(None)  # what an `Interruption` could do from here on would come while it waits
            if super().park(0):
                return True
            raise WouldBlockError

    class TaskWaiter(waiting.TaskWaiter):
        async def park(self, timeout: float | None = None) -> bool:
            parks.note(self)
            return await super().park(timeout)

    for module in (handoff, waiting):
        monkeypatch.setattr(module, "ThreadWaiter", ThreadWaiter)
        monkeypatch.setattr(module, "TaskWaiter", TaskWaiter)
    return parks


@pytest.fixture
def restless() -> Iterator[None]:
    """Have the interpreter switch threads far more often than it would."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def untraced() -> Iterator[None]:
    """Keep a measurement of coverage out of what is interrupted: its own locks do not survive that."""
    previous = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(previous)


@pytest.fixture
def collector() -> Iterator[None]:
    """Put the collector's settings back."""
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.enable()


@pytest.fixture
def watched(parks: Parks) -> Parks:
    """Note each park, and raise where the main thread would wait for ever."""
    parks.strict = True
    return parks
