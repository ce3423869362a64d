"""Sides of `language_modeling.py --part speed`: a GPT-2 trained by three programs.

Imported in the process of a side only (see `_worker.py`), by the name of a class.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from _peers import OurLoop, TheirTrainer, Timing
from _worker import Files
from headway.data.batch import Example
from headway.models.gpt2 import Gpt2, Gpt2Config
from headway.sections import Training
from headway.tasks._model import Model
from headway.tasks._task import Encoded
from headway.tasks.causal_lm import CausalLm
from headway.text.specials import SPECIALS
from headway.text.train import train_tokenizer
from headway.train.loop import Trainer

_RATE, _DECAY, _CLIP = 1e-4, 0.1, 1.0
# Texts that are drawn; each is seen again after so many.
_TEXTS = 512


class Causal:
    """What all sides share: texts of random tokens, sizes, the same first weights.

    Args:
        width: Of the model.
        layers: Blocks.
        heads: Of each attention layer.
        vocab_size: Entries of the vocabulary.
        tokens: Of a text; all are as long.
        rows: Texts in an update.
        dropout: Rate on embeddings and sublayers; attention weights are never dropped out.
    """

    def __init__(
        self,
        files: Files,
        *,
        width: int,
        layers: int,
        heads: int,
        vocab_size: int,
        tokens: int,
        rows: int,
        dropout: float,
    ) -> None:
        self.files, self.rows, self.tokens = files, rows, tokens
        self.config = Gpt2Config(
            vocab_size=vocab_size,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=tokens,
            dropout=dropout,
            attention_dropout=0.0,
        )
        random = np.random.default_rng(0)
        self.ids = random.integers(2, vocab_size, (_TEXTS, tokens + 1))

    def make_model(self) -> Model:
        """Build the model; its vocabulary is not used."""
        tokenizer = train_tokenizer("word", ["a b"], vocab_size=9, specials=SPECIALS["gpt"])
        torch.manual_seed(0)
        body, task = Gpt2(self.config), CausalLm()
        return Model(body, tokenizer, task, task_name="causal_lm", architecture="gpt2")

    def peak(self) -> float:
        """Give the largest memory that this process had, in megabytes."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class HeadwayCausalTraining(OurLoop, Causal):
    """Our loop, in bfloat16 where the processor multiplies it."""

    def __init__(self, files: Files, **sizes: Any) -> None:
        super().__init__(files, **sizes)
        examples = [
            Example(number, row[:-1].tolist(), token_labels=row[1:].tolist())
            for number, row in enumerate(self.ids)
        ]
        lengths = np.full((len(examples), 1), self.tokens)
        encoded = Encoded(
            examples=examples,
            lengths=lengths,
            full_lengths={"text": lengths[:, 0]},
            limits={"text": self.tokens},
            unknown={"text": 0},
        )
        options = Training(
            batch_rows=self.rows,
            batch_tokens=None,
            peak_lr=_RATE,
            schedule="constant",
            warmup_steps=0,
            weight_decay=_DECAY,
            clip_norm=_CLIP,
            epochs=1000,
        )
        self.trainer = Trainer(self.make_model(), encoded, options)


class HuggingFaceCausalTraining(TheirTrainer, Causal):
    """Trainer of transformers.

    Args:
        precision: "fp32" (its default) or "bf16".
    """

    def __init__(self, files: Files, *, precision: str, **sizes: Any) -> None:
        super().__init__(files, **sizes)
        from transformers import (
            GPT2Config,
            GPT2LMHeadModel,
            PrinterCallback,
            Trainer,
            TrainingArguments,
        )

        config = self.config
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=config.vocab_size,
                n_embd=config.hidden_size,
                n_layer=config.num_hidden_layers,
                n_head=config.num_attention_heads,
                n_positions=config.max_position_embeddings,
                resid_pdrop=config.dropout,
                embd_pdrop=config.dropout,
                attn_pdrop=0.0,
            )
        )
        texts = torch.from_numpy(self.ids[:, :-1])

        class Texts(Dataset):
            def __len__(self) -> int:
                return len(texts)

            def __getitem__(self, index):
                return {"input_ids": texts[index], "labels": texts[index]}

        class CountingTrainer(Trainer):
            num_tokens = 0

            def training_step(self, model, inputs, *arguments, **keywords):
                self.num_tokens += inputs["input_ids"].numel()
                return super().training_step(model, inputs, *arguments, **keywords)

        arguments = TrainingArguments(
            output_dir=str(self.files.work / "trainer"),
            use_cpu=True,
            bf16=precision == "bf16",
            per_device_train_batch_size=self.rows,
            learning_rate=_RATE,
            lr_scheduler_type="constant",
            weight_decay=_DECAY,
            max_grad_norm=_CLIP,
            num_train_epochs=1000,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        self.trainer = CountingTrainer(model=model, args=arguments, train_dataset=Texts())
        self.trainer.remove_callback(PrinterCallback)


class PlainCausalTraining(Causal):
    """nanoGPT's model in a plain loop with bfloat16.

    Args:
        nanogpt: A checkout of it.
    """

    def __init__(self, files: Files, *, nanogpt: str, **sizes: Any) -> None:
        super().__init__(files, **sizes)
        sys.path.insert(0, str(Path(nanogpt)))
        from model import GPT, GPTConfig  # pyright: ignore[reportMissingImports]

        config = self.config
        self.model = GPT(
            GPTConfig(
                block_size=self.tokens,
                vocab_size=config.vocab_size,
                n_layer=config.num_hidden_layers,
                n_head=config.num_attention_heads,
                n_embd=config.hidden_size,
                dropout=config.dropout,
            )
        )
        for block in self.model.transformer.h:
            block.attn.dropout = 0.0
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=_RATE, weight_decay=_DECAY, fused=True
        )
        self.step = 0

    def take_step(self) -> int:
        """Take an update; give its tokens."""
        places = torch.randint(_TEXTS, (self.rows,))
        batch = torch.from_numpy(self.ids)[places]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            _, loss = self.model(batch[:, :-1].contiguous(), batch[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return self.rows * self.tokens

    def measure(self, *, seconds: float, warm_up_steps: int) -> Timing:
        """Train on for so many seconds, after some steps off the clock."""
        self.model.train()
        for _ in range(warm_up_steps):
            self.take_step()
        started, num_tokens = time.perf_counter(), 0
        while time.perf_counter() < started + seconds:
            num_tokens += self.take_step()
        return Timing(num_tokens, time.perf_counter() - started)
