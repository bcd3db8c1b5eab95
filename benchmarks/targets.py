"""The targets of the benchmark, and whether the results meet them."""

from __future__ import annotations

from statistics import median_high
from typing import TYPE_CHECKING

import clients
import feed_readers
import http2
import scale_targets
from measure import number
from verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from measure import Cell

_LEADS = (  # prefix of the cells, parts of their names, the minimum lead over the fastest peer
    ("parser/", ("64k",), 1.5),
    ("parser/", ("event",), 1.2),
    ("sync/", ("chunk-per-event",), 1.5),
    ("sync/", ("blocks", "close"), 1.2),
    ("async/", ("chunk-per-event",), 3.0),
    ("async/", ("blocks", "close"), 2.0),
)
_SHORT = ("ticks", "llm", "full")
_COMPILED_LEADS = (  # the same with the compiled core
    ("parser/", ("64k", "event"), 2.0),
    ("sync/", _SHORT, 2.0),
    ("async/", _SHORT, 2.5),
    ("sync/", ("changes",), 1.3),
    ("async/", ("changes",), 1.3),
)
_LATENCY = {clients.OURS_SYNC: 60, clients.OURS_ASYNC: 120}  # µs above the bare read loop
_IMPORT = 25  # ms above urllib3
_CLOSE = 100  # ms
_MEMORY = 4  # times the size of the event
_FEED = {"cpu": 10.0, "memory": 5.0}  # µs an event and subscriber; KiB a subscriber, in tasks
_FEW = 100  # subscribers: below, the memory of each is noise, and the costs of an event are those of its reading
_LINEAR = 1.5  # the maximum growth of the time per MiB from the middle to the largest event


def judge(cells: Iterable[Cell]) -> list[Verdict]:
    """Return a verdict for each target with measured cells."""
    by_name = {cell.name: cell for cell in cells}
    return [
        *_leads(by_name),
        *_latencies(by_name),
        *_streams(by_name),
        *_idle(by_name),
        *_large(by_name),
        *_close(by_name),
        *_imports(by_name),
        *scale_targets.judge(by_name),
        *_feeds(by_name),
        *http2.judge(by_name),
    ]


def _leads(cells: dict[str, Cell]) -> Iterable[Verdict]:
    rows = [(row, False) for row in _LEADS] + [(row, True) for row in _COMPILED_LEADS]
    for (prefix, parts, minimum), compiled in rows:
        leads = {}
        for name, cell in cells.items():
            ours = cell.compiled if compiled else cell.ours
            if name.startswith(prefix) and any(f"/{part}" in name for part in parts) and _was_measured(cell, ours):
                leads[name] = cell.lead_of(ours) or 0.0
        if leads:
            worst = min(leads, key=lambda name: leads[name])
            short = [name for name, lead in leads.items() if lead < minimum]
            measured = f"lowest {leads[worst]:.2f} × ({worst}, against {cells[worst].best_peer}), "
            measured += f"median {median_high(leads.values()):.2f} × of {len(leads)} cells"
            if short:
                measured += f"; {len(short)} below the target"
            target = f"{prefix}…/{' or '.join(parts)}: at least {minimum} × the fastest peer"
            if compiled:
                target += f", with {clients.SPEEDUPS}"
            yield Verdict(target, measured, not short)


def _was_measured(cell: Cell, client: str) -> bool:
    return client in cell.scores and bool(cell.scores[client].runs)


def _latencies(cells: dict[str, Cell]) -> Iterable[Verdict]:
    if "latency/p50" not in cells:
        return
    scores = cells["latency/p50"].scores
    for name, limit in _LATENCY.items():
        ours, bare = scores[name].median, scores[clients.BARE_LOOP].median
        if ours is not None and bare is not None:
            more = ours - bare
            yield Verdict(
                f"latency, {name}: p50 at most {limit} µs above the bare read loop", f"{more:+.0f} µs", more <= limit
            )


