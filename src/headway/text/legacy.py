"""Vocabularies of model folders: `tokenizer.json`, and what there was before it.

tokenizer_config.json beside it may say otherwise, and is heard as transformers hears it. The older
ones (vocab.txt, vocab.json with merges.txt, *.model) are put together as their authors' code cuts
text, so that old checkpoints give the ids that they were trained with.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Engine

from headway.errors import FileError
from headway.text.tokenizer import Tokenizer, keep_apart, muted, one_line
from headway.text.train import surround

_SENTENCEPIECE = ("spiece.model", "tokenizer.model")
# What a vocabulary is read from, in words.
VOCABULARIES = (
    "tokenizer.json, vocab.txt, vocab.json with merges.txt, spiece.model or tokenizer.model"
)
# Of a piece in a SentencePiece model.
_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3
# Of a whole model.
_UNIGRAM = 1


def read_tokenizer(
    folder: Path, *, names: Mapping[str, str], settings: Mapping[str, Any]
) -> Tokenizer:
    """Read whatever vocabulary a model folder has.

    Args:
        folder: With tokenizer.json, or one of the older files.
        names: Role -> special token, where it is known.
        settings: tokenizer_config.json; do_lower_case and its like are of use here.
    Raises:
        FileError: if there is none, or it cannot be read.
    """
    found = _find(folder)
    if found is None:
        raise FileError(f"there is no {VOCABULARIES}", where=str(folder))
    what, path, make = found
    with muted(), one_line(f"the {what} cannot be read", where=str(path)):
        engine = make(path, names, settings)
        _add_listed(engine, _listed_tokens(folder, settings), where=str(folder))
        _add_more(engine, settings)
        tokenizer = Tokenizer(engine, names)
        tokenizer.try_out()
    return tokenizer


def has_vocabulary(folder: Path) -> bool:
    """Say whether a model folder has a vocabulary, of today or of old."""
    return _find(folder) is not None


def _find(folder: Path) -> tuple[str, Path, Callable[..., Engine]] | None:
    """Find the file, and what reads it."""
    if (folder / "tokenizer.json").is_file():
        return "tokenizer", folder / "tokenizer.json", _whole
    if (folder / "vocab.txt").is_file():
        return "vocabulary", folder / "vocab.txt", _wordpiece
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return "vocabulary", folder, _byte_bpe
    for name in _SENTENCEPIECE:
        if (folder / name).is_file():
            return "SentencePiece model", folder / name, _unigram
    return None


def _listed_tokens(folder: Path, settings: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Find the tokens that a folder adds to its vocabulary: id -> how it is written."""
    found: dict[int, dict[str, Any]] = {}
    path = folder / "added_tokens.json"
    listed = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for token, number in listed.items():
        found[int(number)] = {"content": token}
    decoder = settings.get("added_tokens_decoder")
    for number, written in (decoder if isinstance(decoder, dict) else {}).items():
        if isinstance(written, dict) and isinstance(written.get("content"), str):
            found[int(number)] = written
    return found


def _add_listed(engine: Engine, listed: Mapping[int, Mapping[str, Any]], *, where: str) -> None:
    """Add tokens at the ids that the folder gives them.

    Raises:
        FileError: if one cannot have its id.
    """
    added = {token.content for token in engine.get_added_tokens_decoder().values()}
    for number in sorted(listed):
        written = listed[number]
        if len(written) == 1 and written["content"] in added:
            # A name alone changes nothing of a token that is there.
            continue
        token = _added(written)
        (engine.add_special_tokens if written.get("special") else engine.add_tokens)([token])
        if (place := engine.token_to_id(written["content"])) != number:
            raise FileError(
                f"{written['content']!r} is to be token {number}, but comes out as {place}",
                where=where,
            )


def _added(written: Mapping[str, Any], **usual: bool) -> AddedToken:
    flags = ("special", "lstrip", "rstrip", "single_word", "normalized")
    given = {name: bool(written[name]) for name in flags if name in written}
    return AddedToken(written["content"], **usual | given)


def _add_more(engine: Engine, settings: Mapping[str, Any]) -> None:
    """Add special tokens that have no id in the settings: they come last."""
    for key in ("additional_special_tokens", "extra_special_tokens"):
        listed = settings.get(key)
        for token in listed if isinstance(listed, list) else []:
            written = token if isinstance(token, dict) else {"content": token}
            added = {token.content for token in engine.get_added_tokens_decoder().values()}
            if written["content"] not in added:
                engine.add_special_tokens([_added(written, special=True)])


def _whole(path: Path, names: Mapping[str, str], settings: Mapping[str, Any]) -> Engine:
    """Whatever tokenizer.json says, but for what BERT's settings say otherwise.

    Differs: settings that are not written change nothing; transformers takes BERT's own instead.
    """
    engine = Engine.from_file(str(path))
    old = engine.normalizer
    heard = settings.get("tokenizer_class") not in ("PreTrainedTokenizerFast", "TokenizersBackend")
    if heard and isinstance(old, normalizers.BertNormalizer):
        engine.normalizer = _bert_normalizer(settings, old)
    return engine


def _bert_normalizer(
    settings: Mapping[str, Any], usual: normalizers.BertNormalizer
) -> normalizers.BertNormalizer:
    """BERT's cleaning, as the settings say; what they leave out is as usual."""
    return normalizers.BertNormalizer(
        clean_text=usual.clean_text,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", usual.handle_chinese_chars),
        strip_accents=settings.get("strip_accents", usual.strip_accents),
        lowercase=settings.get("do_lower_case", usual.lowercase),
    )


