"""What every task shares that reads a text, or two, and says something of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from headway.data.batch import Batch, Example, lay_out, lay_out_parts
from headway.data.order import inference_batches
from headway.errors import nearest
from headway.layers.heads import LinearHead, PooledHead, TokenHead
from headway.layers.losses import Loss
from headway.layers.pooling import AttentionPooler, mean_pool, published_pool
from headway.memory import keep_freed_memory
from headway.tasks._task import Body, Encoded, Progress, Record, Setting
from headway.text.tokenizer import Tokenizer

# Cells and rows of a batch without gradients.
_BATCH_TOKENS = 8192
_BATCH_ROWS = 256
# Windows of one text: they are read in one pass, so that they bound its memory.
_MOST_WINDOWS = 32

_Head = TypeVar("_Head", bound=LinearHead)
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


class OnEncoder:
    """What tasks on encoders are and do, unless they say otherwise."""

    optional: ClassVar[tuple[str, ...]] = ()
    bodies: ClassVar[tuple[str, ...]] = ("encoder",)
    reads_corpus: ClassVar[bool] = False

    @staticmethod
    def settings_of(
        kind: str, architecture: str, num_labels: int, problem: str
    ) -> dict[str, Any] | None:
        """Work with a published head as it is; a head of our own on a body is nobody's else."""
        return None if kind == "body" else {}

    def find_labels(self, rows: Sequence[Record]) -> tuple[str, ...]:
        """There are no classes."""
        return ()

    def generation(self, setting: Setting) -> None:
        """Nothing is decoded."""


