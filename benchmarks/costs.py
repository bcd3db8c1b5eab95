"""The other cells: latency, many streams, idle, large events, closing, importing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from typing import TYPE_CHECKING

import clients
import proc
from measure import Cell, Score, interleave, quantile
from spawn import Failed, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from plan import Plan
    from spawn import Server, Workers

_INTERVAL = 0.003  # seconds between two stamps
_WARM_UP = 50  # stamps that are not counted
_SILENT = 100  # connections
_SETTLE = 1.0  # seconds
_PATIENCE = 5.0  # seconds that a large event may take
_STREAMERS = (clients.OURS_SYNC, clients.OURS_ASYNC, clients.HTTPX_ASYNC)
_STATES = ("silent", "busy", "backing off")
_NOWHERE = "http://127.0.0.1:9/"  # the discard port, where nothing listens
_MODULES = ("sseclient_dual", "urllib3", "ld_eventsource", "sseclient", "httpx_sse", "requests_sse", "aiosonic")
_TIMED_IMPORT = "import time; begin = time.process_time(); import {}; print(time.process_time() - begin)"


def latency(plan: Plan, server: Server, workers: Workers) -> list[Cell]:
    """From the server's stamp to the consumer, in µs."""
    floors = (clients.FLOOR, clients.TO_THREAD, clients.TO_LOOP)
    names = (*floors, clients.OURS_SYNC, clients.OURS_ASYNC, clients.HTTPX_SYNC, clients.HTTPX_ASYNC)
    url = server.url("/stamps", count=plan.stamps + _WARM_UP, interval=_INTERVAL)
    p50, p99 = ({name: Score() for name in names} for _ in range(2))

    def run(name: str) -> float:
        taken = [ns / 1000 for ns in workers.ask(name, "latency", client=name, url=url)["ns"]][_WARM_UP:]
        if len(taken) != plan.stamps:
            raise Failed(f"loses {plan.stamps - len(taken)} of {plan.stamps} events")
        p50[name].runs.append(quantile(taken, 0.5))
        p99[name].runs.append(quantile(taken, 0.99))
        return 0.0

    interleave(names, plan.rounds, run)
    return [
        Cell("latency/p50", "µs", p50, outside=floors, highest_wins=False),
        Cell("latency/p99", "µs", p99, outside=floors, highest_wins=False),
    ]


def many(plan: Plan, server: Server, streams: int) -> list[Cell]:
    """Many streams in one process, each an event a second; every run in a fresh process."""
    seconds = plan.streams[streams]
    prefix = f"streams/{streams}"
    units = {
        "growth": "MiB grown",
        "rss": "MiB in all",
        "cpu": "s of CPU",
        "threads": "threads",
        "lost": "events lost",
    }
    cells = {fact: Cell(f"{prefix}/{fact}", unit, {}, highest_wins=False) for fact, unit in units.items()}

    def run(name: str) -> float:
        with Worker() as worker:
            url = server.url("/ticks")
            result = worker.ask("many", seconds + 60, client=name, url=url, streams=streams, seconds=seconds)
        for fact, cell in cells.items():
            score = cell.scores.setdefault(name, Score())
            score.runs.append(result[fact])
            score.note = "; ".join(result["errors"])
        return 0.0

    failed = interleave((clients.FLOOR, *_STREAMERS), plan.rounds, run)
    for cell in cells.values():
        for name, score in failed.items():
            if score.note:
                cell.scores.setdefault(name, Score()).note = score.note
    return list(cells.values())


def idle(plan: Plan, server: Server) -> list[Cell]:
    """A hundred silent connections, looked at from outside for some seconds."""
    switches = Cell(f"idle/{_SILENT} connections/wake-ups", f"in {plan.idle:.0f} s", {}, highest_wins=False)
    cpu = Cell(f"idle/{_SILENT} connections/cpu", f"ms in {plan.idle:.0f} s", {}, highest_wins=False)
    holders = {name: Worker() for name in _STREAMERS}
    try:
        for name, worker in holders.items():
            worker.ask("hold", client=name, url=server.url("/silence"), streams=_SILENT)
        time.sleep(_SETTLE)
        for _ in range(plan.rounds):  # all at once: whoever does nothing disturbs nobody
            before = {name: proc.activity(worker.pid) for name, worker in holders.items()}
            time.sleep(plan.idle)
            for name, worker in holders.items():
                after = proc.activity(worker.pid)
                switches.scores.setdefault(name, Score()).runs.append(after[0] - before[name][0])
                cpu.scores.setdefault(name, Score()).runs.append((after[1] - before[name][1]) * 1000)
    finally:
        for worker in holders.values():
            worker.end()
    return [switches, cpu]


