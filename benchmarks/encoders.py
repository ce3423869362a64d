"""Encoders pretrained from plain text: three families, an ablation, and two domains.

    python benchmarks/encoders.py --data DIR --out WORK [--part minis|ablation|domains|score]

`minis` trains the three shipped recipes on the same number of tokens; `ablation` trains the
smallest BERT with other masks and other pairs, from the same first weights; `domains` continues
the BERT on scientific abstracts and on financial news; `score` evaluates every model that is
there, and draws the losses of the minis. Trainings that were stopped go on where they were.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headway.memory import choose_environment, keep_freed_memory

# Before torch is loaded, as the command line does.
choose_environment(is_training=True)
keep_freed_memory()

import numpy as np
import torch

import headway
from _corpora import prepare
from _jobs import Job, train
from headway import recipe as recipes
from headway.data.store import open_store
from headway.explain.curves import Curve, draw_curves
from headway.tasks._embedding import embed
from headway.tasks._model import Model
from headway.tasks.masked_lm import MaskedLm
from headway.train.evaluate import evaluate
from headway.train.prepare import prepare as prepare_run

_CORPORA = ("general_text", "wikitext2")
_DOMAINS = ("scitldr", "financial_phrasebank")
_BATCH_TOKENS = 2048

MINIS = {
    "BERT": "bert-mini-pretrain",
    "RoBERTa": "roberta-mini-pretrain",
    "ALBERT": "albert-mini-pretrain",
}
_PLAIN = {"task.pair": "none"}
ABLATION: Mapping[str, Mapping[str, str]] = {
    "static masks": _PLAIN | {"task.masking": "static"},
    "dynamic masks": _PLAIN | {"task.masking": "dynamic"},
    "dynamic masks, next sentence": {"task.pair": "next-sentence"},
    "dynamic masks, sentence order": {"task.pair": "sentence-order"},
}
# Two senses of one word, twice each.
STICK = {
    "thing": ("Give me the stick.", "He broke the stick in two."),
    "persist": ("Let's stick to improving our work.", "We shall stick to the plan."),
}


class Work:
    """Where everything of this benchmark lies, and what its jobs are."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.data, self.out = options.data.resolve(), options.out.resolve()
        self.tokens, self.tiny_tokens = options.tokens, options.tiny_tokens

    def corpus(self, name: str, split: str) -> str:
        """Write a corpus once; name its file."""
        return prepare(self.data, self.out / "corpora", name, split)

    def mini_jobs(self) -> list[Job]:
        """List the three families at an equal number of tokens."""
        flags = {
            "data.train": [self.corpus(name, "train") for name in _CORPORA],
            "data.valid": [self.corpus("wikitext2", "valid")],
            # An epoch is a quarter of each corpus, two million tokens; the short examples are about
            # a third of all.
            "data.weights": ["0.25", "0.25"],
            "task.short-epochs": str(max(1, round(self.tokens / 6e6))),
            **_length(self.tokens),
        }
        return [Job(name, recipe, flags) for name, recipe in MINIS.items()]

    def ablation_jobs(self) -> list[Job]:
        """List the smallest BERT in all forms, from one vocabulary and the same first weights."""
        flags = {
            "data.train": [self.corpus("wikitext2", "train")],
            "data.valid": [self.corpus("wikitext2", "valid")],
            # Several passes over a part of it, always in short examples: masks that are drawn
            # once are then seen again, and so small a network learns something in the time.
            "data.max-rows": "30000",
            "task.max-tokens": "32",
            "training.peak-lr": "1e-3",
            "training.betas": ["0.9", "0.98"],
            "training.warmup-steps": "300",
            **_length(self.tiny_tokens),
        }
        first = self.out / "tiny"
        if not first.exists():
            changes = {
                "data": {"train": flags["data.train"], "valid": flags["data.valid"]},
                "model": {"preset": "tiny"},
                "task": {"pair": "none"},
            }
            recipe = recipes.read(recipes.find(MINIS["BERT"]), changes)
            prepare_run(recipe).model.save(first)
        return [
            Job(name, "domain-adapt", {**flags, "model.path": str(first), **changes})
            for name, changes in ABLATION.items()
        ]

    def domain_jobs(self) -> list[Job]:
        """List the BERT continued on each domain."""
        model = self.out / "BERT" / "model"
        return [
            Job(
                f"BERT on {name}",
                "domain-adapt",
                {
                    "data.train": [self.corpus(name, "train")],
                    "data.valid": [self.corpus(name, "valid")],
                    "model.path": str(model),
                    "training.batch-tokens": "2048",
                    "training.peak-lr": "3e-4",
                    "training.epochs": "2",
                    "training.evaluate-steps": "50",
                },
            )
            for name in _DOMAINS
        ]

    def model(self, name: str) -> Model | None:
        """Load the model of a run, None if it is not finished."""
        folder = self.out / name.replace(",", "").replace(" ", "-")
        log = folder / "log.txt"
        if not (log.exists() and "finished at step" in log.read_text(encoding="utf-8")):
            return None
        return headway.load(folder / "model")

    def score(self, model: Model, corpus: str, **settings: Any) -> dict[str, float]:
        """Score a model on the validation text of a corpus.

        Args:
            model: Of the task masked_lm.
            corpus: Name of the folder in the data pack.
            settings: Fields of the task to change.
        Returns:
            Name of a score -> value; shares in percent.
        """
        if not isinstance(model.task, MaskedLm):
            raise TypeError(f"{model.task_name} is not masked language modeling")
        task = replace(model.task, **settings)
        store = open_store([self.corpus(corpus, "valid")], model.tokenizer)
        changed = copy.copy(model)
        changed.task = task
        examples = task.encode_corpus(store, model.setting)
        return evaluate(changed, [], examples=examples, predicting=False).scores

    def row(self, name: str, corpora: Sequence[str]) -> dict[str, Any] | None:
        """Score a model with masks only, and with pairs where it has learned them."""
        model = self.model(name)
        if model is None:
            return None
        folder = self.out / name.replace(",", "").replace(" ", "-")
        last = sorted((folder / "checkpoints").glob("step-*/state.json"))[-1]
        state = json.loads(last.read_text(encoding="utf-8"))
        row: dict[str, Any] = {
            "name": name,
            "tokens": state["tokens"],
            "minutes": state["seconds"] / 60,
        }
        for corpus in corpora:
            row[corpus] = self.score(model, corpus, pair="none")
            if getattr(model.task, "pair", "none") != "none":
                row[corpus]["pair_accuracy"] = self.score(model, corpus)["pair_accuracy"]
        return row