def _add_specials(engine: Engine, tokens: Sequence[str], wide: Set[str] = frozenset()) -> None:
    """Mark special tokens as such; the wide ones take the space before them."""
    engine.add_special_tokens(
        [
            AddedToken(token, special=True, lstrip=token in wide)
            for token in dict.fromkeys(tokens)
            if engine.token_to_id(token) is not None
        ]
    )


def _wordpiece(path: Path, names: Mapping[str, str], settings: Mapping[str, Any]) -> Engine:
    """BERT's: clean, lower-case, cut at marks, then the longest pieces first."""
    unknown = names.get("unknown", "[UNK]")
    start, end = names.get("start", "[CLS]"), names.get("end", "[SEP]")
    lines = path.read_text(encoding="utf-8").split("\n")
    vocabulary = {line.rstrip("\r"): place for place, line in enumerate(lines) if line.strip()}
    engine = Engine(models.WordPiece(vocabulary, unk_token=unknown))
    engine.normalizer = _bert_normalizer(settings, normalizers.BertNormalizer())
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    engine.decoder = decoders.WordPiece(prefix="##")
    specials = [names.get("pad", "[PAD]"), unknown, start, end, names.get("mask", "[MASK]")]
    _add_specials(engine, specials)
    surround(engine, f"{start}:0 $A:0 {end}:0", f"{start}:0 $A:0 {end}:0 $B:1 {end}:1")
    return engine


def _byte_bpe(folder: Path, names: Mapping[str, str], settings: Mapping[str, Any]) -> Engine:
    """GPT-2's and RoBERTa's: bytes as characters, merged in the order learned.

    Differs: <mask> stands for a word with the space before it, as RoBERTa was trained, unless
        the settings say otherwise; transformers 5 takes it so only where they say so.
    """
    files = (str(folder / "vocab.json"), str(folder / "merges.txt"))
    engine = Engine(models.BPE(*models.BPE.read_file(*files)))
    prefix = settings.get("add_prefix_space", False)
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    engine.decoder = decoders.ByteLevel()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"]
    written = settings.get("mask_token")
    mask = {"content": names.get("mask", "<mask>"), "lstrip": True}
    mask |= written if isinstance(written, dict) else {}
    wide = {mask["content"]} if mask["lstrip"] else set()
    _add_specials(engine, [*names.values(), *specials], wide)
    start, end = engine.token_to_id("<s>"), engine.token_to_id("</s>")
    if start is not None and end is not None:
        engine.post_processor = processors.RobertaProcessing(
            ("</s>", end), ("<s>", start), trim_offsets=True, add_prefix_space=prefix
        )
    return engine


def _unigram(path: Path, names: Mapping[str, str], settings: Mapping[str, Any]) -> Engine:
    """ALBERT's: a SentencePiece unigram model behind ALBERT's own cleaning."""
    model = _read_sentencepiece(path.read_bytes())
    if model.kind != _UNIGRAM:
        raise FileError(
            "the SentencePiece model is no unigram model, the only kind that is read",
            where=str(path),
            hint="save the tokenizer once with transformers, which writes tokenizer.json",
        )
    if model.unknown is None:
        raise FileError("the SentencePiece model has no unknown piece", where=str(path))
    # The authors cut "9," again where a text gives it: digits and a comma are pieces apart.
    pieces = [
        (piece, score - 100 if piece[-1:] == "," and piece[-2:-1].isdigit() else score)
        for piece, score in model.pieces
    ]
    engine = Engine(models.Unigram(pieces, model.unknown, byte_fallback=False))
    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not settings.get("keep_accents", False):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if settings.get("do_lower_case", True):
        steps.append(normalizers.Lowercase())
    if model.characters:
        steps.append(normalizers.Precompiled(model.characters))
    engine.normalizer = normalizers.Sequence(steps)
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(), *keep_apart(model.control)]
    )
    engine.decoder = decoders.Metaspace()
    _add_specials(engine, ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", *model.control])
    if engine.token_to_id("[CLS]") is not None:
        surround(engine, "[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1")
    return engine


@dataclass
class _SentencePiece:
    """What a SentencePiece file says, as far as it is of use."""

    pieces: list[tuple[str, float]] = field(default_factory=list)
    control: list[str] = field(default_factory=list)
    unknown: int | None = None
    characters: bytes = b""
    kind: int = _UNIGRAM


def _read_sentencepiece(content: bytes) -> _SentencePiece:
    """Read the fields that matter of sentencepiece_model.proto, which is stable since 2018."""
    model = _SentencePiece()
    for number, value in _fields(content):
        # Of a field that is given twice the last counts, as the format asks.
        parts = dict(_fields(value)) if number in (1, 2, 3) else {}
        if number == 1:
            piece, kind = parts.get(1, b"").decode("utf-8"), parts.get(3, _NORMAL)
            if kind == _UNKNOWN:
                model.unknown = len(model.pieces)
            if kind in (_UNKNOWN, _CONTROL):
                model.control.append(piece)
            model.pieces.append((piece, struct.unpack("<f", parts.get(2, bytes(4)))[0]))
        elif number == 2:
            model.kind = parts.get(3, _UNIGRAM)
        elif number == 3:
            model.characters = parts.get(2, b"")
    return model


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Give the fields of a protocol buffer: numbers as int, everything else as bytes."""
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _varint(content, place)
            yield number, value
            continue
        if kind == 2:
            size, place = _varint(content, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if place + size > len(content):
            raise ValueError("the file is cut short")
        yield number, content[place : place + size]
        place += size


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(content) or shift > 63:
            raise ValueError("the file is cut short")
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
