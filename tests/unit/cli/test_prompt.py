"""prompt: how prompts are written and drawn, what label words say, what the verb prints."""

from __future__ import annotations

import json
import math

import pytest

from decoders import make_decoder
from encoders import make_encoder
from headway.cli._main import main
from headway.errors import RequestError
from headway.tasks._prompting import (
    Prompt,
    ask,
    compare_shots,
    draw_examples,
    fit_examples,
    read_prompt,
    shipped,
)

PROMPT = Prompt(
    templates=("Text: {text}\nMood:", "{text} It was"),
    instruction="Tell the mood.\n",
    labels={"0": "bad", "1": "good"},
)
ROWS = [{"text": f"text {number}", "label": str(number % 2)} for number in range(10)]


@pytest.fixture(scope="module")
def model():
    return make_decoder(max_position_embeddings=256)


@pytest.fixture(scope="module")
def home(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("prompts")
    model.save(folder / "gpt2")
    make_encoder().save(folder / "bert")
    (folder / "mood.toml").write_text(
        'templates = ["{text} It was"]\n[labels]\n0 = "bad"\n1 = "good"\n'
    )
    for name, rows in (("data", ROWS[:6]), ("examples", ROWS[4:])):
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_prompt_is_the_instruction_the_examples_with_answers_and_the_row():
    written = PROMPT.write(ROWS[2], ROWS[:2])
    assert written == (
        "Tell the mood.\nText: text 0\nMood: bad\n\nText: text 1\nMood: good\n\nText: text 2\nMood:"
    )
    assert PROMPT.write(ROWS[2], (), template=1) == "Tell the mood.\ntext 2 It was"


@pytest.mark.parametrize("shots", [0, 1, 2, 3, 6])
def test_examples_are_drawn_from_all_classes_alike_and_by_the_seed_alone(shots):
    drawn = draw_examples(ROWS, PROMPT, shots=shots, seed=3)
    labels = [row["label"] for row in drawn]
    assert len(drawn) == shots
    assert abs(labels.count("0") - labels.count("1")) <= 1
    assert drawn == draw_examples(ROWS, PROMPT, shots=shots, seed=3)


def test_more_examples_than_rows_are_refused():
    with pytest.raises(RequestError, match="11 examples are asked for, but there are 10 rows"):
        draw_examples(ROWS, PROMPT, shots=11, seed=0)


def test_the_label_whose_word_has_the_highest_mean_log_probability_is_told(model):
    (answer,) = ask(model, PROMPT, ROWS[:1])
    text = PROMPT.write(ROWS[0], ())
    means = {}
    for label, word in PROMPT.labels.items():
        (found,) = model.score([f" {word}"], prompt=text)
        means[label] = found["log_probability"] / len(found["tokens"])
    assert answer["prediction"] == max(means, key=means.__getitem__)
    odds = math.log(answer["probabilities"]["1"] / answer["probabilities"]["0"])
    assert odds == pytest.approx(means["1"] - means["0"], abs=1e-3)


def test_calibrated_a_text_without_content_has_even_odds(model):
    (answer,) = ask(model, PROMPT, [{"text": PROMPT.content_free}], calibrate=True)
    assert answer["probabilities"] == pytest.approx({"0": 0.5, "1": 0.5}, abs=1e-5)


def test_answers_do_not_depend_on_the_rows_beside_them(model):
    together = ask(model, PROMPT, ROWS[:4])
    assert together == [ask(model, PROMPT, [row])[0] for row in ROWS[:4]]


def test_without_labels_an_answer_is_written_up_to_the_stop(model):
    prompt = Prompt(templates=("{text}",), stop=("e", "\n"))
    for answer in ask(model, prompt, ROWS[:2]):
        assert not {"e", "\n"} & {*answer["prediction"]}


def test_each_number_of_examples_is_scored_over_templates_and_draws(model):
    scores = list(compare_shots(model, PROMPT, ROWS[:4], ROWS[4:], shots=[0, 2], draws=3))
    assert [score.prompts for score in scores] == [2, 6]
    assert all(score.lowest <= score.accuracy <= score.highest for score in scores)


def test_too_few_examples_are_said_before_anything_is_asked(model):
    with pytest.raises(RequestError, match="9 examples"):
        next(compare_shots(model, PROMPT, ROWS[:4], ROWS[4:], shots=[0, 9], draws=1))


@pytest.mark.parametrize("name", shipped())
def test_shipped_prompts_can_be_read_and_written(name):
    prompt = read_prompt(name)
    row = dict.fromkeys(prompt.columns, "This movie is awesome!")
    for template in range(len(prompt.templates)):
        assert "This movie is awesome!" in prompt.write(row, (), template=template)


def test_the_classic_prompt_is_the_first_of_sentiment():
    written = read_prompt("sentiment").write({"text": "This movie is awesome!"}, ())
    assert written == (
        "Classify the text into positive, neutral or negative: Text: This movie is awesome! "
        "Classification:"
    )


def run(capsys, *words) -> tuple[int, str, str]:
    capsys.readouterr()
    return main(["prompt", *map(str, words)]), *capsys.readouterr()


def test_the_verb_compares_shots_without_the_examples_that_are_asked_about(home, capsys):
    words = ["--task", home / "mood.toml", "--data", home / "data.jsonl", "--shots", "0", "2"]
    words += ["--examples", home / "examples.jsonl", "--picture", home / "shots.svg", "--json"]
    code, out, err = run(capsys, home / "gpt2", *words)
    assert code == 0
    assert "2 examples that are rows of --data are left out" in err
    found = json.loads(out)
    assert (found["rows"], found["most_frequent"]) == (6, 50.0)
    assert [row["shots"] for row in found["shots"]] == [0, 2]
    assert (home / "shots.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bert", "x"], "goes on with no text"),
        (["gpt2"], "nothing to answer"),
        (["gpt2", "x", "--shots", "2"], "needs --examples"),
        (["gpt2", "x", "--shots", "0", "1", "--examples", "examples.jsonl"], "need --data"),
        (["gpt2", "x", "--task", "nowhere"], "there is no prompt 'nowhere'"),
        (["gpt2", "word " * 400], "reads 256"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(words, said, home, capsys, monkeypatch):
    monkeypatch.chdir(home)
    code, out, err = run(capsys, *words)
    assert (code != 0, out, err.count("\n")) == (True, "", 1)
    assert said in err
    assert "unexpected" not in err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('templtes = ["{text}"]', "a prompt has no 'templtes'"),
        ('templates = ["no column"]', "have no columns"),
        ('templates = ["{text}", "{other}"]', "not the same ones"),
        ('templates = ["{text.__class__}"]', "plain names"),
        ('templates = ["{text"]', "cannot be read"),
        ('templates = ["{text}"]\n[labels]\na = "x"\nb = "x"', "the same word"),
    ],
)
def test_a_prompt_file_that_cannot_be_used_is_named(content, said, home, capsys, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(content)
    code, out, err = run(capsys, home / "gpt2", "x", "--task", path)
    assert (code, out) == (2, "")
    assert said in err
    assert "mine.toml" in err


LONG = [{"text": f"a much longer text {n} " * 4, "label": str(n % 2)} for n in range(20)]


def test_examples_go_from_the_first_on_until_the_model_reads_the_prompt(model):
    kept = fit_examples(model, PROMPT, ROWS[0], LONG)
    assert 0 < len(kept) < len(LONG)
    assert [*kept] == LONG[-len(kept) :]
    # The longest label word has room, but for its last token, which is not read.
    words = model.tokenizer.encode_ids([" bad", " good"], bare=True)
    room = model.setting.max_tokens - max(map(len, words)) + 1
    texts = [PROMPT.write(ROWS[0], some) for some in (kept, LONG[-len(kept) - 1 :])]
    fitting, more = map(len, model.tokenizer.encode_ids(texts))
    assert fitting <= room < more
    assert fit_examples(model, PROMPT, ROWS[0], ROWS[1:3]) == ROWS[1:3]


@pytest.mark.parametrize("calibrate", [False, True])
def test_a_row_is_answered_with_the_examples_that_have_room_and_others_with_all(model, calibrate):
    # So many that the short row has room for all of them, and the long one has not.
    shown = [*fit_examples(model, PROMPT, ROWS[0], LONG)]
    rows = [ROWS[0], {"text": "long " * 50, "label": "0"}]
    kept = fit_examples(model, PROMPT, rows[1], shown)
    answers = ask(model, PROMPT, rows, shown, calibrate=calibrate)
    assert len(kept) < len(shown)
    assert ["cut" in answer for answer in answers] == [False, True]
    (alone,) = ask(model, PROMPT, rows[1:], kept, calibrate=calibrate)
    assert answers[1] == {**alone, "cut": ["prompt"]}


def test_a_free_answer_has_room_too(model):
    prompt = Prompt(templates=("{text}",))
    (answer,) = ask(model, prompt, ROWS[:1], LONG)
    assert answer["cut"] == ["prompt"]
    kept = fit_examples(model, prompt, ROWS[0], LONG)
    count = len(model.tokenizer.encode_ids([prompt.write(ROWS[0], kept)])[0])
    assert count <= model.setting.max_tokens * 7 // 8 + 1


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_prompts_that_were_cut_are_counted_and_said(home, capsys, tmp_path):
    many = write_rows(tmp_path / "many.jsonl", LONG)
    words = [home / "gpt2", "--task", home / "mood.toml", "--data", home / "data.jsonl"]
    words += ["--examples", many, "--shots", 0, 16, "--json"]
    code, out, error = run(capsys, *words)
    assert code == 0
    assert [row["cut"] for row in json.loads(out)["shots"]] == [0.0, 100.0]
    assert "not all prompts have 16 examples" in error
    words = [home / "gpt2", "a text", "--task", home / "mood.toml", "--examples", many]
    code, out, error = run(capsys, *words, "--shots", 16)
    assert code == 0
    assert out.strip() in {"0", "1"}
    assert "1 of 1 prompts cut" in error


def test_a_row_that_is_too_long_without_examples_is_named_or_left_out(home, capsys, tmp_path):
    rows = [*ROWS[:3], {"text": "long " * 400, "label": "1"}]
    data = write_rows(tmp_path / "data.jsonl", rows)
    words = [home / "gpt2", "--task", home / "mood.toml", "--data", data, "--json"]
    code, out, error = run(capsys, *words)
    assert (code, out) == (1, "")
    assert "line 4" in error
    assert "reads 256" in error
    code, out, error = run(capsys, *words, "--skip-bad")
    assert (code, json.loads(out)["rows"]) == (0, 3)
