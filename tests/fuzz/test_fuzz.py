"""A short version of `make fuzz`: against a reference parser, and the compiled core against the Python code."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fuzz import driver, http2, speedups, targets
from support.implementations import build

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("name", "inputs"), [("parser", 400), ("http", 600), ("http2", 600)])
def test_random_inputs(name: str, inputs: int) -> None:
    driver.fuzz_with_hypothesis(name, inputs, seed=0)


def test_all_seeds() -> None:
    for data in targets.parser_seeds():
        targets.parser(data)
    for target, seeds in (targets.HTTP(), targets.http_seeds()), (http2.HTTP2(), http2.seeds()):
        with target:
            for data in seeds:
                target(data)
            assert target.inputs == len(seeds)
            assert target.valid > target.inputs / 3


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the compiled core."""
    folder = tmp_path_factory.mktemp("core")
    try:
        build(folder)
    except OSError as error:
        pytest.skip(f"the core cannot be compiled: {error}")
    return folder


def test_the_compiled_core_has_the_same_results_as_the_python_code(
    core: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(core)
    target = speedups.Speedups()
    for data in itertools.islice(speedups.inputs(seed=0), 20_000):
        target(data)


def test_the_compiled_core_survives_the_failure_of_each_allocation(core: Path) -> None:
    pytest.importorskip("_testcapi", reason="needs CPython's module for the tests of its C API")
    # In a process of its own: without memory, the tracer of coverage and other threads may crash.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(core), *sys.path])
    command = [sys.executable, "-m", "fuzz.out_of_memory"]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert sum(map(int, re.findall(r": (\d+)$", process.stdout, re.MULTILINE))) > 500
