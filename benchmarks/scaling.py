"""Loss of small GPTs against their parameters and tokens, fitted as Chinchilla's authors did.

    python benchmarks/scaling.py --data PACK --out WORK [--at-once 2]

Five sizes are trained on general_text for three budgets of tokens each, every run with a cosine of
its own length; L(N, D) = E + A / N^alpha + B / D^beta is fitted to their losses on held-out text
(Hoffmann et al. 2022, arXiv 2203.15556, section 3.3 and appendix D.2). N leaves embeddings out.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from _jobs import Job, train
from _tables import describe_run

# Width, layers and heads of the five sizes; tokens of the three budgets.
_SIZES = ((32, 2, 2), (64, 2, 2), (96, 3, 3), (128, 4, 4), (192, 5, 6))
_BUDGETS = (500_000, 1_500_000, 4_500_000)
_BATCH = 2048
_VALID_LINES = 600


def parameters(width: int, layers: int) -> int:
    """Count the parameters of the blocks and the last norm."""
    return layers * (12 * width * width + 13 * width) + 2 * width


def jobs(pack: Path, valid: Path, count: int) -> dict[tuple[int, int], Job]:
    """List the runs: (parameters, tokens) -> training."""
    found = {}
    for (width, layers, heads), tokens in itertools.product(_SIZES[:count], _BUDGETS):
        steps = tokens // _BATCH
        flags = {
            "data.train": [str(pack / "general_text" / "train.txt.gz")],
            "data.valid": [str(valid)],
            "text.vocab-size": "2000",
            "model.hidden-size": str(width),
            "model.num-hidden-layers": str(layers),
            "model.num-attention-heads": str(heads),
            "model.max-position-embeddings": "128",
            "task.max-tokens": "128",
            "training.steps": str(steps),
            "training.batch-tokens": str(_BATCH),
            "training.peak-lr": f"{4e-3 * (64 / width) ** 0.5:.2g}",
            "training.evaluate-steps": str(steps),
        }
        name = f"{width} x {layers} {tokens // 1000}k"
        found[parameters(width, layers), steps * _BATCH] = Job(name, "gpt-pretrain", flags)
    return found


def loss_of(run: Path) -> float:
    """Give the last loss on held-out text, in nats a token."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    values = [json.loads(line) for line in lines]
    return [v["valid"]["loss"] for v in values if "valid" in v][-1]


def predict(theta: np.ndarray, sizes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Give log L for theta = log A, log B, log E, alpha, beta."""
    a, b, e, alpha, beta = theta
    terms = np.stack([a - alpha * np.log(sizes), b - beta * np.log(tokens), np.full(len(sizes), e)])
    return np.logaddexp.reduce(terms)


def fit(sizes: np.ndarray, tokens: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Fit by Huber's loss of the logarithms, from a grid of beginnings."""

    def objective(theta: np.ndarray) -> float:
        error = np.abs(predict(theta, sizes, tokens) - np.log(losses))
        delta = 1e-3
        return float(np.where(error < delta, error**2 / 2, delta * (error - delta / 2)).sum())

    grid = itertools.product((0, 5, 10), (0, 5, 10), (-1, 0, 1), (0.2, 0.5, 1.0), (0.2, 0.5, 1.0))
    results = [minimize(objective, np.array(start, float), method="L-BFGS-B") for start in grid]
    return min(results, key=lambda result: result.fun).x


def draw(rows: list[dict[str, Any]], theta: np.ndarray, path: Path) -> None:
    """Draw losses against tokens, a line of the fit for each size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    budgets = np.geomspace(min(_BUDGETS) / 2, max(_BUDGETS) * 2, 50)
    for number, size in enumerate(sorted({row["parameters"] for row in rows})):
        mine = [row for row in rows if row["parameters"] == size]
        color = f"C{number}"
        axes.plot([r["tokens"] for r in mine], [r["loss"] for r in mine], "o", color=color)
        line = np.exp(predict(theta, np.full(50, size), budgets))
        axes.plot(budgets, line, color=color, label=f"{size / 1e3:,.0f} k parameters")
    axes.set(xscale="log", xlabel="training tokens", ylabel="held-out loss, nats a token")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train what is missing, fit, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="the data pack")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs")
    parser.add_argument("--at-once", type=int, default=2, help="trainings side by side")
    parser.add_argument("--sizes", type=int, default=len(_SIZES), help="the smallest so many")
    options = parser.parse_args()
    pack, out = options.data.resolve(), options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    valid = out / "valid.txt"
    with gzip.open(pack / "general_text" / "valid.txt.gz", "rt", encoding="utf-8") as stream:
        valid.write_text("".join(itertools.islice(stream, _VALID_LINES)), encoding="utf-8")
    runs = jobs(pack, valid, options.sizes)
    train(list(runs.values()), out, at_once=options.at_once)
    rows = [
        {"parameters": size, "tokens": tokens, "loss": loss_of(job.folder(out)), "run": job.name}
        for (size, tokens), job in runs.items()
    ]
    sizes, tokens, losses = (
        np.array([row[name] for row in rows], float) for name in ("parameters", "tokens", "loss")
    )
    theta = fit(sizes, tokens, losses)
    found = np.exp(predict(theta, sizes, tokens))
    print(describe_run())
    print("| run | parameters | tokens | loss | fit |\n|---|---:|---:|---:|---:|")
    for row, value in zip(rows, found, strict=True):
        print(
            f"| {row['run']} | {row['parameters']:,} | {row['tokens']:,} | {row['loss']:.3f} | "
            f"{value:.3f} |"
        )
    a, b, e, alpha, beta = theta
    print(
        f"\nL = {np.exp(e):.3f} + {np.exp(a):.4g} / N^{alpha:.3f} + {np.exp(b):.4g} / D^{beta:.3f}"
        f"; mean error {np.abs(found - losses).mean():.3f}"
    )
    draw(rows, theta, out / "scaling.png")
    (out / "scaling.json").write_text(json.dumps({"rows": rows, "theta": theta.tolist()}))


if __name__ == "__main__":
    main()
