"""The rows of a run's validation data that its model answers worst, for tasks of any kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headway.explain.classes import draw_worst_classes, has_classes
from headway.explain.page import paragraph, table
from headway.explain.view import NUM_EXAMPLES, RunView
from headway.text.tags import read_spans

_MOST_CHARACTERS = 600
# Of scores that say little of a single row, such as a correlation, the error is looked at.
_ERROR = "squared_error"


def draw_worst_rows(view: RunView) -> str:
    """Write the rows whose answer scores lowest; nothing for tasks that write or read on."""
    if has_classes(view):
        return draw_worst_classes(view)
    task = view.model.task
    # There are many good answers to a message: none is written for this page.
    if task.reads_corpus or {"source", "messages"}.intersection(task.columns):
        return ""
    rows, answers = ([pair[side] for pair in view.answers] for side in (0, 1))
    found = {item.name: item for item in task.statistics(answers, rows)}
    item = found.get(_ERROR) or next(iter(found.values()))
    if len(item.rows) != len(rows):
        return ""
    scores = [item.score(row) for row in item.rows]
    sides = [(_wanted(row), _said(row, answer)) for row, answer in view.answers]
    # A sentence without a name in it scores nothing although it is right.
    wrong = [place for place, (wanted, said) in enumerate(sides) if wanted != said]
    sign = -1 if item.name == _ERROR else 1
    worst = sorted(wrong, key=lambda place: sign * scores[place])[:NUM_EXAMPLES]
    if not worst:
        return paragraph("All validation rows are answered as they should be.")
    title = item.name.replace("_", " ")
    cells = [(_text(rows[place]), *sides[place], f"{scores[place]:.2f}") for place in worst]
    told = paragraph(f"The rows that score lowest by {title}.")
    return told + table(["row", "wanted", "given", title], cells, words=3)


def _text(row: Mapping[str, Any]) -> str:
    """Write what was read, the question before its passage."""
    parts = [row[name] for name in ("question", "context", "text", "text_pair") if row.get(name)]
    if "words" in row:
        words = row["words"]
        parts.append(words if isinstance(words, str) else " ".join(words))
    return " | ".join(parts)[:_MOST_CHARACTERS]


def _wanted(row: Mapping[str, Any]) -> str:
    if "answers" in row:
        return " / ".join(answer["text"] for answer in row["answers"]) or "no answer"
    if "tags" in row:
        return _marked(row, row["tags"])
    value = next((row[name] for name in ("values", "label") if name in row), "")
    if "choices" in row and isinstance(value, int):
        value = row["choices"][value]
    return _written(value)


def _said(row: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    if "tags" in row:
        return _marked(row, answer["prediction"])
    return _written(answer["prediction"]) or "no answer"


def _marked(row: Mapping[str, Any], tags: Sequence[str]) -> str:
    """Write the spans that tags mark."""
    spans, _ = read_spans(tags)
    found = [f"{span.label}: {' '.join(row['words'][span.start : span.end])}" for span in spans]
    return "; ".join(found) or "nothing"


def _written(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_written, value))
    return f"{value:.3f}" if isinstance(value, float) else str(value)
