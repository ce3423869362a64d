"""Model folders, ours and published ones, opened as models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headway import registry
from headway.errors import ConfigError, FileError
from headway.files import folder, vocabulary
from headway.files.adapter import apply_adapter, is_adapter, kind_of, read_adapter, read_head
from headway.files.hub import local_folder
from headway.files.manifest import read_json
from headway.tasks._model import FORMAT, Model, make_task
from headway.tasks._task import Body, Head, Task
from headway.text.legacy import read_tokenizer
from headway.text.tokenizer import Tokenizer


def load(
    model_dir: str | Path,
    *,
    precision: str = "fp32",
    task: Task | None = None,
    task_name: str = "",
    labels: Sequence[str] = (),
) -> Model:
    """Open a model folder: one of ours, or a published one of an architecture that we have.

    Args:
        model_dir: Folder with config.json, model.safetensors and tokenizer.json; or with an adapter
            for such a model; or hub:owner/name, which is fetched.
        precision: "fp32", "bf16", "int8" or "auto".
        task: What it shall learn, in place of what it did; parts that the folder lacks for it
            are drawn at random, and `Model.notes` says so.
        task_name: Key of that task.
        labels: Names of the classes that it shall tell apart.
    Raises:
        FileError: if the folder is missing, damaged, or asks to run code.
        ConfigError: if no task of ours, or not this one, fits the model.
    """
    path = local_folder(model_dir)
    if is_adapter(path):
        adapted = _load_adapter(path, task, task_name, labels)
        return adapted.to_precision(precision)
    own, more = _read_own(path), []
    found = folder.read_model(path, kind=None if task is None else task.head)
    tokenizer = read_tokenizer(
        path,
        names=vocabulary.read_special_tokens(path),
        settings=vocabulary.read_tokenizer_config(path),
    )
    problems, notes = _tokenizer_problems(tokenizer, found.body)
    if problems:
        raise FileError("; ".join(problems + notes), where=str(path))
    more += [f"{path}: {note}; no result depends on it" for note in notes]
    if task is None:
        task, task_name = own.task, own.task_name
    if task is None:
        fitting = _fitting_task(found)
        if fitting is None and found.body.kind == "encoder":
            # Its hidden states are of use all the same.
            more = [
                f"{path} was opened without its head of kind {found.kind}: no task here has one yet"
            ]
            found = folder.read_model(path, kind="body")
            fitting = _fitting_task(found)
        if fitting is None:
            raise ConfigError(
                f"Headway has no task yet that works with a {found.key} with a head of kind "
                f"{found.kind}"
            )
        task_name, task = fitting
    saved = _result_names(found) if own.task is None else own.labels
    if problem := task.check_labels(labels or saved):
        raise ConfigError(problem, where=str(path))
    head, is_loaded = _make_head(found, task, labels, saved)
    if found.head and not is_loaded:
        more.append(f"{path} has a head for other results or classes: it is newly initialized")
    model = Model(
        found.body,
        tokenizer,
        task,
        task_name=task_name,
        architecture=found.key,
        head=head,
        labels=saved if is_loaded else tuple(labels) or saved,
        summary=own.summary,
        kind=found.kind,
        notes=[*more, *_notes(found, path)],
        carried=found.carried,
        fresh=found.fresh,
    )
    return model.to_precision(precision)


def _load_adapter(path: Path, task: Task | None, task_name: str, labels: Sequence[str]) -> Model:
    """Open the base model of an adapter with what the adapter learned."""
    own, adapter = _read_own(path), read_adapter(path)
    if task is not None and (own.task is None or task.head != own.task.head):
        raise ConfigError(
            "an adapter is opened for what it was learned for, not for another task",
            where=str(path),
            hint="merge it first: headway merge ADAPTER OUT",
        )
    if own.task is None and (kind := kind_of(path)) is not None:
        own = _learned_by_peft(path, adapter.base, kind)
    names = tuple(labels) or own.labels
    name = task_name or own.task_name
    model = load(adapter.base, task=task or own.task, task_name=name, labels=names)
    head = apply_adapter(path, model.architecture, model.body, model.kind)
    if head:
        if model.head is None:
            model.head = model.task.make_head(model.body, names)
        wanted = {n: tuple(p.shape) for n, p in model.head.named_parameters()}
        if wanted != {name: tuple(value.shape) for name, value in head.items()}:
            raise FileError("the adapter has a head for other classes", where=str(path))
        model.head.load_state_dict(head)
    model.labels, model.summary, model.adapter = names, dict(own.summary), adapter
    # What the base lacks the adapter has; `load` says that first, and nothing else so.
    model.notes = tuple(note for note in model.notes if "newly initialized" not in note)
    model.fresh = ()
    model.stop_training()
    return model


def _learned_by_peft(path: Path, base: Path, kind: str) -> _Own:
    """Find the task of an adapter that PEFT trained, by its head; its results have no names."""
    key, _, layout = folder.read_config(base)
    head = read_head(path, layout, kind) if kind in layout.heads else {}
    found = folder.Loaded(key=key, body=None, kind=kind, saved_kind=kind, head=head)
    name, task = _fitting_task(found) or ("", None)
    return _Own(task=task, task_name=name, labels=_result_names(found))


def _result_names(found: folder.Loaded) -> tuple[str, ...]:
    """Name the results of a published head; where the folder does not, as others do."""
    weight = found.head.get("output.weight") if found.kind in ("sequence", "token") else None
    if weight is None or len(found.labels) == len(weight):
        return found.labels
    return tuple(f"LABEL_{number}" for number in range(len(weight)))


def _make_head(
    found: folder.Loaded, task: Task, labels: Sequence[str], saved: Sequence[str]
) -> tuple[Head, bool]:
    """Build a task's head, with the folder's weights where they were learned for these classes.

    Classes are known by their names, never by their places.

    Args:
        found: What the folder held.
        task: Whose head it is.
        labels: Names of the classes that are wanted; () for those of the folder.
        saved: Names of the folder's classes.
    Returns:
        head, is_loaded: None where the task has no head; whether the weights are the folder's.
    """
    if found.kind != task.head and not found.head:
        return None, False
    head = task.make_head(found.body, labels or saved)
    if head is None:
        return None, False
    wanted = {name: value.shape for name, value in head.state_dict().items()}
    fits = wanted == {name: value.shape for name, value in found.head.items()}
    is_loaded = fits and (not labels or set(labels) == set(saved))
    if is_loaded:
        head.load_state_dict(found.head)
    return head.eval(), is_loaded


def _notes(found: folder.Loaded, path: Path) -> list[str]:
    notes = []
    if found.fresh:
        names = " and ".join(name.replace("_", " ") for name in found.fresh)
        notes.append(f"{path} has no {names}: newly initialized, to be trained")
    if found.changed:
        notes.append(f"{path}: changed since it was saved: {', '.join(found.changed)}")
    if found.unused:
        note = f"{path}: not used: {', '.join(found.unused)}"
        if (found.kind, found.saved_kind) == ("masked_lm", "masked_lm_pair"):
            note += (
                ", with which it tells pairs of texts apart; they are not saved with what is "
                "trained; to keep and train them set task.pair"
            )
        notes.append(note)
    return notes


def _fitting_task(found: folder.Loaded) -> tuple[str, Task] | None:
    """Find the task that works with a published folder's head."""
    for name in registry.list_keys("tasks"):
        task_class = registry.load_class("tasks", name)
        if found.kind in task_class.heads:
            names = _result_names(found)
            settings = task_class.settings_of(found.kind, found.key, names, found.problem)
            if settings is not None:
                if found.dropout is not None and hasattr(task_class, "dropout"):
                    settings = {**settings, "dropout": found.dropout}
                return name, make_task(name, settings)
    return None


