"""`SSEClient`: what connections have in common, and the way to make one."""

from __future__ import annotations

import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Any, Final

from .connection import Closing, SSEConnection
from .errors import SSEClosedError, check_bools, check_integer, check_number
from .parser import MAX_EVENT_SIZE
from .policy import ReconnectPolicy
from .reader import Reader, Settings
from .transport import (
    DEFAULT_TIMEOUT,
    InsecureRequestWarning,
    Pools,
    authorization,
    check_last_event_id,
    merge_headers,
    prepare,
    split_timeout,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from typing_extensions import Self

    from .transport import HeaderItems, HeadersArgument, PoolManager, TimeoutArgument

_DEFAULT_POLICY: Final = ReconnectPolicy()


class SSEClient:
    """Makes connections, and holds what they share: a urllib3 pool of its own, and defaults.

    A context manager in both faces. Leaving the block closes the connections it made and its pool; without a block
    each connection looks after itself.

    :param pool: a `urllib3.PoolManager` that lends its settings, headers, time-out and proxy. It is never changed,
        used or closed. With it, the environment's proxies are ignored.
    :param headers: sent with every request, unless a connection has its own of the same name.
    :param auth: user and password for HTTP Basic authentication (RFC 7617), unless a connection has its own, in
        its URL or headers, too.
    :param timeout: seconds, a number or a `urllib3.Timeout`; see `connect`. The default is the pool's, if it has one,
        or else 10 s to connect, and no limit of silence.
    :param verify: whether to check the certificates of servers, or the path of a file or folder of authorities'
        certificates to check them with. False is warned about, once, here.
    :param ssl_context: instead of every other TLS setting, with an https proxy, too; never modified.
    :param proxy: the URL of a proxy for all connections: http, https or, with the extra ``socks``, socks4, socks4a,
        socks5 or socks5h (the a and h have the proxy resolve names). Credentials in it are used.
    :param trust_env: whether to use the proxies that ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``ALL_PROXY`` name, except
        for the hosts in ``NO_PROXY``; each in upper or lower case.
    :param policy: when to reconnect and what to take for a duplicate, unless a connection has its own.
    :raises TypeError: an argument, which the message names, is of another type.
    :raises ValueError: an argument, which the message names, has a value that cannot be.
    """

    def __init__(
        self,
        pool: PoolManager | None = None,
        *,
        headers: HeaderItems | None = None,
        auth: tuple[str, str] | None = None,
        timeout: TimeoutArgument = DEFAULT_TIMEOUT,
        verify: bool | str = True,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        trust_env: bool = True,
        policy: ReconnectPolicy | None = None,
    ) -> None:
        self._pools = Pools(
            pool,
            verify=None if verify is True else verify,
            ssl_context=ssl_context,
            proxy=proxy,
            trust_env=trust_env,
        )
        check_bools(trust_env=trust_env)
        _warn_if_insecure(self._pools)
        defaults = merge_headers(self._pools.headers, headers or ())
        if auth is not None:
            defaults |= authorization(auth)
        self._headers = dict(defaults.values())
        self._timeout = self._pools.timeout if timeout is DEFAULT_TIMEOUT else timeout
        split_timeout(self._timeout)
        self._policy = _checked_policy(policy) or _DEFAULT_POLICY
        self._other_pools: weakref.WeakSet[Pools] = weakref.WeakSet()  # of connections with TLS settings of their own
        self._lock = threading.RLock()  # guards the two below
        self._connections: weakref.WeakSet[SSEConnection] = weakref.WeakSet()
        self._closed = False

    def connect(
        self,
        url: str,
        method: str = "GET",
        headers: HeadersArgument = None,
        params: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
        data: bytes | bytearray | memoryview | str | Mapping[str, Any] | None = None,
        json: Any = None,  # noqa: ANN401 - JSON is any of several types
        *,
        multipart: bool = False,
        auth: tuple[str, str] | None = None,
        verify: bool | str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout: TimeoutArgument = DEFAULT_TIMEOUT,
        redirect: bool = True,
        reconnect: bool | None = None,
        retry_delay: float | None = None,
        keep_connection: bool = False,
        last_event_id: str | None = None,
        strict: bool = True,
        policy: ReconnectPolicy | None = None,
        queue_size: int = 1024,
        max_event_size: int = MAX_EVENT_SIZE,
    ) -> SSEConnection:
        """Return a connection to an event stream. No I/O happens before it is opened or asked for an event.

        :param url: of scheme http or https. Credentials in it are percent-decoded, used as `auth` and stripped.
        :param method: the HTTP method.
        :param headers: a mapping, pairs, or a callable that returns one of these and is called before *every*
            attempt, so that tokens can be fresh. After a 401 it is called once more, and the request repeated.
            What it raises ends the stream and is raised to the consumer; as the cause of a `RuntimeError` where
            that would be taken for the end of the stream (`StopIteration`, `SSEClosedError`) or for a wait in
            which nothing came (`TimeoutError`).
        :param params: merged into the URL's query.
        :param data: the body: bytes, str (sent as UTF-8), or a mapping (sent as a form). Kept as it is now, so that
            every reconnect sends the same.
        :param json: the body, serialised now; ``Content-Type: application/json`` unless the headers say otherwise.
        :param multipart: send `data`, a mapping, as multipart/form-data; a file is a tuple of name and content and,
            if need be, media type, as in urllib3's ``fields``.
        :param auth: user and password for HTTP Basic authentication, in UTF-8 (RFC 7617).
        :param verify: as for the client; the client's, by default.
        :param ssl_context: as for the client; the client's, by default.
        :param timeout: seconds: a number (for both parts), a `urllib3.Timeout`, or None for no limit. The connect
            part bounds each TCP connect and TLS handshake. The read part bounds each silence, that before the
            response head included: no byte at all for that long, comments being bytes, means that the connection
            is dead, and is handled as a drop. The client's, by default. Name resolution cannot be bounded.
        :param redirect: follow redirects, 20 at most. Only ``Accept*``, ``User-Agent``, ``Cache-Control`` and
            ``Last-Event-ID`` travel to another origin, and what describes a body travels with that body.
        :param reconnect: True: always. False: never. None, the default: yes, but a POST or PATCH is not sent again
            once the server may have seen any of it, unless it answered with 429 or 503.
        :param retry_delay: milliseconds to wait before reconnecting, until the server sends ``retry:``; None: the
            policy's, which is 3000.
        :param keep_connection: experimental: when the response ends, give the TCP connection back to the pool
            instead of closing it.
        :param last_event_id: resume after this event: sent as ``Last-Event-ID`` (WHATWG HTML 9.2.4).
        :param strict: take lines that no event stream has for errors; see `EventStreamParser`.
        :param policy: when to reconnect and what to take for a duplicate; the client's, by default.
        :param queue_size: how many events, and other signals, wait for the consumer at most; when so many do, or
            8 MiB of data, reading pauses, and TCP slows the server down.
        :param max_event_size: bytes of data that one event may have, 64 MiB by default.
        :raises TypeError: an argument, which the message names, is of another type.
        :raises ValueError: an argument, which the message names, has a value that cannot be.
        :raises SSEClosedError: the client is closed.
        """
        check_bools(multipart=multipart, redirect=redirect, keep_connection=keep_connection, strict=strict)
        if reconnect is not None and not isinstance(reconnect, bool):
            msg = f"reconnect must be True, False or None, not {reconnect!r}"
            raise TypeError(msg)
        if retry_delay is not None:
            check_number("retry_delay", retry_delay, least=0)
        check_integer("queue_size", queue_size, least=1)
        check_integer("max_event_size", max_event_size, least=1)
        first_id = "" if last_event_id is None else check_last_event_id(last_event_id)
        request = prepare(
            method,
            url,
            headers=headers,
            params=params,
            data=data,
            json=json,
            multipart=multipart,
            auth=auth,
            timeout=self._timeout if timeout is DEFAULT_TIMEOUT else timeout,
            redirect=redirect,
            keep_connection=keep_connection,
            default_headers=self._headers,
        )
        settings = Settings(
            reconnect=reconnect,
            retry_delay=retry_delay,
            last_event_id=first_id,
            strict=strict,
            policy=_checked_policy(policy) or self._policy,
            queue_size=queue_size,
            max_event_size=max_event_size,
        )
        pools = self._pools
        if verify is not None or ssl_context is not None:
            pools = pools.renewed(verify=verify, ssl_context=ssl_context)
            if self._pools.checks_certificates:  # else it has been said
                _warn_if_insecure(pools)
            self._other_pools.add(pools)
        connection = SSEConnection(Reader(pools, request, settings), request.url, first_id)
        with self._lock:
            if self._closed:
                msg = "the client is closed; make another one"
                raise SSEClosedError(msg)
            self._connections.add(connection)
        return connection

    def close(self) -> Closing:
        """Close the connections that are still open, then the pool; await what is returned to wait for that."""
        with self._lock:
            self._closed = True
            connections = list(self._connections)
        closings = [connection.close() for connection in connections]
        for pools in [self._pools, *self._other_pools]:
            pools.clear()
        return Closing(*closings)

    async def aclose(self) -> None:
        """Do as `close`, awaited; for `contextlib.aclosing`."""
        await self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _checked_policy(policy: object) -> ReconnectPolicy | None:
    if policy is not None and not isinstance(policy, ReconnectPolicy):
        msg = f"policy must be a ReconnectPolicy, not {type(policy).__name__}"
        raise TypeError(msg)
    return policy


def _warn_if_insecure(pools: Pools) -> None:
    """Warn in the frame of the caller's caller; the threads of connections are nobody's frame."""
    if not pools.checks_certificates:
        warnings.warn(
            "certificates are not checked, so whoever is on the way can read and change everything; pass the path of "
            "the authority's certificate as verify instead",
            InsecureRequestWarning,
            stacklevel=3,
        )
