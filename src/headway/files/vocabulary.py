"""The tokenizer's files of a model folder, beside the tokenizer itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headway.files.manifest import read_json, write_json

VOCABULARY_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "tokenizer.model"),
)
# Role -> the key of tokenizer_config.json and special_tokens_map.json that names its token.
_TOKEN_KEYS = {
    "pad": ("pad_token",),
    "unknown": ("unk_token",),
    "start": ("cls_token", "bos_token"),
    "end": ("sep_token", "eos_token"),
    "mask": ("mask_token",),
}


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """Read tokenizer_config.json; nothing where there is none."""
    path = folder / "tokenizer_config.json"
    return read_json(path) if path.is_file() else {}


def read_special_tokens(folder: Path) -> dict[str, str]:
    """Read what a folder's tokenizer calls its special tokens: role -> token."""
    named: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            named |= read_json(folder / name)
    found = {}
    for role, keys in _TOKEN_KEYS.items():
        for key in keys:
            value = named.get(key)
            # An added token is written with its properties.
            token = value.get("content") if isinstance(value, dict) else value
            if isinstance(token, str):
                found.setdefault(role, token)
    return found


def write_tokenizer(
    folder: Path,
    tokenizer_json: str,
    *,
    special: Mapping[str, str],
    has_segments: bool,
    max_tokens: int,
    chat_template: str = "",
) -> None:
    """Write tokenizer.json and tokenizer_config.json.

    Args:
        folder: Existing folder.
        tokenizer_json: As the tokenizers library writes it.
        special: Role -> token, such as {"eos_token": "</s>"}.
        has_segments: The model wants to know which of two texts a token belongs to.
        max_tokens: Longest input.
        chat_template: How a conversation is written, in Jinja; "": the model holds none.
    """
    inputs = ["input_ids", *(["token_type_ids"] if has_segments else []), "attention_mask"]
    (folder / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    # A reader of tokenizer.json need not know a class for every way to cut text.
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_input_names": inputs,
        "model_max_length": max_tokens,
        **special,
        **({"chat_template": chat_template} if chat_template else {}),
    }
    write_json(folder / "tokenizer_config.json", config)
