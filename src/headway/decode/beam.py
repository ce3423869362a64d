"""Greedy and beam search over any model that decodes step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from headway.decode.best import best_tokens
from headway.errors import ConfigError
from headway.layers.side import Memory, Side


class State(Protocol):
    """What a model remembers between steps, for R beams of each of B rows."""

    def reorder(self, parents: Tensor) -> None:
        """Let beam r continue what beam parents[:, r], (B, R) int64, was."""

    def keep(self, rows: Tensor) -> None:
        """Keep these rows, (B) int64."""


class Steps(Protocol):
    """A model that decodes step by step."""

    def start(self, source: Any, *, num_beams: int, max_steps: int) -> Any:
        """Prepare a state from what was read: a `Memory`, or a prompt as a `Side`."""

    def step(self, input_ids: Tensor, state: Any) -> Tensor:
        """Map the newest tokens, (B, R) int64, to hidden states, (B, R, D) float."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Map (B, R, D) float to (B, R, V) float."""
        ...


@dataclass(frozen=True, kw_only=True)
class BeamOptions:
    """How a search runs.

    Args:
        num_beams: Beams R; 1 is greedy search.
        length_penalty: a in score = sum of log probabilities / length^a; 0 favours short results.
        min_steps: Tokens before </s> is allowed.
        max_steps: Tokens of a result, </s> included, at most.
        num_best: Results of each row, at most `num_beams`.
    Raises:
        ConfigError: for a value out of range.
    """

    num_beams: int = 5
    length_penalty: float = 1.0
    min_steps: int = 0
    max_steps: int = 256
    num_best: int = 1

    def __post_init__(self) -> None:
        problems = []
        if self.num_beams < 1:
            problems.append(f"num_beams is {self.num_beams}, but at least 1 is needed")
        if not 1 <= self.num_best <= self.num_beams:
            problems.append(
                f"num_best is {self.num_best}, but must be from 1 to num_beams ({self.num_beams})"
            )
        if self.max_steps < 1 or not 0 <= self.min_steps <= self.max_steps:
            problems.append(
                f"min_steps is {self.min_steps} and max_steps {self.max_steps}, but 1 <= max_steps "
                "and 0 <= min_steps <= max_steps are needed"
            )
        if not math.isfinite(self.length_penalty):
            problems.append(f"length_penalty is {self.length_penalty}, but must be finite")
        if problems:
            raise ConfigError("; ".join(problems))


@dataclass(frozen=True)
class Hypothesis:
    """One result of a search.

    Args:
        ids: Token ids, without </s>.
        score: Sum of log probabilities / length^a; </s> counts in both.
        log_probability: Sum of log probabilities, in nats.
        is_finished: False where the longest allowed length cut it.
    """

    ids: list[int]
    score: float
    log_probability: float
    is_finished: bool = True


@dataclass(frozen=True)
class BeamStep:
    """What one step of a search looked at, for those who draw it.

    Args:
        rows: (B) int64. Which rows of the batch are still searched.
        parents: (B, C) int64. Beam that each candidate extends.
        tokens: (B, C) int64.
        scores: (B, C) float. Sum of log probabilities, best first.
        kept: (B, C) bool. Became a beam.
        finished: (B, C) bool. Became a result.
    """

    rows: Tensor
    parents: Tensor
    tokens: Tensor
    scores: Tensor
    kept: Tensor
    finished: Tensor


