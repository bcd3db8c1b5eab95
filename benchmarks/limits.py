"""The limit of open files: a thousand streams need more than the usual 1,024."""

from __future__ import annotations

import resource


def raise_open_files() -> int:
    """Raise the soft limit of open files of this process to the hard limit, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
