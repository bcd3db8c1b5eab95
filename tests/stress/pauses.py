"""The tests, with pauses between lines of the package, so that other threads run there.

A race needs another thread between two certain lines, where it comes once in thousands of runs of the tests. Here a
thread that reaches certain lines pauses there, a few times each. They are other lines in each test, so that all tests
together pause at nearly every line.

`make soak ARGS='pauses [argument of pytest ...]'` runs the tests below, or those of the arguments. A test that fails
shows the seed that determines its lines. PAUSES_SEED=... sets it, to run the test again. As a plugin of pytest, this
module makes the pauses.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest

import sseclient_dual
from support.processes import TESTS, python, with_tests

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

_SELECTED = [
    "core/test_hub_streams.py", "core/test_reconnecting.py", "core/test_relay.py", "core/test_restart_races.py",
    "core/test_resuming.py", "core/test_scenarios.py", "feed", "hub", "redis/test_feed_in_redis.py",
    "redis/test_feed_lifetime.py", "redis/test_ingest_lifetime.py", "transport/test_http2.py",
    "transport/test_http2_ends.py", "transport/test_http2_flow.py", "transport/test_http2_sharing.py",
]  # fmt: skip
_SHARE = 50  # of the lines: a test pauses at one in so many
_TIMES = 5  # at each of them
_SECONDS = 0.005  # of a pause: time for another thread to receive something
_PACKAGE = str(Path(sseclient_dual.__file__).parent)
_SERVER = str(Path(_PACKAGE, "testing"))  # its threads do not pause, because it is not what is tested


class Pauses:
    """The plugin: pauses in all threads, at other lines in each test.

    :param seed: determines the lines.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._test = ""
        self._left: dict[tuple[str, int], int] = {}  # pauses at each line that the test has reached
        threading.settrace(self._trace)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Choose other lines than before, and make the main thread pause, too."""
        self._test, self._left = item.name, {}
        item.add_report_section("call", "pauses", f"PAUSES_SEED={self._seed}")
        sys.settrace(self._trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)

    def _trace(self, frame: FrameType, _event: str, _argument: object) -> Any:
        file = frame.f_code.co_filename
        return self._pause if file.startswith(_PACKAGE) and not file.startswith(_SERVER) else None

    def _pause(self, frame: FrameType, _event: str, _argument: object) -> Any:
        left = self._left  # once: the main thread may begin the next test
        line = frame.f_code.co_filename, frame.f_lineno
        if line not in left:
            left[line] = self._times(*line)
        if left[line]:
            left[line] -= 1
            time.sleep(_SECONDS)
        return self._pause

    def _times(self, file: str, line: int) -> int:
        """Return how often to pause at a line."""
        key = f"{self._seed} {self._test} {os.path.relpath(file, _PACKAGE)} {line}"
        return 0 if crc32(key.encode()) % _SHARE else _TIMES


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin."""
    config.pluginmanager.register(Pauses(os.environ["PAUSES_SEED"]))


def main(arguments: list[str]) -> int:
    """Run the tests, and return 1 if one failed."""
    options = ["-q", "-p", "stress.pauses", "-m", "not slow", "--numprocesses=4", "--dist=loadfile"]
    tests = arguments or [str(TESTS / name) for name in _SELECTED]
    seed = os.environ.get("PAUSES_SEED") or str(random.randrange(2**32))
    # Without the compiled core, which has no lines.
    environment = with_tests() | {"SSECLIENT_DUAL_SPEEDUPS": "0", "PAUSES_SEED": seed}
    return int(subprocess.run(python("pytest", *options, *tests), env=environment, check=False).returncode != 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
