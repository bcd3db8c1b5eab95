"""A test of `tail.py` as you would write it for your own program.

pytest test_tail.py

The fixture `sse_server` comes with sseclient_dual. The server answers each
request with the next reply, and then with status 204, which ends the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sseclient_dual.testing import CUT, status, stream
from tail import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from sseclient_dual.testing import SSEServer


def test_each_event_is_printed_once(
    sse_server: SSEServer, capsys: pytest.CaptureFixture[str]
) -> None:
    sse_server.add(
        stream("retry: 100\nid: 1\ndata: a\n\n", "data: lost in mid-eve", CUT),
        status(503),
        stream("id: 1\ndata: a\n\n", "event: tick\nid: 2\ndata: b\n\n"),
    )
    main(sse_server.url)
    assert capsys.readouterr().out == "message: a\ntick: b\n"
    ids = [request.last_event_id for request in sse_server.requests]
    assert ids == [None, "1", "1", "2"]


def test_the_next_run_resumes(
    sse_server: SSEServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sse_server.add(
        stream("retry: 100\nid: 7\ndata: a\n\n"),
        status(204),
        stream("retry: 100\nid: 8\ndata: b\n\n"),
    )
    for _ in range(2):
        main(sse_server.url, str(tmp_path / "last.id"))
    assert capsys.readouterr().out == "message: a\nmessage: b\n"
    assert sse_server.requests[2].last_event_id == "7"
