"""Timers: deadlines that move, cancelled timers, and the order of expiry."""

from __future__ import annotations

import random

from sseclient_dual.hub import Routine
from sseclient_dual.hub.timers import Timers


def waiting(timers: Timers, deadline: float) -> Routine:
    """Return a routine that waits until `deadline`."""
    routine = Routine()
    routine.is_here = True
    move(timers, routine, deadline)
    return routine


def move(timers: Timers, routine: Routine, deadline: float) -> None:
    routine.deadline = deadline
    timers.set(routine, deadline)


def test_routines_expire_in_the_order_of_their_deadlines() -> None:
    timers = Timers()
    rng = random.Random(3)
    deadlines = [rng.random() for _ in range(500)]
    routines = {deadline: waiting(timers, deadline) for deadline in deadlines}
    assert timers.next() == min(deadlines)
    assert list(timers.expired(0.5)) == [routines[deadline] for deadline in sorted(deadlines) if deadline <= 0.5]
    assert timers.next() == min(deadline for deadline in deadlines if deadline > 0.5)


def test_a_deadline_that_moves_back_keeps_the_timer() -> None:
    timers = Timers()
    routine = waiting(timers, 1)
    timer = routine.timer
    for deadline in range(2, 100):
        move(timers, routine, deadline)
    assert routine.timer is timer
    assert list(timers.expired(50)) == []  # it is set again
    assert timers.next() == 99
    assert list(timers.expired(99)) == [routine]
    assert timers.next() is None


def test_a_deadline_that_moves_forward_expires_once() -> None:
    timers = Timers()
    routine = waiting(timers, 10)
    move(timers, routine, 5)
    assert list(timers.expired(5)) == [routine]
    assert list(timers.expired(20)) == []


def test_a_wait_without_a_deadline_does_not_expire() -> None:
    timers = Timers()
    endless, elsewhere = waiting(timers, 1), waiting(timers, 1)
    endless.deadline = None
    elsewhere.is_here = False
    assert list(timers.expired(2)) == []
    assert timers.next() is None


def test_cancelled_timers_take_no_room() -> None:
    timers = Timers()
    kept = [waiting(timers, 1000 + number) for number in range(10)]
    for number in range(10_000):
        timers.cancel(waiting(timers, number))
    assert len(timers._heap) < 200
    assert list(timers.expired(20_000)) == kept
    timers.cancel(kept[0])  # it has none
    assert timers.next() is None
