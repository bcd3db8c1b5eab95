"""The response bodies: four payloads, and three framings.

All events are built in advance, from their number or a seed, so that each run sends the same bytes.
"""

from __future__ import annotations

import json
import random
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from http2_frames import MAX_FRAME, data

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BLOCK = 65536  # bytes: the chunk size of the framing "blocks", and the piece size of the parser cells


class Body(NamedTuple):
    """A response body, and the expected result."""

    wire: bytes  # with framing
    size: int  # bytes without framing
    events: int
    chars: int  # characters of data in all events


def _tick(number: int, _: random.Random) -> tuple[str, str]:
    data = f'{{"n":{number}}}'
    return f"data: {data}\n\n", data


def _llm(_: int, rng: random.Random) -> tuple[str, str]:
    """Return one token of an answer, as LLM APIs stream it. Two tokens in a row may be equal."""
    chunk = {
        "id": "chatcmpl-9nGZ2tqkTTvq0vDqJ7o1Zs4Yc8wXb",
        "object": "chat.completion.chunk",
        "created": 1721075651,
        "model": "large-1",
        "system_fingerprint": "fp_70b15a8e3d",
        "choices": [{"index": 0, "delta": {"content": rng.choice(_TOKENS)}, "logprobs": None, "finish_reason": None}],
    }
    data = json.dumps(chunk, separators=(",", ":"))
    return f"data: {data}\n\n", data


def _change(number: int, rng: random.Random) -> tuple[str, str]:
    """Return one change of a wiki, with an id and text in several scripts."""
    change = {
        "meta": {"uri": f"https://example.org/wiki/{number}", "id": f"{rng.getrandbits(128):032x}", "offset": number},
        "type": "edit",
        "title": rng.choice(_TITLES),
        "comment": "/* Geschichte – Überblick */ Tippfehler berichtigt; 日本語の要約も更新しました — проверено ✓",
        "user": "Æthelred-Ó",
        "revision": {"old": 21000000 + number, "new": 21000001 + number},
        "parsedcomment": "".join(rng.choice(_TITLES) + " · " for _ in range(60)),
    }
    data = json.dumps(change, ensure_ascii=False)
    return f'event: message\nid: [{{"topic":"change","partition":0,"offset":{number}}}]\ndata: {data}\n\n', data


def _full(number: int, _: random.Random) -> tuple[str, str]:
    first, second = f'{{"order": {number}, "state": "filled",', '"venue": "north"}'
    return f"id: {number}\nevent: order\nretry: 3000\ndata: {first}\ndata: {second}\n\n", f"{first}\n{second}"


PAYLOADS: dict[str, Callable[[int, random.Random], tuple[str, str]]] = {
    "ticks": _tick,
    "llm": _llm,
    "changes": _change,
    "full": _full,
}
FRAMINGS = ("chunk-per-event", "blocks", "close")

_TOKENS = [" the", " of", ",", " and", " to", " a", " in", ".", "\n\n", " is", " stream", " events", "ing", " ha"] + [
    f" word{number}" for number in range(200)
]
_TITLES = [
    "Zürich",
    "Ελλάδα",
    "東京都",
    "Красноярск",
    "São Paulo",
    "القاهرة",
    "Łódź",
    "Reykjavík",
    "Đà Nẵng",
    "Paris",
]


class _Source:
    """The events of one payload, created as needed and kept."""

    def __init__(self, payload: str) -> None:
        self._make = PAYLOADS[payload]
        self._rng = random.Random(payload)
        self._events: list[bytes] = []
        self._chars: list[int] = [0]

    def take(self, count: int) -> tuple[list[bytes], int]:
        """Return the first `count` events, and the number of characters in their data."""
        while len(self._events) < count:
            text, data = self._make(len(self._events), self._rng)
            self._events.append(text.encode())
            self._chars.append(self._chars[-1] + len(data))
        return self._events[:count], self._chars[count]


@lru_cache(maxsize=1)
def _source(payload: str) -> _Source:
    return _Source(payload)


def events(payload: str, count: int) -> tuple[list[bytes], int]:
    """Return `count` encoded events of a payload, and the number of characters in their data."""
    return _source(payload).take(count)


def cut(pieces: Iterable[bytes], size: int) -> list[bytes]:
    """Join `pieces`, and split them into pieces of `size` bytes."""
    whole = b"".join(pieces)
    return [whole[start : start + size] for start in range(0, len(whole), size)]


@lru_cache(maxsize=16)
def body(payload: str, framing: str, count: int) -> Body:
    """Return a response body with `count` events in a framing."""
    pieces, chars = events(payload, count)
    size = sum(map(len, pieces))
    if framing == "blocks":
        pieces = cut(pieces, BLOCK)
    if framing == "close":
        return Body(b"".join(pieces), size, count, chars)
    return Body(b"".join(map(chunk, pieces)) + LAST_CHUNK, size, count, chars)


class Frames(NamedTuple):
    """A response body in DATA frames of HTTP/2."""

    wire: bytes
    ends: list[int]
    """The end of each frame in `wire`, after a zero."""
    sizes: list[int]
    """The bytes of data up to the end of each frame."""


@lru_cache(maxsize=4)
def frames(payload: str, framing: str, count: int, number: int) -> Frames:
    """Return a body of `count` events as frames of a stream: one for each event, or as large as they may be."""
    pieces, _ = events(payload, count)
    if framing == "blocks":
        pieces = cut(pieces, MAX_FRAME)
    encoded = [data(number, piece) for piece in pieces]
    return Frames(
        b"".join(encoded), list(accumulate(map(len, encoded), initial=0)), list(accumulate(map(len, pieces)))
    )


def chunk(piece: bytes) -> bytes:
    """Return `piece` as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


LAST_CHUNK = b"0\r\n\r\n"
