"""Heat maps, curves and plots: every label is there, every shade is where it belongs."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from headway.explain.alignment import Alignment
from headway.explain.curves import (
    Curve,
    draw_curves,
    draw_histogram,
    draw_schedule,
    schedule_values,
    terminal_plot,
)
from headway.explain.heatmap import (
    draw_alignment,
    draw_heads,
    draw_map,
    draw_masks,
    draw_positions,
)
from headway.layers.positions import sinusoid
from headway.sections import SCHEDULES, Training
from headway.train.schedules import learning_rate


def parse(drawn: str) -> list[str]:
    """All texts of a picture, which must be valid XML."""
    root = ElementTree.fromstring(drawn)
    return [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_hand_built_alignment():
    tokens = ("\u2581ein", "\u2581Hund", "</s>")
    weights = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=np.float32)
    alignment = Alignment(
        source="ein Hund",
        target="a",
        source_tokens=tokens,
        target_tokens=("a", "</s>"),
        input_tokens=("<pad>", "a"),
        weights=weights[None, None],
    )
    drawn = draw_alignment(alignment)
    texts = parse(drawn)
    assert {"\u2423ein", "\u2423Hund", "</s>", "a"} <= set(texts)
    # The two full cells, and nothing else of the map.
    assert 'd="M0 0h1v1h-1zM1 1h1v1h-1z"' in drawn
    assert "a: \u2581ein 1.00, " in drawn


def test_tokens_are_escaped_and_of_any_script(hostile, many_scripts):
    labels = [hostile, *many_scripts]
    drawn = draw_map(np.full((1, len(labels)), 0.1), [hostile], labels)
    assert "<script" not in drawn
    assert set(many_scripts.replace(" ", "\u2423")) <= set(parse(drawn))


def test_long_maps_are_cut():
    drawn = draw_map(np.full((200, 300), 0.01), ["a"] * 200, ["b"] * 300)
    texts = parse(drawn)
    assert texts.count("a") == texts.count("b") == 80


def test_every_head_is_drawn():
    drawn = draw_heads(np.full((2, 3, 4, 5), 0.2), list("abcd"), list("vwxyz"))
    texts = parse(drawn)
    assert [text for text in texts if text.startswith("head")] == ["head 1", "head 2", "head 3"]
    assert [text for text in texts if text.startswith("layer")] == ["layer 1", "layer 2"]
    assert drawn.count('<g class="c0"') == 6


def test_many_heads_stay_a_small_file():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(40, 0.05), size=(6, 8, 40))
    assert len(draw_heads(weights, ["token"] * 40, ["token"] * 40)) < 600_000


def test_masks_show_what_may_be_seen():
    drawn = draw_masks()
    assert {"padding", "causal", "packed", "packed and causal"} <= set(parse(drawn))
    causal = re.findall(r'<g class="c0"[^>]*>(.*?)</g>', drawn)[1]
    assert causal.count("M") == 8
    assert "M0 0h1v" in causal
    assert "M0 7h8v" in causal


@pytest.mark.parametrize("shape", [(64, 32), (10, 6), (512, 1024)])
def test_positions(shape):
    drawn = draw_positions(sinusoid(*shape).numpy())
    assert f"column of the vector, 0 to {shape[1] - 1}" in parse(drawn)
    assert len(drawn) < 250_000


def test_curves_leave_out_what_is_not_finite():
    points = [(1, 2.0), (2, float("nan")), (3, float("inf")), (4, 1.0)]
    drawn = draw_curves([Curve(name="loss", points=points, has_dots=True)], title="Loss")
    parse(drawn)
    assert drawn.count("<circle") == 2
    assert "nan" not in drawn.lower()


@pytest.mark.parametrize("points", [[], [(3, 1.0)], [(1, 0.0), (2, 0.0)], [(1, 5.0), (2, 5.0)]])
def test_curves_of_few_or_equal_values(points):
    drawn = draw_curves([Curve(name="x", points=points)], title="Flat", from_zero=True, marked=1)
    parse(drawn)
    assert "nan" not in drawn.lower()


def test_long_curves_are_thinned():
    drawn = draw_curves([Curve(name="x", points=[(n, n % 7) for n in range(50_000)])], title="Long")
    assert len(drawn) < 12_000


def test_several_curves_are_named(hostile):
    curves = [Curve(name=name, points=[(1, 1.0), (2, 2.0)]) for name in (hostile, "valid")]
    drawn = draw_curves(curves, title="Loss")
    assert {hostile, "valid", "Loss"} <= set(parse(drawn))


def test_histogram_names_its_bins():
    drawn = draw_histogram([[4, 10], [6, 30], [50, 1]], title="train: source")
    parse(drawn)
    assert "5 to 6 tokens: 30 rows" in drawn
    assert parse(draw_histogram([], title="empty")) == ["empty: no rows"]


def test_schedules_show_the_rate_of_every_step():
    training = Training(schedule="linear", warmup_steps=10, peak_lr=0.5)
    values = schedule_values(training, 100)
    assert values == [learning_rate(step, 100, training) for step in range(100)]
    assert max(values) <= 0.5
    assert len(schedule_values(training, 100_000)) == 400


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_is_drawn(schedule):
    training = dataclasses.replace(Training(), schedule=schedule)
    assert f"Learning rate: {schedule}" in parse(draw_schedule(training, 1000))


@pytest.mark.parametrize("total_steps", [1, 2, 7])
def test_short_runs_have_a_schedule(total_steps):
    training = dataclasses.replace(Training(), schedule="one-cycle")
    drawn = draw_schedule(training, total_steps)
    assert parse(drawn)
    assert "nan" not in drawn


def test_terminal_plot_by_hand():
    lines = terminal_plot([0, 1, 2, 4], width=4, height=2).split("\n")
    assert lines == [
        "4 \u2502   \u2588",
        "0 \u2502 \u2584\u2588\u2588",
        "  \u2514\u2500\u2500\u2500\u2500",
    ]


def test_terminal_plot_is_never_ragged():
    values = [float("nan"), -3.0, 1e9, 0.0, float("inf")]
    lines = terminal_plot(values, width=20, height=5).split("\n")
    assert len(lines) == 6
    assert len({len(line) for line in lines}) == 1
    assert terminal_plot([], width=10, height=3) == ""
    assert terminal_plot([1.0], width=3, height=1).startswith("1 \u2502\u2588\u2588\u2588")


def test_a_legend_too_long_for_a_row_takes_two():
    names = [f"a curve with a long name, number {number}" for number in range(4)]
    curves = [Curve(name=name, points=[(0, 1), (1, 2)]) for name in names]
    drawn = draw_curves(curves, title="Loss", size=(480, 260))
    places = [re.search(rf'x="([\d.]+)" y="([\d.]+)"[^>]*>{name}<', drawn) for name in names]
    rows = [place[2] for place in places if place]
    assert len(rows) == 4
    assert rows[0] == rows[1] != rows[2] == rows[3]
    assert places[0] and places[2] and places[0][1] == places[2][1]
