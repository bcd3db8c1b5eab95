"""Run the commands of two pages, and check that ``docs/cli.rst`` describes every option."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import textwrap
from pathlib import Path

import pytest

from sseclient_dual import SSEEvent, cli
from sseclient_dual.testing import ReceivedRequest, Reply, SSEServer, status, stream
from support.command import ENVIRONMENT, on_posix
from support.processes import program
from support.waiting import PATIENCE

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "cli.rst"
TROUBLESHOOTING = DOCS / "troubleshooting.rst"
PRICES = [
    SSEEvent('{"symbol": "ACME", "price": 10}', "price", "1"),
    SSEEvent("the market is closed at noon", None, "2"),
    SSEEvent('{"symbol": "ACME", "price": 12}', "price", "3"),
]


def example_com(request: ReceivedRequest) -> Reply:
    if request.path == "/prices":
        rest = PRICES[int(request.last_event_id or 0) :]
        return stream("retry: 100\n\n", *rest) if rest else status(204)
    if request.path == "/chat" and request.json() == {"question": "why?"}:
        return stream("data: because\n\n")
    return status(404, "no such stream")


def sessions_of(page: Path) -> list[str]:
    """Return the shell sessions on a page: commands after $, and their output."""
    blocks = re.findall(r"\.\. code-block:: console\n\n((?:   .*\n|\n)+)", page.read_text(encoding="utf-8"))
    return [textwrap.dedent(block).rstrip("\n") + "\n" for block in blocks]


@on_posix
@pytest.mark.parametrize("session", [*sessions_of(PAGE), *sessions_of(TROUBLESHOOTING)])
def test_an_example_of_the_documentation(session: str, tmp_path: Path) -> None:
    if "| jq" in session:
        program("jq", "jq")
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    printed = ""
    with SSEServer(default=example_com) as server:
        for command in re.findall(r"^\$ ((?:.*\\\n)*.*)\n", session, re.MULTILINE):
            done = subprocess.run(
                ["sh", "-c", command.replace("https://example.com", server.origin)],
                env={**ENVIRONMENT, "PATH": path},
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                timeout=PATIENCE,
                check=False,
            )
            printed += f"$ {command}\n" + done.stdout.replace(server.origin, "https://example.com")
    times = re.compile(r"in \d+\.\d s \(\d+\.\d/s\)")
    assert times.sub("in time", printed) == times.sub("in time", session)


def test_the_documentation_has_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    options = re.findall(r"(?<![\w-])--[a-z][a-z-]+", capsys.readouterr().out)
    assert len(options) > 10
    text = PAGE.read_text(encoding="utf-8")
    assert len(sessions_of(PAGE)) > 6
    for option in options:
        assert f"``{option}" in text, option
