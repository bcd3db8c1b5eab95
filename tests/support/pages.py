"""Blocks of Python on the pages of the documentation."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MARK = re.compile(r"^( *)(?:\.\. code-block:: python|```python)$")


def blocks(page: Path) -> list[str]:
    """Return the blocks of Python on a page."""
    found = []
    lines = iter(page.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if mark := MARK.match(line):
            block = []
            for content in lines:
                if content == "```" or (
                    content.strip() and page.suffix == ".rst" and not content.startswith(mark[1] + "   ")
                ):
                    break
                block.append(content)
            found.append(textwrap.dedent("\n".join(block)).strip() + "\n")
    return found
