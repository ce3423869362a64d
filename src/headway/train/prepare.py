"""From a recipe to everything that training needs: records, tokenizer, model, examples, report."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from headway import registry
from headway.data.lines import STDIN, fingerprint
from headway.data.vocabularies import find_vocabulary
from headway.errors import ConfigError, FileError, nearest
from headway.files.adapter import base_of
from headway.files.carried import read_rate
from headway.files.folder import check_sizes, list_files, make_body, read_config
from headway.files.hub import PREFIX, local_folder, pinned
from headway.files.manifest import read_json
from headway.layers.dropout import Dropout
from headway.layers.lora import add_lora
from headway.layers.shapes import shapes_only
from headway.recipe import convert_settings
from headway.sections import Playbook, Recipe, dash
from headway.tasks._load import load
from headway.tasks._model import Model, make_task
from headway.tasks._task import Task
from headway.tasks._texts import OnTexts
from headway.tasks._vocabulary import add_marks, add_words, pick_words
from headway.text.specials import SPECIALS
from headway.text.tokenizer import Tokenizer
from headway.text.train import check_kind, train_tokenizer
from headway.train.groups import find_stages, own_name
from headway.train.loop import modules_of, resolve_precision
from headway.train.material import Examples, Material, find_material
from headway.train.schedules import spell_out

# What may differ from the folder that model.path names.
_CHANGEABLE = frozenset({"dropout"})


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that is ready to start.

    Args:
        recipe: As resolved: "auto" spelled out, files named in full.
        model: Fresh, or from the folder the recipe names.
        examples: What it learns from and is scored on.
        fingerprints: File -> SHA-256.
        decoding: Fields of the task that the scores while training change.
    """

    recipe: Recipe
    model: Model
    examples: Examples
    fingerprints: dict[str, str]
    decoding: dict[str, Any]


def prepare(recipe: Recipe, *, tokenizer_file: Path | None = None) -> Prepared:
    """Read the data, learn the vocabulary, build the model.

    Args:
        recipe: As read.
        tokenizer_file: The vocabulary of a run that is resumed.
    Raises:
        ConfigError, DataError, FileError: for whatever cannot work, before anything is written.
    """
    recipe, task = resolve(recipe)
    recipe = _choose_score(recipe, task)
    decoding = _decoding(recipe, task)
    if tokenizer_file is not None and STDIN in (*recipe.data.train, *recipe.data.valid):
        raise FileError("the run began with data from standard input, which is gone")
    material = find_material(recipe, task)
    model = _make_model(recipe, task, material, tokenizer_file)
    asked, longest = recipe.task.settings.get("max_tokens", 0), model.setting.max_tokens
    if asked > longest:
        model.notes += (
            f"task.max-tokens is {asked}, but the model reads {longest} at most: examples are cut "
            "there",
        )
    examples = material.encode(model)
    recipe = _resolve_words(recipe, model)
    # What a run was made from: another content makes another run.
    files = [*recipe.data.train, *recipe.data.valid]
    if recipe.model.path is not None:
        files += map(str, list_files(local_folder(recipe.model.path)))
    return Prepared(
        recipe=recipe,
        model=model,
        examples=examples,
        fingerprints=fingerprint(files),
        decoding=decoding,
    )


def change(recipe: Recipe, **sections: Mapping[str, Any]) -> Recipe:
    """Give some sections of a recipe other values."""
    return dataclasses.replace(
        recipe,
        **{n: dataclasses.replace(vars(recipe)[n], **fields) for n, fields in sections.items()},
    )


