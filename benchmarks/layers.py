"""Measure the time per event of each layer, alone and in one thread, and lower bounds for any parser in Python.

make bench ARGS=layers                                     both tables for docs/performance.rst
SSECLIENT_DUAL_SPEEDUPS=0 python benchmarks/layers.py      that of the Python code
python benchmarks/layers.py                                that of the compiled core, if it is installed
"""
# ruff: noqa: SLF001 - it measures internals

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import payloads
from sseclient_dual import speedups_active
from sseclient_dual.dedup import Deduplicator
from sseclient_dual.event import SSEEvent, weight
from sseclient_dual.handoff import Handoff
from sseclient_dual.parser import EventStreamParser
from sseclient_dual.transport.chunks import Chunks
from sseclient_dual.waiting import ThreadWaiter

if TYPE_CHECKING:
    from collections.abc import Callable

_COUNT = 5000  # events
_READ = 128 * 1024  # bytes per read
_ROUNDS = 15


def main() -> None:
    """Print a table in µs per event, with a column for each payload."""
    columns = {payload: _measure(payload) for payload in payloads.PAYLOADS}
    names = next(iter(columns.values()))
    title = "µs per event" + ", with the compiled core" * speedups_active
    print(f"{title:42}" + "".join(f"{payload:>9}" for payload in columns))
    for name in names:
        print(f"{name:42}" + "".join(f"{column[name]:9.2f}" for column in columns.values()))


def _measure(payload: str) -> dict[str, float]:
    events, _ = payloads.events(payload, _COUNT)
    wire = payloads.cut(map(payloads.chunk, events), _READ)
    blocks = payloads.cut(events, _READ)
    texts = [block.decode("utf-8", "replace") for block in blocks]
    values = [event.data for event in _parse(blocks)]

    def chunks() -> None:
        body = Chunks()
        for block in wire:
            b"".join(body.feed(block))

    def deduplicate() -> Callable[[], None]:
        batches = _batches(blocks)
        dedup = Deduplicator(1024)
        return lambda: _each(dedup.without_duplicates, batches)

    def queue() -> Callable[[], None]:
        batches = _batches(blocks)
        handoff, waiter = _unbounded_handoff(), ThreadWaiter()
        return lambda: _each(lambda batch: handoff.offer(batch, waiter, len(batch)), batches)

    return {
        "chunked framing: one chunk per event": _shortest(lambda: chunks),
        "parser: one read per call": _shortest(lambda: lambda: _parse(blocks)),
        "parser: one event per call": _shortest(lambda: lambda: _parse(events)),
        "deduplication": _shortest(deduplicate),
        "queue: put": _shortest(queue),
        "sync API: take one event": _shortest(lambda: _take(_parse(blocks))),
        "async API: take one event": _shortest(lambda: _take_async(_parse(blocks))),
        "lower bound: decode": _shortest(
            lambda: lambda: _each(lambda block: block.decode("utf-8", "replace"), blocks)
        ),
        "lower bound: split into lines": _shortest(lambda: lambda: _each(lambda text: text.split("\n"), texts)),
        "lower bound: create one object per event": _shortest(lambda: lambda: _each(SSEEvent, values)),
    }


def _shortest(prepare: Callable[[], Callable[[], object]]) -> float:
    """Return the shortest time of the function that `prepare` returns, in µs per event."""
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
    return _all([event for piece in pieces for event in parser.feed(piece)])


def _batches(pieces: list[bytes]) -> list[list[Any]]:
    """Return the events of each piece, from one parser: a piece may end in the middle of an event."""
    parser = EventStreamParser()
    batches: list[list[Any]] = [parser.feed(piece) for piece in pieces]
    _all([event for batch in batches for event in batch])
    return batches


def _all(events: list[Any]) -> list[Any]:
    """Return `events`, which must be all events of the payload."""
    if len(events) != _COUNT:
        raise RuntimeError(f"{len(events)} of {_COUNT} events were parsed")
    return events


def _unbounded_handoff() -> Handoff[Any]:
    return Handoff(2 * _COUNT, 2**40, weight)


class _Exhausted(Exception):  # noqa: N818 - not an error
    """The consumer has taken all events."""


def _connection(events: list[Any]) -> Any:  # noqa: ANN401 - a connection without its thread
    from sseclient_dual import SSEClient  # noqa: PLC0415

    connection: Any = SSEClient().connect("http://127.0.0.1:9/")
    connection._handoff.ready = iter(events)
    connection._started = True

    def end(*_: object) -> None:
        raise _Exhausted

    connection._handoff.get = connection._handoff.aget = end
    return connection


def _take(events: list[Any]) -> Callable[[], None]:
    connection = _connection(events)

    def work() -> None:
        try:
            for _ in connection:
                pass
        except _Exhausted:
            pass

    return work


def _take_async(events: list[Any]) -> Callable[[], None]:
    connection = _connection(events)

    async def run() -> None:
        try:
            async for _ in connection:
                pass
        except _Exhausted:
            pass

    return lambda: asyncio.run(run())


if __name__ == "__main__":
    main()
