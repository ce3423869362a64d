"""The recurrent encoder: states and pooling as torch gives them text by text, and a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from encoders import make_encoder
from headway.cli._main import main
from headway.data.batch import Example, lay_out
from headway.errors import ConfigError
from headway.files.folder import make_body
from headway.layers.pooling import AttentionPooler, EndsPooler
from headway.layers.side import Side
from headway.models.lstm import Lstm, LstmConfig
from headway.tasks._load import load
from headway.tasks._model import Model
from headway.tasks.answering import Answering
from headway.tasks.choice import Choice
from headway.tasks.classification import Classification
from headway.tasks.regression import Regression
from headway.tasks.tagging import Tagging

SIZES = {"vocab_size": 24, "embedding_size": 6, "hidden_size": 8, "max_position_embeddings": 64}
KINDS = [
    pytest.param({"cell": cell, "bidirectional": both, "num_hidden_layers": layers},
                 id=f"{cell}-{'both' if both else 'forwards'}-{layers}")
    for cell in ("lstm", "gru") for both in (True, False) for layers in (1, 2)
]  # fmt: skip
ROWS = [[3, 5, 7, 9, 11], [4], [6, 8], [10, 12, 14, 16, 18, 20, 22]]


def make(**settings) -> Lstm:
    torch.manual_seed(2)
    body = Lstm(LstmConfig(**SIZES | {"dropout": 0.0} | settings)).eval()
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return body


def plain(body: Lstm) -> nn.Module:
    """Build torch's own network, and give it the same weights."""
    config = body.config
    directions = 2 if config.bidirectional else 1
    network = (nn.GRU if config.cell == "gru" else nn.LSTM)(
        config.embedding_size,
        config.hidden_size // directions,
        config.num_hidden_layers,
        batch_first=True,
        bidirectional=config.bidirectional,
    )
    network.load_state_dict(body.encoder.rnn.state_dict())
    return network.eval()


