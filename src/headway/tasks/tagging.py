"""Token classification: say what kind of thing each word is, and which words belong together.

Named entities, parts of an address, the fields of a form.

Needs: records with `words` and `tags` (IOB2, IOBES or IOB1: B-PER, I-PER, O), as JSONL or CoNLL.
Compare: for one class of the whole text, classification; for an answer to a question, answering.

Example:
    >>> Tagging().find_labels([{"words": ["Ada", "slept"], "tags": ["B-PER", "O"]}])
    ('O', 'B-PER', 'I-PER')
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from headway.data.batch import Batch, Example
from headway.errors import nearest
from headway.layers.losses import IGNORE, Loss
from headway.metrics.classes import (
    ClassScore,
    accuracy_statistics,
    by_group,
    span_scores,
    span_statistics,
)
from headway.metrics.intervals import Statistics
from headway.tasks._task import NO_CHANCE, Body, Draw, Encoded, Head, Progress, Record, Setting
from headway.tasks._texts import (
    OnEncoder,
    batches_of,
    collate_texts,
    describe_examples,
    device_of,
    length_problems,
    make_token_head,
    token_labels,
)
from headway.tasks._words import (
    Sentence,
    Window,
    are_words,
    count_unseen,
    cut_windows,
    read_sentences,
)
from headway.text.tags import (
    OUTSIDE,
    SCHEMES,
    TagSpan,
    list_tags,
    read_spans,
    split_tag,
    write_tags,
)

_PIECES = ("first", "all")


@dataclass(frozen=True, kw_only=True)
class Tagging(OnEncoder):
    """Learn p(tag | word in its sentence)."""

    scheme: str = "iob2"
    """iob2 or iobes: the tags that are learned; answers are always in IOB2."""
    pieces: str = "first"
    """Pieces of a word that carry its tag: first, or all."""
    max_tokens: int = 512
    """Length of an example, special tokens included; longer sentences are read in windows."""
    overlap_tokens: int = 32
    """Pieces that two neighboring windows share."""
    dropout: float = 0.1
    """Rate on the hidden states."""

    columns: ClassVar[tuple[str, ...]] = ("words", "tags")
    inputs: ClassVar[tuple[str, ...]] = ("words",)
    heads: ClassVar[tuple[str, ...]] = ("token",)
    head: ClassVar[str] = "token"
    metrics: ClassVar[tuple[str, ...]] = ("entity_f1", "token_accuracy")

    def make_head(self, body: Body, labels: Sequence[str]) -> Head:
        """Build a layer over every token."""
        return make_token_head(body, len(labels), dropout=self.dropout)

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        problems = []
        for name, allowed in (("scheme", SCHEMES), ("pieces", _PIECES)):
            if getattr(self, name) not in allowed:
                value = getattr(self, name)
                problems.append(f"{name} is {value!r}; {nearest(value, allowed)}")
        problems += length_problems(self.max_tokens, self.dropout)
        if not 0 <= self.overlap_tokens <= self.max_tokens // 2:
            problems.append(
                f"overlap_tokens is {self.overlap_tokens}, but must be from 0 to half of max_tokens"
            )
        return problems

    def texts(self, rows: Sequence[Record]) -> list[str]:
        """Give the texts that a tokenizer is trained on."""
        return [" ".join(row["words"]) for row in rows]

    def find_labels(self, rows: Sequence[Record]) -> tuple[str, ...]:
        """List the tags of every kind of span in the training rows."""
        found = (span.label for row in rows for span in read_spans(row["tags"])[0])
        return list_tags(found, scheme=self.scheme)

    def check_row(self, row: Record, labels: Sequence[str] | None) -> str | None:
        """Say what is wrong with a row's words and tags; None if nothing is."""
        words, tags = row["words"], row["tags"]
        if not are_words(words) or not are_words(tags):
            return "words and tags must be lists of words"
        if len(words) != len(tags):
            return f"there are {len(words)} words, but {len(tags)} tags"
        if not words:
            return "there are no words"
        try:
            spans, _ = read_spans(tags)
        except ValueError as error:
            return str(error)
        kinds = {split_tag(label)[1] for label in labels or ()} - {""}
        unknown = [span.label for span in spans if labels is not None and span.label not in kinds]
        if unknown:
            return f"{unknown[0]!r} is none of the kinds in training ({', '.join(sorted(kinds))})"
        return None

    def check_labels(self, labels: Sequence[str]) -> str | None:
        """Say what is wrong with the names that a folder gives its classes; None if nothing is."""
        try:
            _numbers(labels)
        except ValueError as error:
            return f"its classes mark no spans: {error}; tags of single words are not learned yet"
        return None

    def encode(self, rows: Sequence[Record], setting: Setting) -> Encoded:
        """Turn records into examples, a window of a sentence each."""
        sentences = read_sentences(rows, setting.tokenizer)
        windows = self._windows(sentences, setting)
        number = _numbers(setting.labels)
        seen = [set() for _ in sentences]
        for window in windows:
            seen[window.sentence].update(window.words)
        repaired, lost, tags = 0, 0, []
        for row, sentence, words in zip(rows, sentences, seen, strict=True):
            spans, count = read_spans(row.get("tags", []))
            repaired += count
            lost += sum(not _is_recoverable(span, sentence, words) for span in spans)
            tags.append(write_tags(spans, len(sentence.words), scheme=self.scheme))
        examples = []
        for place, window in enumerate(windows):
            sentence, wanted = sentences[window.sentence], tags[window.sentence]
            labels = np.full(len(window.ids), IGNORE)
            for word, pieces in sentence.pieces_in(window):
                chosen = pieces if self.pieces == "all" else pieces[:1]
                labels[chosen] = number[wanted[word]]
            examples.append(Example(place, window.ids, token_labels=labels.tolist()))
        return describe_examples(
            "words",
            examples,
            setting.tokenizer,
            limit=self._longest(setting),
            notes={
                "tags that begin a span without saying so, read as conlleval does": repaired,
                "spans that begin or end with a word that is never read, never found": lost,
                "words longer than a window, never learned": count_unseen(sentences, windows),
            },
        )

    def _longest(self, setting: Setting) -> int:
        return min(self.max_tokens, setting.max_tokens)

    def _windows(self, sentences: Sequence[Sentence], setting: Setting) -> list[Window]:
        return cut_windows(
            sentences,
            setting.tokenizer,
            longest=self._longest(setting),
            overlap=self.overlap_tokens,
        )

    def collate(
        self, rows: Sequence[Sequence[Example]], setting: Setting, draw: Draw = NO_CHANCE
    ) -> Batch:
        """Lay examples out in rows, with the tag of each piece that carries one."""
        batch = collate_texts(rows, setting)
        labels = torch.full_like(batch.source.ids, IGNORE)
        found = [example.token_labels or [] for row in rows for example in row]
        labels[batch.source.documents > 0] = torch.tensor(list(chain.from_iterable(found)))
        return replace(batch, labels=labels)

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the pieces that carry a tag."""
        return {"tag": float((token_labels(batch) != IGNORE).sum())}

    def losses(self, body: Body, head: Head, batch: Batch) -> tuple[Loss, ...]:
        """Sum the cross-entropy of the tags, in nats."""
        labels = token_labels(batch).flatten()
        places = (labels != IGNORE).nonzero().squeeze(1)
        hidden = body.encode(batch.source).hidden.flatten(0, 1).index_select(0, places)
        total = F.cross_entropy(
            head(hidden).float(), labels.index_select(0, places), reduction="sum"
        )
        return (Loss(name="tag", total=total, count=float(len(places))),)

    def predict(
        self,
        body: Body,
        head: Head,
        rows: Sequence[Record],
        setting: Setting,
        progress: Callable[[Progress], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Tag words; a text given in place of words is cut into them, marks on their own.

        Returns:
            answers: For each record "prediction", a tag in IOB2 for each word, and "entities":
                each with "label", "text", and its characters "start" and "end" in the text, or in
                the words with a space between them; and "fields", label -> text, or texts. "cut"
                where a word is longer than a window.
        """
        sentences = read_sentences(rows, setting.tokenizer)
        windows = self._windows(sentences, setting)
        tags: list[list[str | None]] = [[None] * len(sentence.words) for sentence in sentences]
        examples = [Example(place, window.ids) for place, window in enumerate(windows)]
        for chosen, batch in batches_of(examples, setting, device_of(body), progress):
            with torch.inference_mode():
                best = head(body.encode(batch.source).hidden).float().argmax(-1).cpu().numpy()
            for place, row in zip(chosen, best, strict=True):
                window = windows[place]
                sentence = sentences[window.sentence]
                for word, pieces in sentence.pieces_in(window):
                    if pieces and word in window.counted:
                        tags[window.sentence][word] = setting.labels[row[pieces[0]]]
        return [
            _answer(sentence, _filled(found)) | _cut(sentence, found)
            for sentence, found in zip(sentences, tags, strict=True)
        ]

    def statistics(
        self, predictions: Sequence[Mapping[str, Any]], rows: Sequence[Record]
    ) -> list[Statistics]:
        """Compare spans as conlleval does, and tags word by word."""
        said, wanted = _both_sides(predictions, rows)
        pairs = [
            (a, b)
            for answer, row, spans in zip(predictions, rows, wanted, strict=True)
            for a, b in zip(answer["prediction"], write_tags(spans, len(row["tags"])), strict=True)
        ]
        accuracy = accuracy_statistics(*(list(side) for side in zip(*pairs, strict=True)))
        accuracy = by_group(accuracy, [len(row["tags"]) for row in rows])
        return [*span_statistics(said, wanted), replace(accuracy, name="token_accuracy")]

    def class_scores(
        self, predictions: Sequence[Mapping[str, Any]], rows: Sequence[Record]
    ) -> list[ClassScore]:
        """Score every kind of span apart."""
        return span_scores(*_both_sides(predictions, rows))

    @staticmethod
    def tiny_rows() -> list[dict[str, Any]]:
        """Give sentences whose names are always the same two words."""
        rest = ("one", "two", "three")
        return [
            {
                "words": [rest[i % 3], "ada", "byron", *[rest[(i + 1) % 3]] * (i % 4)],
                "tags": ["O", "B-PER", "I-PER", *["O"] * (i % 4)],
            }
            for i in range(48)
        ]


