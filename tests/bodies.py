"""Every architecture at its smallest, with batches for it: what the contracts are held against."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from headway import registry
from headway.data.batch import Example, lay_out
from headway.layers.side import Side

KEYS = registry.list_keys("models")


def config_of(key: str):
    return registry.load_class("models", key).tiny()


def variants(key: str):
    """Give the tiny config, and it again as each of the file's VARIANTS has it."""
    tiny = config_of(key)
    yield "tiny", tiny
    for name, values in registry.load_module("models", key).VARIANTS.items():
        yield name, dataclasses.replace(tiny, **values)


CASES = [
    pytest.param(key, config, id=f"{key}-{name}") for key in KEYS for name, config in variants(key)
]


def cases_of(kind: str):
    """Give the cases whose body is of a kind."""
    return [
        case for case in CASES if registry.load_class("models", str(case.values[0])).kind == kind
    ]


def make(key: str, config, *, scale: float = 2.0):
    torch.manual_seed(3)
    body = registry.load_class("models", key)(config).eval()
    with torch.no_grad():
        for parameter in body.parameters():
            if parameter.requires_grad and parameter.dim() > 1:
                parameter.mul_(scale)
    return body


def kind_of(config) -> str:
    """Say what kind of body a config is of."""
    key = next(key for key in KEYS if type(config_of(key)) is type(config))
    return registry.load_class("models", key).kind


def examples(config, count: int = 6) -> list[Example]:
    generator = torch.Generator().manual_seed(5)

    def ids(length: int) -> list[int]:
        drawn = torch.randint(2, config.vocab_size - 1, (length,), generator=generator).tolist()
        return [*drawn, getattr(config, "eos_token_id", 1)]

    if kind_of(config) == "encoder_decoder":
        return [Example(i, ids(2 + 3 * i % 7), ids(1 + 2 * i % 5)) for i in range(count)]
    second = 2 if getattr(config, "type_vocab_size", 1) > 1 else None
    return [Example(i, ids(2 + 3 * i % 7), second=second, label=i % 2) for i in range(count)]


def batch_of(config, rows):
    pad_id = getattr(config, "pad_token_id", 0)
    return lay_out(rows, pad_id=pad_id, start_id=pad_id)


def logits_of(body, batch) -> torch.Tensor:
    """Score tokens: the next ones of a target, or those of the source itself."""
    memory = body.encode(batch.source)
    if body.kind == "encoder":
        return body.masked_lm(memory.hidden)
    if body.kind == "decoder":
        return body.logits(memory.hidden)
    return body.logits(body.decode(batch.target, memory))


def scored(batch) -> Side:
    """Give the side whose tokens are scored."""
    return batch.source if batch.target is None else batch.target


def tolerance(logits: torch.Tensor) -> float:
    real = logits.detach()[logits > -1000]
    return 1e-5 * max(1.0, float(real.abs().max()))
