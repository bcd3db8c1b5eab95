"""What each layer takes of an event, alone and in one thread; and what no parser in Python can do without.

python benchmarks/layers.py
"""
# ruff: noqa: SLF001 - it measures what is inside

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import payloads
from sseclient_dual.event import SSEEvent, weight
from sseclient_dual.handoff import Handoff, ThreadWaiter
from sseclient_dual.parser import EventStreamParser
from sseclient_dual.policy import Deduplicator
from sseclient_dual.transport import _Chunks

if TYPE_CHECKING:
    from collections.abc import Callable

_COUNT = 5000  # events
_READ = 128 * 1024  # bytes that one read brings
_ROUNDS = 15


def main() -> None:
    """Print a table: a column for each payload, in µs an event."""
    columns = {payload: _measure(payload) for payload in payloads.PAYLOADS}
    names = next(iter(columns.values()))
    print(f"{'µs an event':42}" + "".join(f"{payload:>9}" for payload in columns))
    for name in names:
        print(f"{name:42}" + "".join(f"{column[name]:9.2f}" for column in columns.values()))


def _measure(payload: str) -> dict[str, float]:
    events, _ = payloads.events(payload, _COUNT)
    wire = payloads.cut(map(payloads.chunk, events), _READ)
    blocks = payloads.cut(events, _READ)
    texts = [block.decode("utf-8", "replace") for block in blocks]
    values = [event.data for event in _parse(blocks)]

    def chunks() -> None:
        body = _Chunks()
        for block in wire:
            b"".join(body.feed(block))

    def deduplicate() -> Callable[[], None]:
        batches: list[Any] = [_parse([block]) for block in blocks]
        dedup = Deduplicator(1024)
        return lambda: _each(dedup.without_duplicates, batches)

    def queue() -> Callable[[], None]:
        batches = [_parse([block]) for block in blocks]
        handoff, waiter = _roomy(), ThreadWaiter()
        return lambda: _each(lambda batch: handoff.put(batch, waiter, bool, len(batch)), batches)

    return {
        "chunks: one an event, a read at a time": _best(lambda: chunks),
        "parser: a read at a time": _best(lambda: lambda: _parse(blocks)),
        "parser: an event at a time": _best(lambda: lambda: _parse(events)),
        "de-duplication": _best(deduplicate),
        "queue: in": _best(queue),
        "sync face: out, one by one": _best(lambda: _out(_parse(blocks))),
        "async face: out, one by one": _best(lambda: _out_async(_parse(blocks))),
        "floor: decode": _best(lambda: lambda: _each(lambda block: block.decode("utf-8", "replace"), blocks)),
        "floor: split at line ends": _best(lambda: lambda: _each(lambda text: text.split("\n"), texts)),
        "floor: an object an event": _best(lambda: lambda: _each(SSEEvent, values)),
    }


def _best(prepare: Callable[[], Callable[[], object]]) -> float:
    """Return the shortest time that what `prepare` returns takes, in µs an event."""
    taken = []
    for _ in range(_ROUNDS):
        work = prepare()
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return min(taken) / _COUNT * 1e6


def _each(work: Callable[[Any], object], items: list[Any]) -> None:
    for item in items:
        work(item)


def _parse(pieces: list[bytes]) -> list[Any]:
    parser = EventStreamParser()
    return [event for piece in pieces for event in parser.feed(piece)]


def _roomy() -> Handoff[Any]:
    return Handoff(2 * _COUNT, 2**40, weight)


class _Over(Exception):  # noqa: N818 - no error
    """All is handed out, and nobody should wait for more."""


def _connection(events: list[Any]) -> Any:  # noqa: ANN401 - a connection, without its network side
    from sseclient_dual import SSEClient  # noqa: PLC0415

    connection: Any = SSEClient().connect("http://127.0.0.1:9/")
    connection._handoff.taken.extend(events)
    connection._started_in = 0  # in no forked child

    def end(*_: object) -> None:
        raise _Over

    connection._start = connection._handoff.get = connection._handoff.aget = end
    return connection


def _out(events: list[Any]) -> Callable[[], None]:
    connection = _connection(events)

    def work() -> None:
        try:
            for _ in connection:
                pass
        except _Over:
            pass

    return work


def _out_async(events: list[Any]) -> Callable[[], None]:
    connection = _connection(events)

    async def run() -> None:
        try:
            async for _ in connection:
                pass
        except _Over:
            pass

    return lambda: asyncio.run(run())


if __name__ == "__main__":
    main()
