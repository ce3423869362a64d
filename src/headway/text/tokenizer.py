"""Text <-> token ids: six kinds of tokenizers, trained in a run and saved as `tokenizer.json`.

The `tokenizers` library does the work; this file decides how each kind is put together, keeps
special tokens apart from text, and turns the library's failures into one line.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import Tokenizer as Engine

from headway.errors import ConfigError, FileError, HeadwayError, nearest

UNKNOWN, END, PAD = "<unk>", "</s>", "<pad>"
# Learning merges takes time by the square of a word's length: a word of a million characters, as
# a damaged line brings, takes hours. Longer ones are learned from in pieces of so many.
_LONGEST_WORD = 1000
_LONG_WORD = re.compile(rf"\S{{{_LONGEST_WORD}}}(?=\S)")


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


class Tokenizer:
    """Turn text into token ids and back.

    Special tokens typed by a user stay text: "</s>" in a sentence is four ordinary characters,
    unless `special` says that the caller means them.

    Args:
        engine: A tokenizer of the `tokenizers` library.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
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
        """Give the id of <pad>."""
        return self.id_of(PAD)

    @property
    def end_id(self) -> int:
        """Give the id of </s>, which ends every encoded text."""
        return self.id_of(END)

    @property
    def unknown_id(self) -> int | None:
        """Give the id of <unk>; None where every text can be written."""
        return self.find(UNKNOWN)

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
        return [
            Encoding(item.ids, item.offsets, item.tokens)
            for item in self._run(self._engine.encode_batch, texts, special=special)
        ]

    def encode_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode many texts to ids only, which is twice as fast."""
        return [item.ids for item in self._run(self._engine.encode_batch_fast, texts)]

    def _run(self, encode: Callable, texts: Sequence[str], *, special: bool = False) -> list[Any]:
        self._engine.encode_special_tokens = not special
        try:
            with _one_line("the tokenizer cannot encode this"):
                return encode(list(texts))
        finally:
            self._engine.encode_special_tokens = True

    def decode(self, ids: Sequence[int]) -> str:
        """Write ids as text, leaving special tokens out."""
        with _one_line("the tokenizer cannot decode this"):
            return self._engine.decode(list(ids), skip_special_tokens=True)

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Write many rows of ids as text, in parallel."""
        with _one_line("the tokenizer cannot decode this"):
            return self._engine.decode_batch([list(row) for row in rows], skip_special_tokens=True)

    def to_json(self) -> str:
        """Write `tokenizer.json`."""
        return self._engine.to_str(pretty=False)

    @staticmethod
    def from_json(text: str, *, where: str = "tokenizer.json") -> Tokenizer:
        """Read what `to_json` or another library wrote.

        Raises:
            FileError: if it cannot be read.
        """
        with _muted(), _one_line("the tokenizer cannot be read", where=where):
            tokenizer = Tokenizer(Engine.from_str(text))
            # Some files can be read and then fail at whatever text.
            tokenizer._engine.decode(tokenizer._engine.encode("").ids)
        return tokenizer

    @staticmethod
    def from_file(path: Path) -> Tokenizer:
        """Read a `tokenizer.json`."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise FileError(f"there is no {path.name}", where=str(path.parent)) from error
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"the tokenizer cannot be read: {error}", where=str(path)) from error
        return Tokenizer.from_json(text, where=str(path))


@contextlib.contextmanager
def _one_line(problem: str, *, where: str = "") -> Iterator[None]:
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
def _muted() -> Iterator[None]:
    """Keep the report that the library prints of a panic away from the user."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            null, shown = os.open(os.devnull, os.O_WRONLY), os.dup(2)
            stack.callback(os.close, null)
            stack.callback(os.close, shown)
            stack.callback(os.dup2, shown, 2)
            os.dup2(null, 2)
        yield


def _apart() -> pre_tokenizers.PreTokenizer:
    # "<" never merges with what follows, so no learned piece can look like a special token.
    return pre_tokenizers.Split("<", "isolated")


def _character(vocab_size: int) -> tuple[Engine, trainers.Trainer]:
    engine = Engine(models.WordLevel({}, unk_token=UNKNOWN))
    engine.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    engine.decoder = decoders.Fuse()
    return engine, trainers.WordLevelTrainer(vocab_size=vocab_size, show_progress=False)


def _metaspace(*splits: pre_tokenizers.PreTokenizer) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), *splits])


