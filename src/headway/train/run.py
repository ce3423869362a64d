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
from typing import Any, NoReturn

from headway import recipe as recipes
from headway.errors import ConfigError, FileError
from headway.files.manifest import read_json, write_json, write_text
from headway.memory import keep_freed_memory
from headway.sections import Recipe
from headway.train.average import average_checkpoints
from headway.train.baseline import write_baseline
from headway.train.events import Evaluated, Event, Finished, Note, Report, Started
from headway.train.guard import Interrupted, Stopped, StopSignal, check_free, check_room, run_lock
from headway.train.log import (
    append_json,
    check_unchanged,
    cut_metrics,
    describe_environment,
    log_line,
)
from headway.train.loop import StepDropped, Trainer, Update
from headway.train.prepare import Prepared, prepare
from headway.train.state import list_checkpoints, newest_checkpoint, prune_checkpoints, step_of
from headway.train.validate import rising, validate

# Reports in metrics.jsonl over a whole run, about.
_NUM_REPORTS = 200


def train(recipe: Recipe, run_dir: str | Path) -> Iterator[Event]:
    """Run a recipe in an empty directory.

    Raises:
        FileError: if the directory is not empty, is in use or cannot be written.
        Stopped: after Ctrl-C or SIGTERM, once a checkpoint is saved.
    """
    run_dir, stop = Path(run_dir), StopSignal()
    check_free(run_dir)
    keep_freed_memory()
    # Before the directory is made: bad input leaves nothing behind.
    prepared = prepare(recipe)
    run = _Run(prepared, run_dir, stop)
    try:
        (run_dir / "checkpoints").mkdir(parents=True)
    except OSError as error:
        raise FileError(f"{run_dir} cannot be made: {error.strerror or error}") from error
    with run_lock(run_dir), stop.listening():
        write_text(run_dir / "tokenizer.json", prepared.model.tokenizer.to_json())
        environment = describe_environment(prepared.fingerprints)
        environment["recipe_sha256"] = recipes.identify(prepared.recipe)
        write_json(run_dir / "environment.json", environment)
        write_json(run_dir / "data.json", prepared.examples.report.to_json())
        write_text(run_dir / "recipe.toml", recipes.write(prepared.recipe))
        yield from run.go()


def resume(run_dir: str | Path, *, length: dict[str, Any] | None = None) -> Iterator[Event]:
    """Go on with a run from its newest whole checkpoint.

    Args:
        run_dir: A run directory.
        length: New `steps` or `epochs`, the only thing that may change.
    Raises:
        ConfigError: if it is longer already than it is to become.
        FileError: if there is no run, its data has changed, or it is in use.
    """
    run_dir = Path(run_dir)
    if not (run_dir / "recipe.toml").is_file():
        raise FileError(
            f"{run_dir} holds no run", hint="give the directory that --out named when it started"
        )
    recipe = recipes.read(run_dir / "recipe.toml", {"training": length or {}})
    keep_freed_memory()
    stop = StopSignal()
    with run_lock(run_dir), stop.listening():
        prepared = prepare(recipe, tokenizer_file=run_dir / "tokenizer.json")
        check_unchanged(run_dir, prepared.fingerprints, prepared.recipe)
        run = _Run(prepared, run_dir, stop)
        yield from run.restore()
        if length:
            run.check_length()
            write_text(run_dir / "recipe.toml", recipes.write(prepared.recipe))
        yield from run.go()


