"""The processes that the benchmark starts: a server, and workers."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from clients import SPEEDUPS

if TYPE_CHECKING:
    from types import TracebackType

_HERE = Path(__file__).parent


class Failed(Exception):  # noqa: N818 - a result, and reported as one
    """A client failed at a task."""


class _Process:
    """A script of this folder, running in the background."""

    def __init__(self, script: str, *, own_session: bool = False, speedups: bool = False) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(_HERE / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=own_session,
            env={**os.environ, "SSECLIENT_DUAL_SPEEDUPS": "" if speedups else "0"},
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def line(self, timeout: float) -> dict[str, Any]:
        """Return the next line of its output, parsed as JSON."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise Failed(f"takes more than {timeout:.0f} s") from None
        if not line:
            raise Failed("the process ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def tell(self, **values: Any) -> None:  # noqa: ANN401 - JSON
        """Write `values` to its input, as a line of JSON.

        :raises Failed: the process has ended.
        """
        assert self.process.stdin is not None
        try:
            print(json.dumps(values), file=self.process.stdin, flush=True)
        except OSError:
            raise Failed("the process ended") from None

    def end(self) -> None:
        """Kill the process. It has no state to keep."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Any:  # noqa: ANN401 - typing.Self is not in 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


class Server(_Process):
    """The server process, and its URLs."""

    def __init__(self) -> None:
        super().__init__("server.py")
        facts = self.line(30)
        self._ports = {False: facts["port"], True: facts["tls_port"]}
        with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
            file.write(facts["ca"])
        self.ca = file.name

    def url(self, path: str, *, tls: bool = False, **query: Any) -> str:  # noqa: ANN401 - any value for a query
        """Return the URL of `path`."""
        scheme = "https" if tls else "http"
        return f"{scheme}://127.0.0.1:{self._ports[tls]}{path}" + (f"?{urlencode(query)}" if query else "")

    def prepare(self, **query: Any) -> dict[str, int]:  # noqa: ANN401 - as in `url`
        """Make the server build a body, and return its sizes."""
        with urllib.request.urlopen(self.url("/prepare", tls=False, **query), timeout=120) as response:  # noqa: S310 - our own server
            facts: dict[str, int] = json.load(response)
        return facts

    def end(self) -> None:
        """Kill the server, and delete its certificate."""
        super().end()
        Path(self.ca).unlink()


class ScaleServer(_Process):
    """The server process of the part `scale`, and its URL. `scale_server` lists its commands."""

    def __init__(self) -> None:
        # Where Linux shares the cores between sessions first, many threads of a client starve the server less.
        super().__init__("scale_server.py", own_session=True)
        self.url = f"http://127.0.0.1:{self.line(30)['port']}"


class Worker(_Process):
    """A process that runs a client, by default without the compiled core."""

    def __init__(self, *, speedups: bool = False) -> None:
        super().__init__("worker.py", speedups=speedups)

    def ask(self, task: str, timeout: float = 60, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Run a task in the process, and return the result.

        :raises Failed: the task failed, or took more than `timeout` seconds.
        """
        self.tell(task=task, **arguments)
        return self.answer(timeout)

    def answer(self, timeout: float) -> dict[str, Any]:
        """Return the next answer of a task.

        :raises Failed: the task failed, or took more than `timeout` seconds.
        """
        answer = self.line(timeout)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer


class Workers:
    """One worker per client, kept across rounds and cells. A worker that failed is replaced."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}

    def ask(self, name: str, task: str, timeout: float = 60, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        """Run a task in the worker of the client `name`; see `Worker.ask`."""
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = Worker(speedups=SPEEDUPS in name)
        try:
            return worker.ask(task, timeout, **arguments)
        except Failed:
            self._workers.pop(name).end()
            raise

    def end(self) -> None:
        """Kill all workers."""
        for worker in self._workers.values():
            worker.end()
        self._workers.clear()
