"""A feed for trying things: one event per second, cut after every tenth.

A client that reconnects gets the events after its last one.

python feed.py          http://127.0.0.1:8000/, until Ctrl-C
python feed.py 8001     another port
"""

from __future__ import annotations

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


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    with SSEServer(port=port, default=answer) as server:
        print(f"serving {server.url}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("bye")
