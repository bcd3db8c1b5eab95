"""A feed for trying things: one event per second, cut after every tenth.

A client that reconnects gets the events after its last one.

python feed.py          http://127.0.0.1:8000/, until Ctrl-C
python feed.py 8001     another port
"""

from __future__ import annotations

import argparse
import sys
import threading
from typing import TYPE_CHECKING

from sseclient_dual import SSEEvent
from sseclient_dual.testing import CUT, SSEServer, pause, stream

if TYPE_CHECKING:
    from sseclient_dual.testing import ReceivedRequest, Reply, Step


def answer(request: ReceivedRequest) -> Reply:
    """Send the next ten events after the client's last one, then cut."""
    begin = int(request.last_event_id or 0) + 1
    steps: list[Step] = ["retry: 1000\n\n"]
    for number in range(begin, begin + 10):
        steps += [
            SSEEvent(f'{{"number": {number}}}', "tick", str(number)),
            pause(1),
        ]
    return stream(*steps, CUT)


def main(port: int) -> None:
    """Serve the feed."""
    with SSEServer(port=port, default=answer) as server:
        print(f"serving {server.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", nargs="?", type=int, default=8000)
    try:
        main(parser.parse_args().port)
    except (OSError, OverflowError) as error:
        sys.exit(f"error: {error}; try another port")
    except KeyboardInterrupt:
        print("bye")
