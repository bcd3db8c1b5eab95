"""Draw the part `scale`, on logarithmic axes: memory and threads, then CPU time and delay at each rate."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import clients
from measure import number
from plot import COLOURS, STYLE, save

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from measure import Cell

_LINES = {  # colour, style and marker of each client
    clients.OURS_SYNC: (COLOURS["sseclient_dual"], "--", "s"),
    clients.OURS_ASYNC: (COLOURS["sseclient_dual"], "-", "o"),
    clients.HTTPX_ASYNC: (COLOURS["httpx-sse"], "-", "^"),
}
_TITLE = "Many streams in one process, on logarithmic axes (lower is better)"
_HEAD, _PANEL, _FOOT = 0.6, 1.75, 0.3  # inches
_MANY = 100  # streams: with fewer, the memory a stream is noise
_WIDE = 1000  # the ratio of the ends of an axis above which only powers of ten have labels
_LIMIT = 1000  # ms: later events are late


def draw(cells: Iterable[Cell], path: Path, caption: str) -> bool:
    """Draw the cells of `scale` to `path` as SVG; return False if there are none."""
    by_name = {cell.name: cell for cell in cells if cell.name.startswith("scale/")}
    if not any(score.runs for cell in by_name.values() for score in cell.scores.values()):
        return False
    measured = Counter(int(name.split("/")[2]) for name in by_name if name.endswith("/cpu"))
    rates = sorted(rate for rate, counts in measured.items() if counts > 1) or sorted(measured)
    panels = [("memory", "KiB a stream"), ("threads", "threads")]
    for rate in rates:
        panels.append((f"{rate}/cpu", f"µs CPU an event, {rate:,} events/s"))
        panels.append((f"{rate}/p99", f"p99 delay in ms, {rate:,} events/s"))
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and other runs do not need it

    mpl.use("svg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    with mpl.rc_context(STYLE):
        rows = len(panels) // 2
        height = _HEAD + _PANEL * rows + _FOOT
        figure, axes = plt.subplots(rows, 2, figsize=(6.4, height), squeeze=False)
        figure.patch.set(facecolor="#fff", edgecolor="#cdd1dc", linewidth=1)
        for axis, (fact, title) in zip(axes.flat, panels, strict=True):
            _draw_panel(axis, fact, title, by_name)
        for axis in axes[-1]:
            axis.set_xlabel("streams")
        figure.suptitle(_TITLE, fontsize=10, y=1 - 0.1 / height, va="top")
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(),
            loc="upper center",
            bbox_to_anchor=(0.5, 1 - 0.28 / height),
            ncols=len(_LINES),
            frameon=False,
        )
        figure.text(0.5, 0.1 / height, caption, ha="center", va="bottom", fontsize=7, color="#556")
        figure.subplots_adjust(
            left=0.09, right=0.98, bottom=(_FOOT + 0.4) / height, top=1 - (_HEAD + 0.3) / height, hspace=0.5
        )
        save(figure, path)
        plt.close(figure)
    return True


def _draw_panel(axis: Any, fact: str, title: str, cells: dict[str, Cell]) -> None:  # noqa: ANN401
    from matplotlib.ticker import LogLocator  # noqa: PLC0415

    counts = sorted({int(name.split("/")[1]) for name in cells})
    if fact == "memory":
        counts = [streams for streams in counts if streams >= _MANY]
    for client, (colour, style, marker) in _LINES.items():
        points = []
        for streams in counts:
            score = (
                cells[f"scale/{streams}/{fact}"].scores.get(client) if f"scale/{streams}/{fact}" in cells else None
            )
            if score is not None and score.median is not None and score.median > 0:
                points.append((streams, score.median))
        axis.plot(
            *zip(*points, strict=True) if points else ([], []), style, color=colour, marker=marker, label=client
        )
    axis.set_xscale("log")
    axis.set_yscale("log" if any(len(line.get_xdata()) for line in axis.lines) else "linear")
    axis.set_xticks(counts, [f"{streams:,}" for streams in counts])
    if fact.endswith("p99"):
        axis.axhline(_LIMIT, color="#99a", linewidth=0.8, linestyle=":")
    if axis.get_yscale() == "log":  # it is not without results
        low, high = axis.get_ylim()
        is_wide = high > low * _WIDE
        ticks = LogLocator(subs=(1,) if is_wide else (1, 2, 5))
        axis.yaxis.set_major_locator(ticks)
        if not is_wide:  # a second tick may be just below
            axis.set_ylim(bottom=max(tick for tick in ticks.tick_values(low, high) if tick <= low))
    axis.minorticks_off()
    axis.yaxis.set_major_formatter(lambda value, _: number(value))
    axis.set_title(title, loc="left", fontsize=8.5, fontweight="bold")
    axis.grid(visible=True, color="#dde", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
