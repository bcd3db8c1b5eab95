"""`Server` and `Client`: redis-py clients of our own, with the settings of the user's; the only module with redis-py.

The package does not use the user's own client: its retries would repeat scripts, its timeouts may be too short for a
blocking read or too long for a failover, and its connections are shared with other code.
"""

from __future__ import annotations

import os
import re
import socket
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from sseclient_dual.waiting import Lock

try:
    from redis import ConnectionPool, Redis, RedisCluster
    from redis.backoff import NoBackoff
    from redis.cluster import ClusterNode
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError
    from redis.retry import Retry
    from redis.sentinel import SentinelConnectionPool
except ImportError as error:
    raise ImportError("sseclient_dual.redis needs an extra: pip install 'sseclient-dual[redis]'") from error

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Client",
    "NoScriptError",
    "RedisArgument",
    "RedisConnectionError",
    "RedisError",
    "ResponseError",
    "Server",
]

RedisArgument: TypeAlias = "str | Redis | RedisCluster"
"""Where Redis is: a URL, or a client whose settings apply."""

TIMEOUT = 5.0
"""Seconds that connecting may take, and a command."""

# The settings of a client that ours does not share: retries, timeouts, decoding, protocol, and the state of its pool.
_NOT_SHARED = re.compile(
    r"cache|connection_pool$|decode_responses$|encoding|event_dispatcher$|himport_|legacy_responses$|maint_|orig_"
    r"|oss_cluster_|protocol$|redis_connect_func$|retry|socket_connect_timeout$|socket_timeout$"
)


class Server:
    """A Redis server, Sentinel service or cluster, which clients of the same settings connect to; no I/O.

    :param redis: a URL, a `redis.Redis` or a `redis.RedisCluster`. The latter two are not used themselves, and stay
        as they are.
    :raises TypeError: it is something else.
    :raises ValueError: the URL is not valid.
    """

    def __init__(self, redis: RedisArgument) -> None:
        self.where: str
        """The server, for messages; without credentials."""
        self._make: Callable[..., Any]
        self._connected: Callable[[Any], object] | None  # called with each new connection
        settings = self._use_cluster(redis) if isinstance(redis, RedisCluster) else self._use_pool(_pool(redis))
        self._settings = {name: value for name, value in settings.items() if not _NOT_SHARED.match(name)}

    def client(self, timeout: float = TIMEOUT) -> Client:
        """Return a client, which connects when the first command is sent.

        :param timeout: seconds that connecting may take, and a command; longer than a read blocks.
        """
        options = self._settings | {
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": timeout,
            "socket_timeout": timeout,
        }
        return Client(lambda opened: self._make(**options, redis_connect_func=opened), self._connected)

    def _use_cluster(self, cluster: RedisCluster) -> dict[str, Any]:
        nodes: Any = cluster.nodes_manager
        addresses = [(node.host, node.port) for node in nodes.startup_nodes.values()]
        node_class: Any = ClusterNode
        self.where = "the Redis cluster of " + ", ".join(f"{host}:{port}" for host, port in addresses)
        self._connected = cluster.user_on_connect_func  # redis-py authenticates before
        self._make = lambda **options: RedisCluster(
            startup_nodes=[node_class(*address) for address in addresses],
            require_full_coverage=nodes._require_full_coverage,  # noqa: SLF001 - there is no other access
            address_remap=nodes.address_remap,
            **options,
        )
        settings: dict[str, Any] = nodes.connection_kwargs
        return settings

    def _use_pool(self, pool: Any) -> dict[str, Any]:  # noqa: ANN401 - redis-py has several classes
        settings: dict[str, Any] = pool.connection_kwargs
        make: Callable[..., Any] = ConnectionPool
        if isinstance(pool, SentinelConnectionPool):
            make = partial(SentinelConnectionPool, pool.service_name, pool.sentinel_manager)
            self.where = f"the Redis service {pool.service_name}"
        else:
            address = settings.get("path") or f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"
            self.where = f"Redis at {address}"
        self._connected = settings.get("redis_connect_func") or (lambda connection: connection.on_connect())
        self._make = lambda **options: Redis.from_pool(make(connection_class=pool.connection_class, **options))
        return settings


