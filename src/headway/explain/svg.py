"""Small parts that all pictures are drawn from: text, cells, lines, axes, as SVG.

A picture is text, so the reader's browser brings the fonts for any script, stays sharp at any
size, and fits its colors to light and dark pages. Nothing in it refers to another file.
"""

from __future__ import annotations

import functools
import html
import itertools
import math
import unicodedata
from collections.abc import Sequence
from importlib import resources

import numpy as np

# The mark of a space in most vocabularies.
SPACE = "\u2581"
# Shades of a cell; finer steps cannot be told apart.
_NUM_SHADES = 16
# Characters that neither HTML nor XML may hold, and what stands for them.
_PICTURES_OF_CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (9, 10, 13)}
_UNWRITABLE = dict.fromkeys((*range(127, 160), 65534, 65535), 65533)


@functools.cache
def read_style(name: str) -> str:
    """Read a style sheet of this folder, as one line."""
    sheet = resources.files("headway.explain") / f"{name}.css"
    return sheet.read_text(encoding="utf-8").replace("\n", "")


def escape(content: object) -> str:
    """Write any value as text that is safe in HTML and SVG, between tags and in attributes."""
    text = str(content).translate(_PICTURES_OF_CONTROLS | _UNWRITABLE)
    return html.escape(text.encode("utf-8", "replace").decode("utf-8"))


def width_of(content: str) -> float:
    """Guess the width of a text, in units of its size: no font is at hand to measure it."""
    return sum(map(_width, content))


def _width(character: str) -> float:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Cf"):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    return 0.64 if character.isupper() else 0.56


def shorten(content: str, width: float) -> str:
    """Cut a text to a width in units of its size."""
    if width_of(content) <= width:
        return content
    kept = ""
    for character in content:
        if width_of(kept + character) > width - 0.8:
            break
        kept += character
    return kept + "\u2026"


def show_spaces(token: str) -> str:
    """Write a token so that its spaces, line ends and invisible characters are seen."""
    shown = "".join(map(_show_character, token))
    if width_of(shown) or not token:
        return shown
    if any(unicodedata.category(character).startswith("M") for character in token):
        # Marks that belong on a letter get the circle that stands for one.
        return "\u25cc" + shown
    return " ".join(f"U+{ord(character):04X}" for character in token)


def _show_character(character: str) -> str:
    if character == "\n":
        return "\u23ce"
    is_space = character == SPACE or unicodedata.category(character) == "Zs"
    return "\u2423" if is_space else character


def picture(width: float, height: float, parts: Sequence[str], *, label: str) -> str:
    """Put parts together into one SVG.

    Args:
        width: In pixels.
        height: In pixels.
        parts: SVG elements, drawn in order.
        label: What the picture shows, for those who cannot see it.
    """
    width, height = math.ceil(width), math.ceil(height)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="hw" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f"<style>{read_style('picture')}</style>{''.join(parts)}</svg>"
    )


def text(
    x: float,
    y: float,
    content: object,
    *,
    anchor: str = "start",
    size: float = 11,
    turn: float = 0,
    kind: str = "",
) -> str:
    """Write a text.

    Args:
        x: Of the anchor.
        y: Of the base line.
        content: Is escaped.
        anchor: start, middle or end.
        size: Of the font.
        turn: Degrees around the anchor.
        kind: Class: soft, strong, good or none.
    """
    place = f'x="{x:.1f}" y="{y:.1f}"'
    turned = f' transform="rotate({turn:g} {x:.1f} {y:.1f})"' if turn else ""
    named = f' class="{kind}"' if kind else ""
    return (
        f'<text {place} font-size="{size:.1f}" text-anchor="{anchor}"{turned}{named} '
        f'xml:space="preserve">{escape(content)}</text>'
    )


def rectangle(
    x: float,
    y: float,
    width: float,
    height: float,
    *,
    kind: str,
    title: str = "",
    rounded: float = 0,
) -> str:
    """Draw a box; a title is shown when the pointer rests on it."""
    corners = f' rx="{rounded:g}"' if rounded else ""
    inner = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{corners} '
        f'class="{kind}">{inner}</rect>'
    )


def line(points: Sequence[tuple[float, float]], *, kind: str) -> str:
    """Join points by straight lines."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" class="{kind}" fill="none"/>'


def cells(
    values: np.ndarray, *, x: float, y: float, size: tuple[float, float], kind: str = "c0"
) -> str:
    """Draw a matrix as shades of one color.

    Cells of one shade are one path, so that a large matrix stays a small file.

    Args:
        values: (rows, columns) float, 0 (nothing) to 1 (full color).
        x: Left edge.
        y: Upper edge.
        size: Width and height of a cell.
        kind: Class that gives the color.
    """
    shades = np.rint(np.clip(np.nan_to_num(values), 0, 1) * _NUM_SHADES).astype(int)
    drawn = "".join(
        f'<path fill-opacity="{shade / _NUM_SHADES:.2g}" d="{steps}"/>'
        for shade, steps in sorted(_paths(shades).items())
    )
    place = f"translate({x:.1f} {y:.1f}) scale({size[0]:.3g} {size[1]:.3g})"
    return f'<g class="{kind}" transform="{place}" shape-rendering="crispEdges">{drawn}</g>'


def _paths(shades: np.ndarray) -> dict[int, str]:
    """Trace the cells of each shade; neighbours in a row are one step, and 0 is left out."""
    paths: dict[int, str] = {}
    for row, values in enumerate(shades):
        edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
        for start, end in itertools.pairwise(edges):
            shade = int(values[start]) if end > start else 0
            if shade:
                length = end - start
                step = f"M{start} {row}h{length}v1h-{length}z"
                paths[shade] = paths.get(shade, "") + step
    return paths


def number(value: float) -> str:
    """Write a number in as few characters as tell its size."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 1e4:
        return f"{value / 1e3:.3g}k"
    if size >= 100 or value == int(value):
        return f"{value:.0f}"
    if size >= 1e-3:
        return f"{value:.3g}"
    mantissa, _, power = f"{value:.2g}".partition("e")
    return f"{mantissa}e{int(power)}" if power else mantissa


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Choose round numbers between two values: steps of 1, 2, 2.5 or 5 times a power of ten."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [place * step for place in range(first, last + 1)]


def spread(count: int, chosen: int) -> list[int]:
    """Choose places evenly spread over 0 to count - 1."""
    return np.unique(np.linspace(0, count - 1, min(count, chosen)).round().astype(int)).tolist()
