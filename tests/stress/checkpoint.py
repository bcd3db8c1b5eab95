"""A consumer with a checkpoint is killed by SIGKILL at random moments: nothing is lost, and few events are repeated.

`make soak ARGS='checkpoint [kills] [seed]'` kills 200 consumers of each kind. Each resumes where the one before was
killed; the server resumes after `Last-Event-ID`, and breaks some responses off.

- ``file``: a `FileCheckpoint`. Each event is written to a log. At an interval of 0, at most one event is repeated;
  else the events of one interval, and the event in hand.
- ``transaction``: the position is saved in the transaction of the results. No event is repeated.

Half of the consumers use the async API. This file is also the script that they run.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sseclient_dual import Checkpoint, FileCheckpoint, SSEClient
from sseclient_dual.testing import CUT, ReceivedRequest, Reply, SSEServer, stream
from support.policies import QUICK
from support.processes import piped, script, with_tests
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from subprocess import Popen

    from sseclient_dual import SSEEvent
    from sseclient_dual.testing import Step

KILLS = 200  # of each kind, in `make soak`
KINDS = ("file", "transaction")
_APIS = ("sync", "async")
_INTERVALS = (0.0, 0.02)  # seconds between two saves
_LONGEST_LIFE = 0.06  # seconds from the first event to the kill
_START = 0.5  # seconds, about the time until the first event
_EARLY = 0.1  # the share of consumers that are killed while they start


# -- the consumer


class Progress:
    """The position, in the database of the results."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def load(self) -> str | None:
        return str(self._database.execute("SELECT last_event_id FROM progress").fetchone()[0])

    def save(self, last_event_id: str) -> None:
        self._database.execute("UPDATE progress SET last_event_id = ?", [last_event_id])
        self._database.commit()


def _database(folder: Path) -> sqlite3.Connection:
    database = sqlite3.connect(folder / "progress.db", check_same_thread=False)
    database.execute("PRAGMA synchronous = OFF")  # the machine goes on
    return database


def consumer(kind: str, api: str, interval: float, url: str, folder: Path) -> AbstractContextManager[Popen[str]]:
    """Start a consumer, without coverage, which would slow its start down; kill it at the end of the block."""
    command = script("stress.checkpoint", "consume", kind, api, str(interval), url, str(folder))
    environment = {key: value for key, value in with_tests().items() if not key.startswith("COVERAGE_")}
    return piped(command, env=environment)


def _consume(kind: str, api: str, interval: str, url: str, folder_name: str) -> None:
    logging.getLogger("sseclient_dual").setLevel(logging.ERROR)
    folder = Path(folder_name)
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND)
    checkpoint: Checkpoint = FileCheckpoint(folder / "last.id")
    database = None
    if kind == "transaction":
        database = _database(folder)
        checkpoint = Progress(database)

    def process(event: SSEEvent) -> None:
        if database is not None:
            database.execute("INSERT INTO done VALUES (?)", [event.data])
        os.write(log, f"{event.data} {time.monotonic()}\n".encode())

    if api == "sync":
        _loop(url, checkpoint, float(interval), process)
    else:
        # Not in debug mode, which reports callbacks that a busy machine makes slow.
        asyncio.run(_aloop(url, checkpoint, float(interval), process), debug=False)


def _loop(url: str, checkpoint: Checkpoint, interval: float, process: Callable[[SSEEvent], None]) -> None:
    with SSEClient(policy=QUICK) as client:
        with client.connect(url, checkpoint=checkpoint, checkpoint_interval=interval) as conn:
            for event in conn:
                process(event)


async def _aloop(url: str, checkpoint: Checkpoint, interval: float, process: Callable[[SSEEvent], None]) -> None:
    async with SSEClient(policy=QUICK) as client:
        async with client.connect(url, checkpoint=checkpoint, checkpoint_interval=interval) as conn:
            async for event in conn:
                process(event)


# -- the server


def numbers(request: ReceivedRequest) -> Reply:
    """Return the numbers that follow the last event ID, in an endless response or in one that breaks off."""
    first = int(request.last_event_id or 0) + 1

    def steps() -> Iterator[Step]:
        last = first + random.randrange(2000) if random.random() < 0.5 else None
        for number in itertools.count(first):
            yield f"id: {number}\ndata: {number}\n\n"
            if number == last:
                yield CUT

    return stream(steps())


# -- the kills


@dataclass(frozen=True)
class _Life:
    """The numbers that a consumer processed before it was killed, and the times at which it did."""

    numbers: list[int]
    times: list[float]


