"""The end-to-end table as one picture: a panel a face and payload, a group of bars a framing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import clients
import payloads

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from measure import Cell

_OURS = "#c1272d"
_OTHERS = ("#30638e", "#7a9e9f", "#b8b08d", "#8d86c9", "#5f5f5f")


def draw(cells: Iterable[Cell], path: Path, caption: str) -> bool:
    """Draw the plain cells that are there to `path`, as SVG; tell whether there were any."""
    by_name = {cell.name: cell for cell in cells}
    if not any(name.startswith(("sync/", "async/")) and name.endswith("/plain") for name in by_name):
        return False
    import matplotlib as mpl  # noqa: PLC0415 - other runs need not wait for it

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "benchmark"  # equal numbers, equal file
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(2, len(payloads.PAYLOADS), figsize=(15, 7.5), sharex=True)
    for row, (face, ours, group) in enumerate(
        (("sync", clients.OURS_SYNC, clients.SYNC), ("async", clients.OURS_ASYNC, clients.ASYNC))
    ):
        colours = dict(zip(group, (_OURS, *_OTHERS), strict=False))
        for column, payload in enumerate(payloads.PAYLOADS):
            axis = axes[row][column]
            width = 0.8 / len(group)
            for place, framing in enumerate(payloads.FRAMINGS):
                cell = by_name.get(f"{face}/{payload}/{framing}/plain")
                if cell is None:
                    continue
                for number, name in enumerate(group):
                    score = cell.scores[name]
                    position = place - 0.4 + width * (number + 0.5)
                    lossy = bool(score.note)
                    axis.bar(
                        position,
                        (score.median or 0) / 1000,
                        width,
                        color=colours[name],
                        alpha=0.35 if lossy else 1,
                        hatch="//" if lossy else None,
                        label=name if place == 0 else None,
                    )
                if cell.lead:
                    height = (cell.scores[ours].median or 0) / 1000
                    axis.text(
                        place - 0.4 + width / 2, height, f"{cell.lead:.1f}×", ha="center", va="bottom", fontsize=8
                    )
            axis.set_xticks(range(len(payloads.FRAMINGS)), payloads.FRAMINGS, fontsize=8)
            axis.set_title(f"{face}: {payload}", fontsize=10)
            axis.margins(y=0.12)
            axis.spines[["top", "right"]].set_visible(False)
        axes[row][0].set_ylabel("1,000 events/s")
        if axes[row][-1].get_legend_handles_labels()[1]:
            axes[row][-1].legend(fontsize=7, frameon=False)
    figure.suptitle("End to end, plain HTTP: more is better. Hatched: loses events or alters data", fontsize=11)
    figure.text(0.5, 0.005, caption, ha="center", fontsize=8)
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return True
