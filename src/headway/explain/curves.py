"""Numbers over steps as pictures: losses, scores, schedules, histograms; terminal plots too."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headway.explain.svg import line, number, picture, rectangle, spread, text, ticks, width_of
from headway.sections import PLAIN, Playbook, Training
from headway.train.schedules import learning_rate

_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 14.0, 46.0, 34.0
# Points drawn of one curve; a screen shows no more.
_MOST_POINTS = 400
_BLOCKS = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a chart.

    Args:
        name: For the legend.
        points: Pairs (step, value), in order of the steps; values that are not finite are left out.
        has_dots: Mark every point, where there are few.
    """

    name: str
    points: Sequence[tuple[float, float]]
    has_dots: bool = False


@dataclass(frozen=True)
class _Frame:
    """Maps values to places in the picture."""

    width: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.height - _BOTTOM - (value - low) / (high - low) * (self.height - _TOP - _BOTTOM)


def draw_curves(
    curves: Sequence[Curve],
    *,
    title: str,
    from_zero: bool = False,
    marked: float | None = None,
    size: tuple[float, float] = (480, 260),
    x_name: str = "step",
) -> str:
    """Draw curves over a common axis.

    Args:
        curves: Four at most have a color of their own.
        title: Above the chart.
        from_zero: Let the vertical axis begin at 0.
        marked: A step to mark, such as that of the best model.
        size: Width and height.
        x_name: What the horizontal axis counts.
    """
    curves = [dataclasses.replace(curve, points=_clean(curve.points)) for curve in curves]
    points = [point for curve in curves for point in curve.points]
    if not points:
        return picture(*size, [text(_LEFT, 60, f"{title}: nothing yet", kind="soft")], label=title)
    frame = _frame(points, size, from_zero=from_zero)
    parts = [text(4, 14, title, size=13, kind="strong"), *_axes(frame, x_name)]
    if marked is not None and frame.x_range[0] <= marked <= frame.x_range[1]:
        x = frame.x(marked)
        parts.append(line([(x, _TOP), (x, size[1] - _BOTTOM)], kind="mark"))
        shift, anchor = (-4, "end") if x > size[0] - 60 else (4, "start")
        parts.append(text(x + shift, _TOP + 10, "best", anchor=anchor, size=10, kind="soft"))
    for place, curve in enumerate(curves):
        parts += _draw_curve(curve, frame, place % 4)
    if len(curves) > 1:
        parts += _names([curve.name for curve in curves], size[0])
    return picture(*size, parts, label=f"{title} over steps")


def _clean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    return [finite[place] for place in spread(len(finite), _MOST_POINTS)]


def _frame(
    points: Sequence[tuple[float, float]], size: tuple[float, float], *, from_zero: bool
) -> _Frame:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = min(ys), max(ys)
    room = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    low = 0.0 if from_zero and low >= 0 else low - room
    first, last = min(xs), max(xs)
    x_range = (first, last) if last > first else (first - 1, last + 1)
    return _Frame(*size, x_range, (low, high + room))


def _axes(frame: _Frame, x_name: str) -> list[str]:
    right, bottom = frame.width - _RIGHT, frame.height - _BOTTOM
    parts = []
    for value in ticks(*frame.y_range, count=4):
        y = frame.y(value)
        parts.append(line([(_LEFT, y), (right, y)], kind="rule"))
        parts.append(text(_LEFT - 6, y + 4, number(value), anchor="end", size=10.5, kind="soft"))
    for value in ticks(*frame.x_range, count=5):
        # Steps are counted, from 0.
        if value != int(value) or value < 0:
            continue
        x = frame.x(value)
        parts.append(text(x, bottom + 15, number(value), anchor="middle", size=10.5, kind="soft"))
    parts.append(line([(_LEFT, bottom), (right, bottom)], kind="frame"))
    parts.append(text(right, bottom + 29, x_name, anchor="end", size=10.5, kind="soft"))
    return parts


def _draw_curve(curve: Curve, frame: _Frame, color: int) -> list[str]:
    places = [(frame.x(x), frame.y(y)) for x, y in curve.points]
    parts = [line(places, kind=f"line s{color}")] if len(places) > 1 else []
    if curve.has_dots or len(places) == 1:
        parts += [
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.6" class="c{color}">'
            f"<title>{number(x)}: {y:.4g}</title></circle>"
            for (px, py), (x, y) in zip(places, curve.points, strict=True)
        ]
    return parts


