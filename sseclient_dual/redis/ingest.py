"""`RedisIngest`: reads an upstream in one of any number of processes, and keeps its events in Redis for all."""

from __future__ import annotations

import atexit
import hashlib
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sseclient_dual.checks import check_integer, check_number
from sseclient_dual.closing import Closable, Closing
from sseclient_dual.errors import SSEClosedError
from sseclient_dual.logs import log
from sseclient_dual.waiting import Lock, renew_locks_after_fork

from .connections import Server
from .entries import Kind, keys_of
from .holding import Counters
from .worker import OtherUpstreamError, Worker

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from sseclient_dual.client import SSEClient, StreamOptions

    from .connections import RedisArgument

_LAST_SECONDS = 1.0  # for which the exit of the process waits until the lease is released


@dataclass(frozen=True)
class IngestStats:
    """Counters of one ingest, since it was made."""

    events: int
    """Events that it has appended to the stream in Redis."""
    gaps: int
    """Gaps that it has added to the stream in Redis."""
    skipped: int
    """Events that were too large for Redis."""
    takeovers: int
    """How many times it has taken the lease over."""
    rewinds: int
    """How many times Redis had lost its newest entries."""
    reconnects: int
    """Attempts to reconnect to the upstream."""


class RedisIngest(Closable):
    """Reads a stream, and appends its events to a stream in Redis, from which each `RedisFeed` of that name reads.

    Start one in any number of processes and machines. One of them holds the lease, and reads the upstream. The others
    stand by. When the holder ends or its lease expires, another one takes over where it stopped: without a gap or a
    duplicate, if the upstream has ids and resumes after them. See :doc:`distributed`.

    A ``with`` block, in both APIs, starts it and closes it.

    :param client: makes the connections to the upstream; closing it closes the ingest.
    :param url: an http or https URL.
    :param redis: the URL of a Redis or Valkey server, or a `redis.Redis` or `redis.RedisCluster`, whose settings are
        used; the ingest has connections of its own.
    :param name: the name of the stream in Redis, also in messages.
    :param lease: seconds after which another ingest takes over from a holder that has vanished, 10 by default. The
        others ask for the lease five times in that time. With a short lease, a pause of the holder may cause a
        takeover, which loses no events.
    :param maxlen: about how many entries to keep in Redis; the oldest are dropped.
    :param batch: the maximum number of events in one call. Events that arrive singly are appended at once.
    :param options: see `SSEClient.connect`, which takes the same, except ``name`` and ``checkpoint``: the position is
        in Redis. `last_event_id` is the id after which the first ingest begins.
    :raises TypeError: an argument has the wrong type; the message names it.
    :raises ValueError: an argument has an invalid value; the message names it.
    :raises SSEClosedError: the client is closed.
    """

    def __init__(
        self,
        client: SSEClient,
        url: str,
        *,
        redis: RedisArgument,
        name: str,
        lease: float = 10.0,
        maxlen: int = 100_000,
        batch: int = 64,
        **options: Unpack[StreamOptions],
    ) -> None:
        check_number("lease", lease, least=0.1)
        check_integer("maxlen", maxlen, least=1)
        check_integer("batch", batch, least=1)
        if "checkpoint" in options:
            raise TypeError("RedisIngest takes no checkpoint: the position is in Redis, beside the events")
        connection = client.connect(url, name=name, **options)
        self._template = connection._reader  # noqa: SLF001 - never started
        self._upstream = hashlib.sha256(connection.url.partition("?")[0].encode()).hexdigest()[:16]
        self._server = Server(redis)
        self._keys = keys_of(name)
        self._lease = lease
        self._maxlen = maxlen
        self._batch = batch
        self._counters = Counters()
        self._lock = Lock()  # guards the two attributes below
        self._worker: Worker | None = None  # the current or last one
        self._closed = False
        client._opened(self)  # noqa: SLF001 - a hook for this
        renew_locks_after_fork(self)

    def start(self) -> Self:
        """Run in a thread of its own, and return at once; do nothing if it runs already.

        If the upstream refuses the request, or all retries fail, the thread logs an error, releases the lease, and
        stands by again. If the stream in Redis has the events of another URL, it logs an error and ends.

        At the exit of the process, the lease is released.

        :raises SSEClosedError: it is closed.
        :raises RuntimeError: no thread can be started.
        """
        with self._lock:
            is_idle = self._is_idle()
        if is_idle:
            name = f"RedisIngest {self._template.name}"
            threading.Thread(target=self._run_on, name=name, daemon=True).start()
        return self

    def run(self) -> None:
        """Run in the calling thread, until the ingest is closed or the upstream ends the stream.

        :raises ValueError: the stream in Redis has the events of another URL. The query does not count.
        :raises SSEConnectionError: the upstream refuses the request, or all retries fail.
        :raises SSEClosedError: the ingest was closed before.
        :raises RuntimeError: it runs already.
        """
        worker = self._new_worker()
        try:
            if not self._take(worker):
                raise RuntimeError("the ingest runs already, in another thread")
            worker.run()
        finally:
            worker.finished.set()  # also if Ctrl-C came before it began

    def _is_idle(self) -> bool:
        """Return True if no worker is running. Holds the lock."""
        if self._closed:
            raise SSEClosedError("the ingest is closed; make a new one")
        return self._worker is None or self._worker.finished.is_set

    def _take(self, worker: Worker) -> bool:
        """Make a worker the current one, in its own thread; return False if another one is running."""
        with self._lock:
            is_idle = self._is_idle()
            if is_idle:
                self._worker = worker
        return is_idle

    def _new_worker(self) -> Worker:
        return Worker(
            self._template,
            self._server,
            self._keys,
            self._upstream,
            self._counters,
            lease=self._lease,
            maxlen=self._maxlen,
            batch=self._batch,
        )

    def _run_on(self) -> None:
        worker = self._new_worker()
        try:
            if not self._take(worker):
                return
        except SSEClosedError:
            return
        atexit.register(self._exit)
        try:
            worker.run(persistent=True)
        except OtherUpstreamError as error:
            name = self._template.name
            log(logging.ERROR, "%s: the ingest ends: %s", name, error, name=name)
        finally:
            atexit.unregister(self._exit)

    def _exit(self) -> None:
        """Release the lease at the exit of the process."""
        worker = self._worker
        if worker is not None:
            worker.stop()
            worker.finished.wait(_LAST_SECONDS)

    def close(self) -> Closing:
        """Release the lease and end, without blocking; callable from any thread, signal handler or finalizer.

        Await the returned object to wait until the lease is released and the thread has ended: at most ten seconds
        if Redis does not answer.
        """
        with self._lock:
            self._closed = True
            worker = self._worker
        if worker is None:
            return Closing()
        worker.stop()
        return Closing(worker.finished)

    _close_with_client = close

    def _renew_locks(self) -> None:
        """See `waiting.LockOwner`; called in a forked child, where it does not run, and may be started."""
        self._lock = Lock()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.disown()

    def __enter__(self) -> Self:
        return self.start()

    async def __aenter__(self) -> Self:
        return self.start()

    @property
    def holding(self) -> bool:
        """Whether this ingest holds the lease and reads the upstream, as far as it knows."""
        return self._worker is not None and self._worker.holding

    @property
    def stats(self) -> IngestStats:
        """The current counters."""
        counters = self._counters
        return IngestStats(
            events=counters.entries[Kind.EVENT],
            gaps=counters.entries[Kind.GAP],
            skipped=counters.entries[Kind.SKIPPED],
            takeovers=counters.takeovers,
            rewinds=counters.rewinds,
            reconnects=counters.reconnects + (0 if self._worker is None else self._worker.reconnects),
        )
