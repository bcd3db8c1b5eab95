"""An append-only file is cut at some bytes. `make soak ARGS=append_only_file` cuts it at every byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stress.append_only_file import cut
from support.redis_servers import engines

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("engine", engines(), ids=lambda path: path.rsplit("/", 1)[1])
def test_entries_and_position_agree_wherever_the_file_ends(engine: str, tmp_path: Path) -> None:
    assert set(cut(engine, tmp_path, 61)) == {0, 2, 4}
