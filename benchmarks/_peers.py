"""The sides: training with Headway and transformers; decoding with both and CTranslate2.

Imported in the process of a side only (see `_worker.py`), by the name of a class.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

import headway
from _data import parallel_files, read_pairs
from _worker import Files
from headway import recipe as recipes
from headway.sections import Recipe
from headway.tasks._model import Model
from headway.tasks._task import Encoded
from headway.tasks._text_to_text import TextToText
from headway.text.tokenizer import Tokenizer
from headway.train.evaluate import mean_losses
from headway.train.loop import Trainer
from headway.train.prepare import prepare


@dataclass(frozen=True)
class Timing:
    """Real tokens, and how long they took."""

    num_tokens: int
    seconds: float

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.num_tokens / self.seconds


class OurLoop:
    """Measures a training with our loop."""

    trainer: Trainer

    def measure(self, *, seconds: float, warm_up_steps: int) -> Timing:
        """Train on for so many seconds, after some steps off the clock."""
        for _ in range(warm_up_steps):
            self.trainer.take_step()
        started, num_tokens = time.perf_counter(), 0
        while time.perf_counter() < started + seconds:
            num_tokens += self.trainer.take_step().num_tokens
        return Timing(num_tokens, time.perf_counter() - started)


class TheirTrainer:
    """Measures a training with a Trainer of transformers that counts its tokens."""

    trainer: Any

    def _run(self, after_step: Callable[[int], bool]) -> None:
        """Train until `after_step`, given the number of updates, says that it is enough."""
        from transformers import TrainerCallback

        class Watch(TrainerCallback):
            def on_step_end(self, args, state, control, **_):
                control.should_training_stop = after_step(state.global_step)

        watch = Watch()
        self.trainer.add_callback(watch)
        self.trainer.train()
        self.trainer.remove_callback(watch)

    def measure(self, *, seconds: float, warm_up_steps: int) -> Timing:
        """Train on for so many seconds, after some steps off the clock."""
        started, before = 0.0, 0

        def after_step(step: int) -> bool:
            nonlocal started, before
            if step == warm_up_steps:
                started, before = time.perf_counter(), self.trainer.num_tokens
            return step > warm_up_steps and time.perf_counter() >= started + seconds

        self._run(after_step)
        return Timing(self.trainer.num_tokens - before, time.perf_counter() - started)


def make_recipe(data: Path) -> Recipe:
    """Read the shipped recipe, with the dropout and the plain schedule that both sides share."""
    changes = {
        "data": {"train": parallel_files(data, "train")},
        "model": {"dropout": 0.1},
        "training": {"schedule": "constant", "warmup-steps": 50, "peak-lr": 1e-3},
    }
    return recipes.read(recipes.find("multi30k-transformer"), changes)


class Training:
    """What both trainings share: data, recipe, first weights."""

    def __init__(self, files: Files) -> None:
        self.files, self.recipe = files, make_recipe(files.data)
        self.first = files.work / "first"
        if not self.first.exists():
            prepare(self.recipe).model.save(self.first)
        self.model = headway.load(self.first)

    @cached_property
    def examples(self) -> Encoded:
        """The training pairs as ids."""
        rows = read_pairs(self.files.data, "train")
        return self.model.task.encode(rows, self.model.setting)

    @cached_property
    def valid(self) -> Encoded:
        """The validation pairs as ids."""
        rows = read_pairs(self.files.data, "valid")
        return self.model.task.encode(rows, self.model.setting)

    def loss_of(self, model: Model) -> float:
        """Compute nats per token on the validation pairs: one code for all sides."""
        return mean_losses(model, self.valid).losses["loss"]


class HeadwayTraining(OurLoop, Training):
    """Our loop with the recipe's settings."""

    def __init__(self, files: Files) -> None:
        super().__init__(files)
        self.trainer = Trainer(self.model, self.examples, self.recipe.training)

    def learn(self, *, marks: Sequence[int]) -> list[float]:
        """Train from the first weights; give the loss when so many real tokens were seen."""
        self.model = headway.load(self.first)
        trainer = Trainer(self.model, self.examples, self.recipe.training)
        losses = []
        for mark in marks:
            while trainer.state.tokens < mark:
                trainer.take_step()
            losses.append(self.loss_of(self.model))
        return losses

    def save(self) -> None:
        """Write the model for the decoding part."""
        self.model.save(self.files.model)