@torch.inference_mode()
def beam_search(
    model: Steps,
    memory: Memory | Side,
    options: BeamOptions,
    *,
    start_id: int | Tensor,
    end_id: int,
    forbidden: Sequence[int] = (),
    limits: Tensor | None = None,
    observer: Callable[[BeamStep], None] | None = None,
) -> list[list[Hypothesis]]:
    """Search for the most probable continuation of each row.

    At each step every beam proposes its R + 1 best tokens; of all proposals the best 2R are
    looked at: those that end among the first R become results, the first R others go on. A row
    is done when it has R results, or when no beam can overtake its worst result; done rows leave
    the batch. A row's result does not depend on its neighbours.

    Args:
        model: Gives logits step by step.
        memory: What was read, one row for each search: a `Memory`, or a prompt without its last
            token as a `Side`.
        options: Beams, lengths, length penalty.
        start_id: Token that decoding starts from; (B) int64 where each row has its own.
        end_id: Token that ends a result.
        forbidden: Tokens that no result has.
        limits: (B) int64. Longest result of each row, at most `max_steps`; None is that for all.
        observer: Shown every step, for pictures of the search.
    Returns:
        hypotheses: For each row, the `num_best` results, best first.
    Paper: Sutskever et al. 2014 (arXiv 1409.3215), section 3.2; Wu et al. 2016 (arXiv 1609.08144),
    section 7, for the length penalty, here a plain power.
    """
    if not len(memory.documents):
        return []
    if limits is None:
        limits = memory.documents.new_full((len(memory.documents),), options.max_steps)
    limits = limits.clamp(max=options.max_steps)
    search = _Search(
        model, memory, options, limits, start_id=start_id, end_id=end_id, forbidden=forbidden
    )
    for step in range(1, int(limits.max()) + 1):
        search.advance(step, observer)
        search.retire(step)
        if not search.num_rows:
            break
    return search.results()


