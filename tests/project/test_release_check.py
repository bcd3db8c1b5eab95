"""`make release-check`, with short commands in place of the long ones."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SCRIPT = PROJECT / ".ci" / "release_check.py"
release_check = runpy.run_path(str(SCRIPT))
Step = release_check["Step"]


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


SUCCEED, FAIL = python(""), python("raise SystemExit(3)")


def test_all_steps_run_whether_or_not_one_fails(capfd: pytest.CaptureFixture[str]) -> None:
    steps = [
        Step("first", SUCCEED),
        Step("second", FAIL),
        Step("third", python("print('here')"), probe=SUCCEED),
        Step("fourth", FAIL, probe=["/no/such/command"], remedy="install it"),
        Step("fifth", FAIL, probe=FAIL, remedy="build it"),
    ]
    assert release_check["run"](steps) == 1
    log, summary = capfd.readouterr().out.split("\n=== summary\n")
    assert log.splitlines() == [
        "", "=== first",
        "", "=== second",
        "", "=== third", "here",
        "", "=== fourth", "not run: install it",
        "", "=== fifth", "not run: build it",
    ]  # fmt: skip
    assert re.sub(r" +\d+ s +", " ", summary).splitlines() == [
        "first passed", "second FAILED", "third passed", "fourth not run: install it", "fifth not run: build it",
    ]  # fmt: skip


@pytest.mark.parametrize("probe", [SUCCEED, FAIL], ids=["found", "not found"])
def test_success(probe: list[str]) -> None:
    assert release_check["run"]([Step("first", SUCCEED), Step("second", SUCCEED, probe)]) == 0


def test_the_steps_are_targets_of_the_makefile() -> None:
    targets = {line.partition(":")[0] for line in (PROJECT / "Makefile").read_text(encoding="utf-8").splitlines()}
    assert {step.name.partition(":")[0] for step in release_check["STEPS"]} <= targets


def test_an_unknown_step() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "lint", "nope"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: no such step: nope; there are lint, types, " in done.stderr
