"""A silently vanished peer is detected, and the stream resumes. `make soak` tests the default timeouts."""

from __future__ import annotations

from stress import dead_peer


def test_a_peer_behind_a_cut_wire_is_detected_and_the_stream_resumes() -> None:
    done = dead_peer.run("fast", capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("dead after") == len(dead_peer.LISTS["fast"])
