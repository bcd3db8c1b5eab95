"""The hub: waits for sockets, timeouts and wake-ups, moves to workers and back, failures, forks and idle ends."""

from __future__ import annotations

import contextvars
import errno
import gc
import logging
import os
import selectors
import socket
import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import hub
from sseclient_dual.hub import BLOCKING, Hub, Routine, Wait, workers
from sseclient_dual.hub import hub as module
from support.handoffs import Job
from support.waiting import LONG, PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sseclient_dual.hub import Waits


class Run:
    """A routine that records the values of its waits."""

    def __init__(self, waits: Callable[[Run], Waits], on: Hub | None = None) -> None:
        self.routine = Routine()
        self.seen: list[Any] = []
        self.threads: list[str] = []
        self.error: BaseException | None = None
        self.done = threading.Event()
        (on or hub.current()).start(self.routine, partial(self._make, waits))

    def _make(self, waits: Callable[[Run], Waits]) -> Waits:
        try:
            yield from waits(self)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error
        finally:
            self.note(None)
            self.done.set()

    def note(self, value: object) -> None:
        self.seen.append(value)
        self.threads.append(threading.current_thread().name.rpartition(" ")[2])

    def finish(self) -> list[Any]:
        assert self.done.wait(PATIENCE)
        wait_until(lambda: self.routine.generator is None, "the end")
        return self.seen[:-1]


@pytest.fixture
def own() -> Iterator[Hub]:
    """Return a hub that only the test uses."""
    made = Hub()
    yield made
    wait_until(lambda: not made._running, "the end of the thread")


@pytest.fixture(autouse=True)
def ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONGEST_IDLE", 0.02)
    monkeypatch.setattr(workers, "_LONGEST_IDLE", 0.3)


def test_a_timeout_returns_false(own: Hub) -> None:
    def waits(run: Run) -> Waits:
        run.note((yield Wait(0.05)))

    started = time.monotonic()  # before the hub runs
    assert Run(waits, own).finish() == [False]
    assert time.monotonic() - started >= 0.05


def test_a_wake_up_returns_true_also_before_the_wait() -> None:
    def waits(run: Run) -> Waits:
        run.routine.wake()
        run.note((yield Wait(LONG)))
        run.routine.again()
        run.note((yield Wait(LONG)))
        run.note((yield Wait(LONG)))

    run = Run(waits)
    wait_until(lambda: len(run.seen) == 2, "two waits")
    run.routine.wake()
    assert run.finish() == [True, True, True]
    run.routine.wake()  # an ended one


def test_a_socket_that_is_ready_returns_true() -> None:
    reading, writing = socket.socketpair()
    with reading, writing:

        def waits(run: Run) -> Waits:
            wait = Wait(LONG, reading)
            for _ in range(3):
                run.note((yield wait))
                run.note(reading.recv(1))
            wait.events = selectors.EVENT_WRITE
            run.note((yield wait))
            run.routine.unwatch()
            run.routine.unwatch()

        run = Run(waits)
        for number in range(3):
            writing.send(b"%d" % number)
        assert run.finish() == [True, b"0", True, b"1", True, b"2", True]


def test_the_work_of_a_wait_is_done_until_it_returns_false_or_raises() -> None:
    def waits(run: Run) -> Waits:
        def work() -> bool:
            data = reading.recv(1)
            run.note(data)
            if data == b"!":
                raise LookupError
            return data != b"."

        wait = Wait(LONG, reading, work)
        run.note((yield wait))
        try:
            yield wait
        except LookupError:
            run.note("raised")
        wait.events = selectors.EVENT_WRITE
        run.note((yield wait))  # without work
        run.routine.unwatch()

    reading, writing = socket.socketpair()
    with reading, writing:
        run = Run(waits)
        for data in (b"1", b"2", b".", b"3", b"!"):
            writing.send(data)
            wait_until(lambda data=data: data in run.seen, "the work")  # type: ignore[misc]
        assert run.finish() == [b"1", b"2", b".", True, b"3", b"!", "raised", True]


