"""What the report says of classes: each one's scores, what is taken for what, the worst rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.explain.page import note, paragraph, table
from headway.explain.svg import escape
from headway.explain.view import NUM_EXAMPLES, RunView
from headway.files.manifest import read_json
from headway.metrics.classes import class_scores, confusion_matrix
from headway.train.baseline import BASELINE

_MOST_CLASSES = 40
_MOST_CHARACTERS = 600


@dataclass(frozen=True, kw_only=True)
class Told:
    """A row with the class it has and the one it was given.

    Args:
        text: What was read.
        wanted: Its class.
        said: What the model said.
        probability: Of the class it has.
    """

    text: str
    wanted: str
    said: str
    probability: float


def has_classes(view: RunView) -> bool:
    """Say whether the model gives every row one class."""
    task = view.model.task
    return bool(view.model.labels) and "label" in task.columns and not _is_several(task)


def _is_several(task: Any) -> bool:
    return bool(getattr(task, "multi_label", False))


def _told(row: Mapping[str, Any], answer: Mapping[str, Any]) -> Told:
    wanted = str(row["label"]).strip()
    texts = [str(row[name]) for name in ("text", "text_pair") if row.get(name) is not None]
    return Told(
        text=" | ".join(texts)[:_MOST_CHARACTERS],
        wanted=wanted,
        said=str(answer["prediction"]),
        probability=float(answer["probabilities"].get(wanted, 0.0)),
    )


def draw_classes(view: RunView) -> str:
    """Write a line for each class, a table of what is taken for what, and the baseline."""
    if not has_classes(view):
        return ""
    told = [_told(row, answer) for row, answer in view.answers]
    right = sum(row.wanted == row.said for row in told)
    parts = [
        paragraph(
            f"Of {_count(view)}, {right:,} ({right / max(1, len(told)):.1%}) have the right class."
        )
    ]
    names = [name for name in view.model.labels if _occurs(name, told)]
    scores = class_scores([[r.said] for r in told], [[r.wanted] for r in told], names)
    rows = [
        (s.name, s.support, f"{s.precision:.1f}", f"{s.recall:.1f}", f"{s.f1:.1f}") for s in scores
    ]
    parts.append(table(["class", "rows", "precision", "recall", "F1"], rows))
    parts += ["<h3>Confusion matrix</h3>", _confusion(told, names)]
    return "".join(parts) + _baseline(view)


def _count(view: RunView) -> str:
    """Say how many rows this is about, and of how many."""
    done, total = len(view.answers), len(view.valid_rows)
    if done == total:
        return f"{total:,} validation rows"
    return f"{done:,} of the {total:,} validation rows, drawn at random as time allowed"


def _occurs(name: str, told: Sequence[Told]) -> bool:
    return any(name in (row.wanted, row.said) for row in told)


def _confusion(told: Sequence[Told], names: Sequence[str]) -> str:
    """Write counts, a row for each class there is and a column for each that was said."""
    if len(names) > _MOST_CLASSES:
        return note(f"{len(names)} classes are too many for a table.")
    counts = confusion_matrix([row.said for row in told], [row.wanted for row in told], names)
    totals = counts.sum(1)
    heads = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = [f"<tr><th></th>{heads}</tr>"]
    for place, wanted in enumerate(names):
        cells = [f"<th>{escape(wanted)}</th>"]
        for said, count in zip(names, counts[place].tolist(), strict=True):
            share = count / max(1, totals[place])
            # Blue where it is right, orange where it is not; as strong as the share of the class.
            color = "61, 116, 181" if wanted == said else "214, 120, 40"
            shade = f"background: rgba({color}, {0.75 * share:.2f})" if count else ""
            cells.append(f'<td style="text-align: right; {shade}">{count or ""}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    told_how = paragraph("Rows: the class it has. Columns: the class it was given.")
    return f"{told_how}<table>{''.join(lines)}</table>"


def _baseline(view: RunView) -> str:
    """Write what a method without a network scores on the same rows."""
    path = view.run_dir / BASELINE
    if not path.is_file():
        return ""
    found = read_json(path)
    best = view.summary.get("valid", {})
    names = list(found["scores"])
    rows = [
        ("this model", *(f"{best[name]:.2f}" if name in best else "" for name in names)),
        (found["name"], *(f"{found['scores'][name]:.2f}" for name in names)),
    ]
    heads = ["", *(name.replace("_", " ") for name in names)]
    return "<h3>Without a network</h3>" + table(heads, rows)


def draw_worst_classes(view: RunView) -> str:
    """Write the rows whose own class was given the least probability."""
    if not has_classes(view):
        return ""
    told_rows = (_told(row, answer) for row, answer in view.answers)
    wrong = [row for row in told_rows if row.wanted != row.said]
    if not wrong:
        return paragraph("All validation rows have the right class.")
    wrong.sort(key=lambda row: row.probability)
    told = paragraph("The rows whose own class was given the least probability.")
    rows = [
        (row.text, row.wanted, row.said, f"{row.probability:.3f}") for row in wrong[:NUM_EXAMPLES]
    ]
    return told + table(["text", "class", "given", "probability of its class"], rows, words=3)
