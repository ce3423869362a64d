"""Decoders small enough for tests, and the same in transformers."""

from __future__ import annotations

import dataclasses

import torch

from headway import registry
from headway.files import folder

FAMILIES = ("gpt", "gpt2", "gpt3", "llama", "bloom")


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
