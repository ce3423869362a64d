"""Losses as sums with their own counts, so that any split of a batch gives the same gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# A target that no loss looks at.
IGNORE = -100

# Rows of logits alive at once: enough to keep the products efficient, few enough that the logits
# of a chunk stay near the caches.
_CHUNK_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One term of an objective: a sum and its own count, never a mean.

    Args:
        name: As it appears in metrics.jsonl.
        total: () float. Sum over the targets of this micro-batch.
        count: Number (or weight) of the targets in the sum.
        weight: Factor of this term in the objective.
        reported: () float. What is shown in place of `total` where the two differ, such as the
            loss without label smoothing.
        correct: Targets that got the highest score; None where nobody counted, as in training.
    """

    name: str
    total: Tensor
    count: float
    weight: float = 1.0
    reported: Tensor | None = None
    correct: float | None = None


class _LinearCrossEntropy(torch.autograd.Function):
    """Cross-entropy of a linear layer, chunk by chunk, gradients taken on the way forward.

    The logits of a chunk are used for the loss and for both gradients while they are in the
    cache, then dropped: no (N, V) tensor is ever built.
    """

    @staticmethod
    def forward(
        ctx, hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, smoothing, excluded
    ):
        wants_grad = any(ctx.needs_input_grad[:3])
        cast, cast_bias = weight.detach().to(hidden.dtype), bias.detach().to(hidden.dtype)
        grad_hidden = torch.empty_like(hidden) if wants_grad else None
        grad_weight = None
        grad_bias = torch.zeros_like(bias) if wants_grad else None
        nll = hidden.new_zeros((), dtype=torch.float32)
        normalizers = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, hidden.shape[0], _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            chunk, target = hidden[rows], labels[rows, None]
            logits = torch.addmm(cast_bias, chunk, cast.t())  # (N, V)
            grad = logits.softmax(-1) if wants_grad else None
            normalizer = _log_normalizer(logits, grad)
            nll += (normalizer - logits.gather(1, target)).sum()
            normalizers += normalizer.sum()
            if grad is None or grad_hidden is None or grad_bias is None:
                continue
            grad.scatter_add_(1, target, torch.full_like(target, smoothing - 1, dtype=grad.dtype))
            grad_hidden[rows] = grad @ cast
            # Of few rows, writing this gradient is most of the work: no zeros are filled in first.
            part = grad.t() @ chunk
            grad_weight = part.to(weight.dtype) if grad_weight is None else grad_weight.add_(part)
            if ctx.needs_input_grad[2]:
                grad_bias += grad.sum(0)
        if wants_grad and grad_weight is None:
            grad_weight = torch.zeros_like(weight)
        spread = _Spread(hidden, cast, cast_bias, excluded)
        if smoothing and grad_weight is not None:
            spread.add_gradients(smoothing, grad_hidden, grad_weight, grad_bias)
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.mark_non_differentiable(nll)
        if not smoothing:
            return nll.clone(), nll
        return (1 - smoothing) * nll + smoothing * (normalizers - spread.mean_logits()), nll

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor):
        scale = grad_outputs[0]
        grads = [
            grad.mul_(scale) if grad is not None and needed else None
            for grad, needed in zip(ctx.saved_tensors, ctx.needs_input_grad[:3], strict=True)
        ]
        return *grads, None, None, None


def _log_normalizer(logits: Tensor, probs: Tensor | None) -> Tensor:
    """Compute log sum exp(logits) of each row, (N, V) float -> (N, 1) float32.

    Where half-precision probabilities are at hand, it is read off the largest of them: log p = z -
    log sum exp(z), and that p is rounded no worse than the logits are. Only the loss that is shown
    comes from it, never a gradient, and it saves two copies of all logits in single precision.
    """
    if probs is None or probs.dtype not in (torch.bfloat16, torch.float16):
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).logsumexp(-1, True)
    largest, prob = logits.amax(-1, True).float(), probs.amax(-1, True).float()
    return largest - prob.log()


