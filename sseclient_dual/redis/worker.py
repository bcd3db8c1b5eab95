"""`Worker`: one run of an ingest: stands by, and passes the upstream on while it holds the lease, until the end.

One thread runs it, and it is the only one that sends commands to Redis. Other threads may call `stop`, and read
`holding` and the counters. It decides by the answers of Redis alone: a call that fails is repeated until there is
one. Meanwhile nothing is taken from the queue of the reader; when that is full, reading pauses.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

from sseclient_dual.errors import Remedy, SSEConnectionError, SSEError
from sseclient_dual.logs import log
from sseclient_dual.waiting import Latch, Lock

from .connections import RedisError
from .holding import Holding, Stream
from .retrying import Retrying, StoppedError, doubled
from .scripts import Answer, Scripts, Status

if TYPE_CHECKING:
    from sseclient_dual.reader import Reader

    from .connections import Server
    from .entries import Keys
    from .holding import Counters

_POLLS = 5  # in the time of a lease: to take it over, or to renew it
_LONGEST_DELAY = 5.0  # seconds between two attempts to reach Redis
_LONGEST_PAUSE = 60.0  # seconds after a failure of the upstream


class OtherUpstreamError(ValueError):
    """The stream in Redis is that of another upstream."""


class Worker:
    """Runs once.

    :param template: makes the readers of the upstream; it is never started.
    :param server: where Redis is.
    :param keys: the keys of the stream.
    :param upstream: identifies the upstream.
    :param counters: continues to count there.
    :param lease: seconds.
    :param maxlen: about how many entries to keep.
    :param batch: the maximum number of events in one call.
    """

    def __init__(
        self,
        template: Reader,
        server: Server,
        keys: Keys,
        upstream: str,
        counters: Counters,
        *,
        lease: float,
        maxlen: int,
        batch: int,
    ) -> None:
        self.holding = False
        """Whether it holds the lease, as far as it knows."""
        self.finished = Latch()
        """Set when `run` has ended."""
        self._template = template
        self._where = server.where
        self._upstream = upstream
        self._counters = counters
        self._batch = batch
        self._lease = lease
        self._poll = lease / _POLLS
        client = server.client()
        self._stream = Stream(
            template.name,
            keys,
            client,
            Scripts(client, keys, lease=lease, maxlen=maxlen),
            Retrying(client, min(_LONGEST_DELAY, self._poll), self._report),
        )
        # The position of the stream, as far as this worker knows it: of its last entry, and of the upstream.
        self._seq = 0
        self._last_id = template.pipeline.queued_id
        self._rewinds = 0  # in a row
        self._failures = 0  # of the upstream, in a row
        self._lock = Lock()  # guards replacing the reader, and stopping
        self._reader: Reader | None = None  # the last one

    def stop(self) -> None:
        """End `run` soon, without waiting for it; callable from any thread, signal handler or finalizer."""
        with self._lock:
            self._stream.retrying.stop()
            if self._reader is not None:
                self._reader.close()

    def disown(self) -> None:
        """In a forked child, close the descriptors of the parent's connections, which the parent keeps using."""
        self._stream.client.disown()
        if self._reader is not None:
            self._reader.renew_locks()
            self._reader.close()

    @property
    def reconnects(self) -> int:
        """The number of attempts of the current reader to reconnect."""
        return self._reader.reconnects if self._reader is not None and self.holding else 0

    def run(self, *, persistent: bool = False) -> None:
        """Work until stopped, or until the upstream ends the stream.

        :param persistent: whether to try again after the upstream failed and its policy does not; the lease is free
            then, so that others can try, too.
        :raises OtherUpstreamError: the stream in Redis is that of another upstream.
        :raises Exception: the upstream failed, and `persistent` is False.
        """
        turn = self._take_a_persistent_turn if persistent else self._take_a_turn
        try:
            while turn():
                pass
        except StoppedError:
            pass
        finally:
            self._stream.client.close()
            self.finished.set()

    def _take_a_persistent_turn(self) -> bool:
        try:
            return self._take_a_turn()
        except (StoppedError, OtherUpstreamError):
            raise
        except Exception as error:  # noqa: BLE001 - it may come from the user's callables
            self._pause_after(error)
            return True

    def _pause_after(self, error: Exception) -> None:
        """Log an error of the upstream, and leave the lease to others for a while."""
        delay = doubled(self._lease, self._failures, max(self._lease, _LONGEST_PAUSE))
        self._failures += 1
        if isinstance(error, SSEConnectionError):  # its message begins with the name
            text = error._reworded({Remedy.READ_BODY: ""})  # noqa: SLF001 - the hook; a log has no attributes
        else:
            text = f"{self._stream.name}: {error}"
        log(
            logging.ERROR,
            "%s; standing by again in %.1f s",
            text,
            delay,
            name=self._stream.name,
            delay=delay,
            exc_info=not isinstance(error, SSEError),  # then it comes from the user's code
        )
        self._stream.retrying.pause(delay)

    def _take_a_turn(self) -> bool:
        """Wait for the lease, and hold it; return False at the end of the stream."""
        stream = self._stream
        holder = f"{socket.gethostname()}:{os.getpid()}"
        nonce = os.urandom(8).hex()  # a new one for each turn: late calls of an earlier turn have no effect
        answer: Answer | None = None
        while True:
            ended = None if answer is None else answer.ended
            answer = stream.retrying(
                lambda ended=ended: stream.scripts.acquire(nonce, self._upstream, holder, ended)  # type: ignore[misc]
            )
            if answer.status is Status.OTHER_UPSTREAM:
                raise OtherUpstreamError(
                    f"the stream {stream.keys.events} is that of another URL: use another name, or delete its keys"
                )
            if answer.status is Status.ENDED:
                return False
            if answer.status is Status.ACQUIRED:
                return self._hold(answer)
            if answer.seq:
                self._seq, self._last_id = answer.seq, answer.last_id
            stream.retrying.pause(self._poll)

    def _hold(self, answer: Answer) -> bool:
        """Pass the upstream on; return False at the end of the stream."""
        stream = self._stream
        reader = self._template.another()
        with self._lock:
            self._reader = reader
        if stream.retrying.stopped:  # before; from now on, `stop` closes the reader
            self._release(answer.fence)
            raise StoppedError
        holding = Holding(
            stream,
            reader,
            answer,
            answer.last_id if answer.seq else self._last_id,
            missed=bool(self._seq and not answer.seq),
            counters=self._counters,
            batch=self._batch,
            patience=self._poll,
        )
        self._counters.takeovers += 1
        self.holding = True
        status: Status | None = None
        try:
            stream.log(logging.INFO, "takes over, and appends to %s after entry %d", self._where, answer.seq)
            status = holding.run()
        finally:
            self.holding = False
            self._counters.reconnects += reader.reconnects
            self._seq, self._last_id = holding.seq, holding.last_id
            if holding.seq > answer.seq:
                self._failures = 0
            reader.close()
            if status is not Status.FENCED:
                self._release(answer.fence)
            reader.finished.wait()
        if status is Status.ENDED:
            stream.log(logging.INFO, "the upstream has ended the stream")
            return False
        if status is Status.REWIND:
            stream.log(logging.WARNING, "Redis has lost its newest entries; reading them again from the upstream")
            self._counters.rewinds += 1
            self._rewinds = 0 if holding.seq > answer.seq else self._rewinds + 1
            stream.retrying.back_off(self._rewinds)
        else:
            stream.log(logging.WARNING, "has lost the lease: another ingest has it, or the keys were deleted")
        return True

    def _release(self, fence: str) -> None:
        """End the lease, if that is possible now: otherwise it expires."""
        client = self._stream.client
        client.reset()  # an exception, such as Ctrl-C, may have interrupted a command
        try:
            self._stream.scripts.release(fence)
        except RedisError:
            client.reset()

    def _report(self, error: RedisError | None) -> None:
        if error is None:
            self._stream.log(logging.INFO, "%s answers again", self._where)
        else:
            self._stream.log(logging.WARNING, "%s: %s; trying again until it answers", self._where, error)
