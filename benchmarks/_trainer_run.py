"""Fine-tune a set with transformers' Trainer, at the settings its documentation shows.

    python _trainer_run.py --model DIR --train FILE --task classify --out DIR --seed 0

Batches of 32 (16 for tags), 3 epochs, rate 2e-5 falling linearly, 128 tokens, fp32: the values of
`run_glue.py` and `run_ner.py` in its documentation. Writes the model, which Headway then scores.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import time
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

_MAX_TOKENS = 128


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
    parser.add_argument("--task", choices=("classify", "pair", "regress", "tag"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=2e-5)
    parser.add_argument("--epochs", type=float, default=3.0)
    options = parser.parse_args()
    with gzip.open(options.train, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    is_tag, is_number = options.task == "tag", options.task == "regress"
    names: list[str] = []
    if is_tag:
        names = sorted({tag for row in rows for tag in row["tags"]})
    elif not is_number:
        names = sorted({str(row["label"]) for row in rows})
    number = {name: place for place, name in enumerate(names)}
    torch.manual_seed(options.seed)
    kind = AutoModelForTokenClassification if is_tag else AutoModelForSequenceClassification
    model = kind.from_pretrained(
        options.model,
        num_labels=len(names) or 1,
        id2label=dict(enumerate(names)) or {0: "LABEL_0"},
        label2id=number or {"LABEL_0": 0},
        **({"problem_type": "regression"} if is_number else {}),
    )
    examples = (encode_tags if is_tag else encode_texts)(rows, tokenizer, number)
    collate = DataCollatorForTokenClassification if is_tag else DataCollatorWithPadding
    arguments = TrainingArguments(
        output_dir=str(options.out / "trainer"),
        use_cpu=True,
        per_device_train_batch_size=16 if is_tag else 32,
        num_train_epochs=options.epochs,
        learning_rate=options.rate,
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
