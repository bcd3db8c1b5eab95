"""Messages on standard error, in the words of the command: its options instead of arguments of Python functions."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from sseclient_dual import Comment, Ignored, Opened, SSEConnectionError
from sseclient_dual.errors import Remedy
from sseclient_dual.logs import logger

from .arguments import PROGRAM
from .events import escaped, timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sseclient_dual import Interrupted, SSEConnection, SSEError

REMEDIES: Final[dict[str, str]] = {
    Remedy.READ_BODY: "",  # `report` points to -v
    Remedy.IGNORE_LINES: "check that the URL serves text/event-stream, or use --no-strict to ignore such lines",
    Remedy.ALLOW_LARGER_EVENTS: "use --max-event-size if the stream has such events",
    Remedy.ALLOW_SLOW_CONNECT: "check the scheme, host and port in the URL, or raise --connect-timeout",
    Remedy.ALLOW_SILENCE: "raise --timeout if the server is only quiet",
    Remedy.ALLOW_MORE_RETRIES: "check the URL and the server, or raise --max-retries",
    Remedy.TRUST_AUTHORITY: "check the host in the URL, trust the authority with --cacert, or use --insecure",
    Remedy.SET_CLIENT_CERTIFICATE: "use --cert with one that the server trusts",
    Remedy.READ_CAUSE: "please report it",
    Remedy.CHECK_UNTIL: "check the value of --until if every response ends like this",
}
"""What a command-line user can do about an error, by the remedy for Python users."""

_MAX_EXCERPT: Final = 500  # characters of a response that an error shows


class Messages:
    """Prints what happens to the stream.

    :param verbose: 0: warnings. 1: all signals of the connection. 2: the complete log, too.
    :param timestamps: print the time with each message.
    """

    def __init__(self, verbose: int = 0, *, timestamps: bool = False) -> None:
        self._verbose = verbose
        self._timestamps = timestamps

    def say(self, text: str) -> None:
        """Print a message as a line."""
        if sys.stderr is not None:
            sys.stderr.write(f"{self.line(text)}\n")

    def line(self, text: str) -> str:
        """Return the line to print for a message, without control characters."""
        return f"{PROGRAM}: {timestamp() + ' ' if self._timestamps else ''}{escaped(text)}"

    def report(self, error: SSEError) -> None:
        """Print an error: a line, and if verbose the beginning of the response, or the malformed line in it."""
        excerpt = getattr(error, "line", "") or getattr(error, "body", b"").decode(errors="replace")
        excerpt = excerpt[:_MAX_EXCERPT].strip()
        if not excerpt:
            self.say(_reworded(error))
        elif self._verbose:
            self.say(_reworded(error))
            self.say(f"response: {excerpt}")
        else:
            self.say(f"{_reworded(error)}; use -v to see the response")

    @contextmanager
    def of_the_log(self, *, has_signals: bool = True) -> Iterator[None]:
        """Print the package's log, too.

        :param has_signals: whether ``-v`` prints signals, which include the warnings; then it logs errors only.
        """
        handler = logging.StreamHandler()
        handler.setFormatter(_LogFormatter(self))
        level, propagate = logger.level, logger.propagate
        logger.addHandler(handler)
        with_v = logging.ERROR if has_signals else logging.INFO
        logger.setLevel([logging.WARNING, with_v, logging.DEBUG][min(self._verbose, 2)])
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


class _LogFormatter(logging.Formatter):
    """Formats records as messages, with errors in the words of the command."""

    def __init__(self, messages: Messages) -> None:
        super().__init__()
        self._messages = messages

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for remedy, words in REMEDIES.items():
            text = text.replace(remedy, words)
        return self._messages.line(text)


def description(signal: Comment | Ignored | Opened | Interrupted, http_version: str | None) -> str:
    """Return the line that ``-v`` prints for a signal.

    :param http_version: that of the connection; it is printed if it is not HTTP/1.
    """
    if isinstance(signal, Opened):
        version = ", HTTP/2" if http_version == "2" else ""
        return (
            f"connected to {signal.url.partition('?')[0]}, status {signal.status}{version}"  # a query may be secret
        )
    if isinstance(signal, Comment):
        return f"comment: {signal.text.removeprefix(' ')}"
    if isinstance(signal, Ignored):
        return f"ignored line: {signal.line}"
    reason = "the response ended" if signal.error is None else _reworded(signal.error)
    return f"{reason} (reconnecting in {signal.retry_in / 1000:.1f} s)"


def ending(connection: SSEConnection, *, until: str | None) -> str:
    """Return the line that ``-v`` prints at the end of the stream.

    :param until: the value of ``--until``, None without it.
    """
    if connection.status == HTTPStatus.NO_CONTENT:
        return "ended by the server, status 204"
    return "ended by the server" if until is None else "ended by the event of --until"


def _reworded(error: BaseException) -> str:
    """Return the message of an error in the words of the command."""
    return error._reworded(REMEDIES) if isinstance(error, SSEConnectionError) else str(error)  # noqa: SLF001 - the hook for this
