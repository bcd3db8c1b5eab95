"""How much is measured: in full, or quickly."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """How many rounds, and how long each takes."""

    rounds: int
    seconds: float  # of a round of a client in a cell of throughput
    stamps: int  # events of a round of latency
    streams: dict[int, int]  # how many at once: for how many seconds
    idle: float  # seconds
    mebibytes: tuple[int, ...]  # of a large event
    closes: int  # connections closed a round
    imports: int  # rounds


FULL = Plan(
    rounds=5,
    seconds=0.25,
    stamps=500,
    streams={1: 3, 100: 3, 1000: 5},
    idle=10,
    mebibytes=(1, 2, 4, 8, 16, 32, 64),
    closes=20,
    imports=15,
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
)
