"""Pollers: by epoll and by the standard library's selector, both as the hub uses them."""

from __future__ import annotations

import selectors
import socket
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual.hub import Routine, poller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sseclient_dual.hub.poller import Poller

needs_epoll = pytest.mark.skipif(not hasattr(selectors, "EpollSelector"), reason="needs epoll")


@pytest.fixture(params=[pytest.param(poller.EpollPoller, marks=needs_epoll), poller.SelectorPoller])
def own(request: pytest.FixtureRequest) -> Iterator[Poller]:
    made = request.param()
    yield made
    made.close()


def test_the_routines_of_the_ready_sockets_are_returned(own: Poller) -> None:
    one, other = Routine(), Routine()
    reading, writing = socket.socketpair()
    with reading, writing:
        descriptor = own.watch(reading, selectors.EVENT_READ, one)
        assert descriptor == reading.fileno()
        assert own.wait(0.01) == []
        own.watch(writing, selectors.EVENT_WRITE, other)
        assert own.wait(None) == [other]
        writing.send(b"x")
        assert set(own.wait(None)) == {one, other}
        own.unwatch(descriptor)
        assert own.wait(None) == [other]
        own.watch(reading, selectors.EVENT_READ, None)
        assert set(own.wait(None)) == {None, other}


def test_a_closed_socket_cannot_be_watched_but_forgotten(own: Poller) -> None:
    reading, writing = socket.socketpair()
    descriptor = own.watch(reading, selectors.EVENT_READ, None)
    reading.close()
    writing.close()
    with pytest.raises(ValueError, match="descriptor"):
        own.watch(reading, selectors.EVENT_READ, None)
    own.unwatch(descriptor)
    assert own.wait(0) == []


@needs_epoll
def test_epoll_is_used_unless_the_default_selector_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = [poller.make_poller()]
    monkeypatch.setattr(selectors, "DefaultSelector", selectors.SelectSelector)  # as gevent does
    made.append(poller.make_poller())
    for one in made:
        one.close()
    assert [type(one) for one in made] == [poller.EpollPoller, poller.SelectorPoller]
