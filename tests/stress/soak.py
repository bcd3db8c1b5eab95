"""Run the long stress tests: `make soak`.

make soak                       run all parts, one after another
make soak ARGS='PART ...'       run one part; its own arguments may follow

A part is the `main()` of the module with the same name in this folder. It prints its progress and its results.
"""

from __future__ import annotations

import subprocess
import sys
import time

from support.processes import restore_ctrl_c, script, with_tests

PARTS = [
    "append_only_file",
    "chaos",
    "checkpoint",
    "closing",
    "compiled",
    "dead_peer",
    "faults",
    "feed",
    "hostile",
    "ingests",
    "load",
    "many_streams",
    "partitions",
    "pauses",
    "redis_feed",
    "web_workers",
]


def main(arguments: list[str]) -> int:
    """Run one part or all, and return the exit status: 1 if a part failed."""
    if arguments and arguments[0] not in PARTS:
        print(f"unknown part: {arguments[0]}; the parts are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    restore_ctrl_c()
    selected, rest = (arguments[:1], arguments[1:]) if arguments else (PARTS, [])
    results: list[tuple[str, int, float]] = []
    for part in selected:
        print(f"=== {part}", flush=True)
        begin = time.monotonic()
        status = subprocess.run(script(f"stress.{part}", *rest), env=with_tests(), check=False).returncode
        results.append((part, status, time.monotonic() - begin))
    print("===")
    for part, status, seconds in results:
        print(f"{part}: {'passed' if status == 0 else f'FAILED (status {status})'}, {seconds:.0f} s")
    return int(any(status for _, status, _ in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
