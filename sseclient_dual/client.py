"""`SSEClient`: makes connections and feeds, and holds their common settings and pools."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol, TypedDict, TypeVar

from .checkpoint import as_checkpoint
from .checks import (
    check_bools,
    check_integer,
    check_last_event_id,
    check_name,
    check_number,
    check_retry_delay,
    decoded_id,
    warn,
)
from .closing import Closable, Closing
from .connection import SSEConnection
from .errors import SSEClosedError
from .feed import SharedFeed
from .parser import MAX_EVENT_SIZE
from .policy import ReconnectPolicy
from .position import Position
from .reader import Reader, Settings
from .transport import (
    DEFAULT_TIMEOUT,
    Cookies,
    InsecureRequestWarning,
    Pools,
    authorization,
    check_headers,
    check_http2,
    merge,
    prepare,
    split_timeout,
)
from .until import Until
from .waiting import Lock, renew_locks_after_fork

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Callable, Collection, Mapping

    from typing_extensions import Unpack

    from .checkpoint import Checkpoint
    from .event import SSEEvent
    from .transport import (
        HTTP2,
        CookiesArgument,
        HeadersArgument,
        JSONDumps,
        ParamsArgument,
        PoolManager,
        TimeoutArgument,
    )


class _Stream(Protocol):
    """What a client closes: a connection, a feed or an ingest."""

    def _close_with_client(self) -> Closing: ...


Stream = TypeVar("Stream", bound=_Stream)

_DEFAULT_POLICY: Final = ReconnectPolicy()


class StreamOptions(TypedDict, total=False):
    """The arguments of `SSEClient.connect` that do not concern its one consumer."""

    method: str | None
    headers: HeadersArgument
    params: ParamsArgument
    data: bytes | bytearray | memoryview | str | Mapping[str, Any] | Collection[tuple[str, Any]] | None
    json: Any
    multipart: bool
    auth: tuple[str, str] | None
    verify: bool | str | None
    ssl_context: ssl.SSLContext | None
    timeout: TimeoutArgument
    redirect: bool
    reconnect: bool | None
    retry_delay: float | None
    keep_connection: bool
    http2: HTTP2 | None
    last_event_id: str | None
    until: str | Callable[[SSEEvent], bool] | None
    strict: bool
    policy: ReconnectPolicy | None
    queue_size: int
    max_event_size: int


class ConnectOptions(StreamOptions, total=False):
    """The arguments of `SSEClient.connect` that `SSEClient.share` takes, too: all except the checkpoint."""

    name: str | None


class SSEClient(Closable):
    """Makes connections and feeds, and holds their common settings and urllib3 pools.

    It is a context manager in both APIs. Leaving the block closes its connections, feeds and pools. Without a block,
    each connection is closed by itself.

    :param pool: a `urllib3.PoolManager` whose settings, headers, timeout and proxy apply. It is never changed, used
        or closed. With it, the environment's proxies are ignored.
    :param headers: sent with every request: a mapping, pairs, or a callable that returns either; see `connect`. A
        connection's own headers replace those of the same name.
    :param auth: user and password for HTTP Basic authentication (RFC 7617); a connection's own credentials, also
        those in its URL or headers, replace them.
    :param timeout: seconds, a number or a `urllib3.Timeout`; see `connect`. The default is the pool's timeout, or
        else 10 s to connect and no read timeout.
    :param verify: whether to check the server's certificate, or the path of a file or folder with the certificates
        of the authorities to trust. With False, the client warns once, here.
    :param ssl_context: replaces all other TLS settings, also for an https proxy; never modified.
    :param proxy: the URL of a proxy for all connections: http, https or, with the extra ``socks``, socks4, socks4a,
        socks5 or socks5h (with socks4a and socks5h the proxy resolves host names). It may contain credentials.
    :param trust_env: whether to use the proxies in ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``ALL_PROXY``, except for the
        hosts in ``NO_PROXY``; each in upper or lower case.
    :param cookies: None, the default: neither send nor store cookies. A mapping: send these cookies to the host of
        each connection's URL (for an https URL, over https only), and store those that servers set. An
        `http.cookiejar.CookieJar`: send and store the cookies of your jar. All connections of the client share them.
        The jar decides about domains, paths and expiry, also after a redirect. A ``Cookie`` header in `headers`
        replaces the cookies to send.
    :param json_dumps: serialises the ``json`` argument of `connect`: a callable that takes an object and returns str
        or bytes, such as ``orjson.dumps``. The default is `json.dumps`, without spaces; it rejects NaN.
    :param http2: True: offer HTTP/2 to https servers, and use HTTP/1.1 where the server chooses that, and for http
        URLs. ``"prior-knowledge"``: speak HTTP/2 without asking, also for http URLs. Needs the extra ``http2``. See
        :doc:`http2`.
    :param policy: the settings for reconnecting and de-duplication; a connection's own policy replaces it.
    :raises TypeError: an argument has the wrong type; the message names it.
    :raises ValueError: an argument has an invalid value; the message names it.
    """

    def __init__(
        self,
        pool: PoolManager | None = None,
        *,
        headers: HeadersArgument = None,
        auth: tuple[str, str] | None = None,
        timeout: TimeoutArgument = DEFAULT_TIMEOUT,
        verify: bool | str = True,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        trust_env: bool = True,
        cookies: CookiesArgument = None,
        json_dumps: JSONDumps | None = None,
        http2: HTTP2 = False,
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
        self._headers = (
            merge(self._pools.headers),
            check_headers(headers),
            {} if auth is None else authorization(auth),
        )
        if json_dumps is not None and not callable(json_dumps):
            raise TypeError(f"json_dumps must be a callable, not {type(json_dumps).__name__}")
        self._json_dumps = json_dumps
        self._cookies = None if cookies is None else Cookies(cookies)
        self._http2 = check_http2(http2)
        self._timeout = self._pools.timeout if timeout is DEFAULT_TIMEOUT else timeout
        split_timeout(self._timeout)
        self._policy = _checked_policy(policy) or _DEFAULT_POLICY
        self._other_pools: weakref.WeakSet[Pools] = weakref.WeakSet()  # of connections with their own TLS settings
        self._lock = Lock()  # guards the two attributes below
        self._connections: weakref.WeakSet[_Stream] = weakref.WeakSet()
        self._closed = False
        renew_locks_after_fork(self)

    def connect(
        self,
        url: str,
        method: str | None = None,
        headers: HeadersArgument = None,
        params: ParamsArgument = None,
        data: bytes | bytearray | memoryview | str | Mapping[str, Any] | Collection[tuple[str, Any]] | None = None,
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
        http2: HTTP2 | None = None,
        last_event_id: str | None = None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
        checkpoint_interval: float = 0,
        until: str | Callable[[SSEEvent], bool] | None = None,
        strict: bool = True,
        policy: ReconnectPolicy | None = None,
        queue_size: int = 1024,
        max_event_size: int = MAX_EVENT_SIZE,
        name: str | None = None,
    ) -> SSEConnection:
        """Return a connection to an event stream. No I/O happens before it is opened or asked for an event.

        :param url: an http or https URL. Credentials in it are percent-decoded, used as `auth` and removed.
        :param method: the HTTP method. None, the default: POST with ``data`` or ``json``, otherwise GET.
        :param headers: a mapping, pairs, or a callable that returns either, which may be an ``async def`` function. A
            callable is called before *every* attempt, so that tokens can be fresh. After a 401 it is called once
            more, and the request is repeated. It is called on a background thread; an awaitable that it returns runs
            on the event loop that opened the connection, or on an event loop of its own with the sync API. Closing
            the connection cancels the awaitable.
            An exception of the callable ends the stream and is raised to the consumer. Exceptions that mean the end
            of the stream (`StopIteration`, `SSEClosedError`) or a timeout (`TimeoutError`) are raised as the cause
            of a `RuntimeError`, and so is a cancellation by other code.
        :param params: added to the URL's query: a mapping, pairs, or a callable that returns either, as for
            `headers`. Pairs whose value is None are left out.
        :param data: the body: bytes, str (sent as UTF-8), or a mapping or pairs (sent as a form). It is copied now,
            so that every reconnect sends the same.
        :param json: the body, serialised now; sets ``Content-Type: application/json`` unless the headers set it.
        :param multipart: send `data`, a mapping, as multipart/form-data. A file is a tuple of name, content and,
            optionally, media type, as in urllib3's ``fields``.
        :param auth: user and password for HTTP Basic authentication, in UTF-8 (RFC 7617).
        :param verify: as for the client, whose value is the default.
        :param ssl_context: as for the client, whose value is the default.
        :param timeout: seconds: a number (for connect and read), a `urllib3.Timeout`, or None for no limit. The
            connect timeout limits each TCP connect (to all addresses of the host together), each exchange with a
            proxy, and each TLS handshake. The read timeout limits the time without any data, also before the
            response head. When it expires, the connection is treated as dropped; comments count as data. The default
            is the client's timeout. Name resolution cannot be limited.
        :param redirect: follow redirects, at most 20. Only ``Accept*``, ``User-Agent``, ``Cache-Control`` and
            ``Last-Event-ID`` are sent to another origin, and headers about the body if the body is.
        :param reconnect: True: always. False: never. None, the default: yes, but do not send a POST or PATCH again
            once the server may have received any of it, unless it answered with 429 or 503.
        :param retry_delay: milliseconds to wait before reconnecting, until the server sends ``retry:``. The default
            is the policy's value, 3000.
        :param keep_connection: experimental: at the end of the response, give the TCP connection back to the pool
            instead of closing it.
        :param http2: as for the client, whose value is the default.
        :param last_event_id: resume after this event: sent as ``Last-Event-ID`` (WHATWG HTML 9.2.4). The header of a
            browser may be passed as your framework returns it, decoded as UTF-8 or as Latin-1: an id whose characters
            are the bytes of UTF-8 text, such as ``"Ã©"``, is sent as that text.
        :param checkpoint: where to save the position, so that the next run resumes there: the path of a file, see
            `FileCheckpoint`, or another `Checkpoint`. It is loaded when the connection is opened; an error of that
            is raised from there. `last_event_id`, also ``""``, replaces the saved position. Asking for the next
            event saves the event before, and leaving the connection's block without an exception saves the last
            one; see :doc:`delivery`.
        :param checkpoint_interval: the minimum number of seconds between two saves. 0, the default, saves after each
            event. An event that is not saved at once is saved when this time is over, also if no other arrives.
        :param until: how to recognise the last event of the stream: the data of that event, for example
            ``"[DONE]"``, or a callable that takes an event and returns True for the last one. The last event ends the
            iteration, without a reconnect. It is returned if a callable recognises it, and not returned if its data
            does. A response that ends before the last event is treated as broken. The callable runs on a background
            thread; its exceptions are raised as those of `headers`.
        :param strict: treat malformed lines as errors; see `EventStreamParser`.
        :param policy: the settings for reconnecting and de-duplication; the default is the client's policy.
        :param queue_size: the maximum number of events and other signals that wait for the consumer. When the queue
            has this many, or 8 MiB of data, reading pauses, and TCP slows the server down.
        :param max_event_size: the maximum size in bytes of an event's data, and of an accepted answer in place of a
            stream (see `SSEContentTypeError`); 64 MiB by default.
        :param name: identifies the connection in error messages, log records, its ``repr``, and the names of threads
            and tasks. None, the default: the URL's origin.
        :raises TypeError: an argument has the wrong type; the message names it.
        :raises ValueError: an argument has an invalid value; the message names it.
        :raises SSEClosedError: the client is closed.
        """
        check_bools(multipart=multipart, redirect=redirect, keep_connection=keep_connection, strict=strict)
        if reconnect is not None and not isinstance(reconnect, bool):
            raise TypeError(f"reconnect must be True, False or None, not {reconnect!r}")
        if retry_delay is not None:
            check_retry_delay(retry_delay)
        check_number("checkpoint_interval", checkpoint_interval, least=0)
        check_integer("queue_size", queue_size, least=1)
        check_integer("max_event_size", max_event_size, least=1)
        first_id = None if last_event_id is None else decoded_id(check_last_event_id(last_event_id))
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
            http2=self._http2 if http2 is None else http2,
            client_headers=self._headers,
            cookies=self._cookies,
            json_dumps=self._json_dumps,
        )
        settings = Settings(
            name=None if name is None else check_name(name),
            reconnect=reconnect,
            retry_delay=retry_delay,
            last_event_id=first_id or "",
            until=None if until is None else Until(until),
            strict=strict,
            policy=_checked_policy(policy) or self._policy,
            queue_size=queue_size,
            max_event_size=max_event_size,
        )
        pools = self._pools
        if verify is not None or ssl_context is not None:
            pools = pools.renewed(verify=verify, ssl_context=ssl_context)
            if self._pools.checks_certificates:  # otherwise the client has warned
                _warn_if_insecure(pools)
            self._other_pools.add(pools)
        reader = Reader(pools, request, settings)
        position = None
        if checkpoint is not None:
            position = Position(reader.handoff, as_checkpoint(checkpoint), checkpoint_interval, first_id)
        return self._opened(SSEConnection(reader, request.url, first_id or "", position))

    def share(
        self,
        url: str,
        *,
        replay: int = 1000,
        replay_bytes: int = 16 * 1024 * 1024,
        linger: float = 30.0,
        max_catch_ups: int = 4,
        **options: Unpack[ConnectOptions],
    ) -> SharedFeed:
        """Return a feed: one connection to an event stream for any number of consumers in this process.

        No I/O happens before the first subscription asks for an event. See :doc:`feeds`.

        :param url: an http or https URL.
        :param replay: the maximum number of events to keep, for consumers that are slow or resume. It should be
            larger than the number of events that may arrive at once.
        :param replay_bytes: the maximum size of the kept events in bytes, as relays send them; in memory they take
            about twice as much. The newest event is always kept.
        :param linger: seconds for which the upstream stays open after the last subscription has left.
        :param max_catch_ups: the maximum number of additional connections at a time. A subscription that resumes
            after an event that is no longer kept needs one, until it has caught up.
        :param options: those of `connect`, except ``checkpoint``, which is the position of a single consumer.
            `last_event_id` is the id after which the upstream begins. Awaitables of callables run on an event loop of
            their own, because the feed may outlive yours. `queue_size` applies to catch-ups.
        :raises TypeError: an argument has the wrong type; the message names it.
        :raises ValueError: an argument has an invalid value; the message names it.
        :raises SSEClosedError: the client is closed.
        """
        if "checkpoint" in options:
            raise TypeError("share() takes no checkpoint, which is the position of a single consumer: use connect()")
        template = self.connect(url, **options)._reader  # noqa: SLF001 - never started
        return self._opened(
            SharedFeed(template, replay=replay, replay_bytes=replay_bytes, linger=linger, max_catch_ups=max_catch_ups)
        )

    def _opened(self, stream: Stream) -> Stream:
        """Return a connection, a feed or an ingest, which `close` closes."""
        with self._lock:
            if self._closed:
                raise SSEClosedError("the client is closed; make a new one")
            self._connections.add(stream)
        return stream

    def close(self) -> Closing:
        """Close all connections, feeds and pools, without blocking; await the returned object to wait for the end."""
        with self._lock:
            self._closed = True
            connections = list(self._connections)
        closings = [connection._close_with_client() for connection in connections]  # noqa: SLF001 - a hook for this
        for pools in [self._pools, *self._other_pools]:
            pools.clear()
        return Closing(*closings)

    def _renew_locks(self) -> None:
        """See `waiting.LockOwner`; called in a forked child."""
        self._lock = Lock()


def _checked_policy(policy: object) -> ReconnectPolicy | None:
    if policy is not None and not isinstance(policy, ReconnectPolicy):
        raise TypeError(f"policy must be a ReconnectPolicy, not {type(policy).__name__}")
    return policy


def _warn_if_insecure(pools: Pools) -> None:
    """Warn about unchecked certificates, attributed to the user's call: a worker thread has no user frame."""
    if not pools.checks_certificates:
        warn(
            "certificates are not checked, so an attacker on the network can read and change all data; pass the path "
            "of the authority's certificate as verify instead",
            InsecureRequestWarning,
        )
