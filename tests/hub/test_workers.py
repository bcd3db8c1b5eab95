"""Worker threads: started on demand, used again, ended when idle."""

from __future__ import annotations

import _thread
import threading

import pytest

from sseclient_dual.hub import workers
from sseclient_dual.hub.workers import Workers
from support.interruptions import Interruption
from support.waiting import PATIENCE, wait_until


@pytest.fixture(autouse=True)
def end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the threads end soon after the test."""
    monkeypatch.setattr(workers, "_LONGEST_IDLE", 0.3)


def test_jobs_that_block_do_not_delay_others() -> None:
    pool = Workers()
    release = threading.Event()
    started = threading.Semaphore(0)

    def block() -> None:
        started.release()
        release.wait(PATIENCE)

    try:
        for _ in range(50):
            pool.submit(block)
        for _ in range(50):
            assert started.acquire(timeout=PATIENCE)
    finally:
        release.set()
    wait_until(lambda: len(pool._idle) == 50, "the jobs' ends")


def test_an_idle_thread_takes_the_next_job() -> None:
    pool = Workers()
    idents: list[int] = []
    for number in range(1, 100):
        pool.submit(lambda: idents.append(threading.get_ident()))
        wait_until(lambda: len(pool._idle) == 1 and len(idents) == number, "an idle thread")
    assert len(set(idents)) == 1


def test_an_idle_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_LONGEST_IDLE", 0.01)
    pool = Workers()
    threads: list[threading.Thread] = []
    pool.submit(lambda: threads.append(threading.current_thread()))
    wait_until(lambda: len(threads) == 1 and not threads[0].is_alive(), "the thread's end")
    assert not pool._idle


def test_a_finished_job_is_not_kept_alive() -> None:
    pool = Workers()
    kept = threading.Event()
    done = [kept.set]
    pool.submit(done.pop())
    assert kept.wait(PATIENCE)
    wait_until(lambda: len(pool._idle) == 1, "an idle thread")
    assert pool._idle[0].job is None


def test_a_job_that_comes_at_the_end_of_the_idle_time_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_LONGEST_IDLE", 1e-5)
    pool = Workers()
    done = threading.Semaphore(0)
    for _ in range(2000):
        pool.submit(done.release)
        assert done.acquire(timeout=PATIENCE)


def test_a_signal_handler_that_raises_at_any_line_loses_at_most_the_job_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "_LONGEST_IDLE", 0.05)
    pool = Workers()
    done = threading.Semaphore(0)
    pool.submit(done.release)
    assert done.acquire(timeout=PATIENCE)

    def fail() -> None:
        raise KeyboardInterrupt

    for step in range(1000):
        interruption = Interruption(step, fail, "line", (workers.__file__,))
        try:
            with interruption:
                pool.submit(lambda: None)
        except KeyboardInterrupt:
            pass
        pool.submit(done.release)
        assert done.acquire(timeout=PATIENCE), interruption.where
        if not interruption.happened:
            break
    assert step > 3


def test_a_job_is_run_even_if_its_thread_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = Workers()
    done = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        pool.submit(done.set)
        assert done.wait(PATIENCE)
    wait_until(lambda: len(pool._idle) == 1, "an idle thread")


def test_an_error_to_start_a_thread_is_raised_and_the_next_job_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    pool = Workers()
    done = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", fail)
        with pytest.raises(RuntimeError, match="can't start"):
            pool.submit(lambda: None)
    pool.submit(done.set)
    assert done.wait(PATIENCE)
