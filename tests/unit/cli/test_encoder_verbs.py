"""fill, embed and convert: what they print, write and refuse."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from encoders import make_encoder, make_tokenizer
from headway import registry
from headway.cli import _records, convert, embed, fill
from headway.cli._main import main
from headway.cli.evaluate import _check_comparable
from headway.errors import ConfigError, FileError, RequestError
from headway.files.folder import make_body
from headway.tasks._embedding import embed as vectors_of
from headway.tasks._model import Model
from headway.tasks.classification import Classification
from headway.tasks.masked_lm import MaskedLm
from headway.tasks.translation import Translation
from headway.text.train import train_tokenizer

TEXTS = ["the cat sat on the mat", "unhappy dogs, don't they", "a bird"]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Give a folder with models and texts."""
    folder = tmp_path_factory.mktemp("home")
    make_encoder().save(folder / "bert")
    make_encoder("roberta").save(folder / "roberta")
    make_encoder(kind="body").save(folder / "body")
    make_encoder(kind="pair", task=MaskedLm(pair="next-sentence")).save(folder / "pair")
    translator().save(folder / "translator")
    (folder / "texts.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    return folder


def translator() -> Model:
    tokenizer = train_tokenizer("word", ["one two three"], vocab_size=20)
    body_class = registry.load_class("models", "seq2seq")
    values = vars(body_class.tiny()) | {
        "vocab_size": tokenizer.vocab_size,
        "pad_token_id": tokenizer.pad_id,
        "eos_token_id": tokenizer.end_id,
    }
    body = body_class(type(body_class.tiny())(**values))
    return Model(body, tokenizer, Translation(), task_name="translation", architecture="seq2seq")


class Shell:
    """Runs commands in this process, in the folder with the models."""

    def __init__(self, capsys, monkeypatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def run(self, *words: Any, stdin: bytes = b"") -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        self.capsys.readouterr()
        return main([str(word) for word in words]), *self.capsys.readouterr()

    def answer(self, *words: Any, stdin: str = "", err: str = "") -> list[str]:
        """Run a command that works; give the lines of its output."""
        code, out, found = self.run(*words, stdin=stdin.encode())
        assert (code, found) == (0, err)
        return out[:-1].split("\n") if out else []

    def objects(self, *words: Any, stdin: str = "") -> list[Any]:
        return [json.loads(line) for line in self.answer(*words, stdin=stdin)]

    def refuse(self, pattern: str, *words: Any, code: int = 1, stdin: bytes = b"") -> None:
        """Run a command that must fail before any output, with one line of error."""
        found, out, err = self.run(*words, stdin=stdin)
        assert (found, out) == (code, ""), err
        assert err.startswith("headway: "), err
        assert err.count("\n") == 1, err
        assert "unexpected" not in err, err
        assert re.search(pattern, err), err


@pytest.fixture
def shell(home, capsys, monkeypatch) -> Shell:
    monkeypatch.chdir(home)
    return Shell(capsys, monkeypatch)


# fill


def test_fill_prints_the_text_and_a_line_for_each_mask(shell):
    text = "the [MASK] sat on the [MASK]."
    lines = shell.answer("fill", "bert", text)
    (answer,) = make_encoder().predict([{"text": text}])
    assert lines[0] == answer["prediction"]
    assert len(lines) == 3
    for line, best in zip(lines[1:], answer["masks"], strict=True):
        shown = [f"{row['token']} {row['probability']:.1%}" for row in best]
        assert line == "  " + "  ".join(shown)
        assert len(shown) == 5


def test_fill_as_json_is_one_list_a_text(shell):
    texts = ["the [MASK] sat", "[MASK] [MASK] bird"]
    found = shell.objects("fill", "bert", *texts, "--json", "--num-best", "3")
    expected = make_encoder().predict([{"text": text} for text in texts], num_best=3)
    assert found == [answer["masks"] for answer in expected]
    assert [len(masks) for masks in found] == [1, 2]
    for masks in found:
        for best in masks:
            assert [list(row) for row in best] == [["token", "probability"]] * 3
            probabilities = [row["probability"] for row in best]
            assert probabilities == sorted(probabilities, reverse=True)
            assert 0 < probabilities[0] < 1


@pytest.mark.parametrize("words", [[], ["-"]])
def test_fill_reads_lines_from_standard_input(words, shell):
    stdin = "the [MASK] sat\na [MASK]\n"
    found = shell.objects("fill", "bert", *words, "--json", stdin=stdin)
    assert found == shell.objects("fill", "bert", "the [MASK] sat", "a [MASK]", "--json")


@pytest.mark.parametrize("model", ["bert", "roberta"])
def test_fill_understands_the_mask_of_either_family(model, shell):
    one, other = (
        shell.objects("fill", model, f"a {mask}", "--json") for mask in ("[MASK]", "<mask>")
    )
    assert one == other
    assert len(one[0]) == 1


@pytest.mark.parametrize(
    ("model", "text", "mask"),
    [("bert", "the cat", r"\[MASK\]"), ("roberta", "the cat", "<mask>"), ("bert", "", r"\[MASK\]")],
)
def test_fill_refuses_a_text_without_a_mask(model, text, mask, shell):
    pattern = rf"there is no mask in '{text}'\. write {mask} for a word"
    shell.refuse(pattern, "fill", model, "a [MASK]", text)


def test_fill_refuses_no_text_at_all(shell):
    shell.refuse(r"there is nothing to fill\. give a text with \[MASK\]", "fill", "bert")


def test_fill_names_the_line_that_is_not_utf_8(shell):
    stdin = b"a [MASK]\nB\xfccher [MASK]\n"
    shell.refuse(r"byte 0xfc.*In standard input, line 2", "fill", "bert", stdin=stdin)


@pytest.mark.parametrize("count", ["0", "-1"])
def test_fill_refuses_less_than_one_filling(count, shell):
    words = ["fill", "bert", "a [MASK]", "--num-best", count]
    shell.refuse(rf"num_best is {count}, but at least 1 is needed", *words, code=2)


@pytest.mark.parametrize(
    ("model", "pattern"),
    [
        ("translator", "this model does translation, and fills no masks"),
        ("body", "this model has no masked-LM head"),
        ("pair", "this model has no masked-LM head"),
        ("nowhere", "there is no model folder nowhere"),
    ],
)
def test_fill_refuses_a_model_that_fills_no_masks(model, pattern, shell):
    shell.refuse(pattern, "fill", model, "a [MASK]")


@pytest.mark.parametrize("mask", ["<m>", "[MASK]", "<mask>"])
def test_fill_takes_the_mask_of_a_vocabulary_of_its_own(mask, shell, home, tmp_path):
    folder = Path(shutil.copytree(home / "bert", tmp_path / "model"))
    for name in ("manifest.json", "headway.json"):
        (folder / name).unlink()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        content = (folder / name).read_text().replace("[MASK]", "<m>")
        (folder / name).write_text(content)
    found = shell.objects("fill", folder, f"the {mask} sat", "--json")
    assert found == shell.objects("fill", "bert", "the [MASK] sat", "--json")
    shell.refuse("there is no mask in 'the cat'. write <m> for a word", "fill", folder, "the cat")


@pytest.mark.parametrize("line", ["", " ", "the cat"])
def test_fill_names_the_line_without_a_mask(line, shell):
    stdin = f"a [MASK]\n{line}\na [MASK]\n".encode()
    pattern = rf"there is no mask in '{line}'\. In standard input, line 2\. write \[MASK\]"
    shell.refuse(pattern, "fill", "bert", stdin=stdin)
    shell.refuse("--skip-bad", "fill", "bert", stdin=stdin)


def test_fill_goes_on_after_bad_lines_if_asked(shell):
    lines = [b"a [MASK]", b"", b"B\xfccher [MASK]", b"cat " * 100 + b"[MASK]", b"the [MASK] sat"]
    words = ["fill", "bert", "--skip-bad"]
    code, out, err = shell.run(*words, "--json", stdin=b"\n".join(lines))
    assert (code, err) == (0, "headway: 3 texts could not be used\n")
    first, *bad, last = [json.loads(line) for line in out.splitlines()]
    assert [first, last] == shell.objects("fill", "bert", "a [MASK]", "the [MASK] sat", "--json")
    patterns = ("line 2: there is no mask", "line 3: the text is not UTF-8", "line 4: the mask in")
    for found, pattern in zip(bad, patterns, strict=True):
        assert found["error"].startswith(f"standard input, {pattern}")
    _, out, _ = shell.run(*words, stdin=b"\n".join(lines))
    shown = out.splitlines()
    assert [line[:28] for line in shown[2:5]] == [
        f"error: standard input, line {n}"[:28] for n in (2, 3, 4)
    ]
    assert len(shown) == 2 + 3 + 2


def test_fill_says_what_was_cut(shell):
    warning = r"warning: 1 of 2 sources cut: longer than the model reads"
    code, out, err = shell.run("fill", "bert", "a [MASK]", "[MASK]" + " cat" * 100)
    assert (code, err.count("\n")) == (0, 1)
    assert re.match(warning, err)
    assert out.count("\n") == 4


def test_fill_in_half_precision_answers_almost_the_same(shell):
    full = shell.objects("fill", "bert", "the [MASK] sat", "--json", "--num-best", "60")
    half = shell.objects(
        *("fill", "bert", "the [MASK] sat", "--json", "--num-best", "60", "--precision", "bf16")
    )
    probabilities = [
        {row["token"]: row["probability"] for row in found[0][0]} for found in (full, half)
    ]
    for token in probabilities[0].keys() & probabilities[1].keys():
        assert probabilities[1][token] == pytest.approx(probabilities[0][token], abs=0.03)
    assert full != half


def test_fill_tells_what_was_drawn_at_random(shell, home, tmp_path):
    shutil.copytree(home / "body", tmp_path / "model")
    for name in ("manifest.json", "headway.json"):
        (tmp_path / "model" / name).unlink()
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace("BertModel", "BertForMaskedLM"))
    code, _, err = shell.run("fill", tmp_path / "model", "a [MASK]")
    assert code == 0
    assert f"warning: {tmp_path / 'model'} has no masked lm: newly initialized" in err


# embed


def expected_vectors(**choice: str) -> list[torch.Tensor]:
    return [item.vectors for item in vectors_of(make_encoder(), TEXTS, **choice)]


def test_embed_prints_a_vector_for_each_text(shell):
    found = shell.objects("embed", "bert", "texts.txt")
    assert [list(row) for row in found] == [["text", "vector"]] * 3
    assert [row["text"] for row in found] == TEXTS
    for row, expected in zip(found, expected_vectors(), strict=True):
        assert row["vector"] == pytest.approx(expected[0].tolist(), abs=2e-6)


@pytest.mark.parametrize("pool", ["cls", "mean", "max"])
@pytest.mark.parametrize("layers", ["first", "last", "0", "sum-all"])
def test_embed_takes_the_layers_and_the_pool_asked_for(layers, pool, shell):
    found = shell.objects("embed", "bert", "texts.txt", "--layers", layers, "--pool", pool)
    for row, expected in zip(found, expected_vectors(layers=layers, pool=pool), strict=True):
        assert row["vector"] == pytest.approx(expected[0].tolist(), abs=2e-6)


def test_embed_gives_words_with_their_vectors(shell):
    found = shell.objects("embed", "bert", "texts.txt", "--pool", "tokens")
    assert [list(row) for row in found] == [["text", "words", "vectors"]] * 3
    assert found[1]["words"] == ["unhappy", "dogs", ",", "don", "'", "t", "they"]
    for row, expected in zip(found, expected_vectors(pool="tokens"), strict=True):
        assert len(row["words"]) == len(row["vectors"])
        assert np.array(row["vectors"]) == pytest.approx(expected.numpy(), abs=2e-6)


@pytest.mark.parametrize("words", [[], ["-"]])
def test_embed_reads_standard_input(words, shell):
    stdin = "".join(f"{text}\n" for text in TEXTS)
    found = shell.answer("embed", "bert", *words, stdin=stdin)
    assert found == shell.answer("embed", "bert", "texts.txt")


def test_embed_reads_the_column_of_a_table(shell, tmp_path):
    table = tmp_path / "a.tsv"
    table.write_text("id\tsentence\n" + "".join(f"1\t{text}\n" for text in TEXTS))
    found = shell.answer("embed", "bert", table, "--columns", "text=sentence")
    assert found == shell.answer("embed", "bert", "texts.txt")
    rows = tmp_path / "a.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    assert found == shell.answer("embed", "bert", rows)


def test_embed_makes_vectors_of_length_one(shell):
    found = shell.objects("embed", "bert", "texts.txt", "--normalize")
    for row, expected in zip(found, expected_vectors(), strict=True):
        unit = expected[0] / expected[0].norm()
        assert row["vector"] == pytest.approx(unit.tolist(), abs=2e-6)
    words = shell.objects("embed", "bert", "texts.txt", "--normalize", "--pool", "tokens")
    for row in words:
        assert np.linalg.norm(row["vectors"], axis=1) == pytest.approx(1, abs=1e-5)


def test_embed_writes_rows_by_width(shell, tmp_path):
    path = tmp_path / "vectors.npy"
    assert shell.answer("embed", "bert", "texts.txt", "--out", path) == []
    found = np.load(path, allow_pickle=False)
    assert (found.shape, found.dtype) == ((3, 16), np.float32)
    assert found == pytest.approx(torch.cat(expected_vectors()).numpy(), abs=2e-6)
    assert [file.name for file in tmp_path.iterdir()] == ["vectors.npy"]


def test_embed_writes_a_row_for_each_word(shell, tmp_path):
    path = tmp_path / "vectors.npy"
    shell.answer("embed", "bert", "texts.txt", "--out", path, "--pool", "tokens")
    expected = torch.cat(expected_vectors(pool="tokens")).numpy()
    assert expected.shape == (6 + 7 + 2, 16)
    assert np.load(path, allow_pickle=False) == pytest.approx(expected, abs=2e-6)


def test_embed_keeps_a_row_for_a_blank_line(shell):
    found = shell.objects("embed", "bert", stdin="a bird\n\na bird\n")
    assert [row["text"] for row in found] == ["a bird", "", "a bird"]
    assert found[0] == found[2] != found[1]


def test_embed_in_parts_gives_what_one_part_gives(shell, tmp_path, monkeypatch):
    pools = ("mean", "tokens")
    whole = [shell.objects("embed", "bert", "texts.txt", "--pool", pool) for pool in pools]
    monkeypatch.setattr(_records, "_ROWS_AT_ONCE", 2)
    for pool, expected in zip(pools, whole, strict=True):
        key = "vector" if pool == "mean" else "vectors"
        vectors = [row.pop(key) for row in expected]
        found = shell.objects("embed", "bert", "texts.txt", "--pool", pool)
        for row, vector in zip(found, vectors, strict=True):
            assert np.array(row.pop(key)) == pytest.approx(np.array(vector), abs=2e-6)
        assert found == expected
        path = tmp_path / f"{pool}.npy"
        shell.answer("embed", "bert", "texts.txt", "--pool", pool, "--out", path)
        rows = np.load(path, allow_pickle=False)
        assert rows == pytest.approx(np.vstack(vectors), abs=2e-6)
    lines = (tmp_path / "tokens.npy.words.tsv").read_text().splitlines()
    assert [line.split("\t") for line in lines] == [
        [str(number), word] for number, row in enumerate(expected) for word in row["words"]
    ]


def stop_at_the_second_part(monkeypatch) -> None:
    calls = []

    def stop(*arguments, **options):
        calls.append(arguments)
        if len(calls) > 1:
            raise RequestError("the power is gone")
        return vectors_of(*arguments, **options)

    monkeypatch.setattr(_records, "_ROWS_AT_ONCE", 2)
    monkeypatch.setattr("headway.tasks._embedding.embed", stop)


def test_embed_has_printed_what_was_done_before_it_stopped(shell, monkeypatch):
    stop_at_the_second_part(monkeypatch)
    code, out, err = shell.run("embed", "bert", "texts.txt")
    assert (code, err) == (1, "headway: the power is gone.\n")
    assert [json.loads(line)["text"] for line in out.splitlines()] == TEXTS[:2]


@pytest.mark.parametrize("pool", ["mean", "tokens"])
def test_embed_that_stopped_leaves_the_older_file(pool, shell, tmp_path, monkeypatch):
    path = tmp_path / "vectors.npy"
    path.write_bytes(b"older")
    stop_at_the_second_part(monkeypatch)
    shell.refuse(
        "the power is gone", *("embed", "bert", "texts.txt", "--pool", pool, "--out", path)
    )
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [
        ("vectors.npy", b"older")
    ]


BAD = '{"text": "a bird"}\n{"txt": "a dog"}\n{"text": "the cat"}\n'


def test_embed_names_rows_that_cannot_be_used(shell):
    shell.refuse(r"line 2.*--skip-bad", "embed", "bert", stdin=BAD.encode())


def test_embed_answers_bad_rows_in_their_place(shell):
    code, out, err = shell.run("embed", "bert", "--skip-bad", stdin=BAD.encode())
    assert (code, err) == (0, "headway: 1 rows could not be used\n")
    found = [json.loads(line) for line in out.splitlines()]
    assert [list(row) for row in found] == [["text", "vector"], ["error"], ["text", "vector"]]
    assert "line 2" in found[1]["error"]
    assert found[::2] == shell.objects("embed", "bert", stdin="a bird\nthe cat\n")


def test_embed_leaves_bad_rows_out_of_an_array(shell, tmp_path):
    path = tmp_path / "vectors.npy"
    words = ("embed", "bert", "--skip-bad", "--pool", "tokens", "--out", path)
    code, out, err = shell.run(*words, stdin=BAD.encode())
    assert (code, out, err) == (0, "", "headway: 1 rows could not be used\n")
    assert np.load(path).shape == (4, 16)
    # A row's number is that of the file.
    lines = (tmp_path / "vectors.npy.words.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["0", "0", "2", "2"]


@pytest.mark.parametrize("more", [[], ["--out", "none.npy"]])
def test_embed_refuses_no_text_at_all(more, shell, home):
    shell.refuse(r"no usable rows", "embed", "bert", *more)
    assert not (home / "none.npy").exists()


@pytest.mark.parametrize(
    ("flags", "pattern"),
    [
        ("--pool avg", r"pool is 'avg'\. known: cls, max, mean, tokens"),
        ("--layers lats", r"layers is 'lats'\. did you mean 'last'"),
        ("--layers 3", r"layers is 3, but the model has 2"),
        ("--layers concat-last-4", r"layers is 'concat-last-4', but the model has 2"),
        ("--precision fp8", r"precision is 'fp8'"),
    ],
)
def test_embed_refuses_another_choice(flags, pattern, shell, tmp_path):
    words = ["embed", "bert", "texts.txt", "--out", tmp_path / "vectors.npy", *flags.split()]
    shell.refuse(pattern, *words, code=2 if "precision" in flags else 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["translator", "texts.txt"], "seq2seq is no encoder"),
        (["nowhere", "texts.txt"], "there is no model folder nowhere"),
        (["bert", "text.txt"], r"no file text\.txt.*texts\.txt"),
        (["bert", "texts.txt", "--out", "no/vectors.npy"], r"no folder no for --out"),
        (["bert", "texts.txt", "--out", "bert"], r"bert cannot be written"),
    ],
)
def test_embed_refuses_what_is_not_there(words, pattern, shell):
    shell.refuse(pattern, "embed", *words)


