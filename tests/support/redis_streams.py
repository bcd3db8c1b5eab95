"""Streams in Redis, written as ingests write them, and damaged as Redis may damage them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sseclient_dual import SSEEvent
from sseclient_dual.redis.entries import Kind, encode_event, encode_mark, keys_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import redis


class StreamWriter:
    """Adds numbered events: event number n has the data n and, by default, the id n.

    :param raw: a client that decodes answers.
    :param name: the name of the stream.
    :param maxlen: the maximum number of entries; None for no limit.
    """

    def __init__(self, raw: redis.Redis, name: str, *, maxlen: int | None = None) -> None:
        self.raw = raw
        self.key = keys_of(name).events
        self.seq = 0
        self.maxlen = maxlen

    def add(self, *numbers: int, position: str = "*", sends_ids: bool = True) -> list[str]:
        """Add events, and return their last event IDs as consumers get them."""
        return [self.add_event(numbered(number, sends_ids=sends_ids), position) for number in numbers]

    def add_event(self, event: SSEEvent, position: str = "*") -> str:
        """Add an event, and return its last event ID."""
        return f"{self.write(encode_event(event), position)}/{event.last_event_id}"

    def add_mark(self, kind: Kind, last_id: str = "", position: str = "*") -> str:
        """Add an entry that is no event, and return its last event ID."""
        return f"{self.write(encode_mark(kind, last_id), position)}/{last_id}"

    def write(self, fields: list[bytes], position: str = "*") -> str:
        """Add the fields of an entry with the next number, and return its position."""
        self.seq += 1
        pairs = _pairs(self.seq, fields)
        return str(self.raw.xadd(self.key, pairs, id=position, maxlen=self.maxlen, approximate=False))

    def entries(self) -> list[tuple[str, dict[Any, Any]]]:
        """Return all entries."""
        entries: Any = self.raw.xrange(self.key)
        return list(entries)

    def lose(self, count: int, *, with_clients: bool = False, replaced_by: Sequence[int] = ()) -> None:
        """Remove the newest entries without a trace, as a restart or a failover of Redis may do.

        :param with_clients: end the connections of all clients, too.
        :param replaced_by: numbers of events that have the positions of the lost ones.
        """
        entries = self.entries()
        kept = entries[:-count]
        with self.raw.pipeline() as pipeline:  # in one step
            if with_clients:
                pipeline.client_kill_filter(_type="normal", skipme=True)
            pipeline.delete(self.key)
            for position, fields in kept:
                pipeline.xadd(self.key, fields, id=position)
            self.seq -= count
            for (position, _), number in zip(entries[-count:], replaced_by, strict=False):
                self.seq += 1
                pipeline.xadd(self.key, _pairs(self.seq, encode_event(numbered(number))), id=position)
            pipeline.execute()

    def flush(self) -> None:
        """Remove the whole stream."""
        self.raw.delete(self.key)
        self.seq = 0


def _pairs(seq: int, fields: list[bytes]) -> dict[Any, Any]:
    return {"seq": seq, **dict(list(pairwise(fields))[::2])}


def numbered(number: int, *, sends_ids: bool = True) -> SSEEvent:
    """Return event number n."""
    if not sends_ids:
        return SSEEvent(str(number))
    return SSEEvent(str(number), id=str(number), last_event_id=str(number))


def data(signals: Iterable[Any]) -> list[str]:
    """Return the data of events, and the names of other signals."""
    return [signal.data if isinstance(signal, SSEEvent) else type(signal).__name__ for signal in signals]
