"""The playbook: freezing, thawing, rates by stage, features kept, averages of weights."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bodies import config_of, make
from encoders import make_encoder
from headway import recipe as recipes
from headway.errors import ConfigError
from headway.sections import Playbook, Training
from headway.tasks._load import load
from headway.train.events import Note
from headway.train.freezing import plan_phases
from headway.train.groups import find_stages, make_groups, rate_ratios
from headway.train.guard import Stopped
from headway.train.loop import Trainer, modules_of
from headway.train.material import balance_classes
from headway.train.prepare import prepare
from headway.train.run import Report, resume, train
from headway.train.schedules import learning_rate, spell_out
from headway.train.state import list_checkpoints, read_average, read_weights
from playbooks import changed, make_recipe, make_trainer, write_data

FAMILIES = ("bert", "roberta", "albert", "distilbert")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Data, and room for a small pretrained body."""
    return write_data(tmp_path)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.modules.named_parameters()}


# stages


@pytest.mark.parametrize(
    ("architecture", "wanted"),
    [
        ("bert", ["embeddings", "encoder.layers.0", "encoder.layers.1", "top"]),
        ("roberta", ["embeddings", "encoder.layers.0", "encoder.layers.1", "top"]),
        ("distilbert", ["embeddings", "encoder.layers.0", "encoder.layers.1", "top"]),
        ("albert", ["embeddings", "encoder", "top"]),
    ],
)
def test_stages_go_from_the_input_to_the_head(folder, architecture, wanted):
    modules = make_trainer(folder, architecture).modules
    stages = find_stages(modules)
    assert [stage.name for stage in stages] == wanted
    assert all(name.startswith(("body.pooler", "head.")) for name in stages[-1].parameters)
    everything = [name for stage in stages for name in stage.parameters]
    assert sorted(everything) == sorted(name for name, _ in modules.named_parameters())


def test_the_layers_of_a_recurrent_network_are_stages_too():
    body = make("seq2seq", config_of("seq2seq"))
    stages = find_stages(torch.nn.ModuleDict({"body": body}))
    names = [stage.name for stage in stages]
    assert names[:2] == ["embeddings", "encoder.rnn.*_l0*"]
    assert names[-3:] == ["*bridge", "decoder", "top"]
    assert stages[-1].parameters == ("body.output.bias",)


# rates


def test_one_factor_multiplies_from_the_top_down(folder):
    stages = find_stages(make_trainer(folder).modules)
    assert rate_ratios(stages, Playbook(layer_decay=0.5)) == [0.125, 0.25, 0.5, 1.0]
    assert rate_ratios(stages, Playbook()) == [1.0] * 4
    assert rate_ratios(stages, Playbook(stage_rates=(0.1, 0.4))) == [0.1, 0.1, 0.4, 1.0]


def test_every_stage_has_its_rate_and_parameters_without_decay_stay_apart(folder):
    trainer = make_trainer(folder, layer_decay=0.5)
    groups = {group.name: group for group in trainer.groups}
    assert groups["encoder.layers.1: matrices"].lr_ratio == 0.5
    assert groups["embeddings: biases and norms"].weight_decay == 0.0
    assert groups["top: matrices"].weight_decay == 0.01
    names = [name for group in trainer.groups for name in group.parameters]
    assert sorted(names) == sorted(name for name, _ in trainer.modules.named_parameters())
    trainer.take_step()
    rates = {group["lr_ratio"]: group["lr"] for group in trainer.optimizer.param_groups}
    assert rates[0.125] == pytest.approx(0.125 * rates[1.0])


def test_without_factors_there_are_two_groups(folder):
    names = [group.name for group in make_trainer(folder).groups]
    assert names == ["matrices", "biases and norms"]


def test_more_rates_than_stages_is_an_error(folder):
    modules = make_trainer(folder).modules
    with pytest.raises(ConfigError, match="4 numbers, but the model has 3 stages"):
        make_groups(modules, Training(), Playbook(stage_rates=(0.1, 0.2, 0.3, 0.4)))


# freezing by name


