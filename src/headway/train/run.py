"""A whole run: from a recipe to a run directory with the best model in it.

    for event in train(recipe, Path("run")):
        ...

Events are values; whoever runs it decides what to show.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headway import recipe as recipes
from headway.errors import FileError
from headway.files.manifest import read_json, write_json, write_text
from headway.memory import keep_freed_memory
from headway.sections import Recipe
from headway.train.average import average_checkpoints
from headway.train.baseline import write_baseline
from headway.train.evaluate import Evaluation
from headway.train.events import Evaluated, Event, Finished, Note, Report, Started
from headway.train.guard import (
    Interrupted,
    Stopped,
    StopSignal,
    check_room,
    run_lock,
    stop_signals,
)
from headway.train.log import (
    append_json,
    check_unchanged,
    cut_metrics,
    describe_environment,
    log_line,
)
from headway.train.loop import StepDropped, Trainer, Update
from headway.train.prepare import Prepared, prepare
from headway.train.state import (
    list_checkpoints,
    load_checkpoint,
    newest_checkpoint,
    prune_checkpoints,
    read_average,
    save_checkpoint,
    step_of,
)
from headway.train.validate import FALLING, Validation

# Reports in metrics.jsonl over a whole run, about.
_NUM_REPORTS = 200


def train(recipe: Recipe, run_dir: str | Path) -> Iterator[Event]:
    """Run a recipe in an empty directory.

    Raises:
        FileError: if the directory is not empty, is in use or cannot be written.
        Stopped: after Ctrl-C or SIGTERM, once a checkpoint is saved.
    """
    run_dir = Path(run_dir)
    if run_dir.exists() and not run_dir.is_dir():
        raise FileError(f"{run_dir} is no directory", hint="choose another --out")
    if run_dir.exists() and any(run_dir.iterdir()):
        raise FileError(
            f"{run_dir} is not empty, and a run is never overwritten",
            hint=f"choose another --out, or go on with: headway train --resume {run_dir}",
        )
    keep_freed_memory()
    # Before the directory is made: bad input leaves nothing behind.
    prepared = prepare(recipe)
    run = _Run(prepared, run_dir)
    try:
        (run_dir / "checkpoints").mkdir(parents=True)
    except OSError as error:
        raise FileError(f"{run_dir} cannot be made: {error.strerror or error}") from error
    with run_lock(run_dir), stop_signals() as stop:
        write_text(run_dir / "tokenizer.json", prepared.model.tokenizer.to_json())
        environment = describe_environment(prepared.fingerprints)
        environment["recipe_sha256"] = recipes.identify(prepared.recipe)
        write_json(run_dir / "environment.json", environment)
        write_json(run_dir / "data.json", prepared.examples.report.to_json())
        write_text(run_dir / "recipe.toml", recipes.write(prepared.recipe))
        run.stop = stop
        yield from run.go()


def resume(run_dir: str | Path, *, length: dict[str, Any] | None = None) -> Iterator[Event]:
    """Go on with a run from its newest whole checkpoint.

    Args:
        run_dir: A run directory.
        length: New `steps` or `epochs`, the only thing that may change.
    Raises:
        FileError: if there is no run, its data has changed, or it is in use.
    """
    run_dir = Path(run_dir)
    if not (run_dir / "recipe.toml").is_file():
        raise FileError(
            f"{run_dir} holds no run", hint="give the directory that --out named when it started"
        )
    recipe = recipes.read(run_dir / "recipe.toml", {"training": length or {}})
    keep_freed_memory()
    with run_lock(run_dir), stop_signals() as stop:
        prepared = prepare(recipe, tokenizer_file=run_dir / "tokenizer.json")
        check_unchanged(run_dir, prepared.fingerprints, prepared.recipe)
        if length:
            write_text(run_dir / "recipe.toml", recipes.write(prepared.recipe))
        run = _Run(prepared, run_dir)
        run.stop = stop
        yield from run.restore()
        yield from run.go()


class _Run:
    """A run under way: the trainer, where it writes, and when it reports."""

    def __init__(self, prepared: Prepared, run_dir: Path) -> None:
        # Nobody listens yet.
        self.stop = StopSignal()
        self.recipe, self.run_dir = prepared.recipe, run_dir
        self.model, self.report = prepared.model, prepared.examples.report
        self.passes = prepared.examples.passes
        self._records = prepared.examples.train_rows, prepared.examples.rows
        self.trainer = Trainer(
            prepared.model,
            prepared.examples.train,
            prepared.recipe.training,
            playbook=prepared.recipe.playbook,
            work_dir=run_dir,
            must_drop=lambda: self.stop.is_urgent,
        )
        self.checkpoints = run_dir / "checkpoints"
        self.score_name = prepared.score_name
        self.validation = Validation(
            model=prepared.model,
            examples=prepared.examples.valid,
            rows=prepared.examples.rows,
            score_name=prepared.score_name,
            decoding=prepared.decoding,
            precision=self.trainer.precision,
            stopping=lambda: self.stop.is_set,
        )
        every = prepared.recipe.training.evaluate_steps
        self.evaluate_steps = every or self.trainer.steps_per_epoch
        self.report_steps = max(1, self.trainer.total_steps // _NUM_REPORTS)
        self.last_update: Update | None = None

    @property
    def state(self):
        return self.trainer.state

    def restore(self) -> Iterator[Event]:
        """Load the newest whole checkpoint, if there is one."""
        path, damaged = newest_checkpoint(self.checkpoints)
        for problem in damaged:
            yield Note(text=f"{problem} Using the checkpoint before it.")
        if path is None:
            yield Note(text="no whole checkpoint was found: starting from the beginning")
        else:
            modules, optimizer = self.trainer.modules, self.trainer.optimizer
            self.trainer.state = load_checkpoint(path, modules, optimizer)
            if self.trainer.average is not None:
                state = self.state
                is_kept = self.trainer.average.restore(
                    read_average(path), state.averaged_weights, state.averaged_from
                )
                if not is_kept:
                    yield Note(text="the length has changed: the mean of the weights begins anew")
            self._recall_best()
            yield Note(text=f"going on from step {self.state.step}")
        # The mean of the checkpoints is taken after the last one, so a run that is over does it
        # again.
        state = self.state
        cut_metrics(
            self.run_dir,
            reports=state.step,
            evaluations=state.evaluated_step,
            averages=state.step - 1 if self._is_over() else state.step,
        )

    def _recall_best(self) -> None:
        """Take up the score of the model that is there: a mean of checkpoints may be above all.

        That mean is taken after the last checkpoint, which knows nothing of it.
        """
        path = self.run_dir / "model" / "headway.json"
        if not path.is_file() or self.state.best_score is None:
            return
        summary = read_json(path).get("training")
        if not isinstance(summary, dict) or "averaged_checkpoints" not in summary:
            return
        score = summary["valid"].get(self.score_name)
        if score is None:
            return
        value = -score if self.score_name in FALLING else score
        if value >= self.state.best_score:
            self.state.best_score, self.state.best_step = value, summary["step"]

    def go(self) -> Iterator[Event]:
        """Train to the end."""
        parameters = [p for p in self.trainer.modules.parameters() if p.requires_grad]
        count = sum(p.numel() for p in parameters)
        check_room(self.run_dir, 2 * 3 * 4 * count)
        log_line(self.run_dir, f"training from step {self.state.step}")
        yield Started(
            total_steps=self.trainer.total_steps,
            step=self.state.step,
            num_parameters=count,
            precision=self.trainer.precision,
            report=self.report,
        )
        if not self.state.step:
            yield from (Note(text=note) for note in self.model.notes)
            if self.validation.examples is None:
                yield Note(text="no data.valid: nothing is scored, and the last model is kept")
        while True:
            if self._is_due():
                yield from self._evaluate_and_save()
            if self._is_over():
                break
            try:
                self.last_update = self.trainer.take_step()
            except StepDropped:
                self._save_and_stop()
            yield from self._report()
            if self.stop.is_set:
                self._save_and_stop()
        yield from self._finish()

    def _is_due(self) -> bool:
        step = self.state.step
        is_time = step % self.evaluate_steps == 0 or step >= self.trainer.total_steps
        return step > self.state.evaluated_step and is_time

    def _is_over(self) -> bool:
        patience = self.recipe.playbook.patience
        is_stale = patience is not None and self.state.stale_evaluations >= patience
        return is_stale or self.state.step >= self.trainer.total_steps

    def _save_and_stop(self) -> None:
        path = self._save_checkpoint()
        log_line(self.run_dir, f"stopped by a signal at step {self.state.step}")
        raise Stopped(
            f"stopped at step {self.state.step}; saved {path}",
            hint=f"go on with: headway train --resume {self.run_dir}",
        )

    def _report(self) -> Iterator[Event]:
        state, update = self.state, self.last_update
        if update is None:
            return
        for name, value in update.losses.items():
            total, count = state.loss_sums.get(name, [0.0, 0.0])
            state.loss_sums[name] = [total + value, count + 1]
        state.report_tokens += update.num_tokens
        state.report_seconds += update.seconds
        if state.step % self.report_steps and state.step < self.trainer.total_steps:
            return
        losses = {name: total / count for name, (total, count) in state.loss_sums.items()}
        report = Report(
            step=state.step,
            epoch=round(self.trainer.epoch, 4),
            loss=sum(losses.values()),
            losses=losses,
            tokens_per_second=round(state.report_tokens / max(state.report_seconds, 1e-9), 1),
            seconds=round(state.seconds, 3),
            learning_rate=update.learning_rate,
            grad_norm=update.grad_norm,
        )
        append_json(self.run_dir / "metrics.jsonl", dataclasses.asdict(report))
        state.loss_sums, state.report_tokens, state.report_seconds = {}, 0, 0.0
        yield report

    def _evaluate_and_save(self) -> Iterator[Event]:
        started = time.perf_counter()
        if self.validation.examples is not None:
            try:
                with self.trainer.averaged():
                    result = self.validation.score()
                    event = self._take_note(result, started)
            except Interrupted:
                self._save_and_stop()
                return
            yield event
        else:
            self.state.evaluated_step = self.state.step
        self._checkpoint()

    def _take_note(
        self, result: Evaluation, started: float, *, averaged: int | None = None
    ) -> Evaluated:
        """Keep the model if it is the best so far, and write the scores down."""
        state, value = self.state, self.validation.value(result)
        # A mean of checkpoints that is as good as the best single one is the safer choice.
        is_best = (
            state.best_score is None
            or value > state.best_score
            or (averaged is not None and value == state.best_score)
        )
        if is_best:
            state.best_score, state.best_step, state.stale_evaluations = value, state.step, 0
            more = {} if averaged is None else {"averaged_checkpoints": averaged}
            self._save_model({"loss": sum(result.losses.values()), **result.scores}, **more)
        elif self.trainer.is_settled:
            state.stale_evaluations += 1
        state.evaluated_step = state.step
        seconds = time.perf_counter() - started
        state.seconds += seconds
        event = Evaluated(
            step=state.step,
            scores=result.scores,
            loss=sum(result.losses.values()),
            is_best=is_best,
            seconds=seconds,
        )
        line = {
            "step": state.step,
            "epoch": round(self.trainer.epoch, 4),
            "valid": {"loss": event.loss, **event.scores},
            "is_best": is_best,
            "seconds": round(state.seconds, 3),
        }
        if averaged is not None:
            line["averaged_checkpoints"] = averaged
        append_json(self.run_dir / "metrics.jsonl", line)
        return event

    def _save_model(self, scores: dict[str, float], **more: Any) -> None:
        self.model.summary = {
            "step": self.state.step,
            "tokens": self.state.tokens,
            "seconds": round(self.state.seconds, 1),
            "valid": scores,
            **more,
        }
        self.model.save(self.run_dir / "model")

    def _save_checkpoint(self) -> Path:
        average = self.trainer.average
        return save_checkpoint(
            self.checkpoints,
            self.trainer.modules,
            self.trainer.optimizer,
            self.state,
            average=None if average is None else average.weights,
        )

    def _checkpoint(self) -> None:
        self._save_checkpoint()
        count = max(2, self.recipe.playbook.average_checkpoints)
        prune_checkpoints(self.checkpoints, keep=self._regular_checkpoints()[-count:])

    def _regular_checkpoints(self) -> list[Path]:
        """List the checkpoints that an uninterrupted run would have made too.

        Only these are averaged: where a signal happened to stop a run must not change its result.
        """
        last, every = self.trainer.total_steps, self.evaluate_steps
        return [
            path
            for path in list_checkpoints(self.checkpoints)
            if step_of(path) % every == 0 or step_of(path) in (last, self.state.step)
        ]

    def _finish(self) -> Iterator[Event]:
        count = self.recipe.playbook.average_checkpoints
        paths = self._regular_checkpoints()[-count:]
        is_averaging = count > 1 and len(paths) > 1
        if is_averaging:
            yield from self._try_average(paths)
        if self.validation.examples is None:
            with self.trainer.averaged():
                more = {"averaged_checkpoints": len(paths)} if is_averaging else {}
                self._save_model({}, **more)
        best = self.state.best_score
        if best is not None and self.score_name in FALLING:
            best = -best
        if note := write_baseline(self.model.task, *self._records, self.run_dir):
            yield Note(text=note)
        for file, weight in self.passes.items():
            yield Note(text=f"{file}: {weight * self.trainer.epoch:.2f} passes")
        log_line(self.run_dir, f"finished at step {self.state.step}")
        yield Finished(
            step=self.state.step,
            best_step=self.state.best_step or self.state.step,
            best_score=best,
            score_name=self.score_name,
            seconds=self.state.seconds,
            model_dir=self.run_dir / "model",
        )

    def _try_average(self, paths: list[Path]) -> Iterator[Event]:
        """Take the mean of the last checkpoints as the model, if it is no worse than the best."""
        average_checkpoints(paths, self.trainer.modules)
        if self.validation.examples is None:
            yield Note(text=f"the model is the mean of the last {len(paths)} checkpoints")
            return
        started = time.perf_counter()
        try:
            result = self.validation.score()
        except Interrupted as error:
            # The last checkpoint is saved: resuming comes back to this point.
            raise Stopped(
                "stopped while averaging", hint=f"headway train --resume {self.run_dir}"
            ) from error
        event = self._take_note(result, started, averaged=len(paths))
        verb = "taken" if event.is_best else "not taken: a single one was better"
        yield Note(text=f"mean of the last {len(paths)} checkpoints {verb}")
        yield event
