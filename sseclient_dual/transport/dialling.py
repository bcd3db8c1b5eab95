"""Connect to the first of several addresses that answers, without waiting for a dead one (RFC 8305)."""

from __future__ import annotations

import errno
import itertools
import os
import select
import socket
from typing import TYPE_CHECKING, Any, TypeAlias

from sseclient_dual.waiting import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Address: TypeAlias = "tuple[Any, ...]"
"""An item of what `socket.getaddrinfo` returns."""

_ATTEMPT_DELAY = 0.25  # seconds after which the next address is tried, too (RFC 8305, section 5)


def dial(
    addresses: Iterable[Address],
    timeout: float | None,
    *,
    start: Callable[[Address], socket.socket],
    close: Callable[[socket.socket], None],
) -> socket.socket:
    """Return the first socket that connects, and close all others.

    The next address is tried after a short delay, or at once if an attempt fails. Attempts run side by side.

    :param timeout: seconds for all attempts together, None for no limit.
    :param start: returns a non-blocking socket that is connecting to an address, or raises an `OSError`.
    :param close: closes such a socket.
    :raises OSError: no address accepted a connection; the last failure.
    """
    waiting = alternate_families(addresses)
    # Even with a short timeout, each address has its turn.
    delay = _ATTEMPT_DELAY if timeout is None else min(_ATTEMPT_DELAY, timeout / max(1, len(waiting)))
    deadline = Deadline(timeout)
    failure = OSError()
    pending: list[socket.socket] = []
    try:
        while waiting or pending:
            if waiting:
                try:
                    pending.append(start(waiting.pop(0)))
                except OSError as error:  # for example, IPv6 is not available
                    failure = error
                    continue
            left = deadline.remaining()
            if left == 0:
                raise TimeoutError(errno.ETIMEDOUT, "timed out")
            if waiting:
                left = delay if left is None else min(delay, left)
            for sock in wait_until_decided(pending, left):
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                pending.remove(sock)
                if not code:
                    return sock
                close(sock)
                failure = OSError(code, os.strerror(code))
    finally:
        for sock in pending:
            close(sock)
    raise failure


def alternate_families(addresses: Iterable[Address]) -> list[Address]:
    """Return the addresses with IPv6 and IPv4 in turn, otherwise in the given order (RFC 8305, section 4)."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    turns = itertools.zip_longest(*families.values())
    return [address for turn in turns for address in turn if address is not None]


def wait_until_decided(socks: list[socket.socket], timeout: float | None) -> list[socket.socket]:
    """Wait until a connecting socket has connected or failed, at most `timeout` seconds; return all that have."""
    if hasattr(select, "poll"):  # looked up at each call: gevent may patch the module later
        poll = select.poll()
        for sock in socks:
            poll.register(sock, select.POLLOUT)
        ready = {descriptor for descriptor, _ in poll.poll(None if timeout is None else timeout * 1000)}
        return [sock for sock in socks if sock.fileno() in ready]
    # Windows has no poll, and reports a failed connect as an exceptional condition.
    _, writable, failed = select.select([], socks, socks, timeout)
    return [sock for sock in socks if sock in writable or sock in failed]
