"""Try the installed wheel, in an environment that has nothing but the extras given as arguments: `make test-dist`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import sysconfig
from pathlib import Path

from sseclient_dual import SSEClient, speedups_active
from sseclient_dual.testing import SSEServer, stream

TIMEOUT = 60  # seconds
NOWHERE = "127.0.0.1:1"  # refuses connections


def try_command() -> None:
    """Run the command, as a script and as a module."""
    script = str(Path(sys.executable).with_name("sseclient-dual"))
    for command in ([script, "--help"], [script, "--demo"], [sys.executable, "-m", "sseclient_dual", "--version"]):
        subprocess.run(command, check=True, timeout=TIMEOUT)


def try_stream() -> None:
    """Read an event with each API."""

    async def read(url: str) -> str:
        async with SSEClient() as client, client.connect(url) as conn:
            return (await conn.arecv(TIMEOUT)).data

    with SSEServer(stream("data: sync\n\n"), stream("data: async\n\n")) as server:
        with SSEClient() as client, client.connect(server.url) as conn:
            assert conn.recv(TIMEOUT).data == "sync"
        assert asyncio.run(read(server.url)) == "async"


def use_socks() -> None:
    """Connect through a SOCKS proxy that is not there."""
    with SSEClient(proxy=f"socks5://{NOWHERE}") as client:
        client.connect("http://127.0.0.1/", reconnect=False).open(TIMEOUT)


def use_redis() -> None:
    """Read a position from a server that is not there."""
    from sseclient_dual.redis import RedisCheckpoint  # noqa: PLC0415 - fails without the extra

    RedisCheckpoint(f"redis://{NOWHERE}", "position").load()


def use_http2() -> None:
    """Read an event over HTTP/2, and connect to a server that is not there."""
    with SSEClient(http2="prior-knowledge") as client:
        with SSEServer(stream("data: multiplexed\n\n"), http2=True) as server, client.connect(server.url) as conn:
            assert conn.recv(TIMEOUT).data == "multiplexed"
        client.connect(f"http://{NOWHERE}/", reconnect=False).open(TIMEOUT)


# Each extra: how to use it, and the error of that if it is installed.
EXTRAS = {
    "socks": (use_socks, "could not use the proxy"),
    "redis": (use_redis, f"connecting to {NOWHERE}"),
    "http2": (use_http2, "could not connect (Connection refused)"),
}


def try_extra(name: str, *, installed: bool) -> None:
    """Use an extra; without it, the error must say how to install it."""
    use, expected = EXTRAS[name]
    try:
        use()
    except Exception as error:  # noqa: BLE001 - of any library
        message = str(error)
    assert (expected if installed else f"pip install 'sseclient-dual[{name}]'") in message, message
    print(f"{name}: {message}")


def main() -> None:
    """Try everything."""
    installed = sys.argv[1:]
    try_command()
    try_stream()
    for name in EXTRAS:
        try_extra(name, installed=name in installed)
    is_free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    assert speedups_active == ("speedups" in installed and not is_free_threaded)


if __name__ == "__main__":
    main()
