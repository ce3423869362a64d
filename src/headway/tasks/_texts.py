"""What tasks share that read texts: how they become examples and batches, and batches answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from types import MappingProxyType
from typing import ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from headway.data.batch import Batch, Example, lay_out, lay_out_parts
from headway.data.order import inference_batches
from headway.layers.heads import LinearHead, PooledHead, TokenHead
from headway.layers.pooling import AttentionPooler, mean_pool, published_pool
from headway.memory import keep_freed_memory
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
    Progress,
    Record,
    Rows,
    Setting,
    Task,
)
from headway.text.tokenizer import Encoding, Tokenizer

# Cells and rows of a batch without gradients.
_BATCH_TOKENS = 8192
_BATCH_ROWS = 256
# Windows of one text: they are read in one pass, so that they bound its memory.
_MOST_WINDOWS = 32

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
        """Give a batch what is to be learned of its examples."""
        raise NotImplementedError

    def collate(self, rows: Layout, setting: Setting, draw: Draw = NO_CHANCE) -> Batch:
        """Lay examples out in rows, with what is to be learned of them."""
        examples = [example for row in rows for example in row]
        return self.with_targets(collate_texts(rows, setting), examples, setting)


class OnTexts(OnEncoder):
    """What tasks share that read a text, or several, and say one thing of the whole.

    A task says how its records are read, what is to be learned of them, and what its head's
    results mean; how rows become batches, and batches answers, is the same for all.
    """

    def read(self, rows: Rows, setting: Setting) -> Encoded:
        """Turn records into examples, without what is to be learned of them."""
        raise NotImplementedError

    def target(self, example: Example, row: Record, setting: Setting) -> Example:
        """Give an example what is to be learned of its row."""
        raise NotImplementedError

    def logits(self, body: Body, head: Head, batch: Batch) -> Tensor:
        """Compute the results of every example, (N, Y) float32."""
        raise NotImplementedError

    def answers(self, logits: Tensor, rows: Rows, setting: Setting) -> list[Answer]:
        """Say what results mean, (N, Y) float32 for as many rows."""
        raise NotImplementedError

    def encode(self, rows: Rows, setting: Setting) -> Encoded:
        """Turn records into examples."""
        encoded = self.read(rows, setting)
        examples = [
            self.target(example, row, setting) if "label" in row else example
            for example, row in zip(encoded.examples, rows, strict=True)
        ]
        return replace(encoded, examples=examples)

    def with_targets(self, batch: Batch, examples: Sequence[Example], setting: Setting) -> Batch:
        """Give a batch the class and the weight of each example."""
        return replace(
            batch,
            document_labels=torch.tensor([example.label or 0 for example in examples]),
            document_weights=torch.tensor([example.weight for example in examples]),
        )

    def predict(
        self, body: Body, head: Head, rows: Rows, setting: Setting, progress: OnProgress = None
    ) -> list[Answer]:
        """Answer records; "cut" says that a text is longer than an example."""
        encoded = self.read(rows, setting)
        found: list[Answer] = [{} for _ in rows]
        for places, batch in batches_of(
            encoded.examples, setting, body, progress, collate=self.collate
        ):
            with torch.inference_mode():
                logits = self.logits(body, head, batch).cpu()
            answers = self.answers(logits, [rows[place] for place in places], setting)
            for place, answer in zip(places, answers, strict=True):
                found[place] = answer | ({"cut": ["source"]} if encoded.cut[place] else {})
        return found


class OnPooledTexts(OnTexts):
    """What tasks share whose head looks at one vector of a text, or of a pair of texts."""

    pooling: str
    dropout: float
    keep: str

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
        return encode_texts(rows, setting, max_tokens=self.max_tokens, keep=self.keep)

    def logits(self, body: Body, head: Head, batch: Batch) -> Tensor:
        """Compute the results of every text, the mean of its windows', (N, Y) float32."""
        return mean_of_groups(head(body, body.encode(batch.source)).float(), batch)


