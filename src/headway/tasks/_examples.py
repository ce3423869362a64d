"""Texts as examples, and examples as batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from headway.data.batch import Batch, Example, lay_out, lay_out_parts
from headway.data.order import inference_batches
from headway.layers.losses import IGNORE
from headway.memory import keep_freed_memory
from headway.tasks._task import Body, Encoded, Layout, Marks, OnProgress, Progress, Rows, Setting
from headway.text.tokenizer import Encoding, Tokenizer

# Cells and rows of a batch without gradients.
_BATCH_TOKENS = 8192
_BATCH_ROWS = 256
# Windows of one text: they are read in one pass, so that they bound its memory.
_MOST_WINDOWS = 32


def encode_bare(texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[Encoding]:
    """Cut texts into pieces, without the special tokens around them."""
    for item in tokenizer.encode_batch(texts):
        # What stands for characters of the text is a piece of it, [UNK] too.
        kept = [
            place
            for place, token in enumerate(item.ids)
            if not tokenizer.is_special[token] or item.offsets[place][0] < item.offsets[place][1]
        ]
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
    tokenizer, marks = setting.tokenizer, setting.marks
    longest = min(max_tokens, setting.max_tokens)
    firsts = tokenizer.encode_ids([row["text"] for row in rows], bare=True)
    paired = [index for index, row in enumerate(rows) if row.get("text_pair") is not None]
    found = tokenizer.encode_ids([rows[index]["text_pair"] for index in paired], bare=True)
    seconds = dict(zip(paired, found, strict=True))
    examples, full = [], np.empty(len(rows), np.int64)
    for index, first in enumerate(firsts):
        second = seconds.get(index)
        specials = marks.count(paired=second is not None)
        room = longest - specials
        full[index] = len(first) + len(second or ()) + specials
        if second is not None:
            one, two = share_room(len(first), len(second), room)
            kept = _shorten(first, one, keep), _shorten(second, two, keep)
            examples.append(make_example(index, *kept, marks=marks))
        elif keep == "windows" and len(first) > room:
            examples.append(_windows(index, first, room, marks))
            # Each window has tokens of its own.
            full[index] = len(first) + specials * -(-len(first) // room)
        else:
            kept = _shorten(first, room, keep)
            examples.append(make_example(index, kept, marks=marks))
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


def cut_ids(ids: list[int], longest: int) -> list[int]:
    """Shorten a text from behind, but for its last token, which ends every text."""
    return ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]]


def count_unknown(texts: Sequence[list[int]], tokenizer: Tokenizer) -> int:
    """Count the tokens that a vocabulary does not cover."""
    unknown = tokenizer.unknown_id
    return 0 if unknown is None else sum(ids.count(unknown) for ids in texts)


def make_example(
    index: int, first: list[int], second: list[int] | None = None, *, marks: Marks
) -> Example:
    """Lay a text out as an example, or two with the tokens that belong between them."""
    head = [*marks.before, *first]
    if second is None:
        return Example(index, [*head, *marks.after] or [marks.alone])
    head += marks.between
    ids = [*head, *second, *marks.after]
    return Example(index, ids or [marks.alone], second=len(head) if marks.tells_segments else None)


def _windows(index: int, ids: list[int], room: int, marks: Marks) -> Example:
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
    return join_parts(index, [make_example(index, ids[a:b], marks=marks) for a, b in places])


def join_parts(index: int, parts: Sequence[Example]) -> Example:
    """Make one example of several documents."""
    ids = [token for part in parts for token in part.input_ids]
    return Example(index, ids, parts=tuple(replace(part, index=index) for part in parts))


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
    """Lay texts out in rows, with what their examples have of classes, labels and numbers."""
    examples = [example for row in rows for example in row]
    pad_id = setting.tokenizer.pad_id
    if any(example.parts for example in examples):
        batch = lay_out_parts(rows, pad_id=pad_id)
    else:
        batch = lay_out(rows, pad_id=pad_id, start_id=0)
    classes = [example.label for example in examples if example.label is not None]
    labels = [example.token_labels for example in examples if example.token_labels is not None]
    values = [example.token_values for example in examples if example.token_values is not None]
    weights = [example.weight for example in examples]
    return replace(
        batch,
        labels=over_tokens(batch, labels, fill=IGNORE) if labels else None,
        token_values=over_tokens(batch, values, fill=math.nan) if values else None,
        document_labels=torch.tensor(classes) if classes else None,
        document_weights=torch.tensor(weights) if classes else None,
    )


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


def batches_of(
    examples: Sequence[Example], setting: Setting, body: Body, progress: OnProgress = None
) -> Iterator[tuple[list[int], Batch]]:
    """Give examples batch by batch, those of like length together.

    Args:
        examples: Any.
        setting: Tokenizer and limits.
        body: The batches shall lie where it does.
        progress: Told how far it is.
    Yields:
        places, batch: Which examples, and the examples, one a row.
    """
    keep_freed_memory()
    lengths = [len(example.input_ids) for example in examples]
    device = next(body.parameters()).device
    done = 0
    for chosen in inference_batches(lengths, batch_tokens=_BATCH_TOKENS, batch_rows=_BATCH_ROWS):
        places = chosen.tolist()
        batch = collate_texts([[examples[place]] for place in places], setting)
        yield places, batch.to(device)
        done += len(places)
        if progress is not None:
            progress(Progress(done=done, total=len(lengths)))
