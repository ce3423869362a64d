"""Extractive question answering: find the stretch of a passage that answers a question.

Needs: records with `question`, `context` and `answers`, a list of {"text", "start"} with the
characters where each begins (none where the passage has no answer); or files in SQuAD's format.
Compare: for kinds of words without a question, tagging.

Example:
    >>> Answering(max_tokens=384, stride_tokens=128).check()
    []
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from headway.data.batch import Batch, Example
from headway.layers.losses import IGNORE, Loss, pair_log_probs
from headway.layers.pooling import first_places, members_of
from headway.metrics.answers import answer_statistics
from headway.metrics.intervals import Statistics
from headway.tasks._examples import batches_of, describe_examples
from headway.tasks._passages import Passage, PassageWindow, cut_passages, read_passages
from headway.tasks._settings import at_least, one_of, rate_problems
from headway.tasks._task import (
    Answer,
    Answers,
    Body,
    Encoded,
    Head,
    OnProgress,
    Record,
    Rows,
    Setting,
)
from headway.tasks._texts import OnEncoder, make_token_head, needed

# Spans of each window beyond those asked for: several windows may say the same.
_SPARE = 4
_LOSSES = ("separate", "joint")


@dataclass(frozen=True, kw_only=True)
class Answering(OnEncoder):
    """Learn where in a passage the answer begins and where it ends."""

    max_tokens: int = 384
    """Length of an example, special tokens included; longer passages are read in windows."""
    stride_tokens: int = 128
    """Pieces by which a window begins after the one before it."""
    max_answer_tokens: int = 30
    """Longest answer, in pieces."""
    no_answer: bool = False
    """The passage may have no answer: then the first token is one, and "" may be given."""
    threshold: float = 0.0
    """With no_answer, how much better than none an answer must be, in logits; training chooses it
    on the validation data."""
    loss: str = "separate"
    """separate (start and end each among all tokens) or joint (the pair among all valid pairs)."""
    num_best: int = 1
    """Answers given for each question."""
    dropout: float = 0.0
    """Rate on the hidden states; published models have none."""

    columns: ClassVar[tuple[str, ...]] = ("question", "context", "answers")
    inputs: ClassVar[tuple[str, ...]] = ("question", "context")
    heads: ClassVar[tuple[str, ...]] = ("span",)
    head: ClassVar[str] = "span"
    metrics: ClassVar[tuple[str, ...]] = ("answer_f1", "exact_match")

    def make_head(self, body: Body, labels: Sequence[str]) -> Head:
        """Build a layer of two results: begins here, ends here."""
        return make_token_head(body, 2, dropout=self.dropout)

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        least = {"max_tokens": 16, "stride_tokens": 1, "max_answer_tokens": 1, "num_best": 1}
        problems = at_least(self, least) + one_of(self, {"loss": _LOSSES})
        return problems + rate_problems(self)

    def check_row(self, row: Record, labels: Sequence[str] | None) -> str | None:
        """Say what is wrong with a row's answers; None if nothing is."""
        for name in ("question", "context"):
            if not isinstance(row[name], str):
                return f"{name} is no text"
        answers = row["answers"]
        if not isinstance(answers, list) or not all(isinstance(a, dict) for a in answers):
            return "answers must be a list of objects with text and start"
        if not answers and not self.no_answer:
            return "there is no answer; with task.no-answer true that is allowed"
        for answer in answers:
            text, start = answer.get("text"), answer.get("start")
            if not isinstance(text, str) or not text.strip():
                return "an answer has no text"
            if isinstance(start, bool) or not isinstance(start, int) or start < 0:
                return f"the answer {text!r} has no start: the place of its first character"
            if row["context"][start : start + len(text)] != text:
                return f"the answer {text!r} is not at character {start} of the context"
        return None

    def encode(self, rows: Rows, setting: Setting) -> Encoded:
        """Turn records into examples, a window of a passage each."""
        longest = self.longest(setting)
        passages, windows = self._read(rows, setting)
        held: list[list[PassageWindow]] = [[] for _ in rows]
        for window in windows:
            held[window.passage].append(window)
        lost, examples = 0, []
        for row, passage, some in zip(rows, passages, held, strict=True):
            answers = row.get("answers") or []
            span = _learned_span(answers, passage, some)
            if answers and span is None:
                # To learn from its windows would be to learn that there is no answer.
                lost += 1
                continue
            examples += [_example(len(examples) + i, w, span) for i, w in enumerate(some)]
        notes = {
            "rows left out, as no window holds an answer of theirs whole": lost,
            "questions cut at half of a window": sum(p.is_cut(longest) for p in passages),
        }
        return describe_examples("context", examples, setting.tokenizer, limit=longest, notes=notes)

    def _read(self, rows: Rows, setting: Setting) -> tuple[list[Passage], list[PassageWindow]]:
        """Give questions with their passages, and the windows that they are read in."""
        tokenizer, longest = setting.tokenizer, self.longest(setting)
        passages = read_passages(rows, tokenizer)
        return passages, cut_passages(
            passages, tokenizer, longest=longest, stride=self.stride_tokens
        )

    def with_targets(self, batch: Batch, examples: Sequence[Example], setting: Setting) -> Batch:
        """Give a batch the tokens that answer, beside those that may."""
        spans = torch.tensor([example.classes for example in examples])
        return replace(batch, document_labels=spans)

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the windows, once for where they begin and once for where they end."""
        if self.loss == "joint":
            return {"pair": float(self._is_short(needed(batch.document_labels)).sum())}
        count = float(len(needed(batch.document_labels)))
        return {"start": count, "end": count}

    def _is_short(self, spans: Tensor) -> Tensor:
        """Say which answers may be given: longer ones are no valid pairs."""
        return spans[:, 1] - spans[:, 0] < self.max_answer_tokens

    def losses(self, body: Body, head: Head, batch: Batch) -> tuple[Loss, ...]:
        """Sum the cross-entropy of both ends over the tokens that may answer, in nats.

        Papers: Devlin et al. 2019 (arXiv 1810.04805), section 4.2: each end has half the weight.
            The joint loss: Fajcik et al. 2021, "Rethinking the Objectives of Extractive Question
            Answering" (arXiv 2008.12804), section 2, where p(start, end) is a softmax over pairs.
        """
        scores = self._scores(body, head, batch)  # (N, T, 2)
        spans, starts = needed(batch.document_labels), _first_columns(batch.source.documents)
        if self.loss == "joint":
            kept = self._is_short(spans).nonzero().squeeze(1)
            scores, starts, spans = (x.index_select(0, kept) for x in (scores, starts, spans))
            places = starts[:, None] + spans
            total = -pair_log_probs(scores, starts, places, self.max_answer_tokens).sum()
            return (Loss(name="pair", total=total, count=float(len(kept))),)
        log_probs = scores.log_softmax(1)
        losses = []
        for side, name in enumerate(("start", "end")):
            places = (starts + spans[:, side])[:, None]
            total = -log_probs[..., side].gather(1, places).sum()
            losses.append(Loss(name=name, total=total, count=float(len(spans)), weight=0.5))
        return tuple(losses)

    def _scores(self, body: Body, head: Head, batch: Batch) -> Tensor:
        """Score every token of each window's row, -inf where it may not answer."""
        members = members_of(batch.source.documents)  # (B, N, T)
        allowed = members & (needed(batch.labels) != IGNORE)[:, None]
        logits = head(body.encode(batch.source).hidden).float()[:, None]  # (B, 1, T, 2)
        masked = logits.masked_fill(~allowed[..., None], -torch.inf)
        exists = members.any(-1).flatten().nonzero().squeeze(1)
        return masked.flatten(0, 1).index_select(0, exists)

    def predict(
        self, body: Body, head: Head, rows: Rows, setting: Setting, progress: OnProgress = None
    ) -> list[Answer]:
        """Answer questions.

        Returns:
            answers: For each record "prediction", the text of the best answer ("" for none),
                its characters "start" and "end" in the context (0 and 0 for none), and "score",
                in logits; with num_best above 1 all of them as "n_best". With no_answer also
                "none_margin": how much better the best answer is than none. "cut" where the
                question is cut at half of a window.
        """
        longest = self.longest(setting)
        passages, windows = self._read(rows, setting)
        examples = [
            Example(place, window.ids, second=window.second) for place, window in enumerate(windows)
        ]
        found: list[list[tuple[float, int, int]]] = [[] for _ in rows]
        none = [float("inf")] * len(rows)
        for chosen, batch in batches_of(examples, setting, body, progress):
            with torch.inference_mode():
                logits = head(body.encode(batch.source).hidden).float().cpu().numpy()
            for place, scores in zip(chosen, logits, strict=True):
                window = windows[place]
                index = window.passage
                none[index] = min(none[index], float(scores[0].sum()))
                span = scores[window.offset : window.offset + window.stop - window.first]
                found[index] += [
                    (score, window.first + start, window.first + end)
                    for score, start, end in self._best_spans(span)
                ]
        return [
            self._answer(passage, spans, empty)
            | ({"cut": ["question"]} if passage.is_cut(longest) else {})
            for passage, spans, empty in zip(passages, found, none, strict=True)
        ]

    def _best_spans(self, scores: np.ndarray) -> list[tuple[float, int, int]]:
        """Find the best valid pairs of start and end, (T, 2) float -> score, start, end."""
        if not len(scores):
            return []
        width = self.max_answer_tokens
        ends = np.pad(scores[:, 1], (0, width - 1), constant_values=-np.inf)
        sums = scores[:, :1] + sliding_window_view(ends, width)  # (T, W): start, tokens beyond it
        count = min(self.num_best + _SPARE, int(np.isfinite(sums).sum()))
        best = np.argpartition(-sums, count - 1, axis=None)[:count]
        places = zip(*np.unravel_index(best, sums.shape), strict=True)
        return [(float(sums[i, j]), int(i), int(i + j)) for i, j in places]

    def _answer(
        self, passage: Passage, spans: list[tuple[float, int, int]], none: float
    ) -> dict[str, Any]:
        best: dict[tuple[int, int], float] = {}
        for score, first, last in spans:
            place = passage.characters_of(first, last)
            best[place] = max(score, best.get(place, score))
        ranked = [
            {"text": passage.text[a:b], "start": a, "end": b, "score": round(score, 4)}
            for (a, b), score in sorted(best.items(), key=lambda item: (-item[1], item[0]))
        ]
        none = none if math.isfinite(none) else 0.0
        # A passage without a token has no answer whatever the settings.
        margin = ranked[0]["score"] - none if ranked else 0.0
        best_text = ranked[0]["text"] if ranked else ""
        if not ranked or (self.no_answer and margin < self.threshold):
            ranked.insert(0, {"text": "", "start": 0, "end": 0, "score": round(none, 4)})
        first = ranked[0]
        answer = {"prediction": first["text"], **{k: first[k] for k in ("start", "end", "score")}}
        if self.no_answer:
            answer |= {"none_margin": round(margin, 4), "best_text": best_text}
        if self.num_best > 1:
            answer["n_best"] = ranked[: self.num_best]
        return answer

    def tuned(self, predictions: Answers, rows: Rows) -> Answering:
        """Choose the threshold between an answer and none that gives the highest F1."""
        if not self.no_answer:
            return self
        wanted = [[a["text"] for a in row["answers"]] for row in rows]
        answered = _f1_of_rows([str(answer["best_text"]) for answer in predictions], wanted)
        silent = _f1_of_rows([""] * len(rows), wanted)
        margins = np.array([answer["none_margin"] for answer in predictions], np.float64)
        order = np.argsort(-margins, kind="stable")
        # Of the k best margins the answer is given, of the rest none; equal ones stay together.
        gains = np.concatenate([[0.0], np.cumsum((answered - silent)[order])])
        ranked = np.concatenate([[margins[order[0]] + 2], margins[order], [margins[order[-1]] - 2]])
        allowed = np.flatnonzero(ranked[:-1] > ranked[1:])
        best = allowed[np.argmax(gains[allowed])]
        return replace(self, threshold=float(ranked[best] + ranked[best + 1]) / 2)

    def statistics(self, predictions: Answers, rows: Rows) -> list[Statistics]:
        """Compare answers as SQuAD does: F1 of words, exact match."""
        said = [str(answer["prediction"]) for answer in predictions]
        return answer_statistics(said, [[a["text"] for a in row["answers"]] for row in rows])

    @staticmethod
    def tiny_rows() -> list[dict[str, Any]]:
        """Give passages where the answer is always the same two words."""
        words = ("one", "two", "three")
        rows = []
        for i in range(48):
            before = " ".join(words[: i % 3] + ("two",))
            context = f"{before} ada byron {words[i % 3]}"
            answers = [{"text": "ada byron", "start": len(before) + 1}]
            rows.append({"question": "who", "context": context, "answers": answers})
        return rows


