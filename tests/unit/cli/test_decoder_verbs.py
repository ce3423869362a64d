"""generate, score and chat: what they print, write and refuse; training of decoders end to end."""

from __future__ import annotations

import html
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer

from decoders import TEXTS, make_decoder
from encoders import make_encoder
from headway.cli import chat, generate, score
from headway.cli._main import main
from headway.layers.side import Side
from headway.tasks._load import load
from headway.tasks._writing import TextStream
from headway.tasks.causal_lm import CausalLm
from headway.tasks.chat import Chat

PROMPTS = ["The sea was", "A caf\u00e9"]
FULL = ("--precision", "fp32")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Give a folder with models."""
    folder = tmp_path_factory.mktemp("home")
    make_decoder().save(folder / "gpt2")
    make_decoder(task=CausalLm(stop=("e", "\n"), temperature=0.0)).save(folder / "stops")
    make_decoder(task=CausalLm(num_beams=3)).save(folder / "searches")
    make_decoder(task=Chat(max_tokens=64)).save(folder / "chat")
    make_decoder("llama").save(folder / "llama")
    make_encoder().save(folder / "bert")
    return folder


class Shell:
    """Runs commands in this process, in the folder with the models."""

    def __init__(self, capsys, monkeypatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def run(self, *words: Any, stdin: bytes = b"") -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        self.capsys.readouterr()
        return main([str(word) for word in words]), *self.capsys.readouterr()

    def answer(self, *words: Any, stdin: str = "", err: str = "") -> str:
        """Run a command that works; give its output."""
        code, out, found = self.run(*words, stdin=stdin.encode())
        assert (code, found) == (0, err)
        return out

    def objects(self, *words: Any, stdin: str = "") -> list[Any]:
        # A line ends with "\n" and nowhere else.
        lines = self.answer(*words, "--json", stdin=stdin)[:-1].split("\n")
        return [json.loads(line) for line in lines]

    def refuse(self, pattern: str, *words: Any, code: int = 1, stdin: bytes = b"") -> None:
        """Run a command that must fail before any output, with one line of error."""
        found, out, err = self.run(*words, stdin=stdin)
        assert (found, out) == (code, ""), err
        assert err.startswith("headway: "), err
        assert err.count("\n") == 1, err
        assert "unexpected" not in err, err
        assert re.search(pattern, err), err


@pytest.fixture
def shell(home, capsys, monkeypatch) -> Shell:
    monkeypatch.chdir(home)
    return Shell(capsys, monkeypatch)


# generate


def test_generate_prints_the_text_and_what_follows_it(shell):
    words = ("generate", "gpt2", "The sea was", *FULL, "--max-new-tokens", "8", "--seed", "3")
    (answer,) = make_decoder().predict([{"text": "The sea was"}], max_new_tokens=8, sampling_seed=3)
    assert shell.answer(*words) == f"The sea was{answer['prediction']}\n"


def test_generate_as_json_says_what_was_written_and_how_probable_it_is(shell):
    words = ("generate", "gpt2", *PROMPTS, *FULL, "--max-new-tokens", "8")
    found = shell.objects(*words)
    assert [list(row) for row in found] == [
        ["prompt", "text", "tokens", "log_probability", "ended_by"]
    ] * 2
    assert [row["prompt"] for row in found] == PROMPTS
    for row in found:
        assert len(row["tokens"]) == 8
        assert row["ended_by"] == "length"
        assert row["log_probability"] < 0


@pytest.mark.parametrize("model", ["gpt2", "llama"])
@pytest.mark.parametrize("words", [(), ("--top-k", "9"), ("--repetition-penalty", "3")])
def test_what_generate_writes_is_as_probable_as_score_says(words, model, shell):
    prompt = "The sea "
    given = ("generate", model, prompt, *FULL, *words, "--temperature", "1")
    rows = shell.objects(*given, "--max-new-tokens", "2", "--num-samples", "60")
    # What begins with "-" is a flag, and half a character cannot be given again.
    rows = [row for row in rows if row["text"][:1] not in ("", "-") and row["ended_by"] == "length"]
    scores = shell.objects("score", model, *(row["text"] for row in rows), "--prompt", prompt)
    agreeing = 0
    for row, found in zip(rows, scores, strict=True):
        if found["tokens"] == row["tokens"]:
            agreeing += 1
            assert found["log_probability"] == pytest.approx(row["log_probability"], abs=1e-4)
    assert agreeing >= 3


@pytest.mark.parametrize("words", [[], ["-"]])
def test_generate_reads_prompts_from_standard_input(words, shell):
    given = ("--temperature", "0", "--max-new-tokens", "4")
    found = shell.objects("generate", "gpt2", *words, *given, stdin="The sea was\nA caf\u00e9\n")
    assert found == shell.objects("generate", "gpt2", *PROMPTS, *given)


def test_generate_begins_a_text_for_an_empty_prompt(shell):
    (row,) = shell.objects("generate", "gpt2", "", "--temperature", "0", "--max-new-tokens", "5")
    assert row["prompt"] == ""
    assert row["tokens"]
    found = shell.objects("generate", "gpt2", "-", "--max-new-tokens", "5", stdin="\n")
    assert [row["prompt"] for row in found] == [""]


def test_generate_draws_the_same_with_the_same_seed_and_goes_up_from_it(shell):
    words = ("generate", "gpt2", "The", "--temperature", "2", "--max-new-tokens", "9")
    first, second, third = shell.objects(*words, "--num-samples", "3", "--seed", "4")
    assert len({row["text"] for row in (first, second, third)}) == 3
    assert shell.objects(*words, "--seed", "5") == [second]
    assert shell.objects(*words, "--seed", "6") == [third]


def test_generate_without_temperature_ignores_the_seed(shell):
    words = ("generate", "gpt2", "The", "--temperature", "0", "--max-new-tokens", "9")
    one, other = (shell.answer(*words, "--seed", seed) for seed in (1, 2))
    assert one == other


def test_generate_parts_several_continuations_by_a_line(shell):
    words = ("generate", "gpt2", *PROMPTS, "--max-new-tokens", "3", "--num-samples", "2")
    parts = shell.answer(*words)[:-1].split("\n\n" + "-" * 20 + "\n")
    texts = [row["prompt"] + row["text"] for row in shell.objects(*words)]
    assert parts == texts


def test_generate_ends_at_a_stop_and_leaves_it_out(shell):
    words = ("generate", "gpt2", "The", *FULL, "--temperature", "0", "--max-new-tokens", "20")
    (whole,) = shell.objects(*words)
    stop = whole["text"].strip("\ufffd-")[2:4]
    (cut,) = shell.objects(*words, "--stop", stop, "never")
    assert cut["text"] == whole["text"][: whole["text"].index(stop)]
    assert cut["ended_by"] == "stop"
    assert shell.answer(*words, "--stop", stop) == f"The{cut['text']}\n"


def test_generate_takes_the_models_own_settings_where_none_are_given(shell):
    words = ("generate", "stops", "The", *FULL, "--max-new-tokens", "60")
    (own,) = shell.objects(*words)
    (expected,) = make_decoder(task=CausalLm(stop=("e", "\n"), temperature=0.0)).predict(
        [{"text": "The"}], max_new_tokens=60
    )
    assert (own["text"], own["ended_by"]) == (expected["prediction"], expected["ended_by"])
    (other,) = shell.objects(*words, "--stop", "never")
    assert other["text"].startswith(own["text"])
    assert other["ended_by"] != "stop"


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (("--temperature", "-1"), r"temperature is -1.0, but must be from 0 up"),
        (("--top-p", "0"), r"top_p is 0.0, but must be above 0, at most 1"),
        (("--top-k", "-2"), r"top_k is -2, but "),
        (("--min-p", "1"), r"min_p is 1.0, but must be from 0 to below 1"),
        (("--num-beams", "0"), r"num_beams is 0, but "),
        (("--num-samples", "0"), r"--num-samples is 0, but at least 1 is needed"),
        (("--max-new-tokens", "-1"), r"max_new_tokens is -1, but "),
        (("--max-new-tokens", "0"), r"--max-new-tokens is 0, but at least 1 is needed"),
        (("--num-beams", "2", "--top-k", "3"), r"searches and draws nothing: --top-k would"),
        (("--num-beams", "2", "--num-samples", "2"), r"--num-beams 2 gives one answer"),
        (("--temperature", "0", "--num-samples", "2"), r"--temperature 0 gives one answer"),
        (("--seed", "-1"), r"seed is -1, but "),
        (("--stop", ""), r"stop has an empty text"),
        (("--precision", "fp8"), r"precision is 'fp8'"),
    ],
)
def test_generate_refuses_a_setting_out_of_range(words, pattern, shell):
    shell.refuse(pattern, "generate", "gpt2", "The", *words, code=2)


@pytest.mark.parametrize(
    ("model", "words", "pattern"),
    [
        (
            "searches",
            ("--top-k", "3"),
            r"--num-beams 3 searches .*--top-k would .*--num-beams 1 dr",
        ),
        ("searches", ("--num-samples", "2"), r"--num-beams 3 gives one answer"),
        ("stops", ("--num-samples", "2"), r"--temperature 0 gives one .*--temperature 1 draws"),
    ],
)
def test_generate_refuses_what_the_models_own_settings_leave_without_effect(
    model, words, pattern, shell
):
    shell.refuse(pattern, "generate", model, "The", *words, code=2)


def test_generate_draws_where_the_models_own_search_is_set_aside(shell):
    words = ("--num-beams", "1", "--num-samples", "2", "--max-new-tokens", "4", *FULL)
    assert len(shell.objects("generate", "searches", "The", *words)) == 2


@pytest.mark.parametrize(
    ("model", "prompt", "words", "pattern"),
    [
        ("gpt2", "x" * 64, (), r"the prompt has 64 tokens, but the model reads 64 at most"),
        ("gpt2", "The", ("--max-new-tokens", "1000000000"), r"1,000,000,000 more are asked for"),
        ("llama", "The", ("--max-new-tokens", "1000000000"), r"1,000,000,000"),
        ("bert", "The", (), r"this model does masked_lm, and goes on with no text"),
        ("nowhere", "The", (), r"there is no model folder nowhere"),
        ("gpt2", "The \udcff", (), r"the prompt is not UTF-8: byte 0xff"),
    ],
)
def test_generate_refuses_what_cannot_be_gone_on_with(model, prompt, words, pattern, shell):
    shell.refuse(pattern, "generate", model, prompt, *words)


def test_generate_refuses_no_prompt_at_all(shell):
    shell.refuse(r'there is nothing to go on with\. give a text, "" begins', "generate", "gpt2")


def test_generate_names_the_line_that_is_not_utf_8(shell):
    shell.refuse(r"byte 0xfc.*line 2", "generate", "gpt2", stdin=b"The\nB\xfccher\n")


LONG_SECOND = "The\n" + "x" * 70 + "\nThe sea\n"


@pytest.mark.parametrize("verb", ["generate", "score"])
def test_a_line_that_is_too_long_is_named_before_anything_is_written(verb, shell):
    shell.refuse(r"In standard input, line 2.*--skip-bad", verb, "gpt2", stdin=LONG_SECOND.encode())


@pytest.mark.parametrize("verb", ["generate", "score"])
def test_lines_that_cannot_be_used_are_answered_by_their_error_if_asked(verb, shell):
    words = (verb, "gpt2", *FULL, *(("--temperature", "0") if verb == "generate" else ()))
    code, out, err = shell.run(*words, "--skip-bad", "--json", stdin=LONG_SECOND.encode())
    assert (code, err) == (0, "headway: 1 texts could not be used\n")
    first, second, third = map(json.loads, out.splitlines())
    assert list(second) == ["error"]
    assert second["error"].startswith("standard input, line 2: ")
    assert [first, third] == shell.objects(*words, "The", "The sea")


# score


def test_score_prints_a_line_for_each_text(shell):
    lines = shell.answer("score", "gpt2", "The sea", "two\nlines").splitlines()
    for line, found in zip(lines, make_decoder().score(["The sea", "two\nlines"]), strict=True):
        value, perplexity, text = line.split("\t")
        assert float(value) == pytest.approx(found["log_probability"], abs=1e-3)
        mean = found["log_probability"] / len(found["tokens"])
        assert float(perplexity) == pytest.approx(torch.tensor(-mean).exp().item(), rel=1e-2)
        assert text in ("The sea", "two lines")


def test_score_as_json_gives_every_token(shell):
    found = shell.objects("score", "gpt2", *PROMPTS)
    assert [list(row) for row in found] == [
        ["text", "log_probability", "tokens", "log_probabilities", "perplexity"]
    ] * 2
    for row in found:
        assert len(row["tokens"]) == len(row["log_probabilities"])
        assert sum(row["log_probabilities"]) == pytest.approx(row["log_probability"], abs=1e-4)
        mean = row["log_probability"] / len(row["tokens"])
        assert row["perplexity"] == pytest.approx(torch.tensor(-mean).exp().item(), rel=1e-3)


def test_score_reads_lines(shell):
    found = shell.answer("score", "gpt2", "-", stdin="The\nsea\n")
    assert found == shell.answer("score", "gpt2", "The", "sea")


def test_an_empty_text_has_no_perplexity(shell):
    assert shell.answer("score", "gpt2", "") == "0.0000\t-\t\n"
    (found,) = shell.objects("score", "gpt2", "")
    assert found["perplexity"] is None


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (("gpt2",), r"there is nothing to score"),
        (("bert", "The"), r"this model does masked_lm, and scores no text"),
        (("gpt2", "x" * 65), r"the text has 66 tokens, but the model reads 64"),
        (("gpt2", "The \udcff"), r"not UTF-8: byte 0xff"),
    ],
)
def test_score_refuses_what_it_cannot_score(words, pattern, shell):
    shell.refuse(pattern, "score", *words)


# chat


def test_chat_answers_every_line_of_a_pipe(shell):
    out = shell.answer("chat", "chat", *FULL, "--max-new-tokens", "4", stdin="Hello\n\nA boat?\n")
    model = make_decoder(task=Chat(max_tokens=64))
    messages, expected = [], ""
    for turn, text in enumerate(("Hello", "A boat?")):
        messages.append({"role": "user", "content": text})
        stream = model.reply(messages, max_new_tokens=4, sampling_seed=turn)
        answer = stream.result()["prediction"].strip()
        expected += answer + "\n"
        messages.append({"role": "assistant", "content": answer or "..."})
    assert out.replace(" ", "") == expected.replace(" ", "")


def saved(path: Path) -> list[list[tuple[str, str]]]:
    rows = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    return [[(said["role"], said["content"]) for said in row["messages"]] for row in rows]


def test_chat_saves_conversations_that_can_be_learned_from(shell, tmp_path):
    path = tmp_path / "talk.jsonl"
    stdin = f"One\nTwo\n/save {path}\n/reset\nThree\n/save {path}\n/quit\nFour\n"
    words = ("chat", "chat", "--system", "Be brief.", "--max-new-tokens", "3", *FULL)
    out = shell.answer(*words, stdin=stdin, err=f"saved to {path}\n" * 2)
    first, second = saved(path)
    assert [role for role, _ in first] == ["system", *["user", "assistant"] * 2]
    assert [text for role, text in first if role == "user"] == ["One", "Two"]
    assert first[0] == second[0] == ("system", "Be brief.")
    assert second[1] == ("user", "Three")
    assert len(second) == 3
    assert "Four" not in out
    model = load("chat")
    for line in path.read_text().split("\n")[:-1]:
        assert model.task.check_row(json.loads(line), None) is None


def test_chat_begins_anew_after_a_reset(shell):
    words = ("chat", "chat", "--max-new-tokens", "5", "--temperature", "0", *FULL)
    once = shell.answer(*words, stdin="Two boats.\n")
    assert shell.answer(*words, stdin="Two boats.\n/reset\nTwo boats.\n") == once * 2


def test_chat_says_which_words_there_are(shell):
    out = shell.answer(
        *("chat", "chat"),
        stdin="/help me\n",
        err="there is no /help; there are /reset, /save FILE and /quit\n",
    )
    assert out == ""


def test_chat_asks_for_a_file_to_save_to(shell):
    stdin = "One\n/save\n"
    words = ("chat", "chat", "--max-new-tokens", "2")
    shell.answer(*words, stdin=stdin, err="name a file: /save talk.jsonl\n")


def test_chat_does_not_save_what_nobody_said(shell, tmp_path):
    path = tmp_path / "talk.jsonl"
    shell.answer("chat", "chat", stdin=f"/save {path}\n", err="nothing was said yet\n")
    assert not path.exists()


def test_chat_goes_on_where_a_file_cannot_be_written(shell, tmp_path):
    words = ("chat", "chat", "--max-new-tokens", "2")
    code, out, err = shell.run(*words, stdin=f"One\n/save {tmp_path}\nTwo\n".encode())
    assert code == 0
    assert err.startswith(f"{tmp_path} cannot be written: ")
    assert len(out.split("\n")) >= 3


def test_chat_goes_on_however_long_the_conversation_becomes_and_says_so_once(shell):
    words = ("chat", "chat", "--max-new-tokens", "40", *FULL)
    code, out, err = shell.run(*words, stdin=b"How many boats are there?\n" * 6)
    assert code == 0
    assert out.count("\n") >= 6
    assert err.count("\n") == 1
    assert re.match(r"note: the conversation is longer than the model reads .* left out", err)


def test_an_interrupted_answer_is_kept_as_far_as_it_came(shell, monkeypatch, tmp_path):
    def stopped(pieces):
        yield "As far"
        raise KeyboardInterrupt

    monkeypatch.setattr(TextStream, "__iter__", stopped)
    path = tmp_path / "talk.jsonl"
    code, out, _ = shell.run("chat", "chat", stdin=f"Where?\n/save {path}\n".encode())
    assert (code, out) == (0, "As far\n")
    assert saved(path) == [[("user", "Where?"), ("assistant", "As far")]]


@pytest.mark.parametrize(
    ("model", "words", "pattern", "code"),
    [
        ("gpt2", (), r"this model does causal_lm, and holds no conversations", 1),
        ("bert", (), r"this model does masked_lm, and holds no conversations", 1),
        ("chat", ("--max-new-tokens", "1000000000"), r"1,000,000,000 more are asked for", 1),
        ("chat", ("--max-new-tokens", "0"), r"at least 1 is needed", 2),
        ("chat", ("--temperature", "-1"), r"temperature is -1.0", 2),
        ("nowhere", (), r"there is no model folder nowhere", 1),
    ],
)
def test_chat_refuses_at_once_what_cannot_be_answered(model, words, pattern, code, shell):
    shell.refuse(pattern, "chat", model, *words, code=code, stdin=b"Hello\n")


def test_chat_refuses_what_is_not_utf_8(shell):
    shell.refuse(r"not UTF-8|half of", "chat", "chat", stdin=b"B\xfccher\n")


# Help


@pytest.mark.parametrize("module", [generate, score, chat])
def test_help_shows_the_examples(module, shell):
    verb = module.__name__.split(".")[-1]
    text = shell.answer(verb, "--help")
    examples = [line for line in module.__doc__.split("\n") if "headway " in line]
    assert examples
    for example in examples:
        assert example in text


# transformers


def test_a_published_gpt2_is_opened_and_goes_on_as_there(shell, tmp_path):
    transformers = pytest.importorskip("transformers")
    learned = ByteLevelBPETokenizer()
    learned.train_from_iterator(TEXTS * 3, vocab_size=300, special_tokens=["<|endoftext|>"])
    learned.save_model(str(tmp_path))
    files = [str(tmp_path / name) for name in ("vocab.json", "merges.txt")]
    tokenizer = transformers.GPT2TokenizerFast(*files)
    folder = tmp_path / "published"
    torch.manual_seed(3)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=64,
        initializer_range=0.5,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    prompts = ["The sea was", " it's  5", "A caf\u00e9\n\n"]
    words = ("generate", folder, *prompts, *FULL, "--temperature", "0", "--max-new-tokens", "20")
    for prompt, row in zip(prompts, shell.objects(*words), strict=True):
        ids = tokenizer(prompt, return_tensors="pt")
        out = model.generate(**ids, max_new_tokens=20, do_sample=False, pad_token_id=0)
        theirs = out[0, ids["input_ids"].shape[1] :].tolist()
        if theirs[-1] == tokenizer.eos_token_id:
            theirs = theirs[:-1]
        assert row["text"].rstrip("\ufffd") == tokenizer.decode(theirs).rstrip("\ufffd")
        assert len(row["tokens"]) == len(theirs)


@pytest.fixture(scope="module")
def characters(home) -> Path:
    """Train the recipe of characters for five steps on three thousand of them."""
    text = " ".join(f"{word} {number}" for number, word in enumerate(" ".join(TEXTS).split())) * 20
    (home / "book.txt").write_text(text[:3000])
    (home / "rest.txt").write_text(text[3000:3400])
    words = ["train", "gpt-characters", "--data.train", home / "book.txt", "--out", home / "run"]
    words += ["--data.valid", home / "rest.txt", "--training.steps", "5"]
    words += ["--model.hidden-size", "32", "--training.evaluate-steps", "5"]
    assert main([str(word) for word in words]) == 0
    return home / "run"


def test_a_gpt_of_characters_is_trained_scored_and_goes_on(characters, shell):
    rows = [json.loads(line) for line in (characters / "metrics.jsonl").read_text().splitlines()]
    assert any("bits_per_byte" in json.dumps(row) for row in rows)
    words = ("generate", characters / "model", "The ", "--max-new-tokens", "10")
    (row,) = shell.objects(*words)
    assert len(row["tokens"]) == 10 or row["ended_by"] == "end"
    assert shell.answer("evaluate", characters / "model", "--data", "rest.txt")


def test_the_report_of_a_gpt_shows_how_it_goes_on(characters):
    page = (characters / "report.html").read_text()
    samples = page[page.index('<section id="samples"') : page.index('<section id="data"')]
    told = re.findall(r"<dt>(\w*)</dt><dd[^>]*>(.*?)</dd>", samples, re.DOTALL)
    assert [name for name, _ in told[:3]] == ["given", "data", "model"]
    rest = (characters.parent / "rest.txt").read_text()
    # What was given, and what follows it in the data, as it stands there.
    assert html.unescape(told[0][1] + told[1][1]) in rest
    assert told[2][1]


def test_the_report_of_a_chatbot_shows_what_it_answers(characters, home):
    rows = [
        [{"role": "user", "content": "The?"}, {"role": "assistant", "content": "A boat & sand"}]
    ]
    lines = "".join(json.dumps({"messages": row}) + "\n" for row in rows * 4)
    (home / "replies.jsonl").write_text(lines)
    words = ["train", "chat", "--model.path", characters / "model", "--out", home / "replied"]
    for split in ("train", "valid"):
        words += [f"--data.{split}", home / "replies.jsonl"]
    assert main([str(word) for word in (*words, "--training.steps", "1")]) == 0
    page = (home / "replied" / "report.html").read_text()
    assert '<dt>given</dt><dd dir="auto">The?</dd>' in page
    assert '<dt>data</dt><dd dir="auto">A boat &amp; sand</dd>' in page


def test_a_gpt_of_characters_gives_the_same_logits_in_transformers(characters):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(characters / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(characters / "model")
    ours = load(characters / "model")
    text = "The sea 1 was 2"
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == ours.tokenizer.encode_ids([text])[0]
    with torch.no_grad():
        found = ours.body.logits(ours.body.encode(Side.padded(ids.tolist())).hidden)
        expected = theirs(ids).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    greedy = theirs.generate(ids, max_new_tokens=12, do_sample=False)
    (answer,) = ours.predict([{"text": text}], temperature=0, max_new_tokens=12)
    said = tokenizer.decode(greedy[0, ids.shape[1] :], skip_special_tokens=True)
    assert answer["prediction"] == said


def test_the_recipe_chat_teaches_a_model_to_answer(home, shell):
    transformers = pytest.importorskip("transformers")
    talk = [
        {"role": "user", "content": "One boat?"},
        {"role": "assistant", "content": "Two."},
    ]
    (home / "talk.jsonl").write_text(json.dumps({"messages": talk}) + "\n")
    words = ("train", "chat", "--model.path", "gpt2", "--data.train", "talk.jsonl")
    words += ("--data.valid", "talk.jsonl", "--training.epochs", "2", "--out", "talked")
    code, _, err = shell.run(*words)
    assert (code, "unexpected" in err) == (0, False), err
    assert Path("talked/report.html").is_file()
    assert shell.answer("chat", "talked/model", "--max-new-tokens", "2", stdin="One boat?\n")
    theirs = transformers.AutoTokenizer.from_pretrained("talked/model")
    model = load("talked/model")
    (example,) = model.task.encode([{"messages": talk}], model.setting).examples
    expected = theirs.apply_chat_template(talk, return_dict=False)
    assert example.input_ids == expected[:-1]
