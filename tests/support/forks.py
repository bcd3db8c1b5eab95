"""Forked children, and locks that are held at the fork."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from sseclient_dual.waiting import Lock


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked child; return 0 if it returns, -SIGALRM if it hangs."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(PATIENCE))
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def held(lock: Lock) -> tuple[threading.Thread, threading.Event]:
    """Hold a lock in another thread until the event is set."""
    holding, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            holding.set()
            release.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(PATIENCE)
    return thread, release
