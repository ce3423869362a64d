"""What a model's answers owe to the group that a text speaks of: terms are exchanged, and compared.

Each pair of terms, such as "he" and "she", is exchanged in both directions in every row; a row
without any of them is left out. Counterfactual tests of this kind: Kiritchenko and Mohammad 2018,
"Examining Gender and Race Bias in Two Hundred Sentiment Analysis Systems" (S18-2005).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.errors import DataError
from headway.metrics.intervals import Statistics, mean_statistics
from headway.tasks._task import Record

_TEXTS = ("text", "text_pair", "source", "question", "context")
_LISTS = ("words", "choices")


@dataclass(frozen=True)
class Terms:
    """Pairs of terms that are exchanged.

    Args:
        pairs: Of a group and of the other.
    """

    pairs: tuple[tuple[str, str], ...]

    def _find(self, text: str) -> list[tuple[int, int, str]]:
        """Find every term as a whole word: its characters, and what stands for it."""
        other: dict[str, str] = {}
        for one, two in self.pairs:
            # Of terms that are listed twice ("her": "his", "him") the first pair counts.
            other.setdefault(one.lower(), two)
            other.setdefault(two.lower(), one)
        if not other:
            return []
        longest_first = sorted(other, key=len, reverse=True)
        pattern = r"(?<!\w)(?:" + "|".join(map(re.escape, longest_first)) + r")(?!\w)"
        return [
            (*match.span(), _in_case_of(match[0], other[match[0].lower()]))
            for match in re.finditer(pattern, text, flags=re.IGNORECASE)
            if match[0].lower() in other
        ]

    def swap(self, text: str) -> str:
        """Exchange every term, as a whole word; a first letter keeps its case, as do all."""
        for start, end, term in reversed(self._find(text)):
            text = text[:start] + term + text[end:]
        return text

    def swap_row(self, row: Record) -> dict[str, Any] | None:
        """Exchange the terms in all texts of a row; None where it has none of them.

        Spans go on marking the words that they marked.
        """
        texts = [key for key in _TEXTS if isinstance(row.get(key), str)]
        lists = [key for key in _LISTS if isinstance(row.get(key), list)]
        swapped: dict[str, Any] = {key: self.swap(row[key]) for key in texts}
        swapped |= {key: [self.swap(text) for text in row[key]] for key in lists}
        changed = {key: value for key, value in swapped.items() if value != row[key]}
        if not changed:
            return None
        if isinstance(row.get("spans"), list):
            changed["spans"] = [self._move(span, row) for span in row["spans"]]
        return {**row, **changed}

    def move_answer(self, answer: Mapping[str, Any], row: Record) -> dict[str, Any]:
        """Give an answer that is a part of the context as the same part of the exchanged row."""
        if "start" not in answer or "context" not in row:
            return dict(answer)
        return self._move({**answer, "text": "context"}, row)

    def direction(self, row: Record) -> int:
        """Say which way a row is exchanged: 1 is from first to second terms, 0 both ways."""
        firsts = {one.lower() for one, _ in self.pairs}
        texts = [row[key] for key in _TEXTS if isinstance(row.get(key), str)]
        texts += [text for key in _LISTS if isinstance(row.get(key), list) for text in row[key]]
        found = {text[a:b].lower() in firsts for text in texts for a, b, _ in self._find(text)}
        return 0 if len(found) != 1 else (1 if found.pop() else -1)

    def _move(self, span: Mapping[str, Any], row: Record) -> dict[str, Any]:
        found = self._find(row[span.get("text", "text")])

        def moved(place: int) -> int:
            return place + sum(
                len(term) - (end - start) for start, end, term in found if end <= place
            )

        return {**span, "start": moved(span["start"]), "end": moved(span["end"])}


def _in_case_of(model: str, term: str) -> str:
    if model.isupper() and len(model) > 1:
        return term.upper()
    return term[:1].upper() + term[1:] if model[:1].isupper() else term


def read_terms(rows: Sequence[tuple[str, Sequence[str]]]) -> Terms:
    """Read pairs of terms.

    Args:
        rows: Where each stands, and its columns.
    Raises:
        DataError: for a row that is no pair of two terms, or if there is none.
    """
    pairs = []
    for where, columns in rows:
        terms = [column.strip() for column in columns]
        if len(terms) != 2 or not all(terms) or terms[0].lower() == terms[1].lower():
            raise DataError("a line must hold two terms with a tab between them", where=where)
        pairs.append((terms[0], terms[1]))
    if not pairs:
        raise DataError("there is no pair of terms")
    return Terms(tuple(pairs))


def compare_answers(
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    directions: Sequence[int] = (),
) -> list[Statistics]:
    """Say how often an answer changed, and how far its probability or number moved.

    Args:
        before: Answers to the rows as they are; those that are a part of a text as `move_answer`
            gives them.
        after: Answers to the same rows with their terms exchanged.
        directions: Which way each was exchanged, from `Terms.direction`.
    Returns:
        statistics: "changed", in per cent; and where answers have probabilities or are numbers,
            "moved": the mean absolute difference of the first answer's probability (in per cent),
            or of the number. Over the rows with a direction, "shift": the number, or for each
            class its probability (in per cent), with the second group's terms less that with the
            first's.
    """
    pairs = list(zip(before, after, strict=True))
    is_number = isinstance(before[0]["prediction"], float)
    found = []
    if not is_number:
        found.append(mean_statistics("changed", [_said(a) != _said(b) for a, b in pairs]))
    known = [value for a, b in pairs if (value := _distance(a, b)) is not None]
    if len(known) == len(pairs):
        found.append(mean_statistics("moved", known, scale=1.0 if is_number else 100.0))
    kept = [(a, b, way) for (a, b), way in zip(pairs, directions, strict=False) if way]
    if kept and is_number:
        shifts = [way * (b["prediction"] - a["prediction"]) for a, b, way in kept]
        found.append(mean_statistics("shift", shifts, scale=1.0))
    elif kept and isinstance(before[0].get("probabilities"), Mapping):
        for name in before[0]["probabilities"]:
            shifts = [
                way * (b["probabilities"][name] - a["probabilities"][name]) for a, b, way in kept
            ]
            found.append(mean_statistics(f"shift of {name}", shifts))
    return found


def _said(answer: Mapping[str, Any]) -> Any:
    """Give what an answer says, apart from the words that were exchanged."""
    if "choice" in answer:
        return answer["choice"]
    return (answer["start"], answer["end"]) if "start" in answer else answer["prediction"]


def _distance(one: Mapping[str, Any], other: Mapping[str, Any]) -> float | None:
    if isinstance(one["prediction"], float):
        return abs(one["prediction"] - other["prediction"])
    probs, name = one.get("probabilities"), one["prediction"]
    if not isinstance(probs, Mapping) or not isinstance(name, str):
        return None
    return abs(probs[name] - other["probabilities"][name])
