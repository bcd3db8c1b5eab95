"""Threads and sockets that a test leaves behind."""

from __future__ import annotations

import gc
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from support.waiting import PATIENCE

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


class Leftovers:
    """The threads and sockets that were created after this object."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._sockets = _sockets()

    def __call__(self) -> list[str]:
        """Return the names of those that still exist."""
        threads = [thread for thread in threading.enumerate() if thread not in self._threads]
        return [f"thread {thread!r}" for thread in threads] + sorted(_sockets() - self._sockets)

    def settle(self, limit: float = PATIENCE) -> list[str]:
        """Wait up to `limit` seconds for them to end; return the names of the rest."""
        if not self():
            return []
        gc.collect()  # objects that only a reference cycle holds do not count
        deadline = time.monotonic() + limit
        while (left := self()) and time.monotonic() < deadline:
            time.sleep(0.005)
        return left


def _descriptors() -> int | None:
    return len(list(_DESCRIPTORS.iterdir())) if _DESCRIPTORS.exists() else None


@dataclass(frozen=True)
class Open:
    """The numbers of threads and descriptors; None if the system does not list descriptors."""

    threads: int = field(default_factory=threading.active_count)
    descriptors: int | None = field(default_factory=_descriptors)

    def __str__(self) -> str:
        return f"{self.threads} threads and {self.descriptors} descriptors"
