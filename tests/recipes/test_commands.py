"""Every command on a few made-up pairs: what it writes, prints and gives back."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import headway
from headway import recipe as recipes
from headway.cli._main import main
from headway.sections import Training
from headway.train import loop
from headway.train.events import Evaluated, Finished, Report, Started
from headway.train.loop import Trainer
from headway.train.prepare import model_config, resolve_task
from small import COLORS, make_recipe, write_pairs, write_recipe

SCORES = ["bleu", "chrf", "exact_match", "perplexity"]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Give a folder with data, a recipe and a run, made by the command line."""
    folder = tmp_path_factory.mktemp("home")
    data = write_pairs(folder)["data"]
    words = ["train", write_recipe(folder), "--out", folder / "run", "--data.train", data["train"]]
    words += ["--data.valid", data["valid"], "--training.steps", "20", "--model.hidden-size", "24"]
    assert main([str(word) for word in words]) == 0
    return folder


class Shell:
    """Runs commands in this process, in the folder with the run."""

    def __init__(self, capsys, monkeypatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def answer(self, *words: Any, stdin: str = "") -> list[str]:
        """Run a command; give the lines of its output."""
        stream = io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8")
        self.monkeypatch.setattr(sys, "stdin", stream)
        self.capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = self.capsys.readouterr()
        assert code == 0, err
        return out[:-1].split("\n")

    def objects(self, *words: Any, stdin: str = "") -> list[dict[str, Any]]:
        """Run a command with --json; give what it printed."""
        return [json.loads(line) for line in self.answer(*words, "--json", stdin=stdin)]


@pytest.fixture
def shell(home, capsys, monkeypatch) -> Shell:
    monkeypatch.chdir(home)
    return Shell(capsys, monkeypatch)


# Train


def test_a_run_has_the_files_that_the_design_names(home):
    run_dir = home / "run"
    names = {path.name for path in run_dir.iterdir()} - {".lock", "tokenizer.json"}
    assert names == {
        *("recipe.toml", "environment.json", "metrics.jsonl", "data.json", "checkpoints"),
        *("model", "report.html", "log.txt"),
    }
    assert {path.name for path in (run_dir / "model").iterdir()} == {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *("generation_config.json", "headway.json", "manifest.json"),
    }
    checkpoints = sorted((run_dir / "checkpoints").iterdir())
    assert [path.name for path in checkpoints] == ["step-00000015", "step-00000020"]
    for path in (*checkpoints, run_dir / "model"):
        manifest = json.loads((path / "manifest.json").read_text())["sha256"]
        files = {file.name: file for file in path.iterdir() if file.name != "manifest.json"}
        assert manifest.keys() == files.keys()
        for name, file in files.items():
            assert manifest[name] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_run_says_what_it_was_made_of(home):
    recipe = headway.read_recipe(home / "run" / "recipe.toml")
    assert recipe.training.steps == 20
    # What flags bring as words is stored as numbers.
    assert recipe.model.settings["hidden_size"] == 24
    environment = json.loads((home / "run" / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert {"python", "platform", "cpu", "threads", "gpu", "git"} <= environment.keys()
    train = recipe.data.train[0]
    digest = hashlib.sha256(Path(train).read_bytes()).hexdigest()
    assert environment["data_sha256"][train] == digest
    assert "finished at step 20" in (home / "run" / "log.txt").read_text()
    report = json.loads((home / "run" / "data.json").read_text())
    assert [split["num_rows"] for split in report["splits"]] == [60, 8]
    assert "<html" in (home / "run" / "report.html").read_text()[:200]


def test_metrics_have_a_line_for_every_report_and_evaluation(home):
    lines = (home / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    reports = [row for row in rows if "valid" not in row]
    assert [row["step"] for row in reports] == list(range(1, 21))
    for row in reports:
        fields = {"step", "epoch", "loss", "tokens_per_second", "seconds"}
        assert fields | {"learning_rate", "grad_norm", "losses"} == row.keys()
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)
    evaluations = [row for row in rows if "valid" in row]
    assert [row["step"] for row in evaluations] == [5, 10, 15, 20, 20]
    assert all({"loss", *SCORES} == row["valid"].keys() for row in evaluations)
    assert evaluations[-1]["averaged_checkpoints"] == 2


def test_progress_as_json_is_one_event_a_line(shell, tmp_path):
    words = ["train", "small.toml", "--out", tmp_path / "run", "--data.train", "train.jsonl"]
    events = shell.objects(*words, "--data.valid", "valid.jsonl", "--training.steps", "2")
    kinds = [event["event"] for event in events]
    # The note says that so few texts give a smaller vocabulary than was asked for.
    assert kinds == ["started", "note", "report", "report", "evaluated", "finished"]
    assert "entries asked for" in events[1]["text"]
    assert events[-1]["model_dir"] == str(tmp_path / "run" / "model")


def test_a_longer_run_goes_on_where_the_shorter_one_ended(shell, tmp_path):
    shutil.copytree("run", tmp_path / "run")
    (last,) = shell.answer("train", "--resume", tmp_path / "run", "--training.steps", "23")
    assert last == str(tmp_path / "run" / "model")
    assert headway.read_recipe(tmp_path / "run" / "recipe.toml").training.steps == 23
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows if "valid" not in row] == list(range(1, 24))
    names = [path.name for path in sorted((tmp_path / "run" / "checkpoints").iterdir())]
    assert names == ["step-00000020", "step-00000023"]


def test_a_longer_run_keeps_a_mean_of_checkpoints_that_was_better(shell, tmp_path):
    shutil.copytree("run", tmp_path / "run")
    path = tmp_path / "run" / "model" / "headway.json"
    own = json.loads(path.read_text())
    own["training"]["averaged_checkpoints"] = 2
    own["training"]["valid"]["chrf"] = 99.9
    path.write_text(json.dumps(own))
    shell.answer("train", "--resume", tmp_path / "run", "--training.steps", "23")
    assert json.loads(path.read_text()) == own
    (tmp_path / "run" / "model" / "manifest.json").unlink()
    assert headway.load(tmp_path / "run" / "model").summary["valid"]["chrf"] == 99.9


def test_a_run_goes_on_from_another_folder(shell, tmp_path, monkeypatch):
    words = ["--data.train", "train.jsonl", "--data.valid", "valid.jsonl"]
    shell.answer("train", "small.toml", "--out", tmp_path / "run", *words, "--training.steps", "3")
    recipe = headway.read_recipe(tmp_path / "run" / "recipe.toml")
    assert recipe.training.precision != "auto"
    assert recipe.playbook.choose_by != "auto"
    monkeypatch.chdir(tmp_path)
    shell.answer("train", "--resume", "run", "--training.steps", "5")


def test_a_run_may_start_from_a_model(shell, tmp_path):
    path = tmp_path / "more.toml"
    path.write_text('[model]\npath = "run/model"\n[training]\nsteps = 2\n')
    words = ["train", path, "--out", tmp_path / "run", "--data.train", "train.jsonl"]
    shell.answer(*words)
    before = json.loads(Path("run/model/config.json").read_text())
    assert json.loads((tmp_path / "run" / "model" / "config.json").read_text()) == before


# Evaluate


def test_evaluate_gives_scores_and_intervals(shell):
    (found,) = shell.objects("evaluate", "run/model", "--data", "valid.jsonl")
    assert list(found["scores"]) == SCORES
    assert list(found["intervals"]) == SCORES[:3]
    for name, (low, high) in found["intervals"].items():
        assert 0 <= low <= found["scores"][name] + 1e-9 <= high + 1e-9 <= 100 + 2e-9
    assert (found["rows"], found["skipped"]) == (8, 0)
    assert found["signatures"]["bleu"].startswith("nrefs:1|")
    table = shell.answer("evaluate", "run/model", "--data", "valid.jsonl")
    assert [line.split()[0] for line in table] == [*SCORES, "rows"]


def test_evaluate_writes_predictions_and_counts_skipped_rows(shell, tmp_path):
    data = tmp_path / "some.jsonl"
    data.write_text(Path("valid.jsonl").read_text() + '{"source": "red"}\n')
    words = ["evaluate", "run/model", "--data", data, "--skip-bad", "--samples", "10"]
    (found,) = shell.objects(*words, "--predictions", tmp_path / "predictions.txt")
    assert (found["rows"], found["skipped"]) == (8, 1)
    rows = [json.loads(line) for line in Path("valid.jsonl").read_text().splitlines()]
    expected = headway.load("run/model", precision="auto").translate(
        [row["source"] for row in rows]
    )
    assert (tmp_path / "predictions.txt").read_text().splitlines() == expected


def test_evaluate_compares_two_models(shell):
    words = ["evaluate", "run/model", "--data", "valid.jsonl", "--compare", "run/model"]
    (found,) = shell.objects(*words, "--samples", "50")
    assert [test["name"] for test in found["comparison"]] == SCORES[:3]
    for test in found["comparison"]:
        assert test["first"] == test["second"] == pytest.approx(found["scores"][test["name"]])
        assert test["p_value"] == 1
    assert any("difference" in line for line in shell.answer(*words, "--samples", "50"))


# Predict and translate


@pytest.mark.parametrize(
    "words",
    [["predict", "run/model", "valid.jsonl"], ["evaluate", "run/model", "--data", "valid.jsonl"]],
)
def test_what_was_cut_is_counted_on_standard_error(words, shell, tmp_path):
    shutil.copytree("run/model", tmp_path / "model")
    (tmp_path / "model" / "manifest.json").unlink()
    path = tmp_path / "model" / "headway.json"
    own = json.loads(path.read_text())
    own["task"] |= {"max_source_tokens": 2, "max_target_tokens": 2}
    path.write_text(json.dumps(own))
    main([word.replace("run/model", str(tmp_path / "model")) for word in words])
    error = shell.capsys.readouterr().err
    assert re.search(r"warning: \d of 8 sources cut: longer than the model reads", error)
    assert re.search(r"warning: \d of 8 predictions cut", error)
    is_scored = words[0] == "evaluate"
    assert bool(re.search(r"warning: \d of 8 targets cut for the perplexity", error)) == is_scored


def test_predict_gives_one_object_for_each_record_in_order(shell):
    rows = [json.loads(line) for line in Path("valid.jsonl").read_text().splitlines()]
    found = shell.objects("predict", "run/model", "valid.jsonl")
    expected = headway.load("run/model", precision="auto").predict(rows)
    assert [row["prediction"] for row in found] == [row["prediction"] for row in expected]
    assert all(row.keys() - {"cut"} == {"prediction", "score"} for row in found)
    plain = shell.answer("predict", "run/model", "valid.jsonl")
    assert plain == [row["prediction"] for row in found]
    text = "".join(row["source"] + "\n" for row in rows)
    assert shell.answer("predict", "run/model", stdin=text) == plain
    table = "de\ten\n" + "".join(f"{row['source']}\tx\n" for row in rows)
    words = ["predict", "run/model", "-", "--columns", "source=de"]
    assert shell.answer(*words, stdin=table) == plain


def test_an_answer_does_not_depend_on_the_rows_beside_it(shell):
    together = shell.objects("predict", "run/model", "valid.jsonl")
    for line, expected in zip(Path("valid.jsonl").read_text().splitlines(), together, strict=True):
        (alone,) = shell.objects("predict", "run/model", stdin=line)
        assert alone["prediction"] == expected["prediction"]
        assert alone["score"] == pytest.approx(expected["score"], abs=2e-6)


def test_translate_gives_the_best_results(shell):
    words = ["translate", "run/model", "red blue", "green", "--n-best", "3"]
    found = shell.objects(*words)
    assert [row["source"] for row in found] == ["red blue", "green"]
    for row in found:
        scores = [other["score"] for other in row["n_best"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        assert (row["prediction"], row["score"]) == tuple(row["n_best"][0].values())
    lines = shell.answer(*words)
    expected = [f"{b['score']:.4f}\t{b['prediction']}" for row in found for b in row["n_best"]]
    assert lines == expected


def test_translate_draws_what_was_looked_at(shell, tmp_path):
    words = ["translate", "run/model", "red blue", "--attention", tmp_path / "a.html"]
    shell.answer(*words, "--num-beams", "1", "--precision", "bf16")
    assert "<svg" in (tmp_path / "a.html").read_text()


# Inspect, recipes, new


def test_inspect_describes_data(shell):
    (found,) = shell.objects("inspect", "train.jsonl")
    assert found["splits"][0]["num_rows"] == 60
    lines = shell.answer("inspect", "train.jsonl")
    assert lines[0].split()[:2] == ["split", "rows"]
    assert lines[-1] == "Lengths are in words."


def test_inspect_names_bad_and_blank_rows_with_file_and_line(shell, tmp_path):
    path = tmp_path / "some.jsonl"
    good = '{"source": "red", "target": "rot"}\n'
    path.write_text(good + 25 * "{\n" + 2 * "\n" + good)
    (found,) = shell.objects("inspect", path)
    (split,) = found["splits"]
    bad = [f"{path}, line {number}" for number in range(2, 22)]
    assert (split["bad_rows"], [row["where"] for row in split["bad_examples"]]) == (25, bad)
    blank = [f"{path}, line 27", f"{path}, line 28"]
    assert (split["empty_rows"], split["empty_examples"]) == (2, blank)
    lines = shell.answer("inspect", path)
    start = lines.index("bad rows (25):") + 1
    assert [line.split(": ")[0].strip() for line in lines[start : start + 20]] == bad
    assert all("no valid JSON" in line for line in lines[start : start + 20])
    expected = ["  and 5 more", "blank rows (2):", *(f"  {place}" for place in blank)]
    assert lines[start + 20 :] == [*expected, "Lengths are in words."]


def test_inspect_describes_a_model(shell):
    (found,) = shell.objects("inspect", "run/model")
    body = headway.load("run/model").body
    count = sum(value.numel() for value in body.parameters() if value.requires_grad)
    assert found["parameters"]["total"] == count
    assert found["architecture"] == "transformer"
    assert found["task"]["name"] == "translation"
    assert shell.answer("inspect", "run/model")[0].startswith("run/model: transformer, ")


def test_inspect_describes_a_run(shell):
    (found,) = shell.objects("inspect", "run")
    assert found["metrics"][-1]["step"] == 20
    lines = shell.answer("inspect", "run")
    assert lines[0] == "run: 20 steps"
    assert lines[-1] == "report: run/report.html"


def test_inspect_describes_a_recipe(shell, tmp_path):
    words = ["inspect", "small.toml", "--training.steps", "30", "--model.norm", "pre"]
    (found,) = shell.objects(*words)
    assert sum(group["tensors"] for group in found["groups"]) > 10
    assert max(found["learning_rate"]) <= 1e-2
    assert 'norm = "pre"' in found["recipe"]
    lines = shell.answer(*words, "--picture", tmp_path / "rate.svg")
    assert "  norm = pre" in lines
    assert "<svg" in (tmp_path / "rate.svg").read_text()
    (tmp_path / "again.toml").write_text(found["recipe"])
    assert recipes.write(headway.read_recipe(tmp_path / "again.toml")) == found["recipe"]


@pytest.mark.parametrize("name", recipes.shipped())
def test_a_shipped_recipe_can_be_printed_read_and_built(name, shell, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(shell.answer("new", name)) + "\n")
    assert path.read_text() == recipes.shipped()[name].read_text()
    recipe = headway.read_recipe(path)
    # One that starts from a folder has no sizes of its own.
    if recipe.model.path is None:
        ids = {"pad_token_id": 0, "eos_token_id": 0}
        assert model_config(recipe, vocab_size=recipe.text.vocab_size, **ids).check() == []
        (found,) = shell.objects("inspect", name)
        assert found["groups"]
    assert resolve_task(recipe).check() == []
    (tmp_path / "again.toml").write_text(recipes.write(recipe))
    assert headway.read_recipe(tmp_path / "again.toml") == recipe
    listed = shell.objects("recipes")
    assert {row["name"] for row in listed} == set(recipes.shipped())
    assert all(row["summary"] for row in listed)
    assert any(line.startswith(f"{name} ") for line in shell.answer("recipes"))


VERBS = ["quickstart", "train", "evaluate", "predict", "inspect", "fill", "embed", "convert"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example_and_every_option(verb, shell):
    text = "\n".join(shell.answer(verb, "--help"))
    assert f"headway {verb}" in text
    if verb in ("train", "inspect"):
        for section in recipes.SECTIONS:
            for key in recipes.own_fields(section):
                assert f"--{section}.{key.replace('_', '-')} " in text


@pytest.mark.slow
def test_the_quickstart_runs_from_nothing(shell, tmp_path):
    words = ["quickstart", "--out", tmp_path, "--num-train", "300", "--num-test", "20"]
    lines = shell.answer(*words, "--epochs", "1")
    assert sum("  ->  " in line for line in lines) <= 10
    assert any(line.startswith("exact match: ") for line in lines)
    assert (tmp_path / "run" / "report.html").is_file()


# From Python


def test_a_model_is_loaded_and_used(home):
    model = headway.load(home / "run" / "model")
    texts = ["red blue", "white", "black green red"]
    answers = model.translate(texts)
    assert len(answers) == 3
    assert all(isinstance(answer, str) for answer in answers)
    again = model.predict([{"source": text} for text in texts])
    assert [answer["prediction"] for answer in again] == answers
    assert model.translate([]) == []


def test_a_run_is_a_generator_of_values(tmp_path):
    events = list(headway.run_recipe(make_recipe(tmp_path), str(tmp_path / "run")))
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    steps = [event.step for event in events if isinstance(event, Report)]
    assert steps == list(range(1, 15))
    best = [event for event in events if isinstance(event, Evaluated) and event.is_best][-1]
    assert events[-1].best_step == best.step
    assert events[-1].best_score == best.scores["chrf"]
    more = list(headway.resume_run(tmp_path / "run", length={"steps": 16}))
    assert more[-1].step == 16
    assert headway.load(events[-1].model_dir).translate(["red"])


def test_the_loop_of_the_docstring_trains(home, tmp_path):
    rows = [{"source": source, "target": target} for source, target in COLORS.items()]
    model = headway.load(home / "run" / "model")
    examples = model.task.encode(rows, model.setting)
    options = Training(steps=120, peak_lr=3e-2, warmup_steps=5, batch_rows=5, batch_tokens=None)
    names: dict[str, Any] = {
        "Trainer": Trainer,
        "model": model,
        "examples": examples,
        "options": options,
    }
    lines = (loop.__doc__ or "").split("\n")
    code = "\n".join(line[4:] for line in lines if line.startswith("    "))
    assert "trainer.take_step()" in code
    exec(code, names)
    assert names["trainer"].state.step == 120
    assert model.translate([row["source"] for row in rows]) == list(COLORS.values())
    model.save(tmp_path / "mine")
    assert headway.load(tmp_path / "mine").translate(["red"]) == ["rot"]
