"""Answers of a masked language model: masks filled, pairs of texts told apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from headway.data.batch import Example, lay_out
from headway.data.order import inference_batches
from headway.errors import RequestError
from headway.layers.side import Side
from headway.tasks._task import Body, Head, Record, Setting
from headway.text.specials import ROLES
from headway.text.tokenizer import Tokenizer

# Cells and rows of a batch.
_BATCH_TOKENS = 8192
_BATCH_ROWS = 128


def fill_masks(
    body: Body, rows: Sequence[Record], places: Sequence[int], setting: Setting, *, num_best: int
) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Fill the masks of some rows batch by batch.

    Args:
        body: Encoder with a masked-LM head.
        rows: With "text".
        places: Which of them.
        setting: Tokenizer and limits.
        num_best: Tokens given for each mask.
    Yields:
        answers: Place of a row with its answer.
    Raises:
        RequestError: if the body has no such head.
    """
    if places and body.masked_lm is None:
        raise RequestError("this model has no masked-LM head to fill masks with")
    tokenizer = setting.tokenizer
    own = tokenizer.name_of("mask")
    mask_id = tokenizer.find(own)
    texts = [_with_mask(rows[place]["text"], own) for place in places]
    whole = tokenizer.encode_batch(texts, special=True)
    encoded = [item.cut(setting.max_tokens) for item in whole]
    lengths = [len(item.ids) for item in encoded]
    for batch in inference_batches(lengths, batch_tokens=_BATCH_TOKENS, batch_rows=_BATCH_ROWS):
        ids = [encoded[i].ids for i in batch]
        side = Side.padded(ids, pad_id=tokenizer.pad_id)
        with torch.inference_mode():
            hidden = body.encode(side.to(body.embeddings.token.weight.device)).hidden
        answered = []
        for number, index in enumerate(batch):
            spots = [spot for spot, token in enumerate(ids[number]) if token == mask_id]
            best = _fill(body, hidden[number, spots], tokenizer, num_best)
            offsets = [encoded[index].offsets[spot] for spot in spots]
            answer = _answer(texts[index], offsets, best)
            if encoded[index] is not whole[index]:
                answer["cut"] = ["source"]
            answered.append((places[index], answer))
        yield answered


def _with_mask(text: str, own: str) -> str:
    """Write masks as this vocabulary does, whatever family they were written for."""
    for mask in ROLES["mask"]:
        text = text.replace(mask, own)
    return text


def tell_pairs(
    body: Body,
    head: Head,
    rows: Sequence[Record],
    places: Sequence[int],
    setting: Setting,
    *,
    names: tuple[str, str] | None,
) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Tell the pairs of some rows apart, batch by batch.

    Args:
        body: Encoder with a pooler.
        head: Scores the two classes.
        rows: With "text" and "text_pair".
        places: Which of them.
        setting: Tokenizer and limits.
        names: Of the two classes, the true one first; None where the model knows no pairs.
    Yields:
        answers: Place of a row with its answer.
    Raises:
        RequestError: if there is no such head.
    """
    if places and (head is None or names is None):
        raise RequestError("this model has no head that tells pairs of texts apart")
    tokenizer = setting.tokenizer
    sides = [
        tokenizer.encode_ids([rows[place][column] for place in places], bare=True)
        for column in ("text", "text_pair")
    ]
    budget = setting.max_tokens - 3
    examples = [
        pair_example(place, *_shorten(first, second, budget), tokenizer)
        for place, first, second in zip(places, *sides, strict=True)
    ]
    cut = {
        place
        for place, first, second in zip(places, *sides, strict=True)
        if len(first) + len(second) > budget
    }
    lengths = [example.num_tokens for example in examples]
    for batch in inference_batches(lengths, batch_tokens=_BATCH_TOKENS, batch_rows=_BATCH_ROWS):
        chosen = [examples[index] for index in batch]
        side = lay_out([[e] for e in chosen], pad_id=tokenizer.pad_id, start_id=0).source
        with torch.inference_mode():
            memory = body.encode(side.to(body.embeddings.token.weight.device))
            logits = head(body.pooler(memory.hidden, memory.documents)).float()
        answered = []
        for example, probs in zip(chosen, logits.softmax(-1).tolist(), strict=True):
            named = dict(zip(names or (), (round(p, 6) for p in probs), strict=True))
            answer: dict[str, Any] = {
                "prediction": max(named, key=named.__getitem__),
                "probabilities": named,
            }
            if example.index in cut:
                answer["cut"] = ["source"]
            answered.append((example.index, answer))
        yield answered


def _fill(
    body: Body, hidden: Tensor, tokenizer: Tokenizer, num_best: int
) -> list[list[dict[str, Any]]]:
    """Give the best tokens for each mask."""
    if not len(hidden):
        return []
    with torch.inference_mode():
        probs = body.masked_lm(hidden).float().softmax(-1)
    best, ids = probs.topk(min(num_best, probs.shape[-1]), dim=-1)
    return [
        [
            {"token": tokenizer.write_piece(number), "probability": round(value, 6)}
            for value, number in zip(values, numbers, strict=True)
        ]
        for values, numbers in zip(best.tolist(), ids.tolist(), strict=True)
    ]


def pair_example(index: int, first: list[int], second: list[int], tokenizer: Tokenizer) -> Example:
    """Lay two texts out as one example: start, first text, end, second text, end."""
    start, end = tokenizer.start_id, tokenizer.end_id
    ids = [start, *first, end, *second, end]
    return Example(index, ids, second=len(first) + 2)


def _shorten(first: list[int], second: list[int], budget: int) -> tuple[list[int], list[int]]:
    """Cut the ends of both texts, the longer one first, until they fit."""
    half = budget // 2
    if len(first) + len(second) <= budget:
        return first, second
    kept = max(half, budget - len(second)) if len(first) > half else len(first)
    return first[:kept], second[: budget - min(kept, len(first))]


def _answer(text: str, offsets: Sequence[tuple[int, int]], found: list) -> dict[str, Any]:
    """Put the best token in the place of each mask."""
    filled, last = "", 0
    for (start, end), best in zip(offsets, found, strict=True):
        # A mask may have taken the space before it, which then belongs to the token.
        took_space = text[start:end] != text[start:end].lstrip()
        token = best[0]["token"]
        filled += text[last:start]
        if token.startswith("##"):
            filled, token = filled.rstrip(), token[2:]
        elif not took_space:
            token = token.lstrip()
        filled += token
        last = end
    return {"prediction": filled + text[last:], "masks": found}
