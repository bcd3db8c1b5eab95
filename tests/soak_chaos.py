"""The long version of test_chaos.py: `make soak ARGS='chaos [faults] [seed]'`."""

from __future__ import annotations

import logging
import random
import sys
import time

import chaos

FAULTS = 10_000


def main() -> int:
    """Make faults, tell of them as they go, and return the exit status."""
    logging.getLogger("sseclient_dual").setLevel(logging.CRITICAL)  # failures are what is asked for here
    faults = int(sys.argv[1]) if len(sys.argv) > 1 else FAULTS
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    begin = time.monotonic()

    def progress(tally: chaos.Tally) -> None:
        print(f"{time.monotonic() - begin:5.0f} s: {sum(tally.faults.values())} of {faults} faults", flush=True)

    print(f"chaos, seed {seed}")
    tally = chaos.run(seed, faults, progress)
    print(f"in {time.monotonic() - begin:.0f} s: {tally}")
    for wrong in tally.wrong:
        print(f"WRONG: {wrong}")
    if tally.wrong:
        print(f"repeat it: make soak ARGS='chaos {faults} {seed}'")
    return bool(tally.wrong)


if __name__ == "__main__":
    sys.exit(main())
