"""What others' files say and Headway does not use: carried along from loading to saving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headway.names import Layout

# Keys that are written anew, or that say where a file came from.
_OWN = frozenset(
    {
        *("architectures", "model_type", "torch_dtype", "dtype", "transformers_version"),
        *("id2label", "label2id", "num_labels", "problem_type", "finetuning_task"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What is written back as it was read.

    Args:
        config: Keys of config.json with plain values.
        max_tokens: `model_max_length` of tokenizer_config.json; None where it says none.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None


def find_carried(
    published: Mapping[str, Any], layout: Layout, config: Any, tokenizer: Mapping[str, Any]
) -> Carried:
    """Pick what is carried along; what is no plain value is left behind.

    Args:
        published: config.json.
        layout: How the family is published.
        config: As it was read.
        tokenizer: tokenizer_config.json.
    """
    known = {key for keys in layout.config.values() for key in keys}
    known |= {*_OWN, *layout.constants, *layout.extras, *layout.derived(config)}
    config = {
        name: value
        for name, value in published.items()
        if name not in known
        and not name.startswith("_")
        and isinstance(value, bool | int | float | str | None)
    }
    longest = tokenizer.get("model_max_length")
    return Carried(config=config, max_tokens=longest if type(longest) is int else None)


def read_rate(published: Mapping[str, Any], key: str) -> float | None:
    """Read a rate of dropout; None where the key is absent, empty or no rate."""
    value = published.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1 else None
