"""Talk to a model: a conversation in the terminal, answers as they are written.

headway chat run/model
headway chat run/model --system "You answer briefly." --temperature 0.5
echo "Where is Paris?" | headway chat run/model

/reset begins anew, /save FILE writes the conversation as a record that can be learned from, and
/quit or the end of the input ends it. Ctrl-C ends an answer that is being written, or the program.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from headway.cli import _records
from headway.errors import RequestError


@dataclass(frozen=True)
class Options:
    """Options of `headway chat`."""

    model: tyro.conf.Positional[Path]
    """Model folder, trained with the task chat."""
    system: str = ""
    """What stands before the conversation, and stays when its oldest words are left out."""
    max_new_tokens: int | None = None
    """Tokens of an answer, at most; none takes the model's own."""
    temperature: float | None = None
    """0 takes the most probable token; none takes the model's own."""
    seed: int = 0
    """What is drawn depends on it, and on the number of the turn."""
    precision: str = "auto"
    """fp32, bf16, int8, or auto: bf16 where the hardware multiplies it."""


def run(options: Options) -> None:
    """Read, answer, remember."""
    model = _records.open_model(options.model, precision=options.precision, packed=True)
    settings = _records.given(options, "max_new_tokens", "temperature")
    first = [{"role": "system", "content": options.system}] if options.system.strip() else []
    messages: list[dict[str, str]] = [*first]
    # Said at once, not at the first answer.
    model.reply([*messages, {"role": "user", "content": "?"}], **settings)
    if sys.stdin.isatty():
        # Lets `input` edit lines and recall them.
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401
    was_cut = False
    while (line := _ask()) is not None:
        word, _, rest = line.partition(" ")
        if word == "/quit":
            break
        if word == "/reset":
            messages, was_cut = [*first], False
        elif word == "/save":
            _save(rest.strip(), messages[len(first) :] and messages)
        elif word.startswith("/"):
            sys.stderr.write(f"there is no {word}; there are /reset, /save FILE and /quit\n")
        elif line:
            said = [*messages, {"role": "user", "content": line}]
            settings["sampling_seed"] = options.seed + len(said) // 2
            stream = model.reply(said, **settings)
            if stream.is_cut and not was_cut:
                was_cut = True
                sys.stderr.write(
                    "note: the conversation is longer than the model reads beside an answer: its "
                    "oldest words are left out\n"
                )
            messages = [*said, {"role": "assistant", "content": _answer(stream) or "..."}]


def _ask() -> str | None:
    """Read what the user says; None at the end."""
    is_terminal = sys.stdin.isatty()
    try:
        return input("> " if is_terminal else "").strip()
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise RequestError(f"the line is not UTF-8: byte 0x{byte:02x}") from error
    except EOFError:
        if is_terminal:
            sys.stdout.write("\n")
        return None


def _answer(pieces: Any) -> str:
    """Write an answer as it comes; Ctrl-C ends it, and what was said until then stays."""
    answer = ""
    with contextlib.suppress(KeyboardInterrupt):
        for piece in pieces:
            # What begins with a space begins a line here.
            shown = piece if answer else piece.lstrip()
            answer += shown
            sys.stdout.write(shown)
            sys.stdout.flush()
    sys.stdout.write("\n")
    return answer.strip()


def _save(path: str, messages: list[dict[str, str]]) -> None:
    """Add the conversation to a JSONL file, or say why not."""
    import json

    if not path or not messages:
        problem = "nothing was said yet" if path else "name a file: /save talk.jsonl"
        sys.stderr.write(f"{problem}\n")
        return
    try:
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
        sys.stderr.write(f"saved to {path}\n")
    except OSError as error:
        sys.stderr.write(f"{path} cannot be written: {error}\n")
