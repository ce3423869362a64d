"""Whole commands of decoders: train on text, go on with it, teach it to answer, talk to it."""

from __future__ import annotations

import io
import json

import pytest

from headway.cli._main import main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt")
    text = folder / "text.txt"
    text.write_text("the sea was calm.\n\nthe boat lay on the sand.\n" * 60)
    words = ["train", "gpt-characters", "--data.train", str(text), "--data.valid", str(text)]
    words += ["--training.steps", "4", "--out", str(folder / "run")]
    assert main(words) == 0
    return folder / "run" / "model"


def test_what_is_generated_is_as_probable_as_it_is_scored(model, capsys):
    words = ["generate", str(model), "the sea", "--max-new-tokens", "8", "--precision", "fp32"]
    assert main([*words, "--seed", "3", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written.keys() >= {"prompt", "text", "tokens", "log_probability"}
    assert "".join(written["tokens"]) == written["text"]
    main(["score", str(model), written["text"], "--prompt", "the sea", "--json"])
    scored = json.loads(capsys.readouterr().out)
    if written["ended_by"] == "end":
        # The end counts, and is no part of the text.
        assert written["log_probability"] < scored["log_probability"]
    else:
        assert scored["log_probability"] == pytest.approx(written["log_probability"], abs=1e-4)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--temperature", "-1"], "temperature is -1.0"),
        (["--top-p", "0"], "top_p is 0.0"),
        (["--max-new-tokens", "1000000000"], "reads 64 at most"),
    ],
)
def test_what_cannot_be_generated_is_said_in_a_line(model, flags, said, capsys):
    assert main(["generate", str(model), "the", *flags]) != 0
    found = capsys.readouterr()
    assert said in found.err
    assert found.out == ""


def test_a_model_is_taught_to_answer_and_talked_to(model, tmp_path, capsys, monkeypatch):
    talk = tmp_path / "talk.jsonl"
    turns = [("user", "hello"), ("assistant", "the sea")]
    row = {"messages": [{"role": role, "content": said} for role, said in turns]}
    talk.write_text((json.dumps(row) + "\n") * 12)
    words = ["train", "chat", "--model.path", str(model), "--data.train", str(talk)]
    words += ["--data.valid", str(talk), "--training.steps", "2", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    assert (tmp_path / "run" / "report.html").is_file()
    capsys.readouterr()
    saved = tmp_path / "saved.jsonl"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"hello\n/what\n/save {saved}\n/quit\n"))
    chatbot = str(tmp_path / "run" / "model")
    assert main(["chat", chatbot, "--max-new-tokens", "5"]) == 0
    assert "there is no /what" in capsys.readouterr().err
    (found,) = [json.loads(line) for line in saved.read_text().splitlines()]
    assert [message["role"] for message in found["messages"]] == ["user", "assistant"]


def test_turns_in_the_wrong_order_are_an_error(model, tmp_path, capsys):
    talk = tmp_path / "talk.jsonl"
    talk.write_text(json.dumps({"messages": [{"role": "assistant", "content": "hello"}]}) + "\n")
    words = ["train", "chat", "--model.path", str(model), "--data.train", str(talk)]
    assert main([*words, "--out", str(tmp_path / "run")]) != 0
    assert "it is the turn of 'user'" in capsys.readouterr().err
