"""`Holding`: the time of an ingest as the holder: reads the upstream, and appends its events to the stream."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from sseclient_dual.event import Opened, SSEEvent, weight
from sseclient_dual.handoff import Finished, TimedOut
from sseclient_dual.logs import log

from .connections import ResponseError
from .entries import Kind, decode, encode_event, encode_mark
from .retrying import StoppedError
from .scripts import Status

if TYPE_CHECKING:
    from sseclient_dual.event import Signal
    from sseclient_dual.reader import Reader

    from .connections import Client
    from .entries import Keys, StreamEntry
    from .retrying import Retrying
    from .scripts import Answer, Scripts

_BATCH_SIZE = 1024 * 1024  # bytes in one call, unless a single event has more
_TAIL = 1024  # entries with which the events of the upstream are compared
_TAIL_SIZE = 4 * 1024 * 1024  # bytes of them
_PAGE = 64  # entries in one answer
_LARGEST_FIELD = 512 * 1024 * 1024  # bytes, by default


class Stream(NamedTuple):
    """A stream in Redis, as one thread uses it.

    :param name: the name of the upstream, for messages.
    """

    name: str
    keys: Keys
    client: Client
    scripts: Scripts
    retrying: Retrying

    def log(self, level: int, text: str, *arguments: object) -> None:
        """Log a message about it."""
        log(level, f"%s: {text}", self.name, *arguments, name=self.name)


class Counters:
    """What an ingest has done; only its thread writes them."""

    def __init__(self) -> None:
        self.entries = dict.fromkeys(Kind, 0)
        self.takeovers = 0
        self.rewinds = 0
        self.reconnects = 0


class LostError(Exception):
    """The lease or data of Redis is lost.

    :param status: FENCED or REWIND.
    """

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


class Holding:
    """Runs once. Other threads may close its reader, which ends it.

    :param stream: the stream.
    :param reader: reads the upstream; it is not started yet.
    :param answer: that of `Scripts.acquire`.
    :param last_id: the last event ID after which the upstream resumes.
    :param missed: whether the stream in Redis was lost, so that a gap has to be added.
    :param counters: counts the entries.
    :param batch: the maximum number of events in one call.
    :param patience: seconds without an event after which to renew the lease.
    """

    def __init__(
        self,
        stream: Stream,
        reader: Reader,
        answer: Answer,
        last_id: str,
        *,
        missed: bool,
        counters: Counters,
        batch: int,
        patience: float,
    ) -> None:
        self.seq = answer.seq
        """The number of the last entry that Redis has acknowledged."""
        self.last_id = last_id
        """The last event ID after it."""
        self._stream = stream
        self._reader = reader
        self._fence = answer.fence
        self._missed = missed
        self._counters = counters
        self._batch = batch
        self._patience = patience
        self._largest = _LARGEST_FIELD
        # Whether there was a connection to the upstream before; an earlier holder's may have brought no event.
        self._was_open = bool(answer.seq) or answer.term > 1
        # The entries that Redis has not acknowledged: kinds, fields, and the last event ID after them.
        self._kinds: list[Kind] = []
        self._fields: list[list[bytes]] = []
        self._next_id = last_id
        self._last_kind = Kind.EVENT  # of the last entry, acknowledged or not

    def run(self) -> Status:
        """Work until the lease or data of Redis is lost, or the stream ends: FENCED, REWIND or ENDED.

        :raises StoppedError: the reader was closed.
        :raises Exception: the upstream failed, and its policy does not try again.
        """
        try:
            self._start()
            with suppress(Finished):
                while True:
                    self._append()
                    self._collect()
            self._finish()
        except LostError as lost:
            return lost.status
        return Status.ENDED

    def _start(self) -> None:
        """Read what Redis has, and let the reader continue after it."""
        self._stream.retrying(self._read_settings)
        tail = self._read_tail()
        if tail:
            self._last_kind = tail[-1].kind
        reader = self._reader
        reader.pipeline.wants_signals = True  # for `Opened`
        reader.resume_after(self.last_id, [entry.event for entry in tail if entry.event is not None])
        reader.start()
        if self._missed:
            self._add(Kind.GAP, encode_mark(Kind.GAP, self.last_id))

    def _finish(self) -> None:
        """Append the end of the stream, unless there is an error."""
        if self._stream.retrying.stopped:
            raise StoppedError
        error = self._reader.handoff.take_error()
        if error is not None:
            raise error
        self._add(Kind.END, encode_mark(Kind.END, self._next_id))
        self._append()

    # -- from the upstream

    def _collect(self) -> None:
        """Take the next events; none if there are none when the lease has to be renewed.

        :raises Finished: there are no further ones.
        """
        handoff = self._reader.handoff
        try:
            self._take(handoff.get(self._patience))
        except TimedOut:
            return
        size = 0
        while len(self._fields) < self._batch and size < _BATCH_SIZE:
            for signal in handoff.ready:
                self._take(signal)
                size += weight(signal)
                break
            else:
                return

    def _take(self, signal: Signal) -> None:
        if isinstance(signal, SSEEvent):
            kind, fields = Kind.EVENT, encode_event(signal)
            if max(map(len, fields)) > self._largest:
                self._stream.log(
                    logging.WARNING,
                    "an event of %d bytes is skipped: proto-max-bulk-len of Redis is %d",
                    max(map(len, fields)),
                    self._largest,
                )
                kind, fields = Kind.SKIPPED, encode_mark(Kind.SKIPPED, signal.last_event_id)
            self._next_id = signal.last_event_id
            self._add(kind, fields)
        elif isinstance(signal, Opened):
            if not self._next_id and (self._was_open or self._fields):
                self._stream.log(
                    logging.WARNING,
                    "events may be missing, because there is no id of the upstream by which to resume",
                )
                self._add(Kind.GAP, encode_mark(Kind.GAP, ""))
            self._was_open = True

    def _add(self, kind: Kind, fields: list[bytes]) -> None:
        if kind is Kind.GAP and self._last_kind is Kind.GAP:
            return  # nothing came between the two
        self._kinds.append(kind)
        self._fields.append(fields)
        self._last_kind = kind

    # -- to Redis

    def _append(self) -> None:
        """Append what was taken, or renew the lease if that is nothing.

        :raises LostError: nothing was appended.
        """
        stream, last_id = self._stream, self._next_id
        kinds, fields, self._kinds, self._fields = self._kinds, self._fields, [], []
        answer = stream.retrying(
            lambda: stream.scripts.append(self._fence, self.seq, fields, last_id, ends=kinds[-1:] == [Kind.END])
        )
        if answer.status in {Status.FENCED, Status.REWIND}:
            raise LostError(answer.status)
        self.seq, self.last_id = answer.seq, last_id
        for kind in kinds:
            self._counters.entries[kind] += 1

    def _read_settings(self) -> None:
        """Read how large an entry may be, and warn if Redis may evict the stream; not all servers tell."""
        try:
            settings = self._read_config("proto-max-bulk-len") | self._read_config("maxmemory-policy")
        except ResponseError:
            return
        self._largest = int(settings.get("proto-max-bulk-len", _LARGEST_FIELD))
        policy = settings.get("maxmemory-policy", "")
        if policy.startswith("allkeys"):
            self._stream.log(
                logging.WARNING,
                "Redis may evict the stream, because its maxmemory-policy is %s; set it to noeviction",
                policy,
            )

    def _read_config(self, name: str) -> dict[str, str]:
        answer: list[bytes] = self._stream.client.execute("CONFIG", "GET", name)
        texts = [part.decode() for part in answer]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    def _read_tail(self) -> list[StreamEntry]:
        """Return the last entries, oldest first, and renew the lease meanwhile.

        :raises LostError: the lease, or data of Redis, is lost nevertheless.
        """
        stream = self._stream
        found: list[StreamEntry] = []
        size, end = 0, "+"
        renewed = time.monotonic()
        while len(found) < _TAIL and size < _TAIL_SIZE:
            page: list[Any] = stream.retrying(
                lambda end=end: stream.client.execute(  # type: ignore[misc]
                    "XREVRANGE", stream.keys.events, end, "-", "COUNT", _PAGE
                )
            )
            for position, fields in page:
                found.append(decode(position, fields))
                size += sum(map(len, fields.values()))
                end = f"({position.decode()}"
            if len(page) < _PAGE:
                break
            if time.monotonic() > renewed + self._patience:
                self._append()
                renewed = time.monotonic()
        return found[::-1]
