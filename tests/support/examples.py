"""The programs of ``docs/examples`` as processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from support.processes import piped
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def running(name: str, *arguments: str, **environment: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Run an example; kill it if the test leaves it running."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    inherited |= {"PYTHONIOENCODING": "utf-8", "PYTHONMALLOC": "debug"}
    # Not `-X dev`, because asyncio's debug mode prints each callback that a busy machine makes slow.
    command = [sys.executable, "-X", "faulthandler", "-W", "error", str(EXAMPLES / name), *arguments]
    return piped(command, env=inherited | environment, stdin=subprocess.PIPE)


def rest_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Close the input, and return the rest of both outputs; `communicate` would skip text that was read ahead."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.close()
    output, errors = process.stdout.read(), process.stderr.read()
    process.wait(PATIENCE)
    return output, errors
