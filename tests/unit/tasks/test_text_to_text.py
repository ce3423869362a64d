"""What is said of texts that are written for texts: prefixes, cuts, gaps, leads."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from headway.errors import ConfigError
from headway.models.t5 import T5
from headway.tasks._model import Model, make_task
from headway.tasks._task import Setting
from headway.text.specials import SENTINELS, SPECIALS
from headway.text.train import train_tokenizer

ARTICLE = (
    'It rained. "Will it stop?" she asked. Dr. No said 3.5 mm fell! the end is near. Then sun.'
)


def make(task_name: str, **settings) -> Model:
    task = make_task(task_name, settings)
    texts = [ARTICLE, "red blue black white", "a b c d e f g h"]
    specials = SPECIALS["t5"]
    tokenizer = train_tokenizer("word", texts, vocab_size=200, specials=specials)
    config = dataclasses.replace(T5.tiny(), vocab_size=tokenizer.vocab_size)
    torch.manual_seed(0)
    return Model(T5(config).eval(), tokenizer, task, task_name=task_name, architecture="t5")


def test_a_prefix_stands_before_sources_and_not_before_targets():
    model = make("summarization", prefix="red ")
    row = {"text": "a b", "summary": "c"}
    plain = make("summarization").task.encode([row], model.setting).examples[0]
    found = model.task.encode([row], model.setting).examples[0]
    assert found.input_ids == [*model.tokenizer.encode_ids(["red"], bare=True)[0], *plain.input_ids]
    assert found.target_ids == plain.target_ids


def test_long_articles_are_cut_counted_and_the_answer_says_so():
    model = make("summarization", max_source_tokens=4, max_target_tokens=3)
    rows = [{"text": "a b c d e f", "summary": "g"}, {"text": "a b", "summary": "h"}]
    encoded = model.task.encode(rows, model.setting)
    assert encoded.full_lengths["text"].tolist() == [7, 3]
    assert encoded.lengths[:, 0].tolist() == [4, 3]
    assert encoded.examples[0].input_ids[-1] == model.tokenizer.end_id
    answers = model.predict(rows)
    assert "text" not in answers[1].get("cut", [])
    assert "source" in answers[0]["cut"]


@pytest.mark.parametrize(
    ("count", "lead"), [(1, "It rained."), (2, 'It rained. "Will it stop?" she asked.')]
)
def test_the_baseline_takes_the_first_sentences(count, lead):
    task = make_task("summarization", {"lead_sentences": count})
    (answer,) = task.baseline([], [{"text": ARTICLE}]).predictions
    assert answer["prediction"] == lead


def test_of_several_summaries_the_first_is_learned_and_the_best_counts():
    model = make("summarization")
    row = {"text": "a b", "summary": ["c d", "e f"]}
    found = model.task.encode([row], model.setting).examples[0]
    assert found.target_ids == model.tokenizer.encode_ids(["c d"])[0]
    scores = model.task.statistics([{"prediction": "e f"}], [row])
    assert [item.value() for item in scores] == [100.0, 100.0, 100.0]
    assert [item.name for item in scores] == ["rouge1", "rouge2", "rougeL"]


@pytest.mark.parametrize("summary", [3, [], [""], "  ", ["a", 4]])
def test_a_summary_that_is_no_text_is_named(summary):
    task = make_task("summarization", {})
    assert "summary" in task.check_row({"text": "a", "summary": summary}, None)
    assert task.check_row({"text": "a", "summary": ["b"]}, None) is None


def test_windows_have_the_lengths_that_were_planned():
    model = make("span_corruption", max_tokens=12)
    rows = [{"text": "a b c d e f g h a b c d e f g h a"}, {"text": "red blue black"}]
    encoded = model.task.encode(rows, model.setting)
    batch = model.task.collate([[e] for e in encoded.examples], model.setting)
    assert batch.source.attention_mask.sum(1).tolist() == encoded.lengths[:, 0].tolist()
    assert batch.target.attention_mask.sum(1).tolist() == encoded.lengths[:, 1].tolist()


def test_gaps_are_filled_with_what_follows_their_sentinels():
    model = make("span_corruption")
    first, second = (model.tokenizer.find(name) for name in SENTINELS[:2])
    red, blue = model.tokenizer.encode_ids(["red blue"], bare=True)[0]
    from headway.decode.beam import Hypothesis

    found = Hypothesis([first, red, blue, second, blue], -1.0, -0.2)
    row = {"text": "a <extra_id_0> b <extra_id_1>."}
    answer = model.task.to_answer([found], row, model.setting)
    assert answer["prediction"] == "a red blue b blue."
    assert answer["spans"] == {"<extra_id_0>": "red blue", "<extra_id_1>": "blue"}


def test_a_vocabulary_without_sentinels_is_named():
    model = make("span_corruption")
    plain = train_tokenizer("word", ["a b c"], vocab_size=20)
    setting = Setting(tokenizer=plain, max_tokens=64)
    with pytest.raises(ConfigError, match="<extra_id_0>"):
        model.task.encode([{"text": "a b c a b c"}], setting)


def test_more_spans_than_sentinels_are_refused():
    with pytest.raises(ConfigError, match="sentinels"):
        make_task("span_corruption", {"max_tokens": 4000})
