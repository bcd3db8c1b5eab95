"""Fail each allocation of memory during an operation of the compiled core, one after another.

The operation must raise `MemoryError` or have the right result, without a leak. Whole events that it was fed are then
still to come: fed again, they have the result that they would have had.
"""

from __future__ import annotations

import gc
import itertools
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fuzz.speedups import facts, state
from support.implementations import Implementation, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SUCCESSES = 10  # in a row, before an operation is thought to need no more allocations
_MANY = 1000  # events, more than an operation takes
_CRASHES = sys.version_info[:2] in {(3, 12), (3, 13)}  # itself, if there is no memory to run a coroutine
_RUNS = 5  # a leak occurs in each, a cache grows in some
_FIRST = [b"data: first\n\n"]  # afterwards, a parser takes its fast path
_FULL = (
    b"id: 1\nevent: e\nretry: 5\ndata: a\ndata: b\n\n: comment\n\n"
    b"id: 2\nevent: e\ndata: c\n\nid: 3\n\nevent: f\ndata\n\n"
)


@dataclass(frozen=True)
class _Feed:
    """A call of `EventStreamParser.feed`."""

    piece: bytes | bytearray
    before: tuple[bytes, ...] = tuple(_FIRST)
    whole: bool = True  # consists of whole events that nothing is buffered before
    options: tuple[tuple[str, Any], ...] = ()


_FEEDS = {
    "one event": _Feed(b"data: x\n\n"),
    "many events": _Feed(b"data: x\n\n" * 20),
    "all fields": _Feed(_FULL * 3),
    "other characters": _Feed("data: é日本😀\n\n".encode() + b"data: \xff\n\n"),
    "uncommon lines": _Feed(b"data: x\n\ndata: a\nother: x\nretry: 99999999999999999999\n\n" + _FULL),
    "comments": _Feed(_FULL, options=(("comments", True),)),
    "CRLF": _Feed(_FULL.replace(b"\n", b"\r\n")),
    "a bytearray": _Feed(bytearray(_FULL)),
    "the first block": _Feed(_FULL, before=()),
    "an open block": _Feed(b"data: b\n\n" + _FULL, before=(*_FIRST, b"data: a\n"), whole=False),
    "a cut line": _Feed(b"ta: b\n\n" + _FULL + b"data: c", before=(*_FIRST, b"data: a\nda"), whole=False),
    "a malformed line": _Feed(_FULL + b"<html>\n", whole=False),
    "a large event": _Feed(_FULL + b"data: 123456789\n\n", whole=False, options=(("max_event_size", 8),)),
}


def _prepared(implementation: Implementation, feed: _Feed) -> Any:
    parser = implementation.parser.EventStreamParser(**dict(feed.options))
    for piece in feed.before:
        parser.feed(piece)
    return parser


def _result(parser: Any, items: list[Any]) -> tuple[list[tuple[object, ...]], tuple[object, ...]]:
    return [facts(item) for item in items], state(parser)


def _failures(operation: Callable[[], Callable[[], Any]]) -> Iterator[tuple[Any, bool]]:
    """Call a new operation for each of its allocations, which fails alone, or with all later ones.

    Yield the result, and whether that is a `MemoryError`.
    """
    import _testcapi  # type: ignore[import-not-found] # noqa: PLC0415 - not in every Python

    for alone in (True, False):
        successes = 0
        for number in itertools.count():
            call = operation()
            failed = False
            result = None
            _testcapi.set_nomemory(number, number + 1 if alone else 0)
            try:
                result = call()
            except MemoryError:
                failed = True
            finally:
                _testcapi.remove_mem_hooks()
            yield result, failed
            successes = 0 if failed else successes + 1
            if successes == _SUCCESSES:
                break


def _feed(implementation: Implementation, feed: _Feed, expected: Any) -> int:
    parser = _prepared(implementation, feed)
    failures = 0

    def operation() -> Callable[[], Any]:
        nonlocal parser
        parser = _prepared(implementation, feed)
        bound, piece = parser.feed, type(feed.piece)(feed.piece)
        return lambda: bound(piece)

    for result, failed in _failures(operation):
        failures += failed
        if not failed:
            assert _result(parser, result) == expected, (_result(parser, result), expected)
        elif feed.whole:
            # The last event ID may already be a later one, as in the pure code.
            again = [facts(item)[:4] for item in parser.feed(feed.piece)]
            assert again == [item[:4] for item in expected[0]], (again, expected[0])
    return failures


