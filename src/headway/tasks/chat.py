"""Conversation: answer what was said, turn by turn.

A model that goes on with text learns to answer: it reads whole conversations, and learns only what
the assistant says in them.

Needs: `messages`, a list of {"role", "content"}: an optional "system" first, then "user" and
    "assistant" by turns.
Compare: to learn running text, use causal language modeling.

Example:
    >>> task = Chat()
    >>> task.check_request({"messages": [{"role": "assistant", "content": "Hello."}]})
    "message 1 is by 'assistant', but it is the turn of 'user'"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import numpy as np

from headway.data.batch import Example
from headway.data.lines import find_damage
from headway.layers.losses import IGNORE
from headway.tasks._decoders import OnDecoder
from headway.tasks._examples import describe_examples
from headway.tasks._settings import at_least, one_of
from headway.tasks._task import Answer, Body, Encoded, Head, OnProgress, Record, Rows, Setting
from headway.tasks._writing import TextStream, write
from headway.text.chat import (
    TEMPLATES,
    Message,
    check_template,
    encode_turns,
    end_of_turn,
    find_problem,
    opening,
    to_jinja,
)
from headway.text.tokenizer import Tokenizer

# A part of a conversation as ids, and whether the assistant says it.
_Piece = tuple[list[int], bool]


@dataclass(frozen=True, kw_only=True)
class Chat(OnDecoder):
    """Learn p(answer | conversation so far), one token after the other."""

    template: str = "plain"
    """How turns are written: plain, chatml, zephyr or mistral."""
    max_tokens: int = 512
    """Longest conversation; of a longer one the oldest turns after the system's are left out."""

    columns: ClassVar[tuple[str, ...]] = ("messages",)
    inputs: ClassVar[tuple[str, ...]] = ("messages",)

    metrics: ClassVar[tuple[str, ...]] = ("perplexity", "causal_accuracy")

    @staticmethod
    def settings_of(kind: str, architecture: str, labels: Sequence[str], problem: str) -> None:
        """Nothing in a published folder says that it was taught to answer."""

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        problems = super().check() + one_of(self, {"template": TEMPLATES})
        return problems + at_least(self, {"max_tokens": 8})

    def texts(self, rows: Rows) -> list[str]:
        """Give the texts that a tokenizer is trained on."""
        return [message["content"] for row in rows for message in row["messages"]]

    def check_row(self, row: Record, labels: Sequence[str] | None) -> str | None:
        """Say what is wrong with a conversation to learn from."""
        return _find_problem(row["messages"], last="assistant")

    def check_request(self, row: Record) -> str | None:
        """Say what is wrong with a conversation to go on with; a known answer is left out."""
        messages = row["messages"]
        is_whole = find_problem(messages, last="assistant") is None
        return _find_problem(messages, last="assistant" if is_whole else "user")

    def encode(self, rows: Rows, setting: Setting) -> Encoded:
        """Turn conversations into examples; what the assistant says is what is learned."""
        check_template(self.template, setting.tokenizer)
        longest = min(self.max_tokens, setting.max_tokens)
        examples, full = [], []
        for index, row in enumerate(rows):
            first, turns = self._pieces(row["messages"], setting.tokenizer)
            full.append(_length(first) + _length(turns) - 1)
            kept = _fit(first, turns, longest + 1)
            ids = list(chain.from_iterable(ids for ids, _ in kept))
            wanted = [token if own else IGNORE for ids_, own in kept for token in ids_]
            examples.append(Example(index, ids[:-1], token_labels=wanted[1:]))
        tokenizer = setting.tokenizer
        return describe_examples(
            "messages", examples, tokenizer, limit=longest, full=np.array(full)
        )

    def _pieces(
        self, messages: Sequence[Message], tokenizer: Tokenizer
    ) -> tuple[list[_Piece], list[_Piece]]:
        """Encode what stands before a conversation, and its turns."""
        has_system = messages[0]["role"] == "system"
        first = encode_turns(messages[:has_system], self.template, tokenizer)
        if start := tokenizer.encode_ids([""])[0]:
            first.insert(0, (start, False))
        return first, encode_turns(messages[has_system:], self.template, tokenizer)

    def prompt(self, messages: Sequence[Message], setting: Setting) -> list[int]:
        """Encode a conversation up to where the assistant speaks; the oldest turns may go."""
        return self._prompt(messages, setting)[0]

    def _prompt(self, messages: Sequence[Message], setting: Setting) -> tuple[list[int], bool]:
        """Give the prompt, and whether something of the conversation is left out of it."""
        if messages[-1]["role"] == "assistant":
            messages = messages[:-1]
        begin = opening(self.template, setting.tokenizer)
        longest = min(self.max_tokens, setting.max_tokens)
        # A quarter of the room is for the answer, or as much as was asked for.
        room = longest - (self.max_new_tokens or longest // 4) - len(begin)
        first, turns = self._pieces(messages, setting.tokenizer)
        kept = list(chain.from_iterable(ids for ids, _ in _fit(first, turns, room)))
        return [*kept, *begin], _length(first) + _length(turns) > room

    def predict(
        self, body: Body, head: Head, rows: Rows, setting: Setting, progress: OnProgress = None
    ) -> list[Answer]:
        """Answer the last message of each conversation.

        Returns:
            answers: For each record "prediction", the answer; "tokens", of which it is made;
                "log_probability", of all of them; "ended_by", "end", "stop" or "length"; "cut" of
                a conversation too long to be read whole.
        """
        check_template(self.template, setting.tokenizer)
        found = [self._prompt(row["messages"], setting) for row in rows]
        prompts = [ids for ids, _ in found]
        answers: list[Answer] = [{} for _ in rows]
        ends = end_of_turn(self.template, setting.tokenizer)
        written = write(body, prompts, setting, self, more_ends=ends, progress=progress)
        for place, stream in written:
            answer = stream.to_answer()
            answers[place] = answer | {"prediction": answer["prediction"].strip()}
            if found[place][1]:
                answers[place]["cut"] = ["conversation"]
        return answers

    def reply(self, body: Body, messages: Sequence[Message], setting: Setting) -> TextStream:
        """Answer the last message, piece by piece."""
        check_template(self.template, setting.tokenizer)
        ends = end_of_turn(self.template, setting.tokenizer)
        prompt, is_cut = self._prompt(messages, setting)
        stream = TextStream(body, prompt, setting, self, more_ends=ends)
        stream.is_cut = is_cut
        return stream

    def jinja(self, tokenizer: Tokenizer) -> str:
        """Write the template as transformers reads it."""
        return to_jinja(self.template, tokenizer)

    @staticmethod
    def tiny_rows() -> list[dict[str, Any]]:
        """Give conversations that are learned in seconds."""
        pairs = {"red": "rot", "blue": "blau", "black": "schwarz", "white": "weiss"}
        words = list(pairs)
        return [
            {
                "messages": [
                    {"role": "user", "content": words[number % 4]},
                    {"role": "assistant", "content": pairs[words[number % 4]]},
                ]
            }
            for number in range(24)
        ]


def _find_problem(messages: Any, *, last: str) -> str | None:
    """Say what is wrong with a conversation, or with the characters in it."""
    if problem := find_problem(messages, last=last):
        return problem
    damage = [find_damage(message["content"]) for message in messages]
    found = ((number, problem) for number, problem in enumerate(damage, 1) if problem)
    return next((f"message {number} is {problem}" for number, problem in found), None)


def _length(pieces: Sequence[_Piece]) -> int:
    """Count tokens."""
    return sum(len(ids) for ids, _ in pieces)


def _fit(first: Sequence[_Piece], turns: Sequence[_Piece], room: int) -> list[_Piece]:
    """Keep the newest tokens of a conversation that there is room for.

    What stands before the turns is kept too, where that leaves half of the room to them.
    """
    stays = 2 * _length(first) <= room
    kept = []
    left = room - _length(first) if stays else room
    for ids, is_own in reversed(turns if stays else [*first, *turns]):
        if left <= 0:
            break
        kept.append((ids[-left:], is_own))
        left -= len(ids)
    return [*(first if stays else ()), *kept[::-1]]
