"""Conversations as one text: who speaks, how turns are written, and which words are the model's.

A template is a table: role -> what stands before and after what was said. `{end}` in it is the
vocabulary's own end of a text. What a user types never becomes a special token; what the template
says does, where the vocabulary has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from headway.errors import ConfigError
from headway.text.tokenizer import Tokenizer

Message = Mapping[str, Any]
ROLES = ("system", "user", "assistant")
TEMPLATES: Mapping[str, Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "plain": {
            "system": ("", "\n\n"),
            "user": ("User: ", "\n"),
            "assistant": ("Assistant: ", "{end}\n"),
        },
        "chatml": {role: (f"<|im_start|>{role}\n", "<|im_end|>\n") for role in ROLES},
        "zephyr": {role: (f"<|{role}|>\n", "{end}\n") for role in ROLES},
        "mistral": {
            "system": ("", "\n\n"),
            "user": ("[INST] ", " [/INST]"),
            "assistant": (" ", "{end}"),
        },
    }
)


def find_problem(messages: Any, *, last: str) -> str | None:
    """Say what is wrong with a conversation; None if nothing is.

    Args:
        messages: What should be a list of {"role", "content"}.
        last: Who should have the last word.
    """
    if not (isinstance(messages, list) and messages):
        return 'messages is not a list of {"role": ..., "content": ...}'
    for number, message in enumerate(messages, 1):
        if not (isinstance(message, Mapping) and isinstance(message.get("content"), str)):
            return f"message {number} has no text 'content'"
        if not message["content"].strip():
            return f"message {number} is empty"
    roles = [message.get("role") for message in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    for number, role in enumerate(turns):
        expected = ("user", "assistant")[number % 2]
        if role != expected:
            place = number + 1 + len(roles) - len(turns)
            return f"message {place} is by {role!r}, but it is the turn of {expected!r}"
    if not turns or turns[-1] != last:
        return f"the last message is by {roles[-1]!r}, but should be by {last!r}"
    return None


def encode_turns(
    messages: Sequence[Message], template: str, tokenizer: Tokenizer
) -> list[tuple[list[int], bool]]:
    """Encode a conversation piece by piece.

    Args:
        messages: In order.
        template: A key of TEMPLATES.
        tokenizer: Text -> ids.
    Returns:
        pieces: Token ids, and whether the model is to say them: what the assistant says, and the
            end of its turn.
    """
    pieces = []
    for message in messages:
        before, after = _fill(template, message["role"], tokenizer)
        # A space belongs to the word after it, as in running text.
        bare = before.rstrip(" ")
        said = before[len(bare) :] + message["content"].strip()
        is_own = message["role"] == "assistant"
        pieces.append((_encode(bare, tokenizer), False))
        pieces.append((tokenizer.encode_ids([said], bare=True)[0], is_own))
        # The line's end after the end of a turn is the template's, not the model's; of several
        # the last stands alone, as within a text.
        end, rest = after[: len(after.rstrip("\n"))], after[len(after.rstrip("\n")) :]
        pieces.append((_encode(end, tokenizer), is_own))
        pieces.append((_encode(rest[:-1], tokenizer), False))
        pieces.append((_encode(rest[-1:], tokenizer), False))
    return [(ids, is_own) for ids, is_own in pieces if ids]


def opening(template: str, tokenizer: Tokenizer) -> list[int]:
    """Encode what the assistant's turn begins with."""
    return _encode(_fill(template, "assistant", tokenizer)[0].rstrip(" "), tokenizer)


def end_of_turn(template: str, tokenizer: Tokenizer) -> list[int]:
    """Encode what ends the assistant's turn; its first token ends a reply."""
    return _encode(_fill(template, "assistant", tokenizer)[1].rstrip("\n"), tokenizer)


def _fill(template: str, role: str, tokenizer: Tokenizer) -> tuple[str, str]:
    before, after = TEMPLATES[template][role]
    return before, after.replace("{end}", tokenizer.name_of("end"))


def _encode(text: str, tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode_ids([text], bare=True, special=True)[0] if text else []


def check_template(template: str, tokenizer: Tokenizer) -> None:
    """Raise a ConfigError if the vocabulary lacks what ends a turn of the template."""
    if len(end_of_turn(template, tokenizer)) != 1:
        end = _fill(template, "assistant", tokenizer)[1].strip()
        raise ConfigError(
            f"the template {template!r} ends a turn with {end!r}, which is no token of this "
            "vocabulary",
            hint="choose task.template plain, which takes the vocabulary's own end",
        )


def to_jinja(template: str, tokenizer: Tokenizer) -> str:
    """Write a template as transformers reads it, in tokenizer_config.json."""
    parts = []
    for role in ROLES:
        before, after = _fill(template, role, tokenizer)
        said = f"{{{{ {json.dumps(before)} + message['content'].strip() + {json.dumps(after)} }}}}"
        parts.append(f"{{% if message['role'] == '{role}' %}}{said}{{% endif %}}")
    begin = json.dumps(_fill(template, "assistant", tokenizer)[0].rstrip(" "))
    # What the vocabulary puts before every text, such as <s>.
    first = "".join(map(tokenizer.token_of, tokenizer.encode_ids([""])[0]))
    return (
        f"{{{{ {json.dumps(first)} }}}}"
        f"{{% for message in messages %}}{''.join(parts)}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ {begin} }}}}{{% endif %}}"
    )