def test_what_is_frozen_by_name_never_changes_and_all_else_does(folder):
    trainer = make_trainer(folder, freeze=["embeddings", "encoder.layers.0", "*.norm.bias"])
    before = weights(trainer)
    for _ in range(3):
        trainer.take_step()
    moved = changed(before, weights(trainer))
    assert moved
    assert not any(name.startswith(("body.embeddings", "body.encoder.layers.0")) for name in moved)
    assert not any(name.endswith("norm.bias") for name in moved)
    assert "body.encoder.layers.1.after_attention.norm.weight" in moved


def test_a_misspelt_part_is_an_error_that_names_the_nearest(folder):
    with pytest.raises(ConfigError, match=r"no part 'encoder.layer.0'") as found:
        make_trainer(folder, freeze=["encoder.layer.0"])
    assert "encoder.layers.0" in (found.value.hint or "")


def test_freezing_everything_is_an_error(folder):
    with pytest.raises(ConfigError, match="leaves nothing to learn"):
        make_trainer(folder, freeze=["*"])


# gradual unfreezing


def test_phases_thaw_from_the_top_down_and_embeddings_last(folder):
    trainer = make_trainer(folder, unfreeze_epochs=[2, 1])
    phases = trainer.freezer.phases
    # 24 rows in batches of 6: four updates a pass.
    assert [phase.first_step for phase in phases] == [0, 8, 12, 16]
    assert [phase.num_frozen_stages for phase in phases] == [3, 2, 1, 0]
    before = weights(trainer)
    for phase, following in zip(phases, [*phases[1:], None], strict=True):
        start = weights(trainer)
        last = following.first_step if following else trainer.total_steps
        while trainer.state.step < last:
            trainer.take_step()
        assert not changed(start, weights(trainer)) & phase.frozen
        assert changed(start, weights(trainer)) >= {"head.output.weight"}
    moved = changed(before, weights(trainer))
    assert {"body.embeddings.position.weight", "body.encoder.layers.0.attention.key.weight"} < moved


def test_phases_by_updates_and_several_stages_at_once(folder):
    trainer = make_trainer(folder, unfreeze_steps=[3], unfreeze_stages=2)
    assert [phase.first_step for phase in trainer.freezer.phases] == [0, 3, 6]
    assert [phase.num_frozen_stages for phase in trainer.freezer.phases] == [3, 1, 0]


def test_what_is_frozen_by_name_is_never_thawed(folder):
    trainer = make_trainer(folder, unfreeze_steps=[2], freeze=["embeddings"])
    assert [phase.num_frozen_stages for phase in trainer.freezer.phases] == [3, 2, 1]
    before = weights(trainer)
    while trainer.state.step < trainer.total_steps:
        trainer.take_step()
    assert not any("embeddings" in name for name in changed(before, weights(trainer)))


def test_unfreezing_longer_than_the_run_is_an_error(folder):
    with pytest.raises(ConfigError, match=r"longer than the run: after its 24 updates embeddings"):
        make_trainer(folder, unfreeze_epochs=[3])
    assert make_trainer(folder, unfreeze_epochs=[1]).freezer.phases[-1].first_step == 12


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    at_once=st.integers(1, 4),
)
def test_phases_hold_whatever_their_lengths(lengths, at_once):
    modules = modules_of(make_encoder("bert"))
    playbook = Playbook(unfreeze_steps=tuple(lengths), unfreeze_stages=at_once)
    phases = plan_phases(modules, playbook, steps_per_epoch=5, total_steps=1000)
    assert phases[0].first_step == 0
    assert not phases[-1].frozen
    for one, other in itertools.pairwise(phases):
        assert one.first_step < other.first_step
        assert one.frozen > other.frozen
        assert one.num_frozen_stages > other.num_frozen_stages


# features kept


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("layout", ["sorted", "packed"])
def test_features_computed_once_train_the_same(folder, architecture, layout):
    runs = []
    for megabytes in (0, 100):
        trainer = make_trainer(
            folder,
            architecture,
            unfreeze_epochs=[2, 1],
            cache_megabytes=megabytes,
            training={"layout": layout},
        )
        losses = [trainer.take_step().losses["class"] for _ in range(trainer.total_steps)]
        assert megabytes == 0 or trainer._features is None  # all is thawed at the end
        runs.append(losses)
    assert runs[0] == pytest.approx(runs[1], abs=2e-5)


