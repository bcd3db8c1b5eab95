"""Mistakes of new users: each has an error or a warning that names the remedy."""

from __future__ import annotations

import asyncio
import io
import logging
import warnings
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from sseclient_dual import ReconnectPolicy, SSEClient, SSEClosedError, SSEEvent
from sseclient_dual.testing import HANG, SSEServer, status, stream
from support.apis import Ended
from support.policies import QUICK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from sseclient_dual import SSEConnection
    from support.apis import Api

URL = "http://127.0.0.1:9/"
X = "data: x\n\n"


# --- arguments ----------------------------------------------------------------------------------------------


def test_a_url_passed_to_the_client() -> None:
    with pytest.raises(
        TypeError, match=r"^pool must be a urllib3.PoolManager, not a str: pass the URL to connect\(\)$"
    ):
        SSEClient(URL)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("timeout", [(3, 5), [3], "3", True], ids=str)
def test_a_timeout_of_another_library(timeout: Any) -> None:
    message = r"^timeout must be a number of seconds, a urllib3\.Timeout\(.*\), or None for no limit, not "
    with pytest.raises(TypeError, match=message):
        SSEClient(timeout=timeout)
    with SSEClient() as client, pytest.raises(TypeError, match=message):
        client.connect(URL, timeout=timeout)


def chunks() -> Iterator[bytes]:
    yield b"x"


async def async_chunks() -> AsyncIterator[bytes]:
    yield b"x"


STREAMS = [iter([b"x"]), chunks(), async_chunks(), io.BytesIO(b"x"), io.StringIO("x"), map(str, [1])]


@pytest.mark.parametrize("data", STREAMS, ids=lambda data: type(data).__name__)
def test_a_body_that_can_be_read_only_once(data: Any) -> None:
    message = r"^data must be bytes, str, a mapping or pairs, not \w+; read it first: the body must be sent again on "
    with SSEClient() as client, pytest.raises(TypeError, match=message):
        client.connect(URL, "POST", data=data)


