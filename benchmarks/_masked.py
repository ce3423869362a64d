"""The sides of `pretraining.py`: masked language modeling with Headway and with transformers.

Imported in the process of a side only (see `_worker.py`), by the name of a class.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import headway
from _peers import OurLoop, TheirTrainer
from _worker import Files
from headway.data.batch import Batch
from headway.data.lines import is_blank, read_text
from headway.data.store import store_of_texts
from headway.layers.dropout import Dropout
from headway.models.bert import PRESETS, Bert, BertConfig
from headway.sections import Training
from headway.tasks._model import Model
from headway.tasks.masked_lm import MaskedLm
from headway.text.specials import SPECIALS
from headway.text.train import train_tokenizer
from headway.train.evaluate import mean_losses
from headway.train.loop import Trainer

_RATE = 1e-4


@dataclass(frozen=True)
class Curve:
    """How a training went: the loss of every update, and what came out.

    Args:
        losses: Nats per hidden token, update by update.
        loss: The same on validation lines, after the last.
        accuracy: Share of their hidden tokens that got the highest score.
    """

    losses: list[float]
    loss: float
    accuracy: float


class Masked:
    """What both sides share: lines of WikiText-2, a vocabulary, first weights.

    Args:
        preset: Size of the BERT.
        vocab_size: Entries of the vocabulary; a smaller one is learned, and the table filled up.
        rows: Lines in an update.
        max_tokens: Where lines are cut.
        seed: Of the first weights, the order of the lines and their masks.
    """

    def __init__(
        self,
        files: Files,
        *,
        preset: str,
        vocab_size: int,
        rows: int,
        max_tokens: int,
        seed: int = 0,
    ) -> None:
        self.files, self.rows, self.max_tokens, self.seed = files, rows, max_tokens, seed
        self.first = files.work / f"{preset}-{vocab_size}-{max_tokens}-{seed}"
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
            max_position_embeddings=self.max_tokens,
            pad_token_id=tokenizer.pad_id,
        )
        torch.manual_seed(self.seed)
        body = Bert(config, ("masked_lm",))
        task = MaskedLm(max_tokens=self.max_tokens)
        Model(body, tokenizer, task, task_name="masked_lm", architecture="bert").save(self.first)

    def _lines(self, split: str) -> list[str]:
        lines = read_text(self.files.data / f"{split}.txt.gz")
        return [line for line in lines if not is_blank(line)]

    @cached_property
    def ids(self) -> list[list[int]]:
        """Each training line as ids, cut to the longest input."""
        bare = self.model.tokenizer.encode_ids(self._lines("train"), bare=True)
        start, end = self.model.tokenizer.start_id, self.model.tokenizer.end_id
        return [[start, *line[: self.max_tokens - 2], end] for line in bare if line]

    def our_trainer(
        self, model: Model, *, rate: float = _RATE, warm_up: int = 0, precision: str = "auto"
    ) -> Trainer:
        """Give our loop over the training lines, with as many tokens in an update as `rows`."""
        tokens = sum(map(len, self.ids)) * self.rows // len(self.ids)
        options = Training(
            batch_tokens=tokens,
            peak_lr=rate,
            schedule="constant",
            warmup_steps=warm_up,
            epochs=1000,
            seed=self.seed,
            precision=precision,
        )
        store = store_of_texts(self._lines("train"), model.tokenizer)
        return Trainer(model, model.task.encode_corpus(store, model.setting), options)

    def without_dropout(self) -> Model:
        """Load the first weights for a training that both sides can repeat exactly."""
        model = headway.load(self.first)
        for module in model.body.modules():
            if isinstance(module, Dropout):
                module.rate = 0.0
        return model

    def curve_of(self, losses: list[float], model: Model) -> Curve:
        """Score what came out on validation lines: one code for all sides."""
        store = store_of_texts(self._lines("valid")[:1000], model.tokenizer)
        found = mean_losses(model, model.task.encode_corpus(store, model.setting))
        return Curve(losses, found.losses["masked_lm"], found.accuracies["masked_lm"])


def next_batch(trainer: Trainer) -> Batch:
    """Give the batch of our loop's next update, which has one forward pass."""
    plan = trainer.plan_of(trainer.state.epoch)
    (batch,) = trainer.micro_batches(plan[trainer.state.step_in_epoch])
    return batch


