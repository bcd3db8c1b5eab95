"""A plugin of pytest, found by its entry point: the fixture `sse_server`, a scripted server for one test.

pytest imports this at the start of every run, also where no test asks for the fixture. Hence it is no part of the
package: that would bring urllib3 and ssl, before a conftest.py could have gevent patch what they are made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sseclient_dual.testing import SSEServer


@pytest.fixture
def sse_server() -> Iterator[SSEServer]:
    """A scripted server (`sseclient_dual.testing.SSEServer`) that is listening, and is closed after the test.

    Give it its script by `add`, connect to `url`, and look at `requests`. Each request that the script has no reply
    for is answered with 204, which tells a client to stop.
    """
    from sseclient_dual.testing import SSEServer  # noqa: PLC0415 - see above

    with SSEServer() as server:
        yield server
