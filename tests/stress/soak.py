"""Run the tests that take longer than a minute: `make soak`.

make soak                       every part, one after another
make soak ARGS='PART ...'       one part; its own arguments may follow

A part is the `main()` of a module beside this. Each prints how it goes and, at its end, its tally.
"""

from __future__ import annotations

import subprocess
import sys
import time

from support.processes import script, with_tests

PARTS = ["chaos", "closings", "dead_peer", "hostile", "load"]


def main(arguments: list[str]) -> int:
    """Run the parts asked for, and return the exit status: 1 if a promise was broken."""
    if arguments and arguments[0] not in PARTS:
        print(f"no such part: {arguments[0]}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    asked, rest = (arguments[:1], arguments[1:]) if arguments else (PARTS, [])
    results: list[tuple[str, int, float]] = []
    for part in asked:
        print(f"=== {part}", flush=True)
        begin = time.monotonic()
        status = subprocess.run(script(f"stress.{part}", *rest), env=with_tests(), check=False).returncode
        results.append((part, status, time.monotonic() - begin))
    print("===")
    for part, status, seconds in results:
        print(f"{part}: {'kept' if status == 0 else f'BROKEN (status {status})'}, {seconds:.0f} s")
    return int(any(status for _, status, _ in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
