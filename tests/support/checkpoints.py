"""Checkpoints in memory."""

from __future__ import annotations


class Memory:
    """Records the saves and counts the loads.

    :param loaded: the ID that `load` returns.
    """

    def __init__(self, loaded: str | None = None) -> None:
        self.loaded = loaded
        self.loads = 0
        self.saved: list[str] = []

    def load(self) -> str | None:
        self.loads += 1
        return self.loaded

    def save(self, last_event_id: str) -> None:
        self.saved.append(last_event_id)