def all_batches(trainer: Trainer) -> Iterator[Batch]:
    """Give the batches of all updates from the first on, without taking one."""
    for epoch in count():
        for step in range(len(trainer.plan_of(epoch))):
            trainer.state.epoch, trainer.state.step_in_epoch = epoch, step
            yield next_batch(trainer)


def as_theirs(batch: Batch) -> dict[str, Tensor]:
    """Give a batch of ours as their Trainer takes it."""
    real = batch.source.documents > 0
    return {
        "input_ids": batch.source.ids,
        "attention_mask": real.long(),
        "labels": batch.labels,
    }


class HeadwayMaskedTraining(OurLoop, Masked):
    """Our loop.

    Args:
        precision: "fp32", "bf16", or "auto", our default.
        nudge: Added to one of the first weights before a curve, to see what so little can do.
    """

    def __init__(
        self, files: Files, *, precision: str = "auto", nudge: float = 0.0, **sizes: Any
    ) -> None:
        super().__init__(files, **sizes)
        self.precision, self.nudge = precision, nudge
        self.trainer = self.our_trainer(self.model, precision=precision)

    def curve(self, *, steps: int, rate: float, warm_up: int) -> Curve:
        """Train so many updates from the first weights, without dropout."""
        model = self.without_dropout()
        with torch.no_grad():
            # A weight that is added to every token, in single precision whatever follows.
            model.body.embeddings.token_type.weight[0, 0] += self.nudge
        trainer = self.our_trainer(model, rate=rate, warm_up=warm_up, precision=self.precision)
        losses = [trainer.take_step().losses["masked_lm"] for _ in range(steps)]
        return self.curve_of(losses, model)


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

    def _make_trainer(
        self,
        batches: Sequence[Any] = (),
        *,
        rate: float = _RATE,
        warm_up: int = 0,
        first: Path | None = None,
        first_step: int = 0,
    ) -> Any:
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
            def __init__(self, **arguments):
                super().__init__(**arguments)
                self.num_tokens, self.losses, self.after_backward = 0, [], lambda: None

            def training_step(self, model, inputs, *arguments, **keywords):
                self.num_tokens += int(inputs["attention_mask"].sum())
                loss = super().training_step(model, inputs, *arguments, **keywords)
                if batches:
                    self.losses.append(float(loss))
                    self.after_backward()
                return loss

            def create_scheduler(self, num_training_steps, optimizer=None):
                # Ours, to the last digit.
                self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                    optimizer or self.optimizer,
                    lambda step: min(1.0, (first_step + step + 1) / (warm_up + 1)),
                )
                return self.lr_scheduler

            def get_train_dataloader(self):
                if not batches:
                    return super().get_train_dataloader()
                return DataLoader(batches, batch_size=None)

            def _get_train_sampler(self, train_dataset=None):
                if self.args.train_sampling_strategy != "group_by_length":
                    return super()._get_train_sampler(train_dataset)
                lengths = [len(row["input_ids"]) for row in self.train_dataset]
                return LengthGroupedSampler(self.args.train_batch_size, lengths=lengths)

        dropout = {"hidden_dropout_prob": 0.0} if batches else {}
        model = BertForMaskedLM.from_pretrained(
            first or self.first, attn_implementation=self.attention, **dropout
        )
        # As ours: a tenth on embeddings and sublayers, none on attention weights.
        arguments = TrainingArguments(
            output_dir=str(self.files.work / "trainer"),
            use_cpu=True,
            bf16=self.precision == "bf16",
            per_device_train_batch_size=self.rows,
            train_sampling_strategy=self.sampling,
            num_train_epochs=1000,
            learning_rate=rate,
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

    def curve(self, *, steps: int, rate: float, warm_up: int) -> Curve:
        """Train on the very batches of our loop: the same rows, masks and order."""
        ours = self.our_trainer(self.without_dropout())
        batches = [as_theirs(batch) for batch in islice(all_batches(ours), steps)]
        self.trainer = self._make_trainer(batches, rate=rate, warm_up=warm_up)
        self._run(lambda step: step >= steps)
        return self.curve_of(self.trainer.losses, self.as_ours(self.trainer.model))

    def as_ours(self, model: Any) -> Model:
        """Read a network of theirs as one of ours."""
        with tempfile.TemporaryDirectory(dir=self.files.work) as name:
            folder = Path(name)
            model.save_pretrained(folder)
            (folder / "tokenizer.json").write_text(self.model.tokenizer.to_json(), encoding="utf-8")
            return headway.load(folder)
