"""The targets of the part `scale`, and whether the results meet them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import clients
from measure import number
from verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from measure import Cell

_APIS = (clients.OURS_SYNC, clients.OURS_ASYNC)
_PEER = clients.HTTPX_ASYNC
_MEMORY = {clients.OURS_SYNC: 40, clients.OURS_ASYNC: 20}  # KiB a stream; sync with a thread of the consumer
_CPU = 0.5  # times the CPU time of the peer
_CPU_RATES = (1000, 20_000)
_MANY, _MOST = 1000, 9500  # streams
_IN_TIME_RATE = 20_000
_IN_TIME = 99  # %
_SAME = 1.2  # times the memory a stream with `_MANY` streams
_THREADS = 20
_GROWTH = 1.5  # times the CPU time an event of one stream
_SILENT = 100  # streams


def judge(cells: dict[str, Cell]) -> Iterable[Verdict]:
    """Return a verdict for each target with measured cells."""
    for name in _APIS:
        scale = _Results(cells, name)
        yield from scale.memory()
        yield from scale.cpu()
        yield from scale.in_time()
        yield from scale.lost()
        yield from scale.most_streams()
        yield from scale.growth()
        yield from scale.wake_ups()


class _Results:
    """The results of one client."""

    def __init__(self, cells: dict[str, Cell], client: str) -> None:
        self._cells = {name: cell for name, cell in cells.items() if name.startswith("scale/")}
        self._client = client

    def memory(self) -> Iterable[Verdict]:
        cell = self._cells.get(f"scale/{_MANY}/memory")
        if cell is not None:
            limit = _MEMORY[self._client]
            yield self._at_most(f"{_MANY:,} streams: at most {limit} KiB a stream", cell, limit)

    def cpu(self) -> Iterable[Verdict]:
        for rate in _CPU_RATES:
            cell = self._cells.get(f"scale/{_MANY}/{rate}/cpu")
            if cell is not None:
                ratio = cell.relative(self._client, _PEER)
                goal = f"{_MANY:,} streams, {rate:,} events/s: CPU at most {_CPU} × httpx-sse's"
                yield self._verdict(goal, self._shown(cell), met=ratio is not None and ratio <= _CPU)

    def in_time(self) -> Iterable[Verdict]:
        cell = self._cells.get(f"scale/{_MANY}/{_IN_TIME_RATE}/in time")
        if cell is not None:
            share = self._value(cell)
            goal = f"{_MANY:,} streams, {_IN_TIME_RATE:,} events/s: at least {_IN_TIME} % within 1 s"
            yield self._verdict(goal, self._shown(cell), met=share is not None and share >= _IN_TIME)

    def lost(self) -> Iterable[Verdict]:
        lost = {name: cell for name, cell in self._cells.items() if name.endswith("/lost")}
        known = {name: self._value(cell) for name, cell in lost.items() if self._value(cell) is not None}
        if known:
            bad = [name for name in known if known[name] or lost[name].scores[self._client].note]
            measured = f"{sum(value or 0 for value in known.values()):,.0f} lost in {len(known)} cells"
            if bad:
                measured += f"; loses, repeats or does not finish: {', '.join(bad)}"
            yield self._verdict("no lost events", measured, met=not bad)

    def most_streams(self) -> Iterable[Verdict]:
        threads = self._cells.get(f"scale/{_MOST}/threads")
        if threads is None or self._value(threads) is None:
            return  # the sync API is not measured with so many threads of the consumer
        yield self._at_most(f"{_MOST:,} streams: fewer than {_THREADS} threads", threads, _THREADS - 1)
        memory = [self._cells.get(f"scale/{streams}/memory") for streams in (_MANY, _MOST)]
        if memory[0] is not None and memory[1] is not None:
            many, most = self._value(memory[0]), self._value(memory[1])
            if many and most:
                goal = f"{_MOST:,} streams: memory a stream at most {_SAME} × that of {_MANY:,}"
                yield self._verdict(goal, f"{most / many:.2f} ×", met=most <= _SAME * many)

    def growth(self) -> Iterable[Verdict]:
        """Compare one stream with the most streams, at each total rate that both have."""
        for name, cell in self._cells.items():
            _, streams, *rest = name.split("/")
            if int(streams) != _MOST or rest[-1] != "cpu" or f"scale/1/{rest[0]}/cpu" not in self._cells:
                continue
            one, most = self._value(self._cells[f"scale/1/{rest[0]}/cpu"]), self._value(cell)
            if one and most:
                goal = f"CPU an event, 1 to {_MOST:,} streams at {int(rest[0]):,} events/s: at most {_GROWTH} ×"
                yield self._verdict(
                    goal, f"{one:.0f} to {most:.0f} µs: {most / one:.2f} ×", met=most <= _GROWTH * one
                )

    def wake_ups(self) -> Iterable[Verdict]:
        cell = self._cells.get(f"scale/{_SILENT}/wake-ups")
        if cell is not None:
            yield self._at_most(f"{_SILENT} silent streams: no wake-ups", cell, 0)

    def _at_most(self, goal: str, cell: Cell, limit: float) -> Verdict:
        value = self._value(cell)
        return self._verdict(goal, self._shown(cell), met=value is not None and value <= limit)

    def _verdict(self, goal: str, measured: str, *, met: bool) -> Verdict:
        return Verdict(f"scale, {self._client}: {goal}", measured, met)

    def _value(self, cell: Cell) -> float | None:
        return cell.scores[self._client].median if self._client in cell.scores else None

    def _shown(self, cell: Cell) -> str:
        value, peer = self._value(cell), cell.scores[_PEER].median if _PEER in cell.scores else None
        if value is None:
            return cell.scores[self._client].note or "not measured"
        shown = f"{number(value)} {cell.unit}"
        if not peer:
            return shown
        ratio = cell.relative(self._client, _PEER)
        return f"{shown}, httpx-sse {number(peer)}" + ("" if ratio is None else f": {ratio:.2f} ×")
