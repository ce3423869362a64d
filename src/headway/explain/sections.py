"""The sections of a run report: each takes a run and gives HTML, or says why it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headway.explain.alignment import Alignment, align
from headway.explain.beams import draw_search, search_tree
from headway.explain.curves import Curve, draw_curves, draw_histogram
from headway.explain.heatmap import draw_alignment, draw_heads, draw_masks, draw_positions
from headway.explain.page import code, details, note, pair, paragraph, table, wide
from headway.explain.recorder import has_attention
from headway.explain.samples import Sample, mark_differences
from headway.explain.svg import escape
from headway.explain.view import NUM_EXAMPLES, RunView, read_data_report
from headway.files.manifest import read_json
from headway.tasks._model import Model
from headway.train.validate import FALLING

_SMALL_CHARTS = (
    ("learning_rate", "Learning rate"),
    ("tokens_per_second", "Tokens per second"),
    ("grad_norm", "Gradient norm before clipping"),
)


def draw_training(view: RunView) -> str:
    """Draw losses, scores, learning rate and speed over the steps."""
    if not view.metrics:
        return note("Nothing is measured yet.")
    best = view.summary.get("step")
    names = list((view.evaluations or [{"valid": {}}])[-1]["valid"])
    losses = [
        Curve(name="training", points=_points(view.reports, "loss")),
        Curve(name="validation", points=_points(view.evaluations, "valid", "loss"), has_dots=True),
    ]
    scores = [
        Curve(name=score_title(n), points=_points(view.evaluations, "valid", n), has_dots=True)
        for n in names
        if n not in FALLING
    ]
    charts = [draw_curves([c for c in losses if c.points], title="Loss per target", marked=best)]
    if scores:
        charts.append(draw_curves(scores, title="Validation scores", from_zero=True, marked=best))
    more = []
    for name, title in _SMALL_CHARTS:
        curve = Curve(name=title, points=_points(view.reports, name))
        more.append(draw_curves([curve], title=title, from_zero=True, size=(330, 190)))
    told = paragraph(
        "The training loss is measured with dropout, so it may lie above the validation loss."
    )
    large, small = "".join(charts), "".join(more)
    return f'{told}<div class="charts">{large}</div><div class="charts small">{small}</div>'


def score_title(name: str) -> str:
    """Write the name of a score as people do."""
    return {"bleu": "BLEU", "chrf": "chrF"}.get(name, name.replace("_", " "))


def _points(rows: Sequence[dict[str, Any]], *path: str) -> list[tuple[float, float]]:
    points = []
    for row in rows:
        value: Any = row
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, int | float):
            points.append((float(row["step"]), float(value)))
    return points


def draw_examples(view: RunView) -> str:
    """Write ten rows with their predictions and alignments."""
    shown = view.samples[:NUM_EXAMPLES]
    told = paragraph(
        "Rows spread evenly over the validation data. What differs from the reference is marked; "
        "chrF compares the characters of both, 0 to 100."
    )
    return told + "".join(_pair(view.model, sample) for sample in shown)


def draw_worst(view: RunView) -> str:
    """Write the rows whose predictions are farthest from their references."""
    samples = view.samples
    right = sum(sample.is_right for sample in samples)
    wrong = sorted(
        (sample for sample in samples if not sample.is_right), key=lambda sample: sample.chrf
    )
    told = (
        f"Of {len(samples):,} validation rows, {right:,} ({right / len(samples):.1%}) are right to "
        "the last character."
    )
    if not wrong:
        return paragraph(told)
    told += " These are the farthest from their references, by chrF."
    return paragraph(told) + "".join(_pair(view.model, item) for item in wrong[:NUM_EXAMPLES])


def _pair(model: Model, sample: Sample) -> str:
    if sample.is_right:
        prediction = f'<span class="right">{escape(sample.prediction)}</span>'
    else:
        prediction = mark_differences(sample.prediction, sample.reference) or "<i>nothing</i>"
    scores = f"chrF {sample.chrf:.1f} \u00b7 log probability per token {sample.score:.3f}"
    lines = [
        ("source", escape(sample.source)),
        ("reference", escape(sample.reference)),
        ("prediction", prediction),
        ("", f'<span class="scores">{escape(scores)}</span>'),
    ]
    below = ""
    if sample.prediction and has_attention(model.body):
        drawn = draw_alignment(align(model, sample.source, sample.prediction))
        below = details("attention", wide(drawn))
    return pair(lines, below)


def draw_attention(view: RunView) -> str:
    """Draw the attention of one example, head by head where there are several."""
    if not has_attention(view.model.body):
        return note(f"A {view.model.architecture} of these settings has no attention.")
    sample, alignment = view.clearest
    return quote(sample.source, sample.prediction) + write_maps(alignment)


def quote(source: str, prediction: str) -> str:
    """Write a text and what was made of it."""
    return f'<p dir="auto">{escape(source)} \u2192 {escape(prediction)}</p>'


def write_maps(alignment: Alignment) -> str:
    """Write everything that an alignment holds: the mean, every head, both self-attentions."""
    told = paragraph(
        "Rows are what is written, columns what is looked at; the stronger the color, the more "
        "weight. Resting on a row of the first map names what it looks at most."
    )
    source, target = alignment.source_tokens, alignment.target_tokens
    parts = [told, wide(draw_alignment(alignment))]
    if alignment.weights[0, 0].size < alignment.weights.size:
        heads = draw_heads(alignment.weights, target, source)
        parts.insert(1, "<h3>Mean of all layers and heads</h3>")
        parts += ["<h3>From target to source, head by head</h3>", wide(heads)]
    if alignment.encoder is not None:
        drawn = draw_heads(alignment.encoder, source, source)
        parts.append(details("within the source (encoder)", wide(drawn)))
    if alignment.decoder is not None:
        drawn = draw_heads(alignment.decoder, target, alignment.input_tokens)
        parts.append(details("within the target (decoder)", wide(drawn)))
    return "".join(parts)


def draw_beams(view: RunView) -> str:
    """Draw the beam search of one example."""
    model = view.model
    sample, _ = view.clearest if has_attention(model.body) else (view.samples[0], None)
    own = vars(model.task)["num_beams"]
    tree = search_tree(model, sample.source, num_beams=min(5, max(3, own)))
    settings = "" if own == tree.num_beams else f" (predictions above are made with {own})"
    told = paragraph(
        f"A search with {tree.num_beams} beams{settings}: each column is a step, best candidates "
        "on top. Below each token stands the log probability of the whole path; a finished result "
        "(green) is ranked by it divided by the length. Dropped candidates are grey and dotted, "
        "the way to the result is blue."
    )
    quoted = quote(sample.source, model.tokenizer.decode(tree.best.ids))
    shown = max(node.step for node in tree.nodes)
    rest = f"The first {shown} of {tree.num_steps} steps." if tree.num_steps > shown else ""
    return told + quoted + wide(draw_search(tree)) + (paragraph(rest) if rest else "")


def draw_positions_and_masks(view: RunView) -> str:
    """Draw what tells a Transformer where a token stands and what it may look at.

    Recurrent models need neither, and give nothing.
    """
    values = view.model.body.state_dict()
    name = next((name for name in values if name.endswith("positions.weight")), None)
    if name is None:
        return ""
    told = f"{name}: the first positions, one row each; blue is above zero, orange below."
    positions = paragraph(told) + wide(draw_positions(values[name].float().cpu().numpy()))
    masks = paragraph("Which positions (columns) a position (row) may look at.")
    return f"{positions}<h3>Masks</h3>{masks}{wide(draw_masks())}"


def draw_data(view: RunView) -> str:
    """Write the data report: rows, lengths, what was cut, what is in two splits."""
    report = read_data_report(view.run_dir / "data.json")
    parts = []
    if warnings := report.warnings():
        items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
        parts.append(f'<ul class="warnings">{items}</ul>')
    for title, (heads, *rows) in report.tables().items():
        parts += [f"<h3>{title}</h3>", table(heads, rows, words=1 + ("side" in heads))]
    if examples := [text for leak in report.leaks for text in leak.examples]:
        parts.append(details("where", code("\n".join(examples))))
    bars = [
        draw_histogram(side.histogram, title=f"{split.name}: {side.name}")
        for split in report.splits
        for side in split.sides
    ]
    return "".join([*parts, "<h3>Rows by length</h3>", f'<div class="bars">{"".join(bars)}</div>'])


def draw_environment(view: RunView) -> str:
    """Write the machine, the versions and the fingerprints of the data."""
    values = read_json(view.run_dir / "environment.json")
    rows: list[tuple[str, object]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += [(f"{name}: {key}", inner) for key, inner in value.items()]
        else:
            rows.append((name, "none" if value is None else value))
    return table(["", ""], rows, words=2)


def draw_recipe(view: RunView) -> str:
    """Write the recipe as resolved."""
    written = (view.run_dir / "recipe.toml").read_text(encoding="utf-8")
    return paragraph("As resolved; headway train recipe.toml repeats it.") + code(written)
