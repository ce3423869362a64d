"""Whole commands of encoders: pretrain from text, go on with a domain, and what is said of it."""

from __future__ import annotations

import random

import pytest
import torch

from headway.cli._main import main

WORDS = [
    "the",
    "cat",
    "dog",
    "house",
    "tree",
    "sat",
    "ran",
    "stood",
    "by",
    "under",
    "near",
    "old",
    "red",
    "small",
    "quickly",
]
SMALL = [
    "--model.hidden-size",
    "32",
    "--model.num-hidden-layers",
    "2",
    "--model.num-attention-heads",
    "2",
]
RECIPES = ("bert-mini-pretrain", "roberta-mini-pretrain", "albert-mini-pretrain")


def write_text(path, *, documents: int, seed: int):
    drawn = random.Random(seed)
    lines = []
    for _ in range(documents):
        lines += [" ".join(drawn.choices(WORDS, k=8)) + "." for _ in range(4)] + [""]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    sizes = {"large": 40, "small": 10, "valid": 8}
    return {
        name: write_text(folder / f"{name}.txt", documents=count, seed=count)
        for name, count in sizes.items()
    }


def pretrain(recipe: str, texts, out, *more: str) -> int:
    corpora = [str(texts["large"]), str(texts["small"])]
    words = ["train", recipe, "--data.train", *corpora, "--data.valid", str(texts["valid"])]
    words += [*SMALL, "--model.intermediate-size", "64", "--out", str(out)]
    return main([*words, "--training.batch-tokens", "512", "--training.steps", "6", *more])


@pytest.fixture(scope="module")
def runs(texts, tmp_path_factory):
    found = {}
    for recipe in RECIPES:
        found[recipe] = tmp_path_factory.mktemp("runs") / recipe
        assert pretrain(recipe, texts, found[recipe], "--data.weights", "0.5", "2") == 0
    return found


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_runs_to_its_end_and_transformers_opens_what_comes_out(recipe, runs):
    transformers = pytest.importorskip("transformers")
    folder = runs[recipe] / "model"
    model, said = transformers.AutoModelForMaskedLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not said["missing_keys"]
    assert model.config.model_type == recipe.split("-")[0]
    assert (runs[recipe] / "report.html").is_file()
    assert transformers.AutoTokenizer.from_pretrained(folder)("the cat")["input_ids"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_how_often_each_corpus_was_read_is_in_the_log(recipe, runs):
    log = (runs[recipe] / "log.txt").read_text()
    passes = {
        name: float(line.split(f"{name}.txt: ")[1].split()[0])
        for line in log.splitlines()
        for name in ("large", "small")
        if line.endswith("passes") and f"{name}.txt: " in line
    }
    # By their weights.
    assert passes["small"] == pytest.approx(4 * passes["large"], rel=0.05)


def test_a_corpus_smaller_than_one_batch_is_learned_from(texts, tmp_path):
    small = {**texts, "large": texts["small"]}
    more = ("--training.batch-tokens", "1000000")
    assert pretrain("bert-mini-pretrain", small, tmp_path / "run", *more) == 0


def test_a_domain_brings_words_that_begin_as_the_mean_of_their_pieces(runs, texts, tmp_path):
    transformers = pytest.importorskip("transformers")
    first = runs["bert-mini-pretrain"] / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(first)
    pieces = tokenizer("hydrogen", add_special_tokens=False)["input_ids"]
    assert len(pieces) > 1
    domain = tmp_path / "domain.txt"
    domain.write_text(texts["small"].read_text().replace("house", "hydrogen"))
    words = ["train", "domain-adapt", "--model.path", str(first), "--data.train", str(domain)]
    words += ["--data.valid", str(domain), "--text.add-words", "1", "--training.steps", "1"]
    # So small a step that what the word began as can be seen.
    words += ["--training.peak-lr", "1e-9", "--training.warmup-steps", "0"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    adapted = tmp_path / "run" / "model"
    (added,) = transformers.AutoTokenizer.from_pretrained(adapted)(
        "hydrogen", add_special_tokens=False
    )["input_ids"]
    assert added == len(tokenizer)
    before, after = (
        transformers.AutoModelForMaskedLM.from_pretrained(path).get_input_embeddings().weight
        for path in (first, adapted)
    )
    assert torch.allclose(after[added], before[pieces].mean(0), atol=1e-6)