class Client:
    """Sends commands in one thread at a time; any thread may end them.

    :param make: makes a redis-py client that calls a function for each new connection.
    :param connected: called for each new connection: to authenticate, by default.
    """

    def __init__(
        self,
        make: Callable[[Callable[[Any], None]], Any],
        connected: Callable[[Any], object] | None = None,
    ) -> None:
        self._make = make
        self._connected = connected
        self._redis: Any = None  # made in the thread of the commands, because that of a cluster connects
        self._process = os.getpid()
        self.opened = 0
        """The number of connections so far. redis-py replaces one that the server has closed between two commands."""
        self._lock = Lock()  # guards the two attributes below
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self._aborted = False

    def execute(self, *command: str | bytes | float) -> Any:  # noqa: ANN401 - as redis-py's
        """Send a command once, and return its answer.

        :raises ResponseError: Redis answered with an error.
        :raises RedisError: the connection failed or was aborted. Redis may have executed the command.
        """
        try:
            if self._redis is None:
                self._redis = self._make(self._opened)
            return self._redis.execute_command(*command)
        except RedisClusterException as error:  # no RedisError: the nodes are unknown, or none has the key
            raise RedisConnectionError(str(error)) from error

    def abort(self) -> None:
        """End the command that is being executed, and all later ones; callable from any thread or signal handler.

        A connect that is in progress ends at its timeout.
        """
        if self._process != os.getpid():
            return  # a forked child, which shares the connections with its parent
        with self._lock:
            self._aborted = True
            connections = list(self._connections)
        for connection in connections:
            if (sock := connection._sock) is not None:  # noqa: SLF001 - `disconnect` is for its own thread only
                with suppress(OSError):  # not connected any more
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # an SSLSocket's own would first stop encrypting

    def reset(self) -> None:
        """Close the connections, so that the next command makes new ones; called in the thread of the commands.

        After a failure, those to other addresses or to a server with another role now.
        """
        redis, self._redis = self._redis, None
        if redis is not None:
            redis.close()

    def close(self) -> None:
        """Close the connections for good; called in the thread of the commands."""
        self.abort()
        self.reset()

    def disown(self) -> None:
        """Close the descriptors of the parent's connections in a forked child; the parent keeps using them."""
        for connection in list(self._connections):
            connection.disconnect()

    def _opened(self, connection: Any) -> None:  # noqa: ANN401 - redis-py has several classes
        self.opened += 1
        with self._lock:
            self._connections.add(connection)
            aborted = self._aborted
        if aborted:
            raise RedisConnectionError("the client is closed")
        if self._connected is not None:
            self._connected(connection)


def _pool(redis: object) -> ConnectionPool:
    """Return the pool of a client, or one for a URL.

    :raises TypeError: it is neither.
    :raises ValueError: the URL is not valid.
    """
    if isinstance(redis, Redis):
        return redis.connection_pool
    if not isinstance(redis, str):
        kind = f"{type(redis).__module__}.{type(redis).__qualname__}"
        hint = "; this package uses threads also in the async API" if ".asyncio" in kind else ""
        raise TypeError(f"redis must be a URL, a redis.Redis or a redis.RedisCluster, not {kind}{hint}")
    try:
        parts = urlsplit(redis)
        has_path = parts.scheme != "unix" and not re.fullmatch("/?[0-9]*", parts.path)
        pool = ConnectionPool.from_url(redis)
    except ValueError:
        # Without the cause, which may show a part of the URL, such as its password.
        raise ValueError(
            "redis must be a URL such as redis://host:6379/0, rediss://user:password@host/0 or unix:///path?db=0"
        ) from None
    if has_path:
        raise ValueError(
            "the path of a Redis URL can only be the number of a database, as in redis://host:6379/0: pass the name "
            "of the stream as an argument of its own"
        )
    return pool