def test_frozen_layers_are_left_out_once_their_states_are_kept(folder, monkeypatch):
    trainer = make_trainer(folder, freeze=["embeddings", "encoder"])
    seen = []
    layer = trainer.model.body.encoder.layers[0]
    layer.register_forward_hook(lambda *_: seen.append(1))
    for _ in range(12):
        trainer.take_step()
    # Once over all examples, in one batch, and never again.
    assert len(seen) == 1


def test_features_beyond_the_budget_lie_in_a_file_without_a_name(folder):
    files = {path.name for path in folder.iterdir()}
    losses = []
    for megabytes in (1, 100):
        trainer = make_trainer(folder, freeze=["embeddings", "encoder"], cache_megabytes=megabytes)
        if megabytes == 1:
            trainer.playbook = dataclasses.replace(trainer.playbook, cache_megabytes=1e-6)
        losses.append([trainer.take_step().losses["class"] for _ in range(8)])
    assert losses[0] == losses[1]
    assert {path.name for path in folder.iterdir()} == {*files, "bert"}


def test_features_are_not_kept_where_every_pass_differs(tmp_path):
    (tmp_path / "a.txt").write_text("the cat sat on the mat\n" * 40)
    make_encoder("bert").save(tmp_path / "bert")
    recipe = recipes.read(
        recipes.find("domain-adapt"),
        {
            "data": {"train": str(tmp_path / "a.txt")},
            "model": {"path": str(tmp_path / "bert")},
            "task": {"max-tokens": 16},
            "training": {"batch-rows": 4, "steps": 60, "precision": "fp32"},
            "playbook": {"freeze": ["embeddings", "encoder"]},
        },
    )
    prepared = prepare(recipe)
    trainer = Trainer(
        prepared.model, prepared.examples.train, recipe.training, playbook=recipe.playbook
    )
    trainer.take_step()
    assert trainer._features is None


# drawing anew


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
def test_the_uppermost_layers_are_drawn_anew_and_no_others(folder, architecture):
    old = prepare(make_recipe(folder, architecture)).model.body.state_dict()
    new = prepare(make_recipe(folder, architecture, reinit_layers=1)).model.body.state_dict()
    moved = changed(old, new)
    assert "encoder.layers.1.attention.query.weight" in moved
    assert "pooler.dense.weight" in moved
    assert not any(name.startswith(("embeddings", "encoder.layers.0")) for name in moved)


def test_too_many_layers_to_draw_anew_is_an_error(folder):
    with pytest.raises(ConfigError, match="reinit-layers is 3, but the model has 2 layers"):
        prepare(make_recipe(folder, reinit_layers=3))


# averages


def test_stochastic_weight_averaging_is_the_mean_of_the_weights(folder):
    trainer = make_trainer(folder, swa_start=0.5, swa_steps=3, swa_rate=0.2)
    taken = []
    for step in range(1, trainer.total_steps + 1):
        trainer.take_step()
        if step > 12 and step % 3 == 0:
            taken.append(weights(trainer))
    assert trainer.average.count == len(taken) == 4
    own = weights(trainer)
    with trainer.average.in_place():
        inside = weights(trainer)
    for name in own:
        wanted = torch.stack([one[name] for one in taken]).mean(0)
        assert torch.allclose(inside[name], wanted, atol=1e-6), name
    assert not changed(own, weights(trainer))


def test_the_rate_of_stochastic_weight_averaging_falls_and_then_stays():
    options = Training(schedule="linear", warmup_steps=10, peak_lr=1.0)
    playbook = Playbook(swa_start=0.75, swa_rate=0.3)
    rates = [learning_rate(step, 100, options, playbook) for step in range(100)]
    assert rates[75:] == [0.3] * 25
    assert rates[0] == pytest.approx(1 / 11)
    assert max(rates) == pytest.approx(1.0)
    assert all(rate >= 0.3 for rate in rates[10:])
    assert rates[30] > rates[50] > rates[60] == pytest.approx(0.3, abs=0.05)


