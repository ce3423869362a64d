"""Several seeds of a recipe: their summary, the best model, stopping between and going on."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from headway import recipe as recipes
from headway.cli._main import main
from headway.errors import HeadwayError
from headway.metrics.intervals import mean_interval
from headway.tasks._load import load
from headway.train.guard import Stopped
from headway.train.run import Report, train
from headway.train.seeds import is_seeds, resume_seeds, summarize, train_seeds

RECIPE = """
[text]
tokenizer = "word"
vocab-size = 60
[model]
architecture = "lstm"
embedding-size = 8
hidden-size = 8
max-position-embeddings = 32
[task]
name = "classification"
pooling = "attention"
max-tokens = 16
[training]
seed = 3
epochs = 5
batch-rows = 8
peak-lr = 1e-2
warmup-steps = 5
precision = "fp32"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A recipe, and data that is half learned in so short a time, so that seeds differ."""
    home = tmp_path_factory.mktemp("seeds")
    (home / "short.toml").write_text(RECIPE)
    generator = np.random.default_rng(0)
    for name in ("train", "valid"):
        rows = []
        for number in range(40):
            words = [str(word) for word in generator.choice(list("cdefgh"), size=4)]
            words.insert(int(generator.integers(5)), "good" if number % 2 else "bad")
            rows.append({"text": " ".join(words), "label": ("no", "yes")[number % 2]})
        (home / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return home


def make_recipe(folder: Path, *, seed: int = 3, **playbook):
    data = {name: str(folder / f"{name}.jsonl") for name in ("train", "valid")}
    overrides = {"data": data, "training": {"seed": seed}, "playbook": playbook}
    return recipes.read(folder / "short.toml", overrides)


def flags(folder: Path, out: Path, *more: str) -> list[str]:
    given = ["train", str(folder / "short.toml"), "--out", str(out)]
    for name in ("train", "valid"):
        given += [f"--data.{name}", str(folder / f"{name}.jsonl")]
    return [*given, *more]


def train_all(recipe, out: Path, count: int = 3) -> None:
    for _, events in train_seeds(recipe, out, count=count):
        list(events)


def weights(model_dir: Path) -> dict[str, torch.Tensor]:
    model = load(model_dir)
    head = {f"head.{name}": value for name, value in model.head.state_dict().items()}
    return {**model.body.state_dict(), **head}


def are_same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.fixture(scope="module")
def finished(folder) -> Path:
    """Three seeds, trained and summarized; tests leave it as it is."""
    out = folder / "finished"
    train_all(make_recipe(folder), out)
    summarize(out)
    return out


# the summary


def test_each_seed_is_the_run_that_it_would_be_alone(folder, finished, tmp_path):
    list(train(make_recipe(folder, seed=4), tmp_path / "alone"))
    assert are_same(tmp_path / "alone" / "model", finished / "seed-4" / "model")
    assert not are_same(finished / "seed-3" / "model", finished / "seed-4" / "model")


def test_the_summary_equals_numpy_and_scipy(finished):
    stats = pytest.importorskip("scipy.stats")
    found = json.loads((finished / "seeds.json").read_text())
    assert found["seeds"] == [3, 4, 5]
    assert set(found["scores"]) >= {"loss", "accuracy", "macro_f1"}
    for name, score in found["scores"].items():
        values = [found["by_seed"][str(seed)][name] for seed in (3, 4, 5)]
        mean, deviation = np.mean(values), np.std(values, ddof=1)
        assert (score["mean"], score["deviation"]) == pytest.approx((mean, deviation))
        assert deviation > 0
        interval = stats.t.interval(0.95, 2, loc=mean, scale=stats.sem(values))
        assert (score["low"], score["high"]) == pytest.approx(interval)


def test_the_scores_are_those_of_the_saved_models(finished):
    found = json.loads((finished / "seeds.json").read_text())
    for seed in (3, 4, 5):
        model = load(finished / f"seed-{seed}" / "model")
        assert found["by_seed"][str(seed)] == model.summary["valid"]
    assert len({values["loss"] for values in found["by_seed"].values()}) == 3


def test_the_best_model_is_kept_and_loads(finished):
    found = json.loads((finished / "seeds.json").read_text())
    name, best = found["score_name"], found["best_seed"]
    assert name == "accuracy"
    values = {seed: found["by_seed"][str(seed)][name] for seed in (3, 4, 5)}
    assert len(set(values.values())) > 1
    assert best == min(seed for seed in values if values[seed] == max(values.values()))
    assert are_same(finished / "model", finished / f"seed-{best}" / "model")
    (answer,) = load(finished / "model").predict([{"text": "the cat sat"}])
    assert answer["prediction"] in ("no", "yes")


def test_the_kept_model_is_whole(finished):
    assert sorted(path.name for path in (finished / "model").iterdir()) == sorted(
        path.name for path in (finished / "seed-3" / "model").iterdir()
    )


def test_of_losses_the_lowest_is_best(folder, tmp_path):
    train_all(make_recipe(folder, choose_by="loss"), tmp_path / "out", 2)
    summary = summarize(tmp_path / "out")
    assert summary.score_name == "loss"
    assert summary.best_seed == min(summary.seeds, key=lambda seed: summary.seeds[seed]["loss"])


def test_checkpoints_of_finished_seeds_are_gone(finished):
    assert not list(finished.glob("seed-*/checkpoints"))
    assert len(list(finished.glob("seed-*/metrics.jsonl"))) == 3


def test_a_mean_of_one_value_has_no_interval():
    with pytest.raises(HeadwayError, match="two are needed"):
        mean_interval([1.0])


def test_an_interval_by_hand():
    # The mean of 1, 2, 3 is 2, their deviation 1; Student's t of two degrees is 4.30265.
    found = mean_interval([1.0, 2.0, 3.0])
    assert (found.mean, found.deviation) == (2.0, 1.0)
    assert found.high - 2 == 2 - found.low == pytest.approx(4.30265 / 3**0.5, rel=1e-5)


# stopping and going on


def stop_in(recipe, out: Path, seed: int, step: int) -> Stopped:
    """Train until a signal comes in some seed's update."""
    with pytest.raises(Stopped) as found:
        for run_dir, events in train_seeds(recipe, out, count=3):
            for event in events:
                at = isinstance(event, Report) and event.step == step
                if at and run_dir.name == f"seed-{seed}":
                    os.kill(os.getpid(), signal.SIGTERM)
    return found.value


