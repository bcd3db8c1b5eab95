"""The cells that tell how many events a second: the parser alone, and end to end."""

from __future__ import annotations

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

_FIRST = 1000  # events of the run that finds out how many make a round
_MOST = {"ticks": 512_000, "llm": 256_000, "changes": 64_000, "full": 256_000}  # events, lest memory be the subject
_LONGEST_STEP = 16
_CUTS = ("64k", "event")  # pieces of 64 KiB, and of one event


def parser_cells(plan: Plan, workers: Workers) -> list[tuple[str, Callable[[], Cell]]]:
    """Return the parser's cells, by name."""

    def cell(name: str, payload: str, cut: str) -> Cell:
        def run(parser: str, count: int) -> dict[str, Any]:
            result = workers.ask(f"parser of {parser}", "parse", parser=parser, payload=payload, cut=cut, count=count)
            return {**result, "note": _losses(result, *result["expected"])}

        return _measure(plan, name, list(parsers.PARSERS), run, _MOST[payload] // 2, ours=parsers.OURS)

    return [
        (name, partial(cell, name, payload, cut))
        for payload in payloads.PAYLOADS
        for cut in _CUTS
        for name in [f"parser/{payload}/{cut}"]
    ]


def end_to_end_cells(plan: Plan, server: Server, workers: Workers) -> list[tuple[str, Callable[[], Cell]]]:
    """Return the cells of whole clients, by name."""

    def cell(name: str, face: str, payload: str, framing: str, *, tls: bool) -> Cell:
        def run(client: str, count: int) -> dict[str, Any]:
            query: dict[str, str | float] = {"payload": payload, "framing": framing, "count": count}
            facts = server.prepare(**query)
            url = server.url("/stream", tls=tls, **query)
            result = workers.ask(client, "consume", client=client, url=url, ca=server.ca if tls else None)
            if client in clients.BYTES:
                whole = facts["wire" if client == clients.SOCKET else "size"]
                note = "" if result["chars"] == whole else f"got {result['chars']} of {whole} bytes"
            else:
                note = _losses(result, facts["count"], facts["chars"])
            return {**result, "note": note, "megabytes": facts["wire"] / count / 1e6}

        names = [*clients.BYTES, *(clients.SYNC if face == "sync" else clients.ASYNC)]
        ours = clients.OURS_SYNC if face == "sync" else clients.OURS_ASYNC
        return _measure(plan, name, names, run, _MOST[payload], ours=ours, outside=tuple(clients.BYTES))

    return [
        (name, partial(cell, name, face, payload, framing, tls=transport == "tls"))
        for payload in payloads.PAYLOADS
        for transport in ("plain", "tls")
        for framing in payloads.FRAMINGS
        for face in ("sync", "async")
        for name in [f"{face}/{payload}/{framing}/{transport}"]
    ]


def _measure(
    plan: Plan,
    name: str,
    names: list[str],
    run: Callable[[str, int], dict[str, Any]],
    most: int,
    *,
    ours: str,
    outside: tuple[str, ...] = (),
) -> Cell:
    """Find out how many events each client takes in about the time of a round, then do the rounds."""
    counts: dict[str, int] = {}
    facts: dict[str, dict[str, Any]] = {}
    notes: dict[str, str] = {}

    def fit(client: str) -> float:
        counts[client] = _fit(client, plan.seconds, run, most)
        return 0.0

    def rate(client: str) -> float:
        result = run(client, counts[client])
        facts[client] = {"events": counts[client], "cpu_us_per_event": result["cpu"] / counts[client] * 1e6}
        if "megabytes" in result:
            facts[client]["megabytes_per_event"] = result["megabytes"]
        notes[client] = notes.get(client) or result["note"]
        return float(counts[client] / result["seconds"])

    first = interleave(names, 1, fit)  # first uses are not measured
    notes |= {client: score.note for client, score in first.items() if score.note}
    able = [client for client in names if not first[client].note]
    scores = interleave(able, plan.rounds, rate)
    cell = Cell(name, "events/s", {}, ours, outside)
    for client in names:
        score = cell.scores[client] = scores.get(client) or Score()
        score.note = score.note or notes.get(client, "")
        score.facts = facts.get(client, {})
    cell.compare()
    return cell


def _fit(client: str, seconds: float, run: Callable[[str, int], dict[str, Any]], most: int) -> int:
    """Return the number of events, a power of two times 1,000, that this client takes about `seconds` for."""
    count = _FIRST
    taken = run(client, count)["seconds"]
    while count < most and taken < seconds / 1.5:
        step = 2
        while step < _LONGEST_STEP and taken * step * 1.5 < seconds:
            step *= 2
        count = min(count * step, most)
        taken = run(client, count)["seconds"]
    return count


def _losses(result: dict[str, Any], count: int, chars: int) -> str:
    if result["count"] != count:
        return f"loses {count - result['count']} of {count} events"
    return "" if result["chars"] == chars else "alters data"
