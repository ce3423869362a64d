"""What tasks share that read texts: how they become examples and batches, and batches answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from headway.data.batch import Batch, Example
from headway.errors import ConfigError
from headway.layers.heads import LinearHead, PooledHead, TokenHead
from headway.layers.losses import IGNORE, Loss, linear_cross_entropy
from headway.layers.pooling import AttentionPooler, mean_pool, published_pool
from headway.layers.side import Memory
from headway.tasks._examples import batches_of, collate_texts, encode_texts, join_parts
from headway.tasks._settings import length_problems, one_of
from headway.tasks._task import (
    NO_CHANCE,
    Answer,
    Body,
    Draw,
    Encoded,
    Head,
    Layout,
    OnProgress,
    Record,
    Rows,
    Setting,
    Task,
)

_Head = TypeVar("_Head", bound=LinearHead)
_Part = TypeVar("_Part")
KEEPS = ("head", "head-tail", "windows")
# Name -> what makes the function, or the module, that makes one vector of each document.
_POOLINGS: Mapping[str, Callable[[int], Callable]] = MappingProxyType(
    {
        "published": lambda width: published_pool,
        "mean": lambda width: mean_pool,
        "attention": lambda width: AttentionPooler(width, is_trained=True),
        "attention-fixed": lambda width: AttentionPooler(width, is_trained=False),
    }
)


class OnEncoder(Task):
    """What tasks on encoders share: how examples become batches."""

    max_tokens: int

    def longest(self, setting: Setting) -> int:
        """Give the length of the longest example, special tokens included."""
        return min(self.max_tokens, setting.max_tokens)

    def with_targets(self, batch: Batch, examples: Sequence[Example], setting: Setting) -> Batch:
        """Give a batch what is to be learned of its examples, where `collate_texts` has not."""
        return batch

    def collate(self, rows: Layout, setting: Setting, draw: Draw = NO_CHANCE) -> Batch:
        """Lay examples out in rows, with what is to be learned of them."""
        examples = [example for row in rows for example in row]
        return self.with_targets(collate_texts(rows, setting), examples, setting)


class OnTexts(OnEncoder):
    """What tasks share that read a text, or several, and say one thing of the whole.

    A task says how its records are read, what is to be learned of them, and what its head's
    results mean; how rows become batches, and batches losses and answers, is the same for all.
    """

    pooling: str = "published"
    dropout: float
    next_word_weight: float = 0.0
    loss_name: ClassVar[str]

    def make_pooled_head(self, body: Body, num_results: int) -> PooledHead:
        """Build what makes one vector of a text, and results of that.

        Raises:
            ConfigError: if next words are to be learned beside, and the body cannot.
        """
        is_tied = body.kind == "decoder" and body.config.tie_word_embeddings
        if self.next_word_weight and not is_tied:
            raise ConfigError(
                "task.next-word-weight is for decoders whose output layer shares the embeddings",
                hint="leave it out",
            )
        width, bias = body.config.hidden_size, getattr(body, "has_head_bias", True)
        pool = _POOLINGS[self.pooling](width)
        head = PooledHead(width, num_results, pool=pool, dropout=self.dropout, bias=bias)
        return start_head(head, body)

    def read(self, rows: Rows, setting: Setting) -> Encoded:
        """Turn records into examples, without what is to be learned of them."""
        raise NotImplementedError

    def target(self, example: Example, row: Record, setting: Setting) -> Example:
        """Give an example what is to be learned of its row."""
        raise NotImplementedError

    def logits(self, body: Body, head: Head, memory: Memory, batch: Batch) -> Tensor:
        """Compute the results of every example, (N, Y) float32, from what the body made of it."""
        raise NotImplementedError

    def total(self, logits: Tensor, batch: Batch) -> Tensor:
        """Sum the loss of the results of every example, (N, Y) float32."""
        raise NotImplementedError

    def answers(self, logits: Tensor, rows: Rows, setting: Setting) -> list[Answer]:
        """Say what results mean, (N, Y) float32 for as many rows."""
        raise NotImplementedError

    def count(self, batch: Batch) -> float:
        """Count what `total` sums over: the examples, unless a task says otherwise."""
        return float(len(needed(batch.document_labels)))

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the targets of the task's own loss, and the next words."""
        own = {self.loss_name: self.count(batch)}
        return own | count_next_words(batch, self.next_word_weight)

    def losses(self, body: Body, head: Head, batch: Batch) -> tuple[Loss, ...]:
        """Sum the task's own loss; beside it that of next words, where they are learned."""
        memory = body.encode(batch.source)
        total = self.total(self.logits(body, head, memory, batch), batch)
        own = Loss(name=self.loss_name, total=total, count=self.count(batch))
        return (own, *next_words(body, memory, batch, self.next_word_weight))

    def encode(self, rows: Rows, setting: Setting) -> Encoded:
        """Turn records into examples."""
        encoded = self.read(rows, setting)
        examples = [
            self.target(example, row, setting) if "label" in row else example
            for example, row in zip(encoded.examples, rows, strict=True)
        ]
        return replace(encoded, examples=examples)

    def predict(
        self, body: Body, head: Head, rows: Rows, setting: Setting, progress: OnProgress = None
    ) -> list[Answer]:
        """Answer records; "cut" says that a text is longer than an example."""
        encoded = self.read(rows, setting)
        found: list[Answer] = [{} for _ in rows]
        for places, batch in batches_of(encoded.examples, setting, body, progress):
            with torch.inference_mode():
                logits = self.logits(body, head, body.encode(batch.source), batch).cpu()
            answers = self.answers(logits, [rows[place] for place in places], setting)
            for place, answer in zip(places, answers, strict=True):
                found[place] = answer | ({"cut": ["source"]} if encoded.cut[place] else {})
        return found