@pytest.mark.parametrize(("seed", "step"), [(3, 2), (4, 4), (5, 8)])
def test_stopping_in_a_seed_and_resuming_gives_the_same_models(
    folder, finished, tmp_path, capsys, seed, step
):
    out = tmp_path / "out"
    stop_in(make_recipe(folder), out, seed, step)
    assert is_seeds(out)
    assert not (out / "model").exists()
    assert main(["train", "--resume", str(out)]) == 0, capsys.readouterr().err
    for name in ("seed-3/model", "seed-4/model", "seed-5/model", "model"):
        assert are_same(out / name, finished / name)
    one, other = (json.loads((path / "seeds.json").read_text()) for path in (out, finished))
    assert one == other


def test_a_seed_killed_before_its_recipe_was_written_is_begun_anew(folder, finished, tmp_path):
    out = tmp_path / "out"
    stop_in(make_recipe(folder), out, 3, 2)
    # What `train` has made by the time it writes the recipe.
    (out / "seed-4" / "checkpoints").mkdir(parents=True)
    (out / "seed-4" / "tokenizer.json").write_text("{}")
    assert main(["train", "--resume", str(out)]) == 0
    assert are_same(out / "model", finished / "model")


def test_a_finished_seed_is_left_as_it_is(folder, tmp_path):
    out = tmp_path / "out"
    stop_in(make_recipe(folder), out, 4, 4)
    files = ("model/model.safetensors", "model/headway.json", "metrics.jsonl")
    before = [(out / "seed-3" / name).read_bytes() for name in files]
    for _, events in resume_seeds(out):
        list(events)
    assert [(out / "seed-3" / name).read_bytes() for name in files] == before


def test_resuming_what_is_finished_changes_nothing(finished, capsys):
    def contents():
        return {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}

    before = contents()
    assert main(["train", "--resume", str(finished)]) == 0, capsys.readouterr().err
    assert contents() == before


def test_the_hint_says_how_to_go_on_with_all_seeds(folder, tmp_path):
    stopped = stop_in(make_recipe(folder), tmp_path / "out", 4, 4)
    assert re.search(rf"--resume {re.escape(str(tmp_path / 'out'))}(\s|$)", stopped.hint)


def test_the_length_of_several_seeds_cannot_be_changed(finished, capsys):
    assert main(["train", "--resume", str(finished), "--training.epochs", "9"]) == 2
    assert "the length of several seeds cannot be changed" in capsys.readouterr().err


# the command


def test_the_command_trains_and_names_the_best_model(folder, finished, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(flags(folder, out, "--seeds", "3")) == 0
    printed, told = capsys.readouterr()
    assert printed == f"{out / 'model'}\n"
    best = json.loads((finished / "seeds.json").read_text())
    assert f"best by accuracy: seed {best['best_seed']}" in told
    score = best["scores"]["accuracy"]
    assert f"{score['mean']:8.2f} +- {score['deviation']:.2f}" in told
    assert are_same(out / "model", finished / "model")


def test_as_json_every_line_is_an_object_and_the_last_one_the_summary(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(flags(folder, out, "--seeds", "2", "--json")) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["event"] == "seeds"
    assert set(lines[-1]["seeds"]) == {"3", "4"}
    assert sum(line["event"] == "finished" for line in lines) == 2


@pytest.mark.parametrize("count", ["0", "-1", "1001", "two"])
def test_a_number_of_seeds_that_is_none_is_refused(folder, tmp_path, capsys, count):
    assert main(flags(folder, tmp_path / "out", f"--seeds={count}")) in (1, 2)
    printed, told = capsys.readouterr()
    assert printed == ""
    assert "seeds" in told
    assert not (tmp_path / "out").exists()


def test_a_bad_number_of_seeds_is_a_mistake_of_usage(folder, tmp_path):
    assert main(flags(folder, tmp_path / "out", "--seeds", "0")) == 2


def test_a_directory_with_something_in_it_is_refused(folder, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    assert main(flags(folder, tmp_path, "--seeds", "2")) == 1
    told = capsys.readouterr().err
    assert "is not empty, and a run is never overwritten" in told
    assert told.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_validation_data_nothing_is_compared(folder, tmp_path, capsys):
    given = flags(folder, tmp_path / "out", "--seeds", "2")
    place = given.index("--data.valid")
    assert main(given[:place] + given[place + 2 :]) == 1
    assert "several seeds are compared on validation data" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bad_data_leaves_nothing_behind(folder, tmp_path, capsys):
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n')
    given = flags(folder, tmp_path / "out", "--seeds", "2")
    given[given.index("--data.train") + 1] = str(tmp_path / "bad.jsonl")
    assert main(given) == 1
    assert "label" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
