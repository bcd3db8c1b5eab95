"""Random histories of a stream, which Redis loses parts of: a subscription is never silent about a missing event."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sseclient_dual import Gap, SSEEvent
from sseclient_dual.redis import RedisFeed, runner
from sseclient_dual.redis import reader as reader_module
from sseclient_dual.redis.entries import Kind
from support.redis_streams import StreamWriter, numbered
from support.waiting import wait_until

if TYPE_CHECKING:
    import redis

    from sseclient_dual import Subscription
    from support.redis_servers import RedisServer


class Step:
    """Something that happens to the stream."""


@dataclass(frozen=True)
class Lose(Step):
    """Redis restarts without its newest entries, and the ingest adds what the upstream sends again.

    :param count: how many entries are lost.
    :param skipped: how many of their events the upstream does not send again.
    :param is_behind: whether the clock of the new server is behind.
    :param was_read: whether the feed has read the lost entries.
    :param more: how many new events the upstream sends at once.
    """

    count: int
    skipped: int
    is_behind: bool
    was_read: bool
    more: int


@dataclass(frozen=True)
class Add(Step):
    """The upstream sends events."""

    count: int


@dataclass(frozen=True)
class Trim(Step):
    """The stream is trimmed to its newest entries."""

    count: int


@dataclass(frozen=True)
class Flush(Step):
    """The stream is deleted, and the ingest marks a gap."""


@dataclass(frozen=True)
class Settle(Step):
    """The feed reads all entries."""


REPLAYED = st.one_of(
    st.builds(Add, st.integers(1, 4)),
    st.builds(Lose, st.integers(1, 6), st.just(0), st.booleans(), st.booleans(), st.integers(0, 4)),
    st.builds(Settle),
)
ANY = st.one_of(
    REPLAYED,
    st.builds(Lose, st.integers(1, 6), st.integers(1, 6), st.booleans(), st.booleans(), st.integers(0, 4)),
    st.builds(Trim, st.integers(1, 3)),
    st.builds(Flush),
)


class History:
    """A stream in Redis, its upstream, and a feed that follows it."""

    def __init__(self, raw: redis.Redis, feed: RedisFeed, writer: StreamWriter) -> None:
        self.published = 0
        self.gone: set[int] = set()
        """Events that Redis has lost and that the upstream does not send again; only those who had them can tell."""
        self._raw = raw
        self._engine: Any = feed._engine
        self._writer = writer
        self._clock = 1000

    def apply(self, step: Step) -> None:
        """Let a step happen."""
        writer = self._writer
        if isinstance(step, Add):
            self._add(range(self.published + 1, self.published + step.count + 1))
        elif isinstance(step, Lose):
            self._lose(step)
        elif isinstance(step, Trim):
            self._raw.xtrim(writer.key, step.count, approximate=False)
        elif isinstance(step, Flush):
            writer.flush()
            writer.add_mark(Kind.GAP, str(self.published), f"{self._clock}-*")
            self.apply(Settle())
        else:
            wait_until(lambda: self._engine.tail.seq == writer.seq)

    def _add(self, numbers: range) -> None:
        for number in numbers:
            self._clock += 10
            self._writer.add_event(numbered(number), f"{self._clock}-*")
            self.published = max(self.published, number)

    def _lose(self, step: Lose) -> None:
        writer = self._writer
        if step.was_read:
            self.apply(Settle())
        entries = writer.entries()
        kept = entries[: -step.count]
        if not kept:
            return
        writer.lose(step.count, with_clients=True)
        if step.is_behind:
            self._clock = int(kept[-1][0].partition("-")[0])
        last = kept[-1][1]
        again = int(last.get("id") or last["last_id"]) + 1
        first = min(again + step.skipped, self.published + 1)
        self.gone.update(range(again, first))
        self._add(range(first, self.published + step.more + 1))

    def check(self, signals: list[Any], *, may_have_gaps: bool) -> None:
        """Check that no event is missing or doubled without a gap before it."""
        previous: int | None = None
        for signal in signals:
            if isinstance(signal, Gap):
                assert may_have_gaps
                previous = None
            else:
                number = int(signal.data)
                if previous is not None:
                    assert number > previous
                    assert set(range(previous + 1, number)) <= self.gone
                previous = number


def follow(history: History, subscription: Subscription) -> tuple[list[Any], list[str]]:
    """Return the signals up to the last event, and the last event ID after each."""
    signals: list[Any] = []
    ids = []
    for signal in subscription.signals():
        signals.append(signal)
        ids.append(subscription.last_event_id)
        if isinstance(signal, SSEEvent) and signal.data == str(history.published):
            break
    return signals, ids


@pytest.mark.parametrize("kind", ["replayed", "any"])
def test_no_event_is_missing_or_doubled_without_a_gap(
    kind: str, server: RedisServer, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "BLOCK", 0.02)
    monkeypatch.setattr(runner, "LONGEST_DELAY", 0.002)

    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(steps=st.lists(REPLAYED if kind == "replayed" else ANY, max_size=8), choice=st.integers(0, 1000))
    def run(steps: list[Step], choice: int) -> None:
        name = f"test-{uuid.uuid4().hex}"
        with RedisFeed(server.url, name) as feed, feed.subscribe("0-0/") as subscription:
            history = History(raw, feed, StreamWriter(raw, name))
            for step in [Add(1), Settle(), *steps, Settle(), Add(1)]:
                history.apply(step)
            signals, ids = follow(history, subscription)
            history.check(signals, may_have_gaps=kind == "any")
            assert kind == "any" or len(signals) == history.published
        asked = choice % len(ids)
        if kind == "replayed" and asked + 1 < len(ids):  # a browser comes to another process
            with RedisFeed(server.url, name) as other, other.subscribe(ids[asked]) as subscription:
                assert follow(history, subscription)[0] == signals[asked + 1 :]

    run()