def _streams(cells: dict[str, Cell]) -> Iterable[Verdict]:
    for fact, goal in (
        ("lost", "no lost events"),
        ("growth", "memory not above httpx-sse"),
        ("cpu", "CPU time not above httpx-sse"),
    ):
        cell = cells.get(f"streams/1000/{fact}")
        if cell is None:
            continue
        peer = cell.scores[clients.HTTPX_ASYNC].median or 0.0
        for name in (clients.OURS_SYNC, clients.OURS_ASYNC):
            ours = cell.scores[name].median
            if ours is None:
                yield Verdict(f"1,000 streams, {name}: {goal}", cell.scores[name].note, met=False)
            else:
                limit = 0.0 if fact == "lost" else peer
                measured = f"{ours:.3g} {cell.unit}" + ("" if fact == "lost" else f", httpx-sse {peer:.3g}")
                yield Verdict(f"1,000 streams, {name}: {goal}", measured, ours <= limit)


def _idle(cells: dict[str, Cell]) -> Iterable[Verdict]:
    for cell in cells.values():
        if cell.name.startswith("idle/") and cell.name.endswith("wake-ups"):
            for name in (clients.OURS_SYNC, clients.OURS_ASYNC):
                ours = cell.scores[name].median
                yield Verdict(
                    f"idle, {name}: no wake-ups", f"{ours:.0f} {cell.unit}" if ours is not None else "?", ours == 0
                )


def _large(cells: dict[str, Cell]) -> Iterable[Verdict]:
    for shape in ("line", "lines"):
        sizes = sorted(
            int(name.split("/")[2]) for name in cells if name.startswith(f"large/{shape}/") and "time" in name
        )
        if not sizes:
            continue
        middle, largest = sizes[len(sizes) // 2], sizes[-1]
        for name in (clients.OURS_SYNC, clients.OURS_ASYNC):
            times = [cells[f"large/{shape}/{size}/time"].scores[name].median for size in (middle, largest)]
            if times[0] is None or times[1] is None:
                yield Verdict(f"large ({shape}), {name}: time linear in size", "failed", met=False)
                continue
            growth = times[1] / times[0] / (largest / middle)
            yield Verdict(
                f"large ({shape}), {name}: time linear in size",
                f"{times[0]:.0f} ms for {middle} MiB, {times[1]:.0f} ms for {largest} MiB: {growth:.2f} × linear",
                growth <= _LINEAR,
            )
            memory = cells[f"large/{shape}/{largest}/memory"].scores[name].median or 0.0
            measured = f"{memory / largest:.1f} × at {largest} MiB"
            yield Verdict(
                f"large ({shape}), {name}: memory at most 4 × the event", measured, memory <= _MEMORY * largest
            )


def _close(cells: dict[str, Cell]) -> Iterable[Verdict]:
    worst = [
        max(score.runs, default=0.0)
        for name, cell in cells.items()
        if name.startswith("close/")
        for score in cell.scores.values()
    ]
    if worst:
        yield Verdict(f"close() within {_CLOSE} ms", f"at most {max(worst):.2f} ms", max(worst) <= _CLOSE)


def _feeds(cells: dict[str, Cell]) -> Iterable[Verdict]:
    for name, cell in cells.items():
        group, _, fact = name.rpartition("/")
        subscribers, _, kind = group.removeprefix("feed/").partition(" ")
        if not name.startswith("feed/") or kind != "tasks" or fact not in _FEED:
            continue
        if int(subscribers.replace(",", "")) > _FEW:
            for way in (feed_readers.SHARED, feed_readers.RELAYED):
                value, limit = cell.scores[way].median, _FEED[fact]
                shown = "failed" if value is None else f"{number(value)} {cell.unit}"
                target = f"{group}, {way}: at most {limit:g} {cell.unit}"
                yield Verdict(target, shown, value is not None and value <= limit)


def _imports(cells: dict[str, Cell]) -> Iterable[Verdict]:
    if "import" in cells:
        scores = cells["import"].scores
        more = (scores["sseclient_dual"].median or 0.0) - (scores["urllib3"].median or 0.0)
        yield Verdict(f"import at most {_IMPORT} ms above urllib3", f"{more:+.1f} ms", more <= _IMPORT)
