"""How many files a process of the benchmark may open: a thousand streams need more than the usual 1,024."""

from __future__ import annotations

import resource


def raise_open_files() -> None:
    """Raise the limit of open files of this process as far as it goes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