def large(plan: Plan, server: Server, shape: str) -> list[Cell]:
    """One event from 1 MiB on; every run in a fresh process. Who takes too long is spared the larger ones."""
    ours = (clients.OURS_SYNC, clients.OURS_ASYNC)
    peers = [name for name in (*clients.SYNC, *clients.ASYNC) if name not in ours]
    hopeless: dict[str, str] = {}
    cells = []
    for size in plan.mebibytes:
        memory = Cell(f"large/{shape}/{size}/memory", "MiB grown", {}, highest_wins=False)

        def run(name: str, size: int = size, memory: Cell = memory) -> float:
            if name in hopeless:
                raise Failed(hopeless[name])
            try:
                with Worker() as worker:
                    url = server.url("/large", mib=size, shape=shape)
                    result = worker.ask("large", _PATIENCE, client=name, url=url)
            except Failed as failure:
                hopeless[name] = f"{failure} at {size} MiB"
                raise
            expected = size * 2**20 - (shape == "lines")
            if (result["count"], result["chars"]) != (1, expected):
                hopeless[name] = f"loses it at {size} MiB"
                raise Failed(hopeless[name])
            memory.scores.setdefault(name, Score()).runs.append(result["growth"])
            return float(result["seconds"] * 1000)

        scores = interleave(ours, plan.rounds, run) | interleave(peers, 1, run)  # there for the order of magnitude
        taken = Cell(f"large/{shape}/{size}/time", "ms", scores, highest_wins=False)
        for name, score in taken.scores.items():
            memory.scores.setdefault(name, Score()).note = score.note
        cells += [taken, memory]
    return cells


def close(plan: Plan, server: Server, workers: Workers) -> list[Cell]:
    """The time of `close()`; awaited in the async face, which includes the end of the thread."""
    urls = dict(zip(_STATES, (server.url("/silence"), server.url("/endless"), _NOWHERE), strict=True))
    cells = []
    for state in _STATES:
        worst: dict[str, Score] = {name: Score() for name in (clients.OURS_SYNC, clients.OURS_ASYNC)}

        def run(name: str, state: str = state, worst: dict[str, Score] = worst) -> float:
            face = "async" if name == clients.OURS_ASYNC else "sync"
            taken = workers.ask(name, "close", face=face, state=state, url=urls[state], times=plan.closes)["seconds"]
            worst[name].runs.append(max(taken) * 1000)
            return quantile(taken, 0.5) * 1000

        cells += [
            Cell(f"close/{state}/p50", "ms", interleave(list(worst), plan.rounds, run), highest_wins=False),
            Cell(f"close/{state}/worst", "ms", worst, highest_wins=False),
        ]
    return cells


def imports(plan: Plan) -> list[Cell]:
    """The CPU time of `import`, each in a fresh interpreter: with the files in memory it waits for nothing."""
    with tempfile.TemporaryDirectory() as cache:
        # Compiled, as pip installs packages; what is installed to be edited need not be.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": cache}

        def run(module: str) -> float:
            script = [sys.executable, "-c", _TIMED_IMPORT.format(module)]
            done = subprocess.run(script, check=True, capture_output=True, text=True, env=environment)
            return float(done.stdout) * 1000

        interleave(_MODULES, 1, run)  # compiles them; the files come from memory from then on
        return [Cell("import", "ms of CPU", interleave(_MODULES, plan.imports, run), highest_wins=False)]


def cells(plan: Plan, server: Server, workers: Workers) -> list[tuple[str, Callable[[], list[Cell]]]]:
    """Return all of these cells, by name."""
    return [
        ("latency", partial(latency, plan, server, workers)),
        *((f"streams/{streams}", partial(many, plan, server, streams)) for streams in plan.streams),
        ("idle", partial(idle, plan, server)),
        *((f"large/{shape}", partial(large, plan, server, shape)) for shape in ("line", "lines")),
        ("close", partial(close, plan, server, workers)),
        ("import", partial(imports, plan)),
    ]
