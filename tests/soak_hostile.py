"""Play the hostile peers that flood, for gigabytes each, and see the memory stay flat.

The table is that of `hostile.py`, and the events are as large as they may be by default.
"""

from __future__ import annotations

import argparse
import re
import sys
import time

from hostile import MIB, PEERS, Gauge

LIMIT = 64  # MiB of an event: what is allowed by default


def main() -> int:
    """Play all that flood; return 0 if each kept what the table promises."""
    arguments = argparse.ArgumentParser(description="Play the hostile peers that flood, for long.")
    arguments.add_argument("--size", type=int, default=1024, help="MiB of each flood")
    arguments.add_argument("--only", default="", help="the peers whose name has this in it")
    given = arguments.parse_args()
    peers = [peer for peer in PEERS if peer.floods and given.only in peer.name]
    tally = []
    broken = 0
    with Gauge() as gauge:
        for number, peer in enumerate(peers, 1):
            print(f"{number}/{len(peers)} {peer.name} ...", flush=True)
            begin = time.monotonic()
            cost, requests = gauge.measure(peer, given.size * MIB, LIMIT)
            allowed = peer.memory(LIMIT)
            as_said = re.search(peer.says or "^$", cost.error) is not None
            all_fed = peer.says is not None or cost.bytes >= given.size * MIB
            kept = cost.memory < allowed and requests == 1 and as_said and all_fed
            broken += not kept
            tally.append(
                f"{'kept' if kept else 'BROKEN'}: {peer.name}: {cost.bytes / MIB:.1f} MiB, events: {cost.events}, "
                f"requests: {requests}, {cost.memory:.1f} of {allowed:.0f} MiB, {time.monotonic() - begin:.0f} s; "
                + (cost.error[:100] or "went on")
            )
    print(*tally, f"{len(peers)} floods, {broken} broken", sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
