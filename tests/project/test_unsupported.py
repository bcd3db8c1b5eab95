"""Environments that are not supported: the error names the limit."""

from __future__ import annotations

import importlib
import sys
import textwrap

import pytest
import trio

from sseclient_dual import SSEClient, SSEConnection
from sseclient_dual.testing import HANG, SSEServer, stream
from support.processes import run


def test_trio_without_asyncio() -> None:
    async def receive(conn: SSEConnection) -> None:
        await conn.arecv()

    with SSEServer(stream(HANG)) as server, SSEClient() as client, client.connect(server.url) as conn:
        with pytest.raises(RuntimeError, match="needs a running asyncio event loop; others, such as trio's"):
            trio.run(receive, conn)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="isolated sub-interpreters came with Python 3.12")
def test_an_isolated_sub_interpreter() -> None:
    module = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    importlib.import_module(module)
    inside = """
        import sys
        sys.path[:] = PATH
        from sseclient_dual import SSEClient
        try:
            SSEClient().connect("http://127.0.0.1:9/").open(10)
        except RuntimeError as error:
            print(error, flush=True)
    """
    # It is not destroyed: CPython 3.12.1 with `-X dev` crashes then if `hashlib` was imported in it.
    script = f"""
        import os, sys
        import {module} as interpreters
        inside = {textwrap.dedent(inside)!r}.replace("PATH", repr(sys.path))
        new = interpreters.create()
        interpreters.run_string(new, inside)
        os._exit(0)
    """
    done = run(textwrap.dedent(script))
    assert "isolated sub-interpreters are not supported" in done.stdout
