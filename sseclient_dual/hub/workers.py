"""`Workers`: threads for calls that block, such as connecting.

A thread starts when all others are busy, without an upper bound: connecting to a black hole must not keep another
connection waiting. It ends after a few seconds without work.
"""

from __future__ import annotations

import _thread
import threading
from typing import TYPE_CHECKING

from sseclient_dual.waiting import Lock, ThreadWaiter

if TYPE_CHECKING:
    from collections.abc import Callable

WORKER = "sseclient_dual worker"  # the name of an idle thread
_LONGEST_IDLE = 3.0  # seconds without work after which a thread ends


class Workers:
    """Threads that run jobs, each at once."""

    def __init__(self) -> None:
        self._lock = Lock()  # guards _idle and the jobs of its workers
        self._idle: list[_Worker] = []

    def submit(self, job: Callable[[], object]) -> None:
        """Run `job` on a thread; the job must not raise.

        A signal handler that raises may interrupt this anywhere: then the job is run once or not at all.

        :raises RuntimeError: no thread can be started.
        """
        with self._lock:
            worker = self._idle.pop() if self._idle else None
            if worker is not None:
                worker.job = job
        if worker is not None:
            worker.waiter.wake()
        else:
            worker = _Worker(job)
            thread = threading.Thread(target=self._work, args=(worker,), name=WORKER, daemon=True)
            # Not `thread.start()`, which waits for the new thread with locks of `threading`: a signal handler that
            # raised there could damage them. `_thread` starts a thread in a single step, and that one runs no signal
            # handlers.
            _thread.start_new_thread(self._launch, (thread, worker))

    def _launch(self, thread: threading.Thread, worker: _Worker) -> None:  # pragma: no cover - untraced
        try:
            thread.start()
        except RuntimeError:  # too many threads, or the end of the process: this one does the work
            self._work(worker)

    def _work(self, worker: _Worker) -> None:
        worker.waiter = ThreadWaiter()
        while worker.job is not None:
            worker.job()
            worker.job = None
            with self._lock:
                self._idle.append(worker)
            worker.waiter.park(_LONGEST_IDLE)
            with self._lock:  # a job that came at the last moment is run, too
                if worker in self._idle:
                    self._idle.remove(worker)


class _Worker:
    """A thread with its current job."""

    waiter: ThreadWaiter

    def __init__(self, job: Callable[[], object]) -> None:
        self.job: Callable[[], object] | None = job
