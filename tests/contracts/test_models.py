"""Every promise for every file in models/: a new architecture has nothing to add here."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from bodies import (
    CASES,
    KEYS,
    batch_of,
    cases_of,
    config_of,
    examples,
    logits_of,
    make,
    scored,
    tolerance,
)
from headway import registry
from headway.data.batch import pad_rows
from headway.files import folder
from headway.files.rename import match_ours, match_published
from headway.layers.losses import IGNORE, linear_cross_entropy
from headway.layers.packed import pack
from headway.layers.side import Side

WRITERS = cases_of("encoder_decoder")
DECODERS = cases_of("decoder")
# The kind of head that scores words.
SCORERS = {"encoder": "masked_lm", "decoder": "causal_lm", "encoder_decoder": "translation"}


@pytest.mark.parametrize(("key", "config"), CASES)
def test_padding_and_neighbours_change_nothing(key, config):
    body, rows = make(key, config), examples(config)
    together = logits_of(body, batch_of(config, pad_rows(rows)))
    for number, example in enumerate(rows):
        alone = logits_of(body, batch_of(config, [[example]]))
        length = len(example.target_ids or example.input_ids)
        assert (together[number, :length] - alone[0]).abs().max() <= tolerance(alone)


@pytest.mark.parametrize(("key", "config"), CASES)
def test_packing_changes_nothing(key, config):
    body, rows = make(key, config), examples(config)
    packed = batch_of(config, [rows[:3], rows[3:4], rows[4:]])
    logits = logits_of(body, packed)
    for row, part in enumerate([rows[:3], rows[3:4], rows[4:]]):
        for number, example in enumerate(part, 1):
            alone = logits_of(body, batch_of(config, [[example]]))
            found = logits[row][scored(packed).documents[row] == number]
            assert (found - alone[0]).abs().max() <= tolerance(alone)


@pytest.mark.parametrize(("key", "config"), WRITERS)
def test_step_by_step_gives_what_the_whole_gives(key, config):
    body, rows = make(key, config), examples(config)
    batch = batch_of(config, pad_rows(rows))
    whole = logits_of(body, batch)
    steps = batch.target.ids.shape[1]
    state = body.start(body.encode(batch.source), num_beams=1, max_steps=steps)
    for step in range(steps):
        logits = body.logits(body.step(batch.target.ids[:, step : step + 1], state))[:, 0]
        real = batch.target.documents[:, step] > 0
        assert (logits - whole[:, step])[real].abs().max() <= tolerance(whole)


@pytest.mark.parametrize(("key", "config"), WRITERS)
def test_a_later_token_leaves_earlier_outputs_alone(key, config):
    body, rows = make(key, config), examples(config)
    batch = batch_of(config, pad_rows(rows))
    before = logits_of(body, batch)
    changed = batch.target.ids.clone()
    changed[:, -1] = 2
    target = dataclasses.replace(batch.target, input_ids=changed)
    after = body.logits(body.decode(target, body.encode(batch.source)))
    assert torch.equal(before[:, :-1], after[:, :-1])


@pytest.mark.parametrize("num_prompt", [0, 1, 3])
@pytest.mark.parametrize(("key", "config"), DECODERS)
def test_prompt_and_steps_give_what_the_whole_gives(key, config, num_prompt):
    body, rows = make(key, config), examples(config)
    batch = batch_of(config, pad_rows(rows))
    whole = logits_of(body, batch)
    # Rows of different lengths: of each all but the last so many tokens are its prompt.
    prompts = [example.input_ids[:num_prompt] for example in rows]
    steps = max(len(e.input_ids) for e in rows) - num_prompt
    state = body.start(Side.padded(prompts), num_beams=1, max_steps=steps)
    for step in range(steps):
        places = [min(num_prompt + step, len(e.input_ids) - 1) for e in rows]
        newest = [e.input_ids[place] for e, place in zip(rows, places, strict=True)]
        logits = body.logits(body.step(torch.tensor(newest)[:, None], state))[:, 0]
        for row, example in enumerate(rows):
            if len(prompts[row]) + step < len(example.input_ids):
                expected = whole[row, len(prompts[row]) + step]
                assert (logits[row] - expected).abs().max() <= tolerance(whole)


@pytest.mark.parametrize(("key", "config"), DECODERS)
def test_a_later_token_leaves_earlier_outputs_of_a_decoder_alone(key, config):
    body, rows = make(key, config), examples(config)
    batch = batch_of(config, pad_rows(rows))
    before = logits_of(body, batch)
    changed = batch.source.ids.clone()
    changed[:, -1] = 2
    source = dataclasses.replace(batch.source, input_ids=changed)
    after = logits_of(body, dataclasses.replace(batch, source=source))
    real = batch.source.attention_mask[:, :-1]
    assert torch.equal(before[:, :-1][real], after[:, :-1][real])


@pytest.mark.parametrize(("key", "config"), CASES)
def test_the_gradient_reaches_every_parameter(key, config):
    body = make(key, config).train()
    batch = batch_of(config, pad_rows(examples(config)))
    if body.kind == "encoder":
        memory = body.encode(batch.source)
        pooled = body.pooler(memory.hidden, memory.documents)
        # Its square: the states of a norm add up to nothing.
        (body.masked_lm(memory.hidden).square().sum() + pooled.square().sum()).backward()
    elif body.kind == "decoder":
        logits_of(body, batch)[batch.source.attention_mask].square().sum().backward()
    else:
        hidden = body.decode(batch.target, body.encode(batch.source)).flatten(0, 1)
        labels = batch.labels.flatten()
        real = labels != IGNORE
        output = body.output
        loss = linear_cross_entropy(hidden[real], output.weight, output.bias, labels[real])
        loss.total.backward()
    silent = [
        name
        for name, parameter in body.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    assert silent == []


@pytest.mark.parametrize(("key", "config"), CASES)
def test_saving_and_loading_gives_the_same_model(key, config, tmp_path):
    body = make(key, config)
    kind = SCORERS[body.kind]
    if body.kind == "encoder":
        body.pooler = None
    folder.write_model(tmp_path, key, body, kind=kind)
    found = folder.read_model(tmp_path)
    loaded = found.body
    assert (found.key, found.kind) == (key, kind)
    assert loaded.config == config
    parameters = dict(loaded.named_parameters())
    for name, value in body.named_parameters():
        assert torch.equal(value, parameters[name]), name
    batch = batch_of(config, pad_rows(examples(config)))
    expected = logits_of(body, batch)
    # Tensors of a file lie at other addresses, where sums may round otherwise.
    assert (expected - logits_of(loaded, batch)).abs().max() <= tolerance(expected)


@pytest.mark.parametrize(("key", "config"), CASES)
def test_published_names_are_one_to_one(key, config):
    layout = folder.pick_layout(key, config)
    for kind in layout.heads:
        with torch.device("meta"):
            body = folder.make_body(key, config, kind)
        names = [name for name, _ in body.named_parameters()]
        published = [pair.published for pair in match_ours(layout.table(kind), names)]
        assert len(published) == len(set(published))
        pairs, unexpected = match_published(layout.table(kind), published)
        assert unexpected == []
        assert {name for pair in pairs for name in pair.ours} == set(names)


@pytest.mark.parametrize(("key", "config"), CASES)
def test_it_runs_under_autocast_and_packed_for_inference(key, config):
    body = make(key, config, scale=1.0)
    batch = batch_of(config, pad_rows(examples(config)))
    real = scored(batch).documents > 0
    exact = logits_of(body, batch)[real].softmax(-1)
    with torch.autocast("cpu", torch.bfloat16):
        half = logits_of(body, batch)[real].float().softmax(-1)
    packed = logits_of(pack(body), batch)[real].float().softmax(-1)
    assert (half - exact).abs().max() < 0.05
    assert (packed - exact).abs().max() < 0.05


@pytest.mark.parametrize("key", KEYS)
def test_presets_build_without_memory(key):
    module = registry.load_module("models", key)
    config_class = vars(module)[registry.class_name(key) + "Config"]
    for values in module.PRESETS.values():
        with torch.device("meta"):
            body = registry.load_class("models", key)(config_class(**values))
        assert sum(parameter.numel() for parameter in body.parameters()) > 1e6


# T5 is published without a bias, and <pad> is a word like others to it.
@pytest.mark.parametrize("key", sorted({case.values[0] for case in WRITERS} - {"t5"}))
def test_padding_embeds_to_nothing_and_is_never_the_answer(key):
    config = config_of(key)
    body = make(key, config)
    assert not body.embeddings.weight[config.pad_token_id].any()
    batch = batch_of(config, pad_rows(examples(config)))
    assert logits_of(body, batch)[..., config.pad_token_id].max() < -1000
    assert isinstance(batch.source, Side)


@pytest.mark.parametrize(("key", "config"), WRITERS)
def test_the_output_layer_shares_the_embeddings_only_where_the_config_says_so(key, config):
    body = make(key, config)
    is_tied = body.output.weight is body.embeddings.weight
    assert is_tied == getattr(config, "tie_word_embeddings", True)
