r"""A scripted SSE server for tests, on real loopback sockets, with control over each byte and its timing.

Each request is answered by the next reply of a script. A reply is a sequence of steps: data to send, events to wait
for, and how to end::

    gate = Gate()
    with SSEServer(
        stream("id: 1\ndata: one\n\n", CUT),          # one event, then the connection drops
        status(503, headers={"Retry-After": "1"}),
        stream("data: two\n\n", gate, "data: three\n\n"),
    ) as server:
        ...                                           # connect to server.url
        assert server.wait_for_requests(3)[1].last_event_id == "1"
        gate.open()                                   # now the third event is sent

With ``SSEServer(http2=True)``, the same replies are sent over HTTP/2 to clients that choose it. `CUT` and `RESET`
then end the connection with all its streams, as a killed server does; `reset_stream` ends one stream.

The server never sleeps to synchronise, and never polls. Closing it ends all its waits, and leaves no thread and no
socket. All sockets are bound to 127.0.0.1.
"""

from .options import HTTP2
from .replies import Reply, raw, redirect, status, stream
from .requests import Headers, ReceivedFrame, ReceivedRequest
from .server import SSEServer
from .steps import CUT, HANG, RESET, Gate, Step, goaway, half_chunk, pause, reset_stream, trailers, wire

__all__ = [
    "CUT",
    "HANG",
    "HTTP2",
    "RESET",
    "Gate",
    "Headers",
    "ReceivedFrame",
    "ReceivedRequest",
    "Reply",
    "SSEServer",
    "Step",
    "goaway",
    "half_chunk",
    "pause",
    "raw",
    "redirect",
    "reset_stream",
    "status",
    "stream",
    "trailers",
    "wire",
]
