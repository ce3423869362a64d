"""Text <-> token ids, by a `tokenizer.json`.

The `tokenizers` library does the work; this file keeps special tokens apart from text, and turns
the library's failures into one line. `train.py` beside it learns vocabularies.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, pre_tokenizers, processors
from tokenizers import Tokenizer as Engine

from headway.errors import ConfigError, FileError, HeadwayError
from headway.text.align import begins_word
from headway.text.specials import ROLES

# After these no space stands before a word; the last is the space of byte-level pieces.
_OPENING = ("(", "[", "{", "<", "-", "/", " ", "\u0120")


@dataclass(frozen=True)
class Encoding:
    """A text as integers.

    Args:
        ids: Token ids.
        offsets: For each token, the characters [start, end) of the text that it stands for.
        tokens: The tokens as the tokenizer writes them.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]
    tokens: list[str]

    def cut(self, longest: int) -> Encoding:
        """Shorten it from behind, but for the last token, which ends every text."""
        if len(self.ids) <= longest:
            return self
        kept = [*range(longest - 1), len(self.ids) - 1]
        return Encoding(
            [self.ids[place] for place in kept],
            [self.offsets[place] for place in kept],
            [self.tokens[place] for place in kept],
        )


class Tokenizer:
    """Turn text into token ids and back.

    Special tokens typed by a user stay text: "</s>" in a sentence is four ordinary characters,
    unless `special` says that the caller means them.

    Args:
        engine: A tokenizer of the `tokenizers` library.
        names: Role ("pad", "unknown", "start", "end", "mask") -> token, where it is known.
    """

    def __init__(self, engine: Engine, names: Mapping[str, str] | None = None) -> None:
        self._engine = engine
        self._names = dict(names or {})
        # The library's own switches travel in tokenizer.json, and a batch of ours is never padded
        # or cut by it: we count what we cut.
        self._engine.no_padding()
        self._engine.no_truncation()
        self._engine.encode_special_tokens = True

    @property
    def vocab_size(self) -> int:
        """Count the entries, special tokens included."""
        return self._engine.get_vocab_size()

    @property
    def largest_id(self) -> int:
        """Give the largest id; without gaps it is the number of entries less 1."""
        return max(self._engine.get_vocab().values(), default=-1)

    @property
    def pad_id(self) -> int:
        """Give the id of <pad>; without one, as in GPT-2, that of the end: the mask hides it."""
        found = self.find(self.name_of("pad"))
        return self.end_id if found is None else found

    @property
    def end_id(self) -> int:
        """Give the id of </s> or [SEP], which ends every encoded text."""
        return self.id_of(self.name_of("end"))

    @property
    def start_id(self) -> int:
        """Give the id of <s> or [CLS], which begins every text of an encoder."""
        return self.id_of(self.name_of("start"))

    @property
    def mask_id(self) -> int:
        """Give the id of <mask> or [MASK]."""
        return self.id_of(self.name_of("mask"))

    @property
    def unknown_id(self) -> int | None:
        """Give the id of <unk>; None where every text can be written."""
        return self.find(self.name_of("unknown"))

    def name_of(self, role: str) -> str:
        """Say what this vocabulary calls "pad", "unknown", "start", "end" or "mask"."""
        known = ROLES[role]
        names = (self._names.get(role, known[0]), *known)
        return next((name for name in names if self.find(name) is not None), known[0])

    def special_names(self) -> dict[str, str]:
        """Give the role and the name of every special token that the vocabulary has."""
        names = {role: self.name_of(role) for role in ROLES}
        return {role: name for role, name in names.items() if self.find(name) is not None}

    @cached_property
    def special_ids(self) -> list[int]:
        """Give the ids of all special tokens."""
        added = self._engine.get_added_tokens_decoder()
        return sorted(number for number, token in added.items() if token.special)

    def find(self, token: str) -> int | None:
        """Look up a token that may be missing."""
        return self._engine.token_to_id(token)

    def id_of(self, token: str) -> int:
        """Look up a token.

        Raises:
            ConfigError: if the vocabulary lacks it.
        """
        found = self.find(token)
        if found is None:
            raise ConfigError(f"the tokenizer has no token {token!r}")
        return found

    def token_of(self, token_id: int) -> str:
        """Write one token as the vocabulary does; "" for an id it does not have."""
        return self._engine.id_to_token(token_id) or ""

    def encode(self, text: str, *, special: bool = False) -> Encoding:
        """Encode one text.

        Args:
            text: Any text.
            special: Read special tokens in the text as such.
        """
        return self.encode_batch([text], special=special)[0]

    def encode_batch(self, texts: Sequence[str], *, special: bool = False) -> list[Encoding]:
        """Encode many texts, in parallel."""
        items = self._run(self._engine.encode_batch, texts, special=special)
        return [Encoding(item.ids, item.offsets, item.tokens) for item in items]

    def encode_ids(
        self, texts: Sequence[str], *, bare: bool = False, special: bool = False
    ) -> list[list[int]]:
        """Encode many texts to ids only, which is twice as fast.

        Args:
            texts: Any texts.
            bare: Leave out the special tokens around a text.
            special: Read special tokens in the texts as such.
        """
        encode = partial(self._engine.encode_batch_fast, add_special_tokens=not bare)
        return [item.ids for item in self._run(encode, texts, special=special)]

    @cached_property
    def between(self) -> list[int]:
        """Give the special tokens between two texts: [SEP], or </s></s> as RoBERTa has it."""
        item = self._pair()
        first = [place for place, text in enumerate(item.sequence_ids) if text == 0]
        second = [place for place, text in enumerate(item.sequence_ids) if text == 1]
        return item.ids[first[-1] + 1 : second[0]] if first and second else [self.end_id]

    @cached_property
    def tells_segments(self) -> bool:
        """Say whether the second of two texts is marked as another segment."""
        return any(self._pair().type_ids)

    def _pair(self) -> Any:
        with one_line("the tokenizer cannot encode two texts"):
            return self._engine.encode("a", "a")

    @cached_property
    def continues_word(self) -> np.ndarray:
        """Say of every id whether its piece goes on with a word, (V) bool; added tokens do not.

        Spaces, marks, signs, Chinese and Japanese characters begin words, where a piece shows
        them: of a part of a character's bytes one cannot tell.
        """
        ids = range(self.largest_id + 1)
        pieces = [self.token_of(number) for number in ids]
        if self.marks_spaces:
            mark = "\u2581" if self._has_metaspace else "\u0120"
            goes_on = np.array([bool(piece) and not piece.startswith(mark) for piece in pieces])
            written = self.decode_batch([[number] for number in ids])
        else:
            goes_on = np.array([piece.startswith("##") for piece in pieces])
            written = [piece.removeprefix("##") for piece in pieces]
        goes_on &= ~np.array([begins_word(text) for text in written], dtype=bool)
        goes_on[list(self._engine.get_added_tokens_decoder())] = False
        return goes_on

    @cached_property
    def _has_metaspace(self) -> bool:
        return any(piece.startswith("\u2581") for piece in self._engine.get_vocab())

    @property
    def kind(self) -> str:
        """Name the model that cuts words into pieces: WordPiece, BPE, Unigram or WordLevel."""
        return type(self._engine.model).__name__

    @property
    def marks_spaces(self) -> bool:
        """Say whether a space belongs to the piece after it; else what goes on is marked."""
        return self.kind != "WordPiece"

    @cached_property
    def is_special(self) -> np.ndarray:
        """Say of every id whether it is a special token, (V) bool."""
        found = np.zeros(self.largest_id + 1, dtype=bool)
        found[[*self.special_ids, *map(self.id_of, self.special_names().values())]] = True
        return found

    def _run(self, encode: Callable, texts: Sequence[str], *, special: bool = False) -> list[Any]:
        self._engine.encode_special_tokens = not special
        try:
            with one_line("the tokenizer cannot encode this"):
                return encode(list(texts))
        finally:
            self._engine.encode_special_tokens = True

    def decode(self, ids: Sequence[int]) -> str:
        """Write ids as text, leaving special tokens out."""
        with one_line("the tokenizer cannot decode this"):
            if self._wide_words.isdisjoint(ids) or self._engine.decoder is None:
                return self._engine.decode(list(ids), skip_special_tokens=True)
            return self._engine.decoder.decode(self._with_spaces(ids))

    @cached_property
    def _wide_words(self) -> set[int]:
        """Collect the ids of added words that stand for a word with the space before it."""
        added = self._engine.get_added_tokens_decoder()
        return {number for number, token in added.items() if token.lstrip and not token.special}

    def _with_spaces(self, ids: Sequence[int]) -> list[str]:
        """Write ids as pieces, and before added words the space that they took.

        Whether there was one is not in the ids: a text that opens a bracket had none.
        """
        mark = "\u2581" if self._has_metaspace else " "
        pieces: list[str] = []
        for number in ids:
            piece = self.token_of(number)
            if number in self._wide_words:
                begins = pieces and not pieces[-1].endswith((mark, *_OPENING))
                piece = mark + piece if begins else piece
            if not (number < len(self.is_special) and self.is_special[number]):
                pieces.append(piece)
        return pieces

    def write_piece(self, token_id: int) -> str:
        """Write one token as it stands in a text: " cat" after a space, "##s" where it goes on.

        Special tokens, and bytes that make no character alone, are written as the vocabulary does.
        """
        piece = self.token_of(token_id)
        written = self.decode([token_id]).strip()
        if token_id < len(self.is_special) and self.is_special[token_id]:
            return piece
        if token_id in self._wide_words:
            return f" {piece}"
        if not self.marks_spaces or not written or "\ufffd" in written:
            return piece
        begins = not self.continues_word[token_id]
        return f" {written}" if begins and piece[:1] in ("\u2581", "\u0120") else written

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Write many rows of ids as text, in parallel."""
        if not self._wide_words.isdisjoint(itertools.chain.from_iterable(rows)):
            return [self.decode(row) for row in rows]
        with one_line("the tokenizer cannot decode this"):
            return self._engine.decode_batch([list(row) for row in rows], skip_special_tokens=True)

    def normalize(self, text: str) -> str:
        """Write a text as this tokenizer sees it, such as in lower case."""
        normalizer = self._engine.normalizer
        return text if normalizer is None else normalizer.normalize_str(text)

    def add_words(self, words: Sequence[str]) -> None:
        """Give whole words entries of their own, behind all others."""
        # Where a space belongs to the piece after it, it belongs to the word as well.
        self._engine.add_tokens(
            [AddedToken(word, single_word=True, lstrip=self.marks_spaces) for word in words]
        )
        self._forget()

    def add_special(self, tokens: Sequence[str]) -> None:
        """Give special tokens entries, behind all others."""
        self._engine.add_special_tokens([AddedToken(token, special=True) for token in tokens])
        self._forget()

    def _forget(self) -> None:
        for cached in ("continues_word", "is_special", "special_ids", "_wide_words"):
            self.__dict__.pop(cached, None)

    def words_beyond(self, other: Tokenizer) -> list[str]:
        """List the added words that another tokenizer lacks, in the order of their ids."""
        added = self._engine.get_added_tokens_decoder()
        words = [added[number].content for number in sorted(added)]
        return [word for word in words if other.find(word) is None]

    def to_json(self) -> str:
        """Write `tokenizer.json`."""
        return self._engine.to_str(pretty=False)

    @staticmethod
    def from_json(text: str, *, where: str = "tokenizer.json") -> Tokenizer:
        """Read what `to_json` or another library wrote.

        Args:
            text: The JSON.
            where: File, for messages.
        Raises:
            FileError: if it cannot be read.
        """
        with muted(), one_line("the tokenizer cannot be read", where=where):
            tokenizer = Tokenizer(Engine.from_str(text))
            tokenizer.try_out()
        return tokenizer

    def try_out(self) -> None:
        """Cut a text and write it again: some files can be read and then fail at whatever text."""
        self._engine.decode(self._engine.encode("a b").ids)

    @staticmethod
    def from_file(path: Path) -> Tokenizer:
        """Read a `tokenizer.json`."""
        if not path.exists():
            raise FileError(f"there is no {path.name}", where=str(path.parent))
        with one_line("the tokenizer cannot be read", where=str(path)):
            text = path.read_text(encoding="utf-8")
        return Tokenizer.from_json(text, where=str(path))


@contextlib.contextmanager
def one_line(problem: str, *, where: str = "") -> Iterator[None]:
    """Turn the library's failures into one line of ours."""
    try:
        yield
    except HeadwayError:
        raise
    except Exception as error:
        raise FileError(f"{problem}: {error}", where=where) from error
    except BaseException as error:
        # A crafted file can panic the Rust library; its exception is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise FileError(f"{problem}: the library gave up ({error})", where=where) from None


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Keep the report that the library prints of a panic away from the user."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            null, shown = os.open(os.devnull, os.O_WRONLY), os.dup(2)
            stack.callback(os.close, null)
            stack.callback(os.close, shown)
            stack.callback(os.dup2, shown, 2)
            os.dup2(null, 2)
        yield


