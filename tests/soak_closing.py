"""The long version of test_closing.py: `make soak ARGS='closing [closes]'`, two minutes.

Every state by every way, again and again; a process for each state, face and ending; and a busy TLS stream closed a
thousand times by each face.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from closings import BOUND, ENDINGS, PLACES, WAYS, Tally, close_busy, end_process, place_name, play, quiet
from conftest import Leftovers, make_tls

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSES = 1000
ROUNDS = 10  # of every state by every way


class Report:
    """Runs what has a promise to keep, and notes where that is broken."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def run(self, what: str, act: Callable[[], float | None], tally: Tally) -> bool:
        """Have `act` add its seconds, if it has any, to `tally`; tell whether its promise was kept."""
        try:
            seconds = act()
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - all is told in the end
            self.note(f"{what}: {error!r}")
            return False
        if seconds is not None:
            tally.seconds.append(seconds)
        return True

    def note(self, wrong: str) -> None:
        """Tell of a promise that is broken."""
        self.wrong.append(wrong)
        print(f"WRONG: {wrong}", flush=True)

    def check(self, what: str, tally: Tally) -> None:
        """Tell what `tally` came to, and whether that is in bounds."""
        print(f"{what}: {tally}", flush=True)
        if tally.p99 >= BOUND:
            self.note(f"{what}: p99 is {1000 * tally.p99:.0f} ms, not below {1000 * BOUND:.0f} ms")


def main() -> int:
    """Close, tell how it goes, and return the exit status."""
    quiet()
    closes = int(sys.argv[1]) if len(sys.argv) > 1 else CLOSES
    begin, report = time.monotonic(), Report()
    with tempfile.TemporaryDirectory() as folder:
        tls = make_tls(Path(folder))
        cells = list(itertools.product(PLACES, WAYS))
        tally = Tally()
        for _, (place, way) in itertools.product(range(ROUNDS), cells):
            state, secure = place
            what = f"{place_name(place)}, {way.__name__}"
            report.run(what, lambda: play(state, way, tls, secure=secure), tally)
        report.check(f"{len(PLACES)} states x {len(WAYS)} ways x {ROUNDS} rounds", tally)

        exits = Tally()
        for place, face, ending in itertools.product(PLACES, ("sync", "async"), ENDINGS):
            what = f"{place_name(place)}, {face}, {ending}"
            report.run(what, lambda: end_process([place], face, ending, tls), exits)
        print(
            f"{len(PLACES)} states x 2 faces x {len(ENDINGS)} endings: {len(exits.seconds)} processes ended, "
            f"slowest {exits.slowest:.2f} s",
            flush=True,
        )

        total = 0
        for face in ("sync", "async"):
            leftovers, before, busy = Leftovers(), _open(), Tally()
            closings = close_busy(face, closes, tls)
            while len(busy.seconds) < closes and report.run(f"busy TLS, {face}", lambda: next(closings), busy):
                pass
            next(closings, None)  # to its end
            left = leftovers.settle()
            report.check(f"busy TLS, {face}", busy)
            print(f"busy TLS, {face}: before {before}, after {_open()}", flush=True)
            if left or _open() != before:
                report.note(f"busy TLS, {face}: left behind: {left or _open()}")
            total += len(busy.seconds)
    print(
        f"in {time.monotonic() - begin:.0f} s: {ROUNDS * len(cells)} closes in all states, {len(exits.seconds)} ends "
        f"of processes, {total} closes of busy TLS streams; {len(report.wrong)} promises broken"
    )
    return bool(report.wrong)


def _open() -> str:
    descriptors = Path("/proc/self/fd")
    count = len(list(descriptors.iterdir())) if descriptors.exists() else "unknown"
    return f"{count} descriptors and {threading.active_count()} threads"


if __name__ == "__main__":
    sys.exit(main())
