"""`RedisFeed`: one upstream stream for any number of consumers in any number of processes and machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sseclient_dual.feed import BaseFeed

from .connections import Server
from .reader import StreamReader

if TYPE_CHECKING:
    from .connections import RedisArgument


class RedisFeed(BaseFeed):
    """A feed of the events that a `RedisIngest` adds to a stream in Redis or Valkey, in this or another process.

    The first subscription starts one thread with one connection to Redis, which reads the stream for all consumers of
    this process until the feed is closed. The newest events are kept in memory; a subscription that needs older ones
    reads them from Redis.

    A last event ID is ``<position in Redis>/<id of the upstream>``. It can be resumed in every process; so can a
    plain id of the upstream, if the event is one of those kept. Where events are missing, because they were removed
    from the stream or because Redis has lost them, the subscription reports a `Gap`, and continues with the last
    `history` events that are kept, or with all of them.

    While Redis cannot be reached, consumers wait, relays send heartbeats, and the feed connects again and again. A
    feed may be made before a fork, and works in each child by itself.

    It is a context manager in both APIs. Leaving the block closes it, and so does dropping the last reference to it
    and to its subscriptions.

    :param redis: a URL, or a `redis.Redis` or `redis.RedisCluster`, whose settings are used for connections of its
        own.
    :param name: the name of the stream.
    :param replay: the maximum number of events to keep.
    :param replay_bytes: the maximum number of bytes to keep, as relays send them.
    :raises TypeError: an argument has the wrong type; the message names it.
    :raises ValueError: an argument has an invalid value; the message names it.
    """

    def __init__(
        self, redis: RedisArgument, name: str, *, replay: int = 1000, replay_bytes: int = 16 * 1024 * 1024
    ) -> None:
        super().__init__(StreamReader(Server(redis), name, replay=replay, replay_bytes=replay_bytes))