class HuggingFaceTraining(TheirTrainer, Training):
    """Seq2SeqTrainer of transformers in bf16, with updates of as many tokens as ours.

    Args:
        attention: "sdpa" (their default) or "eager".
        micro_batches: Forward passes of an update; they accumulate gradients.
        sampling: "random" (their default) or "group_by_length".
    """

    def __init__(self, files: Files, *, attention: str, micro_batches: int, sampling: str) -> None:
        super().__init__(files)
        self.attention, self.sampling, self.micro_batches = attention, sampling, micro_batches
        mean_tokens = self.examples.lengths.sum(1).mean()
        update_tokens = self.recipe.training.batch_tokens or 0
        self.micro_batch_rows = round(update_tokens / mean_tokens / micro_batches)
        self.trainer = self._make_trainer()

    def _make_trainer(self) -> Any:
        from transformers import (
            AutoTokenizer,
            DataCollatorForSeq2Seq,
            MarianMTModel,
            PrinterCallback,
            Seq2SeqTrainingArguments,
        )

        model = MarianMTModel.from_pretrained(self.first, attn_implementation=self.attention)
        ours, task = self.recipe.training, cast(TextToText, self.model.task)
        arguments = Seq2SeqTrainingArguments(
            output_dir=str(self.files.work / "trainer"),
            use_cpu=True,
            bf16=True,
            per_device_train_batch_size=self.micro_batch_rows,
            gradient_accumulation_steps=self.micro_batches,
            train_sampling_strategy=self.sampling,
            num_train_epochs=1000,
            optim="adamw_torch_fused",
            learning_rate=ours.rate,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=ours.warmup_steps,
            adam_beta1=ours.betas[0],
            adam_beta2=ours.betas[1],
            adam_epsilon=ours.epsilon,
            weight_decay=ours.weight_decay,
            max_grad_norm=ours.clip_norm,
            label_smoothing_factor=task.label_smoothing,
            remove_unused_columns=False,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(self.first)
        rows = [
            {"input_ids": item.input_ids, "labels": item.target_ids}
            for item in self.examples.examples
        ]
        trainer = _counting_trainer()(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        )
        trainer.remove_callback(PrinterCallback)
        return trainer

    def learn(self, *, marks: Sequence[int]) -> list[float]:
        """Train from the first weights; give the loss when so many real tokens were seen."""
        self.trainer = self._make_trainer()
        losses: list[float] = []

        def after_step(step: int) -> bool:
            while len(losses) < len(marks) and self.trainer.num_tokens >= marks[len(losses)]:
                losses.append(self.loss_of(self._as_ours()))
            return len(losses) == len(marks)

        self._run(after_step)
        return losses

    def _as_ours(self) -> Model:
        folder = self.files.work / "trained"
        self.trainer.model.save_pretrained(folder)
        shutil.copy(self.first / "tokenizer.json", folder)
        return headway.load(folder)


def _counting_trainer() -> type:
    """Give their trainer, counting real tokens, and told the lengths of both sides.

    Their `length_column_name` would tell them, but needs the package datasets.
    """
    from transformers import Seq2SeqTrainer
    from transformers.trainer_pt_utils import LengthGroupedSampler

    class CountingTrainer(Seq2SeqTrainer):
        num_tokens = 0

        def training_step(self, model, inputs, *arguments, **keywords):
            real = inputs["attention_mask"].sum() + (inputs["labels"] != -100).sum()
            self.num_tokens += int(real)
            return super().training_step(model, inputs, *arguments, **keywords)

        def _get_train_sampler(self, train_dataset=None):
            if self.args.train_sampling_strategy != "group_by_length":
                return super()._get_train_sampler(train_dataset)
            rows = self.args.train_batch_size * self.args.gradient_accumulation_steps
            lengths = [len(row["input_ids"]) + len(row["labels"]) for row in self.train_dataset]
            return LengthGroupedSampler(rows, lengths=lengths)

    return CountingTrainer


class Decoding:
    """Text in, text out, beam 5, by one way to decode."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.tokenizer = Tokenizer.from_file(files.model / "tokenizer.json")
        self._is_warm = False

    def translate(self, texts: list[str], batch_rows: int) -> list[str]:
        """Translate, so many rows at once, rows of like length together."""
        raise NotImplementedError

    def measure(self, *, rows: int, batch_rows: int, seconds: float) -> Timing:
        """Translate the first rows, again and again for at least so many seconds."""
        texts = [row["source"] for row in read_pairs(self.files.data, "test_2016_flickr")][:rows]
        if not self._is_warm:
            self.translate(texts[: 2 * batch_rows], batch_rows)
            self._is_warm = True
        started, passes, found = time.perf_counter(), 0, []
        while passes == 0 or time.perf_counter() < started + seconds:
            found = self.translate(texts, batch_rows)
            passes += 1
        elapsed = time.perf_counter() - started
        return Timing(passes * sum(map(len, self.tokenizer.encode_ids(found))), elapsed)

    def answers(self, *, rows: int, batch_rows: int) -> list[str]:
        """Translate the first rows."""
        pairs = read_pairs(self.files.data, "test_2016_flickr")[:rows]
        return self.translate([pair["source"] for pair in pairs], batch_rows)


class HeadwayDecoding(Decoding):
    """Ours.

    Args:
        precision: "fp32", "bf16" or "auto".
    """

    def __init__(self, files: Files, *, precision: str) -> None:
        super().__init__(files)
        self.model = headway.load(files.model, precision=precision)

    def translate(self, texts: list[str], batch_rows: int) -> list[str]:
        """Translate with the defaults of the task; one text after the other at batch 1."""
        if batch_rows == 1:
            return [self.model.translate([text], num_beams=5)[0] for text in texts]
        return self.model.translate(texts, batch_rows=batch_rows, num_beams=5)


class HuggingFaceDecoding(Decoding):
    """`generate` of transformers.

    Args:
        precision: "fp32" or "bf16".
        attention: "sdpa" (their default) or "eager".
        early_stopping: Stop a row at five finished results, as the other sides do.
    """

    def __init__(
        self, files: Files, *, precision: str, attention: str, early_stopping: bool
    ) -> None:
        from transformers import AutoTokenizer, MarianMTModel

        super().__init__(files)
        self.reader = AutoTokenizer.from_pretrained(files.model)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.model: Any = MarianMTModel.from_pretrained(
            files.model, dtype=dtype, attn_implementation=attention
        ).eval()
        settings = self.model.generation_config
        settings.num_beams, settings.length_penalty = 5, 1.0
        settings.early_stopping = early_stopping
        # The bias of <pad> forbids it already; a list of bad words costs time.
        settings.bad_words_ids = None

    @torch.inference_mode()
    def translate(self, texts: list[str], batch_rows: int) -> list[str]:
        """Translate batches of like length."""
        order = np.argsort([-len(text) for text in texts], kind="stable")
        answers = [""] * len(texts)
        for start in range(0, len(texts), batch_rows):
            part = order[start : start + batch_rows]
            batch = self.reader([texts[i] for i in part], padding=True, return_tensors="pt")
            ids = self.model.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            )
            decoded = self.reader.batch_decode(ids, skip_special_tokens=True)
            for index, text in zip(part, decoded, strict=True):
                answers[index] = text
        return answers


class CTranslate2Decoding(Decoding):
    """CTranslate2 with the weights it converts itself.

    Args:
        compute_type: "float32" or "int8".
        inter_threads: Batches at work at the same time.
        intra_threads: Threads of each.
    """

    def __init__(
        self, files: Files, *, compute_type: str, inter_threads: int, intra_threads: int
    ) -> None:
        import ctranslate2

        super().__init__(files)
        converted = files.work / "ctranslate2"
        if not converted.exists():
            converter = ctranslate2.converters.TransformersConverter(str(files.model))
            converter.convert(str(converted))
        self.translator = ctranslate2.Translator(
            str(converted),
            compute_type=compute_type,
            inter_threads=inter_threads,
            intra_threads=intra_threads,
        )

    def translate(self, texts: list[str], batch_rows: int) -> list[str]:
        """Translate in one call, which sorts and cuts batches itself."""
        results = self.translator.translate_batch(
            [encoding.tokens for encoding in self.tokenizer.encode_batch(texts)],
            beam_size=5,
            length_penalty=1.0,
            max_batch_size=batch_rows,
        )
        ids = [list(map(self.tokenizer.id_of, item.hypotheses[0])) for item in results]
        return self.tokenizer.decode_batch(ids)
