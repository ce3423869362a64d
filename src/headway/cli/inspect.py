"""Look at data, a recipe, a model or a run.

headway inspect train.de train.en       rows, lengths, duplicates, bad rows
headway inspect multi30k-transformer    resolved recipe, parameter groups, learning rate
headway inspect run/model               architecture, parameters, tokenizer, task
headway inspect run                     curves so far, and the report
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from headway import recipe as recipes
from headway import registry
from headway.cli import _records
from headway.cli._options import TakesRecipe
from headway.errors import ConfigError, DataError

_TO_TUNE = "be fine-tuned"


@dataclass(frozen=True)
class Options(TakesRecipe):
    """Options of `headway inspect`."""

    what: tyro.conf.Positional[tuple[str, ...]]
    """Data files, a recipe, a model folder or a run directory."""
    task: str = "translation"
    """Data only: the task whose columns are looked for."""
    columns: tuple[str, ...] = ()
    """Data only: names for a file without a header, or ours=theirs to rename columns."""
    picture: Path | None = None
    """Recipe only: write the learning-rate schedule to this SVG file."""
    json: bool = False
    """Print one JSON object."""


def run(options: Options) -> None:
    """Find out what it is and describe it."""
    if not options.what:
        raise ConfigError("there is nothing to inspect", hint="see headway inspect --help")
    values, lines = _describe(options)
    _records.write(values, "\n".join(lines), as_json=options.json)


def _describe(options: Options) -> tuple[dict[str, Any], list[str]]:
    from headway.files.hub import local_folder

    first, *others = options.what
    if others:
        return _data(options)
    place = local_folder(first)
    if any((place / name).is_file() for name in ("config.json", "adapter_config.json")):
        return _model(place)
    if (place / "recipe.toml").is_file():
        return _run(place)
    if place.suffix == ".toml" or first in recipes.shipped():
        return _recipe(options)
    if place.is_dir():
        raise ConfigError(f"{place} is neither a model folder nor a run directory")
    return _data(options)


def _data(options: Options) -> tuple[dict[str, Any], list[str]]:
    """Describe data files; lengths are counted in words, as there is no tokenizer yet."""
    import numpy as np

    from headway.data.read import read_records
    from headway.data.report import build_report, describe_split

    if options.overrides:
        raise ConfigError(
            "keys of a recipe say nothing of files", hint="name columns with --columns, and --task"
        )
    task = registry.load_class("tasks", options.task)
    try:
        records = read_records(
            options.what,
            columns=task.columns,
            names=options.columns,
            skip_bad=True,
            flags=_records.FLAGS,
        )
    except DataError as error:
        others = ", ".join(registry.list_keys("tasks"))
        hint = f"{error.hint}; or look for another task than {options.task} with --task: {others}"
        raise DataError(error.message, where=error.where, hint=hint) from error
    lengths = {
        column: np.array([len(str(row[column]).split()) for row in records.rows])
        for column in task.columns
    }
    split = describe_split("data", records, lengths, limit={}, unknown={})
    report = build_report([split], {"data": records}, columns=task.columns)
    values = report.to_json()
    values["splits"][0]["empty_examples"] = records.empty_places
    bad = [f"{row.where}: {row.problem}" for row in split.bad_examples]
    lines = report.lines() + _list_first("bad rows", split.bad_rows, bad)
    lines += _list_first("blank rows", split.empty_rows, records.empty_places)
    return values, [*lines, "Lengths are in words."]


def _list_first(title: str, total: int, shown: Sequence[str]) -> list[str]:
    """List the first of something below a title; the rest is counted."""
    rest = total - len(shown)
    lines = [f"{title} ({total:,}):", *(f"  {item}" for item in shown)] if total else []
    return [*lines, f"  and {rest:,} more"] if rest else lines


def _model(path: Path) -> tuple[dict[str, Any], list[str]]:
    from headway.files.folder import count_parameters
    from headway.files.manifest import changed_files

    model = _records.open_model(path)
    # Loading takes large files on trust.
    if changed := changed_files(path):
        sys.stderr.write(f"warning: changed since it was saved: {', '.join(changed)}\n")
    parts = count_parameters(model.body)
    if model.head is not None and (count := sum(count_parameters(model.head).values())):
        parts["head"] = count
    total = sum(parts.values())
    fp32, bf16 = (_megabytes(total * size) for size in (4, 2))
    tokenizer, names = model.tokenizer, model.tokenizer.special_names()
    values = {
        "architecture": model.architecture,
        "config": dataclasses.asdict(model.body.config),
        "parameters": {"total": total, **parts},
        "megabytes": {"fp32": fp32, "bf16": bf16},
        "vocabulary": tokenizer.vocab_size,
        "kind": model.kind,
        "can": (can := _abilities(model)),
        # A body alone has a task in name only.
        "task": None
        if _TO_TUNE in can
        else {"name": model.task_name, **dataclasses.asdict(model.task)},  # pyright: ignore
        "labels": list(model.labels),
        "training": model.summary,
        "tokenizer": {"kind": tokenizer.kind, "special": names},
    }
    lines = [f"{path}: {model.architecture}, {_short(total)} parameters"]
    if model.adapter is not None:
        own = {n: p.numel() for n, p in model.body.named_parameters() if ".lora_" in n}
        values["adapter"] = {"base": str(model.adapter.base), "parameters": sum(own.values())}
        lines.append(f"adapter of {model.adapter.base}: {_short(sum(own.values()))} of them")
    lines += [f"  {name:<12} {_short(count):>10}" for name, count in parts.items()]
    special = ", ".join(names.values())
    lines += [
        f"memory of the weights: {fp32} MB in fp32, {bf16} MB in bf16",
        f"tokenizer: {tokenizer.kind}, {tokenizer.vocab_size} entries; {special}",
        f"head: {model.kind}",
        f"can: {', '.join(can)}",
    ]
    if model.labels:
        lines.append("classes: " + ", ".join(model.labels))
    if values["task"] is not None:
        lines += [f"task: {model.task_name}", *_list_values(model.task)]
    lines += ["config:", *_list_values(model.body.config)]
    if model.summary:
        lines.append("training: " + json.dumps(model.summary))
    return values, lines


def _list_values(config: Any) -> list[str]:
    return [f"  {key} = {value}" for key, value in dataclasses.asdict(config).items()]


def _abilities(model: Any) -> list[str]:
    """Say what a model is of use for as it is."""
    is_encoder = model.body.kind == "encoder"
    is_bare = is_encoder and model.kind == "body" and model.head is None
    can = []
    if model.task_name != "masked_lm":
        can.append(model.task_name)
    elif not is_bare:
        can += ["fill"] if model.body.masked_lm is not None else []
        can += ["tell pairs"] if model.head is not None else []
    can += ["embed"] if is_encoder else []
    return [*can, _TO_TUNE] if is_bare else can


def _short(count: int) -> str:
    """Write a number of parameters so that small models have some."""
    if count >= 100_000:
        return f"{count / 1e6:.2f} M"
    return f"{count / 1e3:.2f} k" if count >= 1000 else str(count)


def _megabytes(size: int) -> float:
    return round(size / 1e6, 1 if size >= 1e6 else 4)


def _run(path: Path) -> tuple[dict[str, Any], list[str]]:
    from headway.explain.curves import terminal_plot
    from headway.explain.report import write_report
    from headway.train.log import read_jsonl

    rows = read_jsonl(path / "metrics.jsonl")
    losses = [row["loss"] for row in rows if "loss" in row]
    scored = [row for row in rows if "valid" in row]
    lines = [f"{path}: {rows[-1]['step'] if rows else 0} steps"]
    if losses:
        lines += ["training loss:", terminal_plot(losses, width=60, height=10)]
    for row in scored[-5:]:
        scores = "  ".join(f"{name} {value:.3f}" for name, value in row["valid"].items())
        lines.append(f"step {row['step']}: {scores}{'  (best)' if row['is_best'] else ''}")
    report = write_report(path)
    lines.append(f"report: {report}")
    return {"run": str(path), "metrics": rows, "report": str(report)}, lines


def _recipe(options: Options) -> tuple[dict[str, Any], list[str]]:
    import torch

    from headway.explain.curves import draw_schedule, schedule_values, terminal_plot
    from headway.files.folder import make_body, read_config
    from headway.files.hub import local_folder
    from headway.layers.shapes import shapes_only
    from headway.train.freezing import freeze_by_name
    from headway.train.groups import make_groups
    from headway.train.prepare import learn_adapters, model_config, resolve
    from headway.train.schedules import spell_out

    _records.check_place(options.picture, "--picture", kinds=(".svg",))
    path = recipes.find(options.what[0])
    recipe, task = resolve(recipes.read(path, options.overrides))
    key = recipe.model.architecture
    if recipe.model.path is None:
        # Ids are the tokenizer's, which is still to be learned.
        ids = {"pad_token_id": 0, "eos_token_id": 0}
        config = model_config(recipe, vocab_size=recipe.text.vocab_size, **ids)
    else:
        key, config, _ = read_config(local_folder(recipe.model.path))
        recipe = dataclasses.replace(
            recipe, model=dataclasses.replace(recipe.model, architecture=key)
        )
    with shapes_only():
        modules = torch.nn.ModuleDict({"body": make_body(key, config, task.head)})
        # How many classes there are only the data knows.
        if (head := task.make_head(modules["body"], ("?", "?"))) is not None:
            modules["head"] = head
        if recipe.playbook.lora_rank:
            learn_adapters(modules["body"], recipe.playbook, ["pooler"] if head else [])
    width = None if recipe.model.path is None else config.hidden_size
    training = spell_out(recipe.training, width=width, lora=recipe.playbook.lora_rank > 0)
    freeze_by_name(modules, recipe.playbook.freeze)
    groups = make_groups(modules, training, recipe.playbook)
    parameters = dict(modules.named_parameters())
    # Without data the number of updates is not known; the shape of the curve is.
    total = training.steps or 10 * max(training.warmup_steps, training.cycle_steps, 100)
    rates = schedule_values(training, total, playbook=recipe.playbook, count=200)
    table = [
        {
            "group": group.name,
            "tensors": len(group.parameters),
            "parameters": sum(parameters[name].numel() for name in group.parameters),
            "peak_lr": training.rate * group.lr_ratio,
            "weight_decay": group.weight_decay,
        }
        for group in groups
    ]
    lines = [recipes.write(recipe), "every key of [model]:", *_list_values(config)]
    lines += ["every key of [task]:", *_list_values(task)]
    lines += ["", f"{'group':<36}{'tensors':>8}{'parameters':>12}{'peak lr':>10}{'decay':>8}"]
    lines += [
        f"{row['group']:<36}{row['tensors']:>8}{row['parameters']:>12,}{row['peak_lr']:>10.2g}"
        f"{row['weight_decay']:>8.2g}"
        for row in table
    ]
    known = "" if training.steps else " (the data decides how many steps; drawn for as many)"
    lines += ["", f"learning rate, {training.schedule}, {total} steps{known}:"]
    lines.append(terminal_plot(rates, width=60, height=10))
    if options.picture is not None:
        from headway.files.manifest import write_text

        write_text(options.picture, draw_schedule(training, total, recipe.playbook))
        lines.append(f"picture: {options.picture}")
    return {"recipe": recipes.write(recipe), "groups": table, "learning_rate": rates}, lines
