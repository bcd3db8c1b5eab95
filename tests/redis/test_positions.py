"""Last event IDs of a feed over Redis, resolved against a list as the model of the stream."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sseclient_dual import Gap, SSEEvent
from sseclient_dual.redis import RedisFeed
from sseclient_dual.redis.entries import Kind
from sseclient_dual.redis.positions import START, Asked, Position, make_id, parse_position
from support.redis_streams import StreamWriter

if TYPE_CHECKING:
    import redis

    from support.redis_servers import RedisServer

REPLAY = 4  # events in the ring


def test_a_position_is_written_as_redis_writes_it() -> None:
    assert parse_position("17-3") == Position(17, 3)
    assert str(Position(17, 3)) == "17-3"
    assert START < Position(1, 9) < Position(1, 10) < Position(2, 0)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("17-3/", Position(17, 3)),
        ("17-3/a/b", Position(17, 3)),
        ("17-3", None),
        ("-3/a", None),
        ("x17-3/a", None),
        (f"{2**64}-0/a", None),
        (f"{2**64 - 1}-{2**64 - 1}/a", Position(2**64 - 1, 2**64 - 1)),
        ("\u0661-\u0661/a", None),
        ("", None),
    ],
)
def test_the_position_in_an_id(text: str, position: Position | None) -> None:
    assert Asked(text).position == position


@given(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"])))
def test_an_id_is_recognised_in_either_encoding(upstream_id: str) -> None:
    text = make_id(Position(1, 2), upstream_id)
    for form in (text, text.encode().decode("latin-1")):
        assert Asked(form).agrees(upstream_id)


# An upstream's id may look like one of ours, and may come several times.
UPSTREAM_IDS = st.sampled_from(["a", "b", "c", "d", "e", "ä", "5-1/a", ""])


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    before=st.lists(UPSTREAM_IDS, max_size=6),
    lost=st.lists(UPSTREAM_IDS, max_size=3),
    after=st.lists(UPSTREAM_IDS, max_size=4),
    clock=st.sampled_from([15, 30]),  # when they come; before or after those that are lost
    trimmed=st.integers(0, 4),
    more=st.sampled_from(["a", "ä", "5-1/a", "0-0/", "1-1/b", f"{2**63}-1/a", "20-99/ä"]),
    choice=st.none() | st.integers(0, 30),
    latin_1=st.booleans(),
)
def test_an_id_resolves_as_in_a_list(
    server: RedisServer,
    raw: redis.Redis,
    before: list[str],
    lost: list[str],
    after: list[str],
    clock: int,
    trimmed: int,
    more: str,
    choice: int | None,
    latin_1: bool,
) -> None:
    """The stream gets events, loses the last of them, gets others instead, and is trimmed; then a browser comes."""
    writer = StreamWriter(raw, f"test-{uuid.uuid4().hex}")
    events = [add(writer, upstream_id, 10) for upstream_id in before]
    gone = [add(writer, upstream_id, 20) for upstream_id in lost]
    if lost:
        writer.lose(len(lost))
    events += [add(writer, upstream_id, clock) for upstream_id in after]
    end = writer.add_mark(Kind.END)
    trimmed = min(trimmed, len(events))
    raw.xtrim(writer.key, len(events) + 1 - trimmed, approximate=False)
    candidates = [event.last_id for event in [*events, *gone]]
    candidates += [last_id.partition("/")[0] + "/b" for last_id in candidates]  # replaced by another entry
    asked = more if choice is None or not candidates else candidates[choice % len(candidates)]
    expected = model(asked, events[trimmed:], end, is_whole=trimmed == 0)
    with RedisFeed(server.url, writer.key[5:-8], replay=REPLAY) as feed:
        header = asked.encode().decode("latin-1") if latin_1 else asked
        received = ["gap" if isinstance(signal, Gap) else signal.data for signal in feed.subscribe(header).signals()]
    assert received == expected


class Event(NamedTuple):
    """An event of the stream."""

    last_id: str
    upstream_id: str
    data: str


def add(writer: StreamWriter, upstream_id: str, clock: int) -> Event:
    """Add an event whose data is its number."""
    data = str(writer.seq + 1)
    event = SSEEvent(data, id=upstream_id, last_event_id=upstream_id)
    return Event(writer.add_event(event, f"{clock}-*"), upstream_id, data)


def model(asked: str, kept: list[Event], end: str, *, is_whole: bool) -> list[str]:
    """Return what a subscription receives.

    :param kept: the events of the stream.
    :param end: the id of the entry after them, which takes a place in the ring.
    :param is_whole: True if the stream begins with its first entry.
    """
    ring = kept[1 - REPLAY :]
    gap = ["gap", *(event.data for event in ring)]
    if asked == "0-0/":
        return [event.data for event in kept] if is_whole else gap
    for index, event in enumerate(kept):
        if event.last_id == asked:
            return [event.data for event in kept[index + 1 :]]
    searched = [asked]
    position = Asked(asked).position
    oldest, _, _ = (kept[0].last_id if kept else end).partition("/")
    if position is not None and position >= parse_position(oldest):
        searched.append(asked.partition("/")[2])
    for text in filter(None, searched):
        found = [index for index, event in enumerate(ring) if event.upstream_id == text]
        if found:
            return [event.data for event in ring[found[0] + 1 :]] if len(found) == 1 else gap
    return gap
