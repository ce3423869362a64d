"""New words for a model that is there already: picked from its domain, begun from their pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import nn

from headway.errors import ConfigError
from headway.tasks._model import Model
from headway.text.align import word_spans
from headway.text.tokenizer import Tokenizer

# A word is worth an entry where it takes so many pieces, and comes so often.
_FEWEST_PIECES = 3
_FEWEST_TIMES = 5


def pick_words(texts: Iterable[str], tokenizer: Tokenizer, count: int) -> list[str]:
    """Choose the most frequent words that the vocabulary cuts into three pieces, or cannot write.

    Args:
        texts: Of the new domain.
        tokenizer: Cuts them.
        count: Words at most; fewer where fewer come five times.
    """
    raw: Counter[str] = Counter()
    for text in texts:
        raw.update(text[start:end] for start, end in word_spans(text))
    seen: Counter[str] = Counter()
    for word, times in raw.items():
        seen[tokenizer.normalize(word)] += times
    words = [word for word, times in seen.items() if times >= _FEWEST_TIMES and word.isalpha()]
    pieces = _pieces(tokenizer, words)
    cut = [
        word
        for word, ids in zip(words, pieces, strict=True)
        if len(ids) >= _FEWEST_PIECES or tokenizer.unknown_id in ids
    ]
    return sorted(cut, key=lambda word: (-seen[word], word))[:count]


def add_words(model: Model, words: Sequence[str]) -> None:
    """Add words to a model's vocabulary; each vector begins as the mean of its pieces' vectors.

    Args:
        model: An encoder with a tokenizer of its own; changed in place.
        words: As the tokenizer normalizes them; none of them is in the vocabulary.
    Raises:
        ConfigError: if the model has no table of tokens that could grow.
    """
    body = model.body
    if body.kind != "encoder":
        raise ConfigError(f"words cannot be added to a {model.architecture}")
    if not words:
        model.notes += ("no word of the text was worth adding to the vocabulary",)
        return
    pieces = _pieces(model.tokenizer, words)
    model.tokenizer.add_words(words)
    places = [model.tokenizer.id_of(word) for word in words]
    size = max(body.config.vocab_size, *(place + 1 for place in places))
    tables: list[nn.Embedding | nn.Linear] = [body.embeddings.token]
    if body.masked_lm is not None:
        tables.append(body.masked_lm.output)
    with torch.no_grad():
        for table in tables:
            for name, value in list(table.named_parameters()):
                rows = value.new_zeros(size, *value.shape[1:])
                rows[: len(value)] = value
                for place, ids in zip(places, pieces, strict=True):
                    rows[place] = value[ids].mean(0)
                setattr(table, name, nn.Parameter(rows))
    body.embeddings.token.num_embeddings = size
    if body.masked_lm is not None:
        body.masked_lm.output.out_features = size
    body.config = replace(body.config, vocab_size=size)
    body.tie_weights()
    model.notes += (f"{len(words):,} words were added to the vocabulary, such as {words[0]!r}",)


def _pieces(tokenizer: Tokenizer, words: Sequence[str]) -> list[list[int]]:
    """Cut words as they are cut inside a text, where a space stands before them."""
    space = " " if tokenizer.marks_spaces else ""
    return tokenizer.encode_ids([space + word for word in words], bare=True)