def _both_sides(
    predictions: Sequence[Mapping[str, Any]], rows: Sequence[Record]
) -> tuple[list[list[TagSpan]], list[list[TagSpan]]]:
    """Give the spans said of each row, and those wanted."""
    said = [read_spans(answer["prediction"])[0] for answer in predictions]
    return said, [read_spans(row["tags"])[0] for row in rows]


def _numbers(labels: Sequence[str]) -> dict[str, int]:
    """Number the tags; where a model has no B- (IOB1), I- begins a span too."""
    number = {name: place for place, name in enumerate(labels)}
    for name, place in list(number.items()):
        prefix, label = split_tag(name)
        if prefix == "I":
            number.setdefault(f"B-{label}", place)
    return number


def _is_recoverable(span: TagSpan, sentence: Sentence, words: Collection[int]) -> bool:
    """Say whether an answer can be this span: what lies inside of one is filled in."""
    return all(word in words and sentence.pieces[word] for word in (span.start, span.end - 1))


def _filled(tags: Sequence[str | None]) -> list[str]:
    """Let words that were not read go on with a span that goes on behind them."""
    filled = [tag or OUTSIDE for tag in tags]
    for place in range(len(tags) - 2, 0, -1):
        if tags[place] is None and filled[place + 1].startswith(("I-", "E-")):
            filled[place] = f"I-{filled[place + 1][2:]}"
    for place, tag in enumerate(tags):
        # Behind no such span they are none.
        label = filled[place][2:]
        if tag is None and label and (not place or filled[place - 1][1:] != f"-{label}"):
            filled[place] = OUTSIDE
    return filled


def _cut(sentence: Sentence, tags: Sequence[str | None]) -> dict[str, list[str]]:
    """Say that a word was not read though it has pieces."""
    pairs = zip(tags, sentence.pieces, strict=True)
    return {"cut": ["source"]} if any(tag is None and pieces for tag, pieces in pairs) else {}


def _answer(sentence: Sentence, tags: Sequence[str]) -> dict[str, Any]:
    spans, _ = read_spans(tags)
    entities = []
    for span in spans:
        start, end = sentence.words[span.start][0], sentence.words[span.end - 1][1]
        entities.append(
            {"label": span.label, "text": sentence.text[start:end], "start": start, "end": end}
        )
    return {
        "prediction": write_tags(spans, len(tags)),
        "entities": entities,
        "fields": _fields(entities),
    }


def _fields(entities: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give the text of each kind of entity; a list where there are several of a kind."""
    found: dict[str, list[str]] = {}
    for entity in entities:
        found.setdefault(entity["label"], []).append(entity["text"])
    return {label: texts[0] if len(texts) == 1 else texts for label, texts in found.items()}
