"""A small tagger on frozen features: which layers know most (Devlin et al. 2019, table 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.data.batch import pad_rows
from headway.data.order import inference_batches
from headway.layers.losses import IGNORE
from headway.metrics.classes import span_statistics
from headway.tasks._load import load
from headway.tasks._model import Model
from headway.tasks.tagging import Tagging
from headway.text.tags import read_spans

_EPOCHS, _ROWS, _RATE, _WIDTH = 15, 512, 1e-3, 256
COMBINATIONS = {
    "first layer": lambda states: states[1],
    "last layer": lambda states: states[-1],
    "second-to-last layer": lambda states: states[-2],
    "sum of all layers": lambda states: torch.stack(states[1:]).sum(0),
    "sum of the last four": lambda states: torch.stack(states[-4:]).sum(0),
    "the last four beside each other": lambda states: torch.cat(states[-4:], dim=-1),
}


@dataclass(frozen=True)
class Words:
    """Words of some sentences.

    Args:
        states: Of each layer, (N, D) float32: those of the words' first pieces.
        labels: (N) int64.
        sentences: (N) int64. Which sentence each word is of.
    """

    states: list[Tensor]
    labels: Tensor
    sentences: Tensor


def read_words(model: Model, rows: Sequence[dict]) -> Words:
    """Compute all hidden states of the first piece of each word."""
    examples = model.task.encode(rows, model.setting).examples
    states, labels, sentences = [], [], []
    lengths = [len(example.input_ids) for example in examples]
    for part in inference_batches(lengths, batch_tokens=8192, batch_rows=256):
        batch = model.task.collate(pad_rows([examples[i] for i in part]), model.setting)
        wanted = batch.labels != IGNORE
        with torch.inference_mode():
            found = [hidden[wanted] for hidden in model.body.hidden_states(batch.source)]
        states.append(torch.stack(found))
        labels.append(batch.labels[wanted])
        sentences.append(torch.tensor(part)[:, None].expand_as(wanted)[wanted])
    whole = torch.cat(states, dim=1)
    return Words(list(whole), torch.cat(labels), torch.cat(sentences))


def entity_f1(names: Sequence[str], said: Tensor, words: Words) -> float:
    """Compare spans as conlleval does; sentences of which a word was not read are cut short."""
    predictions, references = [], []
    for number in words.sentences.unique().tolist():
        places = (words.sentences == number).nonzero().squeeze(1)
        predictions.append(read_spans([names[i] for i in said[places].tolist()])[0])
        references.append(read_spans([names[i] for i in words.labels[places].tolist()])[0])
    return span_statistics(predictions, references)[0].value()


def train_tagger(features: Tensor, labels: Tensor, count: int) -> nn.Module:
    """Train a network of one hidden layer on features that stay as they are."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(features.shape[1], _WIDTH), nn.ReLU(), nn.Dropout(0.2), nn.Linear(_WIDTH, count)
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE)
    drawer = np.random.default_rng(0)
    for _ in range(_EPOCHS):
        for part in np.array_split(drawer.permutation(len(labels)), len(labels) // _ROWS + 1):
            loss = F.cross_entropy(network(features[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def compare_layers(folder: Path, train: Sequence[dict], test: Sequence[dict]) -> dict[str, float]:
    """Give the entity F1 of a small tagger on each combination of layers."""
    labels = Tagging().find_labels(train)
    model = load(folder, task=Tagging(), task_name="tagging", labels=labels)
    one, other = read_words(model, train), read_words(model, test)
    found = {}
    for name, combine in COMBINATIONS.items():
        features = combine(one.states)
        mean, spread = features.mean(0), features.std(0) + 1e-6
        network = train_tagger((features - mean) / spread, one.labels, len(labels))
        with torch.inference_mode():
            said = network((combine(other.states) - mean) / spread).argmax(-1)
        found[name] = entity_f1(labels, said, other)
        print(f"| {name} | {found[name]:.2f} |", flush=True)
    return found
