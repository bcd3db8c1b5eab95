"""A process that may open no further file or socket: connecting fails clearly, and is retried."""

from __future__ import annotations

import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sseclient_dual.testing import HANG, SSEServer, stream
from support.processes import run

if TYPE_CHECKING:
    import ssl

    from support.tls import Tls

pytest.importorskip("resource")

SCRIPT = """
    import os, resource, sys
    from sseclient_dual import ReconnectPolicy, SSEClient, SSEConnectionError

    url = sys.argv[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    taken = []

    def leave(count):
        "Take all descriptors but `count`."
        try:
            while True:
                taken.append(os.dup(2))
        except OSError:
            give_back(count)

    def give_back(count):
        for _ in range(count):
            os.close(taken.pop())

    def let_fail(conn, count):
        "Wait until `count` attempts have failed."
        while conn.stats.reconnects < count:
            try:
                conn.recv(timeout=0.01)
            except TimeoutError:
                pass

    client = SSEClient(policy=ReconnectPolicy(retry_delay=10, jitter=0, max_retry_delay=50))
"""
# A socket and its duplicate are all that a connection needs.
FIRST_CONNECT = """
    leave(2)
    try:
        client.connect(url, reconnect=False).open()
    except SSEConnectionError as error:
        print(error.final, error)
    give_back(20)
    with client.connect(url) as conn:
        print(next(conn).data)
"""
FIRST_CONNECT_RETRIED = """
    leave(2)
    conn = client.connect(url)
    let_fail(conn, 2)
    give_back(20)
    print(next(conn).data)
    conn.close()
"""
RECONNECT = """
    with client.connect(url) as conn:
        print(next(conn).data)
        leave(1)  # and the one of the connection that ends now
        conn.restart()
        print(next(conn).data)
"""
RECONNECT_RETRIED = """
    with client.connect(url) as conn:
        print(next(conn).data)
        leave(0)
        conn.restart()
        let_fail(conn, 3)
        give_back(20)
        print(next(conn).data)
"""
NO_SOCKET = FIRST_CONNECT.replace("leave(2)", "leave(0)")
MESSAGE = (
    "https://127.0.0.1:{}: no file descriptor is left (this process may open 64 files); close other files and "
    "connections, or raise the limit (ulimit -n)"
)


@pytest.fixture(params=["file", "folder"])
def trusted(
    request: pytest.FixtureRequest, tls: Tls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext:
    """Make the test's authority the default one of new processes: in a file, or in a folder with hashed names."""
    file = Path(tls[1])
    if request.param == "folder":
        openssl = shutil.which("openssl")
        if openssl is None:
            pytest.skip("needs openssl")
        command = [openssl, "x509", "-hash", "-noout", "-in", tls[1]]
        hashed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        shutil.copy(file, tmp_path / f"{hashed}.0")
        (tmp_path / "00000000.0").write_text("not a certificate")
        (tmp_path / "README").write_text("not a hashed name")
        file = tmp_path / "none.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    return tls[0]


@pytest.mark.parametrize(
    ("part", "lines"),
    [
        (FIRST_CONNECT, [f"False {MESSAGE}", "x"]),
        (FIRST_CONNECT_RETRIED, ["x"]),
        (RECONNECT, ["x", "y"]),
        (RECONNECT_RETRIED, ["x", "y"]),
    ],
    ids=["first-connect", "first-connect-retried", "reconnect", "reconnect-retried"],
)
def test_a_lack_of_descriptors_rejects_no_certificate(trusted: ssl.SSLContext, part: str, lines: list[str]) -> None:
    with SSEServer(stream("data: x\n\n", HANG), default=stream("data: y\n\n", HANG), tls=trusted) as server:
        done = run(textwrap.dedent(SCRIPT) + textwrap.dedent(part), server.url, flags=("-W", "error"))
        assert done.stdout.splitlines() == [line.format(server.port) for line in lines], done.stderr
        assert done.returncode == 0


def test_a_lack_of_descriptors_is_reported_for_a_plain_connection() -> None:
    with SSEServer(default=stream("data: x\n\n", HANG)) as server:
        done = run(textwrap.dedent(SCRIPT) + textwrap.dedent(NO_SOCKET), server.url, flags=("-W", "error"))
        assert done.stdout.splitlines() == [f"False {MESSAGE.format(server.port).replace('https', 'http')}", "x"]
