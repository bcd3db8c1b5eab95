"""`Pipeline`: from the bytes of a response body to new events in the queue: parse, de-duplicate, offer; no I/O."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from .event import SSEEvent
from .logs import logger
from .parser import EventStreamParser

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .dedup import Deduplicator
    from .errors import SSEConnectionError
    from .event import Comment, Signal
    from .handoff import Producer, Sink
    from .policy import Reconnector
    from .until import Until


class Pipeline:
    """Passes on the events of one stream, body after body; one thread at a time uses it, any may read the counters.

    :param strict: see `EventStreamParser`, also for `max_event_size` and `last_event_id`.
    :param dedup: recognises the events that a server sends again; None to pass on all.
    :param until: recognises the last event.
    :param reconnector: is told about progress, and about the server's reconnection time.
    :param sink: the queue.
    :param producer: is woken when there is room for what did not fit.
    """

    __slots__ = (
        "_counted", "_dedup", "_items", "_max_event_size", "_parser", "_producer",
        "_reconnector", "_sink", "_size", "_strict", "_until", "bytes", "duplicates", "events", "has_ended",
        "queued_id", "skipped", "wants_signals",
    )  # fmt: skip

    def __init__(
        self,
        *,
        strict: bool,
        max_event_size: int,
        last_event_id: str,
        dedup: Deduplicator | None,
        until: Until | None,
        reconnector: Reconnector,
        sink: Sink[Signal],
        producer: Producer,
    ) -> None:
        self._strict = strict
        self._max_event_size = max_event_size
        self._dedup = dedup
        self._until = until
        self._reconnector = reconnector
        self._sink = sink
        self._producer = producer
        self.wants_signals = False
        """Whether to queue comments and ignored lines, too; set by any thread."""
        self.queued_id = last_event_id
        """The last event ID after the last queued event; a reconnect sends it."""
        self.skipped: list[SSEEvent] = []
        """The duplicates to log; the caller clears it."""
        self.has_ended: bool | Exception = False
        """True once the last event is queued, or left out; or the error of the user's callable for it."""
        self.events = self.duplicates = self.bytes = 0
        # Of the current body:
        self._parser = EventStreamParser()
        self._counted = (0, 0, self._parser)  # the comments and ignored lines of earlier bodies, and the parser
        self._size = 0  # bytes since the last event
        self._items: list[SSEEvent | Comment] = []  # some of them do not fit yet

    def begin(self, origin: str) -> None:
        """Prepare for the next body."""
        parser = EventStreamParser(self._strict, max_event_size=self._max_event_size, last_event_id=self.queued_id)
        parser.origin = origin
        self._parser, self._counted = parser, (self.comments, self.ignored, parser)
        self._size = 0

    def feed(self, data: bytes) -> bool:
        """Pass on the events that these bytes complete; return True if that is all.

        Otherwise handle `is_full`, `skipped`, `has_ended` and `error`, in this order.
        """
        parser = self._parser
        size = len(data)
        self.bytes += size
        self._size += size
        parser.comments = parser.ignored = self.wants_signals
        items = parser.feed(data)
        if parser.retry is not None:
            self._reconnector.set_reconnection_time(parser.retry)
        if items:
            dedup = self._dedup
            if dedup is not None and (parser.ids_seen or dedup.after_reconnect):
                items = self._without_duplicates(items, dedup)
            if self._until is not None:
                items, self.has_ended = self._until.cut(items)
            # Counted before the consumer can see them.
            self.events += sum(isinstance(item, SSEEvent) for item in items) if parser.comments else len(items)
            if self._sink.offer(cast("list[Signal]", items), self._producer, self._size):
                self._items = items
                return False
            self._record(items)
            if self.has_ended:
                return False
            self._size = size
        self.queued_id = parser.last_event_id
        return parser.error is None and not self.skipped

    @property
    def comments(self) -> int:
        """The number of comments."""
        earlier, _, parser = self._counted
        return earlier + parser.comments_seen

    @property
    def ignored(self) -> int:
        """The number of ignored lines."""
        _, earlier, parser = self._counted
        return earlier + parser.ignored_seen

    @property
    def is_full(self) -> bool:
        """True after a `feed` whose events did not all fit; call `settle` next."""
        return bool(self._items)

    def settle(self, left: int) -> None:
        """Continue after the wait for room; `left` is the number of items that are not queued after all."""
        items, self._items = self._items, []
        queued = len(items) - left
        if left:
            self.has_ended = False
            events = [item for item in items[queued:] if isinstance(item, SSEEvent)]
            self.events -= len(events)
            if self._dedup is not None:
                self._dedup.retract(events)  # they will be requested again, and are no duplicates then
        self._record(items[:queued])
        if not (left or self.has_ended):
            self.queued_id = self._parser.last_event_id

    @property
    def error(self) -> SSEConnectionError | None:
        """The error in the body, if any."""
        return self._parser.error

    def finish(self) -> None:
        """End the body.

        :raises SSEConnectionError: it ends with an error.
        """
        self._parser.finish()

    def resume(self, last_event_id: str, delivered: Iterable[SSEEvent] = ()) -> None:
        """Begin after other connections; called before the first body.

        :param delivered: their last events, oldest first, which may come again.
        """
        self.queued_id = last_event_id
        if self._dedup is not None:
            self._dedup.resume(delivered)

    def reconnected(self) -> None:
        """Record that the next body is that of another connection."""
        if self._dedup is not None:
            self._dedup.reconnected()

    def _without_duplicates(self, items: list[SSEEvent | Comment], dedup: Deduplicator) -> list[SSEEvent | Comment]:
        kept = dedup.without_duplicates(items)
        self.duplicates += len(items) - len(kept)
        if logger.isEnabledFor(logging.DEBUG):
            queued = set(map(id, kept))
            self.skipped += [item for item in items if isinstance(item, SSEEvent) and id(item) not in queued]
        return kept

    def _record(self, queued: list[SSEEvent | Comment]) -> None:
        for last in reversed(queued):
            if isinstance(last, SSEEvent):
                self.queued_id = last.last_event_id
                self._reconnector.progressed()
                if self._dedup is not None:
                    self._dedup.delivered(last)
                return
