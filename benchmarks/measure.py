"""How numbers come about: rounds in which every client runs once, medians over rounds, ratios within them.

Whatever else the machine does hits all clients of a round alike, so a ratio is taken inside each round first, and
the median of the ratios is what counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from spawn import Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass
class Score:
    """What one client achieved in one cell."""

    runs: list[float] = field(default_factory=list)
    note: str = ""
    """Why it cannot win, if it cannot: events lost, data altered, or what it failed with."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else is worth telling."""

    @property
    def median(self) -> float | None:
        """What is reported; None if nothing was measured."""
        return median(self.runs) if self.runs else None


@dataclass
class Cell:
    """One measurement of several clients."""

    name: str
    unit: str
    scores: dict[str, Score]
    ours: str = ""
    """The client that the others are compared with."""
    outside: tuple[str, ...] = ()
    """Those that hand out no events, and so are no peers: the floor, and the server's own speed."""
    highest_wins: bool = True
    ratios: dict[str, float] = field(default_factory=dict)
    """By peer: by how much ours is better than it, the median over rounds."""

    def compare(self) -> None:
        """Compute the ratios."""
        ours = self.scores[self.ours].runs if self.ours in self.scores else []
        for name, score in self.scores.items():
            if name != self.ours and score.runs and ours:
                pairs = zip(ours, score.runs, strict=False)
                self.ratios[name] = median((us / them) if self.highest_wins else (them / us) for us, them in pairs)

    @property
    def best_peer(self) -> str | None:
        """The best of the peers that did the whole job."""
        peers = [
            name
            for name, score in self.scores.items()
            if score.runs and not score.note and name != self.ours and name not in self.outside
        ]
        if not peers:
            return None
        best = max if self.highest_wins else min
        return best(peers, key=lambda name: self.scores[name].median or 0.0)

    @property
    def lead(self) -> float | None:
        """The ratio to the best peer; None if ours did not do the whole job, or nobody else did."""
        best = self.best_peer
        if not self.ours or best is None or self.scores[self.ours].note:
            return None
        return self.ratios.get(best)


def interleave(names: Iterable[str], rounds: int, run: Callable[[str], float]) -> dict[str, Score]:
    """Run each of `names` once a round, one after the other; one that fails is out."""
    scores = {name: Score() for name in names}
    for _ in range(rounds):
        for name, score in scores.items():
            if score.note.startswith("n/a"):
                continue
            try:
                score.runs.append(run(name))
            except Failed as failure:
                score.note = f"n/a: {failure}"
    return scores


def quantile(values: list[float], share: float) -> float:
    """Return the value below which `share` of `values` are."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
