"""Run every Python block of the documentation, and the first block of each guide in an empty directory.

Each block runs alone, with the names that it assumes. A local server replaces every address in it.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

import sseclient_dual
from servers.running import need
from sseclient_dual import EventStreamParser, ReconnectPolicy, SSEClient
from sseclient_dual.redis import RedisFeed, RedisIngest
from sseclient_dual.testing import SSEServer, status, stream
from support.pages import blocks
from support.processes import free_port, line_of, piped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from sseclient_dual.testing import ReceivedRequest, Reply

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TESTS = ROOT / "tests"
GUIDES = DOCS / "guides"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.rst"))]
ADDRESS = re.compile(r"https?://(?:example\.com|127\.0\.0\.1:\d+)[\w/.]*")


def answer(request: ReceivedRequest) -> Reply:
    """Return a model's answer to a POST, events to a GET, and status 204 to a reconnect."""
    if request.method == "POST":
        return stream('data: {"choices": [{"delta": {"content": "hello"}}]}\n\n', "data: [DONE]\n\n")
    if request.last_event_id:
        return status(204)
    return stream("retry: 1\n\n", *(f'event: tick\nid: {n}\ndata: {{"number": {n}}}\n\n' for n in range(1, 5)))


EVERY_BLOCK = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page), 1)
    if "settings.configure(" not in block  # works once per process; a test below runs it as a program
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that blocks about TLS name."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("client.example").private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
    return folder


@pytest.mark.parametrize("block", EVERY_BLOCK)
def test_a_block_of_the_documentation_runs(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificates: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["block"])
    for file in certificates.iterdir():
        (tmp_path / file.name).symlink_to(file)
    with SSEServer(default=answer) as server, SSEClient(policy=ReconnectPolicy(min_retry_delay=0)) as client:
        names: dict[str, Any] = {name: getattr(sseclient_dual, name) for name in sseclient_dual.__all__}
        names |= {"__name__": "block", "url": server.url, "client": client, "conn": client.connect(server.url)}
        names |= {"saved": None, "key": "k", "handle": print, "fetch_token": lambda: "token", "logging": logging}
        code = compile(ADDRESS.sub(server.url, block), "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & inspect.CO_COROUTINE:

            async def run() -> None:
                await eval(code, names)  # noqa: S307 - our own documentation

            asyncio.run(run())
        else:
            exec(code, names)  # noqa: S102 - as above


# -- the first block of each guide, in an empty directory


def running(*arguments: str, directory: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    """Run Python in `directory`, and kill the process at the end."""
    return piped([sys.executable, *arguments], cwd=directory, env={**os.environ, "PYTHONUNBUFFERED": "1"})


@pytest.fixture(scope="module")
def feed() -> Iterator[str]:
    """Run the feed that the guides begin with, and yield its URL."""
    with running(str(DOCS / "examples" / "feed.py"), "0", directory=DOCS) as process:
        yield line_of(process.stdout).split()[1]


def test_each_guide_begins_with_a_program() -> None:
    assert {page.stem for page in GUIDES.iterdir()} == {"scripts", "asyncio", "llm", "flask", "django", "fastapi"}


@pytest.mark.parametrize("guide", ["scripts", "asyncio"])
def test_the_first_block_of_a_guide_prints_the_feed(guide: str, feed: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(ADDRESS.sub(feed, blocks(GUIDES / f"{guide}.rst")[0]))
    with running("script.py", directory=tmp_path) as process:
        assert line_of(process.stdout) == '1 tick {"number": 1}\n'
        assert line_of(process.stdout) == '2 tick {"number": 2}\n'


def test_the_first_block_of_the_llm_guide_prints_an_answer(tmp_path: Path) -> None:
    with SSEServer(default=answer) as server:
        (tmp_path / "script.py").write_text(ADDRESS.sub(server.url, blocks(GUIDES / "llm.rst")[0]))
        command = [sys.executable, "script.py", "gpt"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "hello\n"
    assert server.requests[0].json()["model"] == "gpt"


@pytest.mark.parametrize("guide", ["flask", "django", "fastapi"])
def test_the_first_block_of_a_guide_relays_the_feed(guide: str, feed: str, tmp_path: Path) -> None:
    need(guide)
    port = free_port()
    program = ADDRESS.sub(feed, blocks(GUIDES / f"{guide}.rst")[0]).replace("5000", str(port))
    (tmp_path / "app.py").write_text(program)
    with running("app.py", directory=tmp_path), SSEClient(policy=ReconnectPolicy(retry_delay=50, jitter=0)) as client:
        with client.connect(f"http://127.0.0.1:{port}/events", last_event_id="4") as conn:
            assert [next(conn).id, next(conn).id] == ["5", "6"]


# -- links and the reference


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_every_link_to_a_file_has_its_file(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    files = [target.partition("#")[0] for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text)]
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_the_types_of_arguments_are_those_of_the_source() -> None:
    page = (DOCS / "api.rst").read_text(encoding="utf-8")
    documented = re.findall(r"^\.\. py:type:: (\w+)\n   :canonical: (.*)$", page, re.MULTILINE)
    alias = re.compile(r"^(\w+): TypeAlias = \"?(.*?)\"?$", re.MULTILINE)
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "sseclient_dual").rglob("*.py")]
    defined = {pair for source in sources for pair in alias.findall(source)}
    assert len(documented) > 10
    assert [pair for pair in documented if pair not in defined] == []


# -- the promises


@pytest.mark.parametrize(
    "function",
    [
        SSEClient,
        SSEClient.connect,
        SSEClient.share,
        ReconnectPolicy,
        EventStreamParser,
        SSEServer,
        RedisIngest,
        RedisFeed,
    ],
    ids=lambda function: function.__qualname__,
)
def test_every_argument_is_documented(function: Callable[..., Any]) -> None:
    documented = re.findall(r":param (\w+):", function.__doc__ or "")
    assert documented == [name for name in inspect.signature(function).parameters if name != "self"]


def test_every_test_named_in_the_promises_exists() -> None:
    named = re.findall(r"``([\w/]+\.py)::(test_\w+)``", (DOCS / "promises.rst").read_text(encoding="utf-8"))
    assert len(named) > 30
    missing = [
        f"{file}::{test}"
        for file, test in named
        if f"\ndef {test}(" not in (TESTS / file).read_text(encoding="utf-8")
    ]
    assert missing == []
