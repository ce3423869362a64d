"""What is hidden from a model that learns to fill it in: tokens, or spans of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

# Of the chosen tokens: shares that become the mask, and another token; the rest stays.
_MASK_RATIO, _RANDOM_RATIO = 0.8, 0.1


@dataclass(frozen=True, kw_only=True)
class Masking:
    """How tokens are chosen and hidden.

    Args:
        ratio: Share of tokens that are chosen.
        mask_id: Id of the mask.
        is_special: (V) bool. Tokens that are never chosen, and never put in another's place.
        continues: (V) bool. Pieces that go on with a word: words are then chosen whole, if one
            is short enough; None chooses pieces.
    """

    ratio: float
    mask_id: int
    is_special: np.ndarray
    continues: np.ndarray | None = None

    @cached_property
    def ordinary(self) -> np.ndarray:
        """Ids that can stand in another's place."""
        return np.flatnonzero(~self.is_special)


@dataclass(frozen=True)
class Masked:
    """A text with something hidden.

    Args:
        ids: (T) int64. What the model sees.
        places: (C) int64. What it shall say: the places chosen, in order.
    """

    ids: np.ndarray
    places: np.ndarray


def mask_tokens(ids: np.ndarray, masking: Masking, random: np.random.Generator) -> Masked:
    """Choose tokens; hide most of them, change some, leave some as they are.

    Of the chosen ones 80 % become the mask, 10 % another token, 10 % stay. At least one token is
    chosen where there is one to choose.

    Args:
        ids: (T) int64. Token ids, special tokens included.
        masking: Says how.
        random: Decides.
    Paper: Devlin et al. 2019 (arXiv 1810.04805), section 3.1 and appendix A.1.
    """
    free = np.flatnonzero(~masking.is_special[ids])
    if not len(free):
        return Masked(ids, free)
    wanted = max(1, round(masking.ratio * len(free)))
    if masking.continues is None:
        chosen = random.permutation(free)[:wanted]
    else:
        chosen = _whole_words(free, masking.continues[ids], wanted, random)
    chosen = np.sort(chosen)
    fate = random.random(len(chosen))
    hidden = ids.copy()
    hidden[chosen[fate < _MASK_RATIO]] = masking.mask_id
    changed = chosen[(fate >= _MASK_RATIO) & (fate < _MASK_RATIO + _RANDOM_RATIO)]
    hidden[changed] = random.choice(masking.ordinary, size=len(changed))
    return Masked(hidden, chosen)


def _whole_words(
    free: np.ndarray, continues: np.ndarray, wanted: int, random: np.random.Generator
) -> np.ndarray:
    """Choose words in random order as long as all their pieces fit.

    Where none does, as in a text without spaces, pieces are chosen: a model that sees nothing of a
    text learns nothing from it.
    """
    begins = ~continues[free]
    # After a special token a word begins, whatever its piece looks like.
    begins[0] = True
    begins[1:] |= np.diff(free) > 1
    words = begins.cumsum() - 1
    sizes = np.bincount(words)
    chosen = np.zeros(len(sizes), dtype=bool)
    room = wanted
    for word in random.permutation(len(sizes)):
        if sizes[word] <= room:
            chosen[word] = True
            room -= sizes[word]
        if not room:
            break
    if not chosen.any():
        return random.permutation(free)[:wanted]
    return free[chosen[words]]


@dataclass(frozen=True, kw_only=True)
class Spans:
    """How much is cut out of a text.

    Args:
        ratio: Share of tokens.
        mean_length: Tokens of a span, on average.
    Paper: Raffel et al. 2020 (arXiv 1910.10683), section 3.1.4, and the authors' code.
    """

    ratio: float
    mean_length: float

    def sizes(self, lengths: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Say how many tokens are cut out of texts, and in how many spans.

        Args:
            lengths: (N) int64. Tokens of each text, at least 2.
        Returns:
            cut, count: (N) int64 each.
        """
        full = np.asarray(lengths)
        cut = np.clip(np.rint(full * self.ratio).astype(np.int64), 1, full - 1)
        count = np.rint(cut / self.mean_length).astype(np.int64)
        return cut, np.clip(count, 1, np.minimum(cut, full - cut))

    def cut(
        self, ids: np.ndarray, sentinels: np.ndarray, random: np.random.Generator
    ) -> tuple[list[int], list[int]]:
        """Cut spans out of a text: what is kept and what is cut out take turns, kept first.

        Args:
            ids: (T) int64. At least 2.
            sentinels: (S) int64. Ids of what stands for the spans, in order.
            random: Decides.
        Returns:
            source, target: The text with a sentinel in each span's place; each sentinel, and what
                it stands for.
        """
        cut, count = (int(size) for size in self.sizes(len(ids)))
        source: list[int] = []
        target: list[int] = []
        place = 0
        parts = zip(_split(len(ids) - cut, count, random), _split(cut, count, random), strict=True)
        for sentinel, (kept, gone) in zip(sentinels.tolist(), parts, strict=False):
            end = place + kept
            source += [*ids[place:end].tolist(), sentinel]
            target += [sentinel, *ids[end : end + gone].tolist()]
            place = end + gone
        return source, target


def _split(total: int, count: int, random: np.random.Generator) -> np.ndarray:
    """Split a number into so many parts of at least 1, each way as probable as any other."""
    cuts = np.sort(random.permutation(total - 1)[: count - 1]) + 1
    return np.diff(cuts, prepend=0, append=total)
