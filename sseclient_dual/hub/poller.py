"""`Poller`: waits until one of many sockets is ready, by epoll where the system has it."""

from __future__ import annotations

import contextlib
import select
import selectors
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket

    from .routine import Routine


class Poller(Protocol):
    """Watches sockets, each for one routine, or for None."""

    def watch(self, sock: socket.socket, events: int, routine: Routine | None) -> int:
        """Watch a socket for ``EVENT_READ``, ``EVENT_WRITE`` or both, and return its file descriptor.

        :raises ValueError: the socket is closed.
        :raises OSError: the system refuses.
        """

    def unwatch(self, descriptor: int) -> None:
        """Stop watching a socket, which may be closed."""

    def wait(self, timeout: float | None) -> list[Routine | None]:
        """Return the routines of the sockets that are ready; wait for the first at most `timeout` seconds."""

    def close(self) -> None:
        """Release the descriptor."""


class EpollPoller:
    """A `Poller` by epoll itself: `selectors` runs several functions per socket, and keeps an object for each."""

    _EVENTS = (0, 1, 4, 5)  # EPOLLIN and EPOLLOUT, which `select` lacks on other systems

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._routines: dict[int, Routine | None] = {}
        self.close = self._epoll.close

    def watch(self, sock: socket.socket, events: int, routine: Routine | None) -> int:
        """See `Poller.watch`."""
        descriptor = sock.fileno()
        self._epoll.register(descriptor, self._EVENTS[events])
        self._routines[descriptor] = routine
        return descriptor

    def unwatch(self, descriptor: int) -> None:
        """See `Poller.unwatch`."""
        del self._routines[descriptor]
        with contextlib.suppress(OSError):  # it is closed
            self._epoll.unregister(descriptor)

    def wait(self, timeout: float | None) -> list[Routine | None]:
        """See `Poller.wait`."""
        return [self._routines[descriptor] for descriptor, _ in self._epoll.poll(timeout)]


class SelectorPoller:
    """A `Poller` by the standard library's default selector, which gevent replaces."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.close = self._selector.close

    def watch(self, sock: socket.socket, events: int, routine: Routine | None) -> int:
        """See `Poller.watch`."""
        return self._selector.register(sock.fileno(), events, routine).fd

    def unwatch(self, descriptor: int) -> None:
        """See `Poller.unwatch`."""
        self._selector.unregister(descriptor)

    def wait(self, timeout: float | None) -> list[Routine | None]:
        """See `Poller.wait`."""
        return [key.data for key, _ in self._selector.select(timeout)]


def make_poller() -> Poller:
    """Return the fastest poller of the system.

    :raises OSError: there is no descriptor for it.
    """
    is_epoll = selectors.DefaultSelector is getattr(selectors, "EpollSelector", None)  # looked up now, see gevent
    return EpollPoller() if is_epoll else SelectorPoller()
