"""What tasks on decoders share: what is learned, and the settings of going on with texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from headway.data.batch import Batch
from headway.decode.sample import SampleOptions
from headway.layers.losses import IGNORE, Loss, count_correct, linear_cross_entropy
from headway.tasks._examples import collate_texts
from headway.tasks._settings import at_least, within
from headway.tasks._task import NO_CHANCE, Body, Draw, Head, Layout, Setting, Task
from headway.tasks._texts import needed, where_asked

_MOST_BEAMS = 256


@dataclass(frozen=True, kw_only=True)
class OnDecoder(Task):
    """What tasks on decoders are and do, unless they say otherwise; the settings of decoding."""

    max_new_tokens: int = 0
    """Tokens of a continuation, at most; 0: 200, or as many as the model has room for."""
    temperature: float = 0.8
    """Logits are divided by it; 0 always takes the most probable token."""
    top_k: int = 200
    """Draw from so many best tokens only; 0: from all."""
    top_p: float = 1.0
    """Draw from the fewest tokens that together have this probability."""
    min_p: float = 0.0
    """Draw only tokens with this share of the best one's probability."""
    repetition_penalty: float = 1.0
    """Above 1: tokens that were there become less probable."""
    num_beams: int = 1
    """Beams of a search for the most probable continuation; 1: none, tokens are drawn."""
    stop: tuple[str, ...] = ()
    """Texts at which a continuation ends; they are left out."""
    sampling_seed: int = 0
    """What is drawn depends on it, and on nothing else."""

    columns: ClassVar[tuple[str, ...]] = ("text",)
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    bodies: ClassVar[tuple[str, ...]] = ("decoder",)
    heads: ClassVar[tuple[str, ...]] = ("causal_lm",)
    head: ClassVar[str] = "causal_lm"

    def check(self) -> list[str]:
        """Return every problem of the settings of decoding."""
        problems = SampleOptions.problems(self)  # pyright: ignore[reportArgumentType]
        problems += at_least(self, {"max_new_tokens": 0, "sampling_seed": 0})
        problems += within(self, "num_beams", 1, _MOST_BEAMS)
        if any(not text for text in self.stop):
            problems.append("stop has an empty text, at which everything would end")
        return problems

    def collate(self, rows: Layout, setting: Setting, draw: Draw = NO_CHANCE) -> Batch:
        """Lay examples out in rows, each token labelled with the one that follows."""
        return collate_texts(rows, setting)

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the tokens that are to be said."""
        return {"causal_lm": float((needed(batch.labels) != IGNORE).sum())}

    def losses(self, body: Body, head: Head, batch: Batch) -> tuple[Loss, ...]:
        """Sum the cross-entropy of the next tokens, in nats."""
        labels = needed(batch.labels)
        hidden, wanted = where_asked(body.encode(batch.source).hidden, labels, labels != IGNORE)
        # The logits of all tokens are never there at once.
        result = linear_cross_entropy(hidden, body.output.weight, None, wanted)
        correct = None
        if not body.training:
            correct = count_correct(hidden, body.output.weight, None, wanted)
        count = float(len(wanted))
        return (Loss(name="causal_lm", total=result.total, count=count, correct=correct),)

    def generation(self, setting: Setting) -> dict[str, Any]:
        """Say which tokens begin and end a text."""
        tokenizer = setting.tokenizer
        return {
            "bos_token_id": tokenizer.start_id,
            "eos_token_id": tokenizer.end_id,
            "pad_token_id": tokenizer.pad_id,
        }
