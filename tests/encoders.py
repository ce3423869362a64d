"""Encoders small enough for tests: a vocabulary of few words, weights that tell texts apart."""

from __future__ import annotations

import dataclasses
import string
from typing import Any

import torch
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from headway import registry
from headway.files.folder import make_body
from headway.tasks._model import Model
from headway.tasks.masked_lm import MaskedLm
from headway.text.specials import SPECIALS
from headway.text.tokenizer import Tokenizer
from headway.text.train import train_tokenizer

TEXTS = (
    "the cat sat on the mat and the dog ran to the house",
    "a bird sings in the old tree near a river",
    "unhappy people read long books about short words, don't they?",
)
# Words with an entry of their own; all others are cut, "unhappy" into "un", "hap" and "py".
WORDS = (
    *("the", "cat", "sat", "on", "mat", "and", "dog", "ran", "to", "house", "bird", "sings"),
    *("in", "old", "tree", "near", "river", "people", "read", "long", "about", "words", "un"),
)
LETTERS = string.ascii_lowercase + ".,'?!"


def make_tokenizer(architecture: str) -> Tokenizer:
    """Make a vocabulary as the family has it, the same one every time."""
    specials = SPECIALS[registry.load_module("models", architecture).SPECIALS]
    if architecture == "roberta":
        return train_tokenizer("byte-bpe", TEXTS * 5, vocab_size=330, specials=specials)
    engine = (_unigram if architecture == "albert" else _wordpiece)(specials.tokens)
    engine.add_special_tokens(list(specials.tokens))
    engine.post_processor = processors.TemplateProcessing(
        single=specials.single,
        pair=specials.pair,
        special_tokens=[(token, engine.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return Tokenizer(engine)


def _wordpiece(specials: tuple[str, ...]) -> Engine:
    pieces = [*specials, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, "##hap", "##py"])}
    engine = Engine(models.WordPiece(vocabulary, unk_token="[UNK]"))
    engine.normalizer = normalizers.BertNormalizer()
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    engine.decoder = decoders.WordPiece()
    return engine


def _unigram(specials: tuple[str, ...]) -> Engine:
    words = [(f"\u2581{word}", -4.0) for word in WORDS]
    letters = [(letter, -8.0) for letter in ("\u2581", *LETTERS)]
    pieces = [*((token, 0.0) for token in specials), *words, *letters, ("hap", -6.0), ("py", -6.0)]
    engine = Engine(models.Unigram(pieces, specials.index("<unk>"), byte_fallback=False))
    engine.pre_tokenizer = pre_tokenizers.Metaspace()
    engine.decoder = decoders.Metaspace()
    return engine


def make_encoder(
    architecture: str = "bert",
    *,
    kind: str | None = None,
    task: MaskedLm | None = None,
    **sizes: Any,
) -> Model:
    """Build a model with a head of some kind; without a kind, the task's."""
    task = task or MaskedLm()
    tokenizer = make_tokenizer(architecture)
    config = dataclasses.replace(
        registry.load_class("models", architecture).tiny(),
        vocab_size=tokenizer.vocab_size,
        pad_token_id=tokenizer.pad_id,
        **sizes,
    )
    torch.manual_seed(1)
    body = make_body(architecture, config, kind or task.head).eval()
    head = None if kind == "body" else task.make_head(body, ())
    shake(body)
    if head is not None:
        shake(head)
    return Model(
        body,
        tokenizer,
        task,
        task_name="masked_lm",
        architecture=architecture,
        head=head,
        kind=kind,
    )


def shake(module: torch.nn.Module) -> None:
    """Draw weights so large that every input gives another output, and biases that matter."""
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (0.3 if parameter.dim() > 1 else 0.1))
