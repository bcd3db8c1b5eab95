"""What Linux tells of a process: memory, threads, CPU time, context switches."""

from __future__ import annotations

from pathlib import Path

_MIB = 1024  # the kernel counts in KiB


def rss(pid: int | str = "self") -> float:
    """Return the resident memory in MiB."""
    return int(_status(pid, "VmRSS")) / _MIB


def peak_rss(pid: int | str = "self") -> float:
    """Return the largest resident memory so far, in MiB."""
    return int(_status(pid, "VmHWM")) / _MIB


def threads(pid: int | str = "self") -> int:
    """Return how many threads there are."""
    return int(_status(pid, "Threads"))


def activity(pid: int) -> tuple[int, float]:
    """Return how often all threads together gave up the CPU to wait, and the CPU time in seconds."""
    switches, nanoseconds = 0, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
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