def _operations(implementation: Implementation, results: dict[str, Any]) -> dict[str, Callable[[], int]]:
    """Return the operations by name; each returns how many allocations failed."""
    event = implementation.package.SSEEvent("x", "e", "1", 5)
    events = [implementation.package.SSEEvent(f"{number}") for number in range(_MANY)]
    connection = implementation.package.SSEClient().connect("http://127.0.0.1:9/")
    calls = {
        "make an event": lambda: implementation.package.SSEEvent("x", "e", "1", 5),
        "read an event": lambda: [
            getattr(event, name) for name in ("data", "type", "event", "id", "retry", "origin")
        ],
        "make a parser": implementation.parser.EventStreamParser,
        "execute the module": partial(_execute, implementation.package.speedups._core),
    }
    return {
        **{f"feed {name}": partial(_feed, implementation, feed, results[name]) for name, feed in _FEEDS.items()},
        "take off chunks": partial(_unchunk, implementation),
        "next event": partial(_next, connection, events, _take),
        **({} if _CRASHES else {"next event, async": partial(_next, connection, events, _await)}),
        **{name: partial(_call, call) for name, call in calls.items()},
    }


def _unchunk(implementation: Implementation) -> int:
    block = b"1\r\nx\r\n" * 20 + b"2;extension\r\nyy\r\n" + b"3\r\nzz"
    failures = 0
    for pieces, failed in _failures(lambda: partial(implementation.chunks.Chunks().feed, block)):
        failures += failed
        assert failed or pieces == [b"x"] * 20 + [b"yy", b"zz"], pieces
    return failures


def _take(connection: Any, box: list[Any]) -> None:
    box[0] = next(connection)


def _await(connection: Any, box: list[Any]) -> None:
    async def take() -> None:
        box[0] = await anext(connection)

    with suppress(StopIteration):
        take().send(None)


def _next(connection: Any, events: list[Any], take: Callable[[Any, list[Any]], None]) -> int:
    """Take ready events from a connection: none may be lost, not even if a call fails."""
    connection._started = True
    connection._handoff.ready = iter(events)
    expected = iter(events)
    box: list[Any] = [None]

    def operation() -> Callable[[], None]:
        box[0] = None
        return lambda: take(connection, box)

    failures = 0
    for _, failed in _failures(operation):
        failures += failed
        if box[0] is not None:
            assert box[0] is next(expected)
        else:
            assert failed
    return failures


def _call(function: Callable[[], Any]) -> int:
    return sum(failed for _, failed in _failures(lambda: function))


def _execute(module: Any) -> None:
    module.__spec__.loader.exec_module(module)


def _growth(operation: Callable[[], int]) -> list[int]:
    """Return by how many blocks of memory each run of an operation grows, in order of size."""
    growth = []
    for _ in range(_RUNS):
        gc.collect()
        before = sys.getallocatedblocks()
        operation()
        gc.collect()
        growth.append(sys.getallocatedblocks() - before)
    return sorted(growth)


def inject() -> dict[str, int]:
    """Run all operations; return how many allocations failed in each.

    :raises ImportError: the compiled core is not installed.
    """
    pure, compiled = load(compiled=False), load(compiled=True)
    results = {}
    for name, feed in _FEEDS.items():
        parser = _prepared(pure, feed)
        results[name] = _result(parser, parser.feed(feed.piece))
    failures = {}
    operations = _operations(pure, results)
    gc.freeze()  # so that the collections of `_growth` are fast
    for name, operation in _operations(compiled, results).items():
        failures[name] = operation()
        leaked = _growth(operation)[0]
        # The interpreter leaks, too, in some failures of Python code. The median: a run may free older blocks.
        assert leaked <= 0 or leaked <= _growth(operations[name])[_RUNS // 2], f"{name}: leaks {leaked} blocks"
    gc.unfreeze()
    return failures


def main() -> None:
    """Run all operations, and print how many allocations failed in each."""
    for name, failures in inject().items():
        print(f"{name}: {failures}", flush=True)


if __name__ == "__main__":
    main()
