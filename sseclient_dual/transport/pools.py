"""`Pools`: one urllib3 pool manager for each proxy in use, and one for direct connections."""

from __future__ import annotations

import copy
import os
import weakref
from typing import TYPE_CHECKING, Any

import urllib3

from sseclient_dual.errors import SSEConnectionError
from sseclient_dual.waiting import Lock

from .connections import POOL_CLASSES, SOCKET_OPTIONS
from .headers import authorization
from .proxies import parse_proxy, proxy_of_environment, proxy_of_pool
from .request import DEFAULT_TIMEOUT
from .tls import OwnContext, checks_certificates, tls_settings, with_own_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from .proxies import Proxy
    from .redirects import Hop
    from .request import HTTP2, TimeoutArgument
    from .sharing import SharedConnections

_LEAST_POOL_SIZE = 16  # connections of one host that are kept


class Pools:
    """The pool managers of a client, made on demand.

    :param user_pool: a pool whose settings and proxy are used; it is never changed.
    :param verify: whether to check certificates, or the path of the authorities' certificates; None: as in the
        user's pool.
    :param ssl_context: replaces all other TLS settings.
    :param proxy: the URL of a proxy for all connections.
    :param trust_env: whether to use the environment's proxies, if there is no other proxy and no `user_pool`.
    :raises TypeError: an argument has the wrong type or excludes another; the message names it.
    :raises ValueError: an argument has an invalid value; the message names it.
    """

    def __init__(
        self,
        user_pool: urllib3.PoolManager | None = None,
        *,
        verify: bool | str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        trust_env: bool = True,
    ) -> None:
        if isinstance(user_pool, str):
            raise TypeError("pool must be a urllib3.PoolManager, not a str: pass the URL to connect()")
        if user_pool is not None and not isinstance(user_pool, urllib3.PoolManager):
            raise TypeError(f"pool must be a urllib3.PoolManager, not {type(user_pool).__name__}")
        if user_pool is not None and proxy is not None:
            raise TypeError("pass either proxy or pool, not both: configure the proxy in the pool")
        self._user_pool = user_pool
        self._trust_env = trust_env and user_pool is None
        settings: dict[str, Any] = {}
        self._proxy: Proxy | None = None
        if user_pool is not None:
            settings = dict(user_pool.connection_pool_kw)
            self._proxy = proxy_of_pool(user_pool, settings)
        elif proxy is not None:
            self._proxy = parse_proxy("proxy", proxy)
        settings.setdefault("socket_options", SOCKET_OPTIONS)
        # Never wait for the end of another stream, and have room for all connections that are kept.
        settings |= {"block": False, "maxsize": max(_LEAST_POOL_SIZE, settings.get("maxsize", 1))}
        self._begin(settings | tls_settings(settings, verify, ssl_context))

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that the user's pool sends with every request."""
        return {} if self._user_pool is None else self._user_pool.headers

    @property
    def timeout(self) -> TimeoutArgument:
        """The timeout of the user's pool, or else the default."""
        timeout: TimeoutArgument = self._settings.get("timeout", DEFAULT_TIMEOUT)
        return timeout

    @property
    def checks_certificates(self) -> bool:
        """True if untrusted certificates are rejected."""
        return checks_certificates(self._settings)

    def renewed(self, *, verify: bool | str | None = None, ssl_context: ssl.SSLContext | None = None) -> Pools:
        """Return a copy without connections, with the same TLS settings or with others."""
        other = copy.copy(self)
        other._begin(self._settings | tls_settings(self._settings, verify, ssl_context))  # noqa: SLF001 - its own
        return other

    def _begin(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._pid = os.getpid()
        self._lock = Lock()  # guards _managers
        self._managers: dict[tuple[Proxy | None, bool], urllib3.PoolManager] = {}
        self._manager_settings = {http2: with_own_context(settings, http2=http2) for http2 in (False, True)}
        # By origin, proxy, and whether TLS negotiates the protocol; the connections keep them.
        self._shared: weakref.WeakValueDictionary[tuple[str, Proxy | None, bool], SharedConnections]
        self._shared = weakref.WeakValueDictionary()
        weakref.finalize(self, _retire, self._shared, self._pid).atexit = False

    def proxy_for(self, url: str) -> Proxy | None:
        """Return the proxy for `url`, None for a direct connection.

        :raises SSEConnectionError: the environment has an invalid proxy.
        """
        return proxy_of_environment(url) if self._proxy is None and self._trust_env else self._proxy

    def manager_for(self, proxy: Proxy | None, *, http2: bool = False) -> urllib3.PoolManager:
        """Return the pool manager for `proxy`, or for direct connections.

        :param http2: whether its connections offer HTTP/2.
        """
        self._begin_again_after_fork()
        key = (proxy, http2)
        with self._lock:
            manager = self._managers.get(key)
            if manager is None:
                manager = self._managers[key] = self._make_manager(proxy, self._manager_settings[http2])
        return manager

    def shared_connections(self, hop: Hop, proxy: Proxy | None, http2: HTTP2) -> SharedConnections | None:
        """Return the HTTP/2 connections for a request; None if it has to be sent over HTTP/1.1.

        :raises SSEConnectionError: the user asks for HTTP/2 only, and the proxy does not allow it.
        """
        over_tls = hop.url.startswith("https:")
        only = http2 == "prior-knowledge"
        if not http2 or not (over_tls or only):
            return None
        if proxy is not None and not proxy.is_socks and (proxy.url.startswith("https:") or not over_tls):
            if only:
                raise SSEConnectionError(
                    f"{hop.origin}: HTTP/2 is not possible through the proxy {proxy.url}",
                    remedy="use https with a proxy whose own URL begins with http, or HTTP/1.1",
                    final=True,
                )
            return None
        from .sharing import SharedConnections  # noqa: PLC0415 - needs an extra

        self._begin_again_after_fork()
        key = (hop.origin, proxy, only)
        with self._lock:
            shared = self._shared.get(key)
            if shared is None:
                shared = self._shared[key] = SharedConnections(negotiates=not only)
        return shared

    def clear(self) -> None:
        """Close the idle connections."""
        self._begin_again_after_fork()
        with self._lock:
            managers = list(self._managers.values())
        for manager in managers:
            manager.clear()
        _retire(self._shared, self._pid)

    def _begin_again_after_fork(self) -> None:
        """Forget the idle connections, which are the parent's, and a lock that a thread of it held at the fork."""
        if self._pid != os.getpid():
            self._begin(self._settings)

    def _make_manager(self, proxy: Proxy | None, settings: dict[str, Any]) -> urllib3.PoolManager:
        if proxy is not None and proxy.is_socks:
            from .socks_proxy import make_socks_manager  # noqa: PLC0415 - needs an extra

            return make_socks_manager(proxy, settings)
        manager = urllib3.PoolManager(**settings) if proxy is None else self._make_proxy_manager(proxy, settings)
        manager.pool_classes_by_scheme = POOL_CLASSES
        return manager

    def _make_proxy_manager(self, proxy: Proxy, settings: dict[str, Any]) -> urllib3.ProxyManager:
        headers = dict(proxy.headers)
        if proxy.auth is not None and "proxy-authorization" not in map(str.lower, headers):
            for name, value in authorization(proxy.auth, "Proxy-Authorization").values():
                headers[name] = value.decode()
        users_context = self._settings.get("ssl_context")
        # The client's own context applies to the proxy, too; a user's pool has a separate one for its proxy, or none.
        config: dict[str, Any] = {"proxy_ssl_context": users_context} | dict(proxy.config)
        if config.get("use_forwarding_for_https") and proxy.url.startswith("https:"):
            # All TLS is with the proxy. Given a second context, urllib3 would warn in a worker thread.
            config["proxy_ssl_context"] = config["proxy_ssl_context"] or users_context
            settings = settings | {"ssl_context": None}
        if config["proxy_ssl_context"] is None:
            config["proxy_ssl_context"] = OwnContext(
                self._settings,
                assert_hostname=config.get("proxy_assert_hostname"),
                assert_fingerprint=config.get("proxy_assert_fingerprint"),
                send_certificate=False,
            )
        return urllib3.ProxyManager(proxy.url, proxy_headers=headers, **config, **settings)


def _retire(shared: Mapping[Any, SharedConnections], pid: int) -> None:
    """Close HTTP/2 connections as soon as they have no streams, but not in a forked child: they are the parent's."""
    if pid == os.getpid():
        for connections in tuple(shared.values()):
            connections.retire()
