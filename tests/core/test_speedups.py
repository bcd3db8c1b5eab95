"""The compiled core: when it is used, and that its version is the package's."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sseclient_dual

PROJECT = Path(__file__).parents[2]
# In place of the compiled core: it has its base classes, and a method that replaces one of the package.
CORE = """
version = {version!r}

class SSEEvent:
    __slots__ = ("_data", "_meta")

class EventStreamParser:
    def feed(self, data):
        return ["compiled", data]

class Chunks:
    __slots__ = ()

class Handoff:
    pass

class SSEConnection:
    __slots__ = ("_handoff", "_last", "_started")

class NextEvent:
    pass
"""
PROGRAM = "import sseclient_dual as s; print(s.speedups_active, s.EventStreamParser().feed(b'data: x\\n\\n'))"
PURE = "False [SSEEvent(data='x')]\n"
COMPILED = r"True ['compiled', b'data: x\n\n']" + "\n"


def run(folder: Path, core: str | None, program: str = PROGRAM, **environment: str) -> tuple[str, str]:
    """Run a program with this text as the compiled core; return its output and its warnings."""
    if core is None:
        core = "raise ModuleNotFoundError(name=__name__)"
    (folder / "sseclient_dual_speedups.py").write_text(core, encoding="utf-8")
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    inherited = {key: value for key, value in os.environ.items() if key != "SSECLIENT_DUAL_SPEEDUPS"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**inherited, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_it_is_used_if_it_is_installed(tmp_path: Path) -> None:
    assert run(tmp_path, CORE.format(version=sseclient_dual.__version__)) == (COMPILED, "")


def test_the_python_code_is_used_without_it(tmp_path: Path) -> None:
    assert run(tmp_path, None) == (PURE, "")


def test_the_environment_switches_it_off(tmp_path: Path) -> None:
    core = CORE.format(version=sseclient_dual.__version__)
    assert run(tmp_path, core, SSECLIENT_DUAL_SPEEDUPS="0") == (PURE, "")
    assert run(tmp_path, core, SSECLIENT_DUAL_SPEEDUPS="") == (COMPILED, "")


@pytest.mark.parametrize(
    "setting", ["sys.implementation.name = 'pypy'", "sys.abiflags = 't'"], ids=["PyPy", "free-threaded"]
)
def test_it_is_used_on_cpython_with_a_gil_only(setting: str, tmp_path: Path) -> None:
    core = CORE.format(version=sseclient_dual.__version__)
    assert run(tmp_path, core, f"import re, sys, urllib3; {setting}; {PROGRAM}") == (PURE, "")


@pytest.mark.parametrize(
    ("core", "reason"),
    [
        (
            CORE.format(version="0.0.1"),
            rf"it has version 0\.0\.1, and sseclient-dual has {sseclient_dual.__version__}",
        ),
        ("raise ImportError('undefined symbol: Py')", r"it cannot be imported \(undefined symbol: Py\)"),
    ],
    ids=["version", "broken"],
)
def test_a_core_that_does_not_fit_is_not_used_and_one_warning_says_why(
    core: str, reason: str, tmp_path: Path
) -> None:
    output, warnings = run(tmp_path, core, f"{PROGRAM}; import sseclient_dual.client")
    assert output == PURE
    assert len(re.findall(f"RuntimeWarning: sseclient-dual-speedups is not used, because {reason}: ", warnings)) == 1
    assert warnings.count("Warning") == 1


def test_the_garbage_collector_does_not_visit_events_of_the_compiled_core() -> None:
    (event,) = sseclient_dual.EventStreamParser().feed(b"data: x\n\n")
    assert gc.is_tracked(event) is not sseclient_dual.speedups_active


def test_both_distributions_have_the_same_version() -> None:
    version = sseclient_dual.__version__
    source = (PROJECT / "speedups/sseclient_dual_speedups.c").read_text(encoding="utf-8")
    assert f'#define VERSION "{version}"' in source
    assert f'"sseclient-dual-speedups=={version};' in (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
