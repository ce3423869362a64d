"""The learning-rate range test: both rules on curves that are known, models left as they are."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders import make_encoder
from headway import recipe as recipes
from headway.cli._main import main
from headway.errors import ConfigError, TrainError
from headway.sections import Playbook
from headway.train import prepare as prepare_module
from headway.train.finder import find_rate, read_curve, suggest
from headway.train.loop import modules_of
from headway.train.prepare import prepare

TEXTS = ("the cat sat on the mat", "a bird sings", "the dog ran to the house and sat", "old river")

# curves


def curve(count: int = 101, *, middle: int = 50, lowest: int = 80, width: float = 6.0):
    """Give a loss that falls like a logistic curve and then rises by a half in every update."""
    rates = np.geomspace(1e-6, 1.0, count)
    places = np.arange(count)
    losses = 2.0 - 1.5 / (1 + np.exp(-(places - middle) / width))
    losses[lowest + 1 :] = losses[lowest] * 1.5 ** np.arange(1, count - lowest)
    return rates.tolist(), losses.tolist()


def read(rates, losses):
    return read_curve(rates, losses, losses, epochs=1.0)


@given(st.integers(30, 60), st.integers(75, 98), st.floats(2, 8))
def test_both_rules_are_read_where_they_are(middle, lowest, width):
    rates, losses = curve(middle=middle, lowest=lowest, width=width)
    found = read(rates, losses)
    assert found.steepest == pytest.approx(rates[middle])
    assert found.before_rise == pytest.approx(rates[lowest] / 10)


def test_the_suggestion_is_where_the_loss_falls_fastest():
    rates, losses = curve(middle=50, lowest=80, width=3.0)
    assert suggest(rates, losses) == pytest.approx(rates[50], rel=0.2)


@given(st.integers(0, 10_000))
def test_the_suggestion_is_not_taken_in_by_noise(seed):
    rates, losses = curve(middle=60, lowest=80, width=3.0)
    noise = np.random.default_rng(seed).normal(0, 0.15, len(losses))
    found = suggest(rates, (np.array(losses) + noise).tolist())
    # Within a factor of three of where it falls, over six decades.
    assert rates[60] / 3 < found < rates[60] * 3


def test_what_comes_before_the_curve_settles_is_not_read():
    rates, losses = curve()
    losses[:8] = [9.0, 1.0, 8.0, 0.1, 7.0, 0.2, 6.0, 0.3]
    found = read(rates, losses)
    assert found.steepest == pytest.approx(rates[50])
    assert found.before_rise == pytest.approx(rates[80] / 10)


def test_a_loss_that_falls_to_the_end_is_lowest_there():
    rates = np.geomspace(1e-5, 1e-1, 50).tolist()
    found = read(rates, np.linspace(3, 1, 50).tolist())
    assert found.before_rise == pytest.approx(rates[-1] / 10)


def test_what_was_seen_is_kept():
    rates, losses = curve()
    smooth = [loss + 0.1 for loss in losses]
    found = read_curve(rates, losses, smooth, epochs=2.5)
    assert (found.rates, found.losses, found.smoothed) == (rates, losses, smooth)
    assert found.epochs == 2.5


@pytest.mark.parametrize(
    "losses",
    [
        np.linspace(1, 3, 50).tolist(),
        [1.0] * 50,
        [3.0, 2.0],
        [],
        [1.0] * 4 + [0.5] + np.linspace(1, 9, 45).tolist(),
    ],
    ids=["rises", "flat", "short", "empty", "falls once"],
)
def test_a_loss_that_never_falls_is_an_error(losses):
    rates = np.geomspace(1e-5, 1e-1, max(1, len(losses))).tolist()[: len(losses)]
    with pytest.raises(TrainError, match=rf"the loss did not fall in {len(losses)} updates") as e:
        read(rates, losses)
    assert "lower rate" in e.value.hint


# models


def write_rows(folder: Path, count: int) -> None:
    rows = [{"text": TEXTS[i % 4] + " cat" * (i % 3), "label": i % 2} for i in range(count)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "valid.jsonl").write_text(json.dumps(rows[0]) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_rows(tmp_path, 24)
    make_encoder().save(tmp_path / "bert")
    return tmp_path


def prepared(folder: Path, **playbook):
    overrides = {
        "data": {"train": str(folder / "train.jsonl")},
        "model": {"path": str(folder / "bert")},
        "task": {"max-tokens": 16, "dropout": 0.1},
        "training": {"batch-rows": 6, "precision": "fp32"},
        "playbook": playbook,
    }
    return prepare(recipes.read(recipes.find("classify"), overrides))


def search(found, **settings):
    recipe = found.recipe
    settings = {"low": 1e-5, "high": 0.5, "num_steps": 30} | settings
    return find_rate(
        found.model,
        found.examples.train,
        recipe.training,
        playbook=settings.pop("playbook", recipe.playbook),
        **settings,
    )


def test_the_model_is_left_bit_identical(folder):
    found = prepared(folder)
    before = {k: v.clone() for k, v in modules_of(found.model).state_dict().items()}
    answers = found.model.predict([{"text": TEXTS[0]}])
    search(found)
    after = modules_of(found.model).state_dict()
    assert before.keys() == after.keys()
    assert all(bool((before[name] == after[name]).all()) for name in before)
    assert all(p.grad is None for p in modules_of(found.model).parameters())
    assert found.model.predict([{"text": TEXTS[0]}]) == answers


def test_what_the_recipe_freezes_is_frozen_only_in_the_copy(folder):
    found = prepared(folder, freeze=["embeddings"])
    search(found)
    assert all(p.requires_grad for p in modules_of(found.model).parameters())


def test_the_same_test_gives_the_same_curve(folder):
    one, other = (dataclasses.asdict(search(prepared(folder))) for _ in range(2))
    assert one == other


def test_the_rates_grow_by_one_factor_from_the_first_to_the_last(folder):
    found = search(prepared(folder), high=1e-3)
    assert len(found.rates) == 30
    assert found.rates == pytest.approx(np.geomspace(1e-5, 1e-3, 30).tolist())


def test_the_smoothed_loss_is_a_mean_that_forgets_without_a_bias(folder):
    found = search(prepared(folder))
    mean, wanted = 0.0, []
    for step, loss in enumerate(found.losses, 1):
        mean = 0.9 * mean + 0.1 * loss
        wanted.append(mean / (1 - 0.9**step))
    assert found.smoothed == pytest.approx(wanted)


def test_the_test_ends_when_the_loss_shoots_up(folder):
    found = search(prepared(folder), high=1e4, num_steps=60)
    assert len(found.rates) < 60
    assert found.smoothed[-1] > 4 * min(found.smoothed) or found.rates[-1] < 1e4
    assert all(map(math.isfinite, found.losses))


def test_ten_examples_are_enough(folder):
    write_rows(folder, 10)
    found = search(prepared(folder))
    assert 1e-5 < found.suggestion < 0.5
    # Thirty updates of six rows, two a pass.
    assert found.epochs == pytest.approx(len(found.rates) / 2)


def test_progress_is_told(folder):
    seen = []
    found = search(prepared(folder), high=1e-3, progress=seen.append)
    assert [(one.done, one.total) for one in seen] == [(n + 1, 30) for n in range(len(found.rates))]


def test_a_model_that_does_not_learn_is_an_error(folder):
    with pytest.raises(TrainError, match="no rate can be read"):
        search(prepared(folder), low=100.0, high=1e4)


@pytest.mark.parametrize(
    "settings",
    [
        {"low": 0.0},
        {"low": -1.0},
        {"low": 1.0, "high": 0.1},
        {"low": 0.1, "high": 0.1},
        {"high": math.inf},
        {"low": math.nan},
        {"num_steps": 9},
        {"num_steps": 100_001},
    ],
)
def test_rates_and_updates_that_make_no_curve_are_refused(folder, settings):
    with pytest.raises(ConfigError, match=r"must grow from above 0|10 to 100,000 make a curve"):
        search(prepared(folder), playbook=Playbook(), **settings)


# the command


def words(folder: Path, *more: str) -> list[str]:
    given = ["find-lr", "classify", "--model.path", str(folder / "bert")]
    given += ["--data.train", str(folder / "train.jsonl"), "--training.batch-rows", "6"]
    given += ["--training.precision", "fp32", "--low", "1e-5", "--high", "0.5"]
    return [*given, "--num-steps", "30", *more]


def run(capsys, *given: str) -> tuple[int, str, str]:
    capsys.readouterr()
    return main(list(given)), *capsys.readouterr()


def test_the_command_draws_a_png(folder, capsys):
    path = folder / "rates.png"
    code, out, err = run(capsys, *words(folder, "--picture", str(path)))
    assert code == 0, err
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert str(path) in out


def test_the_command_draws_an_svg(folder, capsys):
    from xml.etree import ElementTree

    path = folder / "rates.svg"
    assert run(capsys, *words(folder, "--picture", str(path)))[0] == 0
    assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_as_json_it_is_one_object(folder, capsys):
    code, out, _ = run(capsys, *words(folder, "--json"))
    found = json.loads(out)
    assert (code, out.count("\n")) == (0, 1)
    assert found["suggestion"] in found["rates"]
    assert len(found["rates"]) == len(found["losses"]) == len(found["smoothed"])
    assert found["rates"][0] == pytest.approx(1e-5)


def test_the_suggestion_is_printed_as_a_flag(folder, capsys):
    suggested = json.loads(run(capsys, *words(folder, "--json"))[1])["suggestion"]
    out = run(capsys, *words(folder))[1]
    assert f"--training.peak-lr {suggested:.1e}" in out


def test_little_data_is_noted(folder, capsys):
    code, _, err = run(capsys, *words(folder, "--json"))
    assert code == 0
    assert re.search(r"note: the test went [0-9.]+ times over the data", err)


def test_the_model_folder_is_left_as_it_is(folder, capsys):
    before = {path.name: path.read_bytes() for path in (folder / "bert").iterdir()}
    assert run(capsys, *words(folder))[0] == 0
    assert {path.name: path.read_bytes() for path in (folder / "bert").iterdir()} == before


@pytest.mark.parametrize(
    "bad",
    [
        ("--low", "1", "--high", "0.1"),
        ("--low", "0"),
        ("--high", "inf"),
        ("--num-steps", "3"),
        ("--low", "few"),
        ("--picture", "rates.gif"),
        ("--picture", "nowhere/rates.png"),
    ],
)
def test_bad_flags_fail_before_the_work(folder, capsys, monkeypatch, bad):
    def work(*_, **__):
        raise AssertionError("work was begun")

    monkeypatch.setattr(prepare_module, "prepare", work)
    code, out, err = run(capsys, *words(folder), *bad)
    assert code in (1, 2)
    assert out == ""
    assert "work was begun" not in err
    assert err
