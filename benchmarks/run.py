"""Measure, and write the results: `make bench`, `make bench-quick`, or directly.

python benchmarks/run.py                      measure everything; write to docs/benchmarks/
python benchmarks/run.py parser sync/ticks    measure the cells with these prefixes; write to build/benchmarks/
python benchmarks/run.py --quick scale        measure a few cells of these parts quickly; write to build/benchmarks/
python benchmarks/run.py --quick              measure the main table quickly; write to build/benchmarks/
python benchmarks/run.py --redraw             measure nothing; rewrite the tables and the charts in docs/benchmarks/
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import costs
import feeds
import machine
import payloads
import plot
import report
import scale
import scale_plot
import targets
import throughput
from plan import FULL, QUICK
from spawn import Server, Workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from measure import Cell
    from plan import Plan

_ROOT = Path(__file__).parent.parent
_MAIN = tuple(
    f"{api}/{payload}/{framing}/plain"
    for api in ("sync", "async")
    for payload in payloads.PAYLOADS
    for framing in payloads.FRAMINGS
)


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description="Compare sseclient_dual with other clients.")
    parser.add_argument(
        "cells", nargs="*", help="prefixes of cell names; default: all cells, or the main table with --quick"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--list", action="store_true", help="list the cell names; measure nothing")
    parser.add_argument(
        "--redraw", action="store_true", help="measure nothing; rewrite the tables and the charts from results.json"
    )
    parser.add_argument("--output", type=Path, help="folder for results.{json,md,inc} and the charts")
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    wanted = tuple(options.cells) or (_MAIN if options.quick else ("",))
    partial_run = options.quick or bool(options.cells)
    output = options.output or _ROOT / ("build/benchmarks" if partial_run else "docs/benchmarks")
    if options.redraw:
        _write(*report.from_json((output / "results.json").read_text()), output)
        return

    begin, load = time.monotonic(), machine.load()
    results: list[Cell] = []
    workers = Workers()
    with Server() as server:
        try:
            for name, work in _cells(plan, server, workers):
                if name.startswith(wanted):
                    _log(name if options.list else f"{time.monotonic() - begin:6.0f} s  {name}")
                    results += [] if options.list else work()
        finally:
            workers.end()
    if not options.list:
        rounds = f"{plan.rounds} rounds (scale: {plan.scale_rounds})"
        minutes = (time.monotonic() - begin) / 60
        about = {
            **machine.facts(),
            "load average": f"{load} before, {machine.load()} after (2 cores busy: 2.0)",
            "run": f"{'quick, ' if options.quick else ''}{rounds}, {minutes:.1f} min",
            "versions": ", ".join(f"{name} {version}" for name, version in machine.versions().items()),
        }
        _write(results, about, output)


def _cells(plan: Plan, server: Server, workers: Workers) -> list[tuple[str, Callable[[], list[Cell]]]]:
    throughputs = [
        *throughput.parser_cells(plan, workers),
        *throughput.end_to_end_cells(plan, server, workers),
    ]
    return [
        *((name, partial(_single, work)) for name, work in throughputs),
        *costs.cells(plan, server, workers),
        *scale.cells(plan),
        *feeds.cells(plan),
    ]


def _single(work: Callable[[], Cell]) -> list[Cell]:
    return [work()]


def _write(cells: list[Cell], about: dict[str, str], output: Path) -> None:
    headroom = report.server_headroom(cells)
    if headroom is not None:
        about["server"] = (
            f"a bare socket reads at least {headroom[0]:.1f} × as fast as the fastest client (lowest: {headroom[1]})"
        )
    verdicts = targets.judge(cells)
    tables = report.tables(cells, verdicts)
    output.mkdir(parents=True, exist_ok=True)
    (output / "results.json").write_text(report.as_json(cells, verdicts, about))
    (output / "results.md").write_text(report.markdown(tables, about))
    caption = f"{about['CPU']}, {about['Python']}, {about['date']}; {about['run']}"
    plot.draw(cells, output / "end-to-end.svg", caption)
    scale_plot.draw(cells, output / "scale.svg", caption)
    (output / "results.inc").write_text(report.rst(tables, about))
    print("\n".join(f"{name}: {value}" for name, value in about.items()), end="\n\n")
    print(report.text(tables))
    print(f"Written to {output}")


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
