"""The recorded benchmarks: the tables in the documentation are those of the results."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "benchmarks"
WITHOUT_RESULTS = {"features.inc"}  # it is written by a program of its own
WRITE = """
import sys
from pathlib import Path
import report
import run
output = Path(sys.argv[1])
for results in sorted(output.glob("*.json")):
    run.write_tables(results.stem, *report.from_json(results.read_text(encoding="utf-8")), output)
"""


@pytest.mark.slow
def test_the_tables_are_those_of_the_results(tmp_path: Path) -> None:
    for results in RESULTS.glob("*.json"):
        shutil.copy(results, tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])}
    subprocess.run([sys.executable, "-c", WRITE, str(tmp_path)], env=environment, check=True)
    recorded = {path.name for pattern in ("*.json", "*.md", "*.inc") for path in RESULTS.glob(pattern)}
    assert {path.name for path in tmp_path.iterdir()} == recorded - WITHOUT_RESULTS
    for path in tmp_path.iterdir():
        assert path.read_text(encoding="utf-8") == (RESULTS / path.name).read_text(encoding="utf-8"), path.name