def _learned_span(
    answers: Sequence[Mapping[str, Any]], passage: Passage, windows: Sequence[PassageWindow]
) -> tuple[int, int] | None:
    """Give the first and last piece of the first answer that a window holds whole."""
    for answer in answers:
        span = passage.pieces_of(answer["start"], answer["start"] + len(answer["text"]))
        if span is not None and any(window.holds(span) for window in windows):
            return span
    return None


def _example(place: int, window: PassageWindow, span: tuple[int, int] | None) -> Example:
    """Give a window as integers: the first token stands for an answer that it does not hold."""
    start = end = 0
    if span is not None and window.holds(span):
        start, end = (window.offset + piece - window.first for piece in span)
    question, passage = window.offset - 1, window.stop - window.first
    allowed = [1, *[IGNORE] * question, *[1] * passage, IGNORE]
    return Example(
        place, window.ids, second=window.second, classes=(start, end), token_labels=allowed
    )


def _f1_of_rows(said: Sequence[str], wanted: Sequence[Sequence[str]]) -> np.ndarray:
    """Give SQuAD's F1 of each row, (N,) float."""
    return answer_statistics(said, wanted)[0].rows[:, 0]


def _first_columns(documents: Tensor) -> Tensor:
    """Give the column of each document's first token, (N,) int64."""
    return first_places(documents) % documents.shape[1]
