"""The README's commands, word for word, on files of a few lines and models of a few weights.

Each section is run from top to bottom in a folder of its own, so that what it names must be there:
shipped with the section's files, or made by a command above. Blocks marked `<!-- run -->` need the
quickstart's model, and are run in full by `.ci/readme.py`.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from encoders import TEXTS, make_encoder
from headway.cli._main import main

README = Path(__file__).parents[2] / "README.md"
SECTION = re.compile(r"^##+ (.+?)$(.*?)(?=^##+ |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"(<!-- run -->\n)?```sh\n(.*?)```", re.DOTALL)
SHORT = {"training.steps": "2", "text.vocab-size": "300", "training.batch-tokens": "512"}


def commands() -> Iterator[tuple[str, str]]:
    """Give the commands of the README that are not run elsewhere, with their section."""
    for title, content in SECTION.findall(README.read_text(encoding="utf-8")):
        for marked, block in BLOCK.findall(content):
            for line in block.replace("\\\n", " ").splitlines():
                # A model from the hub needs a network, and translation a model of its own.
                if "headway " in line and not marked and "hub:" not in line:
                    yield title, line.split("  #")[0]


def by_section() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for title, line in commands():
        found.setdefault(title, []).append(line)
    return found


def write_files(folder: Path) -> None:
    """Write every file that the README names."""
    sentence, other = TEXTS[0], TEXTS[1]
    for name in ("corpus", "held-out", "book", "rest", "sentences"):
        (folder / f"{name}.txt").write_text(f"{sentence} {name}.\n{other}.\n\n" * 40)
    for name in ("train", "valid", "few", "test"):
        rows = "".join(f"{sentence} {n}\tyes\n{other} {n}\tno\n" for n in range(8))
        (folder / f"{name}.tsv").write_text(f"text\tlabel\n{rows}")
        news = [{"text": f"{sentence} {n}", "label_name": "Sports"} for n in range(4)]
        news += [{"text": f"{other} {name} {n}", "label_name": "World"} for n in range(4)]
        write_rows(folder / f"{name}.jsonl", news)
        for language in ("de", "en"):
            (folder / f"{name}.{language}").write_text(f"{sentence} {language}\n" * 20)
    for name in ("talk", "more-talk"):
        turns = [{"role": "user", "content": name}, {"role": "assistant", "content": "A cat."}]
        write_rows(folder / f"{name}.jsonl", [{"messages": turns}] * 4)
    for name in ("articles", "more-articles", "new"):
        row = {"text": f"{sentence}. {other} {name}.", "summary": "the cat sat"}
        write_rows(folder / f"{name}.jsonl", [row] * 4)
    (folder / "he-she.tsv").write_text("he\tshe\ncat\tdog\n")


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run_line(line: str, monkeypatch) -> None:
    """Run a command as the shell would, in this process; trainings are made short."""
    given, _, command = line.rpartition("|")
    stdin = shlex.split(given)[1] + "\n" if given else ""
    program, *words = shlex.split(command)
    assert program == "headway"
    # Fine-tuning goes over a few rows, and is short by itself.
    if words[0] == "train" and not {"--resume", "--model.path"} & set(words):
        words += [word for key, value in SHORT.items() for word in (f"--{key}", value)]
    if words[0] == "find-lr":
        words += ["--num-steps", "10"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8"))
    assert main(words) == 0, line


def write_models(title: str, monkeypatch) -> None:
    """Write what a section's commands need and none of them makes."""
    if title in ("Fine-tune an encoder", "The playbook", "How far to trust it"):
        make_encoder().save("run/model")
    if title == "How far to trust it":
        train = "headway train classify --model.path run/model --data.train train.tsv"
        run_line(f"{train} --data.valid valid.tsv --out other", monkeypatch)
        shutil.rmtree("run")
        shutil.copytree("other", "run")
    if title == "Change how it decodes":
        train = "headway train multi30k-transformer --data.train train.de train.en"
        run_line(f"{train} --data.valid valid.de valid.en --out run", monkeypatch)
    if title == "Train your own":
        assert main(["new", "multi30k-rnn"]) == 0


def test_no_command_of_the_readme_is_overlooked():
    text = README.read_text(encoding="utf-8")
    every = re.findall(
        r"^(?:headway |echo .*\| headway |head .*\| headway ).*$", text, re.MULTILINE
    )
    elsewhere = [
        line
        for marked, block in BLOCK.findall(text)
        for line in block.splitlines()
        if "headway " in line and (marked or "hub:" in line)
    ]
    assert len(list(commands())) == len(every) - len(elsewhere) > 20


@pytest.mark.slow
@pytest.mark.parametrize("title", by_section())
def test_the_commands_of_a_section_run_from_top_to_bottom(title, tmp_path, monkeypatch, capsys):
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    write_models(title, monkeypatch)
    if title == "Train your own":
        (tmp_path / "my.toml").write_text(capsys.readouterr().out)
    for line in by_section()[title]:
        run_line(line, monkeypatch)