def test_exponential_averaging_follows_its_formula(folder):
    trainer = make_trainer(folder, ema_decay=0.9)
    name = "head.output.weight"
    mean = None
    for count in range(20):
        trainer.take_step()
        value = trainer.modules["head"].output.weight.detach().clone()
        keep = min(0.9, (1 + count) / (10 + count))
        mean = value if mean is None else keep * mean + (1 - keep) * value
    assert torch.allclose(trainer.average.weights[name], mean, atol=1e-6)


def test_two_averages_at_once_are_refused(folder):
    with pytest.raises(ConfigError, match="cannot go together: give one of them"):
        make_recipe(folder, ema_decay=0.9, swa_start=0.5)


# class weights


def test_every_class_counts_the_same(folder):
    rows = [{"text": "the cat", "label": "often"}] * 18 + [{"text": "a dog", "label": "rare"}] * 6
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "valid.jsonl").write_text(json.dumps(rows[0]) + "\n")
    examples = prepare(make_recipe(folder, class_weights="balanced")).examples
    totals: dict[int, float] = {}
    for example in examples.train.examples:
        totals[example.label] = totals.get(example.label, 0.0) + example.weight
    assert totals[0] == pytest.approx(totals[1]) == pytest.approx(12.0)
    assert examples.valid is not None
    assert {example.weight for example in examples.valid.examples} == {1.0}


def test_class_weights_without_classes_are_an_error(folder):
    encoded = prepare(make_recipe(folder)).examples.train
    examples = [dataclasses.replace(example, label=None) for example in encoded.examples]
    with pytest.raises(ConfigError, match="one class for each row"):
        balance_classes(dataclasses.replace(encoded, examples=examples))


# schedules


def test_the_slanted_triangle_is_the_published_one():
    options = Training(schedule="slanted-triangular", peak_lr=1.0)
    total, ratio = 200, 32
    cut = 20
    for step in range(total):
        part = step / cut if step < cut else 1 - (step - cut) / (cut * (1 / 0.1 - 1))
        assert learning_rate(step, total, options) == pytest.approx(
            (1 + part * (ratio - 1)) / ratio
        )


def test_warm_up_can_be_a_share_of_the_run():
    options = Training(schedule="linear", warmup_ratio=0.1, warmup_steps=7, peak_lr=1.0)
    rates = [learning_rate(step, 100, options) for step in range(100)]
    assert rates.index(max(rates)) == 10


# all of it together


EVERYTHING = {
    "unfreeze_epochs": [1.5, 0.5],
    "layer_decay": 0.7,
    "reinit_layers": 1,
    "class_weights": "balanced",
    "freeze": ["*.norm.bias"],
    "patience": 9,
}


@pytest.mark.parametrize("average", [{"swa_start": 0.4, "swa_steps": 2}, {"ema_decay": 0.95}])
@pytest.mark.parametrize("stop_after", [3, 7, 9, 11, 15, 20])
def test_stopping_in_any_phase_and_resuming_gives_the_same_bits(folder, stop_after, average):
    torch.use_deterministic_algorithms(True)
    try:
        recipe = make_recipe(folder, **EVERYTHING, **average, training={"micro-batch-tokens": 40})
        list(train(recipe, folder / "whole"))
        with pytest.raises(Stopped):
            for event in train(recipe, folder / "parts"):
                if isinstance(event, Report) and event.step == stop_after:
                    os.kill(os.getpid(), signal.SIGTERM)
        list(resume(folder / "parts"))
    finally:
        torch.use_deterministic_algorithms(False)
    ends = [list_checkpoints(folder / name / "checkpoints")[-1] for name in ("whole", "parts")]
    for read in (lambda path: read_weights(path / "model.safetensors"), read_average):
        one, other = map(read, ends)
        assert one.keys() == other.keys() != set()
        assert not changed(one, other)
    models = [load(folder / name / "model") for name in ("whole", "parts")]
    assert not changed(*(model.body.state_dict() for model in models))


