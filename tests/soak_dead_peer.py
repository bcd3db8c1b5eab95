"""The long version of test_dead_peer.py, by the settings that users get: `make soak ARGS=dead_peer`, two minutes."""

from __future__ import annotations

import subprocess
import sys

import pytest

import dead_peer


def main() -> int:
    """Cut the wire, tell of each peer as it is found dead, and return the exit status."""
    print(f"the wire is cut; keep-alive is due after {dead_peer.DEFAULT_KEEPALIVE:.0f} s", flush=True)
    try:
        return subprocess.run(dead_peer.command("default"), check=False, timeout=dead_peer.LIMIT).returncode
    except pytest.skip.Exception as reason:
        print(f"not proved: {reason}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