def test_work_moves_the_deadline() -> None:
    def waits(run: Run) -> Waits:
        def work() -> bool:
            reading.recv(1)
            run.note(hub.current()._now)
            return True

        run.note((yield Wait(0.2, reading, work)))
        run.note(run.routine.deadline)
        run.note(time.monotonic())
        run.routine.unwatch()

    reading, writing = socket.socketpair()
    with reading, writing:
        run = Run(waits)
        writing.send(b"x")
        worked, woken, moved, ended = run.finish()
    assert woken is False
    assert moved == worked + 0.2
    assert ended >= moved


def test_a_silent_socket_times_out() -> None:
    reading, writing = socket.socketpair()
    with reading, writing:

        def waits(run: Run) -> Waits:
            run.note((yield Wait(0.02, reading)))
            run.routine.unwatch()

        assert Run(waits).finish() == [False]


def test_blocking_continues_on_a_worker_in_the_context_of_the_start() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    def waits(run: Run) -> Waits:
        run.note(variable.get())
        run.note((yield Wait(0)))
        run.note((yield BLOCKING))
        run.note((yield BLOCKING))
        run.note(variable.get())
        run.note((yield Wait(0)))

    token = variable.set("caller")
    run = Run(waits)
    variable.reset(token)
    assert run.finish() == ["caller", False, None, None, "caller", False]
    assert run.threads == ["worker", "hub", "worker", "worker", "worker", "hub", "hub"]


def test_without_a_thread_blocking_returns_the_error(monkeypatch: pytest.MonkeyPatch, own: Hub) -> None:
    def fail(job: object) -> None:
        raise RuntimeError("can't start new thread")

    def waits(run: Run) -> Waits:
        yield Wait(0)
        monkeypatch.setattr(own._workers, "submit", fail)
        run.note((yield BLOCKING))
        run.note((yield Wait(0)))

    error, value = Run(waits, own).finish()
    assert str(error) == "can't start new thread"
    assert value is False


def test_a_routine_runs_once_however_often_it_is_started() -> None:
    made = []
    routine = Routine()

    def make() -> Waits:
        made.append(1)
        yield Wait(0)

    for _ in range(20):
        hub.current().start(routine, make)
    wait_until(lambda: bool(made) and routine.generator is None, "the end")
    assert made == [1]


def test_an_error_of_a_generator_is_logged_and_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    class OopsError(Exception):
        pass

    def fail() -> Waits:
        yield Wait(0)
        raise OopsError

    def waits(run: Run) -> Waits:
        run.note((yield Wait()))

    other = Run(waits)
    routine = Routine()
    with caplog.at_level(logging.ERROR, "sseclient_dual"):
        hub.current().start(routine, fail)
        wait_until(lambda: bool(caplog.records), "the record")
    assert "OopsError" in caplog.text
    other.routine.wake()
    assert other.finish() == [True]


def test_a_socket_that_cannot_be_watched_is_an_error_of_its_routine() -> None:
    closed = socket.socket()
    closed.close()

    def waits(run: Run) -> Waits:
        yield Wait(LONG, closed)

    run = Run(waits)
    assert run.finish() == []
    assert isinstance(run.error, ValueError)


def test_without_a_hub_a_routine_waits_on_its_worker_but_not_for_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def waits(run: Run) -> Waits:
        run.note((yield Wait(0.01)))
        run.routine.again()
        run.note((yield Wait()))
        ready.set()
        run.note((yield Wait()))
        try:
            yield Wait(None, reading)
        except OSError as error:
            run.note(error.errno)

    ready = threading.Event()
    reading, writing = socket.socketpair()
    with reading, writing:
        monkeypatch.setattr(module, "make_poller", fail)
        run = Run(waits, Hub())
        assert ready.wait(PATIENCE)
        wait_until(lambda: run.routine._waiter is not None, "a wait on the worker")
        run.routine.wake()
        assert run.finish() == [False, True, True, errno.EMFILE]
    assert set(run.threads) == {"worker"}


