"""Stopping and going on gives the same bits as never having stopped."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from headway import recipe as recipes
from headway.errors import ConfigError, FileError, TrainError
from headway.train import run as running
from headway.train.guard import Stopped
from headway.train.log import read_jsonl
from headway.train.run import resume, train
from headway.train.state import list_checkpoints, newest_checkpoint, read_weights, step_of
from small import make_recipe, write_pairs, write_recipe


@pytest.fixture(autouse=True)
def _deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def finish(events) -> list:
    return list(events)


def final_weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return read_weights(list_checkpoints(run_dir / "checkpoints")[-1] / "model.safetensors")


def assert_same_run(first: Path, second: Path) -> None:
    ours, theirs = final_weights(first), final_weights(second)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
    best = [read_weights(path / "model" / "model.safetensors") for path in (first, second)]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])

    def timeless(path: Path):
        rows = read_jsonl(path / "metrics.jsonl")
        for row in rows:
            row.pop("seconds", None)
            row.pop("tokens_per_second", None)
        return [json.dumps(row, sort_keys=True) for row in rows]

    assert timeless(first) == timeless(second)


def assert_stopping_changes_nothing(recipe, folder: Path, stop_after: int) -> None:
    """Stop a run by a signal after so many updates, go on, and compare it with "whole"."""
    with pytest.raises(Stopped) as stopped:
        for event in train(recipe, folder / "parts"):
            if isinstance(event, running.Report) and event.step == stop_after:
                os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.exit_code == 75
    finish(resume(folder / "parts"))
    assert_same_run(folder / "whole", folder / "parts")


@pytest.mark.parametrize("architecture", ["transformer", "seq2seq"])
@pytest.mark.parametrize("stop_after", [1, 4, 5, 11])
def test_stopping_by_a_signal_and_resuming_gives_the_same_bits(architecture, stop_after, tmp_path):
    recipe = make_recipe(tmp_path, architecture)
    finish(train(recipe, tmp_path / "whole"))
    assert_stopping_changes_nothing(recipe, tmp_path, stop_after)


CAUSAL = """
[text]
tokenizer = "byte-bpe"
vocab-size = 290

[model]
architecture = "gpt2"
hidden-size = 16
num-hidden-layers = 2
num-attention-heads = 2
max-position-embeddings = 32
dropout = 0.2

[task]
name = "causal_lm"
max-tokens = 24

