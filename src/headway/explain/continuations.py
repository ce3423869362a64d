"""What the report shows of a model that goes on with text: its words beside those of the data."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headway.data.running import read_corpus
from headway.explain.page import pair, paragraph
from headway.explain.svg import escape, spread
from headway.explain.view import RunView
from headway.tasks._decoders import OnDecoder

_NUM_SAMPLES = 5
# Pieces of the corpus that samples are chosen from, and characters read of each.
_NUM_PIECES = 40
_MOST_CHARACTERS = 400
# Of what is read a sixth is given, and the rest is what could follow.
_GIVEN_SHARE = 6
_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class _Beginning:
    """What a model goes on with.

    Args:
        record: As the task takes it.
        shown: The part of it that people read.
        reference: What follows in the data.
        max_new_tokens: Tokens to write at most; 0: as many as usual.
    """

    record: dict[str, Any]
    shown: str
    reference: str
    max_new_tokens: int = 0


def draw_continuations(view: RunView) -> str:
    """Write what the model makes of the beginnings of validation texts, or of what was asked.

    Other models than those that go on with text give nothing.
    """
    task = view.model.task
    if not isinstance(task, OnDecoder):
        return ""
    # Packed it writes twice as fast.
    model = view.model.to_precision("fp32", packed=True)
    told = (
        "Beginnings from the validation data; what the model writes is drawn with its own "
        f"settings (temperature {task.temperature:g})."
    )
    parts = [paragraph(told)]
    started = time.monotonic()
    for item in _beginnings(view):
        (answer,) = model.predict([item.record], max_new_tokens=item.max_new_tokens)
        lines = [("given", item.shown), ("data", item.reference), ("model", answer["prediction"])]
        parts.append(pair([(name, escape(text)) for name, text in lines if text]))
        if time.monotonic() - started > _SECONDS:
            break
    return "".join(parts)


def _beginnings(view: RunView) -> Iterator[_Beginning]:
    if not view.model.task.reads_corpus:
        rows = view.valid_rows
        for place in spread(len(rows), _NUM_SAMPLES):
            *before, last = rows[place]["messages"]
            yield _Beginning(
                record={"messages": before},
                shown=before[-1]["content"][-_MOST_CHARACTERS:],
                reference=last["content"],
            )
        return
    files = view.recipe.data.valid
    if not files:
        yield _Beginning(record={"text": ""}, shown="nothing", reference="")
        return
    segments = itertools.islice(read_corpus(files, keeps_lines=True), _NUM_PIECES)
    pieces = [text[:_MOST_CHARACTERS] for segment in segments if (text := segment.text.strip())]
    tokenizer, room = view.model.tokenizer, view.model.setting.max_tokens
    for place in spread(len(pieces), _NUM_SAMPLES):
        (ids,) = tokenizer.encode_ids([pieces[place]], bare=True)
        count = max(1, min(len(ids) // _GIVEN_SHARE, room // 2))
        given = tokenizer.decode(ids[:count])
        wanted = min(len(ids), room - 1) - count
        yield _Beginning(
            record={"text": given},
            shown=given,
            reference=tokenizer.decode(ids[count : count + wanted]),
            max_new_tokens=max(1, wanted),
        )
