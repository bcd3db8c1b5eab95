"""Print the events of a stream, with automatic reconnects. Ctrl-C ends it.

python tail.py https://example.com/stream
"""

from __future__ import annotations

import sys
from contextlib import suppress

from sseclient_dual import SSEClient


def main(url: str) -> None:
    """Print the events of `url`."""
    for event in SSEClient().connect(url):
        print(f"{event.type}: {event.data}", flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(sys.argv[1])
