"""`SSEServer`: accepts connections, each served by its own thread, and answers requests from the script."""

from __future__ import annotations

import os
import selectors
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeAlias

from . import replies
from .http1 import Http1Connection
from .options import HTTP2, http2_options
from .replies import Reply
from .requests import FrameKind, ReceivedFrame, ReceivedRequest
from .sockets import Link, PeerGone
from .steps import Gate  # noqa: TC001 - Sphinx resolves the signatures

if TYPE_CHECKING:
    from types import TracebackType

_Arguments = ParamSpec("_Arguments")
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # the first bytes of a client (RFC 9113, section 3.4)
_ReplySource: TypeAlias = Reply | Callable[[ReceivedRequest], Reply]


def _adding(make: Callable[_Arguments, Reply]) -> Callable[Concatenate[SSEServer, _Arguments], None]:
    """Return a method that appends one reply, made by the function of the same name."""

    def add(self: SSEServer, /, *args: _Arguments.args, **options: _Arguments.kwargs) -> None:
        self.add(make(*args, **options))

    add.__name__ = make.__name__
    add.__qualname__ = f"SSEServer.{make.__name__}"
    add.__doc__ = f"Append one reply: ``add({make.__name__}(...))``."
    return add


class SSEServer:
    """A scripted HTTP server: the next reply answers the next request, over all connections and streams.

    Use it as a context manager, or call `start` and `close`. An error in the script, such as a callable that raises
    or a step of an unknown type, cuts the connection and is raised by `close`. `close` waits for the callables of
    the script to return.

    :param replies: each a `Reply`, or a callable that takes the `ReceivedRequest` and returns a `Reply`.
    :param tls: serve TLS with this server-side context.
    :param port: the port; 0 chooses a free one.
    :param default: answers each request when no replies are left; by default a 204, which tells an SSE client to
        stop.
    :param handshake: a gate where each new connection waits before its TLS handshake, or without TLS before its
        first request is read.
    :param http2: True, or an `HTTP2` with options: speak HTTP/2, too. Over TLS the client chooses by ALPN, whose
        protocols the server sets in `tls`. Without TLS it chooses by its first bytes (prior knowledge). False: speak
        HTTP/1.1 only.
    :raises ValueError: `tls` is a context for clients.
    :raises ImportError: HTTP/2 needs the package h2, which is not installed.
    """

    host: Final = "127.0.0.1"
    """The address that every server listens on."""

    def __init__(
        self,
        *replies: _ReplySource,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
        default: _ReplySource = replies.status(204),  # noqa: B008 - a constant: a Reply is frozen
        handshake: Gate | None = None,
        http2: HTTP2 | bool = False,
    ) -> None:
        if tls is not None and tls.protocol == ssl.PROTOCOL_TLS_CLIENT:
            raise ValueError("tls must be a context for servers, such as ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)")
        self._http2 = http2_options(http2)
        self._tls = tls
        self._port = port
        self._default = _checked(default)
        self._handshake = handshake
        # Used by one caller of `start`, `refuse` and `close` at a time: the accepting thread, with a socket whose
        # closing stops it; and the bound socket that reserves the port while no thread accepts.
        self._acceptor: tuple[threading.Thread, socket.socket] | None = None
        self._reserved: socket.socket | None = None
        self._changed = threading.Condition()  # guards the rest
        self._replies: deque[_ReplySource] = deque()
        self._requests: list[ReceivedRequest] = []
        self._frames: list[ReceivedFrame] = []
        self._errors: list[BaseException] = []
        self._connections: set[Link] = set()
        self._threads: list[threading.Thread] = []
        self._accepted = 0
        self.add(*replies)

    @property
    def port(self) -> int:
        """The port. Known after `start`, it never changes afterwards."""
        if not self._port:
            raise RuntimeError("the server has no port before it is started: call start()")
        return self._port

    @property
    def origin(self) -> str:
        """Scheme, host and port, without a trailing slash."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL of the server's root."""
        return f"{self.origin}/"

    @property
    def requests(self) -> list[ReceivedRequest]:
        """All requests so far, in order, in a new list."""
        with self._changed:
            return list(self._requests)

    @property
    def frames(self) -> list[ReceivedFrame]:
        """The control frames of HTTP/2 received so far, in order, in a new list."""
        with self._changed:
            return list(self._frames)

    @property
    def replies_left(self) -> int:
        """The number of replies that are not used yet."""
        return len(self._replies)

    def add(self, *replies: _ReplySource) -> None:
        """Append replies to the script."""
        checked = [_checked(reply) for reply in replies]
        with self._changed:
            self._replies.extend(checked)

    stream = _adding(replies.stream)
    status = _adding(replies.status)
    redirect = _adding(replies.redirect)
    raw = _adding(replies.raw)

    def wait_for_requests(self, count: int, timeout: float = 10.0) -> list[ReceivedRequest]:
        """Block until `count` requests have been received; return all requests received so far.

        :param timeout: seconds.
        :raises TimeoutError: there were fewer; the message lists them.
        """
        with self._changed:
            self._wait(lambda: len(self._requests) >= count, timeout, f"{count} requests")
            return list(self._requests)

    def wait_for_frames(self, kind: FrameKind, count: int = 1, timeout: float = 10.0) -> list[ReceivedFrame]:
        """Block until `count` frames of HTTP/2 of this kind have been received; return all of them.

        :param kind: see `ReceivedFrame`.
        :param timeout: seconds.
        :raises TimeoutError: there were fewer.
        """

        def received() -> list[ReceivedFrame]:
            return [frame for frame in self._frames if frame.kind == kind]

        with self._changed:
            self._wait(lambda: len(received()) >= count, timeout, f"{count} frames {kind}")
            return received()

    def wait_for_connections(self, count: int, timeout: float = 10.0) -> None:
        """Block until exactly `count` accepted connections are open.

        A connection counts as closed once the server has finished with it, which includes noticing that the peer
        has disconnected.

        :param timeout: seconds.
        :raises TimeoutError: the number was never `count` in that time.
        """
        with self._changed:
            self._wait(lambda: len(self._connections) == count, timeout, f"{count} connections")

    def start(self) -> SSEServer:
        """Bind the port and listen; return the server."""
        self.listen()
        return self

    def listen(self) -> None:
        """Listen, after `refuse` on the same port again. Does nothing while listening."""
        if self._acceptor is not None:
            return
        listener, self._reserved = self._reserved or self._bind(), None
        try:
            listener.listen(socket.SOMAXCONN)
        except OSError:
            listener.close()
            raise
        stop, stopped = socket.socketpair()
        name = f"SSEServer :{self.port}"
        thread = threading.Thread(target=self._accept, args=(listener, stopped), name=name, daemon=True)
        self._acceptor = thread, stop
        thread.start()

    def refuse(self, *, drop: bool = False) -> None:
        """Stop listening, so that connections are refused until `listen`.

        :param drop: also drop the open connections, like a server process that ends.
        """
        if self._stop_accepting():
            # A bound socket reserves the port: no other program gets it, and no client socket does, which would
            # then connect to itself.
            self._reserved = self._bind()
        if drop:
            self._drop_connections()

    def close(self) -> None:
        """Stop listening, drop all connections, and wait for all threads. May be called again.

        :raises BaseException: the first error of the script, if any.
        """
        self._stop_accepting()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None
        self._drop_connections()
        for thread in self._threads:
            thread.join()
        if self._errors:
            error = self._errors[0]
            self._errors.clear()
            raise error

    def __enter__(self) -> SSEServer:  # noqa: PYI034 - Self came with Python 3.11
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def _wait(self, condition: Callable[[], bool], timeout: float, awaited: str) -> None:
        if not self._changed.wait_for(condition, timeout):
            received = ", ".join(f"{request.method} {request.target}" for request in self._requests) or "none"
            raise TimeoutError(
                f"timed out after {timeout:g} s waiting for {awaited}; open connections: {len(self._connections)}, "
                f"requests so far: {received}"
            ) from next(iter(self._errors), None)

    def _bind(self) -> socket.socket:
        listener = socket.socket()
        try:
            if os.name == "posix":  # pragma: no branch - on Windows other programs could then bind the port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.host, self._port))
        except BaseException:
            listener.close()
            raise
        listener.settimeout(0)
        self._port = listener.getsockname()[1]
        return listener

    def _accept(self, listener: socket.socket, stopped: socket.socket) -> None:
        """Accept until stopped, including all connections made before that; runs in a thread of its own."""
        with listener, stopped, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(stopped, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if listener not in ready:
                    return
                with suppress(BlockingIOError, ConnectionError):  # the peer may have disconnected already
                    self._serve_connection(*listener.accept())

    def _stop_accepting(self) -> bool:
        """Stop listening; return whether the server was listening."""
        if self._acceptor is None:
            return False
        (thread, stop), self._acceptor = self._acceptor, None
        stop.close()
        thread.join()
        return True

    def _drop_connections(self) -> None:
        with self._changed:
            for link in self._connections:
                link.drop()

    def _serve_connection(self, sock: socket.socket, address: tuple[str, int]) -> None:
        with self._changed:
            self._accepted += 1
            link = Link(sock, address, self._accepted)
            name = f"SSEServer :{self.port} #{self._accepted}"
            thread = threading.Thread(target=self._run_connection, args=(link,), name=name, daemon=True)
            self._connections.add(link)
            self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]
            thread.start()
            self._changed.notify_all()

    def _run_connection(self, link: Link) -> None:
        """Serve one connection to its end; runs in a thread of its own."""
        try:
            if self._handshake is not None:
                link.wait_at(self._handshake)
            if self._tls is not None:
                link.start_tls(self._tls, self._http2.alpn if self._http2 else ())
            self._serve(link)
        except PeerGone:
            pass
        except BaseException as error:  # noqa: BLE001 - raised by close()
            with self._changed:
                self._errors.append(error)
        finally:
            # Under the lock that guards drop(), which must not shut down a descriptor that is already closed.
            with self._changed:
                link.close()
                self._connections.discard(link)
                self._changed.notify_all()

    def _serve(self, link: Link) -> None:
        if self._http2 is not None and (link.protocol == "h2" or link.starts_with(_PREFACE)):
            from .http2 import Http2Connection  # noqa: PLC0415 - needs h2, which is optional

            Http2Connection(link, self._http2, self._answer, self._record).serve()
        else:
            Http1Connection(link, self._answer).serve()

    def _answer(self, request: ReceivedRequest) -> Callable[[], Reply]:
        """Record a request, and take the next reply; return a callable that returns it."""
        with self._changed:
            self._requests.append(request)
            answer = self._replies.popleft() if self._replies else self._default
            self._changed.notify_all()

        def make() -> Reply:
            reply = answer if isinstance(answer, Reply) else answer(request)
            if not isinstance(reply, Reply):
                raise TypeError(f"{answer!r} must return a Reply, not {reply!r}")
            return reply

        return make

    def _record(self, frame: ReceivedFrame) -> None:
        with self._changed:
            self._frames.append(frame)
            self._changed.notify_all()


def _checked(answer: _ReplySource) -> _ReplySource:
    if not isinstance(answer, Reply) and not callable(answer):
        raise TypeError(f"a reply must be a Reply or a callable that returns one, not {answer!r}")
    return answer
