"""Token classification: say what kind of thing each word is, and which words belong together.

Named entities, parts of an address, the fields of a form; parts of speech.

Needs: records with `words` and `tags` (IOB2, IOBES or IOB1: B-PER, I-PER, O; or, with the scheme
"words", a tag for each word: NOUN), as JSONL or CoNLL.
Compare: for one class of the whole text, classification; for an answer to a question, answering.

Example:
    >>> Tagging().find_labels([{"words": ["Ada", "slept"], "tags": ["B-PER", "O"]}])
    ('O', 'B-PER', 'I-PER')
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from headway.data.batch import Batch, Example
from headway.layers.losses import IGNORE, Loss
from headway.metrics.classes import (
    ClassScore,
    accuracy_statistics,
    by_group,
    span_scores,
    span_statistics,
)
from headway.metrics.intervals import Statistics
from headway.tasks._examples import describe_examples
from headway.tasks._settings import one_of
from headway.tasks._task import Answer, Answers, Body, Encoded, Head, Record, Rows, Setting
from headway.tasks._texts import make_token_head, needed, where_asked
from headway.tasks._words import (
    OnWords,
    Sentence,
    are_words,
    count_unseen,
    read_sentences,
    seen_words,
)
from headway.text.tags import (
    OUTSIDE,
    SCHEMES,
    WORDS,
    TagSpan,
    list_tags,
    read_spans,
    split_tag,
    write_tags,
)

_PIECES = ("first", "all")


@dataclass(frozen=True, kw_only=True)
class Tagging(OnWords):
    """Learn p(tag | word in its sentence)."""

    scheme: str = "iob2"
    """iob2 or iobes: the tags of spans that are learned; answers are always in IOB2. words: each
    word has a tag of its own, such as its part of speech."""
    pieces: str = "first"
    """Pieces of a word that carry its tag: first, or all."""
    max_tokens: int = 512
    """Length of an example, special tokens included; longer sentences are read in windows."""
    overlap_tokens: int = 32
    """Pieces that two neighboring windows share."""
    dropout: float = 0.1
    """Rate on the hidden states."""

    columns: ClassVar[tuple[str, ...]] = ("words", "tags")
    heads: ClassVar[tuple[str, ...]] = ("token",)
    head: ClassVar[str] = "token"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the scores, the one that chooses the best model first."""
        return ("token_accuracy",) if self.scheme == WORDS else ("entity_f1", "token_accuracy")

    @staticmethod
    def settings_of(
        kind: str, architecture: str, labels: Sequence[str], problem: str
    ) -> dict[str, Any]:
        """Read a published model's classes as tags of spans if they are, else of single words."""
        try:
            _numbers(labels, "iob2")
        except ValueError:
            return {"scheme": WORDS}
        return {}

    def make_head(self, body: Body, labels: Sequence[str]) -> Head:
        """Build a layer over every token."""
        return make_token_head(body, len(labels), dropout=self.dropout)

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        return one_of(self, {"scheme": SCHEMES, "pieces": _PIECES}) + super().check()

    def find_labels(self, rows: Rows) -> tuple[str, ...]:
        """List the tags of every kind of span in the training rows."""
        found = (span.label for row in rows for span in self._spans(row["tags"]))
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
            spans = self._spans(tags)
        except ValueError as error:
            return f"{error}; tags of single words, such as NOUN, need task.scheme words"
        kinds = set(labels or ())
        if self.scheme != WORDS:
            kinds = {split_tag(label)[1] for label in kinds} - {""}
        unknown = [span.label for span in spans if labels is not None and span.label not in kinds]
        if unknown:
            return f"{unknown[0]!r} is none of the kinds in training ({', '.join(sorted(kinds))})"
        return None

    def check_labels(self, labels: Sequence[str]) -> str | None:
        """Say what is wrong with the names that a folder gives its classes; None if nothing is."""
        try:
            _numbers(labels, self.scheme)
        except ValueError as error:
            return f"its classes mark no spans: {error}; task.scheme words is for such"
        return None

    def encode(self, rows: Rows, setting: Setting) -> Encoded:
        """Turn records into examples, a window of a sentence each."""
        sentences = read_sentences(rows, setting.tokenizer)
        windows = self.windows(sentences, setting)
        number = _numbers(setting.labels, self.scheme)
        seen = seen_words(sentences, windows)
        repaired, lost, wanted = 0, 0, []
        for row, sentence, words in zip(rows, sentences, seen, strict=True):
            spans, count = read_spans(row.get("tags", []), scheme=self.scheme)
            repaired += count
            lost += sum(not _is_recoverable(span, sentence, words) for span in spans)
            tags = write_tags(spans, len(sentence.words), scheme=self.scheme)
            wanted.append([number.get(tag, IGNORE) for tag in tags])
        examples = []
        for place, window in enumerate(windows):
            labels = sentences[window.sentence].over_pieces(
                window, wanted[window.sentence], fill=IGNORE, all_pieces=self.pieces == "all"
            )
            examples.append(Example(place, window.ids, token_labels=labels))
        notes = {
            "tags that begin a span without saying so, read as conlleval does": repaired,
            "spans that begin or end with a word that is never read, never found": lost,
            "words longer than a window, never learned": count_unseen(sentences, windows),
        }
        limit = self.longest(setting)
        return describe_examples("words", examples, setting.tokenizer, limit=limit, notes=notes)

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the pieces that carry a tag."""
        return {"tag": float((needed(batch.labels) != IGNORE).sum())}

    def losses(self, body: Body, head: Head, batch: Batch) -> tuple[Loss, ...]:
        """Sum the cross-entropy of the tags, in nats."""
        labels = needed(batch.labels)
        hidden, wanted = where_asked(body.encode(batch.source).hidden, labels, labels != IGNORE)
        total = F.cross_entropy(head(hidden).float(), wanted, reduction="sum")
        return (Loss(name="tag", total=total, count=float(len(wanted))),)

    def results(self, logits: Tensor) -> Tensor:
        """Give the best tag of each token."""
        return logits.argmax(-1)

    def answer(self, sentence: Sentence, results: Sequence[Any], setting: Setting) -> Answer:
        """Tag the words of a sentence.

        Returns:
            answer: "prediction", a tag for each word, and "entities": each with "label",
                "text", and its characters "start" and "end" in the text, or in the words with a
                space between them; and "fields", label -> text, or texts. "cut" where a word is
                longer than a window.
        """
        tags = [None if place is None else setting.labels[place] for place in results]
        spans = self._spans(_filled(tags))
        entities = []
        for span in spans:
            if span.label == OUTSIDE:
                # A word that was not read, or one that published tags of single words leave out.
                continue
            start, end = sentence.words[span.start][0], sentence.words[span.end - 1][1]
            text = sentence.text[start:end]
            entities.append({"label": span.label, "text": text, "start": start, "end": end})
        answer = {
            "prediction": self._write(spans, len(tags)),
            "entities": entities,
            "fields": _fields(entities),
        }
        # A word was not read though it has pieces.
        if any(tag is None and pieces for tag, pieces in zip(tags, sentence.pieces, strict=True)):
            answer["cut"] = ["source"]
        return answer

    def statistics(self, predictions: Answers, rows: Rows) -> list[Statistics]:
        """Compare spans as conlleval does, and tags word by word."""
        said, wanted = self._both_sides(predictions, rows)
        sizes = [len(row["tags"]) for row in rows]
        tags = [self._write(spans, size) for spans, size in zip(wanted, sizes, strict=True)]
        told = chain.from_iterable(answer["prediction"] for answer in predictions)
        accuracy = accuracy_statistics(list(told), list(chain.from_iterable(tags)))
        accuracy = by_group(accuracy, sizes)
        of_spans = [] if self.scheme == WORDS else span_statistics(said, wanted)
        return [*of_spans, replace(accuracy, name="token_accuracy")]

    def class_scores(self, predictions: Answers, rows: Rows) -> list[ClassScore]:
        """Score every kind of span apart."""
        return span_scores(*self._both_sides(predictions, rows))

    def _spans(self, tags: Sequence[str]) -> list[TagSpan]:
        return read_spans(tags, scheme=self.scheme)[0]

    def _write(self, spans: Sequence[TagSpan], count: int) -> list[str]:
        """Write tags as they are answered and compared, whatever was learned."""
        return write_tags(spans, count, scheme=WORDS if self.scheme == WORDS else "iob2")

    def _both_sides(
        self, predictions: Answers, rows: Rows
    ) -> tuple[list[list[TagSpan]], list[list[TagSpan]]]:
        """Give the spans said of each row, and those wanted."""
        said = [self._spans(answer["prediction"]) for answer in predictions]
        return said, [self._spans(row["tags"]) for row in rows]

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


def _numbers(labels: Sequence[str], scheme: str) -> dict[str, int]:
    """Number the tags; where a model has no B- (IOB1), I- begins a span too."""
    number = {name: place for place, name in enumerate(labels)}
    if scheme == WORDS:
        return number
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


def _fields(entities: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give the text of each kind of entity; a list where there are several of a kind."""
    found: dict[str, list[str]] = {}
    for entity in entities:
        found.setdefault(entity["label"], []).append(entity["text"])
    return {label: texts[0] if len(texts) == 1 else texts for label, texts in found.items()}
