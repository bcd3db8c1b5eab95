"""Measure, and write the results: `make bench`, `make bench-quick`, or directly.

python benchmarks/run.py                      measure all parts; write to docs/benchmarks/
python benchmarks/run.py scale feed           measure these parts; write to docs/benchmarks/
python benchmarks/run.py parser sync/ticks    measure the cells with these prefixes; write to build/benchmarks/
python benchmarks/run.py --quick scale        measure a few cells of these parts quickly; write to build/benchmarks/
python benchmarks/run.py --quick              measure the main table quickly; write to build/benchmarks/
python benchmarks/run.py --redraw             measure nothing; rewrite the tables and the charts in docs/benchmarks/

Each part has results of its own, because each may be measured at another time: clients, scale, feed, redis, http2,
layers, features. The last two are scripts, which print a table each.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import costs
import feeds
import http2
import ingests
import machine
import payloads
import plot
import report
import scale
import scale_plot
import summary
import targets
import throughput
from plan import FULL, QUICK
from spawn import Server, Workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from measure import Cell
    from plan import Plan

_ROOT = Path(__file__).parent.parent
_MEASURED = ("clients", "scale", "feed", "redis", "http2")
_SCRIPTS = {  # the files of each part; for each, the script that prints it, and whether it uses the compiled core
    "layers": {"layers.txt": ("layers.py", False), "layers-speedups.txt": ("layers.py", True)},
    "features": {"features.inc": ("features.py", False)},
}
_PARTS = (*_MEASURED, *_SCRIPTS)
_MAIN = tuple(
    f"{api}/{payload}/{framing}/plain"
    for api in ("sync", "async")
    for payload in payloads.PAYLOADS
    for framing in payloads.FRAMINGS
)
Measurements = list[tuple[str, "Callable[[], list[Cell]]"]]


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description="Compare sseclient_dual with other clients.")
    parser.add_argument(
        "cells", nargs="*", help="parts, or prefixes of cell names; default: all, or the main table with --quick"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--list", action="store_true", help="list the cell names; measure nothing")
    parser.add_argument(
        "--redraw", action="store_true", help="measure nothing; rewrite the tables and the charts from the results"
    )
    parser.add_argument("--output", type=Path, help="folder for the results of each part, and the charts")
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    wanted = tuple(options.cells) or (_MAIN if options.quick else _PARTS)
    is_partial = options.quick or not set(wanted) <= set(_PARTS)
    output = options.output or _ROOT / ("build/benchmarks" if is_partial else "docs/benchmarks")
    if options.redraw:
        for results in output.glob("*.json"):
            _write(results.stem, *report.from_json(results.read_text()), output)
        return

    workers = Workers()
    with Server() as server:
        try:
            for part, measurements in _parts(plan, server, workers).items():
                chosen = [each for each in measurements if part in wanted or each[0].startswith(wanted)]
                if options.list:
                    print(*(name for name, _ in chosen), sep="\n")
                elif chosen:
                    _measure(part, chosen, plan, output, is_quick=options.quick)
        finally:
            workers.end()
    for part in _SCRIPTS:
        if part in wanted and not options.list:
            _run_scripts(part, output)


def _parts(plan: Plan, server: Server, workers: Workers) -> dict[str, Measurements]:
    throughputs = [
        *throughput.parser_cells(plan, workers),
        *throughput.end_to_end_cells(plan, server, workers),
    ]
    return {
        "clients": [
            *((name, partial(_single, work)) for name, work in throughputs),
            *costs.cells(plan, server, workers),
        ],
        "scale": scale.cells(plan),
        "feed": feeds.cells(plan),
        "redis": ingests.cells(plan),
        "http2": http2.cells(plan, server, workers),
    }


def _measure(part: str, measurements: Measurements, plan: Plan, output: Path, *, is_quick: bool) -> None:
    begin, load = time.monotonic(), machine.load()
    results: list[Cell] = []
    for name, work in measurements:
        print(f"{time.monotonic() - begin:6.0f} s  {name}", file=sys.stderr, flush=True)
        results += work()
    rounds = plan.rounds if part == "clients" else plan.scale_rounds
    minutes = (time.monotonic() - begin) / 60
    about = {
        **machine.facts(),
        "load average": f"{load} before, {machine.load()} after (2 cores busy: 2.0)",
        "run": f"{'quick, ' if is_quick else ''}{rounds} round{'s' * (rounds > 1)}, {minutes:.1f} min",
        "versions": ", ".join(f"{name} {version}" for name, version in machine.versions().items()),
    }
    _write(part, results, about, output)


def _run_scripts(part: str, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for name, (script, is_compiled) in _SCRIPTS[part].items():
        if is_compiled and importlib.util.find_spec("sseclient_dual_speedups") is None:
            continue
        print(f"{script} > {output / name}", file=sys.stderr, flush=True)
        command = [sys.executable, str(Path(__file__).with_name(script))]
        environment = {**os.environ, "SSECLIENT_DUAL_SPEEDUPS": str(int(is_compiled))}
        table = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
        (output / name).write_text(table)


def _single(work: Callable[[], Cell]) -> list[Cell]:
    return [work()]


def _write(part: str, cells: list[Cell], about: dict[str, str], output: Path) -> None:
    tables = write_tables(part, cells, about, output)
    caption = f"{about['CPU']}, {about['Python']}, {about['date']}; {about['run']}"
    plot.draw(cells, output / "end-to-end.svg", caption)
    scale_plot.draw(cells, output / "scale.svg", caption)
    print("\n".join(f"{name}: {value}" for name, value in about.items()), end="\n\n")
    print(report.text(tables))
    print(f"Written to {output}/{part}.*")


def write_tables(part: str, cells: list[Cell], about: dict[str, str], output: Path) -> list[report.Table]:
    """Write the results of a part, and all tables that contain them."""
    headroom = report.server_headroom(cells)
    if headroom is not None:
        about["server"] = (
            f"a bare socket reads at least {headroom[0]:.1f} × as fast as the fastest client (lowest: {headroom[1]})"
        )
    verdicts = targets.judge(cells)
    tables = report.tables(part, cells, verdicts)
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{part}.json").write_text(report.as_json(cells, verdicts, about))
    (output / f"{part}.md").write_text(report.markdown(tables, about))
    first = 1 if verdicts else 0
    (output / f"{part}.inc").write_text(report.rst(tables[first:], about))
    if verdicts:
        (output / f"{part}-targets.inc").write_text(report.rst(tables[:first], {}))
    measured = [report.from_json(results.read_text())[0] for results in output.glob("*.json")]
    for name, text in summary.summaries(chain.from_iterable(measured)).items():
        (output / name).write_text(text)
    return tables


if __name__ == "__main__":
    main()
