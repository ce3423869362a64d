"""Answers of a masked language model: masks filled, pairs of texts told apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from headway.data.batch import Example
from headway.errors import RequestError
from headway.tasks._examples import batches_of, encode_texts
from headway.tasks._task import Answer, Body, Head, Rows, Setting
from headway.tasks._texts import class_answers
from headway.text.specials import ROLES
from headway.text.tokenizer import Tokenizer

# The place of a row with its answer.
_Placed = tuple[int, Answer]


def fill_masks(body: Body, rows: Rows, setting: Setting, *, num_best: int) -> Iterator[_Placed]:
    """Fill the masks of rows, those of like length together.

    Args:
        body: Encoder with a masked-LM head.
        rows: With "text".
        setting: Tokenizer and limits.
        num_best: Tokens given for each mask.
    Yields:
        place, answer: Of a row.
    Raises:
        RequestError: if the body has no such head.
    """
    if rows and body.masked_lm is None:
        raise RequestError("this model has no masked-LM head to fill masks with")
    tokenizer = setting.tokenizer
    own = tokenizer.name_of("mask")
    mask_id = tokenizer.find(own)
    texts = [_with_mask(row["text"], own) for row in rows]
    whole = tokenizer.encode_batch(texts, special=True)
    encoded = [item.cut(setting.max_tokens) for item in whole]
    examples = [Example(index, item.ids) for index, item in enumerate(encoded)]
    for chosen, batch in batches_of(examples, setting, body):
        with torch.inference_mode():
            hidden = body.encode(batch.source).hidden
        for number, index in enumerate(chosen):
            ids = encoded[index].ids
            spots = [spot for spot, token in enumerate(ids) if token == mask_id]
            best = _fill(body, hidden[number, spots], tokenizer, num_best)
            offsets = [encoded[index].offsets[spot] for spot in spots]
            answer = _answer(texts[index], offsets, best)
            if encoded[index] is not whole[index]:
                answer["cut"] = ["source"]
            yield index, answer


def _with_mask(text: str, own: str) -> str:
    """Write masks as this vocabulary does, whatever family they were written for."""
    for mask in ROLES["mask"]:
        text = text.replace(mask, own)
    return text


def tell_pairs(
    body: Body, head: Head, rows: Rows, setting: Setting, *, names: tuple[str, str] | None
) -> Iterator[_Placed]:
    """Tell the pairs of rows apart, those of like length together.

    Args:
        body: Encoder with a pooler.
        head: Scores the two classes.
        rows: With "text" and "text_pair".
        setting: Tokenizer and limits.
        names: Of the two classes, the true one first; None where the model knows no pairs.
    Yields:
        place, answer: Of a row.
    Raises:
        RequestError: if there is no such head.
    """
    if not rows:
        return
    if head is None or names is None:
        raise RequestError("this model has no head that tells pairs of texts apart")
    encoded = encode_texts(rows, setting, max_tokens=setting.max_tokens, keep="head")
    for chosen, batch in batches_of(encoded.examples, setting, body):
        with torch.inference_mode():
            memory = body.encode(batch.source)
            logits = head(body.pooler(memory.hidden, memory.documents)).float().cpu()
        for index, answer in zip(chosen, class_answers(logits.softmax(-1), names), strict=True):
            if encoded.cut[index]:
                answer["cut"] = ["source"]
            yield index, answer


def _fill(body: Body, hidden: Tensor, tokenizer: Tokenizer, num_best: int) -> list[list[Answer]]:
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


def _answer(text: str, offsets: Sequence[tuple[int, int]], found: list) -> Answer:
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
