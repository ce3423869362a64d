"""Long texts in windows: the mean of what is said of each, nothing cut, training."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from encoders import make_encoder
from headway import recipe as recipes
from headway.files.folder import make_body
from headway.layers.side import Side
from headway.tasks._load import load
from headway.tasks._model import Model
from headway.tasks.classification import Classification
from headway.tasks.regression import Regression
from headway.train.loop import Trainer
from headway.train.prepare import prepare

FAMILIES = ("bert", "roberta", "albert", "distilbert", "lstm")
LONG = "the cat sat on the mat and the dog ran to the house in the old tree near the river"
SHORT = "a bird sings"
LABELS = ("a", "b", "c")
TASKS = [
    pytest.param(Classification(keep="windows", max_tokens=12), id="classes"),
    pytest.param(
        Classification(keep="windows", max_tokens=12, pooling="mean"), id="classes-of-means"
    ),
    pytest.param(Classification(keep="windows", max_tokens=12, multi_label=True), id="several"),
    pytest.param(Regression(keep="windows", max_tokens=12), id="number"),
]


def make(architecture: str, task) -> Model:
    labels = LABELS if isinstance(task, Classification) else ()
    base = make_encoder(architecture)
    torch.manual_seed(3)
    body = make_body(architecture, base.body.config, task.head).eval()
    head = task.make_head(body, labels).eval()
    with torch.no_grad():
        for parameter in [*body.parameters(), *head.parameters()]:
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return Model(
        body,
        base.tokenizer,
        task,
        task_name="classification" if labels else "regression",
        architecture=architecture,
        head=head,
        labels=labels,
    )


def windows_of(model: Model, text: str, longest: int = 12) -> list[list[int]]:
    """Cut a text as the paper says: as few windows as hold it, of about the same length."""
    start, *ids, end = model.tokenizer.encode(text).ids
    count = math.ceil(len(ids) / (longest - 2))
    return [[start, *part.tolist(), end] for part in _split(np.array(ids), count)]


def _split(ids: np.ndarray, count: int) -> list[np.ndarray]:
    bounds = [round(len(ids) * number / count) for number in range(count + 1)]
    return [ids[bounds[number] : bounds[number + 1]] for number in range(count)]


def logits_of(model: Model, ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        return model.head(model.body, model.body.encode(Side.padded([ids])))[0].numpy()


def said(answer) -> list[float]:
    if "probabilities" in answer:
        return list(answer["probabilities"].values())
    return [answer["prediction"]]


def result_of(model: Model, logits: np.ndarray) -> list[float]:
    if isinstance(model.task, Regression):
        return logits.tolist()
    if model.task.multi_label:
        return (1 / (1 + np.exp(-logits))).tolist()
    powers = np.exp(logits - logits.max())
    return (powers / powers.sum()).tolist()


# results


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("task", TASKS)
def test_the_result_is_that_of_the_mean_of_the_windows_logits(architecture, task):
    model = make(architecture, task)
    windows = windows_of(model, LONG)
    assert len(windows) > 1
    logits = np.stack([logits_of(model, window) for window in windows])
    assert np.ptp(logits, axis=0).max() > 1e-3
    (answer,) = model.predict([{"text": LONG}])
    assert said(answer) == pytest.approx(result_of(model, logits.mean(0)), abs=3e-6)


@pytest.mark.parametrize("task", TASKS)
def test_windows_of_one_text_are_not_mixed_with_those_of_others(task):
    model = make("bert", task)
    rows = [{"text": text} for text in (LONG, SHORT, LONG + " " + LONG, "the dog " + LONG, SHORT)]
    for row, answer in zip(rows, model.predict(rows), strict=True):
        (alone,) = model.predict([row])
        assert said(answer) == pytest.approx(said(alone), abs=3e-6)


@pytest.mark.parametrize("task", TASKS)
def test_short_texts_answer_as_if_only_the_head_was_kept(task):
    model = make("bert", task)
    rows = [{"text": SHORT}, {"text": "the cat sat on"}]
    assert model.predict(rows) == model.predict(rows, keep="head")


def test_windows_differ_from_the_head_where_a_text_is_long():
    model = make("bert", Regression(keep="windows", max_tokens=12))
    (one,), (other,) = (model.predict([{"text": LONG}], keep=k) for k in ("windows", "head"))
    assert abs(one["prediction"] - other["prediction"]) > 1e-3


@pytest.mark.parametrize("count", [10, 11, 20, 21, 30, 31, 95])
def test_windows_hold_every_piece_once_and_none_is_too_long(count):
    model = make("bert", Classification(keep="windows", max_tokens=12))
    (example,) = model.task.encode([{"text": "cat " * count}], model.setting).examples
    parts = example.parts or (example,)
    assert len(parts) == math.ceil(count / 10)
    assert all(len(part.input_ids) <= 12 for part in parts)
    assert sum(len(part.input_ids) - 2 for part in parts) == count
    lengths = [len(part.input_ids) for part in parts]
    assert max(lengths) - min(lengths) <= 1


def test_the_loss_is_that_of_the_mean_logits():
    model = make("bert", Classification(keep="windows", max_tokens=12))
    rows = [{"text": LONG, "label": "c"}, {"text": SHORT, "label": "a"}]
    examples = model.task.encode(rows, model.setting).examples
    batch = model.task.collate([[example] for example in examples], model.setting)
    with torch.no_grad():
        (loss,) = model.task.losses(model.body, model.head, batch)
    wanted = 0.0
    for row in rows:
        logits = np.stack([logits_of(model, x) for x in windows_of(model, row["text"])]).mean(0)
        wanted -= np.log(result_of(model, logits)[LABELS.index(row["label"])])
    assert float(loss.total) == pytest.approx(wanted, rel=1e-4)
    assert loss.count == 2


def test_a_saved_model_still_reads_in_windows(tmp_path):
    model = make("bert", Classification(keep="windows", max_tokens=12))
    model.save(tmp_path / "model")
    opened = load(tmp_path / "model")
    assert opened.task.keep == "windows"
    assert opened.predict([{"text": LONG}]) == model.predict([{"text": LONG}])


# what is said of cutting


@pytest.mark.parametrize("task", TASKS)
def test_no_answer_says_that_a_text_was_cut(task):
    assert "cut" not in make("bert", task).predict([{"text": LONG * 3}])[0]


def test_a_long_pair_is_cut_and_says_so():
    model = make("bert", Classification(keep="windows", max_tokens=12))
    (answer,) = model.predict([{"text": LONG, "text_pair": SHORT}])
    assert answer["cut"] == ["source"]


# training


def prepared(tmp_path, task: str, training=None, **playbook):
    for name, count in (("train", 12), ("valid", 4)):
        rows = [{"text": LONG if i % 2 else SHORT, "label": i % 2} for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if not (tmp_path / "bert").exists():
        make_encoder().save(tmp_path / "bert")
    overrides = {
        "data": {name: [str(tmp_path / f"{name}.jsonl")] for name in ("train", "valid")},
        "model": {"path": str(tmp_path / "bert")},
        "task": {"name": task, "keep": "windows", "max-tokens": 12, "dropout": 0.1},
        "training": {"batch-rows": 4, "epochs": 6, "precision": "fp32", "peak-lr": 1e-3}
        | (training or {}),
        "playbook": playbook,
    }
    return prepare(recipes.read(recipes.find("classify"), overrides))


def losses(tmp_path, task: str = "classification", training=None, **playbook) -> list[float]:
    found = prepared(tmp_path, task, training, **playbook)
    trainer = Trainer(
        found.model,
        found.examples.train,
        found.recipe.training,
        playbook=found.recipe.playbook,
        work_dir=tmp_path,
    )
    return [sum(trainer.take_step().losses.values()) for _ in range(trainer.total_steps)]


def test_the_data_report_says_that_nothing_was_cut(tmp_path):
    for split in prepared(tmp_path, "classification").examples.report.splits:
        assert [(side.truncated_rows, side.truncated_tokens) for side in split.sides] == [(0, 0)]


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("layout", ["sorted", "packed"])
def test_training_losses_are_finite_and_fall(tmp_path, task, layout):
    found = losses(tmp_path, task, {"layout": layout})
    assert np.isfinite(found).all()
    assert np.mean(found[-3:]) < np.mean(found[:3])


def test_gradients_of_a_batch_are_the_sums_of_those_of_its_rows():
    model = make("bert", Classification(keep="windows", max_tokens=12))
    rows = [{"text": text, "label": "b"} for text in (LONG, SHORT, LONG + " " + LONG)]
    examples = model.task.encode(rows, model.setting).examples
    found = []
    for batches in ([examples], [[example] for example in examples]):
        for part in batches:
            batch = model.task.collate([[example] for example in part], model.setting)
            model.task.losses(model.body, model.head, batch)[0].total.backward()
        weight = model.body.encoder.layers[0].attention.query.weight
        found.append(weight.grad.clone())
        model.body.zero_grad()
    assert float(found[0].abs().max()) > 1e-4
    assert torch.allclose(*found, atol=1e-5, rtol=1e-4)


def test_features_kept_of_frozen_layers_train_the_same(tmp_path):
    frozen = ["embeddings", "encoder"]
    kept = losses(tmp_path, freeze=frozen, cache_megabytes=100)
    again = losses(tmp_path, freeze=frozen, cache_megabytes=0)
    assert kept == pytest.approx(again, abs=2e-5)


def test_a_text_of_very_many_windows_is_read_at_as_many_places_and_said_to_be_cut():
    model = make("bert", Classification(keep="windows", max_tokens=12))
    texts = [{"text": "cat dog " * (5 * count)} for count in (32, 33, 400)]
    encoded = model.task.encode(texts, model.setting)
    assert [len(example.parts) for example in encoded.examples] == [32, 32, 32]
    assert ["cut" in answer for answer in model.predict(texts)] == [False, True, True]
    whole = model.tokenizer.encode_ids([texts[2]["text"]], bare=True)[0]
    # The first and the last words are among what is read.
    assert encoded.examples[2].parts[0].input_ids[1:-1] == whole[:10]
    assert encoded.examples[2].parts[-1].input_ids[1:-1] == whole[-10:]
