"""How a server speaks HTTP/2."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class HTTP2:
    """How an `SSEServer` speaks HTTP/2; ``http2=True`` is short for ``http2=HTTP2()``.

    :param alpn: the protocols that the server accepts by ALPN over TLS, the preferred one first. A client that offers
        none of them gets a connection without ALPN. Without ALPN, and without TLS, the client chooses by its first
        bytes.
    :param max_concurrent_streams: the number of streams that the server lets a client open on a connection.
    :param answer_pings: False: PING frames stay unanswered, as if the connection were dead.
    """

    alpn: tuple[str, ...] = ("h2", "http/1.1")
    max_concurrent_streams: int = 100
    answer_pings: bool = True


def http2_options(http2: HTTP2 | bool) -> HTTP2 | None:  # noqa: FBT001 - the value of an argument
    """Return the options that an argument `http2` stands for; None for HTTP/1.1 only.

    :raises TypeError: it is none of these.
    :raises ImportError: h2 is not installed.
    """
    if not isinstance(http2, (bool, HTTP2)):
        raise TypeError(f"http2 must be a bool or an HTTP2, not {http2!r}")
    if http2 and importlib.util.find_spec("h2") is None:
        raise ImportError("HTTP/2 needs the package h2: pip install 'sseclient-dual[http2]'")
    return HTTP2() if http2 is True else http2 or None
