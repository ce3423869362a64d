"""Docstrings say `name: (letters) dtype`; every such line is held against what really passes.

A profiler watches the calls of `layers`, `models` and `decode` while every architecture reads,
writes, searches and learns; within one call a letter must have one value.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import headway
from bodies import CASES, batch_of, examples, logits_of, make
from headway.data.batch import Batch, pad_rows
from headway.decode.beam import BeamOptions, beam_search
from headway.decode.sample import SampleOptions, Sampler
from headway.layers import dropout, heads, pooling, positions
from headway.layers.losses import IGNORE, linear_cross_entropy, pair_log_probs
from headway.layers.packed import pack
from headway.layers.side import Memory, Side
from headway.tasks._texts import mean_of_groups

PACKAGES = ("layers", "models", "decode", "data")
LINE = re.compile(
    r"^ *(?P<names>\w+(?:, \w+)*): \((?P<axes>[^)a-z]*)\)"
    r"(?: (?P<dtype>float32|float|int64 or float|bool or float|int64|bool))?\b(?P<rest>.*)"
)
# "Map (B, T, D) float to (B, T, D) float."
MAP = re.compile(r"^Map \((?P<first>[^)a-z.]*)\) \w+ to \((?P<second>[^)a-z.]*)\) \w+")


@dataclass(frozen=True)
class Claim:
    """One line: which axes, which type, and whether an axis may be 1 instead."""

    name: str
    axes: tuple[str, ...]
    dtype: str | None
    may_be_one: bool


@dataclass(frozen=True)
class Claims:
    """What a docstring says of arguments and of results."""

    arguments: dict[str, Claim]
    results: list[Claim]


def parse(doc: str | None) -> Claims:
    """Read the lines of a docstring."""
    arguments: dict[str, Claim] = {}
    results: list[Claim] = []
    section = ""
    for line in (doc or "").splitlines():
        if re.fullmatch(r"\w+:", line):
            section = line
        elif (found := LINE.match(line)) and section in ("Args:", "Returns:"):
            axes = tuple(axis.strip() for axis in found["axes"].split(",") if axis.strip())
            for name in found["names"].split(", "):
                claim = Claim(name, axes, found["dtype"], "axis may be 1" in found["rest"].lower())
                if section == "Args:":
                    arguments[name] = claim
                else:
                    results.append(claim)
        elif found := MAP.match(line):
            first, second = (tuple(found[key].split(", ")) for key in ("first", "second"))
            arguments["hidden"] = Claim("hidden", first, "float", False)
            results.append(Claim("result", second, "float", False))
    return Claims(arguments, results)


def all_claims() -> tuple[dict[Any, tuple[str, Claims]], dict[type, Claims]]:
    """Collect claims: code object -> (name, claims), and dataclass -> claims."""
    functions: dict[Any, tuple[str, Claims]] = {}
    values: dict[type, Claims] = {}

    def take(name: str, function: Any, doc: str | None) -> None:
        claims = parse(doc)
        code = getattr(inspect.unwrap(function), "__code__", None)
        if code is not None and (claims.arguments or claims.results):
            functions[code] = (name, claims)

    for package in PACKAGES:
        path = [f"{headway.__path__[0]}/{package}"]
        for info in pkgutil.iter_modules(path, f"headway.{package}."):
            module = importlib.import_module(info.name)
            for key, item in vars(module).items():
                if getattr(item, "__module__", "") != info.name:
                    continue
                if inspect.isfunction(item):
                    take(f"{info.name}.{key}", item, inspect.getdoc(item))
                elif inspect.isclass(item):
                    if dataclasses.is_dataclass(item):
                        values[item] = parse(inspect.getdoc(item))
                    for name, method in vars(item).items():
                        inner = getattr(method, "__func__", method)
                        if inspect.isfunction(inner):
                            # Modules that are one function are described once, at the top.
                            own = inner.__doc__ and inspect.cleandoc(inner.__doc__)
                            doc = own or (inspect.getdoc(item) if name == "forward" else None)
                            take(f"{info.name}.{key}.{name}", inner, doc)
    return functions, values


FUNCTIONS, VALUES = all_claims()


class Watcher:
    """Checks calls while it is switched on."""

    def __init__(self) -> None:
        self.problems: set[str] = set()
        self.seen: set[tuple[str, str]] = set()
        self._letters: dict[int, dict[str, int]] = {}

    def __call__(self, frame: Any, event: str, result: Any) -> None:
        known = FUNCTIONS.get(frame.f_code)
        if known is None or event not in ("call", "return"):
            return
        name, claims = known
        if event == "call":
            letters = self._letters[id(frame)] = {}
            for claim in claims.arguments.values():
                self.check(name, claim, frame.f_locals.get(claim.name), letters)
        elif result is not None:
            letters = self._letters.pop(id(frame), {})
            found = result if isinstance(result, tuple) and len(claims.results) > 1 else (result,)
            for claim, value in zip(claims.results, found, strict=False):
                self.check(name, claim, value, letters)

    def check(self, where: str, claim: Claim, value: Any, letters: dict[str, int]) -> None:
        """Hold one value against its line."""
        if type(value) in VALUES:
            own = type(value).__name__
            inner: dict[str, int] = {}
            for item in VALUES[type(value)].arguments.values():
                self.check(own, item, getattr(value, item.name), inner)
        if isinstance(value, Side):
            value = value.documents
        elif isinstance(value, Memory):
            value = value.hidden
        elif isinstance(value, tuple) and value and isinstance(value[0], Tensor):
            value = value[0]
        if not isinstance(value, Tensor):
            return
        self.seen.add((where, claim.name))
        says = f"{where}: {claim.name} is said to be ({', '.join(claim.axes)}) {claim.dtype}"
        if len(value.shape) != len(claim.axes):
            self.problems.add(f"{says}, but is {tuple(value.shape)}")
            return
        for axis, size in zip(claim.axes, value.shape, strict=True):
            if claim.may_be_one and size == 1:
                continue
            if not _fits(axis, size, letters):
                self.problems.add(f"{says}, but is {tuple(value.shape)} where {letters}")
        fits = {
            "float": value.is_floating_point(),
            "int64 or float": True,
            "bool or float": value.is_floating_point() or value.dtype == torch.bool,
            "float32": value.dtype == torch.float32,
            "int64": value.dtype == torch.int64,
            "bool": value.dtype == torch.bool,
        }
        if claim.dtype is not None and not fits[claim.dtype]:
            self.problems.add(f"{says}, but is {value.dtype}")


def _fits(axis: str, size: int, letters: dict[str, int]) -> bool:
    """Compare an axis such as "T", "1" or "3D" with a size; a new letter takes it."""
    if axis.isdigit():
        return size == int(axis)
    found = re.fullmatch(r"(\d*)([A-Z])(?: \+ (\d+))?", axis)
    assert found, f"cannot read the axis {axis!r}"
    factor, more = int(found[1] or 1), int(found[3] or 0)
    if (size - more) % factor:
        return False
    return letters.setdefault(found[2], (size - more) // factor) == (size - more) // factor


def exercise(key: str, config: Any) -> None:
    """Read, write, search and learn, padded and packed."""
    body, rows = make(key, config), examples(config)
    padded = batch_of(config, pad_rows(rows))
    packed = batch_of(config, [rows[:3], rows[3:4], rows[4:]])
    logits_of(body, packed)
    if body.kind == "encoder":
        memory = body.encode(packed.source)
        body.pooler(memory.hidden, memory.documents)
        logits_of(pack(body), padded)
        return
    if body.kind == "decoder":
        for model in (body, pack(make(key, config))):
            continue_texts(model, [example.input_ids for example in rows])
        return
    hidden = body.decode(padded.target, body.encode(padded.source)).flatten(0, 1)
    labels = padded.labels.flatten()
    real = labels != IGNORE
    linear_cross_entropy(hidden[real], body.output.weight, body.output.bias, labels[real])
    for model in (body, pack(make(key, config))):
        with torch.inference_mode():
            memory = model.encode(padded.source)
            options = BeamOptions(num_beams=3, max_steps=9, num_best=2)
            beam_search(
                model,
                memory,
                options,
                start_id=config.pad_token_id,
                end_id=config.eos_token_id,
                observer=lambda step: None,
            )


def continue_texts(body: Any, prompts: list[list[int]]) -> None:
    """Search for continuations, and draw some."""
    with torch.inference_mode():
        options = BeamOptions(num_beams=3, max_steps=5)
        before = Side.padded([prompt[:-1] for prompt in prompts])
        newest = torch.tensor([prompt[-1] for prompt in prompts])
        beam_search(body, before, options, start_id=newest, end_id=1)
    options = SampleOptions(top_k=5, top_p=0.9, min_p=0.1, repetition_penalty=1.2)
    seeds = range(len(prompts))
    sampler = Sampler(body, prompts, options, seeds=seeds, max_steps=4)
    sampler.step()
    sampler.stop(0)
    sampler.step()


def watched(call: Callable[[], None]) -> Watcher:
    """Run something under a watcher."""
    watcher, before = Watcher(), sys.getprofile()
    sys.setprofile(watcher)
    try:
        call()
    finally:
        sys.setprofile(before)
    return watcher


@pytest.mark.parametrize(("key", "config"), CASES)
def test_what_passes_has_the_documented_shape(key, config):
    watcher = watched(lambda: exercise(key, config))
    assert sorted(watcher.problems) == []


def pool_documents() -> None:
    """Pool packed and padded rows in every way there is."""
    documents = torch.tensor([[1, 1, 2, 2, 0], [1, 1, 1, 1, 1]])
    memory = Memory(hidden=torch.randn(2, 5, 4), documents=documents, lengths=torch.tensor([4, 5]))
    for pooler in (pooling.AttentionPooler(4, is_trained=True), pooling.mean_pool):
        assert pooler(None, memory).shape == (3, 4)
    pooling.FirstTokenPooler(4)(memory.hidden, documents)


def mark_spans() -> None:
    """Score documents by their marked spans, and pairs of start and end."""
    documents = torch.tensor([[1, 1, 2, 2, 0], [1, 1, 1, 1, 1]])
    memory = Memory(hidden=torch.randn(2, 5, 4), documents=documents, lengths=torch.tensor([4, 5]))
    marks = torch.tensor([[1, 2, 0, 3, 0], [0, 1, 2, 2, 0]])
    assert heads.SpanHead(4, 3, num_spans=2, dropout=0.0)(memory, marks).shape == (3, 3)
    firsts, places = torch.tensor([0, 0]), torch.tensor([[1, 2], [3, 3]])
    pair_log_probs(torch.randn(2, 5, 2), firsts, places, 3)
    batch = Batch(source=Side.padded([[1], [2], [3]]), groups=torch.tensor([0, 0, 1]))
    assert mean_of_groups(torch.randn(3, 4), batch).shape == (2, 4)


def test_marked_spans_have_the_documented_shape():
    assert sorted(watched(mark_spans).problems) == []


def test_pooled_documents_have_the_documented_shape():
    assert sorted(watched(pool_documents).problems) == []


def test_nearly_every_line_is_held_against_something():
    seen: set[tuple[str, str]] = set()
    for case in CASES:
        seen |= watched(lambda case=case: exercise(*case.values)).seen
    seen |= watched(lambda: positions.sinusoid(5, 4)).seen
    seen |= watched(lambda: dropout.Dropout(0.5).train()(torch.ones(2, 3, 4))).seen
    seen |= watched(pool_documents).seen
    seen |= watched(mark_spans).seen
    said = {
        (name, claim.name)
        for name, claims in FUNCTIONS.values()
        for claim in (*claims.arguments.values(), *claims.results)
    }
    assert len(said) > 120
    silent = sorted(said - seen)
    assert len(silent) < 0.15 * len(said), silent


@pytest.mark.parametrize(
    ("doc", "value"),
    [
        ("x: (B, T) float.", torch.zeros(2, 3, 4)),
        ("x: (B, B) float.", torch.zeros(2, 3)),
        ("x: (B, 1) float.", torch.zeros(2, 3)),
        ("x: (B, 2T) float.", torch.zeros(2, 3)),
        ("x: (B, T) int64.", torch.zeros(2, 3)),
        ("x: (B, T) bool.", torch.zeros(2, 3)),
    ],
)
def test_a_wrong_line_is_found(doc, value):
    watcher = Watcher()
    (claim,) = parse(f"Args:\n    {doc}").arguments.values()
    watcher.check("here", claim, value, {})
    assert watcher.problems
