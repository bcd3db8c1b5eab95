"""A pytest plugin with the fixture `sse_server`, a scripted server for one test; found by its entry point.

pytest imports this module in every run, even if no test uses the fixture. Therefore it is not part of the package,
which would import urllib3 and ssl before a conftest.py can let gevent patch the standard library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sseclient_dual.testing import SSEServer


@pytest.fixture
def sse_server() -> Iterator[SSEServer]:
    r"""A listening scripted server (`sseclient_dual.testing.SSEServer`), closed after the test.

    Pass its script to `add`, connect to `url`, and check `requests`. When no replies are left, it answers requests
    with 204, which tells a client to stop. After a drop a client waits for 3 seconds: pass a shorter `retry_delay`::

        def test_it_resumes(sse_server):
            sse_server.add(stream("id: 1\ndata: a\n\n", CUT))
            client = SSEClient()
            with client.connect(sse_server.url, retry_delay=10) as conn:
                assert [event.data for event in conn] == ["a"]
            assert sse_server.requests[1].last_event_id == "1"
    """
    from sseclient_dual.testing import SSEServer  # noqa: PLC0415 - see the docstring of the module

    with SSEServer() as server:
        yield server
