"""What a clumsy or hostile user gives: one line, the right exit code, nothing half written."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import headway
from headway.cli import _records
from headway.cli._main import main
from headway.errors import FileError, HeadwayError, RequestError
from headway.tasks._model import Model
from headway.train import run as running
from small import make_recipe, write_pairs, write_recipe

DEEP = "[" * 100_000
MILLION = 1_000_000


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Train the one model of this file; give its run."""
    folder = tmp_path_factory.mktemp("trained")
    for _ in headway.run_recipe(make_recipe(folder), folder / "run"):
        pass
    return folder / "run"


@pytest.fixture
def model_dir(trained, tmp_path) -> Path:
    """Give a copy of the model to damage, without the manifest that would tell."""
    path = tmp_path / "model"
    shutil.copytree(trained / "model", path)
    (path / "manifest.json").unlink()
    return path


class Shell:
    """Runs commands in this process."""

    def __init__(self, capsys, monkeypatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def run(self, *words: Any, stdin: bytes = b"") -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        self.capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *self.capsys.readouterr()

    def answer(self, *words: Any, stdin: bytes = b"") -> list[str]:
        """Run a command that works; give the lines of its output."""
        code, out, err = self.run(*words, stdin=stdin)
        assert code == 0, err
        assert out.endswith("\n")
        return out[:-1].split("\n")

    def refuse(self, pattern: str, *words: Any, code: int = 1, stdin: bytes = b"") -> str:
        """Run a command that must fail before any output, with one line of error."""
        found, out, err = self.run(*words, stdin=stdin)
        assert (found, out) == (code, ""), err
        assert err.startswith("headway: "), err
        assert err.count("\n") == 1, err
        assert "headway: unexpected" not in err, err
        assert re.search(pattern, err), err
        return err


@pytest.fixture
def shell(capsys, monkeypatch) -> Shell:
    return Shell(capsys, monkeypatch)


class Bench:
    """A folder with good data and a good recipe, for commands that must leave it as it was."""

    def __init__(self, folder: Path, shell: Shell) -> None:
        self.folder, self.shell, self.out = folder, shell, folder / "out"
        self.data = write_pairs(folder)["data"]
        self.recipe = write_recipe(folder)

    def refuse(self, pattern: str, *more: Any, code: int = 1, **changes: Any) -> str:
        """Start a training that must fail before anything is written."""
        train = changes.get("train", [self.data["train"]])
        words = ["train", changes.get("recipe", self.recipe), "--out", self.out]
        words += ["--data.train", *train, "--data.valid", self.data["valid"], *more]
        before = sorted(self.folder.rglob("*"))
        error = self.shell.refuse(pattern, *words, code=code)
        assert sorted(self.folder.rglob("*")) == before
        return error


@pytest.fixture
def bench(tmp_path, shell) -> Bench:
    return Bench(tmp_path, shell)


# Data


@pytest.mark.parametrize(
    ("name", "content", "pattern"),
    [
        ("a.jsonl", b"", r"a\.jsonl has no usable rows"),
        ("a.jsonl", b"\n \n", r"2 blank"),
        ("a.jsonl", b'{"source": "a\xff", "target": "b"}\n', r"line 1: not UTF-8: byte 0xff"),
        ("a.jsonl", b'{"source": "a"\n', r"line 1: no valid JSON.*--data\.skip-bad true"),
        ("a.jsonl", DEEP.encode(), r"line 1: no valid JSON"),
        ("a.jsonl", b'{"source": "\\ud800", "target": "b"}\n', r"half of a surrogate pair"),
        ("a.jsonl", b'{"source": "a"}\n', r"line 1: no column 'target'.*--data\.columns target=N"),
        ("a.jsonl", b'{"source": 5, "target": "b"}\n', r"line 1: source is no text, but 5"),
        ("a.jsonl", b'["a", "b"]\n', r"line 1: no JSON object"),
        ("a.tsv", b"quelle\tziel\na\tb\n", r"no column 'source' or 'target'.*line 1.*source=NAME"),
        ("a.tsv", b"source\ttarget\na\n", r"line 2: the number of fields is 1"),
        ("a.csv", b'source,target\n"a,b\n', r"line 2: no valid CSV"),
        ("a.jsonl.gz", b"\x1f\x8babc", r"no whole gzip file"),
        ("a.txt", b"a\tb\n", r"plain text, but the task needs 'source', 'target'"),
    ],
)
def test_data_that_cannot_be_used_is_named(name, content, pattern, bench):
    path = bench.folder / name
    path.write_bytes(content)
    assert name in bench.refuse(pattern, train=[path])


def test_a_missing_file_offers_the_nearest_name(bench):
    bench.refuse(r"no file .*trian\.jsonl.*nearest.*train\.jsonl", train=["trian.jsonl"])


@pytest.fixture(autouse=True)
def _at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_missing_directory_is_said(bench):
    bench.refuse(r"no directory .*nowhere either", train=[bench.folder / "nowhere" / "x.tsv"])


def test_a_directory_in_place_of_a_file_is_said(bench):
    bench.refuse(r"it is a directory\. Name a file", train=[bench.folder])


def test_a_recipe_without_data_says_how_to_name_it(bench):
    bench.shell.refuse(r"--data\.train", "train", bench.recipe, "--out", bench.out, code=2)
    assert not bench.out.exists()


def test_parallel_files_of_different_lengths_name_the_first_surplus_line(bench):
    Path("a.de").write_text("eins\nzwei\ndrei\n")
    Path("a.en").write_text("one\ntwo\n")
    bench.refuse(r"a\.en has 2 lines but a\.de has 3: .*a\.de, line 3", train=["a.de", "a.en"])


@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
def test_a_row_of_a_million_characters_is_cut_and_counted(tokenizer, bench):
    row = {"source": "a" * MILLION, "target": "rot " * (MILLION // 4)}
    with open(bench.data["train"], "a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
    started = time.monotonic()
    words = ["train", bench.recipe, "--out", bench.out, "--data.train", bench.data["train"]]
    words += ["--text.tokenizer", tokenizer, "--text.vocab-size", "60", "--training.steps", "2"]
    code, _, err = bench.shell.run(*words)
    assert code == 0, err
    assert "train target is cut: rows" in err
    sides = json.loads((bench.out / "data.json").read_text())["splits"][0]["sides"]
    assert sides[1]["max"] > MILLION // 5
    assert sides[1]["truncated_rows"] >= 1
    assert time.monotonic() - started < 30


# Recipes


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("[training\n", r"no valid TOML.*line 1"),
        ("a = " + DEEP, r"no valid TOML"),
        ("steps = 5\n", r"no section 'steps'"),
        ("[trainig]\n", r"no section 'trainig'.*'training'"),
        ("training = 5\n", r"must be a section"),
        ("[training]\nstep = 5\n", r"no training\.step\..*'steps'"),
        ("[training]\nsteps = 'many'\n", r"training\.steps is 'many', but must be of type int"),
        ("[training]\nsteps = true\n", r"training\.steps is True"),
        ("[training]\nsteps = [1, 2]\n", r"training\.steps takes one value"),
        ("[training]\nsteps = 1e999\n", r"training\.steps is inf"),
        ("[training]\nsteps = 2020-01-01\n", r"must be of type int"),
        ("[training]\nbatch-rows = 2\nbatch-tokens = 9\n", r"exactly one of"),
        ("[training]\nbatch-rows = 2\nbatch_rows = 3\n", r"training\.batch-rows is given twice"),
        ("[model]\nhidden = 4\n", r"no model\.hidden\..*'hidden-size'"),
        ("[model]\nhidden-size = 'wide'\n", r"model\.hidden-size is 'wide'"),
        ("[model]\nvocab-size = 9\n", r"vocab_size cannot be chosen.*text\.vocab-size"),
        ("[task]\nbeams = 4\n", r"no task\.beams\..*'num-beams'"),
        ("[data]\nskip-bad = 1\n", r"data\.skip-bad is 1, but must be of type bool"),
        ("[data]\ncolumns = {a = 1}\n", r"data\.columns is"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_a_mistake_of_usage(text, pattern, bench):
    path = bench.folder / "bad.toml"
    path.write_text(text)
    bench.refuse(pattern, recipe=path, code=2)


@pytest.mark.parametrize("content", [b"\xff\xfe[training]", None])
def test_a_recipe_that_cannot_be_read_is_named(content, bench):
    path = bench.folder / "bad.toml"
    path.mkdir() if content is None else path.write_bytes(content)
    bench.refuse(r"bad\.toml", recipe=path)


def test_a_byte_order_mark_before_a_recipe_is_no_problem(bench):
    text = bench.recipe.read_bytes()
    bench.recipe.write_bytes(b"\xef\xbb\xbf" + text)
    assert bench.shell.run("inspect", bench.recipe)[0] == 0


@pytest.mark.parametrize(
    ("flags", "pattern"),
    [
        ("--training.stps 3", r"no training\.stps.*'steps'"),
        ("--trainig.steps 3", r"no section 'trainig'.*'training'"),
        ("--training.steps", r"--training\.steps needs a value"),
        ("--training.steps 0", r"at least 1"),
        ("--training.steps -1", r"at least 1"),
        ("--training.steps 1.5", r"of type int"),
        ("--training.epochs 0", r"above 0"),
        ("--training.peak-lr nan", r"finite"),
        ("--training.peak-lr -1", r"above 0"),
        ("--training.weight-decay inf", r"finite"),
        ("--training.clip-norm -1", r"at least 0"),
        ("--training.betas 0.9", r"takes 2 values, not 1"),
        ("--training.betas 0.9 1.0", r"below 1"),
        ("--training.seed -1", r"from 0 to below 2\^63"),
        ("--training.seed 1" + 30 * "0", r"from 0 to below 2\^63"),
        ("--training.batch-rows 2 --training.batch-tokens 9", r"exactly one of"),
        ("--training.schedule cosin", r"'cosine'"),
        ("--training.optimizer sgd", r"known: adam, adamw"),
        ("--training.layout sort", r"'sorted'"),
        ("--training.precision fp99", r"precision is 'fp99'"),
        ("--text.tokenizer bp", r"text\.tokenizer is 'bp'.*'bpe'"),
        ("--text.vocab-size 7", r"at least 8"),
        ("--text.tokenizer bpe --text.vocab-size 8", r"vocab-size is 8.*take \d+\. raise it"),
        ("--text.tokenizer unigram --text.vocab-size 8", r"raise text\.vocab-size"),
        ("--text.lowercase maybe", r"of type bool"),
        ("--model.architecture transfomer", r"no model 'transfomer'.*'transformer'"),
        ("--model.architecture ../x", r"no model '\.\./x'"),
        ("--model.preset bas", r"no preset 'bas'.*'base'"),
        ("--model.hidden-sze 16", r"no model\.hidden-sze.*'hidden-size'"),
        ("--model.num-attention-heads 3", r"heads is 3, but hidden_size 16 is not divisible"),
        ("--model.hidden-size 0", r"at least 1"),
        ("--model.hidden-size 1" + 12 * "0", r"beyond any model"),
        ("--model.hidden-size 1000000", r"M parameters, which need [\d,]+ GB"),
        ("--model.num-encoder-layers 1000000000", r"beyond any model"),
        ("--model.intermediate-size -4", r"intermediate_size is -4"),
        ("--model.max-position-embeddings 0", r"max_position_embeddings is 0"),
        ("--model.dropout 1", r"from 0 to below 1"),
        ("--model.position-base nan", r"finite"),
        ("--model.path nowhere", r"brings its own sizes"),
        ("--task.name translate", r"no task 'translate'.*'translation'"),
        ("--task.num-beams 1000000", r"at most 256"),
        ("--task.num-beams 0", r"at least 1"),
        ("--task.num-best 3", r"from 1 to num_beams \(2\)"),
        ("--task.min-tokens 1000", r"from 0 to max_target_tokens"),
        ("--task.length-penalty 1e308", r"from -20\.0 to 20\.0"),
        ("--task.label-smoothing 1", r"below 1"),
        ("--playbook.choose-by bleux", r"'bleu'"),
        ("--playbook.valid-beams 1000000", r"playbook\.valid-beams.*at most 256"),
        ("--playbook.patience 0", r"at least 1"),
        ("--data.max-rows 0", r"at least 1"),
        ("--data.columns a b", r"'source' is not among the names"),
    ],
)
def test_a_flag_that_makes_no_sense_is_a_mistake_of_usage(flags, pattern, bench):
    bench.refuse(pattern, *flags.split(), code=2)


@pytest.mark.parametrize("schedule", ["constant", "one-cycle", "linear", "cosine", "inverse-sqrt"])
def test_one_step_is_a_whole_run(schedule, tmp_path):
    recipe = make_recipe(tmp_path, steps=1, schedule=schedule)
    *_, last = headway.run_recipe(recipe, tmp_path / "run")
    assert last.step == 1
    assert headway.load(last.model_dir).translate(["red"])


# Verbs


@pytest.mark.parametrize(
    ("words", "pattern", "code"),
    [
        (["trian"], r"no verb 'trian': did you mean 'train'", 2),
        (["\udcff"], r"no verb", 2),
        (["train"], r"give either a recipe or --resume", 2),
        (["train", "multi30k-transfomer"], r"'multi30k-transformer'", 1),
        (["train", "x" * 300], r"too long", 1),
        (["new", "dats"], r"no shipped recipe 'dats'.*'dates'", 1),
        (["inspect"], r"nothing to inspect", 2),
        (["inspect", "nowhere"], r"no file nowhere", 1),
        (["inspect", "."], r"neither a model folder nor a run", 2),
        (["inspect", "x" * 300], r"too long", 1),
        (["quickstart", "--num-train", "0"], r"at least 1", 2),
        (["quickstart", "--epochs", "0"], r"above 0", 2),
        (["translate", "nowhere", "red"], r"no model folder nowhere", 1),
        (["translate", "x" * 300, "red"], r"too long", 1),
        (["predict", "nowhere"], r"no model folder nowhere", 1),
        (["evaluate", "nowhere", "--data", "a.tsv"], r"no model folder nowhere", 1),
        (["evaluate", "nowhere"], r"--data is missing", 2),
    ],
)
def test_a_word_that_makes_no_sense_is_one_line(words, pattern, code, shell, tmp_path):
    shell.refuse(pattern, *words, code=code)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["new"], ["train", "--stps", "3"], ["recipes", "x"]])
def test_the_box_of_a_usage_error_is_on_standard_error(words, shell):
    code, out, err = shell.run(*words)
    assert (code, out) == (2, "")
    assert "--help" in err


def test_no_verb_is_a_mistake_of_usage(shell):
    code, out, err = shell.run()
    assert (code, out) == (2, "")
    assert "headway VERB --help" in err
    assert shell.answer("--help")
    assert shell.answer("--version") == [f"headway {headway.__version__}"]


def test_debug_shows_the_traceback(shell):
    with pytest.raises(FileError):
        shell.run("new", "dats", "--debug")


def test_an_interrupted_verb_exits_with_130(shell, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("headway.tasks._load.load", interrupt)
    shell.refuse("interrupted", "predict", "model", code=130)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: ...")]
)
def test_too_little_memory_is_one_line(error, shell, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("headway.tasks._load.load", fail)
    shell.refuse("not enough memory", "predict", "model")


# Model folders


def change_config(path: Path, **values: Any) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | values))


@pytest.mark.parametrize(
    ("values", "pattern"),
    [
        ({"auto_map": {"AutoModel": "x.Y"}}, r"asks to run code of its own \(auto_map\)"),
        ({"trust_remote_code": True}, r"asks to run code"),
        ({"d_model": 10**12}, r"d_model is 1000000000000, which is beyond any model"),
        ({"encoder_layers": 10**9, "num_hidden_layers": 10**9}, r"encoder_layers is 1000000000"),
        ({"encoder_layers": 10**4, "num_hidden_layers": 10**4}, r"beyond any model"),
        (
            {"d_model": 10**6, "max_position_embeddings": 10**6},
            r"do not fit: model\.shared\.weight",
        ),
        (
            {"vocab_size": 10**7},
            r"do not fit: model\.shared\.weight has shape \[13, 16\] instead of",
        ),
        ({"vocab_size": 5}, r"pad_token_id is 12, but the vocabulary has 5"),
        ({"max_position_embeddings": -1}, r"max_position_embeddings is -1"),
        ({"encoder_ffn_dim": -4, "decoder_ffn_dim": -4}, r"encoder_ffn_dim is -4"),
        ({"encoder_ffn_dim": 4}, r"encoder_ffn_dim and decoder_ffn_dim differ"),
        ({"d_model": "16"}, r"d_model is '16', but must be of type int"),
        ({"d_model": [16]}, r"d_model is \[16\]"),
        ({"dropout": int(400 * "9")}, r"dropout is 9+\.\.\.9+, but must be of type float"),
        ({"dropout": float("nan")}, r"dropout is nan"),
        ({"encoder_attention_heads": 3, "decoder_attention_heads": 3}, r"not divisible"),
        ({"pad_token_id": -1, "decoder_start_token_id": -1}, r"pad_token_id is -1"),
        ({"pad_token_id": 3, "decoder_start_token_id": 3}, r"<pad> is 12 in tokenizer\.json, but"),
        ({"eos_token_id": 99}, r"eos_token_id is 99"),
        ({"scale_embedding": False}, r"Headway computes only True"),
        ({"activation_function": "sine"}, r"activation_function is 'sine'"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused_at_once(values, pattern, model_dir, shell):
    change_config(model_dir, **values)
    started = time.monotonic()
    shell.refuse(pattern, "translate", model_dir, "red")
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("model_type", ["bart", None, 5, ["marian"]])
def test_an_architecture_that_we_lack_is_named(model_type, model_dir, shell):
    change_config(model_dir, model_type=model_type)
    shell.refuse(
        r"(not one that Headway reads|does not say its model_type).*config\.json",
        "translate",
        model_dir,
        "red",
        code=2,
    )


@pytest.mark.parametrize("name", ["config.json", "headway.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", DEEP.encode()])
def test_a_file_that_is_no_json_is_named(name, content, model_dir, shell):
    (model_dir / name).write_bytes(content)
    shell.refuse(name, "translate", model_dir, "red")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_file_that_is_missing_is_named(name, model_dir, shell):
    (model_dir / name).unlink()
    # In place of tokenizer.json older files would do.
    shell.refuse(rf"there is no {name}\b.*\. In .*model", "translate", model_dir, "red")


@pytest.mark.parametrize(
    ("own", "pattern"),
    [
        ({"task": "translation"}, r"headway\.json is damaged"),
        ({"task": {"num_beams": 2}}, r"no task ''"),
        ({"task": {"name": "sing"}}, r"no task 'sing'"),
        ({"task": {"name": "translation", "num_beams": "many"}}, r"task\.num-beams is 'many'"),
        ({"task": {"name": "translation", "num_beams": 2.5}}, r"task\.num-beams is 2\.5"),
        ({"task": {"name": "translation", "num_beams": 10**9}}, r"at most 256"),
        ({"task": {"name": "translation", "songs": 1}}, r"no task\.songs"),
        ({"labels": 5}, r"headway\.json is damaged"),
        ({"training": "long"}, r"headway\.json is damaged"),
        ({"format": 99}, r"format 99"),
    ],
)
def test_a_note_of_ours_that_makes_no_sense_is_named(own, pattern, model_dir, shell):
    path = model_dir / "headway.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    assert "headway.json" in shell.refuse(pattern, "translate", model_dir, "red")


def cut(content: bytes) -> bytes:
    return content[:-10]


def flip(content: bytes) -> bytes:
    return content[:20] + bytes([content[20] ^ 0xFF]) + content[21:]


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        flip,
        lambda content: content[:4],
        lambda content: content + b"more",
        lambda content: struct.pack("<Q", 2**60) + content[8:],
        lambda content: b"",
    ],
)
def test_damaged_weights_are_refused(damage: Callable[[bytes], bytes], model_dir, shell):
    path = model_dir / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    shell.refuse(r"model\.safetensors is damaged", "translate", model_dir, "red")


def test_one_flipped_bit_of_a_weight_is_seen_by_the_manifest(trained, tmp_path, shell):
    shutil.copytree(trained / "model", tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    shell.refuse(r"model\.safetensors differs", "translate", tmp_path / "model", "red")


@pytest.mark.parametrize(
    "manifest", ["{}", "[]", '{"sha256": {"../../x": "0"}}', '{"sha256": {"gone.bin": "0"}}']
)
def test_a_manifest_that_makes_no_sense_is_refused(manifest, model_dir, shell):
    (model_dir / "manifest.json").write_text(manifest)
    shell.refuse(r"manifest\.json|gone\.bin", "translate", model_dir, "red")


def test_all_tensors_that_do_not_fit_are_named_in_one_message(model_dir, shell):
    path = model_dir / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.shared.weight"]
    tensors["strange"] = torch.zeros(2)
    tensors["model.decoder.layers.0.fc1.weight"] = torch.zeros(3, 5)
    tensors["model.encoder.layers.7.fc1.weight"] = torch.zeros(3, 5)
    save_file(tensors, path)
    error = shell.refuse("do not fit", "translate", model_dir, "red")
    assert "model.shared.weight is missing" in error
    assert "strange is not part of this architecture" in error
    assert "model.encoder.layers.7.fc1.weight is not part" in error
    assert "model.decoder.layers.0.fc1.weight has shape [3, 5] instead of [24, 16]" in error
    assert str(model_dir) in error


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_tensors_that_are_no_numbers_are_refused(dtype, model_dir, shell):
    path = model_dir / "model.safetensors"
    save_file({name: value.to(dtype) for name, value in load_file(path).items()}, path)
    shell.refuse("no floating-point numbers", "translate", model_dir, "red")


def test_weights_that_are_not_finite_are_said(model_dir, shell):
    path = model_dir / "model.safetensors"
    save_file({name: value * torch.nan for name, value in load_file(path).items()}, path)
    shell.refuse("scores that are no numbers", "translate", model_dir, "red")


class _Bomb:
    def __reduce__(self):
        return os.mkdir, ("opened",)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pickle_is_never_opened(name, model_dir, shell):
    (model_dir / "model.safetensors").unlink()
    (model_dir / name).write_bytes(pickle.dumps(_Bomb()))
    shell.refuse(r"model\.safetensors", "translate", model_dir, "red")
    assert not Path("opened").exists()


def edit_tokenizer(path: Path, **values: Any) -> None:
    stored = json.loads((path / "tokenizer.json").read_text())
    (path / "tokenizer.json").write_text(json.dumps(stored | values))


@pytest.mark.parametrize(
    ("values", "pattern"),
    [
        ({"model": {"type": "WordLevel", "vocab": {"x": 10**6}, "unk_token": "x"}}, "ids up to"),
        ({"added_tokens": []}, "<pad> is None in tokenizer.json, but 12 in config.json"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["x", "y"]]}}, "cannot be read"),
        ({"model": {"type": "Unigram", "vocab": [], "unk_id": 5}}, "cannot be read"),
    ],
)
def test_a_tokenizer_that_does_not_belong_to_the_model_is_refused(
    values, pattern, model_dir, shell
):
    edit_tokenizer(model_dir, **values)
    shell.refuse(pattern, "translate", model_dir, "red")


def test_a_tokenizer_that_panics_its_library_is_one_line(model_dir, capfd):
    # The library writes its panic past Python; a special token that is not listed makes it.
    stored = json.loads((model_dir / "tokenizer.json").read_text())
    processor = stored["post_processor"]
    processor["single"] = [{"SpecialToken": {"id": "gone", "type_id": 0}}]
    edit_tokenizer(model_dir, post_processor=processor)
    assert main(["translate", str(model_dir), "red"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"headway: the tokenizer cannot be read: .*tokenizer\.json\.\n", err), err


def test_switches_of_the_library_change_nothing(model_dir, trained, shell):
    truncation = {"max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    edit_tokenizer(model_dir, truncation=truncation)
    texts = ["red blue green", "white"]
    expected = shell.answer("translate", trained / "model", *texts, "--json")
    assert shell.answer("translate", model_dir, *texts, "--json") == expected


def test_a_run_in_place_of_its_model_says_where_the_model_is(trained, shell):
    shell.refuse(r"is a run\. its model is .*model", "translate", trained, "red")


# Texts


@pytest.mark.parametrize("text", ["", " ", "\t", "\n\n", "\u2003", "\x1c"])
def test_the_answer_to_nothing_is_nothing(text, trained, shell):
    assert shell.answer("translate", trained / "model", text) == [""]
    line = shell.answer("translate", trained / "model", text, "--json", "--n-best", "2")
    assert json.loads(line[0])["n_best"][0]["prediction"] == ""


@pytest.mark.parametrize(
    "text",
    [
        "red\0blue",
        "red\tblue\nwhite",
        "\U0001f600 red \U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\u05e9\u05dc\u05d5\u05dd red \u202e blue",
        "red\u200bblue\ufeff",
        "\uffff\ufffe",
        "</s> <pad> <unk>",
        "red </s> blue",
        "<pad>",
        "-5",
        "e\u0301" * 50,
    ],
)
def test_any_text_gets_one_line(text, trained, shell):
    assert len(shell.answer("translate", trained / "model", text)) == 1


def test_special_tokens_typed_by_a_user_stay_text(trained):
    model = headway.load(trained / "model")
    ids = model.tokenizer.encode("red </s> <pad> <unk> blue").ids
    assert ids.count(model.tokenizer.end_id) == 1
    assert ids[-1] == model.tokenizer.end_id
    assert model.tokenizer.pad_id not in ids
    # What follows the typed end is still read.
    assert model.tokenizer.encode("blue").ids[0] == ids[-2]


@pytest.mark.parametrize("text", ["a" * MILLION, "red " * (MILLION // 4)])
def test_a_text_of_a_million_characters_is_answered_quickly(text, trained, shell):
    started = time.monotonic()
    assert len(shell.answer("translate", trained / "model", text)) == 1
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("text", ["red \ud800", "\udcff"])
def test_a_text_that_is_no_unicode_is_refused(text, trained, shell):
    shell.refuse("source of record 1 is", "translate", trained / "model", text)


def test_lines_of_standard_input_are_translated_one_by_one(trained, shell):
    stdin = b"red\r\n\nblue\r green\nwhite"
    for words in ([], ["-"]):
        assert len(shell.answer("translate", trained / "model", *words, stdin=stdin)) == 4
    shell.refuse("nothing to translate", "translate", trained / "model")
    shell.refuse("line 2.*UTF-8", "translate", trained / "model", stdin=b"red\n\xff\n")
    words = ("translate", trained / "model", "--skip-bad", "--json")
    code, out, _ = shell.run(*words, stdin=b"red\n\xff\nblue\n")
    assert code == 0
    first, second, third = map(json.loads, out.splitlines())
    assert (first["source"], third["source"]) == ("red", "blue")
    assert second["error"].startswith("standard input, line 2: the text is not UTF-8")


@pytest.mark.parametrize(
    ("flags", "pattern"),
    [
        ("--num-beams 0", r"num_beams is 0, but at least 1"),
        ("--num-beams -3", r"at least 1"),
        ("--num-beams 1000000", r"at most 256"),
        ("--n-best 0", r"num_best is 0"),
        ("--n-best -1", r"num_best is -1"),
        ("--n-best 3 --num-beams 2", r"num_best is 3, but must be from 1 to num_beams \(2\)"),
        ("--n-best 1000000", r"at most 256"),
        ("--length-penalty nan", r"finite"),
        ("--length-penalty 1e308", r"from -20\.0 to 20\.0"),
        ("--precision fp99", r"precision is 'fp99'.*'fp32'"),
    ],
)
def test_a_way_to_decode_that_makes_no_sense_is_a_mistake_of_usage(flags, pattern, trained, shell):
    shell.refuse(pattern, "translate", trained / "model", "red", *flags.split(), code=2)


def test_more_results_than_beams_take_more_beams(trained, shell):
    assert len(shell.answer("translate", trained / "model", "red blue", "--n-best", "5")) == 5
    many = shell.answer("translate", trained / "model", "red blue", "--num-beams", "256")
    assert len(many) == 1


# Predicting


BAD = b"""{"source": "red"}
{"source": 5}
no JSON
{"source": "\xff"}
{"text": "red"}
{"source": "blue"}
{"source": null}
{"source": "\\ud800"}
"""


def test_bad_rows_stop_a_prediction_before_any_output(trained, shell):
    error = shell.refuse("6 of 8 rows", "predict", trained / "model", stdin=BAD)
    assert "standard input, line 2: source is no text, but 5" in error
    assert "--skip-bad" in error


def test_bad_rows_that_are_skipped_keep_their_places(trained, shell):
    code, out, err = shell.run("predict", trained / "model", "--skip-bad", "--json", stdin=BAD)
    answers = [json.loads(line) for line in out.splitlines()]
    assert [("error" in answer) for answer in answers] == [0, 1, 1, 1, 1, 0, 1, 1]
    assert "line 3" in answers[2]["error"]
    assert (code, err) == (0, "headway: 6 rows could not be used\n")
    good = shell.answer("predict", trained / "model", "--json", stdin=b"red\nblue\n")
    assert [json.loads(line) for line in good] == [answers[0], answers[5]]
    plain = shell.answer("predict", trained / "model", "--skip-bad", stdin=BAD)
    assert len(plain) == 8
    assert plain[1].startswith("error: ")


def test_rows_that_are_all_bad_get_their_errors(trained, shell):
    stdin = b'{"source": 5}\n'
    (line,) = shell.answer("predict", trained / "model", "--skip-bad", "--json", stdin=stdin)
    assert "source is no text" in json.loads(line)["error"]


def test_answers_are_written_part_by_part_in_the_order_of_the_rows(trained, shell, monkeypatch):
    whole = shell.answer("predict", trained / "model", "--skip-bad", "--json", stdin=BAD)
    for rows in (1, 2, 3, 7, 8):
        monkeypatch.setattr(_records, "_ROWS_AT_ONCE", rows)
        words = ["predict", trained / "model", "--skip-bad", "--json"]
        parts = [json.loads(line) for line in shell.answer(*words, stdin=BAD)]
        for found, line in zip(parts, whole, strict=True):
            expected = json.loads(line)
            assert found.pop("score", 0.0) == pytest.approx(expected.pop("score", 0.0), abs=2e-6)
            assert found == expected


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(KeyboardInterrupt(), 130, "interrupted"), (MemoryError(), 1, "not enough memory")],
)
def test_what_is_answered_is_kept_when_a_prediction_ends_early(
    error, code, said, trained, shell, monkeypatch
):
    monkeypatch.setattr(_records, "_ROWS_AT_ONCE", 2)
    answer = Model.predict
    flushed = []

    def failing(self, records, **settings):
        flushed.append(shell.capsys.readouterr().out)
        if len(flushed) == 3:
            raise error
        return answer(self, records, **settings)

    monkeypatch.setattr(Model, "predict", failing)
    stdin = b"red\nblue\nred blue\nwhite\nblack\nred\n"
    found, _, err = shell.run("predict", trained / "model", stdin=stdin)
    assert found == code
    assert said in err
    assert [text.count("\n") for text in flushed] == [0, 2, 2]


@pytest.mark.parametrize("words", [[], ["-"]])
def test_standard_input_is_read_in_step(words, trained, shell):
    stdin = b"red\n\nblue green\n"
    answers = shell.answer("predict", trained / "model", *words, "--json", stdin=stdin)
    assert [json.loads(line)["prediction"] for line in answers][1] == ""
    assert len(answers) == 3


@pytest.mark.parametrize(
    ("words", "pattern", "code"),
    [
        ([], r"standard input has no usable rows", 1),
        (["nowhere.txt"], r"no file nowhere\.txt", 1),
        (["."], r"it is a directory", 1),
        (["-", "--num-beams", "0"], r"at least 1", 2),
        (["-", "--precision", "half"], r"precision is 'half'", 2),
        (["-", "--columns", "a"], r"'source' is not among the names", 2),
    ],
)
def test_a_prediction_that_cannot_be_made_is_one_line(words, pattern, code, trained, shell):
    stdin = b"red\n" if words else b""
    shell.refuse(pattern, "predict", trained / "model", *words, code=code, stdin=stdin)


# Evaluating


def test_predictions_are_written_before_a_second_model_runs(trained, shell, monkeypatch):
    Path("good.jsonl").write_text('{"source": "red", "target": "rot"}\n')
    answer = Model.predict
    calls = []

    def failing(self, *words, **settings):
        calls.append(self)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return answer(self, *words, **settings)

    monkeypatch.setattr(Model, "predict", failing)
    words = ["evaluate", trained / "model", "--data", "good.jsonl", "--predictions", "found.txt"]
    shell.refuse("interrupted", *words, "--compare", trained / "model", code=130)
    assert Path("found.txt").read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "pattern", "code"),
    [
        ("", r"--data is missing", 2),
        ("--data bad.jsonl", r"bad\.jsonl, line 2: no column 'target'.*--skip-bad", 1),
        ("--data nowhere.tsv", r"no file nowhere\.tsv", 1),
        ("--data good.jsonl --samples 0", r"--samples is 0", 2),
        ("--data good.jsonl --samples 1000000000", r"from 1 to 1,000,000", 2),
        ("--data good.jsonl --num-beams 0", r"at least 1", 2),
        ("--data good.jsonl --precision x", r"precision is 'x'", 2),
        ("--data good.jsonl --compare nowhere", r"no model folder nowhere", 1),
        ("--data good.jsonl --predictions nowhere/x", r"no folder nowhere", 1),
        ("--data good.jsonl --predictions .", r"cannot be written", 1),
    ],
)
def test_an_evaluation_that_cannot_be_made_is_one_line(flags, pattern, code, trained, shell):
    good = '{"source": "red", "target": "rot"}\n'
    Path("good.jsonl").write_text(good)
    Path("bad.jsonl").write_text(good + '{"source": "red"}\n')
    shell.refuse(pattern, "evaluate", trained / "model", *flags.split(), code=code)
    assert sorted(os.listdir()) == ["bad.jsonl", "good.jsonl"]


# Hints


class Verbs:
    """Gives a verb some data; what its hint says is then added to the same words."""

    def __init__(self, bench: Bench, model_dir: Path) -> None:
        self.folder, self.shell = bench.folder, bench.shell
        train = ["train", bench.recipe, "--out", bench.out, "--training.steps", 1]
        self.words: dict[str, list[Any]] = {
            "train": [*train, "--data.train"],
            "evaluate": ["evaluate", model_dir, "--samples", 10, "--data"],
            "predict": ["predict", model_dir],
            "inspect": ["inspect"],
        }

    def follow_hint(self, verb: str, name: str, content: str) -> str:
        path = self.folder / name
        path.write_text(content)
        error = self.shell.refuse(name, *self.words[verb], path)
        found = re.search(r"(?:Use|with) (--\S+(?: true| \w+=\w+)*)", error)
        assert found, error
        code, out, err = self.shell.run(*self.words[verb], path, *found[1].split())
        assert code == 0, err
        return out


@pytest.fixture
def verbs(bench, trained) -> Verbs:
    return Verbs(bench, trained / "model")


@pytest.mark.parametrize("verb", ["train", "evaluate", "predict"])
def test_the_hint_to_skip_bad_rows_works_as_it_is_written(verb, verbs):
    row = '{"source": "red", "target": "rot"}\n'
    assert verbs.follow_hint(verb, "a.jsonl", row * 10 + '{"source": 5, "target": "x"}\n')


@pytest.mark.parametrize("verb", ["train", "evaluate", "predict", "inspect"])
def test_the_hint_to_rename_columns_works_as_it_is_written(verb, verbs):
    assert verbs.follow_hint(verb, "a.tsv", "sauce\ttargets\n" + "red\trot\n" * 10)


# Runs


@pytest.mark.parametrize(
    ("folder", "pattern"),
    [("data", r"data is not empty"), ("run", r"run is not empty.*headway train --resume \S+run\.")],
)
def test_the_quickstart_writes_over_nothing(folder, pattern, shell, tmp_path):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "train.jsonl").write_text("dear diary")
    before = hash_tree(tmp_path)
    shell.refuse(pattern, "quickstart", "--out", tmp_path, "--num-train", 30, "--num-test", 5)
    assert hash_tree(tmp_path) == before


def test_a_directory_that_is_not_empty_is_left_alone(bench):
    bench.out.mkdir()
    (bench.out / "diary.txt").write_text("dear diary")
    bench.refuse(r"out is not empty, and a run is never overwritten")
    assert (bench.out / "diary.txt").read_text() == "dear diary"


def test_a_file_in_place_of_the_directory_is_left_alone(bench):
    bench.out.write_text("dear diary")
    bench.refuse(r"out is no directory")
    assert bench.out.read_text() == "dear diary"


@pytest.mark.parametrize("name", ["small.toml/x", "small.toml/x/y", "/proc/nowhere/x", "x" * 300])
def test_a_directory_that_cannot_be_made_is_one_line(name, bench):
    bench.out = Path(name)
    bench.refuse(r"cannot be made|too long")


@pytest.mark.parametrize(
    ("words", "pattern", "code"),
    [
        (["nowhere"], r"nowhere holds no run", 1),
        (["small.toml"], r"holds no run", 1),
        (["run", "small.toml"], r"give either", 2),
        (["run", "--out", "other"], r"--out cannot be changed", 2),
        (["run", "--training.peak-lr", "1"], r"training\.peak_lr cannot be changed", 2),
        (["run", "--model.hidden-size", "8", "--data.train", "x"], r"cannot be changed", 2),
        (["run", "--training.steps", "0"], r"at least 1", 2),
        (["run", "--training.steps", "many"], r"of type int", 2),
    ],
)
def test_a_resumption_that_cannot_be_is_one_line(words, pattern, code, trained, shell, tmp_path):
    write_recipe(tmp_path)
    shutil.copytree(trained, tmp_path / "run")
    before = hash_tree(tmp_path)
    shell.refuse(pattern, "train", "--resume", *words, code=code)
    assert hash_tree(tmp_path) == before


def hash_tree(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("peak-lr = 0.01", "peak-lr = 0.1"),
        ("hidden-size = 16", "hidden-size = 32"),
        ("batch-tokens = 120", "batch-tokens = 1000"),
    ],
)
def test_a_recipe_changed_by_hand_is_not_resumed(old, new, trained, shell, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    path = tmp_path / "run" / "recipe.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    pattern = r"more than the length in .*recipe\.toml changed since the run started"
    shell.refuse(pattern, "train", "--resume", tmp_path / "run")


@pytest.mark.parametrize("name", ["recipe.toml", "tokenizer.json", "environment.json"])
@pytest.mark.parametrize("content", [b"garbage {", b"\xff\xfe\x00", None])
def test_a_damaged_run_is_not_resumed(name, content, trained, shell, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    path = tmp_path / "run" / name
    path.unlink() if content is None else path.write_bytes(content)
    code, out, err = shell.run("train", "--resume", tmp_path / "run")
    assert code in (1, 2)
    assert (out, err.count("\n")) == ("", 1), err
    assert "headway: unexpected" not in err
    assert name in err or "holds no run" in err


def test_epochs_given_to_a_run_of_steps_take_their_place(trained, shell, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    code, _, err = shell.run("train", "--resume", tmp_path / "run", "--training.epochs", "4.5")
    assert code == 0, err
    recipe = headway.read_recipe(tmp_path / "run" / "recipe.toml")
    assert (recipe.training.epochs, recipe.training.steps) == (4.5, None)
    assert "done: 18 steps" in err


def test_data_from_standard_input_cannot_be_resumed(bench):
    words = ["train", bench.recipe, "--out", bench.out, "--data.train", "-", "--training.steps", 1]
    code, _, err = bench.shell.run(*words, stdin=Path(bench.data["train"]).read_bytes())
    assert code == 0, err
    bench.shell.refuse("standard input, which is gone", "train", "--resume", bench.out)


def test_a_second_process_is_kept_out_with_one_line(shell, tmp_path):
    events = headway.run_recipe(make_recipe(tmp_path), tmp_path / "run")
    next(events)
    shell.refuse("in use by another process", "train", "--resume", tmp_path / "run")
    events.close()


def test_a_signal_stops_a_training_with_75(bench, monkeypatch):
    take_step = running.Trainer.take_step

    def stopping(self):
        if self.state.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(self)

    monkeypatch.setattr(running.Trainer, "take_step", stopping)
    words = ["train", bench.recipe, "--out", bench.out, "--data.train", bench.data["train"]]
    code, out, err = bench.shell.run(*words)
    assert (code, out) == (75, "")
    last = err.rstrip("\n").split("\n")[-1]
    assert last.startswith("headway: stopped at step 4; saved ")
    assert f"headway train --resume {bench.out}" in last


# Saving


def test_a_full_disk_leaves_the_old_model(model_dir, monkeypatch):
    from safetensors import SafetensorError

    from headway.files import weights

    model = headway.load(model_dir)
    before = hash_tree(model_dir)

    def full(*_, **__):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(FileError, match="No space left on device"):
        model.save(model_dir)
    assert hash_tree(model_dir) == before
    with pytest.raises(FileError, match="No space left on device"):
        model.save(model_dir.parent / "new")
    assert [path.name for path in model_dir.parent.iterdir()] == ["model"]


def test_a_model_never_takes_the_place_of_something_else(trained, tmp_path):
    model = headway.load(trained / "model")
    (tmp_path / "diary.txt").write_text("dear diary")
    for place in (tmp_path, tmp_path / "diary.txt", tmp_path / "diary.txt" / "x", "."):
        with pytest.raises(FileError):
            model.save(place)
    assert hash_tree(tmp_path).keys() == {str(tmp_path / "diary.txt")}
    model.save(tmp_path / "model")
    model.save(tmp_path / "model")
    assert headway.load(tmp_path / "model").translate(["red"]) == model.translate(["red"])


# From Python


@pytest.mark.parametrize(
    ("records", "settings", "pattern"),
    [
        ([{"text": "red"}], {}, "record 1 has no text 'source'"),
        ([{"source": "red"}, {"source": None}], {}, "record 2 has no text 'source'"),
        (["red"], {}, "record 1 has no text 'source'"),
        ({"source": "red"}, {}, "record 1 has no text 'source'"),
        ([{"source": "red"}], {"beams": 2}, r"no task\.beams.*num-beams"),
        ([{"source": "red"}], {"num_beams": 2.5}, "num-beams is 2.5"),
        ([{"source": "red"}], {"num_beams": None}, "num-beams is None"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(records, settings, pattern, trained):
    model = headway.load(trained / "model")
    with pytest.raises(RequestError, match=pattern):
        model.predict(records, **settings)


def test_a_string_is_no_list_of_texts(trained):
    model = headway.load(trained / "model")
    with pytest.raises(RequestError, match="list of texts"):
        model.translate("red")
    assert model.translate([]) == []


def test_a_precision_that_there_is_not_is_refused(trained):
    with pytest.raises(HeadwayError, match="precision is 'half'"):
        headway.load(trained / "model", precision="half")


# Whole processes


def execute(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `headway` is ours."""
    start = f'headway() {{ "{sys.executable}" -m headway.cli._main "$@"; }}; set -o pipefail; '
    return subprocess.run(
        ["bash", "-c", start + command],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def assert_quiet(done: subprocess.CompletedProcess[str], lines: Sequence[str] = ()) -> None:
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.splitlines() == list(lines)


def test_a_closed_pipe_ends_a_command_quietly(trained, tmp_path):
    (tmp_path / "many.txt").write_text("red blue\n" * 5000)
    command = f"headway predict {trained / 'model'} many.txt --num-beams 1 --json | head -1 | wc -l"
    assert_quiet(execute(command, tmp_path), ["1"])
    assert_quiet(execute("headway recipes | (exec <&-; sleep 0.5)", tmp_path))
    assert_quiet(execute("headway --help | (exec <&-; sleep 0.5)", tmp_path))


def test_a_reader_that_leaves_does_not_end_the_training(bench):
    words = f"train small.toml --out out --data.train {bench.data['train']} --training.steps 4"
    done = execute(f"headway {words} --json | head -1", bench.folder)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "done: 4 steps" in done.stderr
    assert (bench.out / "model" / "model.safetensors").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_one_line(tmp_path):
    done = execute("headway recipes > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "headway: reading or writing failed: No space left on device\n"


def test_streams_that_are_closed_do_no_harm(tmp_path):
    done = execute("headway recipes >&-; headway new dats >&- 2>&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_results_are_utf8_whatever_the_locale(trained, tmp_path):
    command = f"headway translate {trained / 'model'} --json < text"
    (tmp_path / "text").write_text("gr\u00fcn \U0001f600\n", encoding="utf-8")
    done = execute(command, tmp_path, PYTHONIOENCODING="ascii:strict", PYTHONUTF8="0", LC_ALL="C")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["source"] == "gr\u00fcn \U0001f600"
