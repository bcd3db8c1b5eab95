"""The throughput cells, in events per second: the parser alone, and end to end."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import clients
import parsers
import payloads
from measure import Cell, Score, interleave

if TYPE_CHECKING:
    from collections.abc import Callable

    from plan import Plan
    from spawn import Server, Workers

_INITIAL_EVENTS = 1000  # of the first run, which finds the number of events for a round
_MAX_EVENTS = {"ticks": 512_000, "llm": 256_000, "changes": 64_000, "full": 256_000}  # limits the memory
_MAX_STEP = 16  # the factor between two runs that find the number of events
_CUTS = ("64k", "event")  # the pieces to parse: 64 KiB, or one event


def parser_cells(plan: Plan, workers: Workers) -> list[tuple[str, Callable[[], Cell]]]:
    """Return the measurements of the parser cells, by name."""

    def cell(name: str, payload: str, cut: str) -> Cell:
        def run(parser: str, count: int) -> dict[str, Any]:
            result = workers.ask(f"parser of {parser}", "parse", parser=parser, payload=payload, cut=cut, count=count)
            return {**result, "note": _losses(result, *result["expected"])}

        names = [*parsers.PARSERS, *parsers.IN_NODE]
        references = tuple(parsers.IN_NODE)
        ours = parsers.OURS, parsers.COMPILED
        return _measure(plan, name, names, run, _MAX_EVENTS[payload] // 2, ours=ours, references=references)

    return [
        (name, partial(cell, name, payload, cut))
        for payload in payloads.PAYLOADS
        for cut in _CUTS
        for name in [f"parser/{payload}/{cut}"]
    ]


def end_to_end_cells(plan: Plan, server: Server, workers: Workers) -> list[tuple[str, Callable[[], Cell]]]:
    """Return the measurements of whole clients, by name."""

    def cell(name: str, api: str, payload: str, framing: str, transport: str) -> Cell:
        peers = clients.SYNC if api == "sync" else clients.ASYNC
        stream = Stream(server, workers, payload, framing, tls=transport == "tls")
        return stream.measure(plan, name, [*clients.BYTES, *peers], clients.OURS[api], tuple(clients.BYTES))

    return [
        (name, partial(cell, name, api, payload, framing, transport))
        for payload in payloads.PAYLOADS
        for transport in ("plain", "tls")
        for framing in payloads.FRAMINGS
        for api in ("sync", "async")
        for name in [f"{api}/{payload}/{framing}/{transport}"]
    ]


@dataclass(frozen=True)
class Stream:
    """A stream that the server sends as fast as a client reads it."""

    server: Server
    workers: Workers
    payload: str
    framing: str
    tls: bool = field(kw_only=True)

    def measure(
        self, plan: Plan, name: str, names: list[str], ours: tuple[str, str], references: tuple[str, ...]
    ) -> Cell:
        """Measure these clients."""
        return _measure(plan, name, names, self._read, _MAX_EVENTS[self.payload], ours=ours, references=references)

    def _read(self, client: str, count: int) -> dict[str, Any]:
        query: dict[str, str | float] = {"payload": self.payload, "framing": self.framing, "count": count}
        facts = self.server.prepare(**query)
        url = self.server.url("/stream", tls=self.tls, **query)
        result = self.workers.ask(client, "consume", client=client, url=url, ca=self.server.ca if self.tls else None)
        if client in clients.BYTES:
            whole = facts["wire" if client == clients.SOCKET else "size"]
            note = "" if result["chars"] == whole else f"got {result['chars']} of {whole} bytes"
        else:
            note = _losses(result, facts["count"], facts["chars"])
        return {**result, "note": note, "megabytes": facts["wire"] / count / 1e6}


def _measure(
    plan: Plan,
    name: str,
    names: list[str],
    run: Callable[[str, int], dict[str, Any]],
    max_events: int,
    *,
    ours: tuple[str, str],
    references: tuple[str, ...] = (),
) -> Cell:
    """Find the number of events for a round of each client, then run the rounds."""
    counts: dict[str, int] = {}
    facts: dict[str, dict[str, Any]] = {}
    notes: dict[str, str] = {}

    def fit(client: str) -> float:
        counts[client] = _fit(client, plan.seconds, run, max_events)
        return 0.0

    def rate(client: str) -> float:
        result = run(client, counts[client])
        facts[client] = {"events": counts[client], "cpu_us_per_event": result["cpu"] / counts[client] * 1e6}
        if "megabytes" in result:
            facts[client]["megabytes_per_event"] = result["megabytes"]
        notes[client] = notes.get(client) or result["note"]
        return float(counts[client] / result["seconds"])

    first = interleave(names, 1, fit)  # also the warm-up
    notes |= {client: score.note for client, score in first.items() if score.note}
    able = [client for client in names if not first[client].note]
    scores = interleave(able, plan.rounds, rate)
    cell = Cell(name, "events/s", {}, *ours, references)
    for client in names:
        score = cell.scores[client] = scores.get(client) or Score()
        score.note = score.note or notes.get(client, "")
        score.facts = facts.get(client, {})
    cell.compare()
    return cell


def _fit(client: str, seconds: float, run: Callable[[str, int], dict[str, Any]], max_events: int) -> int:
    """Return the number of events, 1,000 times a power of two, that this client reads in about `seconds`."""
    count = _INITIAL_EVENTS
    taken = run(client, count)["seconds"]
    while count < max_events and taken < seconds / 1.5:
        step = 2
        while step < _MAX_STEP and taken * step * 1.5 < seconds:
            step *= 2
        count = min(count * step, max_events)
        taken = run(client, count)["seconds"]
    return count


def _losses(result: dict[str, Any], count: int, chars: int) -> str:
    if result["count"] != count:
        return f"loses {count - result['count']} of {count} events"
    return "" if result["chars"] == chars else "alters data"
