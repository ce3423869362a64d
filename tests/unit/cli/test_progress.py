"""What is shown of a run: every word as it is."""

from __future__ import annotations

import pytest
from rich.console import Console

from headway.cli import _progress
from headway.data.report import DataReport
from headway.train.run import Evaluated, Finished, Note, Started

# To a library that reads markup: a style that vanishes, an end without a beginning, a picture.
ODD = "runs/a[bf16][/b]:smile:"


@pytest.mark.parametrize("is_terminal", [False, True])
def test_names_with_brackets_are_shown_as_they_are(is_terminal, tmp_path, capsys, monkeypatch):
    def make_console(**options) -> Console:
        return Console(**options, force_terminal=is_terminal, no_color=True, width=500)

    monkeypatch.setattr(_progress, "Console", make_console)
    run_dir = tmp_path / ODD
    events = [
        Started(
            total_steps=3,
            step=0,
            num_parameters=1,
            precision="fp32",
            report=DataReport(splits=[], leaks=[]),
        ),
        Note(text=f"note {ODD}"),
        Evaluated(step=3, scores={ODD: 1.0}, loss=1.0, is_best=True, seconds=1.0),
        Finished(
            step=3,
            best_step=3,
            best_score=1.0,
            score_name=f"score {ODD}",
            seconds=1.0,
            model_dir=run_dir / "model",
        ),
    ]
    _progress.show(iter(events), run_dir)
    out, err = capsys.readouterr()
    assert out == f"{run_dir}/model\n"
    for expected in (
        f"run directory {run_dir}\n",
        f"note {ODD}\n",
        f"valid loss 1.0000  {ODD} 1.00  (best so far)\n",
        f", score {ODD} 1.00; report none\n",
    ):
        assert expected in err.replace("\r\n", "\n")
