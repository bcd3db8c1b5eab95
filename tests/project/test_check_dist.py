"""The check of the files in wheel and source archive, which `make build` calls."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

PROJECT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not (PROJECT / ".git").exists(), reason="git knows which files belong there")


def check(path: Path) -> tuple[int, set[str]]:
    command = [sys.executable, str(PROJECT / ".ci" / "check_dist.py"), str(path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, {line.removeprefix(f"{path.name}: ") for line in done.stdout.splitlines()}


def tracked(*paths: str) -> set[str]:
    return set(subprocess.check_output(["git", "ls-files", *paths], cwd=PROJECT, text=True).splitlines())


def make_wheel(path: Path, names: Iterable[str], content: str = "") -> None:
    with zipfile.ZipFile(path, "w") as wheel:
        for name in names:
            wheel.writestr(name, content)


def make_archive(path: Path, names: Iterable[str]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"sseclient_dual-1.0/{name}"))


def test_a_wheel(tmp_path: Path) -> None:
    info = "sseclient_dual-1.0.dist-info"
    names = {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}
    names |= tracked("sseclient_dual", "pytest_sseclient_dual.py")
    path = tmp_path / "sseclient_dual-1.0-py3-none-any.whl"
    make_wheel(path, names)
    assert check(path) == (0, set())
    make_wheel(path, names - {"sseclient_dual/py.typed"} | {"sseclient_dual/a.pyc", "tests/conftest.py"})
    problems = {
        "missing: sseclient_dual/py.typed",
        "unexpected: sseclient_dual/a.pyc",
        "unexpected: tests/conftest.py",
    }
    assert check(path) == (1, problems)
    make_wheel(path, names, "[docs](https://example.com/docs), [tests](tests/core), ![chart](chart.svg)")
    assert check(path) == (1, {"link to a file: tests/core", "link to a file: chart.svg"})


def test_a_source_archive(tmp_path: Path) -> None:
    names = tracked() | {"PKG-INFO"}
    path = tmp_path / "sseclient_dual-1.0.tar.gz"
    make_archive(path, names)
    assert check(path) == (0, set())
    make_archive(path, names - {"tests/conftest.py"} | {".venv/pyvenv.cfg"})
    assert check(path) == (1, {"missing: tests/conftest.py", "unexpected: .venv/pyvenv.cfg"})
