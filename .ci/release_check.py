"""Run everything that a release needs, in order, and list the results: `make release-check`.

A failed step does not end the run, so that one run finds all that is left to do. The exit status is 1 if a step has
failed.

The environment variable NEWER_PYTHON is a command that runs its arguments where Python 3.14 and 3.15 are installed,
such as a container. By default they are looked for here. A step whose Python is not found is listed as not run.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

MAKE = os.environ.get("MAKE", "make")


class Step(NamedTuple):
    """A command that must succeed."""

    name: str
    command: Sequence[str]
    probe: Sequence[str] = ()
    """A command that fails if what the step needs is missing."""
    remedy: str = ""
    """What to do then."""


def target(name: str, arguments: str = "") -> Step:
    """Return the step that makes a target. ARGS is always set, because make passes that of release-check on."""
    return Step(name, [MAKE, name.partition(":")[0], f"ARGS={arguments}"])


def newer(version: str) -> Step:
    """Return the step that runs the tests on a Python that few systems have."""
    wrapper = shlex.split(os.environ.get("NEWER_PYTHON", ""))
    python = f"python{version}"
    return Step(
        name=f"test:{version}",
        command=[*wrapper, "make", "test", "ARGS=", f"VENV=.venv-{version}", f"PYTHON={python}"],
        probe=[*wrapper, python, "--version"],
        remedy=f"{python} not found; NEWER_PYTHON may name a command that runs its arguments where it is installed",
    )


STEPS = [
    target("lint"),
    target("types"),
    target("docs"),
    target("coverage"),  # runs all tests
    target("test-all"),
    newer("3.14"),
    newer("3.15"),
    target("test-browser"),
    target("test-dist"),
    target("wheels"),
    target("soak"),
    # A third of the inputs of `make fuzz`: ten minutes on two cores.
    target("fuzz:parser", "parser --inputs 1500000"),
    target("fuzz:http", "http --inputs 15000"),
    target("fuzz:http2", "http2 --inputs 15000"),
    target("fuzz:speedups", "speedups --inputs 3000000"),
    target("fuzz:sanitized", "sanitized --inputs 100000"),
]


def is_available(step: Step) -> bool:
    """Return True if the step can be run here."""
    try:
        return not step.probe or subprocess.run(step.probe, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def run(steps: Sequence[Step]) -> int:
    """Run the steps, print a summary, and return the exit status."""
    summary = []
    status = 0
    for step in steps:
        print(f"\n=== {step.name}", flush=True)
        begin = time.monotonic()
        if not is_available(step):
            result = f"not run: {step.remedy}"
            print(result)
        elif subprocess.run(step.command, check=False).returncode == 0:
            result = "passed"
        else:
            result = "FAILED"
            status = 1
        summary.append(f"{step.name:15} {time.monotonic() - begin:6.0f} s  {result}")
    print("\n=== summary", *summary, sep="\n")
    return status


def main() -> int:
    """Run the command line."""
    arguments = argparse.ArgumentParser(description="Run everything that a release needs, and list the results.")
    names = [step.name for step in STEPS]
    arguments.add_argument("steps", nargs="*", metavar="STEP", help=f"default: all, which are {', '.join(names)}")
    chosen = arguments.parse_args().steps or names
    if unknown := set(chosen) - set(names):
        arguments.error(f"no such step: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return run([step for step in STEPS if step.name in chosen])


if __name__ == "__main__":
    sys.exit(main())
