"""The part `feed`: one upstream for many consumers of a process.

The server sends one stream of events, which a worker passes on to all of its subscribers in one of several ways; with
a connection for each subscriber, it sends each event once for each of them. CPU time is observed from outside.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import feed_readers
import proc
from limits import raise_open_files
from measure import Cell, Score, interleave
from spawn import Failed, ScaleServer, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from plan import Plan

FACTS = {  # and their units
    "cpu": "µs CPU an event and subscriber",
    "memory": "KiB a subscriber",
    "p50": "ms until it arrives",
    "p99": "ms until it arrives",
}
_OTHER_FILES = 100
_READY_TIMEOUT = 120.0  # seconds
_READ_TIMEOUT = 60.0


def cells(plan: Plan) -> list[tuple[str, Callable[[], list[Cell]]]]:
    """Return the measurements of these cells, by name."""
    return [(f"feed/{name}", partial(_measure, plan, name)) for name in plan.feed]


def _measure(plan: Plan, name: str) -> list[Cell]:
    count, kind = name.split(" ")
    subscribers, rate = int(count.replace(",", "")), plan.feed[name]
    result = {fact: Cell(f"feed/{name}/{fact}", unit, {}, higher_is_better=False) for fact, unit in FACTS.items()}

    def run(way: str) -> float:
        upstreams = subscribers if way == feed_readers.CONNECTIONS else 1
        if raise_open_files() < upstreams + _OTHER_FILES:
            raise Failed(f"needs {upstreams + _OTHER_FILES:,} open files: raise the limit with ulimit -Hn")
        with ScaleServer() as server, Worker() as worker:
            total = rate * plan.window
            facts = worker.ask(
                "feed", _READY_TIMEOUT, way=way, kind=kind, url=server.url, subscribers=subscribers, total=total
            )
            before = proc.cpu(worker.pid)
            server.tell(rate=rate * upstreams, total=total * upstreams)
            facts |= worker.answer(plan.window + _READ_TIMEOUT)
            facts["cpu"] = (proc.cpu(worker.pid) - before) / (total * subscribers) * 1e6
        for fact, cell in result.items():
            cell.scores.setdefault(way, Score()).runs.append(facts[fact])
        return 0.0

    ways = feed_readers.IN_THREADS if kind == "threads" else feed_readers.IN_TASKS
    for way, score in interleave(ways, plan.scale_rounds, run).items():
        for cell in result.values():
            cell.scores.setdefault(way, Score()).note = score.note
    return list(result.values())