class _Spread:
    """The part of a smoothed loss that every class shares: the mean logit over the classes.

    Summed over rows and classes it needs no logits: sum_n sum_v (h_n . w_v + b_v) takes the sum of
    all h and the sum of all w. Its gradients are as plain.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor, excluded: int | None) -> None:
        self.excluded = excluded
        self.num_rows = len(hidden)
        self.num_classes = len(weight) - (excluded is not None)
        self.hidden_sum = hidden.float().sum(0)
        self.weight_sum = weight.float().sum(0)
        self.bias_sum = bias.float().sum()
        if excluded is not None:
            self.weight_sum -= weight[excluded].float()
            self.bias_sum -= bias[excluded].float()

    def mean_logits(self) -> Tensor:
        """Sum over rows the mean logit of a row's classes."""
        # Not as a product: autocast would round it.
        total = (self.hidden_sum * self.weight_sum).sum() + self.num_rows * self.bias_sum
        return total / self.num_classes

    def add_gradients(self, smoothing: float, hidden, weight, bias) -> None:
        """Add the gradient of -smoothing * mean_logits() to each gradient, in place."""
        share = smoothing / self.num_classes
        hidden -= (share * self.weight_sum).to(hidden.dtype)
        kept = None if self.excluded is None else weight[self.excluded].clone()
        kept_bias = None if self.excluded is None else bias[self.excluded].clone()
        weight -= share * self.hidden_sum
        bias -= share * self.num_rows
        if kept is not None:
            weight[self.excluded], bias[self.excluded] = kept, kept_bias


@dataclass(frozen=True)
class CrossEntropy:
    """Sums over targets, in nats.

    Args:
        total: () float. What is minimized.
        nll: () float. Negative log-likelihood without label smoothing; carries no gradient.
    """

    total: Tensor
    nll: Tensor


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    excluded: int | None = None,
) -> CrossEntropy:
    """Sum -log softmax(hidden weight^T + bias)[label] over rows, without building all logits.

    With label smoothing e the target distribution is (1 - e) on the label and e spread evenly
    over the vocabulary (Szegedy et al. 2016; Vaswani et al. 2017, section 5.4).

    Args:
        hidden: (N, D) float.
        weight: (V, D) float.
        bias: (V) float. None: there is none.
        labels: (N) int64. No IGNORE among them: select the rows first.
        label_smoothing: e, from 0 to below 1.
        excluded: A class that can never be the answer (padding) and gets no share of e.
    Returns:
        total, nll: () float.
    """
    if bias is None:
        bias = weight.new_zeros(len(weight))
    if not torch.is_grad_enabled():
        # Parameters ask for gradients even where none are taken.
        hidden, weight, bias = hidden.detach(), weight.detach(), bias.detach()
    total, nll = _LinearCrossEntropy.apply(hidden, weight, bias, labels, label_smoothing, excluded)  # pyright: ignore[reportGeneralTypeIssues]
    return CrossEntropy(total, nll)


def count_correct(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> float:
    """Count the rows whose label has the largest logit, chunk by chunk.

    Args:
        hidden: (N, D) float.
        weight: (V, D) float.
        bias: (V) float. None: there is none.
        labels: (N) int64.
    """
    correct = 0
    for start in range(0, len(hidden), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        logits = torch.nn.functional.linear(hidden[rows], weight, bias)
        correct += int((logits.argmax(-1) == labels[rows]).sum())
    return float(correct)


def pair_log_probs(
    scores: Tensor, firsts: Tensor, places: Tensor, max_answer_tokens: int
) -> Tensor:
    """Give the log probability of a pair of start and end among all valid pairs.

    A pair is valid if its end is not before its start and at most `max_answer_tokens` tokens are in
    it; a document's first token, which stands for no answer, pairs with itself only.

    Args:
        scores: (N, T, 2) float. Of starts and ends, -inf where none may be.
        firsts: (N) int64. Column of each document's first token.
        places: (N, 2) int64. Columns of the wanted start and end.
        max_answer_tokens: Longest answer.
    Returns:
        log_probs: (N) float. -inf for a wanted pair that is not valid.
    """
    starts, ends = scores.unbind(-1)
    padded = F.pad(ends, (0, max_answer_tokens - 1), value=-torch.inf)
    # For each start the ends that it may have, without a table of all pairs.
    reach = _logsumexp(padded.unfold(1, max_answer_tokens, 1))  # (N, T, W) -> (N, T)
    reach = reach.scatter(1, firsts[:, None], ends.gather(1, firsts[:, None]))
    every = _logsumexp(starts + reach)
    pair = starts.gather(1, places[:, :1]) + ends.gather(1, places[:, 1:])
    length = places[:, 1] - places[:, 0]
    is_valid = (length >= 0) & (length < max_answer_tokens)
    is_valid &= (places[:, 0] != firsts) | (length == 0)
    every = torch.where(every.isfinite(), every, 0.0)
    return torch.where(is_valid, pair.squeeze(1) - every, -torch.inf)


def _logsumexp(values: Tensor) -> Tensor:
    """Sum exponentials over the last axis; rows of nothing but -inf give -inf, and no gradient."""
    highest = values.amax(-1, keepdim=True).detach()
    highest = torch.where(highest.isfinite(), highest, 0.0)
    total = (values - highest).exp().sum(-1)
    logs = total.clamp(min=1e-38).log() + highest.squeeze(-1)
    return torch.where(total > 0, logs, -torch.inf)
