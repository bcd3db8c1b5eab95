"""Fixtures for the tests of the hand-off and the waiters."""

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
    """The main thread would wait forever."""


@pytest.fixture
def parks(monkeypatch: pytest.MonkeyPatch) -> Parks:
    """Record each park of a waiter."""
    parks = Parks()

    class ThreadWaiter(waiting.ThreadWaiter):
        def park(self, timeout: float | None = None) -> bool:
            parks.note(self)
            if not parks.strict or timeout is not None or threading.current_thread() is not threading.main_thread():
                return super().park(timeout)
            if super().park(0):
                return True
            sys.settrace(None)  # from here on, an `Interruption` would act during the wait
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
def frequent_switches() -> Iterator[None]:
    """Make the interpreter switch threads far more often than usual."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def restore_gc() -> Iterator[None]:
    """Restore the settings of the garbage collector after the test."""
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.enable()


@pytest.fixture
def strict_parks(parks: Parks) -> Parks:
    """Record each park, and raise an error if the main thread would wait forever."""
    parks.strict = True
    return parks
