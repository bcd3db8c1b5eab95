"""Draw the end-to-end results: a panel for each payload, a group of bars for each API and framing."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import clients
import payloads

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from measure import Cell

_APIS = (("sync", clients.SYNC), ("async", clients.ASYNC))
COLOURS = {  # a client with both APIs has one colour
    "sseclient_dual": "#c1272d",
    f"sseclient_dual{clients.SPEEDUPS}": "#6d1016",
    "launchdarkly": "#2b5c8a",
    "httpx-sse": "#d9a441",
    "sseclient-py": "#5f9e8f",
    "requests-sse": "#9384c9",
    "aiohttp-sse-client2": "#6b6b6b",
    "aiosonic": "#8a5a3c",
}
_LABELS = {
    "ticks": "ticks: 15 bytes",
    "llm": "llm: 250 bytes",
    "changes": "changes: 1.3 kB, several scripts",
    "full": "full: all fields, two lines of data",
}
_TITLE = "Events per second, end to end over plain HTTP (higher is better)"
_NOTE = "Red numbers: ratio to the fastest other client that keeps all events. No bar: the client failed."
_HEAD, _PANEL, _FOOT = 1.16, 1.9, 0.3  # inches
_GROUP = 0.84  # width of a group of bars; 1 is the distance of two groups
_GAP = 0.5  # extra distance between the two APIs
_INK = "#112"
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # it comes with matplotlib, so the layout is the same everywhere
    "font.size": 8,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "none",  # keep text as text: a smaller file, and accessible
    "svg.hashsalt": "benchmark",  # equal numbers make an equal file
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def draw(cells: Iterable[Cell], path: Path, caption: str) -> bool:
    """Draw the plain-HTTP cells to `path` as SVG; return False if there are none."""
    by_name = {cell.name: cell for cell in cells}
    shown = [payload for payload in payloads.PAYLOADS if _cell_names(payload) & by_name.keys()]
    if not shown:
        return False
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and other runs do not need it

    mpl.use("svg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    with mpl.rc_context(STYLE):
        height = _HEAD + _PANEL * len(shown) + _FOOT
        figure, axes = plt.subplots(len(shown), figsize=(6.4, height), squeeze=False)
        # A light card: an image cannot know whether the page around it is dark.
        figure.patch.set(facecolor="#fff", edgecolor="#cdd1dc", linewidth=1)
        for axis, payload in zip(axes[:, 0], shown, strict=True):
            _draw_panel(axis, payload, by_name)
        figure.suptitle(_TITLE, fontsize=10, y=1 - 0.1 / height, va="top")
        _draw_legend(figure, top=1 - 0.3 / height)
        figure.text(0.5, 1 - 0.9 / height, _NOTE, ha="center", va="top", fontsize=7.5)
        figure.text(0.5, 0.1 / height, caption, ha="center", va="bottom", fontsize=7, color="#556")
        figure.subplots_adjust(
            left=0.105, right=0.985, bottom=(_FOOT + 0.3) / height, top=1 - (_HEAD + 0.4) / height, hspace=0.62
        )
        figure.align_ylabels()
        save(figure, path)
        plt.close(figure)
    return True


def save(figure: Any, path: Path) -> None:  # noqa: ANN401 - matplotlib is optional
    """Write a figure as SVG."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    path.write_text(re.sub(r"(\.\d\d)\d+", r"\1", file.getvalue()))  # a hundredth of a point is fine enough


def _cell_names(payload: str) -> set[str]:
    return {f"{api}/{payload}/{framing}/plain" for api, *_ in _APIS for framing in payloads.FRAMINGS}


def _draw_panel(axis: Any, payload: str, cells: dict[str, Cell]) -> None:  # noqa: ANN401 - matplotlib is optional
    ticks = []
    for number, (api, group) in enumerate(_APIS):
        start = number * (len(payloads.FRAMINGS) + _GAP)
        for place, framing in enumerate(payloads.FRAMINGS):
            ticks.append((start + place, framing.replace("chunk-per-event", "chunk per\nevent")))
            cell = cells.get(f"{api}/{payload}/{framing}/plain")
            if cell is not None:
                _draw_group(axis, cell, start + place, list(group))
        middle = start + (len(payloads.FRAMINGS) - 1) / 2
        axis.text(middle, 1.0, f"{api} API", transform=axis.get_xaxis_transform(), ha="center", va="bottom")
    axis.set_xticks([position for position, _ in ticks], [label for _, label in ticks])
    axis.tick_params(length=0)
    axis.set_title(_LABELS.get(payload, payload), loc="left", fontsize=9, fontweight="bold", pad=15)
    axis.set_ylabel("1,000 events/s")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.yaxis.grid(visible=True, color="#dde", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.margins(x=0.025, y=0.12)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _draw_group(axis: Any, cell: Cell, centre: float, group: list[str]) -> None:  # noqa: ANN401
    width = _GROUP / len(group)
    for number, name in enumerate(group):
        score = cell.scores.get(name)
        if score is None or score.median is None:
            continue
        axis.bar(
            centre - _GROUP / 2 + width * (number + 0.5),
            score.median / 1000,
            width * 0.92,
            color=COLOURS[_product(name)],
            alpha=0.4 if score.note else 1,
            hatch="////" if score.note else None,
            edgecolor="#fff" if score.note else "none",
            clip_on=False,
        )
    for name, side in ((cell.ours, "right"), (cell.compiled, "left")):  # away from each other
        lead = cell.lead_of(name)
        if lead:
            axis.annotate(
                f"{lead:.1f}×",
                (centre - _GROUP / 2 + width, (cell.scores[name].median or 0) / 1000),
                (0, 1),
                textcoords="offset points",
                ha=side,
                fontweight="bold",
                fontsize=7.5,
                color=COLOURS[_product(name)],
            )


def _draw_legend(figure: Any, top: float) -> None:  # noqa: ANN401
    from matplotlib.patches import Patch  # noqa: PLC0415

    handles = [Patch(facecolor=colour, label=product) for product, colour in COLOURS.items()]
    handles.append(Patch(facecolor="#bbb", hatch="////", edgecolor="#fff", label="loses or alters events"))
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, top), ncols=4, frameon=False)


def _product(client: str) -> str:
    """Return the name of a client without its API."""
    return client.partition(" (")[0]
