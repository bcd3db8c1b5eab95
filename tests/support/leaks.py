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
    """The sockets that this process has open, as `socket:[inode]`; empty where the system does not tell."""
    found: set[str] = set()
    try:
        descriptors = list(_DESCRIPTORS.iterdir())
    except OSError:
        return found
    for descriptor in descriptors:
        try:
            target = str(descriptor.readlink())
        except OSError:  # closed meanwhile, as the one that listed the directory
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


class Leftovers:
    """What is there now and was not when this object was made."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._sockets = _sockets()

    def __call__(self) -> list[str]:
        """Name every thread and socket that has come since and is still there."""
        threads = [thread for thread in threading.enumerate() if thread not in self._threads]
        return [f"thread {thread!r}" for thread in threads] + sorted(_sockets() - self._sockets)

    def settle(self, limit: float = PATIENCE) -> list[str]:
        """Give what is about to end `limit` seconds for it; name what is left after that."""
        if not self():
            return []
        gc.collect()  # what only a reference cycle holds is not left behind
        deadline = time.monotonic() + limit
        while (left := self()) and time.monotonic() < deadline:
            time.sleep(0.005)
        return left


def _descriptors() -> int | None:
    return len(list(_DESCRIPTORS.iterdir())) if _DESCRIPTORS.exists() else None


@dataclass(frozen=True)
class Open:
    """What this process has open; the system may not list descriptors."""

    threads: int = field(default_factory=threading.active_count)
    descriptors: int | None = field(default_factory=_descriptors)

    def __str__(self) -> str:
        return f"{self.threads} threads and {self.descriptors} descriptors"
