"""What the report says of answers: each class's scores, what is taken for what, the worst rows."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from headway.explain.page import note, paragraph, table
from headway.explain.svg import escape
from headway.explain.view import NUM_EXAMPLES, RunView
from headway.files.manifest import read_json
from headway.metrics.classes import class_scores, confusion_matrix
from headway.text.tags import read_spans
from headway.train.baseline import BASELINE

_MOST_CLASSES = 40
_MOST_CHARACTERS = 600
# Of scores that say little of a single row, such as a correlation, the error is looked at.
_ERROR = "squared_error"


def _has_classes(view: RunView) -> bool:
    """Say whether the model gives every row one class."""
    task: Any = view.model.task
    is_several = getattr(task, "multi_label", False)
    return bool(view.model.labels) and "label" in task.columns and not is_several


def draw_classes(view: RunView) -> str:
    """Write a line for each class, a table of what is taken for what, and the baseline."""
    if not _has_classes(view):
        return ""
    sides = _sides(view)
    wanted, said = ([pair[side] for pair in sides] for side in (0, 1))
    right = sum(map(operator.eq, wanted, said))
    told = f"Of {_count(view)}, {right:,} ({right / max(1, len(said)):.1%}) have the right class."
    names = [name for name in view.model.labels if name in {*wanted, *said}]
    scores = class_scores([[name] for name in said], [[name] for name in wanted], names)
    rows = [
        (s.name, s.support, f"{s.precision:.1f}", f"{s.recall:.1f}", f"{s.f1:.1f}") for s in scores
    ]
    classes = table(["class", "rows", "precision", "recall", "F1"], rows)
    matrix = f"<h3>Confusion matrix</h3>{_confusion(wanted, said, names)}"
    return paragraph(told) + classes + matrix + _baseline(view)


def _count(view: RunView) -> str:
    """Say how many rows this is about, and of how many."""
    done, total = len(view.answers), len(view.valid_rows)
    if done == total:
        return f"{total:,} validation rows"
    return f"{done:,} of the {total:,} validation rows, drawn at random as time allowed"


def _confusion(wanted: Sequence[str], said: Sequence[str], names: Sequence[str]) -> str:
    """Write counts, a row for each class there is and a column for each that was said."""
    if len(names) > _MOST_CLASSES:
        return note(f"{len(names)} classes are too many for a table.")
    counts = confusion_matrix(said, wanted, names)
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    heads = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = [f"<tr><th></th>{heads}</tr>"]
    for row, name in enumerate(names):
        cells = [f"<th>{escape(name)}</th>"]
        for column, count in enumerate(counts[row].tolist()):
            # Blue where it is right, orange where it is not; as strong as the share of the class.
            color = "61, 116, 181" if row == column else "214, 120, 40"
            shade = f"background: rgba({color}, {0.75 * shares[row, column]:.2f})" if count else ""
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


def draw_worst_rows(view: RunView) -> str:
    """Write the rows whose answer scores lowest; nothing for tasks that write or read on."""
    task = view.model.task
    if task.reads_corpus or "encoder" not in task.bodies:
        return ""
    sides = _sides(view)
    name, scores = _row_scores(view)
    if len(scores) != len(sides):
        return ""
    # A sentence without a name in it scores nothing although it is right.
    wrong = [place for place, (wanted, said) in enumerate(sides) if wanted != said]
    worst = sorted(wrong, key=scores.__getitem__, reverse=name == _ERROR)[:NUM_EXAMPLES]
    if not worst:
        return paragraph("All validation rows are answered as they should be.")
    title = name.replace("_", " ")
    cells = [
        (_text(view.answers[place][0]), *sides[place], f"{scores[place]:.3f}") for place in worst
    ]
    told = paragraph(f"The rows that are worst by {title}.")
    return told + table(["row", "wanted", "given", title], cells, words=3)


def _row_scores(view: RunView) -> tuple[str, list[float]]:
    """Give what rows are told apart by, and its value for each row; none where there is nothing."""
    rows, answers = ([pair[side] for pair in view.answers] for side in (0, 1))
    if _has_classes(view):
        wanted = (wanted for wanted, _ in _sides(view))
        found = (answer["probabilities"] for answer in answers)
        own = [float(probs.get(name, 0.0)) for probs, name in zip(found, wanted, strict=True)]
        return "probability of the wanted class", own
    found = {item.name: item for item in view.model.task.statistics(answers, rows)}
    item = found.get(_ERROR) or next(iter(found.values()))
    return item.name, [item.score(row) for row in item.rows]


def _sides(view: RunView) -> list[tuple[str, str]]:
    """Write what each row should have been given, and what it was given."""
    if _has_classes(view):
        return [(str(row["label"]).strip(), str(said["prediction"])) for row, said in view.answers]
    scheme = getattr(view.model.task, "scheme", "")
    return [(_wanted(row, scheme), _said(row, answer, scheme)) for row, answer in view.answers]


def _text(row: Mapping[str, Any]) -> str:
    """Write what was read, the question before its passage."""
    parts = [row[name] for name in ("question", "context", "text", "text_pair") if row.get(name)]
    if "words" in row:
        words = row["words"]
        parts.append(words if isinstance(words, str) else " ".join(words))
    return " | ".join(parts)[:_MOST_CHARACTERS]


def _wanted(row: Mapping[str, Any], scheme: str) -> str:
    if "answers" in row:
        return " / ".join(answer["text"] for answer in row["answers"]) or "no answer"
    if "tags" in row:
        return _marked(row, row["tags"], scheme)
    value = next((row[name] for name in ("values", "label") if name in row), "")
    if "choices" in row and isinstance(value, int):
        value = row["choices"][value]
    return _written(value)


def _said(row: Mapping[str, Any], answer: Mapping[str, Any], scheme: str) -> str:
    if "tags" in row:
        return _marked(row, answer["prediction"], scheme)
    return _written(answer["prediction"]) or "no answer"


def _marked(row: Mapping[str, Any], tags: Sequence[str], scheme: str) -> str:
    """Write the spans that tags mark."""
    spans, _ = read_spans(tags, scheme=scheme)
    found = [f"{span.label}: {' '.join(row['words'][span.start : span.end])}" for span in spans]
    return "; ".join(found) or "nothing"


def _written(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_written, value))
    return f"{value:.3f}" if isinstance(value, float) else str(value)