def _tokenizer_problems(tokenizer: Tokenizer, body: Body) -> tuple[list[str], list[str]]:
    """Find out whether tokenizer.json and config.json belong to each other.

    Returns:
        problems, notes: What cannot be used; and what differs and changes no result.
    """
    config = body.config
    problems, notes = [], []
    if tokenizer.largest_id >= config.vocab_size:
        problems.append(
            f"tokenizer.json has ids up to {tokenizer.largest_id}, but the model embeds only "
            f"{config.vocab_size} tokens"
        )
    for role, field_name in (("pad", "pad_token_id"), ("end", "eos_token_id")):
        wanted = getattr(config, field_name, None)
        token = tokenizer.name_of(role)
        found = tokenizer.find(token)
        if wanted is None or found == wanted:
            continue
        problem = f"{token} is {found} in tokenizer.json, but {wanted} in config.json"
        # What is hidden by the mask may be any token.
        if role == "pad" and found is not None and not getattr(body, "counts_from_pad", True):
            notes.append(problem)
        else:
            problems.append(problem)
    return problems, notes


@dataclass(frozen=True, kw_only=True)
class _Own:
    """What headway.json says; without one, nothing."""

    task: Task | None = None
    task_name: str = ""
    labels: tuple[str, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)


def _read_own(path: Path) -> _Own:
    """Read headway.json; a published folder has none."""
    file = path / "headway.json"
    if not file.is_file():
        return _Own()
    own = read_json(file)
    settings = own.get("task")
    labels, summary = own.get("labels") or [], own.get("training") or {}
    if not (isinstance(settings, dict) and isinstance(summary, dict) and isinstance(labels, list)):
        raise FileError("headway.json is damaged", where=str(path))
    if own.get("format", FORMAT) != FORMAT:
        raise FileError(
            f"headway.json has format {own['format']!r}, but this Headway reads {FORMAT}",
            where=str(path),
            hint="open the folder with the version that wrote it",
        )
    settings = dict(settings)
    name = str(settings.pop("name", ""))
    try:
        task = make_task(name, settings)
    except ConfigError as error:
        raise FileError(error.message, where=str(file), hint=error.hint) from error
    return _Own(task=task, task_name=name, labels=tuple(map(str, labels)), summary=summary)
