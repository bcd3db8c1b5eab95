"""Streams in Redis, as tests of ingests see them."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sseclient_dual import SSEClient
from sseclient_dual.redis import RedisIngest
from sseclient_dual.redis.entries import keys_of
from support.policies import QUICK
from support.waiting import LONG, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

UNTIL_CLOSED = LONG  # seconds: a lease that does not expire in a test


@dataclass(frozen=True)
class StreamInRedis:
    """The keys of one stream, read and changed by the test.

    :param raw: a client that decodes.
    :param name: the name of the stream.
    """

    raw: Any
    name: str

    def entries(self) -> list[dict[str, str]]:
        """Return the fields of all entries, after checking that their numbers follow each other."""
        found = [fields for _, fields in self.raw.xrange(keys_of(self.name).events)]
        if found:
            first = int(found[0]["seq"])
            assert [int(fields["seq"]) for fields in found] == list(range(first, first + len(found)))
        return found

    def data(self) -> list[str]:
        """Return the data of the events, and the kinds of the other entries."""
        return [fields.get("data", fields.get("kind", "")) for fields in self.entries()]

    @property
    def state(self) -> dict[str, str]:
        """The state."""
        state: dict[str, str] = self.raw.hgetall(keys_of(self.name).state)
        return state

    def wait_for(self, *data: str) -> None:
        """Wait until the stream has exactly these events and kinds."""
        wait_until(lambda: self.raw.xlen(keys_of(self.name).events) >= len(data), f"{len(data)} entries")
        assert self.data() == list(data)

    def expire(self) -> None:
        """Let the lease expire now."""
        self.raw.delete(keys_of(self.name).lease)

    def delete(self) -> None:
        """Delete all, as FLUSHALL does."""
        self.raw.delete(*keys_of(self.name))

    def dump(self) -> dict[str, tuple[bytes | None, int]]:
        """Return the content of the three keys and their time to live, for `restore`."""
        keys = keys_of(self.name)
        with self.raw.pipeline(transaction=False) as pipeline:  # others would decode
            for key in keys:
                pipeline.execute_command("DUMP", key, NEVER_DECODE=True)
                pipeline.pttl(key)
            answers = pipeline.execute()
        return {key: (answers[2 * at], max(0, answers[2 * at + 1])) for at, key in enumerate(keys)}

    def restore(self, dumped: dict[str, tuple[bytes | None, int]]) -> None:
        """Give the keys the content that they had before, as a Redis that has lost its newest data."""
        with self.raw.pipeline() as pipeline:
            for key, (content, left) in dumped.items():
                pipeline.delete(key)
                if content is not None:
                    pipeline.restore(key, left, content)
            pipeline.execute()


def numbers(first: int, last: int) -> list[str]:
    """Return the data of the events of a `Journal`."""
    return [str(number) for number in range(first, last + 1)]


@contextmanager
def ingest_of(
    url: str, redis: str, name: str, *, lease: float = UNTIL_CLOSED, **options: Any
) -> Iterator[RedisIngest]:
    """Start an ingest with a client of its own, and wait for its end at the end of the block."""
    with SSEClient(policy=options.pop("policy", QUICK)) as client:
        ingest = RedisIngest(client, url, redis=redis, name=name, lease=lease, **options)
        try:
            yield ingest.start()
        finally:
            ingest.close()
            if (worker := ingest._worker) is not None:
                assert worker.finished.wait(LONG)


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """Return the logged messages of a level or higher ones."""
    return [record.getMessage() for record in caplog.records if record.levelno >= level]
