"""The report of a run: one HTML file with its scores, curves, examples, pictures and settings.

write_report(Path("runs/dates"))            # runs/dates/report.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway import registry
from headway.errors import FileError, HeadwayError
from headway.explain import answers, continuations, sections
from headway.explain.alignment import align
from headway.explain.page import Section, build_page, note, paragraph, tiles
from headway.explain.svg import escape, number
from headway.explain.view import RunView
from headway.files.folder import count_parameters
from headway.files.manifest import read_json, write_text
from headway.tasks._model import Model
from headway.train.state import list_checkpoints
from headway.train.validate import FALLING

# What may go wrong in a section: a file that is gone or damaged, a model of another kind, text
# that a metric or a tokenizer refuses. A picture that fails never spoils a finished run.
_EXPECTED = (
    HeadwayError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
)


@dataclass(frozen=True)
class _Plan:
    """A section before it is drawn."""

    key: str
    title: str
    draw: Callable[[RunView], str]
    only_text: bool = False
    """Only for models that write text from text."""


_PLANS = (
    _Plan("training", "Training", sections.draw_training),
    _Plan("classes", "Classes", answers.draw_classes),
    _Plan("worst-rows", "Worst examples", answers.draw_worst_rows),
    _Plan("samples", "Samples", continuations.draw_continuations),
    _Plan("examples", "Examples", sections.draw_examples, only_text=True),
    _Plan("worst", "Worst examples", sections.draw_worst, only_text=True),
    _Plan("attention", "Attention", sections.draw_attention, only_text=True),
    _Plan("beams", "Beam search", sections.draw_beams, only_text=True),
    _Plan("positions", "Positions and masks", sections.draw_positions_and_masks, only_text=True),
    _Plan("data", "Data", sections.draw_data),
    _Plan("recipe", "Recipe", sections.draw_recipe),
    _Plan("environment", "Environment", sections.draw_environment),
)


def write_report(run_dir: Path, *, max_rows: int = 200) -> Path:
    """Write report.html of a run, finished or still under way.

    A section that cannot be drawn says why; the others do not suffer.

    Args:
        run_dir: Directory of the run.
        max_rows: Validation rows that are predicted at most.
    Returns:
        path: The report.
    Raises:
        FileError: if there is no run, or the report cannot be written.
    """
    if not (run_dir / "recipe.toml").is_file():
        raise FileError(
            f"{run_dir} holds no run", hint="give the directory that --out named when it started"
        )
    view = RunView(run_dir, max_rows)
    name = run_dir.resolve().name
    drawn: list[Section] = []
    told: set[str] = set()
    writes_text = _writes_text(view)
    for plan in _PLANS:
        if plan.only_text and not writes_text:
            continue
        content, problem = _attempt(plan.draw, view)
        # What keeps several sections from being drawn is said once.
        if content and problem not in told:
            drawn.append(Section(plan.key, plan.title, content))
        told |= {problem} - {""}
    head, _ = _attempt(lambda view: _head(name, view), view)
    path = run_dir / "report.html"
    write_text(path, build_page(f"{name} - Headway", head, drawn))
    return path


def _writes_text(view: RunView) -> bool:
    try:
        task = registry.load_class("tasks", view.recipe.task.name)
        return hasattr(task, "references") and not task.reads_corpus
    except _EXPECTED:
        # The sections say what is the matter.
        return True


def write_alignment(model: Model, source: str, path: Path, *, target: str | None = None) -> Path:
    """Write a page with what a model attends to while it writes the target of one source.

    Args:
        model: Writes text from text, with attention.
        source: Source text.
        path: HTML file to write.
        target: What was written; by default what the model writes with its own settings.
    Returns:
        path: The same.
    Raises:
        FileError: if it cannot be written.
        RequestError: if the model has no attention, or does not write text from text.
    """
    alignment = align(model, source, target)
    title = f"{model.architecture} \u00b7 {model.task_name}"
    head = f"<h1>{escape(title)}</h1>" + sections.quote(source, alignment.target)
    content = sections.write_maps(alignment)
    write_text(path, build_page(title, head, [Section("attention", "Attention", content)]))
    return path


def _attempt(draw: Callable[[RunView], str], view: RunView) -> tuple[str, str]:
    """Draw something; give HTML, and what went wrong if anything did."""
    try:
        return draw(view), ""
    except _EXPECTED as error:
        problem = str(error)
        if not isinstance(error, HeadwayError):
            problem = f"{type(error).__name__}: {problem}"
        return note(f"Not drawn: {problem}"), problem


def _head(name: str, view: RunView) -> str:
    recipe = view.recipe
    score_name, best = _best_score(view)
    last: dict[str, Any] = view.metrics[-1] if view.metrics else {}
    shown = "none yet" if best is None else f"{best:.2f}"
    values = [
        (shown, f"best validation {sections.score_title(score_name)}"),
        (_parameters(view), "parameters"),
        (f"{last.get('step', 0):,}", f"updates, {last.get('epoch', 0):.1f} epochs"),
        (duration(last.get("seconds", 0.0)), "training time"),
        (_tokens(view), "tokens trained on"),
    ]
    model = f"{recipe.model.architecture} \u00b7 {recipe.task.name}"
    title = f"<h1>{escape(name)}</h1>"
    return title + paragraph(f"{model} \u00b7 {_progress(view)}") + tiles(values)


def _best_score(view: RunView) -> tuple[str, float | None]:
    """Give the score that chose the model, from the model itself or the best evaluation."""
    name = view.recipe.playbook.choose_by
    found = view.summary.get("valid", {}).get(name)
    if found is None:
        values = [row["valid"][name] for row in view.evaluations if name in row["valid"]]
        found = (min if name in FALLING else max)(values, default=None)
    return name, found


def _parameters(view: RunView) -> str:
    try:
        return number(sum(count_parameters(view.model.body).values()))
    except _EXPECTED:
        return "unknown yet"


def _tokens(view: RunView) -> str:
    """Count the tokens of the newest checkpoint, or those the model had seen."""
    for path in reversed(list_checkpoints(view.run_dir / "checkpoints")):
        if (path / "state.json").is_file():
            return number(read_json(path / "state.json").get("tokens", 0))
    return number(view.summary["tokens"]) if "tokens" in view.summary else "unknown yet"


def _progress(view: RunView) -> str:
    """Say whether the run is done, from the last line of its log."""
    log = view.run_dir / "log.txt"
    lines = log.read_text(encoding="utf-8").split("\n") if log.is_file() else []
    last = next((line for line in reversed(lines) if line.strip()), "")
    if "finished at step" not in last:
        return "still under way, or stopped"
    step = view.summary.get("step")
    averaged = view.summary.get("averaged_checkpoints")
    if averaged:
        return f"finished; the model is the mean of the last {averaged} checkpoints"
    return "finished" if step is None else f"finished; the best model is that of step {step:,}"


def duration(seconds: float) -> str:
    """Write a time for people."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
