"""Masked language modeling: fill in what was hidden; beside it, tell pairs of texts apart.

The objective that BERT, RoBERTa, ALBERT and their relatives are pretrained with. `pair` adds
next-sentence prediction (BERT) or sentence order (ALBERT); masks are drawn anew in each pass
(RoBERTa) or once (the first BERT).

Needs: running text, plain (a blank line begins a new document) or JSONL with `text`.
Compare: to generate text, train a causal language model instead.

Example:
    >>> task = MaskedLm(pair="next-sentence")
    >>> task.head
    'masked_lm_pair'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F

from headway.data.batch import Batch, Example
from headway.data.corrupt import Masking, mask_tokens
from headway.data.order import generator
from headway.data.pairs import PAIRS, Plan, plan_pairs, plan_texts
from headway.data.store import Store
from headway.errors import ConfigError, DataError, RequestError
from headway.layers.heads import LinearHead
from headway.layers.losses import IGNORE, Loss, count_correct, linear_cross_entropy
from headway.tasks._corpus import OnCorpus, OnDemand, no_text
from headway.tasks._examples import collate_texts, make_example
from headway.tasks._filling import fill_masks, tell_pairs
from headway.tasks._settings import at_least, must_be, one_of
from headway.tasks._task import (
    NO_CHANCE,
    Answer,
    Body,
    Draw,
    Encoded,
    Head,
    Layout,
    Marks,
    OnProgress,
    Progress,
    Rows,
    Setting,
)
from headway.tasks._texts import needed, start_head, where_asked
from headway.text.tokenizer import Tokenizer

_TOKENS_AT_ONCE = 1 << 20
_MASKINGS = ("dynamic", "static")
# Names of the two classes of a pair, by objective; 0 is the true one.
_PAIR_NAMES: Mapping[str, tuple[str, str]] = {
    "next-sentence": ("next", "not next"),
    "sentence-order": ("in order", "swapped"),
}


@dataclass(frozen=True, kw_only=True)
class MaskedLm(OnCorpus):
    """Learn p(token | everything around it), and optionally whether two texts belong together."""

    mask_ratio: float = 0.15
    """Share of tokens that the model shall say."""
    masking: str = "dynamic"
    """dynamic (other masks in each pass) or static (drawn once)."""
    whole_words: bool = False
    """Hide all pieces of a word together."""
    pair: str = "none"
    """none, next-sentence or sentence-order: what is learned beside."""
    max_tokens: int = 128
    """Length of an example, special tokens included."""
    short_tokens: int = 0
    """Length of examples in the first passes of a training; 0: all are as long."""
    short_epochs: int = 1
    """How many passes those are."""
    num_best: int = 5
    """Fillings given for each mask."""

    optional: ClassVar[tuple[str, ...]] = ("text_pair",)
    heads: ClassVar[tuple[str, ...]] = ("masked_lm", "masked_lm_pair", "pair", "body")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the scores, the one that chooses the best model first."""
        of_pairs = () if self.pair == "none" else ("pair_accuracy",)
        return ("perplexity", "masked_accuracy", *of_pairs)

    @property
    def head(self) -> str:
        """The masked-LM head, with a pair head beside it where pairs are learned."""
        return "masked_lm" if self.pair == "none" else "masked_lm_pair"

    @staticmethod
    def settings_of(
        kind: str, architecture: str, labels: Sequence[str], problem: str
    ) -> dict[str, Any]:
        """Learn pairs where the head tells them apart: ALBERT's by order, the others' by place."""
        if kind not in ("masked_lm_pair", "pair"):
            return {}
        return {"pair": "sentence-order" if architecture == "albert" else "next-sentence"}

    def make_head(self, body: Body, labels: Sequence[str]) -> Head:
        """Build the layer that tells pairs apart."""
        if self.pair == "none":
            return None
        if body.config.type_vocab_size < 2:
            raise ConfigError(
                f"task.pair is {self.pair!r}, but the model tells no segments apart",
                hint="model.type-vocab-size 2 is needed",
            )
        return start_head(LinearHead(body.config.hidden_size, 2), body)

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        problems = must_be(self, "mask_ratio", "between 0 and 1", is_right=0 < self.mask_ratio < 1)
        problems += one_of(self, {"masking": _MASKINGS, "pair": PAIRS})
        problems += at_least(self, {"max_tokens": 8})
        bounds = f"0, or from 8 to max_tokens, {self.max_tokens}"
        fits = not self.short_tokens or 8 <= self.short_tokens <= self.max_tokens
        problems += must_be(self, "short_tokens", bounds, is_right=fits)
        return problems + at_least(self, {"short_epochs": 1, "num_best": 1})

    def encode_corpus(
        self, store: Store, setting: Setting, *, seed: int = 0, is_training: bool = False
    ) -> Encoded:
        """Cut a corpus into examples.

        A training may begin with short ones: among few words the neighbors that a hidden word
        depends on are soon found, among many the loss stays long at that of single words
        (benchmarks/RESULTS.md; after Press et al. 2021, arXiv 2012.15832, section 4, and Devlin
        et al. 2019, appendix A.2, who end with the long ones).

        Args:
            store: The corpus.
            setting: Tokenizer and limits.
            seed: Of the run; pairs depend on it.
            is_training: The first passes are of short examples, if the task has such.
        Raises:
            DataError: if nothing comes out, or no token that could be hidden.
        """
        examples = self._plan(store, setting, seed, is_training, 0)
        if not len(examples.examples):
            raise no_text("pairs need two tokens at least; is the text in the tokenizer's script?")
        if not _has_ordinary(store, setting.tokenizer):
            raise DataError(
                f"the corpus has {len(store.ids):,} tokens, but the vocabulary knows none of them: "
                "nothing could be hidden",
                where=", ".join(store.info.files),
                hint="is the text in the tokenizer's script?",
            )
        return examples

    def _plan(
        self, store: Store, setting: Setting, seed: int, is_training: bool, epoch: int
    ) -> Encoded:
        longest = min(self.max_tokens, setting.max_tokens)
        has_short = is_training and self.short_tokens > 0
        if has_short and epoch < self.short_epochs:
            longest = min(longest, self.short_tokens)
        specials = setting.marks.count(paired=self.pair != "none")
        budget = longest - specials
        if self.pair == "none":
            plan = plan_texts(store, budget=budget)
        else:
            # Where masks are static, so are pairs.
            drawn = epoch if self.masking == "dynamic" else 0
            plan = plan_pairs(store, budget=budget, kind=self.pair, seed=seed, epoch=drawn)
        lengths = plan.lengths + specials
        next_plan = None
        if has_short or (self.pair != "none" and self.masking == "dynamic"):
            next_plan = partial(self._plan, store, setting, seed, is_training)
        return Encoded(
            examples=OnDemand(plan.ranges, partial(_example, store, plan, setting.marks)),
            lengths=lengths[:, None],
            full_lengths={"text": lengths},
            limits={"text": longest},
            unknown={"text": store.info.unknown},
            plan=next_plan,
            epoch=epoch,
            alike_from=self.short_epochs if has_short else 0,
        )

    def collate(self, rows: Layout, setting: Setting, draw: Draw = NO_CHANCE) -> Batch:
        """Lay examples out in rows and hide some of their tokens."""
        tokenizer = setting.tokenizer
        masking = Masking(
            ratio=self.mask_ratio,
            mask_id=tokenizer.mask_id,
            is_special=tokenizer.is_special,
            continues=tokenizer.continues_word if self.whole_words else None,
        )
        epoch = draw.epoch if self.masking == "dynamic" else 0

        def hide(example: Example) -> Example:
            ids = np.asarray(example.input_ids)
            found = mask_tokens(ids, masking, generator(draw.seed, epoch, example.index, 3))
            wanted = np.full(len(ids), IGNORE)
            wanted[found.places] = ids[found.places]
            return replace(example, input_ids=found.ids.tolist(), token_labels=wanted.tolist())

        return collate_texts([[hide(example) for example in row] for row in rows], setting)

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the hidden tokens, and the pairs."""
        counts = {"masked_lm": float((needed(batch.labels) != IGNORE).sum())}
        if batch.document_labels is not None:
            counts["pair"] = float(len(batch.document_labels))
        return counts

    def losses(self, body: Body, head: Head, batch: Batch) -> tuple[Loss, ...]:
        """Sum the cross-entropy of the hidden tokens, and of the pairs, in nats."""
        if body.masked_lm is None:
            raise RequestError("this model has no masked-LM head, and so no loss of masked words")
        memory = body.encode(batch.source)
        labels = needed(batch.labels)
        asked, wanted = where_asked(memory.hidden, labels, labels != IGNORE)
        hidden, output = body.masked_lm.prepare(asked), body.masked_lm.output
        result = linear_cross_entropy(hidden, output.weight, output.bias, wanted)
        correct = None
        if not body.training:
            correct = count_correct(hidden, output.weight, output.bias, wanted)
        count = float(len(wanted))
        losses = [Loss(name="masked_lm", total=result.total, count=count, correct=correct)]
        if batch.document_labels is not None:
            logits = head(body.pooler(memory.hidden, memory.documents)).float()
            classes = batch.document_labels
            total, count = F.cross_entropy(logits, classes, reduction="sum"), float(len(classes))
            correct = None if body.training else float((logits.argmax(-1) == classes).sum())
            losses.append(Loss(name="pair", total=total, count=count, correct=correct))
        return tuple(losses)

    def predict(
        self, body: Body, head: Head, rows: Rows, setting: Setting, progress: OnProgress = None
    ) -> list[Answer]:
        """Fill in the masks of texts, and tell pairs of texts apart.

        Returns:
            answers: For each record "prediction", the text with its masks filled one by one as
                each is most probable, and "masks": for each mask the best tokens, each with
                "token" and "probability". For a record with "text_pair" the name of the more
                probable class ("next", "not next"; "in order", "swapped") and "probabilities".
                "cut" where the text is longer than the model reads.
        Raises:
            RequestError: if the model has no head for what is asked.
        """
        pairs = [index for index, row in enumerate(rows) if row.get("text_pair") is not None]
        texts = [index for index, row in enumerate(rows) if row.get("text_pair") is None]
        answers: list[Answer] = [{} for _ in rows]
        asked_texts, asked_pairs = ([rows[i] for i in places] for places in (texts, pairs))
        names = _PAIR_NAMES.get(self.pair)
        filled = fill_masks(body, asked_texts, setting, num_best=self.num_best)
        told = tell_pairs(body, head, asked_pairs, setting, names=names)
        done = 0
        for places, found in ((texts, filled), (pairs, told)):
            for index, answer in found:
                answers[places[index]] = answer
                done += 1
                if progress is not None:
                    progress(Progress(done=done, total=len(rows)))
        return answers

    @staticmethod
    def tiny_rows() -> list[dict[str, Any]]:
        """Give documents that are learned in seconds: all words of a line are the same."""
        words = ("red", "blue", "black", "white")
        lines = [" ".join([words[i % 4]] * (6 + i % 5)) for i in range(48)]
        return [{"text": "\n".join(lines[i : i + 2])} for i in range(0, 48, 2)]


def _has_ordinary(store: Store, tokenizer: Tokenizer) -> bool:
    """Say whether any token is neither unknown nor special; one near the beginning is enough."""
    return any(
        not tokenizer.is_special[store.ids[start : start + _TOKENS_AT_ONCE]].all()
        for start in range(0, len(store.ids), _TOKENS_AT_ONCE)
    )


def _example(store: Store, plan: Plan, marks: Marks, index: int, ranges: list[int]) -> Example:
    """Give an example of a plan."""
    first, last, other, other_last = ranges
    a, b = (store.ids[x:y].tolist() for x, y in ((first, last), (other, other_last)))
    if other == other_last:
        return make_example(index, a, marks=marks)
    return replace(make_example(index, a, b, marks=marks), label=int(plan.labels[index]))
