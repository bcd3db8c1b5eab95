"""A few consumers with a checkpoint are killed; `make soak ARGS=checkpoint` kills more."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from sseclient_dual.testing import SSEServer
from stress.checkpoint import KINDS, Kills, consumer, numbers
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")


@pytest.mark.parametrize("kind", KINDS)
def test_killed_consumers_lose_nothing_and_repeat_what_was_promised(kind: str) -> None:
    seed = random.randrange(2**32)
    outcome = Kills(kind, 10, seed)
    assert not outcome.failures, f"seed {seed}: {outcome.failures}; {outcome}"


@pytest.mark.parametrize("api", ["sync", "async"])
def test_ctrl_c_leaves_the_id_of_an_event_that_was_processed(api: str, tmp_path: Path) -> None:
    if api == "async" and sys.version_info < (3, 11):
        pytest.skip("not promised: asyncio of Python 3.10 may forget a callback when Ctrl-C comes")
    log, saved = tmp_path / "log", tmp_path / "last.id"
    log.touch()
    with SSEServer(default=numbers) as server:
        for _ in range(5):
            before = log.stat().st_size
            with consumer("file", api, 0, server.url, tmp_path) as process:
                wait_until(lambda: log.stat().st_size > before, "an event")
                time.sleep(random.uniform(0, 0.02))  # to hit any point of the loop
                process.send_signal(signal.SIGINT)
                _, errors = process.communicate(timeout=PATIENCE)
            assert (process.returncode, errors.splitlines()[-1]) == (-signal.SIGINT, "KeyboardInterrupt")
            processed = [int(line.split()[0]) for line in log.read_text().splitlines()]
            in_file = int(saved.read_text()) if saved.exists() else 0
            assert in_file in {processed[-1], processed[-1] - 1}
            assert set(tmp_path.iterdir()) <= {log, saved}
    assert sorted(set(processed)) == list(range(1, processed[-1] + 1))
    assert len(processed) <= processed[-1] + 5
