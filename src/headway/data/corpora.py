"""Files of well-known data sets: CoNLL's tagged words, SQuAD's questions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from headway.data.lines import find_damage, is_blank
from headway.data.records import DataFile, Sink


def read_conll(file: DataFile, sink: Sink) -> None:
    """Read a word a line, its tag in the last column, and a blank line between sentences."""
    label = f"{file.label}, line"
    words: list[str] = []
    tags: list[str] = []
    first, problem = 1, ""

    def finish() -> None:
        nonlocal problem
        if problem:
            sink.reject((label, first), problem)
        elif words:
            sink.add((label, first), {"words": [*words], **({"tags": [*tags]} if tags else {})})
        words.clear()
        tags.clear()
        problem = ""

    for number, line in enumerate(file.lines, 1):
        if is_blank(line) or line.startswith("-DOCSTART-"):
            finish()
            continue
        if not words:
            first = number
        fields = line.split("\t") if "\t" in line else line.split()
        words.append(fields[0].strip())
        if len(fields) > 1:
            tags.append(fields[-1].strip())
        if not problem and tags and len(tags) != len(words):
            problem = f"columns of line {number}: {len(fields)}, unlike the lines before it"
        problem = problem or find_damage(line) or ""
    finish()


def squad_rows(text: str) -> list[tuple[int, dict[str, Any]]] | None:
    """Read the questions of a file in SQuAD's format, version 1.1 or 2.0.

    Returns:
        rows: Each with its number, counted from 1; "question", "context", "answers" (a list of
            "text" and "start", empty where there is no answer) and "id". None: it is no such file.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not (isinstance(content, dict) and isinstance(content.get("data"), list)):
        return None
    return list(enumerate(_questions(content["data"]), 1))


def _questions(articles: list[Any]) -> Iterator[dict[str, Any]]:
    for article in _objects(articles):
        for paragraph in _objects(article.get("paragraphs")):
            for asked in _objects(paragraph.get("qas")):
                answers = [
                    {"text": answer.get("text"), "start": answer.get("answer_start")}
                    for answer in _objects(asked.get("answers"))
                ]
                yield {
                    "id": asked.get("id"),
                    "question": asked.get("question"),
                    "context": paragraph.get("context"),
                    "answers": answers,
                }


def _objects(value: Any) -> list[dict[str, Any]]:
    """Give a list's objects; what is something else has no questions in it."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
