"""An append-only file that ends anywhere: entries and position agree, so that nothing is left out or doubled.

`test_append_only_file.py` cuts the file at some bytes, `make soak ARGS=append_only_file` at every byte of six events.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from sseclient_dual.event import SSEEvent
from sseclient_dual.redis.connections import Server
from sseclient_dual.redis.entries import encode_event, keys_of
from sseclient_dual.redis.scripts import Scripts
from support.ingests import UNTIL_CLOSED, StreamInRedis
from support.redis_servers import RedisServer, appendonly, engines

EVENTS = 6
_BATCH = 2  # events in one call


def cut(engine: str, folder: Path, step: int) -> dict[int, int]:
    """Store events, cut the file ever shorter, and check what the server has each time.

    :param step: bytes between two cuts.
    :return: how many cuts left how many events.
    """
    left: dict[int, int] = {}
    with RedisServer(folder / "data", *appendonly("always"), binary=engine) as server, server.client() as raw:
        prices = StreamInRedis(raw, "prices")
        client = Server(server.url).client()
        scripts = Scripts(client, keys_of("prices"), lease=UNTIL_CLOSED, maxlen=1000)
        fence = scripts.acquire("a", "upstream", "").fence
        for seq in range(0, EVENTS, _BATCH):
            batch = [encode_event(SSEEvent("x", id=f"{seq + number + 1}")) for number in range(_BATCH)]
            scripts.append(fence, seq, batch, f"{seq + _BATCH}")
        client.close()
        assert prices.state["seq"] == f"{EVENTS}"
        (file,) = server.folder.glob("appendonlydir/*.incr.aof")
        content = file.read_bytes()
        for end in range(len(content) - 1, 0, -step):
            server.kill()
            file.write_bytes(content[:end])
            server.start()
            entries, state = prices.entries(), prices.state
            last_id = entries[-1]["id"] if entries else ""
            assert (state.get("seq", "0"), state.get("last_id", "")) == (f"{len(entries)}", last_id), end
            assert [fields["id"] for fields in entries] == [f"{number + 1}" for number in range(len(entries))], end
            left[len(entries)] = left.get(len(entries), 0) + 1
    return left


def main() -> int:
    """Cut at every byte, with each engine; an assertion fails otherwise."""
    for engine in engines():
        with tempfile.TemporaryDirectory() as folder:
            left = cut(engine, Path(folder), 1)
        counts = ", ".join(f"{events} events after {cuts}" for events, cuts in left.items())
        print(f"== {Path(engine).name}: cut at {sum(left.values()):,} bytes: {counts}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
