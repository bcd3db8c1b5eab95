"""Memory, threads, CPU time and context switches of a process, from `/proc` of Linux."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import NamedTuple

_MIB = 1024  # KiB, the unit of the kernel


def rss(pid: int | str = "self") -> float:
    """Return the resident memory in MiB."""
    return int(_status(pid, "VmRSS")) / _MIB


def peak_rss(pid: int | str = "self") -> float:
    """Return the peak of the resident memory, in MiB."""
    return int(_status(pid, "VmHWM")) / _MIB


class Memory(NamedTuple):
    """The memory of a process in KiB, counted page by page: `rss` is exact here."""

    rss: int
    private: int
    """Changed pages that no other process has."""


def memory(pid: int | str = "self") -> Memory:
    """Return the memory in KiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return Memory(int(_field(text, "Rss")), int(_field(text, "Private_Dirty")))


def cpu(pid: int) -> float:
    """Return the CPU time in seconds, that of ended threads included, from the clock of clock_getcpuclockid(3)."""
    return time.clock_gettime(~pid << 3 | 2)


def threads(pid: int | str = "self") -> int:
    """Return the number of threads."""
    return int(_status(pid, "Threads"))


def activity(pid: int) -> tuple[int, float]:
    """Return the voluntary context switches of all threads, and their CPU time in seconds."""
    switches, nanoseconds = 0, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
            switches += int(_field((task / "status").read_text(), "voluntary_ctxt_switches"))
            nanoseconds += int((task / "schedstat").read_text().split()[0])
    return switches, nanoseconds / 1e9


def _status(pid: int | str, name: str) -> str:
    return _field(Path(f"/proc/{pid}/status").read_text(), name)


def _field(text: str, name: str) -> str:
    for line in text.splitlines():
        if line.startswith(name + ":"):
            return line.split()[1]
    raise LookupError(name)
