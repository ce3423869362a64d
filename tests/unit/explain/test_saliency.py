"""What each token counted: sums that come out, attention, and models that cannot be explained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from encoders import make_encoder
from headway.errors import RequestError
from headway.explain.saliency import explain
from headway.files.folder import make_body
from headway.layers.side import Side
from headway.sections import Training
from headway.tasks._model import Model
from headway.tasks.choice import Choice
from headway.tasks.classification import Classification
from headway.tasks.regression import Regression
from headway.tasks.tagging import Tagging
from headway.tasks.word_regression import WordRegression
from headway.train.loop import Trainer

FAMILIES = ("bert", "roberta", "albert", "distilbert")
LABELS = ("a", "b", "c")
ROW = {"text": "the unhappy cat sat on the mat"}
PAIR = {"text": "the cat sat", "text_pair": "a bird sings"}
TASKS = [
    pytest.param(Classification(), id="classes"),
    pytest.param(Classification(pooling="mean"), id="mean"),
    pytest.param(Classification(multi_label=True), id="several"),
    pytest.param(Regression(), id="number"),
]


def make(architecture: str, task, *, noise: float = 0.1) -> Model:
    labels = LABELS if isinstance(task, Classification | Tagging) else ()
    base = make_encoder(architecture)
    torch.manual_seed(3)
    body = make_body(architecture, base.body.config, task.head).eval()
    head = task.make_head(body, labels).eval()
    with torch.no_grad():
        for parameter in [*body.parameters(), *head.parameters()]:
            parameter.add_(torch.randn_like(parameter) * noise)
    return Model(
        body,
        base.tokenizer,
        task,
        task_name=type(task).__name__.lower(),
        architecture=architecture,
        head=head,
        labels=labels,
    )


def logits_of(model: Model, ids: list[int], *, second: int | None = None) -> np.ndarray:
    side = Side.padded([ids])
    if second is not None:
        types = torch.tensor([[int(place >= second) for place in range(len(ids))]])
        side = Side(
            documents=side.documents,
            positions=side.positions,
            input_ids=side.input_ids,
            token_type_ids=types,
        )
    with torch.no_grad():
        return model.head(model.body, model.body.encode(side))[0].numpy()


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("task", TASKS)
def test_what_the_tokens_count_sums_up_to_the_difference(architecture, task):
    found = explain(make(architecture, task), ROW, num_steps=200)
    assert abs(found.difference) > 1e-3
    reach = sum(abs(value) for value in found.gradients)
    assert sum(found.gradients) == pytest.approx(found.difference, abs=0.02 * reach)


def test_more_steps_come_nearer_to_the_difference():
    model = make("bert", Classification())
    errors = []
    for count in (1, 400):
        found = explain(model, ROW, num_steps=count)
        errors.append(abs(sum(found.gradients) - found.difference))
    assert errors[1] < 1e-3 < errors[0]


@pytest.mark.parametrize("row", [ROW, PAIR], ids=["one", "pair"])
def test_the_difference_is_that_to_a_text_of_padding(row):
    model = make("bert", Classification())
    (example,) = model.task.encode([row], model.setting).examples
    ids = example.input_ids
    special = model.tokenizer.is_special
    empty = [token if special[token] else model.tokenizer.pad_id for token in ids]
    full, none = (logits_of(model, x, second=example.second) for x in (ids, empty))
    best = int(full.argmax())
    assert explain(model, row).difference == pytest.approx(float(full[best] - none[best]), abs=1e-5)


def test_special_tokens_count_nothing():
    found = explain(make("bert", Classification()), PAIR)
    counts = dict(zip(enumerate(found.tokens), found.gradients, strict=True))
    special = [value for (_, token), value in counts.items() if token in ("[CLS]", "[SEP]")]
    assert special == [0.0, 0.0, 0.0]


def test_the_tokens_are_those_of_the_text():
    found = explain(make("bert", Classification()), ROW)
    assert found.tokens[:3] == ["[CLS]", "the", "un"]
    assert found.tokens[-2:] == ["mat", "[SEP]"]
    assert len(found.tokens) == len(found.gradients) == len(found.attention)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_attention_sums_to_one(architecture):
    found = explain(make(architecture, Regression()), ROW)
    assert sum(found.attention) == pytest.approx(1, abs=1e-4)
    assert min(found.attention) >= 0
    assert np.std(found.attention) > 1e-4


def test_attention_is_that_of_the_first_token_in_the_last_layer(tmp_path):
    transformers = pytest.importorskip("transformers")
    model = make("bert", Classification())
    model.save(tmp_path / "model")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "model", attn_implementation="eager"
    )
    ids = torch.tensor([model.tokenizer.encode(ROW["text"]).ids])
    with torch.no_grad():
        maps = theirs.eval()(ids, output_attentions=True).attentions
    wanted = maps[-1][0].mean(0)[0].tolist()
    assert explain(model, ROW).attention == pytest.approx(wanted, abs=2e-6)


def test_a_label_changes_nothing():
    model = make("bert", Classification())
    assert explain(model, {**ROW, "label": "c"}) == explain(model, ROW)


def test_explaining_leaves_no_gradients_and_the_same_answers():
    model = make("bert", Classification())
    before = model.predict([ROW])
    explain(model, ROW)
    assert all(parameter.grad is None for parameter in model.body.parameters())
    assert model.predict([ROW]) == before


def test_the_word_that_decides_counts_most():
    model = make("bert", Classification(dropout=0.0), noise=0.0)
    model.labels = ("no", "yes")
    model.head = model.task.make_head(model.body, model.labels)
    generator = np.random.default_rng(0)
    others = ("the", "cat", "sat", "on", "mat", "and", "dog", "ran", "to")
    rows = []
    for number in range(96):
        words = list(generator.choice(others, size=4))
        words.insert(int(generator.integers(5)), "river" if number % 2 else "tree")
        rows.append({"text": " ".join(words), "label": ("no", "yes")[number % 2]})
    options = Training(
        steps=60, batch_rows=16, batch_tokens=None, peak_lr=2e-3, warmup_steps=5, precision="fp32"
    )
    trainer = Trainer(model, model.task.encode(rows, model.setting), options)
    for _ in range(trainer.total_steps):
        trainer.take_step()
    said = [answer["prediction"] for answer in model.predict(rows)]
    right = [name == row["label"] for name, row in zip(said, rows, strict=True)]
    assert np.mean(right) > 0.95
    hits = 0
    for row in rows[:12]:
        found = explain(model, row)
        hits += found.tokens[int(np.argmax(found.gradients))] in ("river", "tree")
    assert hits >= 11


# what is refused


@pytest.mark.parametrize("task", [Tagging(), WordRegression()])
def test_models_of_words_are_refused(task):
    with pytest.raises(RequestError, match="cannot be explained yet"):
        explain(make("bert", task), {"words": ["the", "cat"]})


def test_a_masked_lm_is_refused():
    with pytest.raises(RequestError, match="cannot be explained yet"):
        explain(make_encoder(), ROW)


def test_a_recurrent_network_is_refused():
    with pytest.raises(RequestError, match="only Transformers"):
        explain(make("lstm", Classification()), ROW)


def test_a_text_in_windows_is_refused_and_a_short_one_is_not():
    model = make("bert", Classification(keep="windows", max_tokens=12))
    with pytest.raises(RequestError, match="several windows"):
        explain(model, {"text": ROW["text"] * 4})
    assert explain(model, {"text": "the cat"}).tokens == ["[CLS]", "the", "cat", "[SEP]"]


def test_a_model_that_chooses_is_refused_as_one():
    row = {"text": "the cat", "choices": ["sat", "ran"]}
    with pytest.raises(RequestError, match="cannot be explained yet"):
        explain(make("bert", Choice()), row)


def test_a_record_without_a_text_is_refused():
    with pytest.raises(RequestError):
        explain(make("bert", Classification()), {})