[training]
batch-tokens = 120
micro-batch-tokens = 80
layout = "packed"
peak-lr = 1e-2
warmup-steps = 3
steps = 30
evaluate-steps = 7
precision = "fp32"
"""


def write_corpus(folder: Path) -> Path:
    """Write a recipe and text of several documents, some longer than a window."""
    generator = random.Random(3)
    words = ["the", "sea", "was", "calm", "and", "two", "boats", "lay", "on", "the", "sand"]
    for name, count in (("train", 9), ("valid", 2)):
        rows = [" ".join(generator.choices(words, k=8 * n + 2)) + "\n" for n in range(count)]
        text = "".join(json.dumps({"text": row}) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text)
    path = folder / "causal.toml"
    path.write_text(CAUSAL)
    return path


@pytest.mark.parametrize("stop_after", [1, 8, 20])
def test_a_causal_run_that_is_stopped_and_resumed_gives_the_same_bits(stop_after, tmp_path):
    data = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "valid")}
    recipe = recipes.read(write_corpus(tmp_path), {"data": data})
    finish(train(recipe, tmp_path / "whole"))
    rows = read_jsonl(tmp_path / "whole" / "metrics.jsonl")
    # Windows begin elsewhere in every pass.
    assert max(row.get("epoch", 0) for row in rows) >= 2
    assert_stopping_changes_nothing(recipe, tmp_path, stop_after)


@pytest.mark.parametrize("name", ["bert", "roberta", "albert"])
@pytest.mark.parametrize("stop_after", [1, 8])
def test_a_pretraining_that_is_stopped_and_resumed_gives_the_same_bits(name, stop_after, tmp_path):
    write_corpus(tmp_path)
    # Examples of many documents, pairs of them too; masks and pairs are drawn anew in each pass.
    text = (tmp_path / "train.jsonl").read_text() * 4
    (tmp_path / "train.jsonl").write_text(text.replace(" the ", ".\\nThe "))
    data = {key: str(tmp_path / f"{key}.jsonl") for key in ("train", "valid")}
    sizes = {"hidden-size": 16, "num-hidden-layers": 2, "num-attention-heads": 2}
    changes = {
        "data": data,
        "text": {"vocab-size": 320},
        "model": {**sizes, "intermediate-size": 32, "dropout": 0.1},
        "task": {"max-tokens": 32, "short-tokens": 16},
        "training": {"batch-tokens": 240, "steps": 14, "evaluate-steps": 5, "warmup-steps": 2},
    }
    recipe = recipes.read(recipes.find(f"{name}-mini-pretrain"), changes)
    finish(train(recipe, tmp_path / "whole"))
    assert read_jsonl(tmp_path / "whole" / "metrics.jsonl")[-1]["epoch"] > 1
    assert_stopping_changes_nothing(recipe, tmp_path, stop_after)


def test_a_metrics_line_cut_short_and_steps_done_again_leave_no_trace(tmp_path):
    recipe = make_recipe(tmp_path)
    finish(train(recipe, tmp_path / "whole"))
    events = train(recipe, tmp_path / "parts")
    for event in events:
        if isinstance(event, running.Report) and event.step == 8:
            break
    events.close()
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 9, "epo')
    finish(resume(tmp_path / "parts"))
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    # A run that is over takes the mean of its checkpoints anew, and says so once.
    finish(resume(tmp_path / "parts"))
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_run_is_not_made_shorter_than_it_is(tmp_path):
    data = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "valid")}
    finish(train(recipes.read(write_corpus(tmp_path), {"data": data}), tmp_path / "run"))
    before = (tmp_path / "run" / "recipe.toml").read_text()
    with pytest.raises(ConfigError, match=r"has made \d+ updates, but is to have 2 in all"):
        finish(resume(tmp_path / "run", length={"steps": 2}))
    assert (tmp_path / "run" / "recipe.toml").read_text() == before


def headway(*words: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "headway.cli._main", *words]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    )


def newest_step(run_dir: Path) -> int:
    checkpoints = list_checkpoints(run_dir / "checkpoints")
    return step_of(checkpoints[-1]) if checkpoints else 0


def wait_for_checkpoint(process: subprocess.Popen, run_dir: Path, *, after: int) -> int:
    """Wait for a checkpoint of a later step than `after`; give its step."""
    deadline = time.monotonic() + 60
    while (step := newest_step(run_dir)) <= after:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, f"no checkpoint after that of step {after}"
        time.sleep(0.002)
    return step


@pytest.mark.slow
def test_kill_nine_at_random_moments_and_resuming_gives_the_same_bits(tmp_path):
    # As a process it runs with other threads than the tests, so both sides are processes.
    data = write_pairs(tmp_path, count=200)["data"]
    path = write_recipe(tmp_path)
    words = ["--data.train", data["train"], "--data.valid", data["valid"]]
    words += ["--training.steps", "100", "--training.evaluate-steps", "4"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    done = headway("train", str(path), "--out", str(whole), *words)
    assert done.wait() == 0, done.stderr.read()
    process = headway("train", str(path), "--out", str(parts), *words)
    generator = random.Random(7)
    reached = [0]
    for _ in range(3):
        first = wait_for_checkpoint(process, parts, after=reached[-1])
        started = time.monotonic()
        later = wait_for_checkpoint(process, parts, after=first)
        # Anywhere in an update, an evaluation or the writing of a checkpoint, however fast it is.
        time.sleep(generator.uniform(0.0, 2.0) * (time.monotonic() - started))
        process.kill()
        assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"
        newest, damaged = newest_checkpoint(parts / "checkpoints")
        assert newest is not None
        assert damaged == []
        assert step_of(newest) >= later
        reached.append(step_of(newest))
        process = headway("train", "--resume", str(parts))
    assert process.wait() == 0, process.stderr.read()
    starts = re.findall(r"training from step (\d+)", (parts / "log.txt").read_text())
    assert [int(step) for step in starts] == reached
    assert_same_run(whole, parts)


@pytest.mark.slow
def test_ctrl_c_exits_with_75_and_says_how_to_go_on(tmp_path):
    data = write_pairs(tmp_path)["data"]
    path, out = write_recipe(tmp_path), tmp_path / "run"
    process = headway(
        *["train", str(path), "--out", str(out), "--data.train", data["train"]],
        *["--training.steps", "100000", "--training.evaluate-steps", "50000"],
    )
    deadline = time.monotonic() + 60
    while not (out / "metrics.jsonl").exists() and time.monotonic() < deadline:
        # Reports come every 500 steps here; the log says sooner that training began.
        if (out / "log.txt").exists():
            break
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=25) == 75
    error = process.stderr.read()
    assert f"headway train --resume {out}" in error
    assert newest_checkpoint(out / "checkpoints")[0] is not None


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_passed_over_and_said_so(file, damage, tmp_path):
    recipe = make_recipe(tmp_path)
    finish(train(recipe, tmp_path / "run"))
    newest = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    content = bytearray((newest / file).read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        (newest / file).write_bytes(content)
    elif damage == "cut":
        (newest / file).write_bytes(content[: len(content) // 2])
    else:
        (newest / file).unlink()
    found, damaged = newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert found < newest
    assert file in damaged[0]
    events = finish(resume(tmp_path / "run", length={"steps": 16}))
    notes = [event.text for event in events if isinstance(event, running.Note)]
    assert any(file in note for note in notes)


def test_a_checkpoint_without_a_manifest_does_not_count(tmp_path):
    recipe = make_recipe(tmp_path)
    finish(train(recipe, tmp_path / "run"))
    newest = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    (newest / "manifest.json").unlink()
    assert newest_checkpoint(tmp_path / "run" / "checkpoints")[0] != newest


@pytest.mark.parametrize("where", ["weight", "gradient"])
def test_a_value_that_is_not_finite_stops_the_run_before_the_update(where, tmp_path, monkeypatch):
    recipe = make_recipe(tmp_path)
    take_step = running.Trainer.take_step

    def poisoned(self):
        if self.state.step == 6 and where == "weight":
            with torch.no_grad():
                self.model.body.encoder.layers[0].feed_forward.up.weight[0, 0] = torch.nan
        if self.state.step == 6 and where == "gradient":
            weight = self.model.body.encoder.layers[0].feed_forward.up.weight
            weight.register_hook(lambda gradient: gradient * torch.inf)
        return take_step(self)

    monkeypatch.setattr(running.Trainer, "take_step", poisoned)
    with pytest.raises(TrainError, match=r"step 7, examples \d+"):
        finish(train(recipe, tmp_path / "run"))
    newest, damaged = newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert newest is not None
    assert newest.name == "step-00000005"
    assert damaged == []
    weights = read_weights(newest / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_changed_data_is_noticed(tmp_path):
    recipe = make_recipe(tmp_path)
    finish(train(recipe, tmp_path / "run"))
    train_file = Path(recipe.data.train[0])
    train_file.write_text("".join(train_file.open().readlines()[:-1]), encoding="utf-8")
    with pytest.raises(FileError, match="changed since the run started"):
        finish(resume(tmp_path / "run"))


def test_a_run_is_never_overwritten(tmp_path):
    recipe = make_recipe(tmp_path)
    finish(train(recipe, tmp_path / "run"))
    with pytest.raises(FileError, match="never overwritten"):
        finish(train(recipe, tmp_path / "run"))


def test_a_second_process_is_kept_out(tmp_path):
    recipe = make_recipe(tmp_path)
    events = train(recipe, tmp_path / "run")
    next(events)
    with pytest.raises(FileError, match="in use"):
        finish(resume(tmp_path / "run"))
    events.close()
    finish(resume(tmp_path / "run"))


def test_a_full_disk_is_one_line_and_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    from headway.files import manifest
    from headway.train import state

    recipe = make_recipe(tmp_path)
    save = state.save_tensors

    def full(tensors, path, **more):
        if "00000010" in str(path):
            raise OSError(28, "No space left on device")
        save(tensors, path, **more)

    monkeypatch.setattr(state, "save_tensors", full)
    with pytest.raises(FileError, match="No space left on device"):
        finish(train(recipe, tmp_path / "run"))
    folder = tmp_path / "run" / "checkpoints"
    assert [path.name for path in list_checkpoints(folder)] == ["step-00000005"]
    assert not list(folder.glob(".*")), "no draft is left behind"
    manifest.check_folder(list_checkpoints(folder)[0])
    monkeypatch.undo()
    torch.use_deterministic_algorithms(True)
    finish(resume(tmp_path / "run"))
    finish(train(recipe, tmp_path / "whole"))
    assert_same_run(tmp_path / "whole", tmp_path / "run")
