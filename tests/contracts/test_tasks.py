"""Every promise for every file in tasks/: a new task has nothing to add here."""

from __future__ import annotations

import dataclasses
import doctest
import json

import numpy as np
import pytest
import torch

from headway import registry
from headway.data.batch import pad_rows
from headway.files.folder import make_body
from headway.sections import Training
from headway.tasks._model import Model, make_task
from headway.text.specials import SPECIALS
from headway.text.train import train_tokenizer
from headway.train.loop import Trainer

KEYS = registry.list_keys("tasks")
# Architectures for each kind of body, to try tasks on.
BODIES = {
    "encoder_decoder": ("transformer", "seq2seq", "t5"),
    "encoder": ("bert", "roberta", "albert"),
    "decoder": ("gpt2", "llama"),
}


def rows_of(task) -> list[dict]:
    return task.tiny_rows()


def make(task_name: str, architecture: str, **settings) -> Model:
    known = {"label_smoothing": 0.1, "num_beams": 2, "dropout": 0.0}
    task_class = registry.load_class("tasks", task_name)
    fields = {item.name for item in dataclasses.fields(task_class)}
    task = make_task(task_name, {k: v for k, v in known.items() if k in fields} | settings)
    module = registry.load_module("models", architecture)
    specials = SPECIALS[module.SPECIALS]
    tokenizer = train_tokenizer(
        "word",
        task.texts(rows_of(task)),
        vocab_size=60 + len(specials.tokens),
        specials=specials,
    )
    config = registry.load_class("models", architecture).tiny()
    values = {
        "vocab_size": tokenizer.vocab_size,
        "pad_token_id": tokenizer.pad_id,
        "eos_token_id": tokenizer.end_id,
        "hidden_size": 32,
    }
    known_fields = {item.name for item in dataclasses.fields(config)}
    config = dataclasses.replace(config, **{k: v for k, v in values.items() if k in known_fields})
    torch.manual_seed(0)
    body = make_body(architecture, config, task.head)
    labels = task.find_labels(rows_of(task))
    head = task.make_head(body, labels)
    return Model(
        body,
        tokenizer,
        task,
        task_name=task_name,
        architecture=architecture,
        head=head,
        labels=labels,
    )


CASES = [
    (key, architecture)
    for key in KEYS
    for kind in registry.load_class("tasks", key).bodies
    for architecture in BODIES[kind]
    # The sentinels are in T5's vocabulary.
    if key != "span_corruption" or architecture == "t5"
]


def gradients(model: Model, *, cells: int) -> dict[str, torch.Tensor]:
    examples = model.task.encode(rows_of(model.task), model.setting)
    options = Training(batch_rows=24, batch_tokens=None, micro_batch_tokens=cells, precision="fp32")
    trainer = Trainer(model, examples, options)
    step = np.arange(min(24, len(examples.examples)))
    trainer._accumulate(trainer.micro_batches(step), step)
    return {n: p.grad.clone() for n, p in model.body.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("key", "architecture"), CASES)
def test_any_split_into_micro_batches_gives_the_same_gradient(key, architecture):
    whole = gradients(make(key, architecture), cells=10**6)
    split = gradients(make(key, architecture), cells=24)
    largest = max(float(value.abs().max()) for value in whole.values())
    for name, value in whole.items():
        assert (value - split[name]).abs().max() <= 1e-5 * max(1.0, largest), name


@pytest.mark.parametrize(("key", "architecture"), CASES)
def test_the_loss_falls_on_a_learnable_toy(key, architecture):
    model = make(key, architecture)
    rows = rows_of(model.task)
    # At rates that others like poolers saturate, and the loss of those who write leaps up at times.
    is_slow = {"sequence", "choice"} & {*model.task.heads} or model.body.kind == "encoder_decoder"
    options = Training(
        batch_rows=24,
        batch_tokens=None,
        peak_lr=3e-3 if is_slow else 1e-2,
        schedule="constant",
        warmup_steps=10,
        steps=200,
        precision="fp32",
    )
    trainer = Trainer(model, model.task.encode(rows, model.setting), options)
    losses = [sum(trainer.take_step().losses.values()) for _ in range(200)]
    assert np.mean(losses[-10:]) < 0.1 * losses[0]
    model.body.eval()
    answers = model.predict(rows)
    wanted = [gold_answer(row) for row in rows]
    if wanted[0] is not None and not is_number(wanted[0]):
        right = sum(a["prediction"] == w for a, w in zip(answers, wanted, strict=True))
        assert right >= 0.9 * len(rows)


@pytest.mark.parametrize(("key", "architecture"), CASES)
def test_counts_are_known_before_anything_is_computed(key, architecture):
    model = make(key, architecture)
    examples = model.task.encode(rows_of(model.task), model.setting).examples
    batch = model.task.collate(pad_rows(examples), model.setting)
    counts = model.task.counts(batch)
    losses = model.task.losses(model.body, model.head, batch)
    assert {loss.name: loss.count for loss in losses} == counts


@pytest.mark.parametrize(("key", "architecture"), CASES)
def test_answers_do_not_depend_on_neighbours(key, architecture):
    model = make(key, architecture)
    model.body.eval()
    rows = rows_of(model.task)
    together = model.predict(rows)
    for row, answer in list(zip(rows, together, strict=True))[:8]:
        alone = model.predict([row])[0]["prediction"]
        if is_number(alone) and model.body.kind == "decoder":
            # The promise; that encoders keep it to the last digit is more than that.
            assert alone == pytest.approx(answer["prediction"], abs=1e-5)
        else:
            assert alone == answer["prediction"]


def is_number(value) -> bool:
    return isinstance(value, float) or (isinstance(value, list) and isinstance(value[0], float))


def gold_answer(row: dict):
    """Give what a perfect model would say of a row."""
    if "answers" in row:
        return row["answers"][0]["text"]
    columns = ("target", "summary", "label", "tags", "values")
    return next((row[key] for key in columns if key in row), None)


@pytest.mark.parametrize(("key", "architecture"), CASES)
def test_gold_answers_score_perfectly_and_survive_json(key, architecture):
    model = make(key, architecture)
    rows = [{"source": "x", "target": f"one two three four five {i}"} for i in range(5)]
    if "target" not in model.task.columns:
        rows = rows_of(model.task)
    gold = [{"prediction": gold_answer(row)} for row in rows]
    gold = json.loads(json.dumps(gold))
    for item in model.task.statistics(gold, rows):
        assert item.value() == pytest.approx(0.0 if item.name.endswith("error") else 100.0)


@pytest.mark.parametrize(("key", "architecture"), CASES)
def test_a_saved_model_answers_the_same(key, architecture, tmp_path):
    from headway.tasks._load import load

    model = make(key, architecture)
    model.body.eval()
    model.save(tmp_path / "model")
    rows = rows_of(model.task)
    assert load(tmp_path / "model").predict(rows) == model.predict(rows)


@pytest.mark.parametrize("key", KEYS)
def test_the_example_in_the_docstring_runs(key):
    module = registry.load_module("tasks", key)
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
