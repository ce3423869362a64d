"""Fine-tune a set with transformers' Trainer, at the settings its documentation shows.

    python _trainer_run.py --model DIR --train FILE --task classify --out DIR --seed 0

The values of `run_glue.py`, `run_ner.py` and `run_qa.py` in its documentation, see `_USUAL`, the
rate falling linearly, fp32; batches are padded to their longest, which `run_qa.py` does not do by
itself. Writes the model, which Headway then scores.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

_MAX_TOKENS = 128


@dataclass(frozen=True)
class Usual:
    """What the documentation of a task's script shows."""

    kind: Any = AutoModelForSequenceClassification
    rows: int = 32
    rate: float = 2e-5
    epochs: float = 3.0


_USUAL = {
    "classify": Usual(),
    "pair": Usual(),
    "regress": Usual(),
    "tag": Usual(kind=AutoModelForTokenClassification, rows=16),
    "answer": Usual(kind=AutoModelForQuestionAnswering, rows=12, rate=3e-5, epochs=2.0),
}


def encode_answers(rows: list[dict], tokenizer: Any) -> list[dict]:
    """Cut passages into windows of 384 tokens; where one has not the whole answer, it is [CLS]."""
    found = tokenizer(
        [row["question"] for row in rows],
        [row["context"] for row in rows],
        truncation="only_second",
        max_length=384,
        stride=128,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    examples = []
    for window, place in enumerate(found["overflow_to_sample_mapping"]):
        answer = rows[place]["answers"][0]
        ends = (answer["start"], answer["start"] + len(answer["text"]))
        of_passage = [side == 1 for side in found.sequence_ids(window)]
        spans = found["offset_mapping"][window]
        starts = [
            n for n, span in enumerate(spans) if of_passage[n] and span[0] <= ends[0] < span[1]
        ]
        stops = [
            n for n, span in enumerate(spans) if of_passage[n] and span[0] < ends[1] <= span[1]
        ]
        start, stop = (starts[0], stops[0]) if starts and stops else (0, 0)
        example = {key: found[key][window] for key in ("input_ids", "attention_mask")}
        if "token_type_ids" in found:
            example["token_type_ids"] = found["token_type_ids"][window]
        examples.append(example | {"start_positions": start, "end_positions": stop})
    return examples


def encode_tags(rows: list[dict], tokenizer: Any, number: dict[str, int]) -> list[dict]:
    """Cut words into pieces; the first piece of a word carries its tag, as in `run_ner.py`."""
    words = [row["words"] for row in rows]
    found = tokenizer(words, is_split_into_words=True, truncation=True, max_length=_MAX_TOKENS)
    examples = []
    for place, row in enumerate(rows):
        labels, last = [], None
        for word in found.word_ids(place):
            is_first = word is not None and word != last
            labels.append(number[row["tags"][word]] if is_first else -100)
            last = word
        examples.append({key: found[key][place] for key in found} | {"labels": labels})
    return examples


def encode_texts(rows: list[dict], tokenizer: Any, number: dict[str, int]) -> list[dict]:
    """Cut texts, and pairs of them, into pieces."""
    texts = [row["text"] for row in rows]
    others = [row["text_pair"] for row in rows] if "text_pair" in rows[0] else None
    found = tokenizer(texts, others, truncation=True, max_length=_MAX_TOKENS)
    labels = [number[str(row["label"])] if number else float(row["label"]) for row in rows]
    return [
        {key: found[key][place] for key in found} | {"labels": label}
        for place, label in enumerate(labels)
    ]


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--task", choices=tuple(_USUAL), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    usual, task = _USUAL[options.task], options.task
    with gzip.open(options.train, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    names: list[str] = []
    if task == "tag":
        names = sorted({tag for row in rows for tag in row["tags"]})
    elif task in ("classify", "pair"):
        names = sorted({str(row["label"]) for row in rows})
    number = {name: place for place, name in enumerate(names)}
    labels: dict[str, Any] = {}
    if task != "answer":
        labels = {
            "num_labels": len(names) or 1,
            "id2label": dict(enumerate(names)) or {0: "LABEL_0"},
        }
        labels["label2id"] = {name: place for place, name in labels["id2label"].items()}
    if task == "regress":
        labels["problem_type"] = "regression"
    torch.manual_seed(options.seed)
    model = usual.kind.from_pretrained(options.model, **labels)
    if task == "answer":
        examples = encode_answers(rows, tokenizer)
    else:
        examples = (encode_tags if task == "tag" else encode_texts)(rows, tokenizer, number)
    collate = DataCollatorForTokenClassification if task == "tag" else DataCollatorWithPadding
    arguments = TrainingArguments(
        output_dir=str(options.out / "trainer"),
        use_cpu=True,
        per_device_train_batch_size=usual.rows,
        num_train_epochs=usual.epochs,
        learning_rate=usual.rate,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=options.seed,
    )
    trainer = Trainer(
        model=model, args=arguments, train_dataset=examples, data_collator=collate(tokenizer)
    )
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    folder = options.out / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"seconds": seconds, "megabytes": memory}
    (options.out / "run.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