def test_embed_takes_a_model_of_any_head(shell):
    expected = shell.answer("embed", "body", "texts.txt")
    assert len(expected) == 3
    assert len(shell.answer("embed", "pair", "texts.txt")) == 3


def test_embed_says_what_was_cut(shell):
    code, out, err = shell.run("embed", "bert", stdin=b"a bird\n" + b"cat " * 100 + b"\n")
    assert code == 0
    assert re.match(r"warning: 1 of 2 sources cut: longer than the model reads", err)
    assert out.count("\n") == 2


# convert


def bare(home: Path, place: Path, *without: str) -> Path:
    """Copy the model without some files."""
    shutil.copytree(home / "bert", place)
    for name in ("manifest.json", "headway.json", *without):
        (place / name).unlink()
    return place


def write_vocabulary(folder: Path) -> None:
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)))
    (folder / "tokenizer.json").unlink()


def test_convert_writes_the_tokenizer_that_is_missing(shell, home, tmp_path):
    folder = bare(home, tmp_path / "model")
    write_vocabulary(folder)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert shell.answer("convert", folder) == [str(folder / "tokenizer.json")]
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert shell.answer("convert", folder, err=f"{folder} needs no conversion\n") == []
    words = ["a [MASK] sat", "--json"]
    assert shell.objects("fill", folder, *words) == shell.objects("fill", "bert", *words)


