"""Splitting DATA frames of HTTP/2."""

from __future__ import annotations

import pytest

from sseclient_dual.transport.frames import join_payloads
from support.http2 import frame

FIRST = frame(0, 0, 1, b"a")
LARGEST = 16_384


@pytest.mark.parametrize(
    "following",
    [
        b"",
        frame(0, 0, 1, b"cut")[:-1],
        frame(0, 0, 1)[:-1],
        frame(0, 0, 3, b"another stream"),
        frame(0, 1, 1, b"the end"),
        frame(0, 8, 1, b"\0padding"),
        frame(1, 0, 1, b"a head"),
        frame(0, 0, 1),
        frame(0, 0, 1, bytes(LARGEST + 1)),
    ],
)
def test_payloads_are_joined_up_to_another_frame(following: bytes) -> None:
    frames = FIRST + frame(0, 0, 1, b"b" * 300) + frame(0, 0, 1, b"c" * LARGEST)
    joined = b"a" + b"b" * 300 + b"c" * LARGEST
    assert join_payloads(b"xyz" + frames + following, 3) == (joined, 3 + len(frames))
    assert join_payloads(FIRST + following, 0) == (b"a", len(FIRST))
