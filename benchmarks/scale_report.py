"""The tables of the part `scale`: a row for each client, and its ratio to httpx-sse in the same run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import clients
from measure import number
from scale import PER_CLIENT, PER_RATE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from measure import Cell

OPEN_STREAMS = "Scale: open streams"  # the title of the first table
_PARTS = {  # the title of each part, and the client to compare with
    "scale": ("Scale", clients.HTTPX_ASYNC),
    "http2": ("HTTP/2", clients.HTTPX_HTTP2_ASYNC),
}
_COMPARED = {"open", "peak", "memory", "close", "cpu"}  # facts shown with a ratio
_HEADS = {
    "open": "s to open",
    "peak": "KiB a stream at the peak",
    "memory": "KiB a stream",
    "private": "of which private",
    "close": "s to close",
    "cpu": "µs CPU an event",
    "in time": "% within 1 s",
    "p50": "p50 in ms",
    "p99": "p99 in ms",
    "server lag": "server lag in ms",
}
_NBSP = "\N{NO-BREAK SPACE}"


def tables(cells: Iterable[Cell]) -> list[tuple[str, list[list[str]]]]:
    """Return for each part a table of the open streams, one of the events, and one of the missing results."""
    known = list(cells)
    return [table for part in _PARTS for table in _tables(part, known)]


def _tables(part: str, cells: list[Cell]) -> list[tuple[str, list[list[str]]]]:
    by_name = {cell.name: cell for cell in cells if cell.name.startswith(f"{part}/")}
    if not by_name:
        return []
    title, peer = _PARTS[part]
    groups = list(dict.fromkeys(name.rpartition("/")[0] for name in by_name))  # scale/streams or scale/streams/rate
    opened = [group for group in groups if group.count("/") == 1]
    read = [group for group in groups if group not in opened]
    result = [
        (f"{title}: open streams", _rows(by_name, opened, PER_CLIENT, ["streams"], peer)),
        (f"{title}: events", _rows(by_name, read, PER_RATE, ["streams", "events/s"], peer)),
    ]
    notes = {
        (group, client, score.note): None
        for group in groups
        for name, cell in by_name.items()
        if name.rpartition("/")[0] == group
        for client, score in cell.scores.items()
        if score.note
    }
    if notes:
        rows = [[group, client, note] for group, client, note in notes]
        result.append((f"{title}: results that do not count", [["cell", "client", "reason"], *rows]))
    return result


def _rows(
    cells: dict[str, Cell], groups: list[str], facts: Iterable[str], keys: list[str], peer: str
) -> list[list[str]]:
    facts = [fact for fact in facts if any(f"{group}/{fact}" in cells for group in groups)]
    rows = [[*keys, "client", *(_HEADS.get(fact, fact) for fact in facts)]]
    for group in groups:
        measured = [cells[f"{group}/{fact}"] for fact in facts]
        for client in dict.fromkeys(name for cell in measured for name in cell.scores):
            values = [f"{int(value):,}" for value in group.split("/")[1:]]
            rows.append([*values, client, *(_shown(cell, client, peer) for cell in measured)])
    return rows


def _shown(cell: Cell, client: str, peer: str) -> str:
    score = cell.scores.get(client)
    if score is None or score.median is None:
        return "n/a"
    shown = number(score.median)
    ratio = cell.relative(client, peer)
    if client != peer and ratio is not None and cell.name.rpartition("/")[2] in _COMPARED:
        shown += f" ({ratio:.2f}{_NBSP}×)"
    return shown + (f"{_NBSP}*" if score.note else "")