def encode_bare(texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[Encoding]:
    """Cut texts into pieces, without special tokens."""
    for item in tokenizer.encode_batch(texts):
        kept = [place for place, token in enumerate(item.ids) if not tokenizer.is_special[token]]
        ids, offsets = [item.ids[place] for place in kept], [item.offsets[place] for place in kept]
        yield Encoding(ids, offsets, [item.tokens[place] for place in kept])


def encode_texts(rows: Rows, setting: Setting, *, max_tokens: int, keep: str) -> Encoded:
    """Turn texts, and pairs of texts, into examples without labels.

    Args:
        rows: With "text", and "text_pair" where there are two.
        setting: Tokenizer and limits.
        max_tokens: Length of an example, special tokens included.
        keep: What stays of a text that is too long: "head"; "head-tail": its first quarter and the
            rest from its end; or all of it as "windows", parts of the example (Sun et al. 2019,
            arXiv 1905.05583, section 5.3). Of pairs both are cut, with "windows" at their ends.
    """
    tokenizer = setting.tokenizer
    longest = min(max_tokens, setting.max_tokens)
    firsts = tokenizer.encode_ids([row["text"] for row in rows], bare=True)
    paired = [index for index, row in enumerate(rows) if row.get("text_pair") is not None]
    found = tokenizer.encode_ids([rows[index]["text_pair"] for index in paired], bare=True)
    seconds = dict(zip(paired, found, strict=True))
    examples, full = [], np.empty(len(rows), np.int64)
    for index, first in enumerate(firsts):
        second = seconds.get(index)
        specials = 2 if second is None else 2 + len(tokenizer.between)
        room = longest - specials
        full[index] = len(first) + len(second or ()) + specials
        if second is not None:
            one, two = share_room(len(first), len(second), room)
            kept = _shorten(first, one, keep), _shorten(second, two, keep)
            examples.append(make_example(index, *kept, tokenizer=tokenizer))
        elif keep == "windows" and len(first) > room:
            examples.append(_windows(index, first, room, tokenizer))
            # Each window has two tokens of its own.
            full[index] = len(first) + 2 * -(-len(first) // room)
        else:
            kept = _shorten(first, room, keep)
            examples.append(make_example(index, kept, tokenizer=tokenizer))
    limit = max([longest, *(len(example.input_ids) for example in examples if example.parts)])
    return describe_examples("text", examples, tokenizer, limit=limit, full=full)


def describe_examples(
    column: str,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    *,
    limit: int,
    full: np.ndarray | None = None,
    cut: Sequence[bool] | None = None,
    notes: Mapping[str, int] | None = None,
) -> Encoded:
    """Say of examples how long they are and what the vocabulary does not cover.

    Args:
        column: What they are made of, for the data report.
        examples: Any.
        tokenizer: That they were made with.
        limit: Longest that is used.
        full: (N,) int64. Tokens before cutting; None where nothing is cut, or told apart.
        cut: Of which examples something was left out; None: those that were longer before.
        notes: What else was lost or mended -> how often.
    """
    lengths = np.array([len(example.input_ids) for example in examples], np.int64)
    full = lengths if full is None else full
    return Encoded(
        examples=examples,
        lengths=lengths[:, None],
        full_lengths={column: full},
        limits={column: limit},
        unknown={column: count_unknown([example.input_ids for example in examples], tokenizer)},
        notes=notes or {},
        cut=full > lengths if cut is None else cut,
    )


def count_unknown(texts: Sequence[list[int]], tokenizer: Tokenizer) -> int:
    """Count the tokens that a vocabulary does not cover."""
    unknown = tokenizer.unknown_id
    return 0 if unknown is None else sum(ids.count(unknown) for ids in texts)


def make_example(
    index: int, first: list[int], second: list[int] | None = None, *, tokenizer: Tokenizer
) -> Example:
    """Lay a text out as an example, or two with the tokens that this family puts between them."""
    head = [tokenizer.start_id, *first]
    if second is None:
        return Example(index, [*head, tokenizer.end_id])
    head += tokenizer.between
    ids = [*head, *second, tokenizer.end_id]
    return Example(index, ids, second=len(head) if tokenizer.tells_segments else None)


def _windows(index: int, ids: list[int], room: int, tokenizer: Tokenizer) -> Example:
    """Cut a text into as few windows as hold it, of equal length as far as that goes.

    A text of more than 32 windows is read at as many places.
    """
    count = -(-len(ids) // room)
    ends = [round(len(ids) * number / count) for number in range(count + 1)]
    places = list(pairwise(ends))
    if count > _MOST_WINDOWS:
        # From all over the text; what lies between them counts as cut.
        step = (count - 1) / (_MOST_WINDOWS - 1)
        places = [places[round(number * step)] for number in range(_MOST_WINDOWS)]
    parts = tuple(make_example(index, ids[start:end], tokenizer=tokenizer) for start, end in places)
    return Example(index, [token for part in parts for token in part.input_ids], parts=parts)


def share_room(first: int, second: int, room: int) -> tuple[int, int]:
    """Share room out between two texts: the longer one gives way first."""
    kept = min(second, max(room // 2, room - first))
    return min(first, room - kept), kept


def _shorten(ids: list[int], room: int, keep: str) -> list[int]:
    if len(ids) <= room:
        return ids
    if keep != "head-tail":
        return ids[:room]
    front = max(1, room // 4)
    return [*ids[:front], *ids[len(ids) - (room - front) :]]


def collate_texts(rows: Layout, setting: Setting) -> Batch:
    """Lay texts out in rows."""
    pad_id = setting.tokenizer.pad_id
    if any(example.parts for row in rows for example in row):
        return lay_out_parts(rows, pad_id=pad_id)
    return lay_out(rows, pad_id=pad_id, start_id=0)


def make_pooled_head(body: Body, num_labels: int, *, pooling: str, dropout: float) -> PooledHead:
    """Build what makes one vector of a text, and results of that."""
    width = body.config.hidden_size
    return start_head(
        PooledHead(width, num_labels, pool=_POOLINGS[pooling](width), dropout=dropout), body
    )


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


def over_tokens(batch: Batch, values: Sequence[ArrayLike], *, fill: float) -> Tensor:
    """Lay out what is learned of tokens as the tokens are, (B, T).

    Args:
        batch: Its tokens.
        values: For each of its examples, a value for each token.
        fill: What stands where there is no token; the result is of its type.
    """
    found = torch.full(batch.source.ids.shape, fill)
    flat = torch.from_numpy(np.concatenate(values))
    found[batch.source.attention_mask] = flat.to(found.dtype)
    return found


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
    return (
        hidden.flatten(0, 1).index_select(0, places),
        wanted.flatten().index_select(0, places),
    )


def class_answers(probs: Tensor, names: Sequence[str]) -> list[Answer]:
    """Give the most probable class of each row, and the probabilities of all.

    Args:
        probs: (N, Y) float.
        names: Of the classes.
    """
    found = [dict(zip(names, (round(p, 6) for p in row), strict=True)) for row in probs.tolist()]
    return [{"prediction": max(row, key=row.__getitem__), "probabilities": row} for row in found]


def batches_of(
    examples: Sequence[Example],
    setting: Setting,
    body: Body,
    progress: OnProgress = None,
    *,
    collate: Callable[[Layout, Setting], Batch] = collate_texts,
) -> Iterator[tuple[list[int], Batch]]:
    """Give examples batch by batch, those of like length together.

    Args:
        examples: Any.
        setting: Tokenizer and limits.
        body: The batches shall lie where it does.
        progress: Told how far it is.
        collate: Lays examples out.
    Yields:
        places, batch: Which examples, and the examples, one a row.
    """
    keep_freed_memory()
    lengths = [len(example.input_ids) for example in examples]
    device = next(body.parameters()).device
    done = 0
    for chosen in inference_batches(lengths, batch_tokens=_BATCH_TOKENS, batch_rows=_BATCH_ROWS):
        places = chosen.tolist()
        batch = collate([[examples[place]] for place in places], setting)
        yield places, batch.to(device)
        done += len(places)
        if progress is not None:
            progress(Progress(done=done, total=len(lengths)))
