"""Threads and sockets that a test leaves behind."""

from __future__ import annotations

import gc
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sseclient_dual import hub
from sseclient_dual.hub import Routine, Wait, Waits
from sseclient_dual.hub.workers import WORKER
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

_USUAL = 0.05  # seconds in which a thread ends, usually
_DESCRIPTORS = Path("/proc/self/fd")


def _sockets() -> set[str]:
    """Return the open sockets of this process as `socket:[inode]`; none if the system does not list them."""
    found: set[str] = set()
    try:
        descriptors = list(_DESCRIPTORS.iterdir())
    except OSError:
        return found
    for descriptor in descriptors:
        try:
            target = str(descriptor.readlink())
        except OSError:  # closed meanwhile, like the one that listed the directory
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def idle_workers() -> int:
    """Return the number of the package's threads that wait for work; they end by themselves."""
    return len(hub.current()._workers._idle)


def forget_idle_workers() -> None:
    """Make the next call that blocks need a new thread."""
    idle = hub.current()._workers._idle
    while idle:
        idle.pop().waiter.wake()  # without a job, so it ends


def workers() -> list[threading.Thread]:
    """Return the package's threads for calls that block."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(WORKER)]


def streams() -> int:
    """Return the number of streams that are being read or connected."""
    return len(workers()) - idle_workers() + len(hub.current()._routines - _kept)


_kept: set[Routine] = set()


@contextmanager
def running_hub() -> Iterator[None]:
    """Keep the hub's thread running, so that tests neither start nor end it."""
    routine = Routine()
    ended: list[bool] = []

    def wait() -> Waits:
        while not ended:
            yield Wait()

    hub.current().start(routine, wait)
    wait_until(lambda: routine.is_here, "the routine's start")
    _kept.add(routine)
    yield
    ended.append(True)
    routine.wake()
    wait_until(lambda: routine not in hub.current()._routines, "the routine's end")
    _kept.remove(routine)


class Leftovers:
    """The threads, streams and sockets that were created after this object."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._sockets = _sockets()

    def __call__(self) -> list[str]:
        """Return the names of those that still exist."""
        ours = workers()
        threads = [thread for thread in threading.enumerate() if thread not in self._threads and thread not in ours]
        left = [f"thread {thread!r}" for thread in threads]
        return left + ([f"{count} streams"] if (count := streams()) else []) + sorted(_sockets() - self._sockets)

    def settle(self, limit: float = PATIENCE) -> list[str]:
        """Wait up to `limit` seconds for them to end; return the names of the rest."""
        start = time.monotonic()
        collected = False
        while (left := self()) and time.monotonic() < start + limit:
            if not collected and time.monotonic() > start + _USUAL:
                gc.collect()  # objects that only a reference cycle holds do not count
                collected = True
            time.sleep(0.001)
        return left


def _descriptors() -> int | None:
    return len(list(_DESCRIPTORS.iterdir())) if _DESCRIPTORS.exists() else None


@dataclass(frozen=True)
class Open:
    """The numbers of threads without workers, streams and descriptors; None if the system does not list those."""

    threads: int = field(default_factory=lambda: threading.active_count() - len(workers()))
    streams: int = field(default_factory=streams)
    descriptors: int | None = field(default_factory=_descriptors)

    def __str__(self) -> str:
        return f"{self.threads} threads, {self.streams} streams and {self.descriptors} descriptors"
