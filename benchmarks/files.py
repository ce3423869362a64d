"""Speed and memory of what reads files: a corpus tokenized, a model loaded.

    python benchmarks/files.py --data DIR [--part tokenize|load] [--megabytes 1000] [--json OUT]

`tokenize` measures a corpus on its way into a store beside the tokenizers library alone: the same
lines, in batches, and the ids thrown away. `load` measures BERT-base beside reading its file and
touching every weight, and beside transformers. Sides take turns, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _corpora import prepare
from _tables import describe_run, say

_BATCH_CHARACTERS = 1 << 22
_KINDS = ("wordpiece", "byte-bpe")


def tokenize_ours(corpus: Path, tokenizer: Path, work: Path) -> int:
    """Write a store; give its number of tokens."""
    from headway.data.store import open_store
    from headway.text.tokenizer import Tokenizer

    with tempfile.TemporaryDirectory(dir=work) as folder:
        store = open_store([corpus], Tokenizer.from_file(tokenizer), folder=Path(folder))
        return len(store.ids)


def tokenize_theirs(corpus: Path, tokenizer: Path, work: Path) -> int:
    """Encode every line with the tokenizers library; give the number of tokens."""
    from tokenizers import Tokenizer

    engine = Tokenizer.from_file(str(tokenizer))
    count = 0
    with corpus.open(encoding="utf-8", newline="\n") as file:
        while lines := file.readlines(_BATCH_CHARACTERS):
            texts = [line.rstrip("\n") for line in lines]
            found = engine.encode_batch_fast(texts, add_special_tokens=False)
            count += sum(map(len, found))
    return count


def load_ours(folder: Path) -> float:
    """Load a model and touch every weight."""
    import headway

    return float(sum(p.detach().sum() for p in headway.load(folder).body.parameters()))


def load_theirs(folder: Path) -> float:
    """Load a model and its tokenizer with transformers and touch every weight."""
    from transformers import AutoTokenizer, BertForMaskedLM

    AutoTokenizer.from_pretrained(folder)
    model = BertForMaskedLM.from_pretrained(folder)
    return float(sum(p.detach().sum() for p in model.parameters()))


def map_only(folder: Path) -> float:
    """Map the file, tensor by tensor, as the safetensors library does; touch every number."""
    from safetensors.torch import load_file

    return float(sum(value.sum() for value in load_file(folder / "model.safetensors").values()))


def read_only(folder: Path) -> float:
    """Read the file and touch every number in it."""
    import torch

    content = (folder / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    return float(torch.frombuffer(memoryview(content)[header:], dtype=torch.float32).sum())


def _measure(work: Callable[..., float], arguments: Sequence[Any], warm: int) -> dict[str, float]:
    """Run in this process, first some times off the clock; give seconds, result and memory."""
    for _ in range(warm):
        work(*arguments)
    started = time.perf_counter()
    result = work(*arguments)
    seconds = time.perf_counter() - started
    # Not getrusage: its figure survives exec, and would be that of the process before.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return {"seconds": seconds, "result": result, "megabytes": int(peak) / 1024}


def take_turns(
    sides: dict[str, tuple[Callable[..., float], Sequence[Any]]], *, repeats: int, warm: int
) -> dict[str, Any]:
    """Measure each side in a fresh process, in turns."""
    context = multiprocessing.get_context("spawn")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for repeat in range(repeats):
        for name in sides if repeat % 2 == 0 else reversed(sides):
            work, arguments = sides[name]
            with context.Pool(1) as pool:
                found[name].append(pool.apply(_measure, (work, arguments, warm)))
            say(f"  round {repeat + 1}: {name}: {found[name][-1]}")
    table = {}
    for name, runs in found.items():
        first = next(iter(found.values()))
        ratios = [ours["seconds"] / run["seconds"] for ours, run in zip(first, runs, strict=True)]
        table[name] = {
            "seconds": statistics.median(run["seconds"] for run in runs),
            "ours / this": statistics.median(ratios),
            "peak memory, MB": max(run["megabytes"] for run in runs),
            "runs": runs,
        }
    return table


def measure_tokenizing(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Tokenize a corpus of the size asked for, made of the data pack's text again and again."""
    from headway.data.lines import read_text
    from headway.text.specials import SPECIALS
    from headway.text.train import train_tokenizer

    parts = [Path(prepare(options.data, work, n, "train")) for n in ("general_text", "wikitext2")]
    corpus, wanted = work / "corpus.txt", options.megabytes * 1_000_000
    text = b"\n".join(part.read_bytes() for part in parts)
    with corpus.open("wb") as file:
        while file.tell() < wanted:
            file.write(text[: wanted - file.tell()].rpartition(b"\n")[0] + b"\n\n")
    tables = {}
    for kind in _KINDS:
        special = SPECIALS["bert" if kind == "wordpiece" else "roberta"]
        lines = [line for part in parts for line in read_text(part)]
        made = train_tokenizer(
            kind, lines, vocab_size=8000, lowercase=kind == "wordpiece", specials=special
        )
        path = work / f"{kind}.json"
        path.write_text(made.to_json(), encoding="utf-8")
        sides = {
            "Headway, into a store": (tokenize_ours, (corpus, path, work)),
            "tokenizers, ids thrown away": (tokenize_theirs, (corpus, path, work)),
        }
        say(f"{kind}, {corpus.stat().st_size / 1e6:,.0f} MB")
        tables[f"tokenize, {kind}"] = take_turns(sides, repeats=options.repeats, warm=0)
    return tables


