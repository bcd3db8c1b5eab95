"""The main results in a few sentences and small tables, which the pages of the documentation include.

Only complete results have a summary, not those of single cells.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import clients
import feed_readers
import ingests
from measure import number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from measure import Cell, Score

_PRODUCTS = ("httpx-sse", "launchdarkly", "sseclient-py", "requests-sse", "aiohttp-sse-client2", "aiosonic")
_FLUSHED = "chunk-per-event/plain"  # each event in a chunk of its own, as most servers send them
_BOTH = {"sync": clients.OURS_SYNC, "async": clients.OURS_ASYNC}
_COUNTS = (100, 1_000, 9_500)  # streams
_BUSY_RATE = 20_000  # events/s
_LARGE = 8  # MiB
_BATCH = 64  # events that an ingest stores in one call
_DELAY_RATE = 100  # events/s
_WAYS = {
    feed_readers.SHARED: "``feed.subscribe()``",
    feed_readers.RELAYED: "``feed.arelay()``",
    feed_readers.QUEUES: "one connection, and an ``asyncio.Queue`` for each task",
    feed_readers.CONNECTIONS: "a connection for each task",
    feed_readers.LOWER_BOUND: "resolving a future for each task: the least possible",
}
_NONE = "–"


def summaries(cells: Iterable[Cell]) -> dict[str, str]:
    """Return the text of each file to write, in reStructuredText; not that of a file for which a cell is missing."""
    by_name = {cell.name: cell for cell in cells}
    texts = {}
    writers = {
        "summary": _sentences,
        "comparison": _comparison,
        "scale-summary": _streams,
        "feed-summary": _feeds,
        "redis-summary": _ingests,
    }
    for name, write in writers.items():
        with contextlib.suppress(KeyError, ValueError):
            texts[f"{name}.inc"] = write(by_name)
    return texts


def _sentences(cells: dict[str, Cell]) -> str:
    latency = cells["latency/p50"].scores
    ours = " and ".join(f"{_value(latency[name])} µs ({api})" for api, name in _BOTH.items())
    peer = " and ".join(f"{_value(latency[name])} µs" for name in (clients.HTTPX_SYNC, clients.HTTPX_ASYNC))
    closing = max(
        max(score.runs) for name in cells if name.startswith("close/") for score in cells[name].scores.values()
    )
    idle = max(cells["idle/100 connections/wake-ups"].scores[name].median or 0 for name in _BOTH.values())
    imports = cells["import"].scores
    more = (imports["sseclient_dual"].median or 0.0) - (imports["urllib3"].median or 0.0)
    memory = cells["scale/1000/memory"].scores
    streams = " and ".join(f"{_value(memory[name])} KiB ({api})" for api, name in _BOTH.items())
    short, long = (_leads(cells, *payloads, compiled=True) for payloads in (("ticks", "llm"), ("changes",)))
    with_speedups = [f"**With the extra** ``speedups``: short events {short}, long events {long}."]
    return _bullets(
        f"**Short events** (ticks and LLM tokens, each flushed by the server): {_leads(cells, 'ticks', 'llm')} the "
        "events per second of the fastest other client that loses none.",
        f"**Long events** (1.3 kB of text in several scripts): {_leads(cells, 'changes')} those of the fastest one.",
        *(with_speedups if clients.COMPILED_SYNC in cells[f"sync/llm/{_FLUSHED}"].scores else []),
        f"**Latency**, from the server's write to your code, at the median: {ours}; httpx-sse: {peer}.",
        f"**Many streams**: {streams} for each of 1,000 silent streams; httpx-sse: "
        f"{_value(memory[clients.HTTPX_ASYNC])} KiB.",
        f"**Costs**: {idle:.0f} wake-ups in 10 s with 100 idle connections; at most {number(closing)} ms for "
        f"``close()``; for the import, {number(more)} ms of CPU time more than urllib3's.",
    )


def _leads(cells: dict[str, Cell], *payloads: str, compiled: bool = False) -> str:
    """Return the range of our leads in both APIs."""
    texts = []
    for api, ours in clients.OURS.items():
        leads = [cells[f"{api}/{payload}/{_FLUSHED}"].lead_of(ours[compiled]) or 0.0 for payload in payloads]
        low, high = f"{min(leads):.1f}", f"{max(leads):.1f}"
        texts.append(f"{low} times ({api})" if low == high else f"{low} to {high} times ({api})")
    return " and ".join(texts)


def _streams(cells: dict[str, Cell]) -> str:
    """Return a table of what to expect from hundreds and thousands of streams."""
    head = ["streams", "client", "s to open", "KiB each", "threads"]
    head += [f"{_BUSY_RATE:,} events/s: µs CPU an event", "p99 delay in ms"]
    rows = [head]
    for count in _COUNTS:
        facts = ["open", "memory", "threads", f"{_BUSY_RATE}/cpu", f"{_BUSY_RATE}/p99"]
        for client in (*_BOTH.values(), clients.HTTPX_ASYNC):
            scores = [cells[f"scale/{count}/{fact}"].scores[client] for fact in facts]
            if scores[0].median is not None:
                rows.append([f"{count:,}", client, *map(_value, scores)])
    return table(rows)


def _feeds(cells: dict[str, Cell]) -> str:
    """Return a table of what each consumer of a feed costs."""
    rows = [["", "µs CPU an event and consumer", "KiB a consumer"]]
    for way, title in _WAYS.items():
        scores = [cells[f"feed/1,000 tasks/{fact}"].scores[way] for fact in ("cpu", "memory")]
        rows.append([title, *map(_value, scores)])
    return table(rows)


def _ingests(cells: dict[str, Cell]) -> str:
    """Return what to expect from an ingest, and from the feeds that read its stream."""

    def value(name: str) -> str:
        return _value(cells[name].scores[ingests.ONLY])

    batches = ingests.INGEST.format(_BATCH)
    delay, takeover = ingests.DELAY.format(_DELAY_RATE), ingests.FAILOVER.format(ingests.LEASE)
    return _bullets(
        f"**Events that arrive one by one**: {value(ingests.INGEST.format(1))} stored per second.",
        f"**Waiting events**, in batches of up to {_BATCH}: {value(batches)} stored per second.",
        f"**Memory** of the server: {value(f'{batches}/memory')} bytes per event.",
        f"**Delay** of an event from the upstream to a browser of another process, at {_DELAY_RATE} events per "
        f"second: {value(f'{delay}/p50')} ms at the median, {value(f'{delay}/p99')} ms at the 99th percentile.",
        f"**Takeover** from a killed holder with a lease of {ingests.LEASE:g} s: the next event is stored after "
        f"{value(f'{takeover}/median')} s at the median, and {value(f'{takeover}/worst')} s at most.",
    )


def _comparison(cells: dict[str, Cell]) -> str:
    """Return a table with a column for each client."""
    rows = [["", "this", "this, with ``speedups``", *_PRODUCTS]]
    for title, payload in (("tokens of 250 bytes", "llm"), ("1.3 kB", "changes")):
        rows += [_row(f"{title}, {api}", cells[f"{api}/{payload}/{_FLUSHED}"], api) for api in _BOTH]
    for shape, title in (("line", "in one line"), ("lines", "in short lines")):
        cell = cells[f"large/{shape}/{_LARGE}/time"]
        rows.append(_row(f"{_LARGE} MiB {title}, ms", cell, "sync", "async"))
    return table(rows)


def _row(title: str, cell: Cell, *apis: str) -> list[str]:
    """Return the results of the clients: relative to ours, or in the cell's unit if it has no ratios."""
    row = [title]
    for product in ("sseclient_dual", f"sseclient_dual{clients.SPEEDUPS}", *_PRODUCTS):
        names = [name for name in (*(f"{product} ({api})" for api in apis), product) if name in cell.scores]
        score = cell.scores[names[0]] if names else None
        if score is None:
            row.append(_NONE)
        elif cell.ratios:
            ratio = cell.ratios.get(names[0])
            row.append("1" if product == "sseclient_dual" else f"{1 / ratio:.2f}" if ratio else "n/a")
        else:
            row.append("n/a" if score.median is None else number(score.median))
        if score is not None and score.note and score.median is not None:
            row[-1] += " \\*"
    return row


def _value(score: Score) -> str:
    return "n/a" if score.median is None else number(score.median)


def _bullets(*sentences: str) -> str:
    return "".join(f"- {sentence}\n" for sentence in sentences)


def table(rows: list[list[str]]) -> str:
    """Return a table in reStructuredText, with a head in its first row and column."""
    lines = [".. list-table::", "   :class: results", "   :header-rows: 1", "   :stub-columns: 1", ""]
    for row in rows:
        lines += [f"   {'* -' if place == 0 else '  -'} {value}".rstrip() for place, value in enumerate(row)]
    return "\n".join(lines) + "\n"
