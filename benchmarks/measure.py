"""Rounds, medians and ratios: each client runs once per round.

Other load on the machine affects all clients of a round alike. So ratios are computed within each round, and the
reported ratio is their median.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from spawn import Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_THOUSAND = 1000


@dataclass
class Score:
    """The result of one client in one cell."""

    runs: list[float] = field(default_factory=list)
    note: str = ""
    """Why the result does not count: lost events, altered data, or an error. Empty if it counts."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Further values for the JSON file."""

    @property
    def median(self) -> float | None:
        """The reported value; None without runs."""
        return median(self.runs) if self.runs else None


@dataclass
class Cell:
    """One measurement of several clients."""

    name: str
    unit: str
    scores: dict[str, Score]
    ours: str = ""
    """The client to compare the others with; empty for none."""
    compiled: str = ""
    """The same client with the compiled core, which is no peer; empty for none."""
    references: tuple[str, ...] = ()
    """Columns that are not peers, such as the bare socket, which yields no events."""
    higher_is_better: bool = True
    ratios: dict[str, float] = field(default_factory=dict)
    """How many times better ours is, for each other client: the median over the rounds."""

    def compare(self) -> None:
        """Compute the ratios."""
        ours = self.scores[self.ours].runs if self.ours in self.scores else []
        for name, score in self.scores.items():
            if name != self.ours and score.runs and ours:
                pairs = zip(ours, score.runs, strict=False)
                self.ratios[name] = median(
                    (us / them) if self.higher_is_better else (them / us) for us, them in pairs
                )

    def relative(self, client: str, peer: str) -> float | None:
        """Return the result of `client` divided by that of `peer`: the median over the rounds; None without both."""
        runs = [self.scores[name].runs for name in (client, peer) if name in self.scores]
        ratios = (
            [us / them for us, them in zip(*runs, strict=False) if them] if len(runs) == len((client, peer)) else []
        )
        return median(ratios) if ratios else None

    @property
    def best_peer(self) -> str | None:
        """The best peer whose result counts; None without one."""
        peers = [
            name
            for name, score in self.scores.items()
            if score.runs and not score.note and name not in (self.ours, self.compiled, *self.references)
        ]
        if not peers:
            return None
        best = max if self.higher_is_better else min
        return best(peers, key=lambda name: self.scores[name].median or 0.0)

    @property
    def lead(self) -> float | None:
        """The ratio to the best peer; None if our result does not count, or there is no such peer."""
        return self.lead_of(self.ours)

    def lead_of(self, client: str) -> float | None:
        """Return the ratio of `client`, which is `ours` or `compiled`, to the best peer; None as for `lead`."""
        best = self.best_peer
        if best is None or client not in self.scores or self.scores[client].note:
            return None
        return self.relative(client, best)


def interleave(names: Iterable[str], rounds: int, run: Callable[[str], float]) -> dict[str, Score]:
    """Run each of `names` once per round, one after the other. Skip a client after a failure."""
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


def number(value: float) -> str:
    """Return `value` with about three significant digits."""
    if abs(value) >= _THOUSAND:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"
