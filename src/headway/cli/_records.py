"""Records for a model from files or standard input, and results back to standard output."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.data.lines import STDIN, find_damage, label_file, read_lines
from headway.data.read import Flags, Records, read_records
from headway.errors import ConfigError, DataError, FileError, HeadwayError, RequestError

if TYPE_CHECKING:
    from headway.tasks._task import Progress
    from headway.text.tokenizer import Tokenizer

# Rows answered between two times of writing: enough to lay rows of like length together.
_ROWS_AT_ONCE = 512

# Hints name the flags of a verb, not those of a recipe.
FLAGS = Flags(skip_bad="--skip-bad", columns="--columns")


def read(files: Sequence[str], options: Any, *, columns: Sequence[str], **how: Any) -> Records:
    """Read records as --columns and --skip-bad of a verb ask for.

    Args:
        files: With the records.
        options: Of the verb.
        columns: What a record must have.
        how: As `read_records` takes it.
    """
    names, skip_bad = options.columns, options.skip_bad
    return read_records(files, columns=columns, names=names, skip_bad=skip_bad, flags=FLAGS, **how)


def given(options: Any, *names: str) -> dict[str, Any]:
    """Give the options that were set, of those that are None otherwise.

    Raises:
        ConfigError: for no tokens, which in a recipe means as many as usual.
    """
    found = {name: vars(options)[name] for name in names}
    if found.get("max_new_tokens") == 0:
        raise ConfigError("--max-new-tokens is 0, but at least 1 is needed")
    return {name: value for name, value in found.items() if value is not None}


def flag_of(name: str) -> str:
    """Write the flag that sets an option."""
    return f"--{name.replace('_', '-')}"


def check_place(path: Path | None, flag: str, *, kinds: Sequence[str] = ()) -> None:
    """Refuse a place for results before they are computed.

    Args:
        path: What the flag was given.
        flag: Its name.
        kinds: Suffixes that can be written; none: any.
    """
    if path is None:
        return
    if kinds and path.suffix.lower() not in kinds:
        raise FileError(f"{flag} {path} is no {' or '.join(kinds)} file")
    if not path.absolute().parent.is_dir():
        raise FileError(f"there is no folder {path.parent} for {flag}")
    if path.is_dir():
        raise FileError(
            f"{path} cannot be written: it is a folder", hint=f"give {flag} a file name"
        )


@dataclass(frozen=True)
class Texts:
    """Texts of a command line, where they stood, and the errors of those that cannot be used."""

    texts: list[str]
    places: list[str]
    skip_bad: bool
    bad: dict[int, HeadwayError] = field(default_factory=dict)

    @property
    def usable(self) -> dict[int, str]:
        """Give the texts that nothing is known against, by their number."""
        return {n: text for n, text in enumerate(self.texts) if n not in self.bad}

    def check(self, use: Callable[[str], Any]) -> None:
        """Find the texts that `use` refuses; raise the first error, unless they are to be skipped.

        Raises:
            HeadwayError: with the text's line, where it has one.
        """
        for number, text in self.usable.items():
            try:
                use(text)
            except HeadwayError as error:
                error.where = self.places[number]
                self.bad[number] = error
        if self.bad and not self.skip_bad:
            first = self.bad[min(self.bad)]
            if first.where:
                first.hint = "; ".join(filter(None, (first.hint, "--skip-bad leaves such out")))
            raise first

    def answer_all(
        self, answers: Iterable[Any], show: Callable[[Any], None], *, as_json: bool
    ) -> None:
        """Show the answers of the usable texts in order, and errors in the places of the others."""
        found = iter(answers)
        for number in range(len(self.texts)):
            if error := self.bad.get(number):
                problem = ": ".join(filter(None, (error.where, error.message)))
                write({"error": problem}, f"error: {problem}", as_json=as_json)
            else:
                show(next(found))
        if self.bad:
            sys.stderr.write(f"headway: {len(self.bad)} texts could not be used\n")


def read_texts(
    texts: Sequence[str],
    verb: str,
    *,
    skip_bad: bool = False,
    hint: str = "give a text or lines on stdin",
) -> Texts:
    """Give the texts of a command line; none, or "-", reads lines from standard input.

    Raises:
        RequestError: if there is none at all, to `verb`.
    """
    found, places = list(texts), [""] * len(texts)
    if found in ([], [STDIN]):
        found = list(read_lines(STDIN))
        places = [f"{label_file(STDIN)}, line {number}" for number in range(1, len(found) + 1)]
    if not found:
        raise RequestError(f"there is nothing to {verb}", hint=hint)
    given_texts = Texts(found, places, skip_bad)
    if any(places):
        given_texts.check(refuse_damage)
    return given_texts


def refuse_damage(text: str) -> None:
    """Raise a DataError for a text that is not UTF-8."""
    if damage := find_damage(text):
        raise DataError(f"the text is {damage}", hint="Convert the file to UTF-8")


def open_model(path: Path, *, precision: str = "fp32", packed: bool = False):
    """Load a model, and say on standard error what a user should know of how that went.

    Args:
        path: Its folder.
        precision: As `Model.to_precision` takes it.
        packed: Likewise.
    """
    from headway.tasks._load import load

    model = load(path)
    model = model.to_precision(precision, packed=packed)
    for note in model.notes:
        sys.stderr.write(f"warning: {note}\n")
    return model


def answer_parts(
    verb: str,
    records: Records,
    answer: Callable[[dict[int, Any], Callable[[Progress], None]], Iterable[Any]],
    show: Callable[[Any], None],
) -> None:
    """Answer records part by part, and show each part as it comes.

    Args:
        verb: Stands before the bar.
        records: In the place of the answer to one that cannot be used comes its error.
        answer: Takes rows by their number, and what is to be told how far it is.
        show: Writes one answer.
    """
    rows, problems = iter(records.rows), {row.index: row for row in records.bad}
    total = len(records) + len(problems)
    for start in range(0, total, _ROWS_AT_ONCE):
        part = range(start, min(start + _ROWS_AT_ONCE, total))
        asked = {index: next(rows) for index in part if index not in problems}
        with progress_bar(verb, total, done=start) as progress:
            answers = iter(answer(asked, progress))
        for index in part:
            bad = problems.get(index)
            show({"error": f"{bad.where}: {bad.problem}"} if bad else next(answers))
        sys.stdout.flush()


def write(value: Any, text: str = "", *, as_json: bool = True) -> None:
    """Print a value as JSON on a line of its own, or the text that says the same."""
    line = json.dumps(value, ensure_ascii=False) if as_json else text
    sys.stdout.write(line + "\n")


def warn_of_cuts(answers: Sequence[Mapping[str, Any]], total: int, *, num_bad: int = 0) -> None:
    """Say on standard error how much was cut, and what could not be used: never silently.

    Args:
        answers: Those that were cut are enough.
        total: How many there were.
        num_bad: Rows that could not be used.
    """
    for what, reason in _CUTS.items():
        if count := sum(what in answer.get("cut", ()) for answer in answers):
            sys.stderr.write(f"warning: {count:,} of {total:,} {what}s cut: {reason}\n")
    if num_bad:
        sys.stderr.write(f"headway: {num_bad} rows could not be used\n")


class UnknownTexts:
    """Counts texts of which a vocabulary knows less than half, as of a script it never saw.

    Args:
        tokenizer: Of the model that is asked.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.count = tokenizer, 0

    def add(self, values: Iterable[Any]) -> None:
        """Look at some more texts, or lists of words."""
        words = (value if isinstance(value, list) else [value] for value in values)
        texts = [" ".join(filter(lambda word: isinstance(word, str), some)) for some in words]
        unknown = self.tokenizer.unknown_id
        for ids in self.tokenizer.encode_ids(texts, bare=True, special=True):
            self.count += unknown is not None and 2 * ids.count(unknown) > len(ids)

    def warn(self) -> None:
        """Say on standard error how many there were."""
        if self.count:
            sys.stderr.write(
                f"warning: {self.count:,} texts are mostly unknown to the vocabulary of this "
                "model: what it says of them means nothing\n"
            )


_CUTS = {
    "source": "longer than the model reads, or than the task's longest example",
    "question": "longer than half of a window",
    "conversation": "longer than the model reads beside an answer, so the oldest words went",
    "prompt": "the model reads no more, so examples went, the first ones first",
    "prediction": "as long as they may become (task.max-target-tokens, max-length-ratio)",
}


@contextlib.contextmanager
def progress_bar(verb: str, total: int, *, done: int = 0) -> Iterator[Callable[[Progress], None]]:
    """Draw a bar on a terminal; elsewhere do nothing.

    Args:
        verb: Stands before it.
        total: Rows of all parts.
        done: Rows of the parts before this one.
    """
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True, markup=False, emoji=False)
    with Bar(console=console, disable=not console.is_terminal, transient=True) as bar:
        row = bar.add_task(verb, total=total, completed=done)
        yield lambda state: bar.update(row, completed=done + state.done)
