"""Continuations as text: what is shown when, where they end, and how long they may become."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from decoders import TEXTS, make_decoder, make_tokenizer
from encoders import make_encoder
from headway.errors import ConfigError, RequestError
from headway.layers.side import Side
from headway.tasks._model import Model
from headway.tasks._writing import Stream, prompt_ids, write
from headway.tasks.causal_lm import CausalLm

PROMPTS = ["The sea", "if x:\n    return", "", "A caf\u00e9"]
KINDS = ("byte-bpe", "character")
# Letters of which stop texts are likely to be found, whole and in part.
FEW = st.text("ab", min_size=1, max_size=4)


@pytest.fixture(scope="module")
def model() -> Model:
    return make_decoder()


class Pieces:
    """A vocabulary in which token n is a given piece: texts can be cut in any way."""

    def __init__(self, pieces) -> None:
        self.pieces = [piece.encode() if isinstance(piece, str) else piece for piece in pieces]

    def decode(self, ids) -> str:
        return b"".join(self.pieces[number] for number in ids).decode("utf-8", "replace")


def shown(pieces, stop=(), *, ended_by="length") -> tuple[list[str], Stream]:
    """Let a stream take pieces one after the other; give what it shows each time."""
    stream = Stream(Pieces(["", *pieces]), 0, stop)
    found = []
    for number in range(1, len(pieces) + 1):
        found.append(stream.add(number, -1.0))
        if stream.ended_by:
            return found, stream
    return [*found, stream.finish(ended_by)], stream


def cuts(text) -> st.SearchStrategy[list]:
    """Draw ways of cutting a text, or bytes, into pieces."""
    places = st.sets(st.integers(1, max(1, len(text) - 1)))
    return places.map(
        lambda found: [text[a:b] for a, b in pairwise([0, *sorted(found), len(text)]) if a < b]
    )


# Stop texts


def test_a_stop_is_left_out_with_all_behind_it():
    found, stream = shown(["so ", "it ends.", " And more"], ["end"])
    assert found == ["so ", "it "]
    assert (stream.text, stream.ended_by) == ("so it ", "stop")


def test_what_may_become_a_stop_is_held_back_until_it_cannot():
    found, stream = shown(["x\n", "U", "p"], ["\nUser:"])
    assert found == ["x", "", "\nUp", ""]
    assert (stream.text, stream.ended_by) == ("x\nUp", "length")


def test_what_was_held_back_is_shown_at_the_end():
    found, stream = shown(["x\n", "User"], ["\nUser:"], ended_by="end")
    assert found == ["x", "", "\nUser"]
    assert (stream.text, stream.ended_by) == ("x\nUser", "end")


def test_a_stop_at_the_very_end_is_found():
    found, stream = shown(["x", "\nUs", "er:"], ["\nUser:"])
    assert found == ["x", "", ""]
    assert (stream.text, stream.ended_by) == ("x", "stop")


def test_a_stop_at_the_very_start_leaves_nothing():
    found, stream = shown(["\nUser:", "x"], ["\nUser:"])
    assert (found, stream.text, stream.ended_by) == ([""], "", "stop")


def first_stop(text: str, stop) -> int | None:
    """Read a text letter by letter; give the place where the first stop that is whole begins."""
    for end in range(1, len(text) + 1):
        places = [end - len(word) for word in stop if text[:end].endswith(word)]
        if places:
            return min(places)
    return None


@settings(max_examples=300)
@given(data=st.data(), text=st.text("ab", min_size=1, max_size=12), stop=st.lists(FEW, max_size=3))
def test_stops_are_found_however_a_text_is_cut(data, text, stop):
    found, stream = shown(data.draw(cuts(text)), stop)
    place = first_stop(text, stop)
    assert stream.text == "".join(found) == text[:place]
    assert stream.ended_by == ("length" if place is None else "stop")


@settings(max_examples=300)
@given(data=st.data(), text=st.text("ab", min_size=1, max_size=12), stop=st.lists(FEW, max_size=3))
def test_a_stop_never_comes_out_even_partly(data, text, stop):
    pieces = data.draw(cuts(text))
    stream = Stream(Pieces(["", *pieces]), 0, stop)
    told = ""
    for number in range(1, len(pieces) + 1):
        told += stream.add(number, 0.0)
        so_far = "".join(pieces[:number])
        begun = [so_far[-n:] for n in range(1, len(so_far) + 1)]
        held = [tail for tail in begun if any(word.startswith(tail) for word in stop)]
        if stream.ended_by:
            break
        assert told == so_far[: len(so_far) - max(map(len, held), default=0)]


# Characters of several bytes


@given(data=st.data(), text=st.text(max_size=8).filter(lambda text: "\ufffd" not in text))
@example(data=None, text="\u20ac\U0001f600e\u0301")
def test_characters_that_are_split_are_never_shown_broken(data, text):
    content = text.encode()
    bytewise = [content[n : n + 1] for n in range(len(content))]
    found, stream = shown(bytewise if data is None else data.draw(cuts(content)))
    assert "".join(found) == stream.text == text
    assert not any("\ufffd" in piece for piece in found)


@pytest.mark.parametrize("ended_by", ["length", "end"])
def test_the_begin_of_a_character_that_never_came_is_left_out(ended_by):
    found, stream = shown([b"a\xe2", b"\x82"], ended_by=ended_by)
    assert (found, stream.text) == (["", "", "a"], "a")


def test_bytes_that_are_no_character_do_not_hold_up_the_rest():
    found, _ = shown([b"a", b"\xff", b"b"])
    assert found == ["a", "", "\ufffdb", ""]


@pytest.mark.parametrize("stop", ["b", "ab"])
def test_a_stop_before_the_begin_of_a_character_is_found(stop):
    found, stream = shown(["a", b"b\xe2"], [stop])
    assert "".join(found) == stream.text == "ab"[: -len(stop)]
    assert stream.ended_by == "stop"


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_pieces_come_to_what_the_tokenizer_writes(kind, data):
    tokenizer = make_tokenizer(kind)
    text = data.draw(st.text(st.sampled_from("".join(TEXTS)), min_size=2))
    ids = tokenizer.encode_ids([text], bare=True)[0]
    cut = data.draw(st.integers(1, len(ids)))
    # A character may begin before the cut: it was said then.
    before = tokenizer.decode(ids[:cut])
    if before.endswith("\ufffd"):
        return
    stream = Stream(tokenizer, ids[cut - 1], ())
    found = [stream.add(number, -0.5) for number in ids[cut:]]
    found.append(stream.finish("end", -2.0))
    assert before + "".join(found) == text
    assert stream.ids == ids[cut:]
    assert stream.log_probability == -0.5 * len(ids[cut:]) - 2


# Continuations


def texts_of(model: Model, prompts, **choice) -> list[dict]:
    return model.predict([{"text": prompt} for prompt in prompts], **choice)


def test_an_answer_has_a_text_its_tokens_and_how_it_ended(model):
    (answer,) = texts_of(model, ["The sea"], max_new_tokens=5)
    assert list(answer) == ["prediction", "tokens", "log_probability", "ended_by"]
    assert len(answer["tokens"]) == 5
    assert answer["ended_by"] == "length"
    assert answer["log_probability"] < 0


def test_neighbours_do_not_matter(model):
    choice = {"temperature": 1.5, "max_new_tokens": 8}
    together = texts_of(model, PROMPTS, **choice)
    alone = [texts_of(model, [prompt], **choice)[0] for prompt in PROMPTS]
    for one, other in zip(together, alone, strict=True):
        assert one["prediction"] == other["prediction"]
        assert one["log_probability"] == pytest.approx(other["log_probability"], abs=1e-4)


def test_a_stream_gives_what_a_prediction_gives(model):
    for prompt in PROMPTS:
        choice = {"temperature": 1.2, "max_new_tokens": 20, "stop": ("e", "\u20ac")}
        (answer,) = texts_of(model, [prompt], **choice)
        stream = model.stream(prompt, **choice)
        assert "".join(stream) == answer["prediction"]
        assert stream.result()["ended_by"] == answer["ended_by"]


def test_stops_cut_what_would_have_been_written(model):
    choice = {"temperature": 2.0, "max_new_tokens": 30}
    (whole,) = texts_of(model, ["The sea"], **choice)
    text = whole["prediction"]
    for stop in (text[3:6], text[10:11], text[-2:]):
        (cut,) = texts_of(model, ["The sea"], **choice, stop=(stop,))
        assert cut["prediction"] == text[: text.index(stop)]
        assert cut["ended_by"] == "stop"
        assert whole["tokens"][: len(cut["tokens"])] == cut["tokens"]


def test_the_seed_decides_what_is_drawn(model):
    choice = {"temperature": 2.0, "max_new_tokens": 12}
    one, again, other = (
        texts_of(model, ["The sea"], **choice, sampling_seed=seed) for seed in (1, 1, 2)
    )
    assert one == again
    assert one[0]["prediction"] != other[0]["prediction"]


def test_without_temperature_the_seed_decides_nothing(model):
    one, other = (
        texts_of(model, ["The sea"], temperature=0, max_new_tokens=9, sampling_seed=seed)
        for seed in (1, 2)
    )
    assert one == other


@pytest.mark.parametrize("num_beams", [1, 3])
def test_the_end_of_the_vocabulary_ends_a_text_and_is_not_shown(num_beams, model):
    # An output that always says the end.
    body = make_decoder(tie_word_embeddings=False).body
    with torch.no_grad():
        body.decoder.norm.weight.zero_()
        body.decoder.norm.bias.fill_(1)
        body.output.weight.zero_()
        body.output.weight[model.tokenizer.end_id] = 1
    prompts = [prompt_ids(model.tokenizer, "The")]
    options = CausalLm(num_beams=num_beams)
    ((_, written),) = write(body, prompts, model.setting, options)
    assert (written.text, written.ids, written.ended_by) == ("", [], "end")
    expected = torch.log_softmax(body.output.weight.sum(1), 0)[model.tokenizer.end_id]
    assert written.log_probability == pytest.approx(expected.item(), abs=1e-5)


def test_other_tokens_can_end_a_text_too(model):
    prompts = [prompt_ids(model.tokenizer, "The")]
    options = CausalLm(temperature=0, max_new_tokens=6)
    ((_, whole),) = write(model.body, prompts, model.setting, options)
    end = whole.ids[3]
    first = whole.ids.index(end)
    ((_, cut),) = write(model.body, prompts, model.setting, options, more_ends=[end])
    assert (cut.ids, cut.ended_by) == (whole.ids[:first], "end")


def test_other_tokens_end_a_search_too(model):
    prompts = [prompt_ids(model.tokenizer, "The")]
    options = CausalLm(num_beams=2, max_new_tokens=6)
    ((_, whole),) = write(model.body, prompts, model.setting, options)
    end = whole.ids[2]
    ((_, cut),) = write(model.body, prompts, model.setting, options, more_ends=[end])
    assert end not in cut.ids


def test_beams_find_what_is_at_least_as_probable_as_the_greedy_text(model):
    choice = {"max_new_tokens": 6}
    greedy = texts_of(model, PROMPTS, temperature=0, **choice)
    beams = texts_of(model, PROMPTS, num_beams=8, **choice)
    for one, other in zip(greedy, beams, strict=True):
        assert other["log_probability"] >= one["log_probability"] - 1e-4


# Room


def test_an_empty_prompt_is_the_token_that_begins_a_text(model):
    assert prompt_ids(model.tokenizer, "") == [model.tokenizer.start_id]
    llama = make_tokenizer(specials="llama")
    assert prompt_ids(llama, "") == [llama.start_id]
    assert prompt_ids(llama, "The")[0] == llama.start_id


@pytest.mark.parametrize("family", ["gpt2", "llama", "bloom"])
def test_a_text_goes_on_from_nothing(family):
    model = make_decoder(family)
    (answer,) = texts_of(model, [""], max_new_tokens=4, temperature=0)
    assert len(answer["tokens"]) + (answer["ended_by"] == "end") <= 4
    assert answer["prediction"]


def test_a_prompt_fills_the_context_but_for_one_token(model):
    tokenizer = model.tokenizer
    text = "x" * 63
    assert len(tokenizer.encode_ids([text])[0]) == 63
    (answer,) = texts_of(model, [text])
    assert len(answer["tokens"]) <= 1
    with pytest.raises(RequestError, match=r"the prompt has 64 tokens, but the model reads 64 at"):
        texts_of(model, [text + "x"])


@pytest.mark.parametrize("prompt", ["The", ""])
def test_a_billion_tokens_are_refused_in_one_line(prompt, model):
    pattern = r"1,000,000,000 more are asked for, but the model reads 64 at most.*fewer tokens"
    with pytest.raises(RequestError, match=pattern):
        texts_of(model, [prompt], max_new_tokens=10**9)


def test_a_model_without_a_limit_refuses_more_than_the_machine_remembers():
    with pytest.raises(RequestError, match=r"need [\d,]+ GB to be remembered.*ask for fewer"):
        texts_of(make_decoder("bloom"), ["The"], max_new_tokens=10**12)


def test_without_a_number_there_are_as_many_tokens_as_there_is_room_for(model):
    (answer,) = texts_of(model, ["x" * 60], temperature=2.0)
    assert (len(answer["tokens"]), answer["ended_by"]) == (4, "length")


# Settings


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"temperature": -1.0}, r"temperature is -1.0, but must be from 0 up"),
        ({"top_p": 0.0}, r"top_p is 0.0, but must be above 0"),
        ({"max_new_tokens": -1}, r"max_new_tokens is -1, but "),
        ({"num_beams": 0}, r"num_beams is 0, but must be from 1 to 256"),
        ({"num_beams": 257}, r"num_beams is 257, but must be from 1 to 256"),
        ({"stop": ("a", "")}, r"stop has an empty text"),
        ({"sampling_seed": -1}, r"sampling_seed is -1"),
        ({"nothing": 1}, r"nothing"),
    ],
)
def test_a_setting_out_of_range_is_refused_before_anything_is_written(values, problem, model):
    with pytest.raises(RequestError, match=problem):
        model.stream("The", **values)
    if "nothing" not in values:
        (found,) = dataclasses.replace(CausalLm(), **values).check()
        assert found


def test_a_model_that_reads_both_ways_goes_on_with_no_text():
    with pytest.raises(RequestError, match=r"does masked_lm, and goes on with no text"):
        make_encoder().stream("The")


def test_half_a_character_is_no_prompt(model):
    with pytest.raises(RequestError, match=r"the prompt is no text: half of a surrogate pair"):
        model.stream("The \ud83d")


def test_a_chat_option_that_is_none_of_decoding_is_named(model):
    with pytest.raises((RequestError, ConfigError), match="temperatur"):
        model.stream("The", temperatur=1)


# Scores


@pytest.mark.parametrize("family", ["gpt2", "llama", "bloom"])
def test_a_continuation_is_as_probable_as_its_score_says(family):
    model = make_decoder(family)
    for prompt in PROMPTS:
        for choice in ({"temperature": 1.0}, {"temperature": 0}, {"num_beams": 2}):
            (answer,) = texts_of(model, [prompt], max_new_tokens=7, **choice)
            (score,) = model.score([answer["prediction"]], prompt=prompt)
            if answer["ended_by"] == "length" and score["tokens"] == answer["tokens"]:
                assert score["log_probability"] == pytest.approx(
                    answer["log_probability"], abs=1e-4
                )


def test_a_score_is_the_sum_of_its_tokens_and_theirs_are_those_of_all_logits(model):
    tokenizer = model.tokenizer
    (score,) = model.score(["lay on"], prompt="The boat ")
    before, after = tokenizer.encode_ids(["The boat ", "lay on"])
    with torch.no_grad():
        hidden = model.body.encode(Side.padded([before + after])).hidden
        log_probs = model.body.logits(hidden)[0].log_softmax(-1)
    expected = [
        log_probs[len(before) + place - 1, number].item() for place, number in enumerate(after)
    ]
    assert score["log_probabilities"] == pytest.approx(expected, abs=1e-5)
    assert score["log_probability"] == pytest.approx(sum(expected), abs=1e-5)
    assert "".join(score["tokens"]) == "lay on"


def test_scores_do_not_depend_on_neighbours(model):
    texts = ["a", "lay on the sand", "", "\u20ac"]
    together = model.score(texts, prompt="The")
    for text, found in zip(texts, together, strict=True):
        (alone,) = model.score([text], prompt="The")
        assert found["log_probability"] == pytest.approx(alone["log_probability"], abs=1e-4)


def test_nothing_is_certain(model):
    assert model.score([""]) == [{"log_probability": 0, "tokens": [], "log_probabilities": []}]
    assert model.score([]) == []


def test_a_text_longer_than_the_model_reads_is_not_scored(model):
    assert len(model.score(["x" * 64])[0]["tokens"]) == 64
    with pytest.raises(RequestError, match=r"the text has 66 tokens, but the model reads 64"):
        model.score(["x" * 65])


def test_half_a_character_is_not_scored(model):
    with pytest.raises(RequestError, match=r"half of a surrogate pair"):
        model.score(["The \ud83d"])
    with pytest.raises(RequestError, match=r"half of a surrogate pair"):
        model.score(["The"], prompt="\ud83d")
