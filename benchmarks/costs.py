"""The cells other than throughput: latency, many streams, idle connections, large events, close and import."""

from __future__ import annotations

import itertools
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

_INTERVAL = 0.003  # seconds between two time stamps
_WARM_UP = 50  # time stamps that do not count
_IDLE_CONNECTIONS = 100
_SETTLE = 1.0  # seconds between opening the idle connections and measuring
_LARGE_TIMEOUT = 5.0  # seconds for a large event
_STREAM_CLIENTS = (clients.OURS_SYNC, clients.OURS_ASYNC, clients.HTTPX_ASYNC)
_STATES = ("silent", "busy", "backing off")
_UNREACHABLE = "http://127.0.0.1:9/"  # the discard port: nothing listens there
_MODULES = ("sseclient_dual", "urllib3", "ld_eventsource", "sseclient", "httpx_sse", "requests_sse", "aiosonic")
_TIMED_IMPORT = "import time; begin = time.process_time(); import {}; print(time.process_time() - begin)"


def latency(plan: Plan, server: Server, workers: Workers) -> list[Cell]:
    """Measure the time from the server's time stamp to the consumer, in µs."""
    references = (clients.BARE_LOOP, clients.TO_THREAD, clients.TO_LOOP)
    ours = (clients.OURS_SYNC, clients.COMPILED_SYNC, clients.OURS_ASYNC, clients.COMPILED_ASYNC)
    names = (*references, *ours, clients.HTTPX_SYNC, clients.HTTPX_ASYNC)
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
        Cell("latency/p50", "µs", p50, references=references, higher_is_better=False),
        Cell("latency/p99", "µs", p99, references=references, higher_is_better=False),
    ]


def many_streams(plan: Plan, server: Server, streams: int) -> list[Cell]:
    """Measure many streams in one process, one event per second each. Each run has a new process."""
    seconds = plan.streams[streams]
    prefix = f"streams/{streams}"
    units = {
        "growth": "MiB growth",
        "rss": "MiB total",
        "cpu": "s CPU",
        "threads": "threads",
        "lost": "events lost",
    }
    cells = {fact: Cell(f"{prefix}/{fact}", unit, {}, higher_is_better=False) for fact, unit in units.items()}

    def run(name: str) -> float:
        with Worker() as worker:
            url = server.url("/ticks")
            result = worker.ask("many_streams", seconds + 60, client=name, url=url, streams=streams, seconds=seconds)
        for fact, cell in cells.items():
            score = cell.scores.setdefault(name, Score())
            score.runs.append(result[fact])
            score.note = "; ".join(result["errors"])
        return 0.0

    results = interleave((clients.BARE_LOOP, *_STREAM_CLIENTS), plan.rounds, run)
    for cell in cells.values():
        for name, score in results.items():
            if score.note:
                cell.scores.setdefault(name, Score()).note = score.note
    return list(cells.values())


def idle(plan: Plan, server: Server) -> list[Cell]:
    """Measure wake-ups and CPU time of processes with idle connections, through `/proc`."""
    wake_ups = Cell(
        f"idle/{_IDLE_CONNECTIONS} connections/wake-ups", f"per {plan.idle:.0f} s", {}, higher_is_better=False
    )
    cpu = Cell(f"idle/{_IDLE_CONNECTIONS} connections/cpu", f"ms per {plan.idle:.0f} s", {}, higher_is_better=False)
    idle_workers = {name: Worker() for name in _STREAM_CLIENTS}
    try:
        for name, worker in idle_workers.items():
            worker.ask("hold", client=name, url=server.url("/silence"), streams=_IDLE_CONNECTIONS)
        time.sleep(_SETTLE)
        for _ in range(plan.rounds):  # all clients at once: idle processes do not disturb each other
            before = {name: proc.activity(worker.pid) for name, worker in idle_workers.items()}
            time.sleep(plan.idle)
            for name, worker in idle_workers.items():
                after = proc.activity(worker.pid)
                wake_ups.scores.setdefault(name, Score()).runs.append(after[0] - before[name][0])
                cpu.scores.setdefault(name, Score()).runs.append((after[1] - before[name][1]) * 1000)
    finally:
        for worker in idle_workers.values():
            worker.end()
    return [wake_ups, cpu]