def draw_minis(work: Work) -> str:
    """Draw the loss of masked tokens in training by tokens read, as a picture."""
    curves = []
    for name in MINIS:
        log = work.out / name / "metrics.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else ()
        points = [
            (row["step"] * _BATCH_TOKENS / 1e6, row["losses"]["masked_lm"])
            for row in map(json.loads, lines)
            if "losses" in row
        ]
        if points:
            curves.append(Curve(name=name, points=points))
    title = "masked tokens: training loss, nats"
    return draw_curves(curves, title=title, x_name="million tokens", size=(720, 320))


def senses(model: Model) -> dict[str, float]:
    """Measure how far the two senses of "stick" lie apart.

    Returns:
        Mean cosine of two uses of the same sense, of different senses, and the difference.
    """
    sentences = [sentence for pair in STICK.values() for sentence in pair]
    found = embed(model, sentences, pool="tokens")
    vectors = np.stack([item.vectors[item.words.index("stick")] for item in found])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    same = float((cosines[0, 1] + cosines[2, 3]) / 2)
    different = float(cosines[:2, 2:].mean())
    return {"same": same, "different": different, "gap": same - different}


def _length(tokens: float) -> dict[str, str]:
    steps = round(tokens / _BATCH_TOKENS)
    return {
        "training.batch-tokens": str(_BATCH_TOKENS),
        "training.steps": str(steps),
        "training.evaluate-steps": str(max(1, steps // 8)),
    }


def to_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write a row for each model, and a group of columns for each corpus."""
    if not rows:
        return "nothing is trained\n"
    corpora = [key for key, value in rows[0].items() if isinstance(value, Mapping)]
    cells = ["model", "tokens", "training"]
    for corpus in corpora:
        cells += [f"{corpus}: perplexity", "masked accuracy", "pair accuracy"]
    lines = [f"| {' | '.join(cells)} |", f"|---{'|---:' * (len(cells) - 1)}|"]
    for row in rows:
        cells = [row["name"], f"{row['tokens'] / 1e6:.1f} M", f"{row['minutes']:.0f} min"]
        for corpus in corpora:
            scores = row[corpus]
            pair = scores.get("pair_accuracy")
            cells += [f"{scores['perplexity']:.2f}", f"{scores['masked_accuracy']:.2f} %"]
            cells.append("" if pair is None else f"{pair:.2f} %")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="the data pack")
    parser.add_argument("--out", type=Path, required=True, help="folder for corpora and runs")
    parser.add_argument("--part", choices=(*_PARTS, "score", "all"), default="all")
    parser.add_argument("--only", help="name of the one model to train")
    parser.add_argument("--at-once", type=int, default=1, help="trainings side by side")
    parser.add_argument("--tokens", type=float, default=12e6, help="seen by each of the minis")
    parser.add_argument("--tiny-tokens", type=float, default=8e6, help="by each of the ablation")
    return parser.parse_args()


_PARTS = {
    "minis": (Work.mini_jobs, _CORPORA),
    "ablation": (Work.ablation_jobs, ("wikitext2",)),
    "domains": (Work.domain_jobs, (*_DOMAINS, *_CORPORA)),
}


def main() -> None:
    """Run the parts asked for and print the tables."""
    options = parse_options()
    work = Work(options)
    for name, (jobs_of, _) in _PARTS.items():
        if options.part in (name, "all"):
            jobs = [job for job in jobs_of(work) if options.only in (None, job.name)]
            train(jobs, work.out, at_once=options.at_once)
    if options.part not in ("score", "all"):
        return
    found: dict[str, Any] = {}
    for name, (jobs_of, corpora) in _PARTS.items():
        names = [job.name for job in jobs_of(work)]
        if name == "domains":
            names.insert(0, "BERT")
        rows = [work.row(each, corpora) for each in names]
        found[name] = [row for row in rows if row is not None]
        print(f"### {name}\n\n{to_markdown(found[name])}", flush=True)
    if (model := work.model("BERT")) is not None:
        found["stick"] = {"after": senses(model)}
        torch.manual_seed(0)
        model.body.init_weights()
        found["stick"]["before"] = senses(model)
        print(f"### stick\n\n{json.dumps(found['stick'], indent=1)}")
    (work.out / "minis.svg").write_text(draw_minis(work), encoding="utf-8")
    (work.out / "scores.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
