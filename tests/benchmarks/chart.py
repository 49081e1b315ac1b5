"""A chart as SVG: panels of horizontal bars on one logarithmic scale, with values written beside them.

It has its own ground, so that it can be read on any page, and takes the light or the dark one as the reader's system asks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 800
LEFT, RIGHT = 250, 90
"""Room for names, and for a value behind the longest bar."""
ROW, BAR = 26, 16
PANEL_HEAD, PANEL_FOOT = 34, 34
HEAD, NOTE, FOOT = 48, 18, 12
STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
.ground { fill: #ffffff; stroke: #d1d9e0; }
.title { font-size: 18px; font-weight: 600; }
.heading { font-weight: 600; }
.note, .tick { fill: #59636e; font-size: 12px; }
.line { stroke: #d1d9e0; }
.bar { fill: #8c959f; }
.own { fill: #0969da; }
.strong { font-weight: 600; }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc; }
.ground { fill: #0d1117; stroke: #3d444d; }
.note, .tick { fill: #9198a1; }
.line { stroke: #3d444d; }
.bar { fill: #656c76; }
.own { fill: #4493f8; }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `own` stands out."""

    name: str
    value: float
    own: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars of one unit, which the heading names."""

    heading: str
    bars: tuple[Bar, ...]


def drawn(title: str, notes: Sequence[str], panels: Sequence[Panel]) -> str:
    """The chart, `notes` being lines below its title. Values are above zero."""
    values = [bar.value for panel in panels for bar in panel.bars]
    low = math.floor(math.log10(min(values)))
    high = max(low + 1, math.ceil(math.log10(max(values))))
    parts: list[str] = []
    top = HEAD + NOTE * len(notes)
    for panel in panels:
        parts += _panel(panel, top, low, high)
        top += PANEL_HEAD + ROW * len(panel.bars) + PANEL_FOOT
    height = top + FOOT
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
            f'<text class="title" x="20" y="32">{escape(title)}</text>',
            *(
                f'<text class="note" x="20" y="{HEAD + 4 + NOTE * number}">{escape(note)}</text>'
                for number, note in enumerate(notes)
            ),
            *parts,
            "</svg>\n",
        )
    )


def _panel(panel: Panel, top: float, low: int, high: int) -> list[str]:
    """Heading, lines at the powers of ten with their values below, and the bars over them."""

    def x(value: float) -> float:
        return LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    first, last = top + PANEL_HEAD, top + PANEL_HEAD + ROW * len(panel.bars)
    parts = [f'<text class="heading" x="20" y="{top + 20}">{escape(panel.heading)}</text>']
    for power in range(low, high + 1):
        at = x(10**power)
        parts.append(f'<line class="line" x1="{at:.1f}" x2="{at:.1f}" y1="{first}" y2="{last}"/>')
        parts.append(
            f'<text class="tick" x="{at:.1f}" y="{last + 16}" text-anchor="middle">{10**power:,}</text>'
        )
    for number, bar in enumerate(panel.bars):
        y = first + ROW * number
        strong, own = (' class="strong"', " own") if bar.own else ("", "")
        end, middle = x(bar.value), y + ROW / 2 + 4.5
        parts += [
            f'<text{strong} x="{LEFT - 10}" y="{middle}" text-anchor="end">{escape(bar.name)}</text>',
            f'<rect class="bar{own}" x="{LEFT}" y="{y + (ROW - BAR) / 2}" width="{max(1.0, end - LEFT):.1f}" height="{BAR}" rx="2"/>',
            f'<text{strong} x="{end + 8:.1f}" y="{middle}">{bar.value:,.0f}</text>',
        ]
    return parts
