"""`Until`: recognise the last event of a stream, such as the ``[DONE]`` of a language model's answer; no I/O."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING

from .errors import Remedy, SSEConnectionError, unmistakable
from .event import SSEEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from .event import Comment

_TOO_EARLY = "the response ended before its last event"
_ASYNC = "until must not be an async function: its coroutine would count as True"


class Until:
    """Recognises the last event: by its data, a str, or by a callable of the user, which returns True for it.

    A callable's event is delivered; the data is only a marker, so that its event is not.

    :raises TypeError: `until` is neither a str nor a callable, or is an async function.
    """

    def __init__(self, until: str | Callable[[SSEEvent], bool]) -> None:
        self.calls_user = not isinstance(until, str)
        """True if a callable of the user recognises the event."""
        if isinstance(until, str):
            self._is_last: Callable[[SSEEvent], bool] = lambda event: event.data == until
            return
        if not callable(until):
            raise TypeError(f"until must be a str or a callable, not {type(until).__name__}")
        if inspect.iscoroutinefunction(until):
            raise TypeError(_ASYNC)
        self._is_last = partial(_call, until)

    def cut(self, items: list[SSEEvent | Comment]) -> tuple[list[SSEEvent | Comment], Exception | bool]:
        """Return the items to deliver, and whether the stream ends after them: True, or the callable's error."""
        for index, item in enumerate(items):
            if not isinstance(item, SSEEvent):
                continue
            try:
                is_last = self._is_last(item)
            except Exception as error:  # noqa: BLE001 - raised to the consumer, after the events
                return items[: index + 1], unmistakable(error, "until")
            if is_last:
                return items[: index + self.calls_user], True
        return items, False


def _call(until: Callable[[SSEEvent], object], event: SSEEvent) -> bool:
    is_last = until(event)
    if inspect.iscoroutine(is_last):  # of a lambda, or of an object with an async __call__
        is_last.close()
        raise TypeError(_ASYNC)
    return bool(is_last)


def too_early(origin: str, error: SSEConnectionError | None) -> SSEConnectionError:
    """Return the error for a response that ended before the last event, cleanly or because of `error`.

    An error of the data, a malformed line for example, stays as it is.
    """
    if error is None:
        return SSEConnectionError(f"{origin}: {_TOO_EARLY}", remedy=Remedy.CHECK_UNTIL)
    if type(error) is SSEConnectionError:
        error._add_problem(_TOO_EARLY)  # noqa: SLF001 - a hook for this
    return error