def measure_loading(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Load BERT-base, with a vocabulary of its size."""
    from headway.data.lines import read_text
    from headway.models.bert import PRESETS, Bert, BertConfig
    from headway.tasks._model import Model
    from headway.tasks.masked_lm import MaskedLm
    from headway.text.specials import SPECIALS
    from headway.text.train import train_tokenizer

    tokenizer = train_tokenizer(
        "wordpiece",
        read_text(sorted((options.data / "general_text").glob("*.txt.gz"))[0]),
        vocab_size=30522,
        lowercase=True,
        specials=SPECIALS["bert"],
    )
    say(f"a vocabulary of {tokenizer.vocab_size:,} entries")
    body = Bert(BertConfig(**PRESETS["base"], vocab_size=30522), ("masked_lm",))
    folder = work / "base"
    Model(body, tokenizer, MaskedLm(), task_name="masked_lm", architecture="bert").save(folder)
    sides = {
        "Headway": (load_ours, (folder,)),
        "read the file, touch every weight": (read_only, (folder,)),
        "map the file, touch every weight": (map_only, (folder,)),
        "transformers": (load_theirs, (folder,)),
    }
    return {"load BERT-base": take_turns(sides, repeats=options.repeats, warm=2)}


_PARTS = {"tokenize": measure_tokenizing, "load": measure_loading}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="the data pack")
    parser.add_argument("--part", choices=(*_PARTS, "both"), default="both")
    parser.add_argument("--megabytes", type=int, default=1000, help="of the corpus")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--json", type=Path, help="file for everything measured")
    options = parser.parse_args()
    run = describe_run()
    tables: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in _PARTS.items():
            if options.part in (name, "both"):
                tables |= measure(options, Path(folder))
    for name, table in tables.items():
        print(f"\n### {name}\n\n| side | seconds, median | ours / this | peak memory |")
        print("|---|---:|---:|---:|")
        for side, row in table.items():
            ratio, memory = row["ours / this"], row["peak memory, MB"]
            print(f"| {side} | {row['seconds']:.3f} | {ratio:.2f} | {memory:,.0f} MB |")
    if options.json:
        options.json.write_text(json.dumps(run | {"tables": tables}, indent=1) + "\n")


if __name__ == "__main__":
    main()
