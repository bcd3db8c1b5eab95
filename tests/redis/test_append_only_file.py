"""An append-only file that ends anywhere: entries and position agree, so that nothing is left out or doubled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sseclient_dual.event import SSEEvent
from sseclient_dual.redis.connections import Server
from sseclient_dual.redis.entries import encode_event, keys_of
from sseclient_dual.redis.scripts import Scripts, Status
from support.ingests import UNTIL_CLOSED, StreamInRedis
from support.redis_servers import RedisServer, appendonly, engines

if TYPE_CHECKING:
    from pathlib import Path

STEP = 61  # bytes between two cuts


@pytest.mark.parametrize("engine", engines(), ids=lambda path: path.rsplit("/", 1)[1])
def test_entries_and_position_agree_wherever_the_file_ends(engine: str, tmp_path: Path) -> None:
    settings = appendonly("always")
    with RedisServer(tmp_path / "data", *settings, binary=engine) as server, server.client() as raw:
        prices = StreamInRedis(raw, "prices")
        client = Server(server.url).client()
        scripts = Scripts(client, keys_of("prices"), lease=UNTIL_CLOSED, maxlen=1000)
        fence = scripts.acquire("a", "upstream", "").fence
        for seq in range(0, 6, 2):
            batch = [encode_event(SSEEvent("x", id=f"{number}")) for number in (seq + 1, seq + 2)]
            assert scripts.append(fence, seq, batch, f"{seq + 2}").status is Status.ADDED
        client.close()
        (file,) = server.folder.glob("appendonlydir/*.incr.aof")
        content = file.read_bytes()
        seen = set()
        for end in range(len(content) - 1, 0, -STEP):
            server.kill()
            file.write_bytes(content[:end])
            server.start()
            entries, state = prices.entries(), prices.state
            last_id = entries[-1]["id"] if entries else ""
            assert (state.get("seq", "0"), state.get("last_id", "")) == (f"{len(entries)}", last_id)
            assert [fields["id"] for fields in entries] == [f"{number + 1}" for number in range(len(entries))]
            seen.add(len(entries))
        assert seen == {0, 2, 4}
