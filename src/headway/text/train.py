"""Learn a vocabulary: six kinds of tokenizers, put together from the `tokenizers` library.

The same texts make the same vocabulary, whatever the kind but "unigram": the library adds up its
probabilities in the order of a hash that is drawn anew in each process and each training, and rare
pieces come and go. `data/vocabularies.py` therefore keeps what was learned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from headway.errors import ConfigError, FileError, nearest
from headway.text.specials import ROLES, SPECIALS, Specials
from headway.text.tokenizer import Tokenizer, keep_apart, one_line, surround

# Learning merges takes time by the square of a word's length: a word of a million characters, as
# a damaged line brings, takes hours. Longer ones are learned from in pieces of so many.
_LONGEST_WORD = 1000
_LONG_WORD = re.compile(rf"\S{{{_LONGEST_WORD}}}(?=\S)")


def _apart() -> pre_tokenizers.PreTokenizer:
    # "<" never merges with what follows, so no learned piece can look like a special token.
    return pre_tokenizers.Split("<", "isolated")


def _character(unknown: str) -> tuple[Engine, Any]:
    engine = Engine(models.WordLevel({}, unk_token=unknown))
    engine.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    engine.decoder = decoders.Fuse()
    return engine, trainers.WordLevelTrainer()


def _metaspace(*splits: pre_tokenizers.PreTokenizer) -> pre_tokenizers.PreTokenizer:
    # Only a whole text begins a word without a space: what follows a mask may be a comma.
    spaces = pre_tokenizers.Metaspace(prepend_scheme="first")
    return pre_tokenizers.Sequence([spaces, *splits])


def _word(unknown: str) -> tuple[Engine, Any]:
    engine = Engine(models.WordLevel({}, unk_token=unknown))
    # The mark of a space stays on the word, so that decoding restores the spaces exactly.
    engine.pre_tokenizer = _metaspace(pre_tokenizers.Split(Regex(r"[^\w\s\u2581]"), "isolated"))
    engine.decoder = decoders.Metaspace()
    return engine, trainers.WordLevelTrainer()


def _bpe(unknown: str) -> tuple[Engine, Any]:
    engine = Engine(models.BPE(unk_token=unknown))
    engine.pre_tokenizer = _metaspace(
        _apart(), pre_tokenizers.Split(Regex(r"[.,!?;:]"), "isolated")
    )
    engine.decoder = decoders.Metaspace()
    return engine, trainers.BpeTrainer()


def _byte_bpe(unknown: str) -> tuple[Engine, Any]:
    engine = Engine(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [_apart(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    engine.decoder = decoders.ByteLevel()
    return engine, trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def _wordpiece(unknown: str) -> tuple[Engine, Any]:
    engine = Engine(models.WordPiece(unk_token=unknown))
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    engine.decoder = decoders.WordPiece()
    return engine, trainers.WordPieceTrainer()


def _unigram(unknown: str) -> tuple[Engine, Any]:
    engine = Engine(models.Unigram())
    engine.pre_tokenizer = _metaspace(_apart())
    engine.decoder = decoders.Metaspace()
    return engine, trainers.UnigramTrainer(unk_token=unknown)


def _learn(engine: Engine, trainer: Any, texts: Iterable[str], special: list[AddedToken]) -> None:
    trainer.special_tokens = special
    with one_line("the vocabulary cannot be learned"):
        engine.train_from_iterator(map(_break_words, texts), trainer)


def _learn_wordpiece(
    engine: Engine, trainer: Any, texts: Iterable[str], special: list[AddedToken]
) -> None:
    """Learn WordPiece in two passes, so that the same texts make the same vocabulary.

    The library numbers the letters inside of words, "##x", in the order of a hash, and of two
    equally frequent pairs it merges the one with the lower numbers. Here a first pass finds the
    letters, and the second is told their order; what it learns is otherwise the same.
    """
    if iter(texts) is texts:
        texts = list(texts)
    vocab_size, unknown = trainer.vocab_size, engine.model.unk_token  # pyright: ignore
    scratch = Engine(models.WordPiece(unk_token=unknown))
    scratch.normalizer, scratch.pre_tokenizer = engine.normalizer, engine.pre_tokenizer
    trainer.vocab_size = 0
    _learn(scratch, trainer, texts, special)
    known = {token.content for token in special}
    letters = sorted(scratch.get_vocab().keys() - known, key=lambda piece: (len(piece), piece))
    trainer.vocab_size = vocab_size
    _learn(scratch, trainer, texts, [*special, *map(AddedToken, letters)])
    # Not scratch itself, which takes the letters for special tokens.
    engine.model = models.WordPiece(scratch.get_vocab(), unk_token=unknown)


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
    kind: str,
    texts: Iterable[str],
    *,
    vocab_size: int,
    lowercase: bool = False,
    specials: Specials = SPECIALS["translation"],
) -> Tokenizer:
    """Learn a vocabulary.

    Args:
        kind: A key of KINDS.
        texts: Lines to learn from; WordPiece goes over them twice.
        vocab_size: Entries at most, special tokens included.
        lowercase: Fold case before anything else.
        specials: Special tokens, and where they stand.
    Returns:
        tokenizer: Its vocabulary may be smaller than asked for where the texts are few.
    Raises:
        ConfigError: for an unknown kind or a size that leaves no room for text.
    """
    check_kind(kind)
    if vocab_size < 8:
        raise ConfigError(f"text.vocab-size is {vocab_size}, but at least 8 is needed")
    engine, trainer = KINDS[kind](specials.unknown)
    trainer.vocab_size, trainer.show_progress = vocab_size - len(specials.last), False
    normal = [normalizers.NFC()] + ([normalizers.Lowercase()] if lowercase else [])
    engine.normalizer = normalizers.Sequence(normal)
    if kind == "wordpiece":
        # As published: no control characters, Chinese characters one by one, no accents where
        # case is folded.
        engine.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    if kind == "unigram":
        # The library would find special tokens of brackets in a text.
        engine.pre_tokenizer = pre_tokenizers.Sequence(
            [engine.pre_tokenizer, *keep_apart(specials.tokens)]
        )
    first = [_special(token, kind) for token in specials.first]
    try:
        (_learn_wordpiece if kind == "wordpiece" else _learn)(engine, trainer, texts, first)
    except FileError as error:
        raise ConfigError(error.message, hint="raise text.vocab-size") from error
    last = [_special(token, kind) for token in specials.last]
    engine.add_special_tokens([*first, *last])
    surround(engine, specials.single, specials.pair)
    tokenizer = Tokenizer(engine)
    if tokenizer.vocab_size > vocab_size:
        raise ConfigError(
            f"text.vocab-size is {vocab_size}, but single characters and special tokens alone take "
            f"{tokenizer.vocab_size}",
            hint="raise it, or take another text.tokenizer",
        )
    return tokenizer


def _special(token: str, kind: str) -> AddedToken:
    # A mask stands for a word with the space before it, where that belongs to the word's pieces.
    takes_space = token in ROLES["mask"] and kind not in ("character", "wordpiece")
    return AddedToken(token, special=True, lstrip=takes_space)