def encode_texts(
    rows: Sequence[Record], setting: Setting, *, max_tokens: int, keep: str
) -> Encoded:
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
        full[index] = len(first) + 2
        if second is None and keep == "windows" and len(first) > longest - 2:
            examples.append(_windows(index, first, longest - 2, tokenizer))
            # Each window has two tokens of its own.
            full[index] = len(first) + 2 * -(-len(first) // (longest - 2))
            continue
        if second is None:
            kept = _shorten(first, longest - 2, keep)
            examples.append(Example(index, [tokenizer.start_id, *kept, tokenizer.end_id]))
            continue
        specials = len(tokenizer.between) + 2
        full[index] += len(second) + specials - 2
        one, two = share_room(len(first), len(second), longest - specials)
        kept = _shorten(first, one, keep), _shorten(second, two, keep)
        examples.append(pair_example(index, *kept, tokenizer))
    limit = max([longest, *(len(example.input_ids) for example in examples if example.parts)])
    return describe_examples("text", examples, tokenizer, limit=limit, full=full)


def describe_examples(
    column: str,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    *,
    limit: int,
    full: np.ndarray | None = None,
    notes: Mapping[str, int] | None = None,
) -> Encoded:
    """Say of examples how long they are and what the vocabulary does not cover.

    Args:
        column: What they are made of, for the data report.
        examples: Any.
        tokenizer: That they were made with.
        limit: Longest that is used.
        full: (N,) int64. Tokens before cutting; None where nothing is cut.
        notes: What else was lost or mended -> how often.
    """
    lengths = np.array([len(example.input_ids) for example in examples], np.int64)
    unknown = tokenizer.unknown_id
    count = 0
    if unknown is not None:
        count = sum(example.input_ids.count(unknown) for example in examples)
    return Encoded(
        examples=examples,
        lengths=lengths[:, None],
        full_lengths={column: lengths if full is None else full},
        limits={column: limit},
        unknown={column: count},
        notes=notes or {},
    )


def pair_example(index: int, first: list[int], second: list[int], tokenizer: Tokenizer) -> Example:
    """Lay two texts out as one example, with the tokens that this family puts between them."""
    head = [tokenizer.start_id, *first, *tokenizer.between]
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
    parts = tuple(
        Example(index, [tokenizer.start_id, *ids[start:end], tokenizer.end_id])
        for start, end in places
    )
    return Example(index, [token for part in parts for token in part.input_ids], parts=parts)


def share_room(first: int, second: int, room: int) -> tuple[int, int]:
    """Share room out between two texts: the longer one gives way first."""
    if first + second <= room:
        return first, second
    half = room // 2
    if first <= half:
        return first, room - first
    if second <= half:
        return room - second, second
    return room - half, half


def _shorten(ids: list[int], room: int, keep: str) -> list[int]:
    if len(ids) <= room:
        return ids
    if keep != "head-tail":
        return ids[:room]
    front = max(1, room // 4)
    return [*ids[:front], *ids[len(ids) - (room - front) :]]


def collate_texts(rows: Sequence[Sequence[Example]], setting: Setting) -> Batch:
    """Lay texts out in rows."""
    pad_id = setting.tokenizer.pad_id
    if any(example.parts for row in rows for example in row):
        return lay_out_parts(rows, pad_id=pad_id)
    return lay_out(rows, pad_id=pad_id, start_id=0)


def text_problems(pooling: str, dropout: float, max_tokens: int, keep: str) -> list[str]:
    """Return every problem of the settings that tasks on whole texts share."""
    problems = []
    for name, value, allowed in (("pooling", pooling, _POOLINGS), ("keep", keep, KEEPS)):
        if value not in allowed:
            problems.append(f"{name} is {value!r}; {nearest(value, allowed)}")
    return problems + length_problems(max_tokens, dropout)


def texts_of(rows: Sequence[Record]) -> list[str]:
    """Give every text of every row."""
    return [row[key] for row in rows for key in ("text", "text_pair") if row.get(key) is not None]


def make_pooled_head(body: Body, num_labels: int, *, pooling: str, dropout: float) -> PooledHead:
    """Build what makes one vector of a text, and results of that."""
    width = body.config.hidden_size
    return start_head(
        PooledHead(
            width,
            num_labels,
            pool=_POOLINGS[pooling](width),
            dropout=dropout,
            bias=getattr(body, "has_head_bias", True),
        ),
        body,
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


def document_labels(batch: Batch) -> Tensor:
    """Give what the documents of a batch are labelled with."""
    if batch.document_labels is None:
        raise TypeError("this loss needs labels of documents")
    return batch.document_labels


def token_labels(batch: Batch) -> Tensor:
    """Give what the tokens of a batch are labelled with, (B, T) int64."""
    if batch.labels is None:
        raise TypeError("this loss needs labels of tokens")
    return batch.labels


def weights_of(batch: Batch) -> Tensor:
    """Give what each document of a batch counts, (N) float."""
    if batch.document_weights is not None:
        return batch.document_weights
    labels = document_labels(batch)
    return torch.ones(len(labels), device=labels.device)


def class_loss(logits: Tensor, batch: Batch) -> Loss:
    """Sum the cross-entropy of the documents' classes, in nats, each by its weight.

    Args:
        logits: (N, Y) float.
        batch: With (N) int64 labels of documents.
    """
    weights = weights_of(batch)
    total = (F.cross_entropy(logits, document_labels(batch), reduction="none") * weights).sum()
    return Loss(name="class", total=total, count=float(weights.sum()))


@dataclass(frozen=True)
class Scored:
    """What a head says of some rows.

    Args:
        places: Rows, in the order of the logits.
        logits: (N, Y) float32.
    """

    places: list[int]
    logits: Tensor


def score_texts(
    encoded: Encoded,
    score: Callable[[Batch], Tensor],
    setting: Setting,
    device: torch.device,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[Scored]:
    """Score texts batch by batch, texts of like length together.

    Args:
        encoded: The texts.
        score: Gives the logits of a batch, (N, Y) float.
        setting: Tokenizer and limits.
        device: Where `score` computes.
        progress: Told how far it is.
    """
    for places, batch in batches_of(encoded.examples, setting, device, progress):
        with torch.inference_mode():
            logits = score(batch).float().cpu()
        yield Scored([encoded.examples[place].index for place in places], logits)


def batches_of(
    examples: Sequence[Example],
    setting: Setting,
    device: torch.device,
    progress: Callable[[Progress], None] | None = None,
    *,
    collate: Callable[[Sequence[Sequence[Example]], Setting], Batch] = collate_texts,
) -> Iterator[tuple[list[int], Batch]]:
    """Give examples batch by batch, those of like length together.

    Args:
        examples: Any.
        setting: Tokenizer and limits.
        device: Where the batches shall lie.
        progress: Told how far it is.
        collate: Lays examples out.
    Yields:
        places, batch: Which examples, and the examples, one a row.
    """
    keep_freed_memory()
    lengths = [len(example.input_ids) for example in examples]
    done = 0
    for chosen in inference_batches(lengths, batch_tokens=_BATCH_TOKENS, batch_rows=_BATCH_ROWS):
        places = chosen.tolist()
        batch = collate([[examples[place]] for place in places], setting)
        yield places, batch.to(device)
        done += len(places)
        if progress is not None:
            progress(Progress(done=done, total=len(lengths)))


def was_cut(encoded: Encoded) -> np.ndarray:
    """Say of each row whether something of it was left out, (N) bool."""
    return encoded.full_lengths["text"] > encoded.lengths[:, 0]


def length_problems(max_tokens: int, dropout: float) -> list[str]:
    """Return every problem of the settings that tasks on encoders share."""
    problems = []
    if not 0 <= dropout < 1:
        problems.append(f"dropout is {dropout}, but must be from 0 to below 1")
    if max_tokens < 8:
        problems.append(f"max_tokens is {max_tokens}, but at least 8 is needed")
    return problems


def device_of(body: Body) -> torch.device:
    """Give the device on which a body lies."""
    return next(body.parameters()).device
