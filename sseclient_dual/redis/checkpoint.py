"""`RedisCheckpoint`: the position of one consumer in Redis."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from sseclient_dual.checks import check_last_event_id
from sseclient_dual.waiting import Lock, renew_locks_after_fork

from .connections import RedisError, ResponseError, Server

if TYPE_CHECKING:
    from .connections import RedisArgument


class RedisCheckpoint:
    """A `Checkpoint` in a key of Redis or Valkey, so that the next run may be on another machine.

    Use a key for one consumer only. How much a crash of Redis loses depends on its settings; see :doc:`distributed`.
    An older position repeats events, and loses none.

    :param redis: the URL of a server, or a `redis.Redis` or `redis.RedisCluster`, whose settings are used.
    :param key: the key, which holds the last event ID as UTF-8.
    :raises TypeError: an argument has the wrong type; the message names it.
    :raises ValueError: the URL is not valid, or the key is empty.
    """

    def __init__(self, redis: RedisArgument, key: str) -> None:
        if not isinstance(key, str):
            raise TypeError(f"key must be a str, not {type(key).__name__}")
        if not key:
            raise ValueError("key must not be empty")
        self._key = key.encode()
        self._server = Server(redis)
        self._begin()
        renew_locks_after_fork(self)

    def _begin(self) -> None:
        """Begin without a connection."""
        self._lock = Lock()  # held during a call: a client is for one thread at a time
        self._client = self._server.client()
        weakref.finalize(self, self._client.close)

    def load(self) -> str | None:
        """Return the ID in the key, None if the key is missing.

        :raises redis.RedisError: Redis cannot be reached, or answers with an error.
        :raises ValueError: the key does not contain an ID.
        """
        value = self._execute("GET", self._key)
        try:
            return None if value is None else check_last_event_id(value.decode())
        except ValueError:
            raise ValueError(
                f"not an event ID, which is one line of UTF-8 without NUL; correct or delete the key: {self._key!r}"
            ) from None

    def save(self, last_event_id: str) -> None:
        """Set the key to this ID.

        :raises redis.RedisError: Redis cannot be reached, or answers with an error. The key holds the old or the new
            ID.
        :raises ValueError: the ID contains a CR, LF, NUL or lone surrogate.
        """
        self._execute("SET", self._key, check_last_event_id(last_event_id).encode())

    def _execute(self, *command: str | bytes) -> bytes | None:
        """Execute a command; once more if the connection was lost, perhaps long before."""
        with self._lock:
            try:
                answer: bytes | None = self._client.execute(*command)
            except ResponseError:
                raise
            except RedisError:
                self._client.reset()
                answer = self._client.execute(*command)
        return answer

    def _renew_locks(self) -> None:
        """See `waiting.LockOwner`; called in a forked child."""
        self._client.disown()
        self._begin()
