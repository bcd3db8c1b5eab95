"""`SharedFeed`: one upstream connection for any number of consumers in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sseclient_dual.checks import check_integer, check_number

from .base import BaseFeed
from .upstream import Upstream

if TYPE_CHECKING:
    from sseclient_dual.closing import Closing
    from sseclient_dual.reader import Reader


class SharedFeed(BaseFeed):
    """One upstream connection for any number of consumers in one process; made by `SSEClient.share`.

    The first subscription opens the upstream. Some time after the last one has left, it is closed; the events are
    kept, and the next subscription resumes after the last of them. A subscription without an id may then first
    receive the events of the pause.

    One thread receives and parses each event once, and encodes it once for all relays. A slow consumer slows neither
    the upstream nor the others. A subscription that needs older events asks the upstream for them, with a connection
    of its own.

    A feed may be made before a fork, and works in each child by itself, with a connection of its own.

    It is a context manager in both APIs. Leaving the block closes it, and so does dropping the last reference to it
    and to its subscriptions.
    """

    def __init__(
        self, template: Reader, *, replay: int, replay_bytes: int, linger: float, max_catch_ups: int
    ) -> None:
        check_number("linger", linger, least=0)
        check_integer("max_catch_ups", max_catch_ups, least=1)
        self._upstream = Upstream(
            template, replay=replay, replay_bytes=replay_bytes, linger=linger, max_catch_ups=max_catch_ups
        )
        super().__init__(self._upstream)

    def _close_with_client(self) -> Closing:
        return self.close()
