"""Conversations as text: turns, templates, and which words are the model's."""

from __future__ import annotations

import itertools
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders import TEXTS, make_tokenizer
from headway.errors import ConfigError
from headway.files.vocabulary import write_tokenizer
from headway.text.chat import (
    TEMPLATES,
    check_template,
    encode_turns,
    end_of_turn,
    find_problem,
    opening,
    to_jinja,
)
from headway.text.specials import SPECIALS, Specials
from headway.text.tokenizer import Tokenizer
from headway.text.train import train_tokenizer


def talk(*turns: str, system: str = "") -> list[dict[str, str]]:
    """Make a conversation; the user begins."""
    roles = itertools.cycle(["user", "assistant"])
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
    return [{"role": "system", "content": system}, *messages] if system else messages


@cache
def tokenizer_for(template: str, kind: str = "byte-bpe", specials: str = "gpt") -> Tokenizer:
    """Learn a vocabulary that has what ends a turn, and pieces of several line ends."""
    gpt = SPECIALS[specials]
    more = {"chatml": ("<|im_start|>", "<|im_end|>"), "zephyr": ("<|user|>", "<|assistant|>")}
    first = (*gpt.first, *more.get(template, ()))
    texts = [*TEXTS, "one\n\n\n\n", "two\n\n", "Talk: Hi, User One <|_[]/"] * 3
    there = Specials(first=first, single=gpt.single, pair=gpt.pair)
    return train_tokenizer(kind, texts, vocab_size=310, specials=there)


# Turns


@pytest.mark.parametrize("last", ["user", "assistant"])
@pytest.mark.parametrize("system", ["", "Be brief."])
def test_a_conversation_by_turns_has_no_problem(last, system):
    turns = ["Hello.", "Hi."] * 2 if last == "assistant" else ["Hello.", "Hi.", "Bye."]
    assert find_problem(talk(*turns, system=system), last=last) is None


def message(role, content) -> dict:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        (None, 'messages is not a list of {"role": ..., "content": ...}'),
        ("hello", 'messages is not a list of {"role": ..., "content": ...}'),
        ([], 'messages is not a list of {"role": ..., "content": ...}'),
        (["hello"], "message 1 has no text 'content'"),
        ([{"role": "user"}], "message 1 has no text 'content'"),
        ([message("user", ["a"])], "message 1 has no text 'content'"),
        ([*talk("a"), message("assistant", " \n")], "message 2 is empty"),
        ([message("system", "a")], "the last message is by 'system', but should be by 'user'"),
        (talk("a", "b"), "the last message is by 'assistant', but should be by 'user'"),
        (talk("a", "b")[1:], "message 1 is by 'assistant', but it is the turn of 'user'"),
        (
            [*talk("a", system="s"), *talk("b")],
            "message 3 is by 'user', but it is the turn of 'assistant'",
        ),
        (
            [*talk("a", "b"), *talk("c", system="s")],
            "message 3 is by 'system', but it is the turn of 'user'",
        ),
        ([message("bot", "a")], "message 1 is by 'bot', but it is the turn of 'user'"),
        ([{"content": "a"}], "message 1 is by None, but it is the turn of 'user'"),
        ([message(["user"], "a")], "message 1 is by ['user'], but it is the turn of 'user'"),
    ],
)
def test_what_is_wrong_with_a_conversation_is_said(messages, problem):
    assert find_problem(messages, last="user") == problem


# Pieces


def written(messages, template: str, tokenizer: Tokenizer) -> list[tuple[str, bool]]:
    pieces = encode_turns(messages, template, tokenizer)
    return [("".join(tokenizer.token_of(number) for number in ids), own) for ids, own in pieces]


@pytest.mark.parametrize(
    ("template", "own"),
    [
        ("plain", " Hi.<|endoftext|>"),
        ("chatml", "Hi.<|im_end|>"),
        ("zephyr", "Hi.<|endoftext|>"),
        ("mistral", " Hi.<|endoftext|>"),
    ],
)
def test_the_models_words_are_what_the_assistant_says_and_its_end(template, own):
    tokenizer = tokenizer_for(template, "character")
    found = written(talk("One.", "Hi.", "Two."), template, tokenizer)
    assert "".join(text for text, is_own in found if is_own) == own
    assert "".join(text for text, _ in found).count("Hi.") == 1


