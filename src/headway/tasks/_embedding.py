"""Texts as vectors: an encoder's hidden states, chosen by layer and pooled."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headway.data.batch import Example
from headway.errors import RequestError, nearest
from headway.tasks._examples import batches_of, cut_ids
from headway.tasks._model import Model
from headway.tasks._task import OnProgress
from headway.text.align import pieces_of_spans, word_spans

POOLS = ("cls", "mean", "max", "tokens")
LAYERS = ("first", "last", "second-to-last", "sum-all", "sum-last-4", "concat-last-4")


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A text as vectors.

    Args:
        vectors: (N, D) float32. One row for the text; or, where tokens were asked for, one for
            each word.
        words: The words that the rows stand for; empty where the row is the whole text.
        is_cut: The text is longer than the model reads.
    """

    vectors: Tensor
    words: list[str]
    is_cut: bool


def embed(
    model: Model,
    texts: Sequence[str],
    *,
    layers: str = "last",
    pool: str = "mean",
    progress: OnProgress = None,
) -> list[Embedded]:
    """Turn texts into vectors; a text's vector does not depend on its neighbours.

    Args:
        model: An encoder.
        texts: Any number.
        layers: "first" (the lowest block), "last", a number (0: the embeddings; 1: the lowest
            block), "second-to-last", "sum-all" (of all blocks), "sum-last-4" or "concat-last-4".
        pool: "cls" (the first token), "mean" or "max" of all tokens, special ones included, or
            "tokens": the mean of each word's pieces, marks being words of their own.
        progress: Told how far it is.
    Raises:
        RequestError: for another choice, or a model that is no encoder.
    Paper: Devlin et al. 2019 (arXiv 1810.04805), section 5.3, table 7, for the layers.
    """
    if model.body.kind != "encoder":
        raise RequestError(f"{model.architecture} is no encoder, whose states could be taken")
    if pool not in POOLS:
        raise RequestError(f"pool is {pool!r}", hint=nearest(pool, POOLS))
    if layers != "last" and not hasattr(model.body, "depth_of"):
        raise RequestError(
            f"a {model.architecture} gives its last layer only", hint="--layers last"
        )
    choose = _chooser(layers, model.body.config.num_hidden_layers)
    model.stop_training()
    tokenizer, by_word = model.tokenizer, pool == "tokens"
    longest = model.setting.max_tokens
    # Where tokens stand in the text costs most of the memory, and only words need it.
    pieces = tokenizer.encode_batch(texts) if by_word else []
    encoded = [item.ids for item in pieces] if by_word else tokenizer.encode_ids(texts)
    ids = [cut_ids(item, longest) for item in encoded]
    examples = [Example(index, item) for index, item in enumerate(ids)]
    found: list[Embedded | None] = [None] * len(texts)
    for places, batch in batches_of(examples, model.setting, model.body, progress):
        with torch.inference_mode():
            hidden = choose(model.body.hidden_states(batch.source)).float().cpu()
        for row, index in zip(hidden, places, strict=True):
            words: list[str] = []
            if by_word:
                offsets = pieces[index].cut(longest).offsets
                words, vectors = _words(texts[index], offsets, row)
            else:
                vectors = _pool(row[: len(ids[index])], pool)
            is_cut = len(encoded[index]) > longest
            found[index] = Embedded(vectors=vectors, words=words, is_cut=is_cut)
    return [item for item in found if item is not None]


def _chooser(layers: str, count: int) -> Callable:
    """Turn the name of a choice into what takes it from all hidden states."""
    if re.fullmatch(r"\d+", layers):
        number = int(layers)
        if number > count:
            raise RequestError(f"layers is {number}, but the model has {count}")
        return lambda states: list(states)[number]
    if layers not in LAYERS:
        raise RequestError(f"layers is {layers!r}", hint=nearest(layers, (*LAYERS, "N")))
    if layers.endswith("last-4") and count < 4:
        raise RequestError(f"layers is {layers!r}, but the model has {count}")
    return {
        "first": lambda states: list(states)[1],
        "last": lambda states: list(states)[-1],
        # Of a single block, what enters it.
        "second-to-last": lambda states: list(states)[-2],
        "sum-all": lambda states: torch.stack(list(states)[1:]).sum(0),
        "sum-last-4": lambda states: torch.stack(list(states)[-4:]).sum(0),
        "concat-last-4": lambda states: torch.cat(list(states)[-4:], dim=-1),
    }[layers]


def _pool(hidden: Tensor, pool: str) -> Tensor:
    if pool == "max":
        return hidden.amax(0, keepdim=True)
    # A copy: a view would keep all tokens of the batch.
    return hidden[:1].clone() if pool == "cls" else hidden.mean(0, keepdim=True)


def _words(
    text: str, offsets: Sequence[tuple[int, int]], hidden: Tensor
) -> tuple[list[str], Tensor]:
    """Average the pieces of each word that was read."""
    spans = word_spans(text)
    pieces = pieces_of_spans(spans, offsets)
    read = [(text[a:b], places) for (a, b), places in zip(spans, pieces, strict=True) if places]
    if not read:
        return [], hidden.new_zeros(0, hidden.shape[-1])
    vectors = torch.stack([hidden[places].mean(0) for _, places in read])
    return [word for word, _ in read], vectors
