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
    """The pauses of a test.

    :param seed: determines the lines.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._left: dict[tuple[str, int], int] = {}  # pauses at each line that was reached

    def trace(self, frame: FrameType, _event: str, _argument: object) -> Any:
        """Trace the frames of the package; a function for `sys.settrace`."""
        file = frame.f_code.co_filename
        return self._pause if file.startswith(_PACKAGE) and not file.startswith(_SERVER) else None

    def _pause(self, frame: FrameType, _event: str, _argument: object) -> Any:
        line = frame.f_code.co_filename, frame.f_lineno
        left = self._left.get(line)
        if left is None:
            name = os.path.relpath(line[0], _PACKAGE)
            left = 0 if crc32(f"{self._seed} {name} {line[1]}".encode()) % _SHARE else _TIMES
        self._left[line] = max(0, left - 1)
        if left:
            time.sleep(_SECONDS)
        return self._pause


class Plugin:
    """The plugin: new pauses for each test, in all threads."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._pauses = Pauses(seed)
        threading.settrace(self._trace)

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._pauses.trace(frame, event, argument)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Make the threads pause at other lines than before."""
        self._pauses = Pauses(f"{self._seed} {item.name}")
        item.add_report_section("call", "pauses", f"PAUSES_SEED={self._seed}")
        sys.settrace(self._trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin."""
    config.pluginmanager.register(Plugin(os.environ["PAUSES_SEED"]))


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
