"""What a decoder says of texts: its marks, its auxiliary loss, both orders, published heads."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from decoders import make_decoder, make_tokenizer, shake
from encoders import make_encoder
from headway import recipe as recipes
from headway import registry
from headway.errors import ConfigError
from headway.files.folder import make_body
from headway.tasks._load import load
from headway.tasks._model import Model, make_task
from headway.tasks._vocabulary import add_marks
from headway.text.specials import GPT_MARKS
from headway.text.tokenizer import Tokenizer
from headway.train.run import train

ROWS = [
    {"text": "The sea", "text_pair": "calm", "label": "a"},
    {"text": "A boat lay on the sand", "text_pair": "Two boats", "label": "b"},
    {"text": "coffee", "label": "a"},
]


def make(task_name: str = "classification", *, marked: bool = True, **settings) -> Model:
    task = make_task(task_name, {"dropout": 0.0, **settings})
    tokenizer = Tokenizer.from_json(make_tokenizer().to_json())
    tiny = registry.load_class("models", "gpt2").tiny()
    config = dataclasses.replace(
        tiny, vocab_size=tokenizer.vocab_size, eos_token_id=tokenizer.end_id
    )
    torch.manual_seed(1)
    body = make_body("gpt2", config, task.head).eval()
    labels = task.find_labels(ROWS)
    model = Model(body, tokenizer, task, task_name=task_name, architecture="gpt2", labels=labels)
    if marked:
        add_marks(model)
    shake(model.body)
    model.head = task.make_head(model.body, labels).eval()
    return model


def batch_of(model: Model, rows=ROWS, *, packed: bool = False):
    examples = model.task.encode(rows, model.setting).examples
    return model.task.collate(
        [list(examples)] if packed else [[e] for e in examples], model.setting
    )


def test_texts_stand_between_start_and_extract_and_pairs_have_a_delimiter():
    model = make()
    start, delimiter, extract = (model.tokenizer.find(name) for name in GPT_MARKS)
    sea, calm = model.tokenizer.encode_ids(["The sea", "calm"], bare=True)
    first, _, last = model.task.encode(ROWS, model.setting).examples
    assert first.input_ids == [start, *sea, delimiter, *calm, extract]
    assert last.input_ids[0] == start and last.input_ids[-1] == extract
    assert model.body.config.vocab_size == model.tokenizer.vocab_size


def test_the_state_of_the_extract_token_is_what_counts():
    model = make()
    batch = batch_of(model)
    memory = model.body.encode(batch.source)
    pooled = model.body.pooler(memory.hidden, memory.documents)
    ends = batch.source.attention_mask.sum(1) - 1
    assert torch.equal(pooled, memory.hidden[torch.arange(len(ROWS)), ends])


@pytest.mark.parametrize("packed", [False, True])
def test_the_auxiliary_loss_is_that_of_the_next_tokens_of_each_text(packed):
    model = make(next_word_weight=0.5)
    batch = batch_of(model, packed=packed)
    losses = {loss.name: loss for loss in model.task.losses(model.body, model.head, batch)}
    expected = count = 0.0
    for example in model.task.encode(ROWS, model.setting).examples:
        alone = model.task.collate([[example]], model.setting)
        hidden = model.body.encode(alone.source).hidden[0]
        logits = hidden @ model.body.embeddings.token.weight.T
        wanted = torch.tensor(example.input_ids[1:])
        expected += float(F.cross_entropy(logits[:-1], wanted, reduction="sum").detach())
        count += len(wanted)
    assert losses["next_word"].weight == 0.5
    assert losses["next_word"].count == count == model.task.counts(batch)["next_word"]
    assert float(losses["next_word"].total) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["classification", "regression", "choice"])
def test_an_encoder_learns_no_next_words(name):
    task = make_task(name, {"next_word_weight": 0.5})
    with pytest.raises(ConfigError, match="next-word-weight"):
        task.make_head(make_encoder("bert").body, ("a", "b"))


def test_in_both_orders_a_pair_and_its_turn_get_the_same_answer():
    model = make(both_orders=True)
    row = {"text": "The sea", "text_pair": "A boat lay on the sand"}
    turned = {"text": row["text_pair"], "text_pair": row["text"]}
    one, other = model.predict([row, turned])
    assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)
    plain = make()
    one, other = plain.predict([row, turned])
    assert one["probabilities"] != pytest.approx(other["probabilities"], abs=1e-4)
    # Nothing was cut: twice a pair may be longer than an example.
    length = len(model.task.encode([row], model.setting).examples[0].parts[0].input_ids)
    tight = make(both_orders=True, max_tokens=length + 1)
    found = tight.task.encode([row], tight.setting)
    assert not any(found.cut)
    assert found.full_lengths["text"].max() <= found.limits["text"]
    # A text alone has one order.
    assert model.predict([ROWS[2]])[0] == plain.predict([ROWS[2]])[0]


def test_a_published_classifier_answers_as_in_transformers(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    model = make(marked=False)
    model.save(tmp_path / "ours")
    (tmp_path / "ours" / "headway.json").unlink()
    (tmp_path / "ours" / "manifest.json").unlink()
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    loaded = load(tmp_path / "ours")
    for row in ROWS:
        ids = tokenizer(row["text"], return_tensors="pt")["input_ids"]
        with torch.no_grad():
            probs = theirs.eval()(input_ids=ids).logits.softmax(-1)[0].tolist()
        (answer,) = loaded.predict([{"text": row["text"]}])
        found = list(answer["probabilities"].values())
        assert found == pytest.approx(probs, abs=1e-5)


@pytest.mark.parametrize("more", [{}, {"task.next-word-weight": 0.5}])
def test_a_decoder_is_fine_tuned_saved_and_opened(tmp_path: Path, more):
    make_decoder("gpt2").save(tmp_path / "base")
    rows = [{"text": word, "label": word[-1]} for word in ("sea", "boats", "calm", "sand") * 6]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = {
        "data": {"train": str(tmp_path / "rows.jsonl"), "valid": str(tmp_path / "rows.jsonl")},
        "model": {"path": str(tmp_path / "base")},
        "task": {name.partition(".")[2]: value for name, value in more.items()},
        "training": {"epochs": 30, "peak-lr": 1e-2, "precision": "fp32"},
    }
    list(train(recipes.read(recipes.find("classify"), flags), tmp_path / "run"))
    model = load(tmp_path / "run" / "model")
    assert all(model.tokenizer.find(name) is not None for name in GPT_MARKS)
    said = [answer["prediction"] for answer in model.predict(rows)]
    assert sum(s == row["label"] for s, row in zip(said, rows, strict=True)) >= 20
    published = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert published["architectures"] == ["GPT2ForSequenceClassification"]


def test_a_text_of_nothing_is_answered_with_marks_and_without():
    rows = [{"text": ""}, {"text": "The sea"}]
    for model in (make(), make(marked=False)):
        together = model.predict(rows)
        assert [model.predict([row])[0] for row in rows] == together


def test_the_loss_that_is_reported_is_the_one_that_is_trained(tmp_path: Path):
    from headway.train.evaluate import evaluate

    model = make(next_word_weight=0.25)
    found = evaluate(model, ROWS, predicting=False)
    wanted = found.losses["class"] + 0.25 * found.losses["next_word"]
    assert found.all_scores["loss"] == pytest.approx(wanted)
