"""Special tokens: what families call them, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

UNKNOWN, END, PAD, ENDOFTEXT = "<unk>", "</s>", "<pad>", "<|endoftext|>"
# What stands for the spans that T5's pretraining cuts out; the first has the highest id.
SENTINELS = tuple(f"<extra_id_{number}>" for number in range(100))
# Before, between and behind texts that a GPT is to understand; the last one's state is looked at.
GPT_MARKS = ("<|start|>", "<|delimiter|>", "<|extract|>")
# Role -> what published families call it; the first that the vocabulary has is meant.
ROLES = MappingProxyType(
    {
        "pad": ("<pad>", "[PAD]"),
        "unknown": ("<unk>", "[UNK]"),
        "start": ("[CLS]", "<s>", ENDOFTEXT),
        "end": ("[SEP]", "</s>", ENDOFTEXT),
        "mask": ("[MASK]", "<mask>"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Specials:
    """Special tokens of a family: where they stand in the vocabulary and around a text.

    Args:
        first: Tokens with the first ids.
        last: Tokens with the last ids.
        unknown: What an unknown piece becomes.
        single: A text as the tokenizers library writes templates.
        pair: Two texts, likewise; ":1" marks the second segment.
    """

    first: tuple[str, ...]
    last: tuple[str, ...] = ()
    unknown: str = UNKNOWN
    single: str
    pair: str

    @property
    def tokens(self) -> tuple[str, ...]:
        """List them all."""
        return (*self.first, *self.last)


_SINGLE, _PAIR = "[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"
# "translation" puts <pad> last because CTranslate2 reads a Marian vocabulary so.
SPECIALS = MappingProxyType(
    {
        "translation": Specials(
            first=(UNKNOWN, END), last=(PAD,), single=f"$A {END}", pair=f"$A {END} $B {END}"
        ),
        "bert": Specials(
            first=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
            unknown="[UNK]",
            single=_SINGLE,
            pair=_PAIR,
        ),
        "roberta": Specials(
            first=("<s>", PAD, END, UNKNOWN),
            last=("<mask>",),
            single=f"<s> $A {END}",
            pair=f"<s> $A {END} {END} $B {END}",
        ),
        "gpt": Specials(first=(ENDOFTEXT, UNKNOWN), single="$A", pair="$A $B"),
        "llama": Specials(first=(UNKNOWN, "<s>", END), single="<s> $A", pair="<s> $A <s> $B"),
        "t5": Specials(
            first=(PAD, END, UNKNOWN),
            last=SENTINELS[::-1],
            single=f"$A {END}",
            pair=f"$A {END} $B {END}",
        ),
        "albert": Specials(
            first=(PAD, UNKNOWN, "[CLS]", "[SEP]", "[MASK]"), single=_SINGLE, pair=_PAIR
        ),
    }
)