class _Search:
    """The tensors of a running search; one row of each for every sentence still searched."""

    def __init__(
        self,
        model: Steps,
        memory: Memory | Side,
        options: BeamOptions,
        limits: Tensor,
        *,
        start_id: int | Tensor,
        end_id: int,
        forbidden: Sequence[int],
    ) -> None:
        num_rows, num_beams = len(memory.documents), options.num_beams
        device = memory.documents.device
        self.model, self.options, self.end_id = model, options, end_id
        self.forbidden = forbidden
        max_steps = int(limits.max())
        self.limits: list[int] = limits.tolist()
        self.state = model.start(memory, num_beams=num_beams, max_steps=max_steps)
        self.rows = torch.arange(num_rows, device=device)
        starts = torch.as_tensor(start_id, device=device).expand(num_rows)
        self.tokens = starts[:, None].repeat(1, num_beams)
        self.sequences = self.tokens.new_zeros(num_rows, num_beams, max_steps)
        self.scores = torch.full((num_rows, num_beams), -torch.inf, device=device)
        self.scores[:, 0] = 0.0
        self.found: list[list[Hypothesis]] = [[] for _ in range(num_rows)]
        self.active = [True] * num_rows
        self.max_candidates = 2 * num_beams

    @property
    def num_rows(self) -> int:
        return len(self.rows)

    def advance(self, step: int, observer: Callable[[BeamStep], None] | None) -> None:
        """Extend every beam by one token and take up what ended."""
        num_beams = self.options.num_beams
        hidden = self.model.step(self.tokens, self.state)
        early_end = (self.end_id,) if step <= self.options.min_steps else ()
        forbidden = (*self.forbidden, *early_end)
        best, tokens = best_tokens(self.model.logits(hidden), num_beams + 1, forbidden=forbidden)
        width = tokens.shape[-1]
        scores = self.scores[:, :, None] + best
        count = min(self.max_candidates, num_beams * width)
        scores, place = scores.flatten(1).topk(count, dim=-1)  # (B, C)
        parents = place // width
        tokens = tokens.flatten(1).gather(1, place)
        possible = scores > -torch.inf
        ends = (tokens == self.end_id) & possible
        early = torch.arange(count, device=scores.device) < num_beams
        finished = ends & early
        if finished.any():
            self._take_up(step, scores, parents, finished)
        # The first R candidates that do not end; a stable sort keeps their order.
        chosen = ends.int().argsort(dim=1, stable=True)[:, :num_beams]
        if observer is not None:
            # Rows that are done stay in the tensors for a while; nobody wants to see them.
            live = torch.tensor(self.active, device=scores.device)
            kept = _marked(chosen, ends) & possible
            seen = (self.rows, parents, tokens, scores, kept, finished)
            observer(BeamStep(*(value[live] for value in seen)))
        self._go_on(step, scores, parents, tokens, ends, chosen)

    def _go_on(
        self,
        step: int,
        scores: Tensor,
        parents: Tensor,
        tokens: Tensor,
        ends: Tensor,
        chosen: Tensor,
    ) -> None:
        self.scores = scores.masked_fill(ends, -torch.inf).gather(1, chosen)
        self.tokens = tokens.gather(1, chosen)
        parents = parents.gather(1, chosen)
        self.sequences = self.sequences.gather(1, parents[:, :, None].expand_as(self.sequences))
        self.sequences[:, :, step - 1] = self.tokens
        self.state.reorder(parents)

    def _take_up(self, step: int, scores: Tensor, parents: Tensor, finished: Tensor) -> None:
        for row, candidate in finished.nonzero().tolist():
            if self.active[row]:
                ids = self.sequences[row, parents[row, candidate], : step - 1].tolist()
                self._keep_result(row, ids, float(scores[row, candidate]), step)

    def _keep_result(
        self, row: int, ids: list[int], total: float, length: int, *, is_finished: bool = True
    ) -> None:
        score = total / length**self.options.length_penalty
        self.found[int(self.rows[row])].append(Hypothesis(ids, score, total, is_finished))

    def retire(self, step: int) -> None:
        """Mark the rows that are done, and drop them once they are a good part of the batch."""
        best_live = self.scores.max(1).values.tolist()
        for row, number in enumerate(self.rows.tolist()):
            is_last = step >= self.limits[number]
            if self.active[row] and (is_last or self._is_done(number, best_live[row])):
                self.active[row] = False
                if is_last and len(self.found[number]) < self.options.num_best:
                    self._cut(row, step)
        remaining = sum(self.active)
        if remaining == 0 or len(self.active) - remaining >= max(1, len(self.active) // 8):
            self._drop_rows()

    def _is_done(self, number: int, best_live: float) -> bool:
        found = self.found[number]
        if len(found) >= self.options.num_beams:
            return True
        if best_live == -math.inf:
            return True
        if len(found) < self.options.num_best:
            return False
        # Log probabilities only fall; the longest result divides them most.
        reach = self.limits[number] if self.options.length_penalty > 0 else 1
        bound = best_live / reach**self.options.length_penalty
        worst = sorted(result.score for result in found)[-self.options.num_best]
        return bound <= worst

    def _cut(self, row: int, step: int) -> None:
        for beam in range(self.options.num_beams):
            total = float(self.scores[row, beam])
            if total > -math.inf:
                ids = self.sequences[row, beam, :step].tolist()
                self._keep_result(row, ids, total, step, is_finished=False)

    def _drop_rows(self) -> None:
        kept = torch.tensor(
            [row for row, active in enumerate(self.active) if active],
            dtype=torch.long,
            device=self.rows.device,
        )
        self.active = [True] * len(kept)
        self.rows, self.tokens = self.rows[kept], self.tokens[kept]
        self.scores, self.sequences = self.scores[kept], self.sequences[kept]
        if len(kept):
            self.state.keep(kept)

    def results(self) -> list[list[Hypothesis]]:
        """Sort what was found; finished results come before cut ones."""
        ranked = [
            sorted(found, key=lambda result: (not result.is_finished, -result.score))
            for found in self.found
        ]
        return [found[: self.options.num_best] for found in ranked]


def _marked(chosen: Tensor, ends: Tensor) -> Tensor:
    """Turn indices into a mask, leaving out candidates that ended."""
    return (
        torch.zeros_like(ends).scatter(1, chosen, torch.ones_like(chosen, dtype=torch.bool)) & ~ends
    )
