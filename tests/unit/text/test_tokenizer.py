"""Six kinds of tokenizers: reversible where they promise it, special tokens apart from text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import ConfigError, FileError
from headway.text.specials import SPECIALS
from headway.text.tokenizer import Tokenizer
from headway.text.train import KINDS, train_tokenizer

TEXTS = [
    "A dog runs through the snow, doesn't it?",
    "Zwei Frauen sitzen auf einer Bank.",
    "\u65e5\u672c\u8a9e 2024\u5e743\u67083\u65e5",
    "tags such as </s> and <pad> are text </s> </s> </s>",
] * 5
REVERSIBLE = ("character", "bpe", "byte-bpe", "unigram", "word")


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    return {kind: train_tokenizer(kind, TEXTS, vocab_size=400) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_have_their_places(kind, tokenizers):
    tokenizer = tokenizers[kind]
    assert tokenizer.end_id == 1
    assert tokenizer.pad_id == tokenizer.vocab_size - 1
    assert tokenizer.encode("a dog").ids[-1] == tokenizer.end_id


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["</s>", "a </s> dog", "<pad><pad>", "<unk> <s>", "</s></s>."])
def test_special_tokens_typed_by_a_user_stay_text(kind, text, tokenizers):
    tokenizer = tokenizers[kind]
    ids = tokenizer.encode(text).ids
    assert ids.count(tokenizer.end_id) == 1
    assert tokenizer.pad_id not in ids
    assert tokenizer.encode_ids([text]) == [ids]


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_count_where_the_caller_means_them(kind, tokenizers):
    tokenizer = tokenizers[kind]
    assert tokenizer.encode("a </s>", special=True).ids.count(tokenizer.end_id) == 2
    assert tokenizer.encode("a </s>").ids.count(tokenizer.end_id) == 1


@pytest.mark.parametrize("kind", REVERSIBLE)
def test_training_texts_come_back_exactly(kind, tokenizers):
    tokenizer = tokenizers[kind]
    if kind == "word":
        texts = [text for text in TEXTS if "<" not in text]
    else:
        texts = TEXTS
    assert tokenizer.decode_batch(tokenizer.encode_ids(texts)) == texts


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_byte_bpe_writes_any_text(text, tokenizers):
    import unicodedata

    tokenizer = tokenizers["byte-bpe"]
    assert tokenizer.decode(tokenizer.encode(text).ids) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_encodes_within_the_vocabulary(kind, text, tokenizers):
    tokenizer = tokenizers[kind]
    encoding = tokenizer.encode(text)
    assert all(0 <= i < tokenizer.vocab_size for i in encoding.ids)
    assert len(encoding.ids) == len(encoding.offsets) == len(encoding.tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_offsets_point_into_the_text(kind, tokenizers):
    text = "two women sit"
    for start, end in tokenizers[kind].encode(text).offsets:
        assert 0 <= start <= end <= len(text)


@pytest.mark.parametrize("kind", KINDS)
def test_saving_and_loading_changes_nothing(kind, tokenizers):
    again = Tokenizer.from_json(tokenizers[kind].to_json())
    assert again.encode_ids(TEXTS) == tokenizers[kind].encode_ids(TEXTS)
    assert again.encode("a </s>").ids == tokenizers[kind].encode("a </s>").ids


def test_an_unknown_kind_offers_the_nearest():
    with pytest.raises(ConfigError, match="unigram"):
        train_tokenizer("unigrm", TEXTS, vocab_size=100)


def test_a_vocabulary_without_room_is_refused():
    with pytest.raises(ConfigError, match="at least 8"):
        train_tokenizer("bpe", TEXTS, vocab_size=3)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"model": {"type": "Nope"}}'])
def test_a_damaged_tokenizer_is_one_line(text):
    with pytest.raises(FileError, match=r"tokenizer\.json"):
        Tokenizer.from_json(text)


def test_lowercase_folds_case():
    tokenizer = train_tokenizer("word", TEXTS, vocab_size=200, lowercase=True)
    assert tokenizer.encode("A DOG").ids == tokenizer.encode("a dog").ids


WITH_WORDS = ["the Covid sat", "Covid sat", "sat Covid", "sat, Covid Covid.", "the (Covid) sat"]


@pytest.mark.parametrize("kind", KINDS)
def test_added_words_keep_the_space_before_them(kind):
    texts = ["the cat sat, on (it)."] * 5
    tokenizer = train_tokenizer(kind, texts, vocab_size=400, specials=SPECIALS["roberta"])
    before = tokenizer.decode(tokenizer.encode("the sat").ids)
    tokenizer.add_words(["Covid"])
    number = tokenizer.id_of("Covid")
    rows = tokenizer.encode_ids(WITH_WORDS)
    assert all(number in row for row in rows)
    if kind == "wordpiece":
        assert tokenizer.write_piece(number) == "Covid"
        assert tokenizer.decode(rows[0]) == "the Covid sat"
    else:
        assert tokenizer.write_piece(number) == " Covid"
        assert tokenizer.decode_batch(rows) == WITH_WORDS
    assert tokenizer.decode(tokenizer.encode("the sat").ids) == before


# Words


def words_of(tokenizer: Tokenizer, text: str) -> list[str]:
    """Write a text word by word, as the vocabulary tells them apart."""
    words: list[list[int]] = []
    for number in tokenizer.encode_ids([text], bare=True)[0]:
        if tokenizer.continues_word[number] and words:
            words[-1].append(number)
        else:
            words.append([number])
    return [tokenizer.decode(word).replace(" ##", "").removeprefix("##").strip() for word in words]


# As many entries as keep every character a piece.
@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece", "character"])
def test_characters_without_spaces_between_begin_words_of_their_own(kind):
    text = "\u65e5\u672c\u8a9e\u306e\u6587"
    tokenizer = train_tokenizer(kind, [*text, "river bank"] * 3, vocab_size=60)
    found = words_of(tokenizer, f"river {text}")
    assert found[-4:] == list(text[1:])
    assert "river" in found


@pytest.mark.parametrize("kind", ["bpe", "unigram", "byte-bpe"])
def test_marks_begin_words_of_their_own(kind):
    tokenizer = train_tokenizer(kind, ["river bank old", "-/"] * 3, vocab_size=300)
    assert words_of(tokenizer, "river-bank/old river") == ["river", "-bank", "/old", "river"]


def test_a_character_in_bytes_cannot_be_told():
    text = "\u65e5\u672c"
    whole = train_tokenizer("byte-bpe", [text] * 9, vocab_size=400)
    bytewise = train_tokenizer("byte-bpe", ["river"], vocab_size=270)
    assert words_of(whole, f"a{text}") == ["a", text]
    assert len(bytewise.encode_ids([text], bare=True)[0]) == 6
    assert words_of(bytewise, text) == [text]


def test_pieces_of_words_go_on_as_before(tokenizers):
    for kind in ("bpe", "byte-bpe", "unigram", "wordpiece"):
        assert words_of(tokenizers[kind], "zwei dogs snowing") == ["zwei", "dogs", "snowing"]
