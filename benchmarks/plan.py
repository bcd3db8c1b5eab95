"""The number and the length of measurements: in full, or quick."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The number of rounds, and the length of each."""

    rounds: int
    seconds: float  # per round and client in a throughput cell
    stamps: int  # events per latency round
    streams: dict[int, int]  # the number of concurrent streams: seconds
    idle: float  # seconds per round
    mebibytes: tuple[int, ...]  # the sizes of large events
    closes: int  # connections to close per round
    imports: int  # rounds
    scale: dict[int, tuple[int, ...]]  # the number of concurrent streams: events per second in all
    scale_rounds: int
    window: int  # seconds per rate
    http2: dict[int, tuple[int, ...]]  # as `scale`
    http2_window: int
    feed: dict[str, int]  # the number and kind of subscribers: events per second
    ingest: dict[int, int]  # the events in one call: events in all
    delay: tuple[int, ...]  # events per second
    failovers: int


_RATES = (1000, 20_000, 50_000)
FULL = Plan(
    rounds=5,
    seconds=0.25,
    stamps=500,
    streams={1: 3, 100: 3, 1000: 5},
    idle=10,
    mebibytes=(1, 2, 4, 8, 16, 32, 64),
    closes=20,
    imports=15,
    scale={1: _RATES, 100: _RATES, 1000: _RATES, 9500: (1000, 9500, 20_000, 50_000)},
    scale_rounds=1,
    window=10,
    http2={1: (20_000,), 100: (1000, 20_000), 1000: (1000, 20_000)},
    http2_window=5,
    feed={"1 task": 100, "100 tasks": 50, "1,000 tasks": 20, "5,000 tasks": 4, "200 threads": 20},
    ingest={1: 20_000, 64: 100_000},
    delay=(100, 1000),
    failovers=20,
)
QUICK = Plan(
    rounds=3,
    seconds=0.1,
    stamps=300,
    streams={100: 3, 1000: 5},
    idle=10,
    mebibytes=(1, 4, 16, 64),
    closes=10,
    imports=7,
    scale={1: (1000, 20_000), 1000: (1000, 20_000)},
    scale_rounds=1,
    window=3,
    http2={100: (1000, 20_000)},
    http2_window=3,
    feed={"1,000 tasks": 20, "200 threads": 20},
    ingest={1: 5000, 64: 20_000},
    delay=(100,),
    failovers=3,
)
