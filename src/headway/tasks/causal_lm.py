"""Causal language modeling: say the next token, all through running text; then go on with texts.

The objective that GPT and its relatives are pretrained with. Documents are cut into windows, which
begin elsewhere in every pass; no token sees another document, packed or not.

Needs: running text, plain (each file is one document, its lines kept) or JSONL with `text`.
Compare: to fill in words or to tell texts apart, a masked language model reads both ways.

Example:
    >>> task = CausalLm(temperature=0.0)
    >>> task.head
    'causal_lm'
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from headway.data.batch import Example
from headway.data.order import generator
from headway.data.store import Store
from headway.tasks._corpus import OnCorpus, OnDemand, no_text
from headway.tasks._decoders import OnDecoder
from headway.tasks._settings import at_least
from headway.tasks._task import Answer, Body, Encoded, Head, OnProgress, Rows, Setting
from headway.tasks._writing import prompt_ids, write
from headway.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class CausalLm(OnCorpus, OnDecoder):
    """Learn p(token | everything before it), and go on with texts."""

    max_tokens: int = 256
    """Length of a window."""

    keeps_lines: ClassVar[bool] = True

    metrics: ClassVar[tuple[str, ...]] = ("perplexity", "bits_per_byte", "causal_accuracy")

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        return super().check() + at_least(self, {"max_tokens": 2})

    def encode_corpus(
        self, store: Store, setting: Setting, *, seed: int = 0, is_training: bool = False
    ) -> Encoded:
        """Cut a corpus into windows.

        Args:
            store: The corpus.
            setting: Tokenizer and limits.
            seed: Of the run; where windows begin in training depends on it.
            is_training: Windows begin elsewhere in every pass.
        Raises:
            DataError: if there is no text.
        """
        if not len(store.ids):
            raise no_text()
        return self._plan(store, setting, seed, is_training, 0)

    def _plan(
        self, store: Store, setting: Setting, seed: int, is_training: bool, epoch: int
    ) -> Encoded:
        longest = min(self.max_tokens, setting.max_tokens)
        shift = int(generator(seed, epoch, 4).integers(longest)) if is_training else 0
        windows = plan_windows(store, longest=longest, shift=shift)
        lengths = windows[:, 2] - windows[:, 1]
        return Encoded(
            examples=_windows(store, windows, setting.tokenizer),
            lengths=lengths[:, None],
            full_lengths={"text": lengths},
            limits={"text": longest},
            unknown={"text": store.info.unknown},
            plan=partial(self._plan, store, setting, seed, is_training) if is_training else None,
            epoch=epoch,
            num_bytes=store.info.bytes,
        )

    def predict(
        self, body: Body, head: Head, rows: Rows, setting: Setting, progress: OnProgress = None
    ) -> list[Answer]:
        """Go on with texts.

        Returns:
            answers: For each record "prediction", what follows its text; "tokens", of which it is
                made; "log_probability", of all of them; "ended_by", "end", "stop" or "length".
        Raises:
            RequestError: if a text leaves no room to go on.
        """
        prompts = [prompt_ids(setting.tokenizer, row["text"]) for row in rows]
        answers: list[Answer] = [{} for _ in rows]
        for place, stream in write(body, prompts, setting, self, progress=progress):
            answers[place] = stream.to_answer()
        return answers

    @staticmethod
    def tiny_rows() -> list[dict[str, str]]:
        """Give documents that are learned in seconds: every word follows from the one before."""
        return [{"text": " ".join(["red", "blue", "black", "white"] * 3)} for _ in range(24)]


def plan_windows(store: Store, *, longest: int, shift: int) -> np.ndarray:
    """Cut every document into windows, each token of which is said once.

    A document is a stream: the token that begins a text, its tokens, and the one that ends it.
    A window s to e is read, and s + 1 to e + 1 are to be said.

    Args:
        store: The corpus.
        longest: Tokens of a window.
        shift: Where the first window of a document ends that is longer than one.
    Returns:
        windows: (N, 3) int64. Document, and s and e of its stream.
    """
    starts = np.asarray(store.segments)[np.asarray(store.documents)]
    sizes = np.diff(starts) + 1
    documents = np.arange(len(sizes))
    short = sizes <= longest
    zeros = np.zeros(int(short.sum()), np.int64)
    found = [np.stack([documents[short], zeros, sizes[short]], axis=1)]
    for document in documents[~short]:
        cuts = np.arange(shift or longest, int(sizes[document]), longest)
        edges = np.concatenate([[0], cuts, [sizes[document]]])
        numbers = np.full(len(edges) - 1, document)
        found.append(np.stack([numbers, edges[:-1], edges[1:]], axis=1))
    windows = np.concatenate(found)
    return windows[np.lexsort((windows[:, 1], windows[:, 0]))]


def _windows(store: Store, windows: np.ndarray, tokenizer: Tokenizer) -> OnDemand:
    """Give windows of a corpus as examples."""
    starts = np.asarray(store.segments)[np.asarray(store.documents)]
    begin_id, end_id = tokenizer.start_id, tokenizer.end_id

    def make(index: int, window: list[int]) -> Example:
        document, start, end = window
        first, last = starts[document], starts[document + 1]
        # Place p of the stream is token p - 1 of the document.
        ids = store.ids[first + max(start - 1, 0) : min(first + end, last)].tolist()
        stream = [begin_id, *ids] if start == 0 else ids
        if first + end > last:
            stream.append(end_id)
        return Example(index, stream[:-1], token_labels=stream[1:])

    return OnDemand(windows, make)