class _Run:
    """A run under way: the trainer, where it writes, and when it reports."""

    def __init__(self, prepared: Prepared, run_dir: Path, stop: StopSignal) -> None:
        self.prepared, self.recipe = prepared, prepared.recipe
        self.model, self.examples = prepared.model, prepared.examples
        self.run_dir, self.checkpoints, self.stop = run_dir, run_dir / "checkpoints", stop
        self.trainer = Trainer(
            self.model,
            self.examples.train,
            self.recipe.training,
            playbook=self.recipe.playbook,
            work_dir=run_dir,
            must_drop=lambda: stop.is_urgent,
        )
        self.score_name = self.recipe.playbook.choose_by
        self.evaluate_steps = self.recipe.training.evaluate_steps or self.trainer.steps_per_epoch
        self.report_steps = max(1, self.trainer.total_steps // _NUM_REPORTS)

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
            if not self.trainer.restore(path):
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

    def check_length(self) -> None:
        """Raise a ConfigError if the run is longer already than it is to become."""
        step, total = self.state.step, self.trainer.total_steps
        if step > total:
            raise ConfigError(
                f"the run has made {step:,} updates, but is to have {total:,} in all",
                hint="training.steps and training.epochs count from its beginning",
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
        value = rising(self.score_name, score)
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
            report=self.examples.report,
        )
        if not self.state.step:
            yield from (Note(text=note) for note in self.model.notes)
            if self.examples.valid is None:
                yield Note(text="no data.valid: nothing is scored, and the last model is kept")
        while True:
            if self._is_due():
                yield from self._evaluate_and_save()
            if self._is_over():
                break
            try:
                update = self.trainer.take_step()
            except StepDropped:
                self._save_and_stop()
            yield from self._report(update)
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

    def _save_and_stop(self) -> NoReturn:
        path = self.trainer.save(self.checkpoints)
        log_line(self.run_dir, f"stopped by a signal at step {self.state.step}")
        raise Stopped(
            f"stopped at step {self.state.step}; saved {path}",
            hint=f"go on with: headway train --resume {self.run_dir}",
        )

    def _report(self, update: Update) -> Iterator[Event]:
        state = self.state
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
            loss=self.trainer.total(losses),
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
        if self.examples.valid is None:
            self.state.evaluated_step = self.state.step
        else:
            try:
                with self.trainer.average.in_place():
                    event = self._evaluate()
            except Interrupted:
                self._save_and_stop()
            yield event
        self.trainer.save(self.checkpoints)
        count = max(2, self.recipe.playbook.average_checkpoints)
        prune_checkpoints(self.checkpoints, keep=self._regular_checkpoints()[-count:])

    def _evaluate(self, **more: int) -> Evaluated:
        """Score the model, keep it if it is the best so far, and write the scores down.

        Args:
            more: What else to write down: averaged_checkpoints, of a mean of checkpoints.
        """
        started = time.perf_counter()
        result = validate(self.prepared, self.trainer.precision, lambda: self.stop.is_set)
        state, value = self.state, rising(self.score_name, result.all_scores[self.score_name])
        is_best = (
            state.best_score is None
            or value > state.best_score
            # A mean of checkpoints that is as good as the best single one is the safer choice.
            or (bool(more) and value == state.best_score)
        )
        if is_best:
            state.best_score, state.best_step, state.stale_evaluations = value, state.step, 0
            self._save_model(result.all_scores, **more)
        elif self.trainer.is_settled:
            state.stale_evaluations += 1
        state.evaluated_step = state.step
        seconds = time.perf_counter() - started
        state.seconds += seconds
        line = {
            "step": state.step,
            "epoch": round(self.trainer.epoch, 4),
            "valid": result.all_scores,
            "is_best": is_best,
            "seconds": round(state.seconds, 3),
            **more,
        }
        append_json(self.run_dir / "metrics.jsonl", line)
        return Evaluated(
            step=state.step,
            scores=result.scores,
            loss=result.all_scores["loss"],
            is_best=is_best,
            seconds=seconds,
        )

    def _save_model(self, scores: dict[str, float], **more: int) -> None:
        self.model.summary = {
            "step": self.state.step,
            "tokens": self.state.tokens,
            "seconds": round(self.state.seconds, 1),
            "valid": scores,
            **more,
        }
        self.model.save(self.run_dir / "model")

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
        more = {"averaged_checkpoints": len(paths)} if min(count, len(paths)) > 1 else {}
        if more:
            yield from self._try_average(paths, **more)
        if self.examples.valid is None:
            with self.trainer.average.in_place():
                self._save_model({}, **more)
        best = self.state.best_score
        if note := write_baseline(
            self.model.task, self.examples.train_rows, self.examples.rows, self.run_dir
        ):
            yield Note(text=note)
        for file, weight in self.examples.passes.items():
            text = f"{file}: {weight * self.trainer.epoch:.2f} passes"
            log_line(self.run_dir, text)
            yield Note(text=text)
        log_line(self.run_dir, f"finished at step {self.state.step}")
        yield Finished(
            step=self.state.step,
            best_step=self.state.best_step or self.state.step,
            best_score=None if best is None else rising(self.score_name, best),
            score_name=self.score_name,
            seconds=self.state.seconds,
            model_dir=self.run_dir / "model",
        )

    def _try_average(self, paths: list[Path], **more: int) -> Iterator[Event]:
        """Take the mean of the last checkpoints as the model, if it is no worse than the best."""
        average_checkpoints(paths, self.trainer.modules)
        if self.examples.valid is None:
            yield Note(text=f"the model is the mean of the last {len(paths)} checkpoints")
            return
        try:
            event = self._evaluate(**more)
        except Interrupted as error:
            # The last checkpoint is saved: resuming comes back to this point.
            raise Stopped(
                "stopped while averaging", hint=f"headway train --resume {self.run_dir}"
            ) from error
        verb = "taken" if event.is_best else "not taken: a single one was better"
        yield Note(text=f"mean of the last {len(paths)} checkpoints {verb}")
        yield event
