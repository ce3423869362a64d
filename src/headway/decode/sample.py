"""Continue texts token by token: the most probable one, or one drawn by chance."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headway.decode.beam import Steps
from headway.errors import ConfigError
from headway.layers.side import Side


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """How the next token is chosen.

    The steps are taken in this order: penalty, temperature, the k best, the smallest set of
    probability p, what has at least a share of the best one's probability.

    Args:
        temperature: Logits are divided by it; 0 takes the most probable token.
        top_k: Only so many best tokens; 0: all.
        top_p: Only the fewest best tokens that together have this probability; 1: all.
        min_p: Only tokens with this share of the best one's probability; 0: all.
        repetition_penalty: Divides the logits of tokens that were there, where they are positive,
            and multiplies them where they are negative; 1: none.
    Raises:
        ConfigError: for a value out of range.
    Paper: Fan et al. 2018 (arXiv 1805.04833), top-k; Holtzman et al. 2020 (arXiv 1904.09751),
        top-p; Nguyen et al. 2024 (arXiv 2407.01082), min-p; Keskar et al. 2019 (arXiv
        1909.05858), section 4.1, the penalty.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if problems := self.problems():
            raise ConfigError("; ".join(problems))

    def problems(self) -> list[str]:
        """Return every problem of these values."""
        allowed = {
            "temperature": (0 <= self.temperature < math.inf, "from 0 up"),
            "top_k": (self.top_k >= 0, "from 0 up"),
            "top_p": (0 < self.top_p <= 1, "above 0, at most 1"),
            "min_p": (0 <= self.min_p < 1, "from 0 to below 1"),
            "repetition_penalty": (0 < self.repetition_penalty < math.inf, "above 0"),
        }
        return [
            f"{name} is {getattr(self, name)}, but must be {range_}"
            for name, (is_fit, range_) in allowed.items()
            if not is_fit
        ]


@dataclass(frozen=True)
class Drawn:
    """A token that was chosen.

    Args:
        row: Which text it continues.
        id: Token id.
        log_prob: Its log probability under the model itself, in nats, whatever the options.
    """

    row: int
    id: int
    log_prob: float


class Sampler:
    """Continues several texts at once; what one becomes does not depend on the others.

    Args:
        model: Gives logits step by step.
        prompts: Token ids of each text so far, at least one.
        options: How tokens are chosen.
        seeds: One for each text: the same seed draws the same numbers.
        max_steps: Steps there is room for.
    """

    def __init__(
        self,
        model: Steps,
        prompts: Sequence[Sequence[int]],
        options: SampleOptions,
        *,
        seeds: Sequence[int],
        max_steps: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.model, self.options = model, options
        self.rows = list(range(len(prompts)))
        self._random = [random.Random(seed) for seed in seeds]
        self._seen = [set(prompt) for prompt in prompts]
        self._newest = torch.tensor([[prompt[-1]] for prompt in prompts], device=device)
        self._done: set[int] = set()
        with torch.inference_mode():
            before = Side.padded([list(prompt[:-1]) for prompt in prompts]).to(device)
            self._state = model.start(before, num_beams=1, max_steps=max_steps)

    @property
    def is_running(self) -> bool:
        """Say whether any text is still continued."""
        return any(row not in self._done for row in self.rows)

    def stop(self, row: int) -> None:
        """Continue a text no further."""
        if row in self.rows:
            self._done.add(row)

    @torch.inference_mode()
    def step(self) -> list[Drawn]:
        """Choose the next token of every text that is continued."""
        self._drop_done()
        logits = self.model.logits(self.model.step(self._newest, self._state))[:, 0].float()
        log_probs = logits.log_softmax(-1)
        chosen = self._choose(logits)
        self._newest = chosen[:, None]
        found = log_probs.gather(1, self._newest)[:, 0].tolist()
        drawn = [
            Drawn(row, token, log_prob)
            for row, token, log_prob in zip(self.rows, chosen.tolist(), found, strict=True)
        ]
        for item in drawn:
            self._seen[item.row].add(item.id)
        return [item for item in drawn if item.row not in self._done]

    def _choose(self, logits: Tensor) -> Tensor:
        options = self.options
        if options.repetition_penalty != 1:
            seen = [sorted(self._seen[row]) for row in self.rows]
            logits = penalize(logits, seen, options.repetition_penalty)
        if options.temperature == 0:
            return logits.argmax(-1)
        noise = torch.tensor([self._random[row].random() for row in self.rows], dtype=torch.float64)
        return draw(logits, options, noise.to(logits.device))

    def _drop_done(self) -> None:
        """Leave texts that are done out of the batch, once they are a good part of it."""
        kept = [place for place, row in enumerate(self.rows) if row not in self._done]
        if len(self.rows) - len(kept) < max(1, len(self.rows) // 8):
            return
        places = torch.tensor(kept, device=self._newest.device)
        self._state.keep(places)
        self._newest = self._newest[places]
        self.rows = [self.rows[place] for place in kept]
        self._done.clear()


def penalize(logits: Tensor, seen: Sequence[Sequence[int]], penalty: float) -> Tensor:
    """Make tokens that were there less probable.

    Args:
        logits: (B, V) float.
        seen: Of each row, the tokens that were there.
        penalty: Above 1 makes them less probable.
    Returns:
        logits: (B, V) float.
    """
    logits = logits.clone()
    for row, ids in enumerate(seen):
        found = logits[row, ids]
        logits[row, ids] = torch.where(found > 0, found / penalty, found * penalty)
    return logits


def draw(logits: Tensor, options: SampleOptions, noise: Tensor) -> Tensor:
    """Draw a token of each row.

    Args:
        logits: (B, V) float.
        options: What may be drawn; the temperature is above 0.
        noise: (B) float. From 0 to below 1, evenly distributed: what is drawn depends on it alone.
    Returns:
        tokens: (B) int64.
    """
    # The best is 0, so that no temperature is too small to divide by.
    logits = logits.double()
    scaled = (logits - logits.amax(-1, keepdim=True)) / options.temperature
    count = min(options.top_k or logits.shape[-1], logits.shape[-1])
    if count == logits.shape[-1] and options.top_p == 1:
        # Nothing to be sorted.
        places = None
    else:
        scaled, places = scaled.topk(count, dim=-1)
    probs = scaled.softmax(-1)
    if options.top_p < 1:
        # The token that passes the bound still belongs to the set.
        probs = probs.masked_fill(probs.cumsum(-1) - probs >= options.top_p, 0.0)
    if options.min_p:
        probs = probs.masked_fill(probs < options.min_p * probs.amax(-1, keepdim=True), 0.0)
    sums = probs.cumsum(-1)
    # Above the drawn share of all that is left: never a token of probability 0.
    found = torch.searchsorted(sums, noise[:, None] * sums[:, -1:], right=True)
    found = found.clamp(max=probs.shape[-1] - 1)
    return (found if places is None else places.gather(1, found))[:, 0]
