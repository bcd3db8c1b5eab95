"""The results as tables for the terminal, Markdown and reStructuredText, and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import clients
import parsers
import scale_report
from measure import Cell, Score, number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from verdict import Verdict

Table = tuple[str, list[list[str]]]  # a title, and rows; the first row is the head

_TITLES = {
    "parser": "Parser alone (events/s)",
    "sync": "End to end, sync API (events/s)",
    "async": "End to end, async API (events/s)",
    "latency": "Latency",
    "streams": "Many streams",
    "idle": "Idle connections",
    "large": "Large events",
    "close": "close()",
    "import": "import",
    "feed": "One upstream for many consumers",
    "redis": "From an upstream through Redis to browsers",
    "http2-sync": "One fast stream over HTTP/2, sync API (events/s)",
    "http2-async": "One fast stream over HTTP/2, async API (events/s)",
}
# Our client, without and with the compiled core, in the groups of cells that compare clients.
_COMPARED = {
    "parser": (parsers.OURS, parsers.COMPILED),
    **clients.OURS,
    "http2-sync": (clients.OURS_HTTP2_SYNC, ""),
    "http2-async": (clients.OURS_HTTP2_ASYNC, ""),
}
_IMAGES = {  # the chart above a table, for the page in docs/ that includes the table, and its description
    scale_report.OPEN_STREAMS: (
        "benchmarks/scale.svg",
        "Memory, threads, CPU time and delay of each client, by the number of streams and the total rate of events",
    ),
}
_NBSP = "\N{NO-BREAK SPACE}"


def tables(part: str, cells: Iterable[Cell], verdicts: list[Verdict]) -> list[Table]:
    """Return a table of the verdicts, and a table for each group of cells."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.name.partition("/")[0], []).append(cell)
    result: list[Table] = []
    if verdicts:
        rows = [[verdict.target, verdict.measured, "yes" if verdict.met else "NO"] for verdict in verdicts]
        result.append((f"Targets of the part {part}", [["target", "measured", "met"], *rows]))
    for group, title in _TITLES.items():
        if group in groups:
            result.append((title, _rows(groups[group])))
            notes = [
                [cell.name, name, score.note]
                for cell in groups[group]
                for name, score in cell.scores.items()
                if score.note and not cell.name.endswith("/memory")  # the same notes as for the time
            ]
            if notes:
                result.append((f"{title}: results that do not count", [["cell", "client", "reason"], *notes]))
    return result + scale_report.tables(cell for group in groups.values() for cell in group)


def _rows(cells: list[Cell]) -> list[list[str]]:
    names = list(dict.fromkeys(name for cell in cells for name in cell.scores))
    compared = any(cell.ours for cell in cells)
    rows = [["cell", *(("lead", f"lead{clients.SPEEDUPS}") if compared else ("unit",)), *names]]
    for cell in cells:
        leads = [f"{lead:.2f}{_NBSP}×" if lead else "–" for lead in (cell.lead, cell.lead_of(cell.compiled))]
        results = [_formatted(cell.scores[name]) if name in cell.scores else "" for name in names]
        rows.append([cell.name, *(leads if compared else (cell.unit,)), *results])
    return rows


def _formatted(score: Score) -> str:
    if score.median is None:
        return "n/a" if score.note else ""
    return number(score.median) + (f"{_NBSP}*" if score.note else "")


def text(result: list[Table]) -> str:
    """Return the tables for a terminal."""
    parts = []
    for title, rows in result:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        parts.append("\n".join([title, "-" * len(title), *lines]))
    return "\n\n".join(parts) + "\n"


def markdown(result: list[Table], about: dict[str, str]) -> str:
    """Return the tables as Markdown."""
    parts = ["\n".join(f"- {name}: {value}" for name, value in about.items())]
    for title, rows in result:
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|" + " --- |" * len(rows[0]))
        parts.append("\n".join([f"## {title}", "", *lines]))
    return "\n\n".join(parts) + "\n"


def rst(result: list[Table], about: dict[str, str]) -> str:
    """Return the tables as reStructuredText, for a page to include."""
    parts = ["\n".join(f":{name}: {value}" for name, value in about.items())]
    for title, rows in result:
        image = [f".. image:: {_IMAGES[title][0]}", f"   :alt: {_IMAGES[title][1]}", ""] if title in _IMAGES else []
        lines = [*image, ".. list-table::", "   :class: results", "   :header-rows: 1", ""]
        for row in rows:
            lines += [
                f"   {'* -' if place == 0 else '  -'} {_escaped(value)}".rstrip() for place, value in enumerate(row)
            ]
        parts.append("\n".join([title, "~" * len(title), "", *lines]))
    return "\n\n".join(parts) + "\n"


def _escaped(value: str) -> str:
    for special in "\\*`_|":
        value = value.replace(special, "\\" + special)
    return value


def server_headroom(cells: Iterable[Cell]) -> tuple[float, str] | None:
    """Return the lowest ratio of the bare socket to the fastest client, and its cell."""
    ratios = []
    for cell in cells:
        socket = cell.scores.get(clients.SOCKET)
        others = [score.median for name, score in cell.scores.items() if name not in clients.BYTES and score.median]
        if socket is not None and socket.median and others:
            ratios.append((socket.median / max(others), cell.name))
    return min(ratios, default=None)


def as_json(cells: Iterable[Cell], verdicts: list[Verdict], about: dict[str, str]) -> str:
    """Return all results as JSON, including each run."""
    document: dict[str, Any] = {
        "about": about,
        "targets": [verdict._asdict() for verdict in verdicts],
        "cells": {
            cell.name: {
                "unit": cell.unit,
                "fastest_peer": cell.best_peer if cell.ours else None,
                "lead": cell.lead,
                f"lead{clients.SPEEDUPS}": cell.lead_of(cell.compiled),
                "ratios": cell.ratios,
                "clients": {
                    name: {"median": score.median, "runs": score.runs, "note": score.note, **score.facts}
                    for name, score in cell.scores.items()
                },
            }
            for cell in cells
        },
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def from_json(document: str) -> tuple[list[Cell], dict[str, str]]:
    """Return the cells and the facts about the run that `as_json` wrote."""
    content = json.loads(document)
    cells = []
    for name, values in content["cells"].items():
        scores = {}
        for client, result in values["clients"].items():
            facts = {key: value for key, value in result.items() if key not in {"median", "runs", "note"}}
            scores[client] = Score(result["runs"], result["note"], facts)
        ours = _COMPARED.get(name.partition("/")[0], ("", ""))
        references = (*clients.BYTES, *parsers.IN_NODE, clients.OURS_SYNC, clients.OURS_ASYNC)
        cells.append(Cell(name, values["unit"], scores, *ours, references, ratios=values["ratios"]))
    return cells, content["about"]
