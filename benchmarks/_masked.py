"""The sides of `pretraining.py`: masked language modeling with Headway and with transformers.

Imported in the process of a side only (see `_worker.py`), by the name of a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

import headway
from _peers import OurLoop, TheirTrainer
from _worker import Files
from headway.data.lines import is_blank, read_text
from headway.data.store import store_of_texts
from headway.models.bert import PRESETS, Bert, BertConfig
from headway.recipe import Training
from headway.tasks._model import Model
from headway.tasks.masked_lm import MaskedLm
from headway.text.specials import SPECIALS
from headway.text.train import train_tokenizer
from headway.train.evaluate import mean_losses
from headway.train.loop import Trainer

_MAX_TOKENS = 128
_RATE = 1e-4


class Masked:
    """What both sides share: lines of WikiText-2, a vocabulary, first weights.

    Args:
        preset: Size of the BERT.
        vocab_size: Entries of the vocabulary; a smaller one is learned, and the table filled up.
        rows: Lines in an update.
    """

    def __init__(self, files: Files, *, preset: str, vocab_size: int, rows: int) -> None:
        self.files, self.rows = files, rows
        self.first = files.work / f"{preset}-{vocab_size}"
        if not self.first.exists():
            self._make(preset, vocab_size)
        self.model = headway.load(self.first)

    def _make(self, preset: str, vocab_size: int) -> None:
        tokenizer = train_tokenizer(
            "wordpiece",
            self._lines("train"),
            vocab_size=vocab_size,
            lowercase=True,
            specials=SPECIALS["bert"],
        )
        config = BertConfig(
            **PRESETS[preset],
            vocab_size=vocab_size,
            max_position_embeddings=_MAX_TOKENS,
            pad_token_id=tokenizer.pad_id,
        )
        torch.manual_seed(0)
        body = Bert(config, ("masked_lm",))
        task = MaskedLm(max_tokens=_MAX_TOKENS)
        Model(body, tokenizer, task, task_name="masked_lm", architecture="bert").save(self.first)

    def _lines(self, split: str) -> list[str]:
        lines = read_text(self.files.data / f"{split}.txt.gz")
        return [line for line in lines if not is_blank(line)]

    @cached_property
    def ids(self) -> list[list[int]]:
        """Each training line as ids, cut to the longest input."""
        bare = self.model.tokenizer.encode_ids(self._lines("train"), bare=True)
        start, end = self.model.tokenizer.start_id, self.model.tokenizer.end_id
        return [[start, *line[: _MAX_TOKENS - 2], end] for line in bare if line]

    def loss_of(self, model: Model) -> float:
        """Compute nats per hidden token on the validation lines: one code for all sides."""
        store = store_of_texts(self._lines("valid")[:1000], model.tokenizer)
        return mean_losses(model, model.task.encode_corpus(store, model.setting)).losses[
            "masked_lm"
        ]


class HeadwayMaskedTraining(OurLoop, Masked):
    """Our loop."""

    def __init__(self, files: Files, **sizes: Any) -> None:
        super().__init__(files, **sizes)
        self.trainer = self._make_trainer(self.model)

    def _make_trainer(self, model: Model) -> Trainer:
        tokens = sum(map(len, self.ids)) * self.rows // len(self.ids)
        options = Training(
            batch_tokens=tokens, peak_lr=_RATE, schedule="constant", warmup_steps=1, epochs=1000
        )
        store = store_of_texts(self._lines("train"), model.tokenizer)
        return Trainer(model, model.task.encode_corpus(store, model.setting), options)

    def learn(self, *, marks: Sequence[int]) -> list[float]:
        """Train from the first weights; give the loss when so many real tokens were seen."""
        model = headway.load(self.first)
        trainer = self._make_trainer(model)
        losses = []
        for mark in marks:
            while trainer.state.tokens < mark:
                trainer.take_step()
            losses.append(self.loss_of(model))
        return losses


class HuggingFaceMaskedTraining(TheirTrainer, Masked):
    """Trainer of transformers with its own masking collator.

    Args:
        precision: "fp32" (their default) or "bf16".
        attention: "sdpa" (their default) or "eager".
        sampling: "random" (their default) or "group_by_length".
    """

    def __init__(
        self, files: Files, *, precision: str, attention: str, sampling: str, **sizes: Any
    ) -> None:
        super().__init__(files, **sizes)
        self.precision, self.attention, self.sampling = precision, attention, sampling
        self.trainer = self._make_trainer()

    def _make_trainer(self) -> Any:
        from transformers import (
            AutoTokenizer,
            BertForMaskedLM,
            DataCollatorForLanguageModeling,
            PrinterCallback,
            Trainer,
            TrainingArguments,
        )
        from transformers.trainer_pt_utils import LengthGroupedSampler

        class CountingTrainer(Trainer):
            num_tokens = 0

            def training_step(self, model, inputs, *arguments, **keywords):
                self.num_tokens += int(inputs["attention_mask"].sum())
                return super().training_step(model, inputs, *arguments, **keywords)

            def _get_train_sampler(self, train_dataset=None):
                if self.args.train_sampling_strategy != "group_by_length":
                    return super()._get_train_sampler(train_dataset)
                lengths = [len(row["input_ids"]) for row in self.train_dataset]
                return LengthGroupedSampler(self.args.train_batch_size, lengths=lengths)

        model = BertForMaskedLM.from_pretrained(self.first, attn_implementation=self.attention)
        # As ours: a tenth on embeddings and sublayers, none on attention weights.
        arguments = TrainingArguments(
            output_dir=str(self.files.work / "trainer"),
            use_cpu=True,
            bf16=self.precision == "bf16",
            per_device_train_batch_size=self.rows,
            train_sampling_strategy=self.sampling,
            num_train_epochs=1000,
            learning_rate=_RATE,
            lr_scheduler_type="constant",
            weight_decay=0.01,
            adam_beta2=0.98,
            adam_epsilon=1e-9,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(self.first)
        trainer = CountingTrainer(
            model=model,
            args=arguments,
            train_dataset=[
                {"input_ids": row, "attention_mask": [1] * len(row)} for row in self.ids
            ],
            data_collator=DataCollatorForLanguageModeling(tokenizer),
        )
        trainer.remove_callback(PrinterCallback)
        return trainer

    def learn(self, *, marks: Sequence[int]) -> list[float]:
        """Train from the first weights; give the loss when so many real tokens were seen."""
        self.trainer = self._make_trainer()
        losses: list[float] = []

        def after_step(step: int) -> bool:
            while len(losses) < len(marks) and self.trainer.num_tokens >= marks[len(losses)]:
                losses.append(self._loss())
            return len(losses) == len(marks)

        self._run(after_step)
        return losses

    def _loss(self) -> float:
        folder = self.files.work / "trained"
        self.trainer.model.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(self.model.tokenizer.to_json(), encoding="utf-8")
        return self.loss_of(headway.load(folder))