def test_a_body_of_another_type() -> None:
    with SSEClient() as client:
        with pytest.raises(TypeError, match=r"^data must be bytes, str, a mapping or pairs, not int$"):
            client.connect(URL, data=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError, match=r"^data must be a mapping or pairs, such as \[\('name', 'value'\)\]$"):
            client.connect(URL, data=[b"a", b"b"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


FORMS: list[Any] = [
    [("a", 1), ("b", "ä"), ("a", None), ("a", [2, 3])],
    (("a", 1), ["b", "ä"], ("a", [2, 3])),
    {"a": [1], "b": "ä", "c": None}.items(),
]


@pytest.mark.parametrize("data", FORMS, ids=lambda data: type(data).__name__)
def test_pairs_are_a_form(api: Api, data: Any) -> None:
    with SSEServer(stream(X)) as server, api.client() as client:
        with api.connect(client, server.url, data=data):
            (request,) = server.requests
        assert request.method == "POST"
        assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
        assert request.body in (b"a=1&b=%C3%A4&a=2&a=3", b"a=1&b=%C3%A4")


# --- seconds for milliseconds -------------------------------------------------------------------------------


@pytest.mark.parametrize(("delay", "shown"), [(3, "pass 3000 for 3 s"), (0.5, "pass 500 for 0.5 s"), (9.9, "9900")])
def test_a_retry_delay_that_looks_like_seconds(delay: float, shown: str) -> None:
    with SSEClient() as client:
        for make in (lambda: client.connect(URL, retry_delay=delay), lambda: ReconnectPolicy(retry_delay=delay)):
            with pytest.warns(UserWarning, match=f"^retry_delay is in milliseconds.*{shown}") as caught:
                make()
            assert [warning.filename for warning in caught] == [__file__]


def test_other_delays_are_milliseconds() -> None:
    with SSEClient() as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        for delay in (0, 10, 3000.0):
            client.connect(URL, retry_delay=delay)
            replace(ReconnectPolicy(), retry_delay=delay)
        ReconnectPolicy(min_retry_delay=1, max_retry_delay=2)


# --- a connection as the body of a response -----------------------------------------------------------------

REJECTED = r"^a connection cannot be the body of a response.*pass conn.relay\(\) .*conn.arelay\(\)"


@pytest.fixture
def conn() -> Iterator[SSEConnection]:
    with SSEServer(default=stream(X)) as server, SSEClient() as client:
        yield client.connect(server.url, reconnect=False)


def test_a_response_of_flask(conn: SSEConnection) -> None:
    flask = pytest.importorskip("flask")
    views: list[Callable[[], object]] = [
        lambda: flask.Response(conn, mimetype="text/event-stream"),
        lambda: flask.Response(flask.stream_with_context(conn)),
        lambda: conn,
    ]
    for view in views:
        app: Any = flask.Flask("app")
        app.testing = True
        app.add_url_rule("/", view_func=view, endpoint="view")
        with app.test_client() as browser, pytest.raises(RuntimeError, match=REJECTED):
            _ = browser.get("/").data


def test_a_response_of_django(conn: SSEConnection) -> None:
    http = pytest.importorskip("django.http")
    for response in (http.StreamingHttpResponse, http.HttpResponse):
        with pytest.raises(RuntimeError, match=REJECTED):
            response(conn, content_type="text/event-stream")


def test_a_response_of_starlette(conn: SSEConnection) -> None:
    responses = pytest.importorskip("starlette.responses")

    async def send(_: object) -> None:
        pass

    async def receive() -> dict[str, str]:
        return await asyncio.Future()  # the browser stays

    scope = {"type": "http", "asgi": {"spec_version": "2.4"}, "method": "GET", "path": "/", "headers": []}
    with pytest.raises(RuntimeError, match=REJECTED):
        asyncio.run(responses.StreamingResponse(conn)(scope, receive, send))


def test_a_result_of_a_view_of_fastapi(conn: SSEConnection) -> None:
    fastapi = pytest.importorskip("fastapi")
    testclient = pytest.importorskip("fastapi.testclient")
    app = fastapi.FastAPI()
    app.get("/plain")(lambda: conn)
    app.get("/checked", response_model=Any)(lambda: conn)
    with testclient.TestClient(app) as browser:
        for path in ("/plain", "/checked"):
            with pytest.raises((RuntimeError, ValueError), match=r"conn\.relay\(\) .*conn\.arelay\(\)"):
                browser.get(path)


@pytest.mark.parametrize(
    "module", ["wsgiref.handlers", "gunicorn.workers.sync", "aiohttp.payload", "django.http.response"]
)
def test_the_code_of_frameworks_gets_an_error_from_both_iterators(conn: SSEConnection, module: str) -> None:
    for body, function in product((conn, conn.signals()), (iter, aiter)):
        with pytest.raises(RuntimeError, match=REJECTED):
            eval("function(body)", {"function": function, "body": body, "__name__": module})  # noqa: S307 - constant


@pytest.mark.parametrize(
    "module", ["__main__", "django_app", "flaskr.views", "django.core.management.commands.shell"]
)
def test_other_code_iterates(conn: SSEConnection, module: str) -> None:
    names = {"conn": conn, "__name__": module}
    assert eval("[*conn]", names) == [SSEEvent("x")]  # noqa: S307 - constant
    assert eval("aiter(conn)", names) is conn  # noqa: S307 - constant
    assert eval("list(conn)", {"conn": conn}) == []  # noqa: S307 - even without a name


# --- a closed client ----------------------------------------------------------------------------------------

ENDS = "the iteration ends, because the client was closed"


@pytest.mark.parametrize("how", ["next", "recv", "signals", "open"])
def test_the_end_of_an_iteration_by_the_client_is_logged_once(
    api: Api, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sseclient_dual")
    with SSEServer(default=stream(X, HANG)) as server:
        with api.client() as client:
            conn = client.connect(server.url, name="prices")
            assert api.next(conn).data == "x"
        ends: dict[str, Callable[[], object]] = {
            "next": lambda: api.next(conn),
            "recv": lambda: api.recv(conn),
            "signals": lambda: api.signals(conn).next(),
            "open": lambda: api.open(conn),
        }
        for _ in range(2):
            with pytest.raises((Ended, SSEClosedError)):
                ends[how]()
    records = [record for record in caplog.records if ENDS in record.getMessage()]
    assert [record.levelname for record in records] == ([] if how == "open" else ["DEBUG"])
    for record in records:
        assert record.getMessage() == f"prices: {server.origin}: {ENDS}"


def test_a_connection_that_was_never_opened_says_so_too(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sseclient_dual")
    with api.client() as client:
        conn = client.connect(URL)
    assert api.rest(conn) == []
    assert ENDS in caplog.text


def test_other_ends_are_not_logged_as_those_of_the_client(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sseclient_dual")
    with SSEServer(stream(X), status(204), stream(X, HANG)) as server, api.client(policy=QUICK) as client:
        ended = client.connect(server.url)
        assert len(api.rest(ended)) == 1
        closed = client.connect(server.url)
        assert api.next(closed).data == "x"
        api.close(closed)
    for conn in (ended, closed):
        assert api.rest(conn) == []
    assert ENDS not in caplog.text
