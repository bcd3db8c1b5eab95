"""A reconnector with a clock that the test sets, and errors for it."""

from __future__ import annotations

from typing import Any

from sseclient_dual.errors import SSEConnectionError, SSEParsingError, SSEStatusError
from sseclient_dual.policy import Outcome, Reconnector, ReconnectPolicy, Retry, Stop

STEADY = ReconnectPolicy(jitter=0)
NOON = 784_123_200.0  # Sunday, 6 November 1994, 12:00:00 GMT
DROP = SSEConnectionError("the connection was reset")
NOT_SSE = SSEParsingError("a line is not in the event-stream format", "<html>")


def status(code: int, after: str | None = None) -> SSEStatusError:
    return SSEStatusError("refused", status=code, headers={} if after is None else {"Retry-After": after})


class Bench:
    """A reconnector with a clock that the test sets; `luck` is the random number."""

    def __init__(self, policy: ReconnectPolicy = STEADY, *, luck: float = 0, **options: Any) -> None:
        self.now = 0.0
        self.luck = luck
        self.reconnector = Reconnector(
            policy, clock=lambda: self.now, wall_clock=lambda: NOON, uniform=lambda: self.luck, **options
        )

    def attempt(
        self,
        error: SSEConnectionError | None = DROP,
        *,
        opened: bool = False,
        lasted: float = 0,
        progress: bool = False,
        sent: bool = True,
        asked: int | None = None,
    ) -> Retry | Stop:
        """Simulate an attempt with this outcome; return the decision of the reconnector."""
        if opened or progress or lasted or asked is not None:
            self.reconnector.opened()
        self.now += lasted
        if asked is not None:
            self.reconnector.set_reconnection_time(asked)
        if progress:
            self.reconnector.progressed()
        return self.reconnector.decide(Outcome(error, sent))

    def delay(self, *arguments: Any, **options: Any) -> float:
        """Simulate an attempt, with the arguments of `attempt`; return the delay in milliseconds."""
        decision = self.attempt(*arguments, **options)
        assert isinstance(decision, Retry)
        return decision.delay
