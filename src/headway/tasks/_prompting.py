"""Zero to many examples in a prompt: a model that goes on with text classifies and answers.

A prompt file says how a row is written and, for classes, which word stands for which label. Label
words are compared by their mean log probability a token; with calibration, by how much more
probable they are than after a text without content (Zhao et al. 2021, arXiv 2102.09690).
"""

from __future__ import annotations

import math
import random
import string
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import fmean
from typing import Any

from headway.errors import ConfigError, FileError, RequestError, nearest
from headway.tasks._model import Model
from headway.tasks._task import Record
from headway.tasks._writing import prompt_ids, score_texts

# Rows whose label words are scored together.
_ROWS_AT_ONCE = 32
# Of what a model reads, the share that a free answer has room for.
_ANSWER_SHARE = 1 / 8
_SUFFIX = ".toml"


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """How rows become a prompt.

    Args:
        templates: Ways to write a row, each with `{column}` where a column's text stands; the
            answer follows it.
        instruction: What stands before everything.
        separator: Stands between examples.
        labels: Label -> the word that stands for it. Empty: the answer is written freely.
        target: Column with the answer.
        content_free: What a text without content is, for calibration.
        stop: Texts at which a free answer ends.
    """

    templates: tuple[str, ...]
    instruction: str = ""
    separator: str = "\n\n"
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = "label"
    content_free: str = "N/A"
    stop: tuple[str, ...] = ("\n",)

    @property
    def columns(self) -> tuple[str, ...]:
        """Name the columns that the templates need."""
        return _columns_of(self.templates[0])

    def write(self, row: Record, examples: Sequence[Record], *, template: int = 0) -> str:
        """Write a prompt: the instruction, examples with their answers, and the row without."""
        pattern = self.templates[template]
        shown = [self._fill(pattern, item) + self.answer_of(item) for item in examples]
        parts = [*shown, self._fill(pattern, row)]
        return self.instruction + self.separator.join(parts)

    def answer_of(self, row: Record) -> str:
        """Write a row's answer, with the space before it."""
        given = str(row[self.target])
        return " " + self.labels.get(given, given)

    def _fill(self, pattern: str, row: Record) -> str:
        return pattern.format_map({name: str(row[name]) for name in self.columns})


def _columns_of(template: str) -> tuple[str, ...]:
    parsed = string.Formatter().parse(template)
    return tuple(dict.fromkeys(name for _, name, _, _ in parsed if name is not None))


def shipped() -> dict[str, Path]:
    """List the prompt files that come with the package: name -> file."""
    folder = Path(__file__).parents[1] / "prompts"
    return {path.stem: path for path in sorted(folder.glob(f"*{_SUFFIX}"))}


