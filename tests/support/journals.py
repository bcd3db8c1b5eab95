"""An upstream that numbers its events, keeps them, and replays what follows a `Last-Event-ID`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from sseclient_dual.testing import Gate, ReceivedRequest, Reply, stream
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sseclient_dual.testing import Step


class Journal:
    """Answers each request with the events after its id, or with those from now on.

    Use it as a reply of `SSEServer`. Event number n has the data n, and the id n plus a suffix.

    :param replays: whether it knows old events; otherwise every connection begins with the next one.
    :param repeat: the number of events before the requested ones that it sends again.
    :param sends_ids: whether the events have ids.
    :param suffix: ends each id.
    :param retry: the reconnection time in the first event of each response, in milliseconds.
    """

    def __init__(
        self,
        *,
        replays: bool = True,
        repeat: int = 0,
        sends_ids: bool = True,
        suffix: str = "",
        retry: int | None = None,
    ) -> None:
        self.replays = replays
        self.repeat = repeat
        self.sends_ids = sends_ids
        self.suffix = suffix
        self.retry = retry
        self.published = 0
        self._changed = threading.Condition()  # guards the rest
        self._gates: list[Gate] = []
        self._answers = 0

    def wait_for_answers(self, count: int) -> None:
        """Wait until that many requests have been answered, so that the next event reaches their connections."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._answers >= count, PATIENCE)

    def publish(self, count: int = 1) -> None:
        """Send the next events to all connections."""
        with self._changed:
            self.published += count
        self._wake()

    def _wake(self) -> None:
        with self._changed:
            gates, self._gates = self._gates, []
        for gate in gates:
            gate.open()

    def __call__(self, request: ReceivedRequest) -> Reply:
        """Answer a request."""
        asked = request.last_event_id
        with self._changed:
            self._answers += 1
            self._changed.notify_all()
            first = self.published + 1
            if asked and self.replays:
                number = int(asked.removesuffix(self.suffix))
                first = max(1, number + 1 - self.repeated(number))
        return stream(self._send(first))

    def repeated(self, number: int) -> int:
        """Return how many events to send again to a client that continues after an event."""
        return self.repeat

    def event(self, number: int) -> str:
        """Return an event as text."""
        return f"id: {number}{self.suffix}\ndata: {number}\n\n" if self.sends_ids else f"data: {number}\n\n"

    def _send(self, number: int) -> Iterator[Step]:
        if self.retry is not None:
            yield f"retry: {self.retry}\n"  # in the first event, so that a relay sends it, too
        while True:
            with self._changed:
                last = self.published
                gate = Gate()
                if number > last:
                    self._gates.append(gate)
            if number > last:
                yield gate
            else:
                yield "".join(self.event(each) for each in range(number, last + 1))
                number = last + 1