def test_a_wake_up_that_was_not_there_after_all_is_harmless(own: Hub) -> None:
    def waits(run: Run) -> Waits:
        run.note((yield Wait(0)))
        poller = own._poller
        assert poller is not None
        wait, ready = poller.wait, [None]
        poller.wait = lambda timeout: wait(timeout) or [ready.pop() for _ in ready]  # type: ignore[method-assign]
        run.note((yield Wait(0.02)))

    assert Run(waits, own).finish() == [False, False]


def test_a_hub_that_fails_tells_all_its_routines_and_starts_again(own: Hub) -> None:
    def waits(run: Run) -> Waits:
        while True:
            try:
                run.note((yield Wait(LONG)))
            except RuntimeError as error:
                run.note(error)
                run.note((yield Wait(LONG)))  # it fails again: only its end helps

    def works(run: Run) -> Waits:
        yield Wait(0)
        yield BLOCKING
        blocked.set()
        release.wait(PATIENCE)
        run.note((yield Wait(0.01)))

    def fail(timeout: float | None) -> Any:
        raise MemoryError

    blocked, release = threading.Event(), threading.Event()
    runs = [Run(waits, own) for _ in range(3)]
    other = Run(works, own)
    assert blocked.wait(PATIENCE)
    wait_until(lambda: all(run.routine.is_here for run in runs), "the waits")
    assert own._poller is not None
    own._poller.wait = fail  # type: ignore[method-assign]
    runs[0].routine.wake()
    for run in runs:
        assert run.done.wait(PATIENCE)
        assert str(run.seen[-2]) == "the thread that reads all streams failed"
        assert isinstance(run.seen[-2].__cause__, MemoryError)
    release.set()
    assert other.finish() == [False]


def test_the_thread_ends_when_it_is_idle_and_starts_again(own: Hub) -> None:
    def waits(run: Run) -> Waits:
        run.note((yield Wait(0)))

    for _ in range(3):
        assert Run(waits, own).finish() == [False]
        wait_until(lambda: not own._running, "the end of the thread")
        assert own._poller is None
        assert own._wakeup is None


def test_an_ended_routine_is_freed() -> None:
    def waits(run: Run) -> Waits:
        run.note((yield Wait(0)))

    run = Run(waits)
    run.finish()
    reference = weakref.ref(run)
    del run
    gc.collect()
    wait_until(lambda: reference() is None, "the end of the object")


def test_many_threads_wake_many_routines() -> None:
    count = 20

    def waits(run: Run) -> Waits:
        while len(run.seen) < 200:
            run.note((yield Wait(LONG)))

    runs = [Run(waits) for _ in range(count)]

    def wake() -> None:
        while not all(run.done.is_set() for run in runs):
            for run in runs:
                run.routine.wake()

    jobs = [Job(wake) for _ in range(3)]
    for job in jobs:
        job.result()
    assert all(run.finish() == [True] * 200 for run in runs)


def test_so_many_wake_ups_that_the_socket_is_full() -> None:
    reached, release = threading.Event(), threading.Event()

    def blocks(run: Run) -> Waits:
        run.note((yield Wait(0)))
        reached.set()
        release.wait(PATIENCE)  # against the rules, to fill the socket

    def waits(run: Run) -> Waits:
        run.note((yield Wait()))

    other = Run(waits)
    run = Run(blocks)
    assert reached.wait(PATIENCE)
    for _ in range(5000):
        other.routine.wake()
    release.set()
    assert other.finish() == [True]
    assert run.finish() == [False]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_a_hub_of_its_own_and_leaves_the_parents_alone() -> None:
    def waits(run: Run) -> Waits:
        run.note((yield Wait(LONG)))

    def times_out(run: Run) -> Waits:
        run.note((yield Wait(0)))

    run = Run(waits)
    wait_until(lambda: run.routine.is_here, "the wait")
    pid = os.fork()
    if pid == 0:  # pragma: no cover - in the child
        code = 1
        try:
            other = Run(times_out)
            if other.finish() == [False] and not run.seen:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not run.seen
    run.routine.wake()
    assert run.finish() == [True]
