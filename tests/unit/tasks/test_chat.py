"""Conversation: what is learned of it, what stays of a long one, and how answers end."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from decoders import TEXTS, make_decoder
from headway.data.batch import pad_rows
from headway.errors import ConfigError, RequestError
from headway.layers.losses import IGNORE
from headway.tasks._model import Model
from headway.tasks.chat import Chat
from headway.text.chat import encode_turns, opening
from headway.text.specials import Specials
from headway.text.train import train_tokenizer

ROLES = ("user", "assistant")
TURNS = ("The sea?", "It was calm.", "A boat?", "Two boats.", "Where?", "They lie there.")


def talk(*turns: str, system: str = "") -> list[dict[str, str]]:
    """Make a conversation; the user begins."""
    roles = itertools.cycle(ROLES)
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
    return [{"role": "system", "content": system}, *messages] if system else messages


@pytest.fixture(scope="module")
def model() -> Model:
    return make_decoder(task=Chat(max_tokens=64, temperature=0.0))


@pytest.fixture(scope="module")
def other() -> Model:
    """Give a model that ends its turns with a token of their own."""
    first = ("<|endoftext|>", "<unk>", "<|im_start|>", "<|im_end|>")
    specials = Specials(first=first, single="$A", pair="$A $B")
    tokenizer = train_tokenizer("byte-bpe", TEXTS * 3, vocab_size=300, specials=specials)
    return make_decoder(task=Chat(template="chatml"), tokenizer=tokenizer)


def encode(model: Model, messages, **changes):
    task = dataclasses.replace(model.task, **changes)
    encoded = task.encode([{"messages": messages}], model.setting)
    return encoded, encoded.examples[0]


# What is learned


def test_labels_are_only_on_what_the_assistant_says_and_its_end(model):
    tokenizer = model.tokenizer
    _, example = encode(model, talk("The sea?", "It was."))
    answer = tokenizer.encode_ids([" It was."])[0]
    asked = [token for token in example.token_labels if token != IGNORE]
    assert asked == [*answer, tokenizer.end_id]
    # The line's end behind it is the last to be said, and nobody's.
    assert example.token_labels[-1] == IGNORE
    for token, label in itertools.pairwise(
        zip(example.input_ids, example.token_labels, strict=True)
    ):
        assert token[1] in (IGNORE, label[0])


@pytest.mark.parametrize("template", ["plain", "zephyr", "mistral"])
def test_every_answer_of_a_conversation_is_learned(template, model):
    task = dataclasses.replace(model.task, template=template, max_tokens=500)
    setting = dataclasses.replace(model.setting, max_tokens=500)
    rows = [{"messages": talk(*TURNS, system="Talk.")}]
    (example,) = task.encode(rows, setting).examples
    asked = [token for token in example.token_labels if token != IGNORE]
    assert asked.count(model.tokenizer.end_id) == 3
    space = "" if template == "zephyr" else " "
    assert model.tokenizer.decode(asked) == "".join(space + text for text in TURNS[1::2])


def test_the_loss_counts_the_tokens_of_answers_alone(model):
    rows = pad_rows(
        model.task.encode(
            [{"messages": talk("a", "b")}, {"messages": talk("x" * 20, "b")}], model.setting
        ).examples
    )
    batch = model.task.collate(rows, model.setting)
    # "b" with the space before it, and the end, twice.
    (answer,) = model.tokenizer.encode_ids([" b"])
    expected = 2 * (len(answer) + 1)
    assert model.task.counts(batch) == {"causal_lm": expected}
    with torch.no_grad():
        (loss,) = model.task.losses(model.body, None, batch)
    assert loss.count == expected
    assert loss.total > 0


@given(count=st.integers(1, 3), longest=st.integers(8, 64))
def test_a_conversation_that_is_too_long_loses_its_oldest_turns(count, longest, model):
    messages = talk(*TURNS[: 2 * count], system="Talk.")
    pieces = encode_turns(messages, "plain", model.tokenizer)
    ids = [token for part, _ in pieces for token in part]
    own = [is_own for part, is_own in pieces for _ in part]
    first = sum(len(part) for part, _ in encode_turns(messages[:1], "plain", model.tokenizer))
    # What the system says stays, unless the turns would have less than half of the room.
    stays = first if 2 * first <= longest + 1 else 0
    newest = max(stays, len(ids) - (longest + 1 - stays))
    encoded, example = encode(model, messages, max_tokens=longest)
    assert example.input_ids == (ids[:stays] + ids[newest:])[:-1]
    expected = [token if is_own else IGNORE for token, is_own in zip(ids, own, strict=True)]
    assert example.token_labels == (expected[:stays] + expected[newest:])[1:]
    assert encoded.full_lengths["messages"].tolist() == [len(ids) - 1]
    assert encoded.limits == {"messages": longest}


def test_what_the_system_says_stays_before_an_answer(model):
    system = "The sea is calm."
    said = encode_turns(talk(system=system), "plain", model.tokenizer)
    first = [token for ids, _ in said for token in ids]
    for turns in (TURNS[:1], TURNS[:5], (TURNS[0] * 20,)):
        prompt = model.task.prompt(talk(*turns, system=system), model.setting)
        assert prompt[: len(first)] == first
        assert len(prompt) <= 48


# Requests


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        (talk("a", "b")[1:], "message 1 is by 'assistant', but it is the turn of 'user'"),
        ([*talk("a"), *talk("b")], "message 2 is by 'user', but it is the turn of 'assistant'"),
        (talk(" \n"), "message 1 is empty"),
        ([], "messages is not a list"),
        ([{"role": "system", "content": "a"}], "the last message is by 'system'"),
    ],
)
def test_turns_in_the_wrong_order_and_empty_messages_are_refused(messages, problem, model):
    with pytest.raises(RequestError, match=f"record 1: {problem}"):
        model.predict([{"messages": messages}])
    with pytest.raises(RequestError, match=problem):
        model.reply(messages)


def test_a_text_is_no_conversation(model):
    with pytest.raises(RequestError, match="record 1: messages is not a list"):
        model.predict([{"messages": "hello"}])


def test_a_conversation_to_learn_from_ends_with_an_answer(model):
    assert model.task.check_row({"messages": talk("a", "b")}, None) is None
    problem = model.task.check_row({"messages": talk("a")}, None)
    assert problem == "the last message is by 'user', but should be by 'assistant'"


def test_a_known_answer_is_left_out(model):
    one, two = model.predict(
        [{"messages": talk("a", "b")}, {"messages": talk("a")}], max_new_tokens=5
    )
    assert one == two


def test_an_answer_says_whether_the_conversation_was_cut(model):
    long = talk(*TURNS[:5])
    short, cut = model.predict([{"messages": talk("a")}, {"messages": long}], max_new_tokens=5)
    assert "cut" not in short
    assert cut["cut"] == ["conversation"]
    assert not model.reply(talk("a"), max_new_tokens=5).is_cut
    assert model.reply(long, max_new_tokens=5).is_cut


def test_half_a_character_is_no_message(model):
    with pytest.raises(RequestError, match="half of a surrogate pair"):
        model.reply(talk("The \ud83d"))
    with pytest.raises(RequestError, match="half of a surrogate pair"):
        model.predict([{"messages": talk("The \ud83d")}])


def test_a_model_that_goes_on_with_text_holds_no_conversations():
    with pytest.raises(RequestError, match="does causal_lm, and holds no conversations"):
        make_decoder().reply(talk("a"))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"template": "chatm"}, "template is 'chatm'; "),
        ({"max_tokens": 7}, "max_tokens is 7, but at least 8 is needed"),
        ({"temperature": -1.0}, "temperature is -1.0"),
    ],
)
def test_settings_out_of_range_are_said(values, problem):
    (found,) = Chat(**values).check()
    assert found.startswith(problem)


def test_a_vocabulary_without_the_end_of_a_turn_is_refused(model):
    with pytest.raises(ConfigError, match=r"'<\|im_end\|>', which is no token.*plain"):
        encode(model, talk("a", "b"), template="chatml")
    with pytest.raises(ConfigError, match=r"'<\|im_end\|>', which is no token"):
        model.reply(talk("a"), template="chatml")


# Answers


def test_a_prompt_is_the_conversation_and_what_opens_an_answer(model):
    messages = talk("a", "b", "c")
    turns = encode_turns(messages, "plain", model.tokenizer)
    expected = [token for ids, _ in turns for token in ids]
    expected += opening("plain", model.tokenizer)
    assert model.task.prompt(messages, model.setting) == expected


@pytest.mark.parametrize("wanted", [0, 1, 8, 30, 45])
def test_a_long_conversation_can_always_be_answered(wanted, model):
    messages = talk(*TURNS * 3, "And then?")
    prompt = dataclasses.replace(model.task, max_new_tokens=wanted).prompt(messages, model.setting)
    begin = opening("plain", model.tokenizer)
    assert prompt[-len(begin) :] == begin
    assert len(prompt) + max(wanted, 1) <= 64
    (answer,) = model.predict([{"messages": messages}], max_new_tokens=wanted)
    assert len(answer["tokens"]) <= (wanted or 64)
    assert model.reply(messages, max_new_tokens=wanted).result()["tokens"] == answer["tokens"]


def test_an_answer_that_leaves_no_room_for_the_question_is_refused(model):
    with pytest.raises(RequestError, match=r"but the model reads 64 at most.*fewer tokens"):
        model.reply(talk("a"), max_new_tokens=64)


def test_answers_do_not_depend_on_their_neighbours(model):
    rows = [{"messages": talk(*TURNS[:count])} for count in (1, 3, 5)]
    choice = {"temperature": 1.5, "max_new_tokens": 6}
    together = model.predict(rows, **choice)
    alone = [model.predict([row], **choice)[0] for row in rows]
    assert [answer["tokens"] for answer in together] == [answer["tokens"] for answer in alone]


def say(model: Model, *tokens: int):
    """Let a model say these tokens one after the other, whatever it reads."""
    kept = model.body.logits
    told = iter(tokens)

    def logits(hidden):
        found = kept(hidden)
        found[..., next(told)] = 1000.0
        return found

    model.body.logits = logits
    return lambda: vars(model.body).pop("logits")


@pytest.mark.parametrize("end", ["<|im_end|>", "<|endoftext|>"])
def test_an_answer_ends_with_its_turn_or_with_the_text(end, other):
    tokenizer = other.tokenizer
    said = tokenizer.encode_ids([" Two boats."])[0]
    undo = say(other, *said, tokenizer.id_of(end), said[0])
    try:
        (answer,) = other.predict([{"messages": talk("a")}])
    finally:
        undo()
    assert (answer["prediction"], answer["ended_by"]) == ("Two boats.", "end")
    assert len(answer["tokens"]) == len(said)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_an_answer_has_no_end_of_a_turn_in_it(num_beams, other):
    end = other.tokenizer.write_piece(other.tokenizer.id_of("<|im_end|>"))
    rows = [{"messages": talk(text)} for text in TURNS]
    for answer in other.predict(rows, num_beams=num_beams, max_new_tokens=12, temperature=2.0):
        assert end not in answer["tokens"]
    stream = other.reply(talk("a"), num_beams=num_beams, max_new_tokens=12)
    assert end not in stream.result()["tokens"]


def test_an_answer_is_shown_without_the_space_that_opens_it(model):
    undo = say(model, *model.tokenizer.encode_ids([" Two"])[0], model.tokenizer.end_id)
    try:
        (answer,) = model.predict([{"messages": talk("a")}])
    finally:
        undo()
    assert answer["prediction"] == "Two"


def test_a_stream_of_an_answer_is_the_answer(model):
    settings = {"temperature": 1.5, "max_new_tokens": 12, "sampling_seed": 3}
    (answer,) = model.predict([{"messages": talk("The sea?")}], **settings)
    assert "".join(model.reply(talk("The sea?"), **settings)).strip() == answer["prediction"]
