"""The report of a run: whole, self-contained, harmless, and there whatever is missing."""

from __future__ import annotations

import json
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from headway.errors import FileError
from headway.explain.report import duration, write_alignment, write_report
from headway.explain.samples import mark_differences, predict_samples
from headway.explain.svg import spread
from headway.explain.view import read_data_report

_VOID = ("meta", "br", "hr", "img", "input", "link")


class Outline(HTMLParser):
    """Checks that tags are closed in order, and collects what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.references: list[str] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in _VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href", "action", "data"):
                self.references.append(value or "")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def read_page(path: Path) -> tuple[str, Outline]:
    content = path.read_text(encoding="utf-8")
    outline = Outline()
    outline.feed(content)
    assert outline.open == []
    return content, outline


@pytest.fixture
def run_dir(finished_run, tmp_path) -> Path:
    return shutil.copytree(finished_run, tmp_path / "run")


def test_report_of_a_finished_run(run_dir, many_scripts):
    started = time.monotonic()
    path = write_report(run_dir)
    assert time.monotonic() - started < 10
    assert path == run_dir / "report.html"
    content, outline = read_page(path)
    assert outline.headings == [
        "run", "Training", "Examples", "Worst examples", "Attention", "Beam search",
        "Positions and masks", "Data", "Recipe", "Environment",
    ]  # fmt: skip
    assert "Not drawn" not in content
    assert "finished; the best model is that of step" in content
    assert "num-attention-heads = 2" in content
    assert many_scripts in content
    assert content.count('<div class="pair">') == 20


def test_report_needs_nothing_else_and_runs_nothing(run_dir, hostile):
    content, outline = read_page(write_report(run_dir))
    assert not {"script", "link", "iframe", "object", "embed"} & outline.tags
    assert all(reference.startswith("#") for reference in outline.references)
    assert set(re.findall(r"https?://[^\"']*", content)) == {"http://www.w3.org/2000/svg"}
    assert hostile not in content
    assert "&lt;script&gt;" in content
    assert "default-src 'none'" in content


def test_report_is_written_again(run_dir):
    first = write_report(run_dir, max_rows=12).read_text(encoding="utf-8")
    assert write_report(run_dir, max_rows=12).read_text(encoding="utf-8") == first
    assert not list(run_dir.glob(".report*"))


def test_report_of_a_run_under_way(run_dir):
    shutil.rmtree(run_dir / "model")
    shutil.rmtree(run_dir / "checkpoints")
    (run_dir / "log.txt").write_text("2026-01-01 10:00:00 training from step 0\n", encoding="utf-8")
    content, outline = read_page(write_report(run_dir))
    assert "still under way, or stopped" in content
    # The reason is given once, and sections that need a model are left out.
    assert content.count("no model is saved yet") == 1
    assert "Worst examples" not in outline.headings
    assert {"Training", "Data", "Recipe"} <= set(outline.headings)


def test_report_of_a_run_that_has_only_begun(run_dir):
    for name in ("model", "checkpoints"):
        shutil.rmtree(run_dir / name)
    for name in ("metrics.jsonl", "log.txt", "data.json", "environment.json", "tokenizer.json"):
        (run_dir / name).unlink()
    content, _ = read_page(write_report(run_dir))
    assert "Nothing is measured yet" in content
    assert "none yet" in content


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", '{"step": 1, "loss": "x"}\n{"step": 2, "valid": 3}\n[]\n{"step'),
        ("data.json", '{"splits": [{}], "leaks": []}'),
        ("environment.json", "[1]"),
        ("model/config.json", "{}"),
        ("model/headway.json", "{}"),
        ("recipe.toml", "[model]\nnonsense = 1\n[data"),
    ],
)
def test_damaged_files_never_stop_the_report(run_dir, name, content):
    (run_dir / name).write_text(content, encoding="utf-8")
    content, outline = read_page(write_report(run_dir))
    assert outline.headings
    assert "Traceback" not in content


def test_data_that_is_gone_is_told(run_dir):
    recipe = run_dir / "recipe.toml"
    text = recipe.read_text(encoding="utf-8").replace("valid.jsonl", "gone.jsonl")
    recipe.write_text(text, encoding="utf-8")
    content, outline = read_page(write_report(run_dir))
    assert "gone.jsonl" in content
    assert "Not drawn" in content
    assert "Positions and masks" in outline.headings


def test_steps_that_a_resumed_run_repeats_count_once(run_dir):
    metrics = run_dir / "metrics.jsonl"
    lines = metrics.read_text(encoding="utf-8")
    once = write_report(run_dir).read_text(encoding="utf-8")
    metrics.write_text(lines + lines, encoding="utf-8")
    assert write_report(run_dir).read_text(encoding="utf-8") == once


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(FileError, match="holds no run"):
        write_report(tmp_path)


def test_data_report_is_read_back(run_dir):
    report = read_data_report(run_dir / "data.json")
    stored = json.loads((run_dir / "data.json").read_text(encoding="utf-8"))
    assert report.to_json() == stored


@pytest.mark.parametrize("architecture", ["transformer", "seq2seq"])
def test_alignment_page(architecture, tmp_path, build_model, hostile):
    path = write_alignment(build_model(architecture), hostile, tmp_path / "a.html")
    content, outline = read_page(path)
    assert "script" not in outline.tags
    assert ("head by head" in content) == (architecture == "transformer")


def test_samples_stop_when_the_time_is_over(transformer):
    rows = [{"source": "abc", "target": "cba"}] * 60
    assert len(predict_samples(transformer, rows, seconds=0)) == 25
    assert len(predict_samples(transformer, rows, seconds=60)) == 60


def test_samples_are_scored_by_row(transformer):
    (sample,) = predict_samples(transformer, [{"source": "abc", "target": "x"}], seconds=1)
    assert sample.prediction == transformer.translate(["abc"])[0]
    assert 0 <= sample.chrf <= 100
    assert not sample.is_right


def test_rows_are_spread_evenly():
    assert spread(10, 3) == [0, 4, 9]
    assert spread(2, 5) == [0, 1]


@pytest.mark.parametrize(
    ("prediction", "reference", "marked"),
    [
        ("2024-03-05", "2024-03-03", "2024-03-0<mark>5</mark>"),
        ("a dog ran off", "a cat ran off", "a <mark>dog</mark> ran off"),
        ("same", "same", "same"),
        ("", "gone", ""),
        ("<b>", "x", "<mark>&lt;b&gt;</mark>"),
    ],
)
def test_differences_are_marked(prediction, reference, marked):
    assert mark_differences(prediction, reference) == marked


@pytest.mark.parametrize(
    ("seconds", "written"), [(8.4, "8 s"), (119.0, "1 min 59 s"), (7260, "2 h 1 min")]
)
def test_durations(seconds, written):
    assert duration(seconds) == written


def test_the_worst_rows_are_shown_for_tasks_without_classes():
    from types import SimpleNamespace

    from headway.explain.answers import draw_worst_rows
    from headway.tasks.tagging import Tagging

    rows = [
        {"words": ["a", "b"], "tags": ["O", "O"]},
        {"words": ["Ada", "Byron", "slept"], "tags": ["B-PER", "I-PER", "O"]},
    ]
    said = [{"prediction": ["O", "O"]}, {"prediction": ["B-PER", "O", "O"]}]
    model = SimpleNamespace(task=Tagging(), labels=("O", "B-PER", "I-PER"))
    view = SimpleNamespace(model=model, answers=list(zip(rows, said, strict=True)))
    html = draw_worst_rows(view)
    assert "PER: Ada Byron" in html
    assert "PER: Ada<" in html
    # What is right is none of the worst, though no span of it counts.
    assert "a b" not in html