def _word(vocab_size: int) -> tuple[Engine, trainers.Trainer]:
    engine = Engine(models.WordLevel({}, unk_token=UNKNOWN))
    # The mark of a space stays on the word, so that decoding restores the spaces exactly.
    engine.pre_tokenizer = _metaspace(pre_tokenizers.Split(Regex(r"[^\w\s\u2581]"), "isolated"))
    engine.decoder = decoders.Metaspace()
    return engine, trainers.WordLevelTrainer(vocab_size=vocab_size, show_progress=False)


def _bpe(vocab_size: int) -> tuple[Engine, trainers.Trainer]:
    engine = Engine(models.BPE(unk_token=UNKNOWN))
    engine.pre_tokenizer = _metaspace(
        _apart(), pre_tokenizers.Split(Regex(r"[.,!?;:]"), "isolated")
    )
    engine.decoder = decoders.Metaspace()
    return engine, trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False)


def _byte_bpe(vocab_size: int) -> tuple[Engine, trainers.Trainer]:
    engine = Engine(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [_apart(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    engine.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return engine, trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False
    )


def _wordpiece(vocab_size: int) -> tuple[Engine, trainers.Trainer]:
    engine = Engine(models.WordPiece(unk_token=UNKNOWN))
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    engine.decoder = decoders.WordPiece()
    return engine, trainers.WordPieceTrainer(vocab_size=vocab_size, show_progress=False)


def _unigram(vocab_size: int) -> tuple[Engine, trainers.Trainer]:
    engine = Engine(models.Unigram())
    engine.pre_tokenizer = _metaspace(_apart())
    engine.decoder = decoders.Metaspace()
    return engine, trainers.UnigramTrainer(
        vocab_size=vocab_size, unk_token=UNKNOWN, show_progress=False
    )


def _break_words(text: str) -> str:
    return text if len(text) <= _LONGEST_WORD else _LONG_WORD.sub(r"\g<0> ", text)


KINDS = MappingProxyType(
    {
        "character": _character,
        "word": _word,
        "bpe": _bpe,
        "byte-bpe": _byte_bpe,
        "wordpiece": _wordpiece,
        "unigram": _unigram,
    }
)


def check_kind(kind: str) -> None:
    """Raise a ConfigError with the nearest names, unless it is a key of KINDS."""
    if kind not in KINDS:
        raise ConfigError(f"text.tokenizer is {kind!r}", hint=nearest(kind, KINDS, count=2))


def train_tokenizer(
    kind: str, texts: Iterable[str], *, vocab_size: int, lowercase: bool = False
) -> Tokenizer:
    """Learn a vocabulary for encoder-decoders: <unk> and </s> first, <pad> last.

    <pad> is last because CTranslate2 reads a Marian vocabulary so; </s> is added to the end of
    every encoded text.

    Args:
        kind: A key of KINDS.
        texts: Lines to learn from.
        vocab_size: Entries at most, special tokens included.
        lowercase: Fold case before anything else.
    Returns:
        tokenizer: Its vocabulary may be smaller than asked for where the texts are few.
    Raises:
        ConfigError: for an unknown kind or a size that leaves no room for text.
    """
    check_kind(kind)
    if vocab_size < 8:
        raise ConfigError(f"text.vocab-size is {vocab_size}, but at least 8 is needed")
    engine, trainer = KINDS[kind](vocab_size - 1)
    normal = [normalizers.NFC()] + ([normalizers.Lowercase()] if lowercase else [])
    engine.normalizer = normalizers.Sequence(normal)
    trainer.special_tokens = [  # pyright: ignore[reportAttributeAccessIssue]
        AddedToken(UNKNOWN, special=True),
        AddedToken(END, special=True),
    ]
    try:
        with _one_line("the vocabulary cannot be learned"):
            engine.train_from_iterator(map(_break_words, texts), trainer)
    except FileError as error:
        raise ConfigError(error.message, hint="raise text.vocab-size") from error
    engine.add_special_tokens([AddedToken(PAD, special=True)])
    engine.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", pair=f"$A {END} $B {END}",
        special_tokens=[(END, engine.token_to_id(END))],
    )  # fmt: skip
    tokenizer = Tokenizer(engine)
    if tokenizer.vocab_size > vocab_size:
        raise ConfigError(
            f"text.vocab-size is {vocab_size}, but single characters and special tokens alone take "
            f"{tokenizer.vocab_size}",
            hint="raise it, or take another text.tokenizer",
        )
    return tokenizer
