"""A training of masked words takes the updates that transformers' Trainer takes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import headway
from encoders import TEXTS, make_encoder
from headway.data.batch import Batch
from headway.sections import Training
from headway.tasks._model import Model
from headway.tasks.masked_lm import MaskedLm
from headway.train.loop import Trainer

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

ROWS = [{"text": text} for text in TEXTS * 4]
RATE, WARM_UP, STEPS, LONGEST = 1e-2, 2, 8, 6.0
# Softmax does not see what is added to every key: a gradient of nothing but rounding.
WITHOUT_GRADIENT = "attention.key.bias"


def their_trainer(folder: Path, batches: list[Batch]) -> Any:
    """Give their Trainer over our batches, with our settings in its words."""

    class InOrder(transformers.Trainer):
        losses: list[float] = []  # noqa: RUF012

        def get_train_dataloader(self):
            return [
                {
                    "input_ids": batch.source.ids,
                    "attention_mask": batch.source.attention_mask.long(),
                    "labels": batch.labels,
                }
                for batch in batches
            ]

        def training_step(self, *arguments, **keywords):
            loss = super().training_step(*arguments, **keywords)
            self.losses.append(float(loss))
            return loss

        def create_scheduler(self, num_training_steps, optimizer=None):
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer, lambda step: min(1.0, (step + 1) / (WARM_UP + 1))
            )
            return self.lr_scheduler

    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "trainer"),
        use_cpu=True,
        num_train_epochs=1,
        learning_rate=RATE,
        weight_decay=0.01,
        adam_beta2=0.98,
        adam_epsilon=1e-9,
        max_grad_norm=LONGEST,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    model = transformers.BertForMaskedLM.from_pretrained(folder)
    trainer = InOrder(model=model, args=arguments, train_dataset=batches)
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def weights_of(model: Model) -> dict[str, torch.Tensor]:
    return {
        name: value.detach().clone()
        for name, value in model.body.named_parameters()
        if not name.endswith(WITHOUT_GRADIENT)
    }


def test_updates_at_a_high_rate_are_theirs(tmp_path):
    model = make_encoder(task=MaskedLm(max_tokens=24, mask_ratio=0.3))
    model.save(tmp_path)
    options = Training(
        batch_tokens=40,
        peak_lr=RATE,
        schedule="constant",
        warmup_steps=WARM_UP,
        epochs=100,
        clip_norm=LONGEST,
        precision="fp32",
    )
    model = headway.load(tmp_path)
    before = weights_of(model)
    trainer = Trainer(model, model.task.encode(ROWS, model.setting), options)
    batches, updates = [], []
    for _ in range(STEPS):
        plan = trainer.plan_of(trainer.state.epoch)
        batches += trainer.micro_batches(plan[trainer.state.step_in_epoch])
        updates.append(trainer.take_step())
    assert len(batches) == STEPS
    # Adam does not see it when all gradients are shortened alike: some are, and some are not.
    norms = [update.grad_norm for update in updates]
    assert min(norms) < 0.9 * LONGEST < 1.1 * LONGEST < max(norms)

    theirs = their_trainer(tmp_path, batches)
    theirs.train()
    theirs.model.save_pretrained(tmp_path / "theirs")
    shutil.copy(tmp_path / "tokenizer.json", tmp_path / "theirs")
    expected = weights_of(headway.load(tmp_path / "theirs"))

    losses = [update.losses["masked_lm"] for update in updates]
    assert losses == pytest.approx(theirs.losses, rel=1e-5)
    for name, value in weights_of(model).items():
        moved = (expected[name] - before[name]).norm()
        assert (value - expected[name]).norm() <= 1e-4 * moved, name
