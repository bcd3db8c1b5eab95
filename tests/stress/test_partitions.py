"""Wires between ingests, Redis and the upstream are cut. `make soak ARGS=partitions` cuts them more often."""

from __future__ import annotations

from stress import partitions


def test_each_event_is_stored_once_whichever_wire_is_cut() -> None:
    done = partitions.run(1, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("2 cuts, ")
