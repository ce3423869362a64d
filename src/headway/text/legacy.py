"""Vocabularies of model folders: `tokenizer.json`, and what there was before it.

tokenizer_config.json beside it may say otherwise, and is heard as transformers hears it. The older
ones (vocab.txt, vocab.json with merges.txt, *.model) are put together as their authors' code cuts
text, so that old checkpoints give the ids that they were trained with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Engine

from headway.errors import FileError
from headway.text.sentencepiece import BPE, UNIGRAM, SentencePiece, read_sentencepiece
from headway.text.tokenizer import Tokenizer, keep_apart, muted, one_line, surround

_SENTENCEPIECE = ("spiece.model", "tokenizer.model")
# What a vocabulary is read from, in words.
VOCABULARIES = (
    "tokenizer.json, vocab.txt, vocab.json with merges.txt, spiece.model or tokenizer.model"
)
# As many as extra_ids may ask for: a damaged number shall not fill the memory.
_MOST_SENTINELS = 10_000


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
        return "vocabulary", folder, _merged
    for name in _SENTENCEPIECE:
        if (folder / name).is_file():
            return "SentencePiece model", folder / name, _sentencepiece
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


def _merged(folder: Path, names: Mapping[str, str], settings: Mapping[str, Any]) -> Engine:
    """Pieces that were merged: of bytes, or of characters up to the end of a word."""
    files = (str(folder / "vocab.json"), str(folder / "merges.txt"))
    vocabulary, merges = models.BPE.read_file(*files)
    # A tag in the texts may have made "</w>" of bytes, but among bytes is one for the space.
    if "\u0120" not in vocabulary and any(piece.endswith("</w>") for piece in vocabulary):
        return _word_bpe(vocabulary, merges, names)
    return _byte_bpe(vocabulary, merges, names, settings)


def _word_bpe(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], names: Mapping[str, str]
) -> Engine:
    """GPT's, the first: BERT's cleaning in lower case, then characters merged within words."""
    unknown = names.get("unknown", "<unk>")
    engine = Engine(models.BPE(vocabulary, merges, unk_token=unknown, end_of_word_suffix="</w>"))
    engine.normalizer = normalizers.BertNormalizer(lowercase=True)
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    engine.decoder = decoders.BPEDecoder(suffix="</w>")
    _add_specials(engine, [*names.values(), unknown])
    return engine


def _byte_bpe(
    vocabulary: dict[str, int],
    merges: list[tuple[str, str]],
    names: Mapping[str, str],
    settings: Mapping[str, Any],
) -> Engine:
    """GPT-2's and RoBERTa's: bytes as characters, merged in the order learned.

    Differs: <mask> stands for a word with the space before it, as RoBERTa was trained, unless
        the settings say otherwise; transformers 5 takes it so only where they say so.
    """
    engine = Engine(models.BPE(vocabulary, merges))
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


def _sentencepiece(path: Path, names: Mapping[str, str], settings: Mapping[str, Any]) -> Engine:
    """What SentencePiece learned: a unigram model, or merges."""
    model = read_sentencepiece(path.read_bytes())
    if model.kind not in (UNIGRAM, BPE):
        raise FileError(
            "the SentencePiece model is neither a unigram nor a BPE model",
            where=str(path),
            hint="save the tokenizer once with transformers, which writes tokenizer.json",
        )
    if model.unknown is None:
        raise FileError("the SentencePiece model has no unknown piece", where=str(path))
    known = {piece for piece, _ in model.pieces}
    if len(known) < len(model.pieces):
        raise FileError("the SentencePiece model has a piece twice", where=str(path))
    if model.kind == BPE:
        return _scored_bpe(model, names, settings)
    # What ends a text tells whose it is: no file can be without it, while old folders have no
    # settings, and newer ones may name any class.
    return (_t5 if "</s>" in known and "[SEP]" not in known else _albert)(model, settings)


def _unigram(
    model: SentencePiece, pieces: list[tuple[str, float]], steps: list[normalizers.Normalizer]
) -> Engine:
    """The most probable pieces of each word, behind a family's own cleaning."""
    engine = Engine(models.Unigram(pieces, model.unknown, byte_fallback=False))
    if model.characters:
        steps = [*steps, normalizers.Precompiled(model.characters)]
    engine.normalizer = normalizers.Sequence(steps)
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(), *keep_apart(model.control)]
    )
    engine.decoder = decoders.Metaspace()
    _add_specials(engine, ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", *model.control])
    return engine


def _albert(model: SentencePiece, settings: Mapping[str, Any]) -> Engine:
    """ALBERT's: without accents, in lower case, between [CLS] and [SEP]."""
    # The authors cut "9," again where a text gives it: digits and a comma are pieces apart.
    pieces = [
        (piece, score - 100 if piece[-1:] == "," and piece[-2:-1].isdigit() else score)
        for piece, score in model.pieces
    ]
    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not settings.get("keep_accents", False):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if settings.get("do_lower_case", True):
        steps.append(normalizers.Lowercase())
    engine = _unigram(model, pieces, steps)
    if engine.token_to_id("[CLS]") is not None:
        surround(engine, "[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1")
    return engine


def _t5(model: SentencePiece, settings: Mapping[str, Any]) -> Engine:
    """T5's: as the file says, and behind its pieces the sentinels, from the last to the first."""
    engine = _unigram(model, model.pieces, [])
    engine.add_tokens([AddedToken(piece, normalized=False) for piece in model.defined])
    if (count := settings.get("extra_ids", 100)) > _MOST_SENTINELS:
        raise FileError(
            f"extra_ids in tokenizer_config.json is {count}, but at most {_MOST_SENTINELS} are read"
        )
    engine.add_special_tokens([f"<extra_id_{number}>" for number in reversed(range(count))])
    surround(engine, "$A </s>", "$A </s> $B </s>")
    return engine


def _scored_bpe(
    model: SentencePiece, names: Mapping[str, str], settings: Mapping[str, Any]
) -> Engine:
    """LLaMA's and Mistral's: characters merged by the scores of pieces, bytes for all others.

    Differs: from transformers 5, which ranks merges by ids and so cuts runs of spaces otherwise
        than Mistral's scores do, heeds no cleaning that the file asks for (LLaMA's and Mistral's
        ask for none), and begins texts with <s> only where the settings say so. From
        SentencePiece: as in transformers 5, a text that begins with a space gets no other before.
    """
    vocabulary = {piece: place for place, (piece, _) in enumerate(model.pieces)}
    unknown, _ = model.pieces[model.unknown or 0]
    engine = Engine(
        models.BPE(vocabulary, model.merges(), unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    steps: list[Any] = [normalizers.Precompiled(model.characters)] if model.characters else []
    if model.drops_spaces:
        steps += [
            normalizers.Replace(Regex(r"\A +| +\z"), ""),
            normalizers.Replace(Regex(" +"), " "),
        ]
    engine.normalizer = normalizers.Sequence(steps)
    written = settings.get("add_prefix_space")
    prefix = model.begins_with_space if written is None else written
    # Where spaces are dropped, the library no longer knows what stood first.
    anywhere = settings.get("legacy") or model.drops_spaces
    scheme = ("always" if anywhere else "first") if prefix else "never"
    engine.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    engine.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    _add_specials(engine, model.control)
    engine.add_tokens([AddedToken(piece, normalized=False) for piece in model.defined])
    before = [names.get("start", "<s>")] if settings.get("add_bos_token", True) else []
    after = [names.get("end", "</s>")] if settings.get("add_eos_token", False) else []
    first, second = (" ".join([*before, text, *after]) for text in ("$A", "$B"))
    surround(engine, first, f"{first} {second}")
    return engine
