"""The fixture `sse_server`, here and in a user's project: pytest runs as a process in an empty directory.

The examples of the guide run the same way.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sseclient_dual import ReconnectPolicy
from sseclient_dual.testing import CUT, status, stream
from support.pages import blocks

if TYPE_CHECKING:
    import pytest

    from sseclient_dual.testing import SSEServer
    from support.apis import Api

pytest_plugins = ["pytester"]

GUIDE = Path(__file__).parents[2] / "docs" / "testing.rst"


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run the project's tests in a separate process; warnings are errors there."""
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error", *arguments)


def test_two_events_then_a_drop_then_a_503_then_the_rest(api: Api, sse_server: SSEServer) -> None:
    sse_server.add(stream("id: 1\ndata: a\n\n", "id: 2\ndata: b\n\n", CUT))
    sse_server.add(status(503))
    sse_server.add(stream("id: 3\ndata: c\n\n"))
    with api.client(policy=ReconnectPolicy(retry_delay=10)) as client:
        with api.connect(client, sse_server.url, headers={"X-Key": "k"}) as conn:
            assert [event.data for event in api.rest(conn)] == ["a", "b", "c"]
    assert [request.last_event_id for request in sse_server.requests] == [None, "2", "2", "3"]
    assert {request.headers["X-Key"] for request in sse_server.requests} == {"k"}
    assert not sse_server.replies_left


def test_the_guide_and_tests_with_open_connections_pass(pytester: pytest.Pytester) -> None:
    """Run the examples of the guide and tests that leave their clients connected, as one project."""
    examples = blocks(GUIDE)
    assert len(examples) > 5
    pytester.makepyfile(**{f"test_example_{number}": example for number, example in enumerate(examples)})
    pytester.makepyfile("""
        import threading
        import pytest
        from sseclient_dual import SSEClient
        from sseclient_dual.testing import HANG, stream

        @pytest.fixture(autouse=True)
        def no_thread_is_left():
            yield
            assert not [thread for thread in threading.enumerate() if thread.name.startswith("SSEServer")]

        @pytest.mark.parametrize("data", "ab")
        def test_a_server_of_its_own(data, sse_server):
            assert not sse_server.requests
            sse_server.add(stream(f"data: {data}\\n\\n", HANG), stream(HANG))
            conn = SSEClient().connect(sse_server.url)
            assert next(conn).data == data
            assert sse_server.replies_left == len(sse_server.requests) == 1
    """)
    run(pytester).assert_outcomes(passed=sum("def test_" in example for example in examples) + 2)


def test_a_failing_test_shows_the_reason(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        from sseclient_dual import SSEClient
        from sseclient_dual.testing import stream

        def test_another_request(sse_server):
            list(SSEClient().connect(sse_server.url + "path"))
            assert sse_server.requests == []

        def test_a_mistake_in_the_script(sse_server):
            sse_server.add(stream("data: x\\n\\n", lambda: 1 / 0))
            conn = SSEClient().connect(sse_server.url)
            assert next(conn).data == "x"
            conn.close()
    """)
    result = run(pytester)
    result.assert_outcomes(failed=1, passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ReceivedRequest(method='GET', target='/path',*"])
    result.stdout.fnmatch_lines(["*ZeroDivisionError*"])
