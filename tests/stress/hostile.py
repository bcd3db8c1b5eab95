"""Hostile peers, over HTTP/1.1 and HTTP/2.

`test_hostile.py` runs both tables. `make soak ARGS=hostile` runs the peers that flood, with a gigabyte each and the
default event size limit, and checks that memory use stays flat.
"""

from __future__ import annotations

import argparse
import re
import sys
import time

from stress import peers, peers_http2
from stress.gauge import MIB, Gauge

PEERS = [*peers.PEERS, *peers_http2.PEERS]
DEFAULT_LIMIT = 64  # MiB: the default maximum event size


def main(arguments: list[str]) -> int:
    """Run the peers that flood; return 0 if each result matches the table."""
    parser = argparse.ArgumentParser(description="Run the hostile peers that flood, with large floods.")
    parser.add_argument("--size", type=int, default=1024, help="size of each flood in MiB")
    parser.add_argument("--only", default="", help="run only the peers whose name contains this text")
    given = parser.parse_args(arguments)
    peers = [peer for peer in PEERS if peer.floods and given.only in peer.name]
    tally = []
    failures = 0
    with Gauge() as gauge:
        for number, peer in enumerate(peers, 1):
            print(f"{number}/{len(peers)} {peer.name} ...", flush=True)
            begin = time.monotonic()
            cost, requests = gauge.measure(peer, given.size * MIB, DEFAULT_LIMIT)
            allowed = peer.memory(DEFAULT_LIMIT)
            message_matches = re.search(peer.message or "^$", cost.error) is not None
            all_received = peer.message is not None or cost.bytes >= given.size * MIB
            passed = cost.memory < allowed and requests == 1 and message_matches and all_received
            failures += not passed
            tally.append(
                f"{'passed' if passed else 'FAILED'}: {peer.name}: {cost.bytes / MIB:.1f} MiB, "
                f"events: {cost.events}, requests: {requests}, {cost.memory:.1f} of {allowed:.0f} MiB, "
                f"{time.monotonic() - begin:.0f} s; " + (cost.error[:100] or "no error")
            )
    print(*tally, f"{len(peers)} floods, {failures} failures", sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
