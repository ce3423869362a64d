"""Terms exchanged: whole words in their case, both directions, rows, files, and the command."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from encoders import make_encoder
from headway.cli._main import main
from headway.errors import DataError
from headway.files.folder import make_body
from headway.tasks._load import load
from headway.tasks._model import Model
from headway.tasks._swap import Terms, compare_answers, read_terms
from headway.tasks.classification import Classification
from headway.tasks.regression import Regression

HE = Terms((("he", "she"), ("father", "mother"), ("his", "her")))

# texts


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("he and she", "she and he"),
        ("He said", "She said"),
        ("SHE SAID", "HE SAID"),
        ("the other father", "the other mother"),
        ("she's here, the sheriff", "he's here, the sheriff"),
        ("mother-in-law", "father-in-law"),
        ("(he)", "(she)"),
        ("nobody", "nobody"),
        ("", ""),
        ("he_she", "he_she"),
        ("\u00e9he", "\u00e9he"),
    ],
)
def test_terms_are_exchanged_as_whole_words_in_their_case(text, wanted):
    assert HE.swap(text) == wanted


def test_a_longer_term_goes_before_one_it_begins_with():
    terms = Terms((("new", "old"), ("new york", "lagos")))
    assert terms.swap("New York is new") == "Lagos is old"


def test_of_a_term_listed_twice_the_first_pair_counts():
    terms = Terms((("his", "her"), ("him", "her")))
    assert terms.swap("his and him and her") == "her and her and his"


def test_a_name_keeps_its_capital_letter():
    assert Terms((("Ada", "Bob"),)).swap("Ada met Bob") == "Bob met Ada"


@given(st.lists(st.sampled_from([*HE.pairs[0], *HE.pairs[1], "His", "HER", "x", "Y."]), max_size=9))
def test_exchanging_twice_gives_the_text_back(words):
    text = " ".join(words)
    assert HE.swap(HE.swap(text)) == text


@given(st.text(string.ascii_letters + " .,-'", max_size=40))
def test_exchanging_word_by_word_gives_the_same(text):
    other = {a: b for pair in HE.pairs for a, b in (pair, pair[::-1])}
    word, wanted = "", []
    for sign in text + "\0":
        if sign.isalpha():
            word += sign
            continue
        new = other.get(word.lower(), word)
        if new != word:
            new = new.upper() if word.isupper() else new
            new = new.capitalize() if word.istitle() else new
        wanted += [new, sign]
        word = ""
    # Mixed case such as "hE" has no rule of its own.
    if text == text.lower() or text == text.upper():
        assert HE.swap(text) == "".join(wanted)[:-1]


def test_a_term_that_ends_in_a_mark_is_exchanged():
    assert Terms((("Mr.", "Mrs."),)).swap("Mr. Smith") == "Mrs. Smith"


def test_letters_that_only_fold_alike_do_no_harm():
    assert HE.swap("\u017fhe \u017fays") in ("\u017fhe \u017fays", "he \u017fays")


# rows


def test_both_texts_of_a_row_are_exchanged_and_all_else_stays():
    row = {"text": "he sat", "text_pair": "she ran", "label": "he", "id": 3}
    assert HE.swap_row(row) == {"text": "she sat", "text_pair": "he ran", "label": "he", "id": 3}
    assert row["text"] == "he sat"


def test_a_row_without_terms_is_left_out():
    assert HE.swap_row({"text": "the cat", "text_pair": "a bird"}) is None


def test_a_row_without_a_second_text_is_exchanged_too():
    assert HE.swap_row({"text": "he", "text_pair": None}) == {"text": "she", "text_pair": None}


def test_spans_still_mark_the_same_words():
    row = {"text": "he sat on the mat", "spans": [{"start": 14, "end": 17}]}
    swapped = HE.swap_row(row)
    assert swapped is not None
    (span,) = swapped["spans"]
    assert swapped["text"][span["start"] : span["end"]] == "mat"


@pytest.mark.parametrize("column", ["words", "choices"])
def test_lists_of_texts_are_exchanged(column):
    swapped = HE.swap_row({"text": "the cat", column: ["he", "sat"]})
    assert swapped is not None
    assert swapped[column] == ["she", "sat"]


# files


def test_pairs_are_read_without_the_spaces_around_them():
    assert read_terms([("a, line 1", [" he ", "she"])]) == Terms((("he", "she"),))


@pytest.mark.parametrize("columns", [["he"], ["he", ""], ["he", "she", "they"], ["he", "HE"]])
def test_a_line_that_is_no_pair_is_named(columns):
    with pytest.raises(DataError, match=r"two terms with a tab between them. In a.tsv, line 7"):
        read_terms([("a.tsv, line 7", columns)])


def test_a_file_without_pairs_is_an_error():
    with pytest.raises(DataError, match="there is no pair of terms"):
        read_terms([])


# what is compared


def test_changes_and_movements_are_those_of_the_first_answer():
    before = [
        {"prediction": "a", "probabilities": {"a": 0.9, "b": 0.1}},
        {"prediction": "b", "probabilities": {"a": 0.2, "b": 0.8}},
        {"prediction": "a", "probabilities": {"a": 0.6, "b": 0.4}},
    ]
    after = [
        {"prediction": "a", "probabilities": {"a": 0.7, "b": 0.3}},
        {"prediction": "a", "probabilities": {"a": 0.6, "b": 0.4}},
        {"prediction": "a", "probabilities": {"a": 0.9, "b": 0.1}},
    ]
    found = {item.name: item.value() for item in compare_answers(before, after)}
    assert found["changed"] == pytest.approx(100 / 3)
    assert found["moved"] == pytest.approx(100 * np.mean([0.2, 0.4, 0.3]))


def test_numbers_move_and_are_not_said_to_change():
    before, after = ([{"prediction": x} for x in xs] for xs in ([1.0, -2.0], [1.5, -5.0]))
    (moved,) = compare_answers(before, after)
    assert (moved.name, moved.value()) == ("moved", pytest.approx(1.75))


def test_answers_without_probabilities_only_change():
    before, after = ([{"prediction": x} for x in xs] for xs in (["x", "y"], ["x", "z"]))
    (changed,) = compare_answers(before, after)
    assert (changed.name, changed.value()) == ("changed", 50.0)


# the command


def save(folder: Path, task, name: str, labels=("no", "yes")) -> None:
    base = make_encoder()
    torch.manual_seed(3)
    body = make_body("bert", base.body.config, task.head).eval()
    head = task.make_head(body, labels).eval()
    with torch.no_grad():
        for parameter in [*body.parameters(), *head.parameters()]:
            parameter.add_(torch.randn_like(parameter) * 0.2)
    Model(
        body,
        base.tokenizer,
        task,
        task_name=name,
        architecture="bert",
        head=head,
        labels=labels,
    ).save(folder / name)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("swap")
    save(folder, Classification(), "classification")
    save(folder, Regression(), "regression", ())
    texts = ["the cat sat", "The dog ran to the cat", "a bird sings", "people read", "dog"]
    for name, labels in (("classes", ["no", "yes"]), ("numbers", [0.5, 1.0])):
        rows = [{"text": text, "label": labels[i % 2]} for i, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "terms.tsv").write_text("cat\tdog\n\nmat\thouse\n")
    (folder / "none.tsv").write_text("rhinoceros\telephant\n")
    (folder / "bad.tsv").write_text("cat\tdog\ncat dog\n")
    (folder / "empty.tsv").write_text("\n")
    return folder


def evaluate(home: Path, capsys, model: str, data: str, terms: str, *more: str):
    words = ["evaluate", str(home / model), "--data", str(home / data), "--swap"]
    code = main([*words, str(home / terms), "--precision", "fp32", "--samples", "50", *more])
    return code, *capsys.readouterr()


def expected(home: Path, name: str):
    """Answer every text that has a term, one by one, as it is and exchanged by hand."""
    model = load(home / name)
    swapped = [("the cat sat", "the dog sat"), ("dog", "cat")]
    swapped.append(("The dog ran to the cat", "The cat ran to the dog"))
    return [[model.predict([{"text": text}])[0] for text in pair] for pair in swapped]


def test_the_command_compares_the_rows_with_a_term(home, capsys):
    given = ("classification", "classes.jsonl", "terms.tsv", "--json")
    code, out, err = evaluate(home, capsys, *given)
    assert code == 0, err
    found = json.loads(out)["swap"]
    pairs = expected(home, "classification")
    moved = [abs(a["probabilities"][a["prediction"]] - b["probabilities"][a["prediction"]])
             for a, b in pairs]  # fmt: skip
    changed = [a["prediction"] != b["prediction"] for a, b in pairs]
    assert found["rows"] == 3
    assert found["moved"]["value"] == pytest.approx(100 * np.mean(moved), abs=1e-3)
    assert found["changed"]["value"] == pytest.approx(100 * np.mean(changed))
    low, high = found["moved"]["interval"]
    assert low <= found["moved"]["value"] <= high


def test_the_command_says_how_far_numbers_move(home, capsys):
    code, out, _ = evaluate(home, capsys, "regression", "numbers.jsonl", "terms.tsv", "--json")
    found = json.loads(out)["swap"]
    moved = [abs(a["prediction"] - b["prediction"]) for a, b in expected(home, "regression")]
    assert code == 0
    assert found["moved"]["value"] == pytest.approx(np.mean(moved), abs=1e-4)
    assert "changed" not in found


def test_the_command_prints_a_table(home, capsys):
    code, out, _ = evaluate(home, capsys, "classification", "classes.jsonl", "terms.tsv")
    lines = out.splitlines()
    place = lines.index("rows with a term to exchange: 3")
    assert code == 0
    assert [line.split()[0] for line in lines[place + 1 : place + 3]] == ["changed", "moved"]
    assert "95 % interval" in lines[place + 1]


def test_no_row_with_a_term_is_said_plainly(home, capsys):
    code, out, _ = evaluate(home, capsys, "classification", "classes.jsonl", "none.tsv")
    assert code == 0
    assert "rows with a term to exchange: 0" in out.splitlines()


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ("bad.tsv", r"two terms with a tab between them\. In .*bad\.tsv, line 2"),
        ("empty.tsv", "there is no pair of terms"),
        ("missing.tsv", r"missing\.tsv"),
    ],
)
def test_bad_files_of_terms_fail_in_one_line_before_the_work(home, capsys, terms, message):
    code, out, err = evaluate(home, capsys, "nothing-there", "classes.jsonl", terms)
    assert (code, out) == (1, "")
    assert err.startswith("headway: ")
    assert err.count("\n") == 1
    assert re.search(message, err), err


# answers that are a part of the text


def test_the_same_choice_has_not_changed_though_its_words_have():
    one = {"prediction": "he went", "choice": 0, "probabilities": [0.75, 0.25]}
    other = {"prediction": "she went", "choice": 0, "probabilities": [0.5, 0.5]}
    (changed,) = compare_answers([one], [other])
    assert (changed.name, changed.value()) == ("changed", 0)
    (changed,) = compare_answers([one], [{**other, "choice": 1}])
    assert changed.value() == 100


def test_the_same_part_of_a_passage_has_not_changed():
    row = {"question": "who", "context": "his father saw the dog"}
    swapped = HE.swap_row(row)
    assert swapped is not None
    assert swapped["context"] == "her mother saw the dog"
    answer = {"prediction": "the dog", "start": 15, "end": 22}
    moved = HE.move_answer(answer, row)
    assert swapped["context"][moved["start"] : moved["end"]] == "the dog"
    (changed,) = compare_answers([moved], [{**answer, "start": moved["start"]}])
    assert changed.value() == 0


@pytest.mark.parametrize(
    ("text", "way"), [("he and his dog", 1), ("she ran", -1), ("he and she", 0), ("a dog", 0)]
)
def test_a_row_is_exchanged_one_way_or_both(text, way):
    assert HE.direction({"text": text}) == way


def test_a_shift_has_the_sign_of_the_second_group():
    before = [{"prediction": 1.0}, {"prediction": 3.0}]
    after = [{"prediction": 2.0}, {"prediction": 1.0}]
    # The first row goes from the first group to the second, the second row back.
    found = {item.name: item.value() for item in compare_answers(before, after, [1, -1])}
    assert found["shift"] == pytest.approx(((2 - 1) + (3 - 1)) / 2)
    probs = [{"prediction": "a", "probabilities": {"a": p, "b": 1 - p}} for p in (0.75, 0.5)]
    found = {item.name: item.value() for item in compare_answers(probs[:1], probs[1:], [1])}
    assert (found["shift of a"], found["shift of b"]) == (-25, 25)
