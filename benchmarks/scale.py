"""The part `scale`: many streams in one process, at several rates of events.

Each client opens its streams once, in a new process. They are silent for a while; then the client reads at each rate
in turn. Memory, threads, CPU time and wake-ups are observed from outside.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import clients
import proc
from limits import raise_open_files
from measure import Cell, Score, interleave
from spawn import Failed, ScaleServer, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from plan import Plan

CLIENTS = (clients.OURS_SYNC, clients.OURS_ASYNC, clients.HTTPX_ASYNC)
PER_CLIENT = {  # the facts about open streams, and their units
    "open": "s to open",
    "peak": "KiB a stream, peak",
    "memory": "KiB a stream",
    "private": "KiB a stream, private",
    "threads": "threads",
    "connections": "connections",
    "wake-ups": "wake-ups while silent",
    "close": "s to close",
}
PER_RATE = {  # the facts about reading at one rate, and their units
    "cpu": "µs CPU an event",
    "in time": "% within 1 s",
    "p50": "ms",
    "p99": "ms",
    "late": "events later than 1 s",
    "lost": "events lost",
    "server lag": "ms",
}
_WATCHER = 1  # the thread with which the worker watches this process
_MAX_SYNC_STREAMS = 1000  # the consumer has a thread for each
_OTHER_FILES = 100  # open files besides the streams
_OPEN_TIMEOUT = 600.0  # seconds, as below; the pool of httpx takes quadratic time to open and to close
_SEND_TIMEOUT = 120.0
_READ_TIMEOUT = 60.0  # after the last event of a rate has been created
_END_TIMEOUT = 600.0
_SILENCE = 3.0
_MAX_SILENCES = 6  # the first is for settling
_STEADY = 64  # KiB


def cells(plan: Plan) -> list[tuple[str, Callable[[], list[Cell]]]]:
    """Return the measurements of these cells, by name."""
    return cells_of("scale", CLIENTS, plan.scale, plan.window, plan.scale_rounds)


def cells_of(
    part: str, names: tuple[str, ...], rates: dict[int, tuple[int, ...]], window: int, rounds: int
) -> list[tuple[str, Callable[[], list[Cell]]]]:
    """Return the measurements of the clients with these names, by name.

    :param rates: the numbers of streams, and the rates of each.
    :param window: seconds per rate.
    """
    return [
        (f"{part}/{streams}", partial(_measure, f"{part}/{streams}", names, streams, rates[streams], window, rounds))
        for streams in rates
    ]


def _measure(
    group: str, names: tuple[str, ...], streams: int, rates: tuple[int, ...], window: int, rounds: int
) -> list[Cell]:
    units = {f"{group}/{fact}": unit for fact, unit in PER_CLIENT.items()}
    for rate in rates:
        units |= {f"{group}/{rate}/{fact}": unit for fact, unit in PER_RATE.items()}
    result = {name: Cell(name, unit, {}, higher_is_better=False) for name, unit in units.items()}

    def run(client: str) -> float:
        _check_limits(client, streams)
        with ScaleServer() as server, Worker() as worker:
            reading = _Reading(server, worker, client, streams)
            try:
                reading.run(rates, window)
            finally:  # keep what was measured before a failure
                for fact, value in reading.facts.items():
                    result[f"{group}/{fact}"].scores.setdefault(client, Score()).runs.append(value)
                for fact, note in reading.notes.items():
                    result[f"{group}/{fact}"].scores.setdefault(client, Score()).note = note
        return 0.0

    for client, score in interleave(names, rounds, run).items():
        for cell in result.values():
            kept = cell.scores.setdefault(client, Score())
            if not kept.runs:
                kept.note = kept.note or score.note
    return list(result.values())


def _check_limits(client: str, streams: int) -> None:
    if not clients.is_async(client) and streams > _MAX_SYNC_STREAMS:
        raise Failed(f"not measured above {_MAX_SYNC_STREAMS:,} streams: a consumer thread for each")
    needed, limit = streams + _OTHER_FILES, raise_open_files()
    if limit < needed:
        raise Failed(f"needs {needed:,} open files, but the limit is {limit:,}: raise it with ulimit -Hn {needed}")


class _Reading:
    """One run of one client."""

    def __init__(self, server: ScaleServer, worker: Worker, client: str, streams: int) -> None:
        self._server = server
        self._worker = worker
        self._client = client
        self._streams = streams
        self.facts: dict[str, float] = {}
        self.notes: dict[str, str] = {}
        """Why a fact does not count, by its name."""

    def run(self, rates: tuple[int, ...], seconds: int) -> None:
        """Open the streams, read at each rate, and close.

        :raises Failed: the client fails, or does not finish.
        """
        totals = {rate: rate * seconds for rate in rates}
        self._open(list(totals.values()))
        for place, (rate, total) in enumerate(totals.items(), 1):
            if not self._read(rate, total, sum(list(totals.values())[:place])):
                self._note(rates[place:], f"not measured: too slow at {rate:,} events/s")
                break
        self.facts["threads"] = max(self.facts["threads"], proc.threads(self._worker.pid) - _WATCHER)
        self._close(totals)

    def _open(self, totals: list[int]) -> None:
        opened = self._worker.ask(
            "scale", _OPEN_TIMEOUT, client=self._client, url=self._server.url, streams=self._streams, totals=totals
        )
        before, pid = opened["before"], self._worker.pid
        wake_ups = _settle(pid)
        after = proc.memory(pid)
        self.facts |= {
            "open": opened["seconds"],
            "peak": (opened["peak"] - before["rss"]) / self._streams,
            "memory": (after.rss - before["rss"]) / self._streams,
            "private": (after.private - before["private"]) / self._streams,
            "threads": proc.threads(pid) - _WATCHER,
            "wake-ups": wake_ups,
        }

    def _read(self, rate: int, total: int, received: int) -> bool:
        """Read `total` events, until there are `received` in all; return False if the client is too slow."""
        before = proc.cpu(self._worker.pid)
        self._server.tell(rate=rate, total=total)
        sent = self._server.line(_SEND_TIMEOUT)
        self.facts[f"{rate}/server lag"] = sent["lag"] * 1000
        self.facts["connections"] = sent["connections"]
        try:
            answer = self._worker.answer(_READ_TIMEOUT)
            while answer.get("received", received) < received:  # reading threads may repeat the previous answer
                answer = self._worker.answer(_READ_TIMEOUT)
        except Failed as failure:
            self._note((rate,), f"reading {failure}")
            return False
        if "windows" in answer:
            raise Failed(f"all streams end: {(answer['errors'] or ['no error'])[0]}")
        self.facts[f"{rate}/cpu"] = (proc.cpu(self._worker.pid) - before) / total * 1e6
        return True

    def _close(self, totals: dict[int, int]) -> None:
        begin = time.monotonic()
        self._server.tell(end=True)
        result = self._worker.answer(_END_TIMEOUT)
        while "windows" not in result:  # a late answer about a rate
            result = self._worker.answer(_END_TIMEOUT)
        if result["errors"]:
            raise Failed(f"{len(result['errors'])} streams fail: {result['errors'][0]}")
        self.facts["close"] = result["ended"] - begin
        for (rate, total), window in zip(totals.items(), result["windows"], strict=False):
            self.facts |= {f"{rate}/{fact}": window[fact] for fact in ("p50", "p99", "late", "lost")}
            self.facts[f"{rate}/in time"] = 100 * (1 - (window["late"] + window["lost"]) / total)
            if window["repeated"]:
                self.notes[f"{rate}/lost"] = f"repeats {window['repeated']} events"

    def _note(self, rates: tuple[int, ...], note: str) -> None:
        self.notes |= {f"{rate}/{fact}": note for rate in rates for fact in PER_RATE}


def _settle(pid: int) -> int:
    """Wait until memory and threads no longer change; return the wake-ups of the last `_SILENCE` seconds."""
    wake_ups = 0
    before = (0, 0)
    for _ in range(_MAX_SILENCES):
        switches = proc.activity(pid)[0]
        time.sleep(_SILENCE)
        wake_ups = proc.activity(pid)[0] - switches
        after = (proc.memory(pid).rss, proc.threads(pid))
        if abs(after[0] - before[0]) < _STEADY and after[1] == before[1]:
            break
        before = after
    return wake_ups
