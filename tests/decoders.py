"""Decoders small enough for tests, and the same in transformers."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import torch

from headway import registry
from headway.files import folder
from headway.tasks._model import Model
from headway.tasks.causal_lm import CausalLm
from headway.text.specials import SPECIALS
from headway.text.tokenizer import Tokenizer
from headway.text.train import train_tokenizer

TEXTS = (
    "The sea was calm, and the old boat lay on the sand.",
    "\n\nA caf\u00e9 by the sea:\tcoffee costs 3 \u20ac.  Two boats, don't they lie there?\n",
    "if x:\n    return x  # nothing else\n\n\n\u732b and dog",
)
FAMILIES = ("gpt", "gpt2", "gpt3", "llama", "bloom")


@cache
def make_tokenizer(kind: str = "byte-bpe", specials: str = "gpt") -> Tokenizer:
    """Learn a vocabulary of few pieces: single bytes or letters, and what is frequent."""
    return train_tokenizer(kind, TEXTS * 3, vocab_size=300, specials=SPECIALS[specials])


def make_decoder(
    family: str = "gpt2",
    *,
    task: Any = None,
    tokenizer: Tokenizer | None = None,
    **sizes: Any,
) -> Model:
    """Build a model whose next token depends on all before it."""
    task = task or CausalLm()
    specials = registry.load_module("models", family).SPECIALS
    tokenizer = tokenizer or make_tokenizer(specials=specials)
    tiny = registry.load_class("models", family).tiny()
    ids = {"eos_token_id": tokenizer.end_id, "bos_token_id": tokenizer.start_id}
    known = {name: value for name, value in ids.items() if hasattr(tiny, name)}
    config = dataclasses.replace(tiny, vocab_size=tokenizer.vocab_size, **known, **sizes)
    torch.manual_seed(1)
    body = folder.make_body(family, config, "causal_lm").eval()
    shake(body)
    name = type(task).__module__.rpartition(".")[2]
    return Model(body, tokenizer, task, task_name=name, architecture=family)


def config_of(family: str, variant: str):
    module = registry.load_module("models", family)
    values = module.VARIANTS[variant] if variant else {}
    return dataclasses.replace(registry.load_class("models", family).tiny(), **values)


def shake(module: torch.nn.Module, seed: int = 4) -> None:
    """Make logits of order 10, and biases that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (0.3 if parameter.dim() > 1 else 0.1))


def open_there(path, family: str, kind: str, config):
    import transformers

    architecture = folder.pick_layout(family, config).heads[kind].architecture
    published = getattr(transformers, architecture)
    model, notes = published.from_pretrained(
        path, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(notes[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()
