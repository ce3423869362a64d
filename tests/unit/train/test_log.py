"""What is left of metrics.jsonl when a run goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headway.errors import FileError
from headway.files import manifest
from headway.train.log import append_json, cut_metrics, read_jsonl

ROWS = [
    *({"step": step, "loss": 1.5} for step in (1, 2, 3, 4)),
    {"step": 4, "valid": {"loss": 2.0}},
    {"step": 5, "loss": 1.25},
]
AVERAGE = {"step": 4, "valid": {"loss": 1.0}, "averaged_checkpoints": 2}


def write(folder: Path, *rows: dict, rest: str = "") -> Path:
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + rest)
    return path


@pytest.mark.parametrize(
    "rest", ['{"step": 6, "lo', "{", '{"step": "6"}', "\0\0\0", '{"step": 6, "loss": 1}']
)
def test_a_last_line_that_was_cut_goes_and_the_next_row_has_a_line_of_its_own(rest, tmp_path):
    path = write(tmp_path, *ROWS, rest=rest)
    cut_metrics(tmp_path, reports=5, evaluations=4, averages=4)
    append_json(path, {"step": 6, "loss": 1.0})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        *ROWS,
        {"step": 6, "loss": 1.0},
    ]


def test_bytes_that_are_no_text_are_no_crash(tmp_path):
    path = write(tmp_path, *ROWS)
    path.write_bytes(path.read_bytes() + b'{"step": 6, "n\xc3')
    assert read_jsonl(path) == ROWS
    cut_metrics(tmp_path, reports=5, evaluations=4, averages=4)
    assert path.read_text() == "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize(
    ("last", "kept"),
    [
        ({"reports": 5, "evaluations": 4, "averages": 4}, [*ROWS[:5], AVERAGE, ROWS[5]]),
        ({"reports": 4, "evaluations": 4, "averages": 3}, ROWS[:5]),
        # A signal stopped it before the evaluation, and a kill after that.
        ({"reports": 4, "evaluations": 0, "averages": 4}, [*ROWS[:4], AVERAGE]),
        ({"reports": 0, "evaluations": 0, "averages": 0}, []),
    ],
)
def test_rows_that_come_again_are_taken_out(last, kept, tmp_path):
    path = write(tmp_path, *ROWS[:5], AVERAGE, ROWS[5])
    cut_metrics(tmp_path, **last)
    assert read_jsonl(path) == kept


def test_a_file_with_nothing_to_take_out_is_not_written(tmp_path):
    path = write(tmp_path, *ROWS)
    number = path.stat().st_ino
    cut_metrics(tmp_path, reports=5, evaluations=4, averages=4)
    assert path.stat().st_ino == number
    cut_metrics(tmp_path / "nowhere", reports=5, evaluations=4, averages=4)
    assert not (tmp_path / "nowhere").exists()


def test_a_full_disk_leaves_the_rows_as_they_were(tmp_path, monkeypatch):
    path = write(tmp_path, *ROWS, rest="{")
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest.os, "fsync", full)
    with pytest.raises(FileError, match="No space left on device"):
        cut_metrics(tmp_path, reports=5, evaluations=4, averages=4)
    assert path.read_bytes() == before
