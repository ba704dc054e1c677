"""`docs/benchmarks.svg`: bars for the README, readable on a light page and on a dark one.

Hand-made: there is no background, all text is of one grey that has contrast with white and with
black, and nothing but rectangles and text is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from .figures import OURS, Figures, shown

TEXT: Final = "#808080"
STRONG: Final = "#2f81f7"
PLAIN: Final = "#9aa4ae"

WIDTH: Final = 840
LEFT: Final = 190
LONGEST: Final = 520
BAR: Final = 15
STEP: Final = 21
TITLE: Final = 34


@dataclass(frozen=True)
class Panel:
    """One group of bars: a title, and a value for each system."""

    title: str
    unit: str
    bars: Sequence[tuple[str, float]]


def panels(figures: Figures, wanted: Sequence[tuple[str, str, str, str]]) -> list[Panel]:
    """Return a panel for each (title, figure, place, unit) that was measured."""
    found = []
    for title, figure, place, unit in wanted:
        bars = [
            (system, spread.median)
            for system in figures.systems(figure)
            if (spread := figures.spread(figure, place, system)) is not None
        ]
        if bars:
            found.append(Panel(title, unit, bars))
    return found


def draw(all_panels: Sequence[Panel]) -> str:
    """Return the picture as an SVG document."""
    lines: list[str] = []
    top = 0
    for panel in all_panels:
        top += TITLE
        lines.append(_text(0, top - 10, panel.title, weight="bold"))
        highest = max(value for _, value in panel.bars) or 1.0
        for system, value in panel.bars:
            lines += _bar(top, system, value, value / highest, panel.unit)
            top += STEP
    label = "; ".join(panel.title for panel in all_panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 10}" '
        f'width="{WIDTH}" height="{top + 10}" role="img" aria-label="{escape(label)}" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{TEXT}">\n'
        + "\n".join(lines)
        + "\n</svg>\n"
    )


def _bar(top: int, system: str, value: float, share: float, unit: str) -> list[str]:
    ours = system == OURS
    width = max(1.0, LONGEST * share)
    weight = "bold" if ours else "normal"
    return [
        _text(LEFT - 8, top + 12, system, weight=weight, anchor="end"),
        f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}" rx="2" '
        f'fill="{STRONG if ours else PLAIN}"/>',
        _text(LEFT + round(width) + 7, top + 12, f"{shown(value)} {unit}", weight=weight),
    ]


def _text(x: int, y: int, words: str, *, weight: str = "normal", anchor: str = "start") -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(words)}</text>"
    )
