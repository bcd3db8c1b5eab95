"""The reading side of a connection: connect, read, wait and reconnect, attempt after attempt.

`Reader._run` is a routine: it connects on a worker thread, and receives on the hub's thread, which reads the streams
of all connections. `Pipeline` does the rest. A body that cannot be received without blocking stays on its worker.

A `Reader` does not reference the connection object that it works for, so that dropping that object ends the routine.
Other threads may call `start`, `close` and `restart`, and read the counters and latches; only the routine uses the
rest, on one thread at a time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from http import HTTPStatus
from selectors import EVENT_READ
from typing import TYPE_CHECKING

from .dedup import Deduplicator
from .errors import Remedy, SSEConnectionError, clear_tracebacks
from .event import Interrupted, Opened, ReadyState, weight
from .handoff import Handoff
from .hub import BLOCKING, Routine, Wait, current
from .logs import log
from .pipeline import Pipeline
from .policy import Outcome, Reconnector, ReconnectPolicy, Retry
from .transport import NOTHING, Exchange
from .until import too_early
from .waiting import Deadline, Latch, Lock

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator, Iterable, Mapping
    from typing import Any

    from .event import Signal, SSEEvent
    from .handoff import Sink
    from .transport import Pools, Request
    from .until import Until

MAX_QUEUED = 8 * 1024 * 1024  # characters in a connection's queue, unless a single event has more


@dataclass(frozen=True)
class Settings:
    """The arguments of a connection that do not concern its request."""

    name: str | None
    reconnect: bool | None
    retry_delay: float | None
    last_event_id: str
    until: Until | None
    strict: bool
    policy: ReconnectPolicy
    queue_size: int
    max_event_size: int


class Reader:
    """Reads one stream, from `start` until its end or `close`."""

    __slots__ = (
        "__weakref__", "_calls_user", "_closed", "_exchange", "_lock", "_loop", "_pools", "_reconnector", "_request",
        "_restart", "_routine", "_running", "_settings", "_sink", "_state", "belongs_to_parent", "failure",
        "finished", "handoff", "headers", "http_version", "name", "opened", "pipeline", "prefix", "reconnects",
        "response_url", "status", "tap",
    )  # fmt: skip

    def __init__(self, pools: Pools, request: Request, settings: Settings, sink: Sink[Signal] | None = None) -> None:
        self.name = settings.name or request.origin
        """The name of the connection, its origin by default."""
        self.prefix = "" if settings.name is None else f"{settings.name}: "
        """The beginning of messages."""
        self._routine = Routine(self.name)
        self.handoff: Handoff[Signal] = Handoff(
            settings.queue_size, MAX_QUEUED, weight, self._routine.wake_consumer, self.prefix
        )
        self._sink: Sink[Signal] = self.handoff if sink is None else sink
        self.opened = Latch()
        """Set once a response head is accepted, or it is certain that none will be."""
        self.finished = Latch()
        """Set when reading has ended, or was abandoned in a name resolution that nothing can end."""
        self.tap: Callable[[bytes], object] | None = None
        """Called with the bytes of each body, before their events are queued, on a thread that may block."""
        # Written only by the routine, read by any thread.
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.response_url: str | None = None
        self.http_version: str | None = None
        self.failure: SSEConnectionError | None = None
        """The error of the last attempt; None once a response is accepted."""
        self.reconnects = 0

        self._pools = pools
        self._request = request
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None  # set before the routine starts
        self._reconnector = Reconnector(
            settings.policy,
            reconnect=settings.reconnect,
            replayable=request.replayable,
            retry_delay=settings.retry_delay,
            origin=self.prefix + request.origin,
        )
        dedup: Deduplicator | None = None
        if settings.policy.dedup:
            dedup = Deduplicator(settings.policy.dedup_window, by_id_only=settings.policy.dedup == "id")
        self._calls_user = settings.until is not None and settings.until.calls_user
        self.pipeline = Pipeline(
            strict=settings.strict,
            max_event_size=settings.max_event_size,
            last_event_id=settings.last_event_id,
            dedup=dedup,
            until=settings.until,
            reconnector=self._reconnector,
            sink=self._sink,
            producer=self._routine,
        )
        self._lock = Lock()  # guards the attributes below; _closed is set before the lock is taken
        self._running = False  # True once the routine runs
        self._exchange: Exchange | None = None
        self._closed = False
        self._restart = False
        self._state = ReadyState.CONNECTING  # written only by the routine
        self.belongs_to_parent = False
        """True in a forked child if the stream is read in the parent."""

    @property
    def ready_state(self) -> ReadyState:
        """The state of the network side."""
        return ReadyState.CLOSED if self._closed else self._state

    @property
    def origin(self) -> str:
        """The origin of the requested URL, used in messages."""
        return self._request.origin

    @property
    def reconnection_time(self) -> float:
        """The current reconnection time in milliseconds."""
        return self._reconnector.reconnection_time

    # -- called by any thread

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Begin to read, in a copy of the caller's context, so that the user's callables see the same context.

        Awaitables of the user run on `loop`, or else on a private loop. A signal handler may interrupt this anywhere.
        Calling it again is safe: the stream is read only once.

        :raises RuntimeError: no thread can be started.
        """
        self._loop = loop
        try:
            current().start(self._routine, self._run)
        except RuntimeError as error:
            raise RuntimeError(
                "a connection needs background threads, and none can be started: raise the limit of threads "
                "(ulimit -u); isolated sub-interpreters are not supported"
            ) from error

    def another(self, sink: Sink[Signal] | None = None) -> Reader:
        """Return a reader of the same stream with other connections.

        :param sink: takes the events; None for a `handoff` of its own.
        """
        return Reader(self._pools, self._request, self._settings, sink)

    @property
    def may_repeat(self) -> bool:
        """True if the request may be sent again although the server may have received it."""
        return self._settings.reconnect or (self._settings.reconnect is None and self._request.replayable)

    def resume_after(self, last_event_id: str, delivered: Iterable[SSEEvent] = ()) -> None:
        """Set the last event ID of the first request; called before `start`.

        :param delivered: the last events of earlier connections, which are not delivered again.
        """
        self.pipeline.resume(last_event_id, delivered)

    def close(self) -> None:
        """End reading without waiting for its end; callable from any thread, signal handler or finalizer."""
        if self.belongs_to_parent:
            if self._exchange is not None:
                self._exchange.disown()
            return
        self._closed = True
        with self._lock:
            will_end = self._running and self._abort()
        self._sink.close()
        self.opened.set()
        if not will_end:
            self.finished.set()

    def restart(self) -> None:
        """Abort the current response, attempt or wait, and connect again at once; do nothing before `start`."""
        with self._lock:  # around both: the reader must not begin the next attempt between them
            if self._running:
                self._restart = True
                self._abort()

    def _abort(self) -> bool:
        """End any wait of the routine; return False if it is in a wait that cannot be ended. Holds the lock."""
        ends = self._exchange is None or self._exchange.abort()
        self._routine.wake()
        return ends

    def renew_locks(self) -> None:
        """See `LockOwner._renew_locks`."""
        self.belongs_to_parent = self._running
        self._lock = Lock()
        self._sink.renew_lock()

    # -- the routine

    def _interrupted(self) -> bool:
        return self._closed or self._restart

    def _run(self) -> Generator[Wait, Any, None]:
        with self._lock:
            if self._closed:  # before it began: `close` has set the latches
                return
            self._running = True
        error: BaseException | None = None
        try:
            error = yield from self._read_stream()
        except BaseException as unexpected:  # noqa: BLE001 - raised to the consumer: it may come from their callable
            error = unexpected
        self._state = ReadyState.CLOSED
        self._sink.finish(error)
        self.opened.set()
        self.finished.set()

    def _read_stream(self) -> Generator[Wait, Any, SSEConnectionError | None]:
        """Make attempts until the stream ends; return the error that ended it, or None."""
        while not self._closed:
            self._state = ReadyState.CONNECTING
            outcome = yield from self._attempt()
            if self._closed or outcome is None:
                return None
            yield BLOCKING  # as log handlers may; if there is no thread for it, here
            if self._restart:
                self._restart = False
                self._reconnector.restarted()
                self.log("reconnecting after restart()", self.origin)
                yield from self._signal(Interrupted(None, 0))
            else:
                decision = self._reconnector.decide(outcome)
                if not isinstance(decision, Retry):
                    return decision.error
                self._state = ReadyState.CONNECTING
                self.failure = outcome.error  # not one that is raised, and whose traceback references the consumer
                self._report(outcome.error, decision.delay)
                yield from self._signal(Interrupted(outcome.error, decision.delay))
                yield from self._pause(decision.delay / 1000)
                self._restart = False
            self.reconnects += 1
            self.pipeline.reconnected()
        return None

    def _attempt(self) -> Generator[Wait, Any, Outcome | None]:
        """Connect, and read to the end of the connection; return None if the stream has ended."""
        exchange = Exchange(
            self._pools,
            self._request,
            self.pipeline.queued_id,
            self._loop,
            name=self.name,
            max_answer=self._settings.max_event_size,
        )
        with self._lock:
            if self._interrupted():
                return Outcome(sent=False)
            self._exchange = exchange
        try:
            yield from self._go_where_it_may_block()
            exchange.open()
            if exchange.status == HTTPStatus.NO_CONTENT:
                self.log("the server ended the stream with status 204", exchange.origin)
                self._accept(exchange, ReadyState.CLOSED)
                return None
            self._accept(exchange, ReadyState.OPEN)
            yield from self._signal(Opened(exchange.status, exchange.headers, exchange.url))
            error = yield from self._read_body(exchange)
        except SSEConnectionError as failure:
            clear_tracebacks(failure)
            error = failure
        finally:
            with self._lock:
                self._exchange = None
            self._routine.unwatch()
            exchange.close()
        if isinstance(self.pipeline.has_ended, Exception):  # no failed attempt, even if it is an SSEConnectionError
            raise self.pipeline.has_ended
        if self.pipeline.has_ended:
            return None
        if self._settings.until is not None and self._state is ReadyState.OPEN:
            error = too_early(self.origin, error)
        if error is not None:
            error._prefix(self.prefix)  # noqa: SLF001 - a hook for this
        return Outcome(error, exchange.sent)

    def _go_where_it_may_block(self) -> Generator[Wait, Any, None]:
        if (error := (yield BLOCKING)) is not None:
            raise SSEConnectionError(
                f"{self.origin}: no thread could be started for a call that may block",
                remedy="raise the limit of threads (ulimit -u), or open fewer connections at a time",
            ) from error

    def _accept(self, exchange: Exchange, state: ReadyState) -> None:
        self.status = exchange.status
        self.headers = exchange.headers
        self.response_url = exchange.url
        self.http_version = exchange.http_version
        self._state = state
        if state is ReadyState.OPEN:
            self.failure = None
            self._reconnector.opened()
            self.log("connected", exchange.origin)
        self.opened.set()

    def _read_body(self, exchange: Exchange) -> Generator[Wait, Any, SSEConnectionError | None]:
        """Read the body, and pass on its events; return or raise the error that ends it, if any."""
        pipeline = self.pipeline
        pipeline.begin(exchange.origin)
        body = exchange.unblock(self._routine) if self.tap is None else None
        wait = BLOCKING
        if body is not None:
            wait = Wait(self._request.read_timeout, body.sock)
            if not self._calls_user:
                wait.work = self._receive
        may_read = True
        while True:
            if may_read:
                if body is None or self._calls_user:
                    yield from self._go_where_it_may_block()
                self._receive()
            if pipeline.is_full:
                pipeline.settle((yield from self._wait_for_room(self._interrupted)))
            if pipeline.skipped:
                yield BLOCKING  # as log handlers may
                self._log_skipped()
            if pipeline.has_ended or self._interrupted():
                return None
            if pipeline.error is not None:
                return pipeline.error
            if exchange.has_ended:
                pipeline.finish()
                return None
            if body is None:
                continue
            needs = body.needs  # once: over HTTP/2, another thread may change it
            # Otherwise the hub calls `_receive`: when the socket can be read or, without a socket, when woken.
            may_read = self._calls_user or (body.sock is not None and needs != EVENT_READ)
            if needs == NOTHING:
                self._routine.again()
            else:
                wait.events = needs
            try:
                arrived = yield wait
            except OSError as error:  # no descriptor is left for the hub's poller
                raise exchange.explained(error) from error
            if not arrived:
                raise exchange.silence()

    def _receive(self) -> bool:
        """Read once, and pass on the events; return True if all that is left to do is to wait for the socket.

        The hub calls this for every event of an open stream; the generator does what is left to do.
        """
        exchange = self._exchange
        assert exchange is not None  # noqa: S101 - it is open
        chunk = exchange.read()
        if self._closed or self._restart or exchange.has_ended:
            return False
        if chunk is not None:
            if self.tap is not None:
                self.tap(chunk)
            if not self.pipeline.feed(chunk):
                return False
        return exchange.body is not None and exchange.body.needs == EVENT_READ

    def _log_skipped(self) -> None:
        for event in self.pipeline.skipped:
            self.log("duplicate of an event skipped", self.origin, logging.DEBUG, event_id=event.id)
        self.pipeline.skipped.clear()

    def _signal(self, signal: Signal) -> Generator[Wait, Any, None]:
        if self.pipeline.wants_signals and self._sink.offer([signal], self._routine):
            yield from self._wait_for_room(lambda: self._closed)

    def _wait_for_room(self, give_up: Callable[[], bool]) -> Generator[Wait, Any, int]:
        """Wait until all offered items are queued; return the number of those that are not, when giving up."""
        while self._sink.is_full and not give_up():
            yield _FOR_ROOM
        return self._sink.withdraw()

    def _pause(self, seconds: float) -> Generator[Wait, Any, None]:
        deadline = Deadline(seconds)
        while not self._interrupted() and (left := deadline.remaining()):
            yield Wait(left)

    def _report(self, error: SSEConnectionError | None, delay: float) -> None:
        attempt = self._reconnector.failures + 1
        if error is None:
            text = f"{self.prefix}{self.origin}: the response ended"
        else:
            text = error._reworded({Remedy.READ_BODY: ""})  # noqa: SLF001 - the hook; a log has no attributes
        log(
            logging.INFO if error is None and attempt == 1 else logging.WARNING,
            "%s; reconnecting in %.1f s (attempt %d)",
            text,
            delay / 1000,
            attempt,
            name=self.name,
            origin=self.origin,
            attempt=attempt,
            delay=delay / 1000,
            event_id=self.pipeline.queued_id or None,
        )

    def log(self, text: str, origin: str, level: int = logging.INFO, event_id: str | None = None) -> None:
        """Log a message about this stream."""
        log(
            level,
            f"%s%s: {text}",
            self.prefix,
            origin,
            name=self.name,
            origin=origin,
            attempt=self._reconnector.failures + 1,
            event_id=event_id or self.pipeline.queued_id or None,
        )


_FOR_ROOM = Wait()