def read_prompt(name: str) -> Prompt:
    """Read a prompt file, by its path or by the name of a shipped one.

    Raises:
        FileError: if there is no such file.
        ConfigError: for broken TOML, an unknown key, or templates that cannot be filled.
    """
    path = Path(name)
    if path.suffix != _SUFFIX and name not in shipped():
        raise FileError(
            f"there is no prompt {name!r}", hint=f"{nearest(name, shipped())} Or name a .toml file"
        )
    path = shipped().get(name, path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileError(f"there is no file {path}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"the prompt cannot be read: {error}", where=str(path)) from error
    known = {item.name: item for item in fields(Prompt)}
    if unknown := [key for key in content if key not in known]:
        hint = nearest(unknown[0], known)
        raise ConfigError(f"a prompt has no {unknown[0]!r}", where=str(path), hint=hint)
    for key in ("templates", "stop"):
        if key in content:
            content[key] = tuple(content[key]) if isinstance(content[key], list) else content[key]
    problems = _problems(content)
    if problems:
        raise ConfigError("; ".join(problems), where=str(path))
    return Prompt(**content)


def _problems(content: Mapping[str, Any]) -> list[str]:
    def all_texts(values: Any) -> bool:
        return isinstance(values, tuple) and all(isinstance(value, str) for value in values)

    templates = content.get("templates", ())
    if not (templates and all_texts(templates)):
        return ["templates is not a list of texts"]
    problems = []
    for key in ("instruction", "separator", "target", "content_free"):
        if not isinstance(content.get(key, ""), str):
            problems.append(f"{key} is no text")
    if not all_texts(content.get("stop", ())) or "" in content.get("stop", ()):
        problems.append("stop is not a list of texts")
    labels = content.get("labels", {})
    if not (isinstance(labels, dict) and all(isinstance(x, str) and x for x in labels.values())):
        problems.append("labels is not a table of label = word")
    elif len(set(labels.values())) < len(labels):
        problems.append("two labels have the same word")
    try:
        columns = [set(_columns_of(template)) for template in templates]
    except ValueError as error:
        return [*problems, f"a template cannot be read: {error}"]
    if not columns[0] or any(other != columns[0] for other in columns):
        problems.append("the templates have no columns, such as {text}, or not the same ones")
    if any(not name.isidentifier() for name in columns[0]):
        problems.append("a template's columns must be plain names, such as {text}")
    return problems


def draw_examples(rows: Sequence[Record], prompt: Prompt, *, shots: int, seed: int) -> list[Record]:
    """Draw examples for a prompt; classes by turns, so that all are there as far as it goes.

    Raises:
        RequestError: if there are too few rows.
    """
    if shots > len(rows):
        raise RequestError(f"{shots} examples are asked for, but there are {len(rows)} rows")
    chance = random.Random(seed)
    order = chance.sample(range(len(rows)), len(rows))
    if prompt.labels:
        ranks: dict[str, int] = {}
        keyed = []
        for place in order:
            label = str(rows[place][prompt.target])
            ranks[label] = ranks.get(label, 0) + 1
            keyed.append((ranks[label], place))
        order = [place for _, place in sorted(keyed, key=lambda item: item[0])]
    chosen = order[:shots]
    chance.shuffle(chosen)
    return [rows[place] for place in chosen]


def ask(
    model: Model,
    prompt: Prompt,
    rows: Sequence[Record],
    examples: Sequence[Record] = (),
    *,
    template: int = 0,
    calibrate: bool = False,
) -> list[dict[str, Any]]:
    """Answer rows by a prompt with examples: by label words, or, where it has none, freely.

    Args:
        model: Goes on with text.
        prompt: How rows are written.
        rows: With its columns.
        examples: With the answer too.
        template: Which of its ways to write a row.
        calibrate: Compare label words with how probable they are after a text without content.
    Returns:
        answers: For each row "prediction", "probabilities" among the labels where there are such,
            and "cut" where not all examples had room.
    Raises:
        RequestError: if the model goes on with no text, or reads no row's prompt, even without
            examples.
    """
    if model.body.kind != "decoder":
        raise RequestError(f"this model does {model.task_name}, and goes on with no text")
    fitted = [fit_examples(model, prompt, row, examples, template=template) for row in rows]
    texts = [
        prompt.write(row, some, template=template) for row, some in zip(rows, fitted, strict=True)
    ]
    if prompt.labels:
        # A text without content is asked about beside the same examples.
        empty = dict.fromkeys(prompt.columns, prompt.content_free)
        beside = {len(some): some for some in fitted} if calibrate else {}
        plain = [prompt.write(empty, some, template=template) for some in beside.values()]
        biases = dict(zip(beside, _score_labels(model, prompt, plain), strict=True))
        answers = [
            _to_answer(scores, biases.get(len(some), {}))
            for scores, some in zip(_score_labels(model, prompt, texts), fitted, strict=True)
        ]
    else:
        options: dict[str, Any] = {"temperature": 0.0, "stop": prompt.stop}
        found = model.predict([{"text": text} for text in texts], **options)
        answers = [{"prediction": answer["prediction"].strip()} for answer in found]
    for answer, some in zip(answers, fitted, strict=True):
        if len(some) < len(examples):
            answer["cut"] = ["prompt"]
    return answers


def fit_examples(
    model: Model, prompt: Prompt, row: Record, examples: Sequence[Record], *, template: int = 0
) -> Sequence[Record]:
    """Leave examples out, the first ones first, until the model reads the prompt and its answer.

    Those next to the row stay: they weigh most (Zhao et al. 2021, section 4, recency).

    Raises:
        RequestError: if the prompt is too long without any.
    """
    longest = model.setting.max_tokens
    words = model.tokenizer.encode_ids(_words(prompt), bare=True)
    free = getattr(model.task, "max_new_tokens", 0) or int(longest * _ANSWER_SHARE)
    room = max(map(len, words), default=free)
    num_tokens = 0
    for start in range(len(examples) + 1):
        text = prompt.write(row, examples[start:], template=template)
        num_tokens = len(prompt_ids(model.tokenizer, text)) + room
        # The last token of the answer is not read.
        if num_tokens - 1 <= longest:
            return examples[start:]
    raise RequestError(
        f"with room for the answer the prompt has {num_tokens:,} tokens without any example, but "
        f"the model reads {longest:,}"
    )


def _words(prompt: Prompt) -> list[str]:
    return [f" {word}" for word in prompt.labels.values()]


@dataclass(frozen=True, kw_only=True)
class ShotScore:
    """How often answers are right with so many examples, in per cent.

    Args:
        shots: Examples in a prompt.
        accuracy: Mean over the prompts.
        lowest: Of all prompts.
        highest: Likewise.
        prompts: Templates times draws of examples.
        cut: Of all answers, those with fewer examples, for want of room.
    """

    shots: int
    accuracy: float
    lowest: float
    highest: float
    prompts: int
    cut: float


def compare_shots(
    model: Model,
    prompt: Prompt,
    rows: Sequence[Record],
    examples: Sequence[Record],
    *,
    shots: Sequence[int],
    draws: int,
    calibrate: bool = False,
) -> Iterator[ShotScore]:
    """Score numbers of examples, over every template and some draws of examples.

    Args:
        model: Goes on with text.
        prompt: How rows are written.
        rows: With their answers, to be scored on.
        examples: With their answers, to be drawn from.
        shots: Numbers of examples.
        draws: Of each number above 0.
        calibrate: As for `ask`.
    Raises:
        RequestError: before anything is asked, if there are too few examples; as `ask` does.
    """
    shown = {
        count: [
            draw_examples(examples, prompt, shots=count, seed=seed)
            for seed in range(draws if count else 1)
        ]
        for count in shots
    }
    wanted = [str(row[prompt.target]) for row in rows]
    for count in shots:
        shares, num_cut = [], 0
        for drawn in shown[count]:
            for template in range(len(prompt.templates)):
                answers = ask(model, prompt, rows, drawn, template=template, calibrate=calibrate)
                given = [answer["prediction"] for answer in answers]
                right = sum(a == b for a, b in zip(given, wanted, strict=True))
                shares.append(100 * right / len(rows))
                num_cut += sum("cut" in answer for answer in answers)
        yield ShotScore(
            shots=count,
            accuracy=round(sum(shares) / len(shares), 2),
            lowest=round(min(shares), 2),
            highest=round(max(shares), 2),
            prompts=len(shares),
            cut=round(100 * num_cut / (len(shares) * len(rows)), 2),
        )


def _to_answer(scores: Mapping[str, float], bias: Mapping[str, float]) -> dict[str, Any]:
    odds = {label: score - bias.get(label, 0.0) for label, score in scores.items()}
    highest = max(odds.values())
    shares = {label: math.exp(value - highest) for label, value in odds.items()}
    total = sum(shares.values())
    probabilities = {label: round(share / total, 6) for label, share in shares.items()}
    return {"prediction": max(odds, key=odds.__getitem__), "probabilities": probabilities}


def _score_labels(model: Model, prompt: Prompt, texts: Sequence[str]) -> Iterator[dict[str, float]]:
    """Give the mean log probability a token of every label word behind each text."""
    model.stop_training()
    words = model.tokenizer.encode_ids(_words(prompt), bare=True)
    for start in range(0, len(texts), _ROWS_AT_ONCE):
        some = [prompt_ids(model.tokenizer, text) for text in texts[start : start + _ROWS_AT_ONCE]]
        pairs = [(text, word) for text in some for word in words]
        found = iter(score_texts(model.body, pairs, model.setting))
        for _ in some:
            yield {label: fmean(next(found)) for label in prompt.labels}
