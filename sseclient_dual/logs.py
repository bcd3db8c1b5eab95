"""The log records of the package: all have the same fields, for structured logging."""

from __future__ import annotations

import logging

logger = logging.getLogger("sseclient_dual")


def log(
    level: int,
    message: str,
    *args: object,
    name: str | None = None,
    origin: str | None = None,
    attempt: int | None = None,
    delay: float | None = None,
    event_id: str | None = None,
    exc_info: bool = False,
) -> None:
    """Log a message with `args`, attributed to the caller, and with the given values as fields of the record.

    :param name: the name of the connection.
    :param origin: the origin of the server.
    :param attempt: the number of the attempt, from 1, in a row without progress.
    :param delay: seconds until that attempt.
    :param event_id: the last event ID, or the id of the event in question.
    """
    fields = {
        "sse_name": name,
        "sse_origin": origin,
        "sse_attempt": attempt,
        "sse_delay": delay,
        "sse_event_id": event_id,
    }
    logger.log(level, message, *args, exc_info=exc_info, stacklevel=2, extra=fields)