def keep_apart(tokens: Sequence[str]) -> list[pre_tokenizers.PreTokenizer]:
    """Cut what looks like a special token after its first character: typed by a user it is text.

    SentencePiece never finds such pieces in a text; the tokenizers library would.

    Args:
        tokens: Special tokens.
    Returns:
        steps: To put behind the other pre-tokenizers; none where there is nothing to do.
    """
    long = [piece for piece in tokens if len(piece) > 1]
    if not long:
        return []
    starts = "|".join(f"{re.escape(piece[0])}(?={re.escape(piece[1:])})" for piece in long)
    return [pre_tokenizers.Split(Regex(starts), "isolated")]


def surround(engine: Engine, single: str, pair: str) -> None:
    """Let a tokenizer put special tokens around one text, and around two.

    Args:
        engine: A tokenizer of the `tokenizers` library.
        single: As the library writes templates.
        pair: Likewise, with every token that `single` has.
    Raises:
        FileError: if the vocabulary lacks one.
    """
    tokens = sorted({part.split(":")[0] for part in pair.split() if not part.startswith("$")})
    missing = [token for token in tokens if engine.token_to_id(token) is None]
    if missing:
        raise FileError(f"the vocabulary lacks {' and '.join(missing)}")
    engine.post_processor = processors.TemplateProcessing(
        single=single,
        pair=pair,
        special_tokens=[(token, engine.token_to_id(token)) for token in tokens],
    )
