"""Draw the picture of the demo in the README from its output: python docs/draw_demo.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import escape

_PICTURE = Path(__file__).parent / "images" / "demo.svg"
_CHARACTER, _LINE, _MARGIN = 7.83, 18, 20  # px
_COLOURS = {  # of the lines that begin so
    "event": "#7ee787",
    "dropped": "#ff7b72",
    "reconnecting": "#d2a8ff",
    "resumed": "#79c0ff",
    "duplicate": "#79c0ff",
}


def main() -> None:
    """Run the demo, and write the picture: both APIs print the same, so the second one is left out."""
    command = [sys.executable, "-m", "sseclient_dual", "--demo"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    second = next(number for number, line in enumerate(output) if line.startswith("async for"))
    lines = ["$ make demo", *output[: second + 1], "     ...", "", output[-1]]
    width = max(map(len, lines)) * _CHARACTER + 2 * _MARGIN
    height = len(lines) * _LINE + 2 * _MARGIN
    texts = "\n".join(
        f'<text x="{_MARGIN}" y="{_MARGIN + 13 + number * _LINE}">{_coloured(line)}</text>'
        for number, line in enumerate(lines)
    )
    _PICTURE.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}"'
        f' font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="13"'
        f' fill="#e6edf3">\n<rect width="100%" height="100%" rx="8" fill="#0d1117"/>\n'
        f"{texts}\n</svg>\n",
        encoding="utf-8",
    )


def _coloured(line: str) -> str:
    """Return a line as SVG, with its time in grey."""
    line = line.replace(" ", "\N{NO-BREAK SPACE}")  # browsers collapse other spaces
    timed = re.fullmatch(r"(\s+\d+\.\d\d\ss)(\s+(\w+).*)", line)
    if timed is None:
        return escape(line)
    colour = _COLOURS.get(timed[3], "#e6edf3")
    return f'<tspan fill="#8b949e">{timed[1]}</tspan><tspan fill="{colour}">{escape(timed[2])}</tspan>'


if __name__ == "__main__":
    main()
