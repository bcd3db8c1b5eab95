"""Load for minutes: memory stays flat while a server is faster than its consumer, and what was opened is closed.

`make soak ARGS=load`, five minutes, on Linux. It prints what it came to; its status is 1 if a promise was broken.
"""

from __future__ import annotations

import logging
import sys
import time
from functools import partial

from load import Churn, FaceName, Flood
from servers.load_app import allow_descriptors

SECONDS = 110  # for each face
CONNECTIONS = 1000
ROUNDS = 10
EVERY = 10.0  # seconds between two lines that tell how it goes


class Progress:
    """Prints what it is told, if it is time for that."""

    def __init__(self) -> None:
        self._next = time.monotonic()

    def __call__(self, line: str) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY
            print(line, flush=True)


def main() -> int:
    """Play all parts in both faces; return the exit status."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # a thousand connections at once are slow to open, of course
    allow_descriptors()
    faces: list[FaceName] = ["sync", "async"]
    say = Progress()
    broken = 0
    for part in (partial(Flood, seconds=SECONDS), partial(Churn, count=CONNECTIONS, rounds=ROUNDS)):
        for face in faces:
            outcome = part(face, say=say)
            print(f"== {outcome}", *outcome.broken, sep="\n!! ", flush=True)
            broken += len(outcome.broken)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
