"""A hundred million events through the compiled core: none lost, no growth of memory, no reference lost or kept.

`test_compiled.py` passes some, `make soak ARGS='compiled [events]'` a hundred million in three minutes. Both compile
the current source.
"""

from __future__ import annotations

import gc
import itertools
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.implementations import build, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.implementations import Implementation

EVENTS = 100_000_000
_BLOCKS_A_STREAM = 40
_BLOCK = 64 * 1024  # bytes
_STREAMS = 100  # in a round
_ROUNDS = 3  # at least
_MEBIBYTES = 4  # of noise
_NOISE = 100  # blocks or references; one for each stream or event would be far more
_LINES = [
    b"data: 12345\n\n", b'data: {"delta": " word"}\n\n', b"id: 17\nevent: order\nretry: 3000\ndata: a\ndata: b\n\n",
    b"event: order\ndata: c\n\n", b": comment\n\n", b"id: 18\n\n", "data: Zürich 東京都 😀\n\n".encode(),
    b"data: \xff\n\n", b"data: " + 1000 * b"x" + b"\n\n",
    b"unknown: x\ndata: d\n\n", b"data: e\r\n\r\n", b"data\ndata\n\n",
]  # fmt: skip


def streams(seed: int) -> Iterator[tuple[list[bytes], int]]:
    """Yield endless chunked bodies, cut into blocks, and how many events are in each."""
    rng = random.Random(seed)
    prepared = []
    for weights in ([8] * 8 + [1] * 4, [40, *[1] * 11], [1, 40, *[1] * 10], [1, 1, 40, *[1] * 9], [1] * 12):
        pieces: list[bytes] = []
        size = 0
        while size < _BLOCKS_A_STREAM * _BLOCK:
            pieces += rng.choices(_LINES, weights, k=100)
            size += sum(map(len, pieces[-100:]))
        wire = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        offsets = sorted(rng.sample(range(1, len(wire)), _BLOCKS_A_STREAM))
        blocks = [wire[start:end] for start, end in itertools.pairwise([0, *offsets, len(wire)])]
        prepared.append((blocks, sum(b"data" in piece for piece in pieces)))
    return itertools.cycle(prepared)


def read(implementation: Implementation, blocks: list[bytes]) -> int:
    """Read a stream as a connection does; return the number of events."""
    chunks, parser = implementation.chunks.Chunks(), implementation.parser.EventStreamParser()
    return sum(len(parser.feed(b"".join(chunks.feed(block)))) for block in blocks)


def shared_objects(implementation: Implementation, blocks: list[bytes]) -> dict[str, Any]:
    """Return objects that the core refers to again and again."""
    core = implementation.package.speedups._core
    named = {
        "SSEEvent": implementation.package.SSEEvent, "EventStreamParser": implementation.parser.EventStreamParser,
        "Chunks": implementation.chunks.Chunks, "None": None, "True": True, "False": False, "''": "", "0": 0,
        "blocks": blocks, "a block": blocks[0],
    }  # fmt: skip
    return named | {f"core.{name}": value for name, value in vars(core).items() if isinstance(value, type)}


def soak(events: int, report: Callable[[str], object]) -> list[str]:
    """Pass `events` events through the compiled core; return what was wrong."""
    implementation = load(compiled=True)
    bodies = streams(seed=1)
    blocks, _ = next(bodies)
    shared = shared_objects(implementation, blocks)
    done = lost = rounds = 0
    first: Measure | None = None
    begin = time.monotonic()
    while done < events or rounds < _ROUNDS:
        for blocks, expected in itertools.islice(bodies, _STREAMS):
            received = read(implementation, blocks)
            done += received
            lost += expected - received
        rounds += 1
        last = Measure(shared)
        report(f"{done:,} events in {time.monotonic() - begin:.0f} s, lost {lost}, {last}")
        if rounds > 1:  # the first round fills caches
            first = first or last
    assert first is not None
    return [f"{lost} events lost"] * bool(lost) + last.changes_since(first)


class Measure:
    """The memory of this process, and the references to some objects."""

    def __init__(self, objects: dict[str, Any]) -> None:
        gc.collect()
        self.blocks = sys.getallocatedblocks()
        with Path("/proc/self/status").open(encoding="ascii") as lines:
            self.mebibytes = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))
        self.references = {name: sys.getrefcount(value) for name, value in objects.items()}

    def __str__(self) -> str:
        return f"{self.blocks:,} blocks of memory, {self.mebibytes:.1f} MiB"

    def changes_since(self, first: Measure) -> list[str]:
        """Return what has grown, and whose references have changed."""
        changes = []
        if self.blocks > first.blocks + _NOISE or self.mebibytes > first.mebibytes + _MEBIBYTES:
            changes.append(f"the memory has grown from {first} to {self}")
        for name, count in first.references.items():
            if abs(self.references[name] - count) > _NOISE:
                changes.append(f"the references to {name} have changed from {count} to {self.references[name]}")
        return changes


def main(arguments: list[str]) -> int:
    """Run the soak test, print the progress, and return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        sys.path.insert(0, folder)
        failures = soak(int(arguments[0]) if arguments else EVENTS, lambda line: print(line, flush=True))
    print(*failures or ["no failures"], sep="\n")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
