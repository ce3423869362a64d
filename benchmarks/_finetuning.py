"""The sides of `finetuning.py --part speed`: a classifier trained by Headway and by transformers.

Imported in the process of a side only (see `_worker.py`), by the name of a class.
"""

from __future__ import annotations

import csv
import gzip
from functools import cached_property
from typing import Any

import torch

import headway
from _peers import OurLoop, TheirTrainer
from _worker import Files
from headway.models.bert import PRESETS, Bert, BertConfig
from headway.sections import Training
from headway.tasks._load import load
from headway.tasks._model import Model
from headway.tasks.classification import Classification
from headway.train.loop import Trainer

_RATE = 5e-5
_ROWS = 32
_MAX_TOKENS = 128
LABELS = ("0", "1")


class Classifying:
    """What both sides share: SST-2, a vocabulary, first weights.

    Args:
        size: "6 x 384" (the published checkpoint that `files.model` names) or "12 x 768" (drawn
            at random, with its vocabulary: speed does not ask what the weights know).
    """

    def __init__(self, files: Files, *, size: str) -> None:
        self.files = files
        task = Classification(max_tokens=_MAX_TOKENS)
        self.first = files.work / size.replace(" ", "")
        if not self.first.exists():
            published = load(files.model, task=task, task_name="classification", labels=LABELS)
            model = published if size == "6 x 384" else _large(published, task)
            model.save(self.first)
        self.model = headway.load(self.first)

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The training rows."""
        with gzip.open(self.files.data / "train.tsv.gz", "rt", encoding="utf-8") as file:
            found = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            return [{"text": row["sentence"], "label": row["label"]} for row in found]


def _large(published: Model, task: Classification) -> Model:
    tokenizer = published.tokenizer
    config = BertConfig(
        **PRESETS["base"], vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_id
    )
    torch.manual_seed(0)
    body = Bert(config, ("pooler",))
    return Model(
        body,
        tokenizer,
        task,
        task_name="classification",
        architecture="bert",
        head=task.make_head(body, LABELS),
        labels=LABELS,
    )


class HeadwayClassifyingTraining(OurLoop, Classifying):
    """Our loop, as `headway train classify` runs it."""

    def __init__(self, files: Files, **sizes: Any) -> None:
        super().__init__(files, **sizes)
        options = Training(
            batch_rows=_ROWS,
            batch_tokens=None,
            peak_lr=_RATE,
            schedule="linear",
            warmup_steps=0,
            betas=(0.9, 0.999),
            epsilon=1e-8,
            epochs=100,
        )
        examples = self.model.task.encode(self.rows, self.model.setting)
        self.trainer = Trainer(self.model, examples, options)


class HuggingFaceClassifying(TheirTrainer, Classifying):
    """Trainer of transformers with its padding collator.

    Args:
        precision: "fp32" (their default) or "bf16".
        attention: "sdpa" (their default) or "eager".
        sampling: "random" (their default) or "group_by_length".
    """

    def __init__(
        self, files: Files, *, precision: str, attention: str, sampling: str, **sizes: Any
    ) -> None:
        super().__init__(files, **sizes)
        from transformers import (
            AutoModelForSequenceClassification,
            AutoTokenizer,
            DataCollatorWithPadding,
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

        # As ours: a tenth on embeddings and sublayers, none on attention weights.
        model = AutoModelForSequenceClassification.from_pretrained(
            self.first, attn_implementation=attention, attention_probs_dropout_prob=0.0
        )
        tokenizer = AutoTokenizer.from_pretrained(self.first)
        texts = [row["text"] for row in self.rows]
        encoded = tokenizer(texts, truncation=True, max_length=_MAX_TOKENS)
        dataset = [
            {
                "input_ids": ids,
                "token_type_ids": [0] * len(ids),
                "attention_mask": [1] * len(ids),
                "labels": int(row["label"]),
            }
            for ids, row in zip(encoded["input_ids"], self.rows, strict=True)
        ]
        arguments = TrainingArguments(
            output_dir=str(files.work / "trainer"),
            use_cpu=True,
            bf16=precision == "bf16",
            per_device_train_batch_size=_ROWS,
            train_sampling_strategy=sampling,
            num_train_epochs=100,
            learning_rate=_RATE,
            weight_decay=0.01,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        self.trainer = CountingTrainer(
            model=model,
            args=arguments,
            train_dataset=dataset,
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        self.trainer.remove_callback(PrinterCallback)
