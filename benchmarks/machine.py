"""The facts about a machine that its numbers depend on. The host name is not one of them."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from importlib import metadata
from pathlib import Path

import parsers

PEERS = (
    "sseclient-dual",
    "urllib3",
    "launchdarkly-eventsource",
    "sseclient-py",
    "httpx",
    "httpx-sse",
    "requests",
    "requests-sse",
    "aiohttp",
    "aiohttp-sse-client2",
    "aiosonic",
    "h2",
)


def facts() -> dict[str, str]:
    """Return the processor, kernel, interpreter and date."""
    return {
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "cores": str(os.cpu_count()),
        "CPU": _cpu_model(),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def versions() -> dict[str, str]:
    """Return the version of each client."""
    found = {name: metadata.version(name) for name in PEERS}
    if parsers.NODE_PACKAGE.is_dir():
        found[parsers.NODE_PACKAGE.name] = json.loads((parsers.NODE_PACKAGE / "package.json").read_text())["version"]
    return found


def load() -> str:
    """Return the load average of the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
