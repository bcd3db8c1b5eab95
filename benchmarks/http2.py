"""The part `http2`: one fast stream, and many streams on a few connections, beside HTTP/1.1 and httpx with HTTP/2."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import clients
import scale
from throughput import Stream
from verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from measure import Cell
    from plan import Plan
    from spawn import Server, Workers

_FAST = {  # the clients that read one fast stream: over HTTP/2, over HTTP/1.1 for comparison, and the peer
    "sync": (clients.OURS_HTTP2_SYNC, clients.OURS_SYNC, clients.HTTPX_HTTP2_SYNC),
    "async": (clients.OURS_HTTP2_ASYNC, clients.OURS_ASYNC, clients.HTTPX_HTTP2_ASYNC),
}
_MANY = (clients.OURS_HTTP2_SYNC, clients.OURS_HTTP2_ASYNC, clients.OURS_ASYNC, clients.HTTPX_HTTP2_ASYNC)
_PAYLOADS = ("ticks", "llm")
_FRAMINGS = ("chunk-per-event", "blocks")
_OF_HTTP1 = 0.7  # of the throughput over HTTP/1.1
_OF_PEER = 3.0  # times that of httpx-sse over HTTP/2
_STREAMS = 1000
_CONNECTIONS = 10  # at most, for so many streams


def cells(plan: Plan, server: Server, workers: Workers) -> list[tuple[str, Callable[[], list[Cell]]]]:
    """Return the measurements of these cells, by name."""

    def fast(name: str, api: str, payload: str, framing: str, transport: str) -> list[Cell]:
        names = _FAST[api]
        stream = Stream(server, workers, payload, framing, tls=transport == "tls")
        return [stream.measure(plan, name, list(names), (names[0], ""), names[1:2])]

    return [
        *(
            (name, partial(fast, name, api, payload, framing, transport))
            for payload in _PAYLOADS
            for transport in ("plain", "tls")
            for framing in _FRAMINGS
            for api in _FAST
            for name in [f"http2-{api}/{payload}/{framing}/{transport}"]
        ),
        *scale.cells_of("http2", _MANY, plan.http2, plan.http2_window, plan.scale_rounds),
    ]


def judge(cells: dict[str, Cell]) -> Iterable[Verdict]:
    """Return a verdict for each target with measured cells."""
    for api, (ours, http1, peer) in _FAST.items():
        fast = [cell for name, cell in cells.items() if name.startswith(f"http2-{api}/")]
        yield from _judge_fast(f"{api}: at least {_OF_HTTP1} × HTTP/1.1", fast, ours, http1, _OF_HTTP1)
        for framing in _FRAMINGS:
            framed = [cell for cell in fast if f"/{framing}/" in cell.name]
            yield from _judge_fast(f"{api}, {framing}: at least {_OF_PEER} × httpx-sse", framed, ours, peer, _OF_PEER)
    for name in (clients.OURS_HTTP2_SYNC, clients.OURS_HTTP2_ASYNC):
        yield from _judge_many(cells, name)


def _judge_fast(goal: str, cells: list[Cell], ours: str, other: str, least: float) -> Iterable[Verdict]:
    ratios = {cell.name: cell.relative(ours, other) or 0.0 for cell in cells}
    if ratios:
        worst = min(ratios, key=lambda name: ratios[name])
        measured = f"lowest {ratios[worst]:.2f} × ({worst})"
        yield Verdict(f"HTTP/2, one fast stream, {goal}", measured, met=ratios[worst] >= least)


def _judge_many(cells: dict[str, Cell], client: str) -> Iterable[Verdict]:
    connections = cells.get(f"http2/{_STREAMS}/connections")
    if connections is not None:
        count = connections.scores[client].median
        yield Verdict(
            f"{_STREAMS:,} streams, {client}: at most {_CONNECTIONS} connections",
            "not measured" if count is None else f"{count:.0f}",
            met=count is not None and count <= _CONNECTIONS,
        )
    lost = [cell.scores[client] for name, cell in cells.items() if name.startswith("http2/") and "/lost" in name]
    if lost:
        total = sum(sum(score.runs) for score in lost)
        yield Verdict(
            f"HTTP/2, {client}: no lost events",
            f"{total:.0f} lost in {len(lost)} cells",
            met=not total and all(score.runs and not score.note for score in lost),
        )
