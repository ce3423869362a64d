"""Sides of benchmarks/generation.py: the same GPT-2, gone on with by three programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, pre_tokenizers

from _worker import Files
from headway.models.gpt2 import PRESETS, Gpt2, Gpt2Config
from headway.tasks._load import load
from headway.tasks._model import Model
from headway.tasks.causal_lm import CausalLm
from headway.text.tokenizer import Tokenizer

NEW, VOCABULARY = 128, 50257


def make_model() -> Model:
    """Build GPT-2 small with random weights and a vocabulary of made-up words."""
    words = {"<|endoftext|>": 0, "<unk>": 1}
    words |= {f"w{number}": number for number in range(2, VOCABULARY)}
    engine = Engine(models.WordLevel(words, unk_token="<unk>"))
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    engine.decoder = decoders.Fuse()
    engine.add_special_tokens(["<|endoftext|>", "<unk>"])
    torch.manual_seed(0)
    body = Gpt2(Gpt2Config(**PRESETS["small"])).eval()
    tokenizer = Tokenizer(engine, {"start": "<|endoftext|>", "end": "<|endoftext|>"})
    return Model(body, tokenizer, CausalLm(), task_name="causal_lm", architecture="gpt2")


def _words(prompts: list[list[int]]) -> list[list[str]]:
    return [[f"w{token}" for token in prompt] for prompt in prompts]


class Headway:
    """Ours, as users call it: texts in, texts out."""

    def __init__(self, files: Files, *, precision: str) -> None:
        self.model = load(files.model).to_precision(precision, packed=True)

    def write(self, prompts: list[list[int]]) -> int:
        """Go on with prompts; give the number of tokens."""
        rows = [{"text": " ".join(words)} for words in _words(prompts)]
        answers = self.model.predict(rows, temperature=0.0, max_new_tokens=NEW)
        return sum(len(answer["tokens"]) for answer in answers)


class Transformers:
    """`generate`, greedy."""

    def __init__(self, files: Files, *, dtype: str) -> None:
        from transformers import AutoModelForCausalLM

        kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
        self.model: Any = AutoModelForCausalLM.from_pretrained(files.model, dtype=kind).eval()

    def write(self, prompts: list[list[int]]) -> int:
        """Go on with prompts; give the number of tokens."""
        ids = torch.tensor(prompts)
        with torch.inference_mode():
            found = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=NEW,
                min_new_tokens=NEW,
                pad_token_id=0,
            )
        return int(found.numel() - ids.numel())


class CTranslate2:
    """Its generator, greedy."""

    def __init__(self, files: Files, *, dtype: str, threads: int) -> None:
        import ctranslate2

        folder: Path = files.work / f"ctranslate2-{dtype}"
        if not folder.is_dir():
            converter = ctranslate2.converters.TransformersConverter(str(files.model))
            converter.convert(str(folder), quantization=dtype)
        self.generator = ctranslate2.Generator(
            str(folder), compute_type=dtype, inter_threads=1, intra_threads=threads
        )

    def write(self, prompts: list[list[int]]) -> int:
        """Go on with prompts; give the number of tokens."""
        results = self.generator.generate_batch(
            _words(prompts),
            max_length=NEW,
            min_length=NEW,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        return sum(len(result.sequences_ids[0]) for result in results)