def test_the_saved_model_is_the_mean_and_not_the_last_weights(folder):
    recipe = make_recipe(folder, ema_decay=0.9, choose_by="loss")
    events = list(train(recipe, folder / "run"))
    assert not [event for event in events if isinstance(event, Note) and "mean" in event.text]
    last = list_checkpoints(folder / "run" / "checkpoints")[-1]
    saved = load(folder / "run" / "model")
    step = saved.summary["step"]
    path = folder / "run" / "checkpoints" / f"step-{step:08d}"
    if path.is_dir():
        mean = read_average(path)["head.output.weight"]
        assert torch.equal(saved.head.output.weight, mean)
    assert not torch.equal(read_average(last)["head.output.weight"], saved_last(last))


def saved_last(path: Path) -> torch.Tensor:
    return read_weights(path / "model.safetensors")["head.output.weight"]


# mended


def test_a_run_does_not_stop_before_everything_has_learned(folder):
    # Nothing gets better: the rate is next to nothing.
    plain = {"peak-lr": 1e-12, "epochs": 8}
    steps = []
    for playbook in ({}, {"unfreeze_epochs": (1.0,)}, {"swa_start": 0.75}):
        recipe = make_recipe(folder, training=plain, patience=1, **playbook)
        run = folder / f"run-{len(steps)}"
        *_, last = train(recipe, run)
        steps.append(last.step)
    # Four updates a pass; three phases before the last; the mean begins after six passes.
    assert steps[0] == 8
    assert 12 < steps[1] <= 20
    assert steps[2] >= 24


def test_a_longer_run_begins_its_mean_anew(folder):
    recipe = make_recipe(folder, training={"epochs": 4}, swa_start=0.5, swa_steps=1)
    list(train(recipe, folder / "run"))
    path = list_checkpoints(folder / "run" / "checkpoints")[-1]
    assert json.loads((path / "state.json").read_text())["averaged_weights"] == 8
    events = list(resume(folder / "run", length={"epochs": 12}))
    assert any("begins anew" in event.text for event in events if isinstance(event, Note))
    path = list_checkpoints(folder / "run" / "checkpoints")[-1]
    assert json.loads((path / "state.json").read_text())["averaged_weights"] == 24


def test_a_phase_in_which_nothing_learns_is_refused(folder):
    body = make_encoder("bert", kind="body").body
    modules = torch.nn.ModuleDict({"body": body, "head": torch.nn.Linear(2, 2)})
    for name, parameter in modules.named_parameters():
        parameter.requires_grad_(name.startswith(("body.embeddings", "body.encoder")))
    with pytest.raises(ConfigError, match="nothing learns"):
        plan_phases(modules, Playbook(unfreeze_epochs=(1.0,)), steps_per_epoch=4, total_steps=99)


def test_the_upper_layer_of_a_recurrent_network_is_drawn_anew(folder):
    first = make_recipe(folder, "bert")
    first = dataclasses.replace(
        first,
        model=dataclasses.replace(
            first.model,
            architecture="lstm",
            path=None,
            settings={"hidden_size": 8, "embedding_size": 8, "num_hidden_layers": 2},
        ),
    )
    model = prepare(first).model
    model.save(folder / "lstm")
    new = prepare(make_recipe(folder, "lstm", reinit_layers=1)).model.body.state_dict()
    old = model.body.state_dict()
    differ = {name for name in old if not torch.equal(old[name], new[name])}
    assert differ
    assert all("_l1" in name for name in differ)


@pytest.mark.parametrize(("architecture", "rate"), [("bert", 5e-4), ("lstm", 1e-3)])
def test_the_rate_follows_the_width_of_a_model_that_goes_on(folder, architecture, rate):
    recipe = make_recipe(folder, "bert", training={"peak-lr": "auto"})
    if architecture == "lstm":
        model = dataclasses.replace(recipe.model, architecture="lstm", path=None)
        recipe = dataclasses.replace(recipe, model=model)
    assert prepare(recipe).recipe.training.peak_lr == rate
    assert spell_out(Training(peak_lr="auto"), width=768).rate == 5e-5
    assert spell_out(Training(peak_lr="auto"), width=384).rate == 2e-4
    assert spell_out(Training(peak_lr=0.3), width=384).rate == 0.3
    with pytest.raises(ConfigError, match="auto"):
        _ = Training(peak_lr="auto").rate
