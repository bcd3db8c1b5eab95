"""An abort from another thread, at any moment of the attempt."""

from __future__ import annotations

import itertools

from sseclient_dual.transport import sockets
from sseclient_dual.transport.sockets import AbortableSocket
from sseclient_dual.transport.streams import Stream
from sseclient_dual.waiting import ThreadWaiter
from support.interruptions import Interruption, traces_instructions


class Carrier:
    """A connection that leaves its streams alone."""

    def attend(self, stream: Stream) -> None: ...

    def disown(self) -> None: ...


@traces_instructions
def test_the_attempt_goes_on_to_its_next_request_meanwhile() -> None:
    for at in itertools.count():
        abortable = AbortableSocket(read_timeout=None, keep_connection=False)
        abortable.waiter = ThreadWaiter()
        abortable.hold_stream(Stream(Carrier(), (), b"", read_timeout=None, keep_connection=False))

        def go_on(abortable: AbortableSocket = abortable) -> None:
            abortable.waiter = None
            abortable.begin_request()

        with Interruption(at, go_on, "opcode", (sockets.__file__,)) as interruption:
            assert abortable.abort()
        assert abortable.is_aborted
        if not interruption.happened:
            assert at > 0
            return