def large(plan: Plan, server: Server, shape: str) -> list[Cell]:
    """Measure one large event of growing size. Each run has a new process; after a failure a client is skipped."""
    ours = (clients.OURS_SYNC, clients.OURS_ASYNC)
    peers = [name for name in (*clients.SYNC, *clients.ASYNC) if name not in itertools.chain(*clients.OURS.values())]
    failed: dict[str, str] = {}
    cells = []
    for size in plan.mebibytes:
        memory = Cell(f"large/{shape}/{size}/memory", "MiB growth", {}, higher_is_better=False)

        def run(name: str, size: int = size, memory: Cell = memory) -> float:
            if name in failed:
                raise Failed(failed[name])
            try:
                with Worker() as worker:
                    url = server.url("/large", mib=size, shape=shape)
                    result = worker.ask("large", _LARGE_TIMEOUT, client=name, url=url)
            except Failed as failure:
                failed[name] = f"{failure} at {size} MiB"
                raise
            expected = size * 2**20 - (shape == "lines")
            if (result["count"], result["chars"]) != (1, expected):
                failed[name] = f"loses the event at {size} MiB"
                raise Failed(failed[name])
            memory.scores.setdefault(name, Score()).runs.append(result["growth"])
            return float(result["seconds"] * 1000)

        # One run of a peer shows its order of magnitude.
        scores = interleave(ours, plan.rounds, run) | interleave(peers, 1, run)
        taken = Cell(f"large/{shape}/{size}/time", "ms", scores, higher_is_better=False)
        for name, score in taken.scores.items():
            memory.scores.setdefault(name, Score()).note = score.note
        cells += [taken, memory]
    return cells


def close(plan: Plan, server: Server, workers: Workers) -> list[Cell]:
    """Measure `close()`. The async API awaits it, which includes the end of the thread."""
    urls = dict(zip(_STATES, (server.url("/silence"), server.url("/endless"), _UNREACHABLE), strict=True))
    cells = []
    for state in _STATES:
        worst: dict[str, Score] = {name: Score() for name in (clients.OURS_SYNC, clients.OURS_ASYNC)}

        def run(name: str, state: str = state, worst: dict[str, Score] = worst) -> float:
            api = "async" if name == clients.OURS_ASYNC else "sync"
            taken = workers.ask(name, "close", api=api, state=state, url=urls[state], times=plan.closes)["seconds"]
            worst[name].runs.append(max(taken) * 1000)
            return quantile(taken, 0.5) * 1000

        cells += [
            Cell(f"close/{state}/p50", "ms", interleave(list(worst), plan.rounds, run), higher_is_better=False),
            Cell(f"close/{state}/worst", "ms", worst, higher_is_better=False),
        ]
    return cells


def imports(plan: Plan) -> list[Cell]:
    """Measure the CPU time of `import`, each in a new interpreter, with the files in the page cache."""
    with tempfile.TemporaryDirectory() as cache:
        # Cache the bytecode as pip does: an editable install may have none.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": cache}

        def run(module: str) -> float:
            script = [sys.executable, "-c", _TIMED_IMPORT.format(module)]
            done = subprocess.run(script, check=True, capture_output=True, text=True, env=environment)
            return float(done.stdout) * 1000

        interleave(_MODULES, 1, run)  # fill the bytecode cache and the page cache
        return [Cell("import", "ms CPU", interleave(_MODULES, plan.imports, run), higher_is_better=False)]


def cells(plan: Plan, server: Server, workers: Workers) -> list[tuple[str, Callable[[], list[Cell]]]]:
    """Return the measurements of these cells, by name."""
    return [
        ("latency", partial(latency, plan, server, workers)),
        *((f"streams/{streams}", partial(many_streams, plan, server, streams)) for streams in plan.streams),
        ("idle", partial(idle, plan, server)),
        *((f"large/{shape}", partial(large, plan, server, shape)) for shape in ("line", "lines")),
        ("close", partial(close, plan, server, workers)),
        ("import", partial(imports, plan)),
    ]