def _resolve_words(recipe: Recipe, found: Model) -> Recipe:
    """Spell "auto" out, and name files in full: a run goes on elsewhere as it began."""

    def whole(paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(path if path == STDIN else str(Path(path).absolute()) for path in paths)

    data, path = recipe.data, recipe.model.path
    path = None if path is None else pinned(path)
    width = None if path is None else found.body.config.hidden_size
    training = spell_out(recipe.training, width=width, lora=found.adapter is not None)
    precision = resolve_precision(training.precision, torch.device("cpu"))
    return change(
        recipe,
        data={"train": whole(data.train), "valid": whole(data.valid)},
        model={"path": path, "architecture": found.architecture},
        training={"peak_lr": training.peak_lr, "precision": precision},
    )


def resolve_task(recipe: Recipe) -> Task:
    """Build the recipe's task."""
    return make_task(recipe.task.name, recipe.task.settings, where="the recipe")


def resolve(recipe: Recipe) -> tuple[Recipe, Task]:
    """Find what is impossible before any data is read, and build the task.

    Returns:
        recipe, task: The settings of model and task have their types; flags bring them as words.
    """
    task = resolve_task(recipe)
    _check_model_section(recipe)
    if (recipe.model.path or "").startswith(PREFIX):
        # From here on one commit: a name may mean another one a moment later.
        recipe = change(recipe, model={"path": pinned(recipe.model.path or "")})
    for name, kind in (("model", _config_class(recipe.model.architecture)), ("task", type(task))):
        settings = convert_settings(name, vars(recipe)[name].settings, kind, where="the recipe")
        recipe = change(recipe, **{name: {"settings": settings}})
    recipe = _take_dropout(recipe, task)
    return recipe, resolve_task(recipe)


def _config_class(architecture: str) -> Any:
    module = registry.load_module("models", architecture)
    return vars(module)[registry.class_name(architecture) + "Config"]


def _take_dropout(recipe: Recipe, task: Task) -> Recipe:
    """Let the head drop out as model.path says, unless the recipe does."""
    path = local_folder(recipe.model.path or "") / "config.json"
    if recipe.model.path is None or not path.is_file() or not hasattr(task, "dropout"):
        return recipe
    layout = read_config(path.parent)[2]
    key = layout.heads[task.head].dropout if task.head in layout.heads else ""
    rate = read_rate(read_json(path), key)
    if rate is None or "dropout" in recipe.task.settings:
        return recipe
    return change(recipe, task={"settings": {**recipe.task.settings, "dropout": rate}})


def model_config(recipe: Recipe, **filled: Any) -> Any:
    """Build the config of a fresh body: defaults < preset < recipe.

    Args:
        recipe: Names architecture, preset and settings.
        filled: Values that come from elsewhere, such as the tokenizer's size.
    Raises:
        ConfigError: for an unknown architecture, preset or setting, or sizes that do not fit.
    """
    section = recipe.model
    module = registry.load_module("models", section.architecture)
    config_class = _config_class(section.architecture)
    values: dict[str, Any] = {}
    if section.preset is not None:
        if section.preset not in module.PRESETS:
            raise ConfigError(
                f"{section.architecture} has no preset {section.preset!r}",
                hint=nearest(section.preset, module.PRESETS, count=2),
            )
        values |= module.PRESETS[section.preset]
    if given := sorted(section.settings.keys() & filled.keys()):
        raise ConfigError(
            f"model.{' and model.'.join(given)} cannot be chosen: the tokenizer decides",
            hint="leave it out; the size of the vocabulary is text.vocab-size",
        )
    values |= convert_settings("model", section.settings, config_class, where="the recipe")
    known = {item.name for item in dataclasses.fields(config_class)}
    config = config_class(**values | {k: v for k, v in filled.items() if k in known})
    if problems := check_sizes(config) + config.check():
        raise ConfigError("model: " + "; ".join(problems))
    return config


def _check_model_section(recipe: Recipe) -> None:
    if recipe.model.path is None:
        check_kind(recipe.text.tokenizer)
        model_config(recipe)
        for name in ("reinit_layers", "lora_rank"):
            if getattr(recipe.playbook, name):
                raise ConfigError(f"playbook.{dash(name)} needs model.path: without it all is new")
        if recipe.text.add_words:
            raise ConfigError(
                "text.add-words adds to the vocabulary of model.path, but there is none",
                hint="a fresh vocabulary is learned from your text: raise text.vocab-size",
            )
    elif recipe.playbook.lora_rank and recipe.text.add_words:
        raise ConfigError(
            "playbook.lora-rank leaves embeddings alone, but text.add-words adds some"
        )
    elif set(recipe.model.settings) - _CHANGEABLE or recipe.model.preset:
        names = ", ".join(sorted(set(recipe.model.settings) - _CHANGEABLE)) or "preset"
        raise ConfigError(
            f"model.path brings its own sizes, but the recipe also sets {names}",
            hint="leave one of the two out",
        )
    elif not local_folder(recipe.model.path).is_dir():
        raise FileError(
            f"model.path is {recipe.model.path!r}, but there is no such folder",
            hint="name the folder of a model with --model.path",
        )


def _choose_score(recipe: Recipe, task: Task) -> Recipe:
    """Spell out which score chooses the best model."""
    wanted, known = recipe.playbook.choose_by, ("loss", *task.metrics)
    if wanted == "auto":
        wanted = task.metrics[0]
    elif wanted not in known:
        raise ConfigError(f"playbook.choose-by is {wanted!r}", hint=nearest(wanted, known))
    return change(recipe, playbook={"choose_by": wanted})


def _decoding(recipe: Recipe, task: Task) -> dict[str, Any]:
    """Settle how predictions are made that are scored while training."""
    known = {item.name for item in dataclasses.fields(task)}  # pyright: ignore
    wanted = {"num_beams": recipe.playbook.valid_beams, "num_best": 1}
    settings = {name: value for name, value in wanted.items() if name in known}
    if problems := dataclasses.replace(task, **settings).check():  # pyright: ignore
        raise ConfigError("playbook.valid-beams cannot be used: " + "; ".join(problems))
    return settings


def _make_model(
    recipe: Recipe, task: Task, material: Material, tokenizer_file: Path | None
) -> Model:
    section, name = recipe.model, recipe.task.name
    torch.manual_seed(recipe.training.seed)
    if section.path is not None:
        model = load(section.path, task=task, task_name=name, labels=material.labels)
        if "dropout" in section.settings:
            _change_dropout(model, section.settings["dropout"])
        if recipe.playbook.reinit_layers:
            _draw_anew(model, recipe.playbook.reinit_layers)
        if recipe.text.add_words:
            if tokenizer_file is None:
                words = pick_words(material.texts(), model.tokenizer, recipe.text.add_words)
            else:
                words = Tokenizer.from_file(tokenizer_file).words_beyond(model.tokenizer)
            add_words(model, words)
        if recipe.playbook.lora_rank:
            _add_adapter(model, recipe)
        elif isinstance(task, OnTexts) and model.adapter is None:
            add_marks(model)
        return model
    if tokenizer_file is not None:
        tokenizer = Tokenizer.from_file(tokenizer_file)
    else:
        tokenizer = _find_tokenizer(recipe, task, material)
    config = model_config(
        recipe,
        vocab_size=tokenizer.vocab_size,
        pad_token_id=tokenizer.pad_id,
        eos_token_id=tokenizer.end_id,
    )
    with shapes_only():
        _check_memory(make_body(section.architecture, config, task.head))
    torch.manual_seed(recipe.training.seed)
    body = make_body(section.architecture, config, task.head)
    notes, found, wanted = (), tokenizer.vocab_size, recipe.text.vocab_size
    if found < wanted:
        notes = (f"the text gave {found:,} of the {wanted:,} entries asked for",)
    # What came from the tokenizer is not asked for again: a resumed run reads it there.
    model = Model(
        body,
        tokenizer,
        task,
        task_name=name,
        architecture=section.architecture,
        head=task.make_head(body, material.labels),
        labels=material.labels,
        notes=notes,
    )
    if isinstance(task, OnTexts):
        add_marks(model)
    return model


def _find_tokenizer(recipe: Recipe, task: Task, material: Material) -> Tokenizer:
    """Learn a vocabulary from the training data, or take the one that was learned from them."""
    text, data = recipe.text, recipe.data
    specials = SPECIALS[registry.load_module("models", recipe.model.architecture).SPECIALS]
    # All tasks read the lines of a corpus alike; what they take from records is their own.
    reading: Any = "corpus"
    if not task.reads_corpus:
        reading = [recipe.task.name, repr(task), data.columns, data.skip_bad]
    return find_vocabulary(
        data.train,
        [dataclasses.asdict(text), dataclasses.asdict(specials), data.max_rows, reading],
        lambda: train_tokenizer(
            text.tokenizer,
            material.texts(),
            vocab_size=text.vocab_size,
            lowercase=text.lowercase,
            specials=specials,
        ),
    )


def _change_dropout(model: Model, rate: float) -> None:
    """Let a body drop out at another rate than it was saved with."""
    model.body.config = dataclasses.replace(model.body.config, dropout=rate)
    if problems := model.body.config.check():
        raise ConfigError("model: " + "; ".join(problems))
    for layer in model.body.modules():
        if isinstance(layer, Dropout):
            layer.rate = rate


def _add_adapter(model: Model, recipe: Recipe) -> None:
    """Let low-rank adapters learn, and the head with its pooler; nothing else."""
    if model.adapter is not None:
        raise ConfigError(
            f"{recipe.model.path} is an adapter already, which playbook.lora-rank would add to",
            hint="leave lora-rank out to go on with it, or merge it first: headway merge",
        )
    # What the folder lacked learns whole, and the pooler, which belongs to the head.
    parts = (*model.fresh, *(["pooler"] if model.head is not None else []))
    learn_adapters(model.body, recipe.playbook, parts)
    if model.body.kind == "decoder" and "text_pair" in model.task.optional:
        model.notes += (
            "adapters learn no new tokens: the texts of a pair stand together with nothing between",
        )
    model.adapter = base_of(local_folder(recipe.model.path or "").absolute())


def learn_adapters(body: nn.Module, playbook: Playbook, parts: Sequence[str]) -> None:
    """Put low-rank adapters into a body; nothing else of it learns, but for some parts.

    Args:
        body: Any.
        playbook: Says which layers, and how large.
        parts: Of the body, which learn whole.
    Raises:
        ConfigError: if no layer is called so.
    """
    names = add_lora(
        body, playbook.lora_targets, rank=playbook.lora_rank, alpha=playbook.lora_alpha
    )
    if not names:
        leaves = {n.rpartition(".")[2] for n, m in body.named_modules() if isinstance(m, nn.Linear)}
        raise ConfigError(
            f"playbook.lora-targets: no layer is called {' or '.join(playbook.lora_targets)}",
            hint=f"there are {', '.join(sorted(leaves))}",
        )
    for name, parameter in body.named_parameters():
        if name.startswith(tuple(f"{part}." for part in parts)):
            parameter.requires_grad_(True)


def _draw_anew(model: Model, count: int) -> None:
    """Forget what the uppermost layers learned, and the pooler (Zhang et al. 2021, 2006.05987)."""
    body = model.body
    layers = find_stages(modules_of(model))[1:-1]
    if body.kind != "encoder":
        raise ConfigError(f"playbook.reinit-layers is for encoders, not for {model.architecture}")
    if count > len(layers):
        raise ConfigError(
            f"playbook.reinit-layers is {count}, but the model has {len(layers)} layers with "
            "weights of their own"
        )
    names = {own_name(name) for stage in layers[len(layers) - count :] for name in stage.parameters}
    fresh = dict(make_body(model.architecture, body.config, model.task.head).named_parameters())
    with torch.no_grad():
        for name, value in body.named_parameters():
            if name in names or name.startswith("pooler."):
                value.copy_(fresh[name])


def _check_memory(body: torch.nn.Module) -> None:
    """Refuse a model that this machine could not train, before memory is taken."""
    count = sum(parameter.numel() for parameter in body.parameters())
    # Weights, gradients and Adam's two moments, four bytes each.
    needed, room = 16 * count, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > room:
        raise ConfigError(
            f"the model has {count / 1e6:,.0f} M parameters, which need {needed / 1e9:,.0f} GB to "
            f"be trained, but this machine has {room / 1e9:,.0f} GB",
            hint="choose smaller sizes in [model]",
        )