class OnPooledTexts(OnTexts):
    """What tasks share whose head looks at one vector of a text, or of a pair of texts."""

    keep: str
    both_orders: bool

    bodies: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    columns: ClassVar[tuple[str, ...]] = ("text", "label")
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    optional: ClassVar[tuple[str, ...]] = ("text_pair",)
    heads: ClassVar[tuple[str, ...]] = ("sequence", "body")

    @property
    def head(self) -> str:
        """A published head, or one on top of the body alone."""
        return "sequence" if self.pooling == "published" else "body"

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        return one_of(self, {"pooling": _POOLINGS, "keep": KEEPS}) + length_problems(self)

    def read(self, rows: Rows, setting: Setting) -> Encoded:
        """Turn texts into examples, without what is to be learned of them."""
        encoded = encode_texts(rows, setting, max_tokens=self.max_tokens, keep=self.keep)
        if not self.both_orders:
            return encoded
        turned = [
            {**row, "text": row["text_pair"], "text_pair": row["text"]}
            for row in rows
            if row.get("text_pair") is not None
        ]
        others = encode_texts(turned, setting, max_tokens=self.max_tokens, keep=self.keep)
        return _join_orders(encoded, rows, iter(others.examples))

    def logits(self, body: Body, head: Head, memory: Memory, batch: Batch) -> Tensor:
        """Compute the results of every text, the mean of its windows', (N, Y) float32."""
        return mean_of_groups(head(body, memory).float(), batch)


def _join_orders(encoded: Encoded, rows: Rows, others: Iterator[Example]) -> Encoded:
    """Make both orders of each pair the parts of one example.

    What is said of the texts, such as what was cut, stays that of one order.
    """
    examples = []
    for example, row in zip(encoded.examples, rows, strict=True):
        if row.get("text_pair") is not None:
            example = join_parts(example.index, (example, next(others)))
        examples.append(example)
    lengths = np.array([[len(example.input_ids)] for example in examples], np.int64)
    return replace(encoded, examples=examples, lengths=lengths.reshape(-1, 1))


def next_words(body: Body, memory: Memory, batch: Batch, weight: float) -> tuple[Loss, ...]:
    """Sum the cross-entropy of the next token all through the texts, in nats; () at weight 0.

    What a decoder was pretrained with goes on beside what it is taught.

    Paper: Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training",
        section 3.2, equation 5.
    """
    if not weight:
        return ()
    wanted = _next_labels(batch)
    hidden, labels = where_asked(memory.hidden, wanted, wanted != IGNORE)
    table = body.embeddings.token.weight
    total = linear_cross_entropy(hidden, table, None, labels).total
    return (Loss(name="next_word", total=total, count=float(len(labels)), weight=weight),)


def count_next_words(batch: Batch, weight: float) -> dict[str, float]:
    """Count the targets of `next_words`."""
    return {"next_word": float((_next_labels(batch) != IGNORE).sum())} if weight else {}


def _next_labels(batch: Batch) -> Tensor:
    ids, documents = batch.source.ids, batch.source.documents
    labels = F.pad(ids[:, 1:], (0, 1), value=IGNORE)
    follows = (documents > 0) & (documents == F.pad(documents[:, 1:], (0, 1)))
    return labels.masked_fill(~follows, IGNORE)


def make_token_head(body: Body, num_labels: int, *, dropout: float) -> TokenHead:
    """Build a layer of results over every token."""
    return start_head(TokenHead(body.config.hidden_size, num_labels, dropout=dropout), body)


def start_head(head: _Head, body: Body) -> _Head:
    """Draw a head's weights as the body's own were drawn."""
    head.init_weights(getattr(body.config, "initializer_range", 0.02))
    return head


def mean_of_groups(logits: Tensor, batch: Batch) -> Tensor:
    """Average what is said of the documents that make up an example.

    Args:
        logits: (N, Y) float. One row for each document.
        batch: Knows which example they belong to.
    Returns:
        logits: (B, Y) float. One row for each example.
    """
    if batch.groups is None:
        return logits
    counts = batch.groups.bincount()
    sums = logits.new_zeros(len(counts), logits.shape[1]).index_add(0, batch.groups, logits)
    return sums / counts[:, None]


def needed(part: _Part | None) -> _Part:
    """Give a part of a batch that a loss cannot do without."""
    if part is None:
        raise TypeError("this loss needs targets that its batch does not have")
    return part


def where_asked(hidden: Tensor, wanted: Tensor, is_asked: Tensor) -> tuple[Tensor, Tensor]:
    """Pick the tokens that something is learned of: results are computed of no others.

    Args:
        hidden: (B, T, D) float.
        wanted: (B, T). What is learned of each.
        is_asked: (B, T) bool.
    Returns:
        hidden, wanted: (N, D) float and (N).
    """
    places = is_asked.flatten().nonzero().squeeze(1)
    picked = hidden.flatten(0, 1).index_select(0, places)
    return picked, wanted.flatten().index_select(0, places)


def class_answers(probs: Tensor, names: Sequence[str]) -> list[Answer]:
    """Give the most probable class of each row, and the probabilities of all.

    Args:
        probs: (N, Y) float.
        names: Of the classes.
    """
    found = [dict(zip(names, (round(p, 6) for p in row), strict=True)) for row in probs.tolist()]
    return [{"prediction": max(row, key=row.__getitem__), "probabilities": row} for row in found]