def states_of(body: Lstm, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Read one text alone with torch's network: all states, and the last ones of each direction."""
    with torch.no_grad():
        vectors = body.embeddings.token.weight[torch.tensor([ids])]
        hidden, last = plain(body)(vectors)
    last = last[0] if isinstance(last, tuple) else last
    return hidden[0], last[-2 if body.config.bidirectional else -1 :, 0].flatten()


def pack(rows: list[list[list[int]]]) -> Side:
    examples = [[Example(0, ids) for ids in row] for row in rows]
    return lay_out(examples, pad_id=0, start_id=0).source


# states


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_those_of_torch_for_each_text_alone(kind):
    body = make(**kind)
    with torch.no_grad():
        memory = body.encode(Side.padded(ROWS))
    for ids, found in zip(ROWS, memory.hidden, strict=True):
        wanted, _ = states_of(body, ids)
        assert torch.allclose(found[: len(ids)], wanted, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_texts_have_the_states_they_have_alone(kind):
    body = make(**kind)
    side = pack([[ROWS[0], ROWS[1]], [ROWS[2], ROWS[3], ROWS[1]]])
    with torch.no_grad():
        memory = body.encode(side)
    for row, texts in enumerate([[ROWS[0], ROWS[1]], [ROWS[2], ROWS[3], ROWS[1]]]):
        for number, ids in enumerate(texts, 1):
            found = memory.hidden[row][side.documents[row] == number]
            assert torch.allclose(found, states_of(body, ids)[0], atol=1e-6)


@given(st.lists(st.lists(st.integers(1, 23), min_size=1, max_size=6), min_size=1, max_size=4))
def test_a_text_never_depends_on_those_beside_it(rows):
    body = make()
    with torch.no_grad():
        memory = body.encode(Side.padded(rows))
    for ids, found in zip(rows, memory.hidden, strict=True):
        assert torch.allclose(found[: len(ids)], states_of(body, ids)[0], atol=1e-6)


def test_a_later_word_moves_earlier_states_only_backwards():
    one, other = [3, 5, 7], [3, 5, 9]
    for both, wanted in ((True, True), (False, False)):
        body = make(bidirectional=both)
        with torch.no_grad():
            first, second = (body.encode(Side.padded([ids])).hidden[0, 0] for ids in (one, other))
        assert bool((first != second).any()) == wanted
    half = SIZES["hidden_size"] // 2
    body = make()
    first, second = (body.encode(Side.padded([ids])).hidden[0, 0] for ids in (one, other))
    assert torch.equal(first[:half], second[:half])


# pooling


@pytest.mark.parametrize("kind", KINDS)
def test_the_pooled_vector_is_what_each_direction_says_at_its_end(kind):
    body = make(**kind)
    with torch.no_grad():
        memory = body.encode(Side.padded(ROWS))
        pooled = body.pooler(memory.hidden, memory.documents)
    for ids, found in zip(ROWS, pooled, strict=True):
        assert torch.allclose(found, states_of(body, ids)[1], atol=1e-6)


def test_ends_are_found_in_packed_rows():
    body = make()
    rows = [[ROWS[0], ROWS[1]], [ROWS[2], ROWS[3], ROWS[1]]]
    with torch.no_grad():
        memory = body.encode(pack(rows))
        pooled = body.pooler(memory.hidden, memory.documents)
    texts = [ids for row in rows for ids in row]
    assert len(pooled) == len(texts)
    for ids, found in zip(texts, pooled, strict=True):
        assert torch.allclose(found, states_of(body, ids)[1], atol=1e-6)


def test_ends_by_hand():
    hidden = torch.arange(24.0).view(1, 6, 4)
    documents = torch.tensor([[1, 1, 1, 2, 2, 0]])
    both, forwards = (EndsPooler(count)(hidden, documents) for count in (2, 1))
    assert both.tolist() == [[8, 9, 2, 3], [16, 17, 14, 15]]
    assert forwards.tolist() == [[8, 9, 10, 11], [16, 17, 18, 19]]


def test_attention_pooling_is_a_mean_by_softmax():
    body, pooler = make(), AttentionPooler(SIZES["hidden_size"], is_trained=True)
    with torch.no_grad():
        memory = body.encode(Side.padded(ROWS))
        pooled = pooler(body, memory).numpy()
    weight, bias = pooler.dense.weight.detach().numpy(), 0.0
    if pooler.dense.bias is not None:
        bias = pooler.dense.bias.detach().numpy()
    for ids, found in zip(ROWS, pooled, strict=True):
        states = states_of(body, ids)[0].numpy()
        scores = np.tanh(states @ weight.T + bias) @ pooler.query.detach().numpy()
        shares = np.exp(scores) / np.exp(scores).sum()
        assert np.abs(shares @ states - found).max() < 1e-5


# sizes


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"hidden_size": 7}, "hidden_size is 7, but two directions share it"),
        ({"cell": "rnn"}, "cell is 'rnn', but must be lstm or gru"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
    ],
)
def test_sizes_that_do_not_fit_are_named(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        make(**settings)


def test_an_odd_width_fits_one_direction():
    assert make(hidden_size=7, bidirectional=False).config.hidden_size == 7


# files

TASKS = {
    "classification": Classification(),
    "regression": Regression(),
    "tagging": Tagging(),
    "answering": Answering(max_tokens=40),
    "choice": Choice(),
}
ROW = {
    "text": "the cat sat on the mat",
    "words": ["the", "cat", "sat"],
    "question": "a bird",
    "context": "the old tree near the river",
    "choices": ["sings", "ran to the house", "read"],
}


def save(name: str, task, folder: Path) -> Model:
    """Save a model with a head of some kind whose weights are unlike fresh ones."""
    base = make_encoder("lstm")
    labels = {"classification": ("no", "yes"), "tagging": ("O", "B-A", "I-A")}.get(name, ())
    body = make_body("lstm", base.body.config, task.head).eval()
    head = task.make_head(body, labels).eval()
    with torch.no_grad():
        for parameter in [*body.parameters(), *head.parameters()]:
            parameter.add_(torch.randn_like(parameter) * 0.5)
    model = Model(
        body,
        base.tokenizer,
        task,
        task_name=name,
        architecture="lstm",
        head=head,
        labels=labels,
    )
    model.save(folder)
    return model


@pytest.mark.parametrize("name", TASKS)
def test_a_saved_head_is_read_again(name, tmp_path):
    model = save(name, TASKS[name], tmp_path / "model")
    opened = load(tmp_path / "model")
    for key, value in model.head.state_dict().items():
        assert torch.equal(opened.head.state_dict()[key], value), key
    asked = {column: ROW[column] for column in model.task.inputs}
    assert opened.predict([asked]) == model.predict([asked])


@pytest.mark.parametrize("pooling", ["mean", "attention", "attention-fixed"])
def test_a_saved_head_on_the_body_alone_is_read_again(pooling, tmp_path):
    model = save("classification", Classification(pooling=pooling), tmp_path / "model")
    assert load(tmp_path / "model").predict([{"text": ROW["text"]}]) == model.predict(
        [{"text": ROW["text"]}]
    )


def test_a_whole_model_opens_without_a_warning(tmp_path):
    save("classification", Classification(pooling="attention"), tmp_path / "model")
    assert load(tmp_path / "model").notes == ()


# a run

RECIPE = """
[data]
train = ["{folder}/train.jsonl"]
valid = ["{folder}/valid.jsonl"]
[text]
tokenizer = "word"
vocab-size = 60
[model]
architecture = "lstm"
embedding-size = 12
hidden-size = 16
dropout = 0.0
max-position-embeddings = 32
[task]
name = "classification"
pooling = "{pooling}"
max-tokens = 16
[training]
epochs = 12
batch-rows = 16
peak-lr = 1e-2
warmup-steps = 5
precision = "fp32"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Texts whose class is that of one word, anywhere among others."""
    generator = np.random.default_rng(0)
    for name, count in (("train", 96), ("valid", 32)):
        rows = []
        for number in range(count):
            words = [str(word) for word in generator.choice(list("cdefgh"), size=6)]
            words.insert(int(generator.integers(7)), "good" if number % 2 else "bad")
            rows.append({"text": " ".join(words), "label": ("no", "yes")[number % 2]})
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.mark.parametrize("pooling", ["attention", "published"])
def test_it_learns_a_toy_from_nothing(folder, capsys, pooling):
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(folder=folder, pooling=pooling))
    code = main(["train", str(path), "--out", str(folder / "run")])
    assert code == 0, capsys.readouterr().err
    model = load(folder / "run" / "model")
    assert (model.architecture, model.task.pooling) == ("lstm", pooling)
    rows = [json.loads(line) for line in (folder / "valid.jsonl").read_text().splitlines()]
    right = [a["prediction"] == row["label"] for a, row in zip(
        model.predict(rows), rows, strict=True
    )]  # fmt: skip
    assert np.mean(right) > 0.9
    assert model.summary["valid"]["accuracy"] == pytest.approx(100 * np.mean(right))
    again = folder / "again"
    model.save(again)
    assert load(again).predict(rows) == model.predict(rows)