def _names(names: Sequence[str], width: float) -> list[str]:
    """Write the legend in one row, or in two where that is too long."""
    sizes = [34 + width_of(name) * 11 for name in names]
    in_row = len(names) if _LEFT + sum(sizes) <= width else -(-len(names) // 2)
    parts = []
    for place, name in enumerate(names):
        first = place - place % in_row
        x = _LEFT + sum(sizes[first:place])
        y = 32 if in_row == len(names) else 26 + 14 * (first > 0)
        parts.append(rectangle(x, y - 6, 14, 4, kind=f"c{place % 4}", rounded=2))
        parts.append(text(x + 19, y, name))
    return parts


def draw_histogram(bins: Sequence[Sequence[int]], *, title: str) -> str:
    """Draw the lengths of one side of a split.

    Args:
        bins: Pairs (upper edge, rows), from the data report; the last holds the long tail.
        title: Above the chart.
    """
    width, height = 260.0, 170.0
    most = max((count for _, count in bins), default=0)
    if not most:
        return picture(width, height, [text(4, 14, f"{title}: no rows")], label=title)
    step = min(40.0, (width - 20) / len(bins))
    labelled = spread(len(bins), 6)
    parts = [text(4, 14, title, size=12, kind="strong")]
    for place, (edge, count) in enumerate(bins):
        tall = (height - 64) * count / most
        before = bins[place - 1][0] + 1 if place else 0
        name = f"up to {edge} tokens" if not place else f"{before} to {edge} tokens"
        x, y, size = 8 + place * step, height - 36 - tall, (max(1.0, step - 1.5), max(tall, 0.5))
        parts.append(rectangle(x, y, *size, kind="c0", title=f"{name}: {count:,} rows"))
        if place in labelled:
            middle = 8 + (place + 0.5) * step
            label = number(edge)
            parts.append(text(middle, height - 22, label, anchor="middle", size=10, kind="soft"))
    parts.append(line([(8, height - 36), (width - 12, height - 36)], kind="frame"))
    note = f"tokens, up to; tallest bar {most:,} rows"
    parts.append(text(8, height - 6, note, size=10, kind="soft"))
    return picture(width, height, parts, label=title)


def schedule_values(
    training: Training, total_steps: int, *, playbook: Playbook = PLAIN, count: int = 400
) -> list[float]:
    """Compute the learning rate at evenly spread steps of a run.

    Args:
        training: The recipe's section.
        playbook: The recipe's section.
        total_steps: Updates of the whole run.
        count: Values at most.
    """
    steps = np.linspace(0, max(0, total_steps - 1), min(count, max(1, total_steps)))
    return [learning_rate(round(step), total_steps, training, playbook) for step in steps.tolist()]


def draw_schedule(training: Training, total_steps: int, playbook: Playbook = PLAIN) -> str:
    """Draw the learning rate of a recipe over a whole run."""
    values = schedule_values(training, total_steps, playbook=playbook)
    points = list(zip(np.linspace(1, max(1, total_steps), len(values)), values, strict=True))
    title = f"Learning rate: {training.schedule}"
    return draw_curves([Curve(name="learning rate", points=points)], title=title, from_zero=True)


def terminal_plot(values: Sequence[float], width: int = 60, height: int = 10) -> str:
    """Plot values as columns of block characters, for a terminal.

    Args:
        values: In order; values that are not finite leave a gap.
        width: Columns of characters, without the labels.
        height: Lines.
    Returns:
        plot: Lines of equal width; the largest and smallest value stand at the left.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite or width < 1 or height < 1:
        return ""
    low, high = min(0.0, *finite), max(finite)
    # At least one value lands in each column, and the last column shows the last value.
    places = np.linspace(0, len(values) - 1, width).round().astype(int)
    span = (high - low) or 1.0
    shares = [(values[place] - low) / span for place in places]
    eighths = [round(share * height * 8) if math.isfinite(share) else 0 for share in shares]
    labels = {height - 1: number(low), 0: number(high)}
    margin = max(map(len, labels.values()))
    lines = []
    for row in range(height):
        floor = (height - 1 - row) * 8
        bars = "".join(_BLOCKS[min(8, max(0, tall - floor))] for tall in eighths)
        lines.append(f"{labels.get(row, ''):>{margin}} \u2502{bars}")
    return "\n".join([*lines, f"{'':>{margin}} \u2514{chr(0x2500) * width}"])