def test_convert_looks_at_no_weights_where_an_index_lists_them(shell, home, tmp_path):
    folder = bare(home, tmp_path / "model", "model.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"garbage")
    assert shell.answer("convert", folder, err=f"{folder} needs no conversion\n") == []


def test_convert_hands_on_what_went_wrong_in_its_process(shell, home, tmp_path):
    folder = bare(home, tmp_path / "model", "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"garbage")
    before = sorted(folder.iterdir())
    shell.refuse(rf"pytorch_model\.bin .*In {re.escape(str(folder))}", "convert", folder)
    assert sorted(folder.iterdir()) == before


def test_convert_opens_no_pickle_in_this_process(home, tmp_path, monkeypatch):
    folder = bare(home, tmp_path / "model", "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"garbage")
    asked = []

    def run(command, **_):
        asked.append(command)
        Path(command[-1]).write_bytes(b"written")
        return type("Done", (), {"returncode": 0})()

    monkeypatch.setattr(convert.subprocess, "run", run)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened here"))
    convert.run(convert.Options(folder=folder))
    ((python, *words),) = asked
    assert (python, words[:3]) == (sys.executable, ["-P", "-m", "headway.files.unpickle"])
    assert (folder / "model.safetensors").read_bytes() == b"written"


@pytest.mark.parametrize(
    ("stderr", "message"),
    [("a note\nit went wrong\n", "it went wrong"), ("", "the conversion ended with -9")],
)
def test_convert_keeps_nothing_half_written(stderr, message, home, tmp_path, monkeypatch):
    folder = bare(home, tmp_path / "model", "model.safetensors")
    before = sorted(folder.iterdir())

    def run(command, **_):
        Path(command[-1]).write_bytes(b"half")
        return type("Done", (), {"returncode": -9, "stderr": stderr})()

    monkeypatch.setattr(convert.subprocess, "run", run)
    with pytest.raises(FileError, match=message):
        convert.run(convert.Options(folder=folder))
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("prepare", "pattern"),
    [
        (lambda folder: shutil.rmtree(folder), r"there is no folder"),
        (lambda folder: (folder / "tokenizer.json").unlink(), r"there is no tokenizer\.json"),
        (
            lambda folder: ((folder / "tokenizer.json").unlink(), (folder / "vocab.txt").touch()),
            r"the vocabulary lacks \[CLS\] and \[SEP\]",
        ),
    ],
)
def test_convert_refuses_what_cannot_be_read(prepare, pattern, shell, home, tmp_path):
    folder = bare(home, tmp_path / "model")
    prepare(folder)
    shell.refuse(pattern, "convert", folder)
    assert not (folder / "tokenizer.json").exists()


# Help


@pytest.mark.parametrize("module", [fill, embed, convert])
def test_help_shows_the_examples(module, shell):
    verb = module.__name__.split(".")[-1]
    text = "\n".join(shell.answer(verb, "--help"))
    examples = [line for line in module.__doc__.split("\n") if line.startswith("headway ")]
    assert examples
    for example in examples:
        assert example in text


def test_embed_says_which_word_a_row_is(shell, tmp_path):
    out = tmp_path / "words.npy"
    shell.answer("embed", "bert", "texts.txt", "--pool", "tokens", "--out", out)
    rows = [
        line.split("\t") for line in (tmp_path / "words.npy.words.tsv").read_text().splitlines()
    ]
    assert len(rows) == len(np.load(out))
    assert rows[:3] == [["0", "the"], ["0", "cat"], ["0", "sat"]]
    assert rows[-1] == ["2", "bird"]


# evaluate


@pytest.mark.parametrize(
    "words",
    [
        ("--compare", "bert"),
        ("--predictions", "answers.txt"),
        ("--columns", "text"),
        ("--skip-bad",),
        ("--num-beams", "3"),
    ],
)
def test_evaluate_refuses_what_means_nothing_for_running_text(words, shell):
    shell.refuse(
        f"{words[0]} cannot be used here", "evaluate", "bert", "--data", "texts.txt", *words, code=2
    )
    assert not Path("answers.txt").exists()


# inspect


@pytest.mark.parametrize(
    ("model", "kind", "can"),
    [
        ("bert", "masked_lm", ["fill", "embed"]),
        ("body", "body", ["embed", "be fine-tuned"]),
        ("pair", "pair", ["tell pairs", "embed"]),
        ("pretraining", "masked_lm_pair", ["fill", "tell pairs", "embed"]),
        ("classifier", "sequence", ["classification", "embed"]),
        ("mean", "body", ["classification", "embed"]),
        ("translator", "translation", ["translation"]),
    ],
)
def test_inspect_says_what_a_model_is_of_use_for(model, kind, can, shell, home):
    if model == "pretraining":
        make_encoder(task=MaskedLm(pair="next-sentence")).save(home / model)
    if model in ("classifier", "mean"):
        classifier("published" if model == "classifier" else "mean").save(home / model)
    (found,) = shell.objects("inspect", model, "--json")
    assert (found["kind"], found["can"]) == (kind, can)
    lines = shell.answer("inspect", model)
    assert f"head: {kind}" in lines
    assert "can: " + ", ".join(can) in lines
    has_task = "be fine-tuned" not in can
    assert any(line.startswith("task: ") for line in lines) == has_task
    assert any("mask_ratio" in line for line in lines) == (has_task and model in PRETRAINED)
    assert (found["task"] is not None) == has_task


def test_inspect_counts_small_models_in_thousands(shell):
    first, *lines = shell.answer("inspect", "bert")
    total = sum(value.numel() for value in make_encoder().body.parameters())
    assert first == f"bert: bert, {total / 1e3:.2f} k parameters"
    assert not any("0.00 M" in line for line in lines)
    assert not any(" 0.0 MB" in line for line in lines)


PRETRAINED = ("bert", "pair", "pretraining")


def classifier(pooling: str) -> Model:
    task = Classification(pooling=pooling)
    body = make_body("bert", make_encoder().body.config, task.head)
    return Model(
        body,
        make_tokenizer("bert"),
        task,
        task_name="classification",
        architecture="bert",
        head=task.make_head(body, ("a", "b")),
        labels=("a", "b"),
    )


def test_inspect_shows_what_adapters_learn_and_how_fast(shell, home):
    flags = ("--model.path", home / "bert", "--json")
    whole, adapted = (
        shell.objects("inspect", "classify", *flags, *more)[0]["groups"]
        for more in ((), ("--playbook.lora-rank", "2"))
    )
    counts = [sum(group["parameters"] for group in groups) for groups in (whole, adapted)]
    assert counts[1] < counts[0] / 2
    assert adapted[0]["peak_lr"] == pytest.approx(10 * whole[0]["peak_lr"])


def test_models_scored_by_other_numbers_are_not_compared():
    one, several = (
        SimpleNamespace(task=Classification(multi_label=flag), task_name="classification")
        for flag in (False, True)
    )
    with pytest.raises(ConfigError, match="scored by micro_f1"):
        _check_comparable(one, several, None)


@pytest.mark.parametrize(
    ("words", "num_unknown"),
    [
        (("fill", "bert", "ქართული [MASK] ენა"), 1),
        (("fill", "bert", "the [MASK] sat"), 0),
        (("fill", "roberta", "ქართული <mask> ენა"), 0),
        (("embed", "bert", "georgian.txt"), 2),
        (("predict", "pair", "georgian.jsonl"), 2),
    ],
)
def test_texts_that_the_vocabulary_does_not_know_are_said(words, num_unknown, home, shell):
    (home / "georgian.txt").write_text("ქართული ენა\nthe cat sat\nთბილისი დედაქალაქი\n")
    row = {"text": "ქართული ენა", "text_pair": "თბილისი დედაქალაქი"}
    (home / "georgian.jsonl").write_text(json.dumps(row) + "\n")
    code, _, error = shell.run(*words)
    assert code == 0
    said = f"{num_unknown} texts are mostly unknown to the vocabulary"
    assert (said in error) if num_unknown else ("unknown" not in error)
