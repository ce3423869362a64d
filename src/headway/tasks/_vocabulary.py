"""New words for a model that is there already: picked from its domain, begun from their pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from headway.errors import ConfigError
from headway.tasks._model import Model
from headway.text.align import word_spans
from headway.text.specials import GPT_MARKS
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
    _grow(model, words, lambda value, number: value[pieces[number]].mean(0))
    model.notes += (f"{len(words):,} words were added to the vocabulary, such as {words[0]!r}",)


def add_marks(model: Model) -> None:
    """Give a decoder the tokens that GPT's authors put around texts to be understood.

    Their vectors are drawn as fresh ones are. Nothing happens where they are there already.

    Args:
        model: Changed in place.
    """
    new = [name for name in GPT_MARKS if model.tokenizer.find(name) is None]
    if model.body.kind != "decoder" or not new:
        return
    model.tokenizer.add_special(new)
    deviation = model.body.config.initializer_range

    def draw(value: Tensor, number: int) -> Tensor:
        return torch.randn(value.shape[1:]) * deviation

    _grow(model, new, draw)


def _grow(model: Model, tokens: Sequence[str], draw: Callable[[Tensor, int], Tensor]) -> None:
    """Make room for new tokens in the tables of a body; `draw` gives the row of each."""
    body = model.body
    places = [model.tokenizer.id_of(token) for token in tokens]
    size = max(body.config.vocab_size, *(place + 1 for place in places))
    head = getattr(body, "masked_lm", None)
    output = getattr(body, "output", None) if head is None else head.output
    tables = [table for table in (body.embeddings.token, output) if table is not None]
    with torch.no_grad():
        for table in tables:
            for name, value in list(table.named_parameters()):
                rows = value.new_zeros(size, *value.shape[1:])
                rows[: len(value)] = value
                for number, place in enumerate(places):
                    rows[place] = draw(value, number)
                setattr(table, name, nn.Parameter(rows))
    body.embeddings.token.num_embeddings = size
    if output is not None:
        output.out_features = size
    body.config = replace(body.config, vocab_size=size)
    body.tie_weights()


def _pieces(tokenizer: Tokenizer, words: Sequence[str]) -> list[list[int]]:
    """Cut words as they are cut inside a text, where a space stands before them."""
    space = " " if tokenizer.marks_spaces else ""
    return tokenizer.encode_ids([space + word for word in words], bare=True)
