"""Masked language modeling: what is hidden, what is asked for, what it costs."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from encoders import TEXTS, make_encoder
from headway.data.batch import Batch, pack_rows, pad_rows
from headway.data.store import store_of_texts
from headway.errors import DataError, RequestError
from headway.layers.losses import IGNORE
from headway.layers.side import Side
from headway.tasks._model import Model
from headway.tasks._task import Draw, Setting
from headway.tasks._vocabulary import add_words
from headway.tasks.masked_lm import MaskedLm

ROWS = [{"text": "\n".join([first, second])} for first in TEXTS for second in TEXTS]
PAIRS = ("next-sentence", "sentence-order")
FIRST = Draw(seed=3, epoch=0)


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    """Give a model for each objective."""
    settings = {"none": {}, **{pair: {"pair": pair} for pair in PAIRS}}
    return {
        name: make_encoder(task=MaskedLm(max_tokens=24, mask_ratio=0.3, **more))
        for name, more in settings.items()
    }


def examples_of(model: Model, **changes):
    task = dataclasses.replace(model.task, **changes)
    return task, task.encode(ROWS, model.setting)


def collate(model: Model, rows=None, draw: Draw = FIRST, **changes) -> Batch:
    task, encoded = examples_of(model, **changes)
    return task.collate(pad_rows(encoded.examples) if rows is None else rows, model.setting, draw)


def losses_of(model: Model, batch: Batch) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return {loss.name: loss for loss in model.task.losses(model.body, model.head, batch)}


# Examples


def test_an_example_is_a_text_between_its_special_tokens(models):
    model = models["none"]
    tokenizer = model.tokenizer
    (example,) = model.task.encode([{"text": "the cat\nsat"}], model.setting).examples
    inner = tokenizer.encode_ids(["the cat", "sat"], bare=True)
    assert example.input_ids == [tokenizer.start_id, *inner[0], *inner[1], tokenizer.end_id]
    assert (example.second, example.label, example.target_ids) == (None, None, None)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_is_two_texts_each_with_its_end(pair, models):
    model = models[pair]
    tokenizer = model.tokenizer
    one, two = tokenizer.encode_ids(["the cat", "sat on the mat"], bare=True)
    (example,) = model.task.encode([{"text": "the cat\nsat on the mat"}], model.setting).examples
    if example.label:
        one, two = two, one
    expected = [tokenizer.start_id, *one, tokenizer.end_id, *two, tokenizer.end_id]
    assert example.input_ids == expected
    assert example.second == len(one) + 2


@pytest.mark.parametrize("pair", ["none", *PAIRS])
@pytest.mark.parametrize("limits", [(24, 64), (64, 24), (9, 10)])
def test_no_example_is_longer_than_task_and_model_allow(pair, limits, models):
    model = models[pair]
    setting = Setting(tokenizer=model.tokenizer, max_tokens=limits[1])
    task = dataclasses.replace(model.task, max_tokens=limits[0])
    encoded = task.encode([*ROWS, {"text": " ".join(TEXTS)}], setting)
    lengths = [len(example.input_ids) for example in encoded.examples]
    assert max(lengths) == min(limits)
    assert encoded.lengths.tolist() == [[length] for length in lengths]
    assert encoded.full_lengths["text"].tolist() == lengths
    assert encoded.limits == {"text": min(limits)}


def test_a_corpus_that_makes_no_example_is_an_error(models):
    for name, text in (("none", ""), ("next-sentence", "cat")):
        model = models[name]
        with pytest.raises(DataError, match="no text that an example could be made of"):
            model.task.encode([{"text": text}], model.setting)


@pytest.mark.parametrize("pair", ["none", *PAIRS])
def test_a_corpus_of_which_the_vocabulary_knows_nothing_is_an_error(pair, models):
    model = models[pair]
    text = "\u10d0\u10d1 \u10d2\u10d3\n\u10d4 \u10d5\u10d6"
    tokenizer = model.tokenizer
    assert set(tokenizer.encode_ids([text], bare=True)[0]) == {tokenizer.unknown_id}
    with pytest.raises(DataError, match=r"has 4 tokens, but the vocabulary knows none"):
        model.task.encode([{"text": text}], model.setting)
    # One word is enough.
    assert len(model.task.encode([{"text": f"{text} cat"}], model.setting).examples) > 0


@pytest.mark.parametrize("pair", PAIRS)
def test_pairs_are_drawn_anew_in_each_epoch_unless_masks_are_static(pair, models):
    model = models[pair]
    _, encoded = examples_of(model)
    first, again, other = (encoded.at(epoch).examples.windows for epoch in (0, 0, 1))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()
    _, static = examples_of(model, masking="static")
    assert static.at(1) is static


def test_texts_without_pairs_are_the_same_in_every_epoch(models):
    _, encoded = examples_of(models["none"])
    assert encoded.at(5) is encoded


def test_another_seed_makes_other_pairs(models):
    model = models["next-sentence"]
    store = store_of_texts([row["text"] for row in ROWS], model.tokenizer)
    plans = [
        model.task.encode_corpus(store, model.setting, seed=seed).examples.windows.tolist()
        for seed in (1, 1, 2)
    ]
    assert plans[0] == plans[1] != plans[2]


# Masks and labels


def test_labels_are_the_hidden_tokens_at_the_chosen_places_only(models):
    model = models["none"]
    _, encoded = examples_of(model)
    batch = collate(model)
    for number, example in enumerate(encoded.examples):
        original = torch.tensor(example.input_ids)
        length = len(original)
        labels, seen = batch.labels[number], batch.source.ids[number]
        asked = labels[:length] != IGNORE
        assert (labels[length:] == IGNORE).all()
        assert (labels[:length][asked] == original[asked]).all()
        assert (seen[:length][~asked] == original[~asked]).all()
        # The special tokens at both ends are never asked for.
        assert asked.sum() == max(1, round(0.3 * (length - 2)))
        assert not asked[0] and not asked[-1]
    hidden = batch.source.ids[batch.labels != IGNORE]
    assert (hidden == model.tokenizer.mask_id).float().mean() > 0.6


def test_padding_is_filled_with_the_pad_token_and_asks_for_nothing(models):
    model = models["none"]
    rows = [{"text": "cat"}, {"text": TEXTS[0]}]
    examples = model.task.encode(rows, model.setting).examples
    batch = model.task.collate(pad_rows(examples), model.setting)
    assert (batch.source.ids[0, 3:] == model.tokenizer.pad_id).all()
    assert (batch.labels[0, 3:] == IGNORE).all()
    assert batch.source.documents[0].tolist() == [1, 1, 1] + [0] * (batch.labels.shape[1] - 3)


def test_dynamic_masks_differ_from_epoch_to_epoch(models):
    model = models["none"]
    first, again, other = (collate(model, draw=Draw(3, epoch)) for epoch in (0, 0, 1))
    assert torch.equal(first.labels, again.labels)
    assert torch.equal(first.source.ids, again.source.ids)
    assert not torch.equal(first.labels, other.labels)


def test_static_masks_are_the_same_in_every_epoch(models):
    model = models["none"]
    first, other = (collate(model, draw=Draw(3, e), masking="static") for e in (0, 7))
    assert torch.equal(first.labels, other.labels)
    assert torch.equal(first.source.ids, other.source.ids)


@pytest.mark.parametrize("masking", ["static", "dynamic"])
def test_another_seed_draws_other_masks(masking, models):
    model = models["none"]
    first, other = (collate(model, draw=Draw(seed, 0), masking=masking) for seed in (3, 4))
    assert not torch.equal(first.labels, other.labels)


def test_masks_do_not_depend_on_the_batch(models):
    model = models["none"]
    _, encoded = examples_of(model)
    together = collate(model)
    for number, example in enumerate(encoded.examples):
        alone = collate(model, rows=[[example]])
        length = len(example.input_ids)
        assert torch.equal(alone.labels[0], together.labels[number, :length])
        assert torch.equal(alone.source.ids[0], together.source.ids[number, :length])


def test_equal_texts_are_hidden_each_in_its_own_way(models):
    model = models["none"]
    examples = model.task.encode([{"text": TEXTS[0]}] * 4, model.setting).examples
    batch = model.task.collate(pad_rows(examples), model.setting)
    assert len({tuple(row.tolist()) for row in batch.labels}) > 1


def test_whole_words_are_hidden_with_all_their_pieces(models):
    model = models["none"]
    tokenizer = model.tokenizer
    words = ["unhappy", "houses", "dogs", "catnap", "longer"]
    pieces = tokenizer.encode_ids(words, bare=True)
    assert any(len(word) > 1 for word in pieces)
    task = MaskedLm(whole_words=True, mask_ratio=0.4, max_tokens=64)
    for seed in range(10):
        examples = task.encode([{"text": " ".join(words)}], model.setting).examples
        batch = task.collate(pad_rows(examples), model.setting, Draw(seed=seed))
        asked = (batch.labels[0] != IGNORE).tolist()
        place = 1
        for word in pieces:
            assert len(set(asked[place : place + len(word)])) == 1
            place += len(word)
        assert any(asked)


def test_whole_words_end_with_their_line_in_byte_level_pieces():
    model = make_encoder("roberta")
    tokenizer = model.tokenizer
    task = MaskedLm(whole_words=True, mask_ratio=0.4, max_tokens=64)
    (example,) = task.encode([{"text": "the cat sat\nunhappy dogs ran"}], model.setting).examples
    ids = list(example.input_ids)[1:-1]
    assert tokenizer.decode(ids) == "the cat sat unhappy dogs ran"
    starts = [n for n, i in enumerate(ids) if n == 0 or not tokenizer.continues_word[i]]
    assert len(starts) == 6
    for seed in range(10):
        batch = task.collate(pad_rows([example]), model.setting, Draw(seed=seed))
        asked = (batch.labels[0, 1:-1] != IGNORE).tolist()
        for start, end in itertools.pairwise([*starts, len(ids)]):
            assert len(set(asked[start:end])) == 1


@pytest.mark.parametrize("pair", PAIRS)
def test_labels_and_segments_of_pairs_follow_the_examples(pair, models):
    model = models[pair]
    _, encoded = examples_of(model)
    batch = collate(model)
    examples = list(encoded.examples)
    assert batch.document_labels.tolist() == [example.label for example in examples]
    assert set(batch.document_labels.tolist()) == {0, 1}
    for number, example in enumerate(examples):
        expected = [0] * example.second + [1] * (len(example.input_ids) - example.second)
        types = batch.source.token_type_ids[number]
        assert types[: len(expected)].tolist() == expected
        assert not types[len(expected) :].any()


def test_a_text_alone_has_no_segments_and_no_class(models):
    batch = collate(models["none"])
    assert batch.source.token_type_ids is None
    assert batch.document_labels is None


# Losses


def test_only_hidden_tokens_go_through_the_head(models, monkeypatch):
    model = models["none"]
    batch, head = collate(model), model.body.masked_lm
    seen = []
    prepare = head.prepare
    monkeypatch.setattr(head, "prepare", lambda hidden: seen.append(hidden) or prepare(hidden))
    losses_of(model, batch)
    count = int((batch.labels != IGNORE).sum())
    assert 0 < count < batch.labels.numel() / 2
    assert [hidden.shape for hidden in seen] == [(count, model.body.config.hidden_size)]


@pytest.mark.parametrize("pair", ["none", *PAIRS])
def test_losses_are_those_of_all_logits(pair, models):
    model = models[pair]
    batch = collate(model)
    found = losses_of(model, batch)
    with torch.no_grad():
        hidden = model.body.encode(batch.source).hidden
        logits = model.body.masked_lm(hidden).flatten(0, 1)
        labels = batch.labels.flatten()
        expected = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
        right = (logits.argmax(-1) == labels).sum()
    assert found["masked_lm"].total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert found["masked_lm"].count == (labels != IGNORE).sum()
    assert found["masked_lm"].correct == right
    if pair == "none":
        assert found.keys() == {"masked_lm"}
        return
    with torch.no_grad():
        logits = model.head(torch.tanh(model.body.pooler.dense(hidden[:, 0])))
    classes = batch.document_labels
    expected = F.cross_entropy(logits, classes, reduction="sum")
    assert found["pair"].total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert found["pair"].count == len(classes)
    assert found["pair"].correct == (logits.argmax(-1) == classes).sum()


def test_the_loss_of_hidden_tokens_reaches_every_parameter(models):
    model = models["sentence-order"]
    batch = collate(model)
    terms = model.task.losses(model.body, model.head, batch)
    torch.stack([term.total for term in terms]).sum().backward()
    modules = torch.nn.ModuleList([model.body, model.head])
    for name, parameter in modules.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    modules.zero_grad()


@pytest.mark.parametrize(
    ("architecture", "pair"),
    [
        *((key, "none") for key in ("bert", "roberta", "albert", "distilbert")),
        ("bert", "next-sentence"),
        ("albert", "sentence-order"),
    ],
)
def test_packed_rows_cost_what_rows_of_their_own_cost(architecture, pair):
    model = make_encoder(architecture, task=MaskedLm(max_tokens=20, pair=pair))
    examples = model.task.encode(ROWS[:4], model.setting).examples
    rows = pack_rows(list(examples), row_tokens=60)
    assert max(map(len, rows)) > 1
    ordered = [example for row in rows for example in row]
    packed = model.task.collate(rows, model.setting)
    padded = model.task.collate(pad_rows(ordered), model.setting)
    assert len(packed.source.ids) < len(padded.source.ids)
    found, expected = losses_of(model, packed), losses_of(model, padded)
    assert found.keys() == expected.keys()
    for name, loss in expected.items():
        assert found[name].total.item() == pytest.approx(loss.total.item(), rel=1e-5)
        assert (found[name].count, found[name].correct) == (loss.count, loss.correct)


def test_packed_rows_keep_labels_beside_their_tokens(models):
    model = models["next-sentence"]
    _, encoded = examples_of(model)
    examples = list(encoded.examples)[:5]
    packed = collate(model, rows=[examples[:3], examples[3:]])
    padded = collate(model, rows=pad_rows(examples))
    for name in ("labels", "document_labels"):
        packed_values, padded_values = getattr(packed, name), getattr(padded, name)
        if name == "labels":
            packed_values = packed_values[packed.source.attention_mask]
            padded_values = padded_values[padded.source.attention_mask]
        assert torch.equal(packed_values, padded_values)
    for name in ("ids", "token_type_ids"):
        found, expected = (getattr(batch.source, name) for batch in (packed, padded))
        kept = found[packed.source.attention_mask], expected[padded.source.attention_mask]
        assert torch.equal(*kept)
    assert (packed.labels[~packed.source.attention_mask] == IGNORE).all()


def test_counts_are_of_hidden_tokens_and_pairs(models):
    model = models["next-sentence"]
    batch = collate(model)
    asked = int((batch.labels != IGNORE).sum())
    assert model.task.counts(batch) == {"masked_lm": asked, "pair": len(batch.source.ids)}
    assert models["none"].task.counts(collate(models["none"])).keys() == {"masked_lm"}


@pytest.fixture
def training(models):
    """Put the model that learns pairs into training for one test."""
    model = models["next-sentence"]
    model.body.train()
    yield model
    model.body.eval()


def test_right_answers_are_not_counted_in_training(training):
    assert losses_of(training, collate(training))["masked_lm"].correct is None


def test_right_pairs_are_not_counted_in_training(training):
    assert losses_of(training, collate(training))["pair"].correct is None


def test_a_batch_without_anything_hidden_costs_nothing(models):
    model = models["none"]
    batch = collate(model)
    batch = dataclasses.replace(batch, labels=torch.full_like(batch.labels, IGNORE))
    loss = losses_of(model, batch)["masked_lm"]
    assert (loss.total.item(), loss.count, loss.correct) == (0, 0, 0)


# Settings


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"mask_ratio": 0.0}, "mask_ratio is 0.0"),
        ({"mask_ratio": 1.0}, "mask_ratio is 1.0"),
        ({"mask_ratio": float("nan")}, "mask_ratio is nan"),
        ({"masking": "dinamic"}, "masking is 'dinamic'; did you mean 'dynamic'"),
        ({"pair": "sentence"}, "pair is 'sentence'; did you mean"),
        ({"max_tokens": 7}, "max_tokens is 7"),
        ({"num_best": 0}, "num_best is 0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_a_problem(settings, pattern):
    (problem,) = MaskedLm(**settings).check()
    assert pattern in problem


def test_good_settings_have_no_problem():
    for pair in ("none", *PAIRS):
        assert MaskedLm(pair=pair, masking="static", mask_ratio=0.99).check() == []


# Filling


def test_masks_are_filled_with_the_most_probable_tokens(models):
    model = models["none"]
    tokenizer = model.tokenizer
    text = "the [MASK] sat on  the [MASK]."
    (answer,) = model.predict([{"text": text}], num_best=3)
    item = tokenizer.encode(text, special=True)
    with torch.no_grad():
        hidden = model.body.encode(Side.padded([item.ids])).hidden[0]
        probs = model.body.masked_lm(hidden).softmax(-1)
    best = []
    for place in [i for i, token in enumerate(item.ids) if token == tokenizer.mask_id]:
        values, ids = probs[place].topk(3)
        found = answer["masks"][len(best)]
        assert [row["token"] for row in found] == [tokenizer.token_of(i) for i in ids.tolist()]
        assert [row["probability"] for row in found] == pytest.approx(values.tolist(), abs=1e-6)
        best.append(found[0]["token"])
    assert len(answer["masks"]) == len(best) == 2
    # What goes on with a word stands right behind it.
    one, two = (x[2:] if x.startswith("##") else f" {x}" for x in best)
    assert answer["prediction"] == f"the{one} sat on  the{two}."
    assert "cut" not in answer


def test_a_text_without_masks_comes_back_as_it_is(models):
    text = "the  cat\tSAT"
    (answer,) = models["none"].predict([{"text": text}])
    assert answer == {"prediction": text, "masks": []}


def test_more_fillings_than_tokens_give_all_tokens(models):
    model = models["none"]
    (answer,) = model.predict([{"text": "a [MASK]"}], num_best=10_000)
    (best,) = answer["masks"]
    assert len(best) == model.tokenizer.vocab_size
    total = sum(row["probability"] for row in best)
    assert total == pytest.approx(1, abs=1e-4)


def test_answers_stand_in_the_order_of_the_records(models):
    texts = ["a [MASK]", " ".join([*["the cat"] * 8, "[MASK]"]), "[MASK] [MASK] cat", "dog"]
    answers = models["none"].predict([{"text": text} for text in texts])
    assert [len(answer["masks"]) for answer in answers] == [1, 1, 2, 0]
    for text, answer in zip(texts, answers, strict=True):
        assert models["none"].predict([{"text": text}])[0]["prediction"] == answer["prediction"]


def test_a_text_longer_than_the_model_reads_is_filled_as_far_as_it_goes(models):
    model = models["none"]
    text = " ".join(["[MASK]", *["cat"] * 100, "[MASK]"])
    (answer,) = model.predict([{"text": text}])
    assert answer["cut"] == ["source"]
    assert len(answer["masks"]) == 1
    assert answer["prediction"] == text.replace("[MASK]", answer["masks"][0][0]["token"], 1)


def test_the_space_before_a_mask_of_roberta_stays():
    # A token brings its space, or has none: "the cat", "thecat".
    (answer,) = make_encoder("roberta").predict([{"text": "the <mask> sat"}])
    assert answer["prediction"] == f"the{answer['masks'][0][0]['token']} sat"
    tokens = [row["token"] for row in answer["masks"][0]]
    assert len(tokens) == len(set(tokens))


def test_an_added_word_fills_a_mask_with_the_space_before_it():
    model = make_encoder("roberta")
    add_words(model, ["Covid"])
    with torch.no_grad():
        model.body.masked_lm.output.bias[model.tokenizer.id_of("Covid")] = 100
    texts = ["the <mask> sat", "<mask> sat", "(<mask>)"]
    answers = model.predict([{"text": text} for text in texts])
    found = [answer["prediction"] for answer in answers]
    assert found == ["the Covid sat", "Covid sat", "(Covid)"]


@pytest.mark.parametrize(
    ("pair", "names"),
    [("next-sentence", ("next", "not next")), ("sentence-order", ("in order", "swapped"))],
)
def test_two_texts_are_answered_by_the_pair_head(pair, names, models):
    model = models[pair]
    tokenizer = model.tokenizer
    row = {"text": "the cat sat", "text_pair": "a bird [MASK] sings"}
    (answer,) = model.predict([row])
    one, two = tokenizer.encode_ids([row["text"], row["text_pair"]], bare=True)
    ids = [tokenizer.start_id, *one, tokenizer.end_id, *two, tokenizer.end_id]
    types = torch.tensor([[0] * (len(one) + 2) + [1] * (len(two) + 1)])
    side = dataclasses.replace(Side.padded([ids]), token_type_ids=types)
    with torch.no_grad():
        hidden = model.body.encode(side).hidden
        probs = model.head(torch.tanh(model.body.pooler.dense(hidden[:, 0]))).softmax(-1)[0]
    assert list(answer) == ["prediction", "probabilities"]
    assert tuple(answer["probabilities"]) == names
    assert list(answer["probabilities"].values()) == pytest.approx(probs.tolist(), abs=2e-6)
    assert answer["prediction"] == names[int(probs.argmax())]


def test_masks_and_pairs_may_come_together(models):
    rows = [
        {"text": "the [MASK]"},
        {"text": "the cat", "text_pair": "a bird"},
        {"text": "a [MASK] [MASK]", "text_pair": None},
        {"text": "a bird", "text_pair": ""},
    ]
    model = models["next-sentence"]
    together = model.predict(rows)
    assert ["masks" in answer for answer in together] == [True, False, True, False]
    for row, answer in zip(rows, together, strict=True):
        assert model.predict([row])[0]["prediction"] == answer["prediction"]


@pytest.mark.parametrize(("first", "second"), [(80, 5), (5, 80), (80, 80), (31, 31)])
def test_a_pair_longer_than_the_model_reads_loses_its_ends_the_longer_one_first(
    first, second, models
):
    model = models["next-sentence"]
    # The longer one gives way first; of two of a length the second has a token less.
    half = (64 - 3) - (64 - 3) // 2
    long = {"text": " ".join(["cat"] * first), "text_pair": " ".join(["dog"] * second)}
    kept_first = max(half, 61 - second) if first > half else first
    cut = {
        "text": " ".join(["cat"] * kept_first),
        "text_pair": " ".join(["dog"] * (61 - kept_first)),
    }
    found, expected = model.predict([long, cut])
    assert found.pop("cut") == ["source"]
    assert found == expected


def test_a_model_without_a_pair_head_tells_no_pairs_apart(models):
    with pytest.raises(RequestError, match="no head that tells pairs of texts apart"):
        models["none"].predict([{"text": "the cat", "text_pair": "a bird"}])


@pytest.mark.parametrize("value", [5, ["a"], "\udcff"])
def test_a_second_text_that_is_no_text_is_refused(value, models):
    with pytest.raises(RequestError, match="text_pair"):
        models["next-sentence"].predict([{"text": "the cat", "text_pair": value}])


def test_a_model_without_the_head_fills_nothing():
    model = make_encoder(kind="body")
    with pytest.raises(RequestError, match="no masked-LM head"):
        model.predict([{"text": "a [MASK]"}])


def test_progress_reaches_the_number_of_records(models):
    seen = []
    models["none"].predict([{"text": "a [MASK]"}] * 300, progress=seen.append)
    assert len(seen) > 1
    assert [state.total for state in seen] == [300] * len(seen)
    assert seen[-1].done == 300
    assert np.diff([state.done for state in seen]).min() > 0


def test_a_training_begins_with_short_examples():
    task = MaskedLm(max_tokens=32, short_tokens=8, short_epochs=2)
    model = make_encoder(task=task)
    store = store_of_texts(["the cat sat on the mat " * 12] * 4, model.tokenizer)
    training = task.encode_corpus(store, model.setting, is_training=True)
    assert [training.at(epoch).lengths.max() for epoch in (0, 1, 2, 5)] == [8, 8, 32, 32]
    # What it is scored on has one length throughout, and nothing is left out of any pass.
    scored = task.encode_corpus(store, model.setting)
    assert scored.lengths.max() == scored.at(1).lengths.max() == 32
    counts = [sum(len(e.input_ids) - 2 for e in training.at(k).examples) for k in (0, 2)]
    assert counts[0] == counts[1] == len(store.ids)


@pytest.mark.parametrize("short", [7, 33])
def test_short_examples_must_be_shorter(short):
    assert "short_tokens" in MaskedLm(max_tokens=32, short_tokens=short).check()[0]
