"""`Server` and `Client`: whose settings they take, which errors they raise, and how a command ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio
from redis.exceptions import AuthenticationError
from redis.sentinel import Sentinel

from sseclient_dual.redis.connections import NoScriptError, RedisConnectionError, RedisError, ResponseError, Server
from support.failures import TOKEN
from support.forks import in_child
from support.processes import HOST, Process, free_port
from support.redis_servers import RedisServer, valkey
from support.waiting import LONG, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from sseclient_dual.redis.connections import Client


def ping(client: Client) -> bool:
    return bool(client.execute("PING"))


def test_a_missing_redis_py_is_a_clear_error() -> None:
    script = "import sys; sys.modules['redis'] = None; import sseclient_dual.redis"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last == "ImportError: sseclient_dual.redis needs an extra: pip install 'sseclient-dual[redis]'"


def test_a_url(server: RedisServer) -> None:
    made = Server(server.url)
    assert made.where == f"Redis at {HOST}:{server.port}"
    client = made.client()
    assert ping(client)
    client.close()


def test_the_url_of_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with RedisServer(tmp_path / "data", f"unixsocket {path}"):
        made = Server(f"unix://{path}?db=3")
        assert made.where == f"Redis at {path}"
        client = made.client()
        assert ping(client)
        client.close()


def test_the_settings_of_a_client_apply_except_its_protocol_and_its_retries(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "data", f"requirepass {TOKEN}", "databases 20") as server:
        opened: list[Any] = []

        def connected(connection: Any) -> None:
            opened.append(connection)
            connection.on_connect()

        user = redis.Redis(
            port=server.port,
            password=TOKEN,
            db=17,
            client_name="mine",
            protocol=3,
            decode_responses=True,
            encoding="utf-16",
            socket_timeout=0.001,
            redis_connect_func=connected,  # type: ignore[arg-type] # redis-py's type lacks the argument
        )
        client = Server(user).client()
        client.execute("SET", "key", b"\xff")
        assert client.execute("GET", "key") == b"\xff"
        (about,) = client.execute("CLIENT LIST")
        assert (about["db"], about["name"], about["resp"]) == ("17", "mine", "2")
        client.close()
        assert len(opened) == 1
        user.close()


def test_a_cluster(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "data", "cluster-enabled yes", f"cluster-port {free_port()}") as server:
        with server.client() as raw:
            raw.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_until(lambda: "cluster_state:ok" in str(raw.execute_command("CLUSTER", "INFO")), "the cluster")
        opened: list[Any] = []
        with redis.RedisCluster(host=HOST, port=server.port, redis_connect_func=opened.append) as user:
            made = Server(user)
            assert made.where == f"the Redis cluster of {HOST}:{server.port}"
            opened.clear()
            client = made.client()
            assert client.execute("EVAL", "return redis.call('INCR', KEYS[1])", 1, "{a}:b") == 1
            assert opened
            client.close()
            with redis.RedisCluster(host=HOST, port=server.port) as other:
                client = Server(other).client()
                assert client.execute("GET", "{a}:b") == b"1"
                client.close()
            late = made.client()
            server.kill()
            with pytest.raises(RedisConnectionError):
                late.execute("GET", "a")
            late.close()


def test_a_sentinel(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "data") as server:
        settings = tmp_path / "sentinel.conf"
        port = free_port()
        settings.write_text(
            f"port {port}\nbind {HOST}\ndir {tmp_path}\nsentinel monitor prices {HOST} {server.port} 1\n"
        )
        with Process([valkey(), str(settings), "--sentinel"], port, log=tmp_path / "log"):
            sentinel: Any = Sentinel([(HOST, port)], decode_responses=True)  # type: ignore[no-untyped-call]
            user = sentinel.slave_for("prices", client_name="mine")
            made = Server(user)
            assert made.where == "the Redis service prices"
            client = made.client()
            assert client.execute("CLIENT", "GETNAME") == b"mine"
            client.close()
            user.close()
            for node in sentinel.sentinels:
                node.close()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (3, "redis must be a URL, a redis.Redis or a redis.RedisCluster, not builtins.int"),
        (redis.asyncio.Redis(), "not redis.asyncio.client.Redis; this package uses threads also in the async API"),
    ],
    ids=["int", "asyncio"],
)
def test_a_client_of_another_kind_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        Server(wrong)
    assert str(caught.value).endswith(message)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"http://user:{TOKEN}@host/0", "redis must be a URL such as"),
        (f"redis://user:{TOKEN}@host:x{TOKEN}/0", "redis must be a URL such as"),
        (f"redis://user:{TOKEN}@host/0?socket_timeout={TOKEN}", "redis must be a URL such as"),
        (f"redis://user:{TOKEN}@host/0/{TOKEN}", "the path of a Redis URL can only be the number of a database"),
        (f"rediss://user:{TOKEN}@host/prices", "the path of a Redis URL can only be the number of a database"),
    ],
)
def test_a_wrong_url_is_refused_without_showing_its_password(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Server(url)
    assert TOKEN not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("path", ["", "/", "/7"])
def test_the_path_of_a_url_is_the_number_of_a_database(path: str) -> None:
    assert Server(f"rediss://host{path}").where == "Redis at host:6379"


def test_a_command_is_sent_once_and_its_errors_are_those_of_redis_py(server: RedisServer, tmp_path: Path) -> None:
    client = Server(server.url).client()
    with pytest.raises(NoScriptError):
        client.execute("EVALSHA", "0" * 40, 0)
    with pytest.raises(ResponseError):
        client.execute("LPUSH", "key")
    client.close()
    with socket.create_server((HOST, 0)) as listener:
        client = Server(f"redis://{HOST}:{listener.getsockname()[1]}").client(timeout=0.05)
        with pytest.raises(RedisError):
            client.execute("PING")
        listener.accept()[0].close()
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()
        client.close()


def test_a_wrong_password_is_a_lost_connection(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "data", f"requirepass {TOKEN}") as server:
        client = Server(f"redis://:wrong@{HOST}:{server.port}").client()
        with pytest.raises(AuthenticationError) as caught:
            client.execute("PING")
        assert TOKEN not in str(caught.value)
        client.close()


def test_another_thread_ends_a_command(server: RedisServer, stream: str) -> None:
    client = Server(server.url).client(timeout=LONG)
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            client.execute("BLPOP", stream, 0)
        except RedisError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    with server.client() as raw:
        wait_until(lambda: raw.info("clients")["blocked_clients"], "the command")
    client.abort()
    thread.join()
    assert isinstance(raised[0], RedisConnectionError)
    with pytest.raises(RedisConnectionError):
        client.execute("PING")  # it does not connect again
    client.close()


def test_a_client_that_is_ended_before_it_connects_does_not_connect(server: RedisServer) -> None:
    client = Server(server.url).client()
    client.abort()
    with pytest.raises(RedisConnectionError, match="closed"):
        client.execute("PING")
    client.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_end_the_connections_of_its_parent(server: RedisServer) -> None:
    client = Server(server.url).client()
    assert ping(client)
    number = client.execute("CLIENT", "ID")
    assert in_child(client.abort) == 0
    assert client.execute("CLIENT", "ID") == number
    client.close()