def test_the_plain_template_is_text_as_in_a_play():
    tokenizer = tokenizer_for("plain", "character")
    found = written(talk("One two", "Hi.", system="Talk"), "plain", tokenizer)
    text = "".join(text for text, _ in found)
    assert text == "Talk\n\nUser: One two\nAssistant: Hi.<|endoftext|>\n"


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", ["byte-bpe", "character"])
@given(data=st.data())
def test_special_tokens_typed_into_a_message_stay_text(template, kind, data):
    tokenizer = tokenizer_for(template, kind)
    word = st.sampled_from([*(tokenizer.token_of(n) for n in tokenizer.special_ids), "a", " ", "<"])
    text = st.lists(word, min_size=1, max_size=6).map("".join).filter(str.strip)
    plain = encode_turns(talk("a", "a", system="a"), template, tokenizer)
    typed = encode_turns(
        talk(data.draw(text), data.draw(text), system=data.draw(text)), template, tokenizer
    )
    special = set(tokenizer.special_ids) - {tokenizer.unknown_id}

    def count(pieces) -> int:
        return sum(number in special for ids, _ in pieces for number in ids)

    assert count(typed) == count(plain)


def test_spaces_around_what_is_said_do_not_count():
    tokenizer = tokenizer_for("plain")
    assert encode_turns(talk(" One \n", "\tHi. "), "plain", tokenizer) == encode_turns(
        talk("One", "Hi."), "plain", tokenizer
    )


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_prompt_is_how_the_conversation_with_its_answer_begins(template):
    tokenizer = tokenizer_for(template)
    messages = talk("One.", "Hi there.")
    whole = [n for ids, _ in encode_turns(messages, template, tokenizer) for n in ids]
    asked = [n for ids, _ in encode_turns(messages[:1], template, tokenizer) for n in ids]
    prompt = asked + opening(template, tokenizer)
    assert whole[: len(prompt)] == prompt
    (end,) = end_of_turn(template, tokenizer)
    assert whole[len(prompt) :].count(end) == 1


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_vocabulary_without_what_ends_a_turn_is_refused(template):
    tokenizer = make_tokenizer()
    if template != "chatml":
        check_template(template, tokenizer)
        return
    with pytest.raises(ConfigError, match=r"ends a turn with '<\|im_end\|>', which is no token"):
        check_template(template, tokenizer)


# transformers

CONVERSATIONS = (
    talk("One.", "Hi."),
    talk("What is\n\nthe sea?", "It's big:\n 5 \u20ac, \u732b.", "why?", "\"So\" {it} 'is'\\n"),
    talk("One.", "Hi.", system="You answer briefly."),
)


@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", ["byte-bpe", "character"])
def test_the_saved_template_gives_the_ids_that_are_trained_on(kind, template, messages, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = tokenizer_for(template, kind)
    theirs = open_there(transformers, tokenizer, template, tmp_path)
    expected = [n for ids, _ in encode_turns(messages, template, tokenizer) for n in ids]
    assert theirs.apply_chat_template(messages, return_dict=False) == expected


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_saved_template_opens_the_turn_of_the_assistant(template, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = tokenizer_for(template)
    theirs = open_there(transformers, tokenizer, template, tmp_path)
    messages = talk("One.", "Hi.", "Two?")
    asked = [n for ids, _ in encode_turns(messages, template, tokenizer) for n in ids]
    found = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert found == asked + opening(template, tokenizer)


def test_the_saved_template_begins_as_the_vocabulary_begins_a_text(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = tokenizer_for("mistral", specials="llama")
    theirs = open_there(transformers, tokenizer, "mistral", tmp_path)
    messages = talk("One.", "Hi.", "Two?", "Three.")
    turns = [n for ids, _ in encode_turns(messages, "mistral", tokenizer) for n in ids]
    found = theirs.apply_chat_template(messages, return_dict=False)
    assert found == [tokenizer.start_id, *turns]


def open_there(transformers, tokenizer: Tokenizer, template: str, folder):
    write_tokenizer(
        folder,
        tokenizer.to_json(),
        special={"eos_token": tokenizer.name_of("end")},
        has_segments=False,
        max_tokens=64,
        chat_template=to_jinja(template, tokenizer),
    )
    return transformers.PreTrainedTokenizerFast.from_pretrained(folder)
