"""`Workers`: threads for calls that block, such as connecting.

A thread starts when all others are busy, without an upper bound: connecting to a black hole must not keep another
connection waiting. It ends after a few seconds without work.
"""

from __future__ import annotations

import _thread
import threading
from typing import TYPE_CHECKING

from sseclient_dual.waiting import Latch, Lock, ThreadWaiter

if TYPE_CHECKING:
    from collections.abc import Callable

WORKER = "sseclient_dual worker"  # the name of an idle thread
_LONGEST_IDLE = 3.0  # seconds without work after which a thread ends
_LONGEST_START = 5.0  # seconds for which the end of the process waits for a thread that is starting


class Workers:
    """Threads that run jobs, each at once."""

    def __init__(self) -> None:
        self._lock = Lock()  # guards _idle and the jobs of its workers
        self._idle: list[_Worker] = []
        self._starting: set[_Worker] = set()  # changed in one step each, so that no lock is needed

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
            try:
                self._starting.add(worker)
                _thread.start_new_thread(self._launch, (thread, worker))
            except BaseException:
                self._starting.discard(worker)
                raise

    def wait_for_starts(self) -> None:
        """Wait until no thread is starting; called at the end of the process.

        CPython up to 3.11 crashes if a new thread gets its first turn after the interpreter has ended.
        """
        for worker in tuple(self._starting):
            worker.runs.wait(_LONGEST_START)

    def _launch(self, thread: threading.Thread, worker: _Worker) -> None:  # pragma: no cover - untraced
        try:
            thread.start()
        except RuntimeError:  # too many threads, or the end of the process: this one does the work
            self._work(worker)

    def _work(self, worker: _Worker) -> None:
        worker.waiter = ThreadWaiter()
        self._starting.discard(worker)
        worker.runs.set()
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
        self.runs = Latch()