class Kills:
    """Kills consumers of one kind, one after another, and checks what each of them processes."""

    def __init__(self, kind: str, kills: int, seed: int) -> None:
        self.failures: list[str] = []
        self._kind = kind
        self._counts: Counter[str] = Counter()
        self._repeats: dict[float, Counter[int]] = {interval: Counter() for interval in _INTERVALS}
        self._random = random.Random(seed)
        with tempfile.TemporaryDirectory() as name, SSEServer(default=numbers) as server:
            self._folder = Path(name)
            self._log = self._folder / "log"
            self._log.touch()
            self._make_tables()
            self._last = _Life([0], [0.0])
            self._interval = 0.0
            for number in range(kills):
                # Each combination of API and interval follows each other one.
                api, interval = _APIS[number % 2], self._random.choice(_INTERVALS)
                self._check(self._live_and_die(server.url, api, interval), interval)

    def _make_tables(self) -> None:
        if self._kind == "transaction":
            with closing(_database(self._folder)) as database, database:
                database.execute("CREATE TABLE done (data TEXT)")
                database.execute("CREATE TABLE progress (last_event_id TEXT)")
                database.execute("INSERT INTO progress VALUES ('')")

    def _live_and_die(self, url: str, api: str, interval: float) -> _Life:
        """Start a consumer, kill it at a random moment, and return what it did."""
        self._log.write_bytes(b"")
        with consumer(self._kind, api, interval, url, self._folder) as process:
            if self._random.random() < _EARLY:
                time.sleep(self._random.uniform(0, _START))
            else:
                wait_until(lambda: self._log.stat().st_size or process.poll() is not None, "an event", PATIENCE)
                time.sleep(self._random.uniform(0, _LONGEST_LIFE))
            process.kill()
            _, errors = process.communicate()
        self._counts["kills"] += 1
        if errors:
            self.failures.append(f"a consumer failed: {errors}")
        lines = [line.split() for line in self._log.read_text().splitlines()]
        return _Life([int(number) for number, _ in lines], [float(at) for _, at in lines])

    def _check(self, life: _Life, interval: float) -> None:
        if list(self._folder.glob(".last.id.*.new")):
            self._counts["in the middle of a save"] += 1
        self._counts["events"] += len(life.numbers)
        if self._kind == "transaction":
            self._check_database()
        if not life.numbers:
            self._counts["before the first event"] += 1
            return
        first, last = life.numbers[0], self._last.numbers[-1]
        if life.numbers != list(range(first, first + len(life.numbers))):
            self.failures.append("events were lost or repeated in one process")
        if first > last + 1:
            self.failures.append(f"lost: {last + 1} to {first - 1}")
        self._repeats[self._interval][last + 1 - first] += 1
        if self._kind == "file" and not self._may_be_repeated(first):
            self.failures.append(f"repeated: {first} to {last} at an interval of {self._interval} s")
        self._last, self._interval = life, interval

    def _may_be_repeated(self, first: int) -> bool:
        """Return whether the last consumer may have left the events from `first` on uncommitted."""
        numbers, times = self._last.numbers, self._last.times
        count = numbers[-1] + 1 - first
        if count <= 1:
            return True
        if first < numbers[0]:  # the position from which it resumed
            return False
        # All repeated events except the last were committed after the last save, and before the next was due. An
        # event is committed between its time and that of the next one.
        return times[-2] - times[min(first - numbers[0] + 1, len(times) - 2)] < self._interval

    def _check_database(self) -> None:
        with closing(_database(self._folder)) as database:
            (count,) = database.execute("SELECT count(*) FROM done").fetchone()
            (wrong,) = database.execute("SELECT count(*) FROM done WHERE data <> rowid").fetchone()
            (position,) = database.execute("SELECT last_event_id FROM progress").fetchone()
        if wrong or count != int(position or 0):
            self.failures.append(f"{count} results up to {position}, {wrong} in the wrong place")
        self._counts["results"] = count

    def __str__(self) -> str:
        counts = ", ".join(f"{kind} {count:,}" for kind, count in self._counts.items())
        if self._kind == "transaction":
            return f"{self._kind}: {counts}"
        repeats = "; ".join(
            f"at {interval:g} s none after {repeats[0]} kills, one after {repeats[1]}, more after "
            f"{repeats.total() - repeats[0] - repeats[1]}, {max(repeats, default=0):,} at most"
            for interval, repeats in self._repeats.items()
        )
        return f"{self._kind}: {counts}; repeated: {repeats}"


def main(arguments: list[str]) -> int:
    """Run it, print the results, and return 1 if a check failed."""
    if arguments and arguments[0] == "consume":
        _consume(*arguments[1:])
        return 0
    kills = int(arguments[0]) if arguments else KILLS
    seed = int(arguments[1]) if len(arguments) > 1 else random.randrange(2**32)
    failures: list[str] = []
    for kind in KINDS:
        print(f"checkpoint, {kind}, {kills} kills, seed {seed}", flush=True)
        outcome = Kills(kind, kills, seed)
        print(f"== {outcome}", *outcome.failures, sep="\nFAILURE: ", flush=True)
        failures += outcome.failures
    if failures:
        print(f"to repeat this run: make soak ARGS='checkpoint {kills} {seed}'")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
