"""The curve of a learning-rate range test, as a picture and in a terminal."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from headway.explain.curves import terminal_plot
from headway.files.manifest import write_bytes
from headway.train.finder import RangeTest

_WIDTH = 60
_MARKS = (("steepest", "s"), ("before_rise", "r"), ("suggestion", "*"))


def draw_rates(test: RangeTest, path: Path) -> None:
    """Draw loss over rate, on a logarithmic axis, to a .png or .svg file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(test.rates, test.losses, color="0.8", linewidth=1, label="loss of each update")
    axes.plot(test.rates, test.smoothed, color="C0", label="smoothed")
    named = {
        "suggestion": ("C3", "-", "suggestion"),
        "steepest": ("C2", "--", "falls fastest"),
        "before_rise": ("C1", "--", "before it shoots up (lowest / 10)"),
    }
    for name, (color, style, text) in named.items():
        rate = getattr(test, name)
        axes.axvline(rate, color=color, linestyle=style, label=f"{text}: {rate:.1e}")
    # A loss that shoots up must not flatten the rest.
    low, high = min(test.smoothed), test.smoothed[0]
    room = max(high - low, 0.05 * abs(high), 1e-6)
    axes.set_ylim(low - 0.3 * room, high + 0.8 * room)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.set_title("Learning-rate range test")
    axes.legend(frameon=False, fontsize=8)
    content = BytesIO()
    figure.savefig(content, format=path.suffix.lower().removeprefix("."), dpi=150)
    write_bytes(path, content.getvalue())


def rates_in_terminal(test: RangeTest) -> str:
    """Draw the smoothed loss over the rate, with the marked rates below it."""
    ceiling = max(test.smoothed[0] * 1.5, min(test.smoothed) * 1.5)
    shown = [min(value, ceiling) for value in test.smoothed]
    plot = terminal_plot(shown, width=_WIDTH, height=10)
    margin = plot.split("\n")[-1].index("\u2514") + 1
    marks = [" "] * _WIDTH
    for name, mark in _MARKS:
        place = min(range(len(test.rates)), key=lambda i: abs(test.rates[i] - getattr(test, name)))
        marks[round(place / max(1, len(test.rates) - 1) * (_WIDTH - 1))] = mark
    ends = f"{test.rates[0]:.0e}", f"{test.rates[-1]:.0e}"
    axis = ends[0] + ends[1].rjust(_WIDTH - len(ends[0]))
    return "\n".join(
        [
            "smoothed loss over the learning rate:",
            plot,
            " " * margin + "".join(marks).rstrip(),
            " " * margin + axis,
            "",
            f"s falls fastest    {test.steepest:.1e}",
            f"r before it rises  {test.before_rise:.1e}",
            f"* suggestion       {test.suggestion:.1e}   --training.peak-lr {test.suggestion:.1e}",
        ]
    )
