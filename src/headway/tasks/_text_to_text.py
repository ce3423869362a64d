"""What tasks share that write a text for a text: sources, targets and the search for the best."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from headway.data.batch import Batch, Example, lay_out
from headway.data.order import inference_batches
from headway.decode.beam import BeamOptions, Hypothesis, beam_search
from headway.errors import RequestError
from headway.layers.losses import IGNORE, Loss, linear_cross_entropy
from headway.layers.side import Side
from headway.tasks._examples import count_unknown, cut_ids
from headway.tasks._parallel import answer_batches
from headway.tasks._settings import at_least, rate_problems, within
from headway.tasks._task import (
    NO_CHANCE,
    Answer,
    Body,
    Draw,
    Encoded,
    Head,
    Layout,
    OnProgress,
    Progress,
    Record,
    Rows,
    Setting,
    Task,
)
from headway.tasks._texts import needed, where_asked

# Cells of a batch in prediction; beams multiply them.
_BATCH_TOKENS = 4096
# Beams of a batch: the memory of a search grows with the square of a row's beams.
_BATCH_BEAMS = 2048
_MOST_BEAMS = 256
# Lengths to a higher power leave the range of floats, and no search is better for it.
_LARGEST_PENALTY = 20.0
_LARGEST_RATIO = 1e6
# Tokens that a result may have beyond the ratio: short sources have long answers.
_MORE_TOKENS = 20


@dataclass(frozen=True, kw_only=True)
class TextToText(Task):
    """What tasks are and do that write a text for a text, unless they say otherwise."""

    prefix: str = ""
    """Stands before every source, such as "summarize: " for a T5 that knows several tasks."""
    label_smoothing: float = 0.1
    """Share of the target distribution spread over the vocabulary, 0 to below 1."""
    max_source_tokens: int = 256
    """Sources are cut to this length, which is counted and reported."""
    max_target_tokens: int = 256
    """Targets are cut to this length in training, and never decoded beyond it."""
    max_length_ratio: float = 2.0
    """A result has at most this many tokens for each of its source's, and 20 more; 0: no bound."""
    num_beams: int = 5
    """Beams in decoding; 1 is greedy."""
    length_penalty: float = 1.0
    """Exponent of the length by which a score is divided; more favours longer results."""
    min_tokens: int = 0
    """Tokens a result has at least."""
    num_best: int = 1
    """Results given for each row."""
    batch_rows: int = 32
    """Rows decoded together."""

    # What is read, and what is written.
    columns: ClassVar[tuple[str, ...]] = ("source", "target")
    inputs: ClassVar[tuple[str, ...]] = ("source",)
    bodies: ClassVar[tuple[str, ...]] = ("encoder_decoder",)
    heads: ClassVar[tuple[str, ...]] = ("translation",)
    head: ClassVar[str] = "translation"

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        names = ("max_source_tokens", "max_target_tokens", "num_beams", "batch_rows")
        problems = rate_problems(self, "label_smoothing") + at_least(self, dict.fromkeys(names, 1))
        if self.num_beams > _MOST_BEAMS:
            problems.append(f"num_beams is {self.num_beams}, but at most {_MOST_BEAMS} can be kept")
        tokens, ratio, penalty = self.max_target_tokens, _LARGEST_RATIO, _LARGEST_PENALTY
        problems += within(self, "min_tokens", 0, tokens, f"max_target_tokens ({tokens})")
        problems += within(self, "max_length_ratio", 0, ratio)
        problems += within(self, "length_penalty", -penalty, penalty)
        beams = self.num_beams
        return problems + within(self, "num_best", 1, max(1, beams), f"num_beams ({beams})")

    def texts(self, rows: Rows) -> list[str]:
        """Give both sides: the vocabulary is joint."""
        return [text for column in self.columns for text in self._side(rows, column)]

    def _side(self, rows: Rows, column: str) -> list[str]:
        """Give the sources, with what stands before them, or the targets."""
        if column == self.columns[0]:
            return [self.prefix + row[column] for row in rows]
        return [self.references(row)[0] for row in rows if column in row]

    def to_ids(self, texts: Sequence[str], setting: Setting) -> list[list[int]]:
        """Turn texts of either side into ids that end in </s>."""
        return setting.tokenizer.encode_ids(texts)

    def references(self, row: Record) -> list[str]:
        """Give the texts that would be right; the first is learned."""
        return [row[self.columns[1]]]

    def encode(self, rows: Rows, setting: Setting) -> Encoded:
        """Turn records into ids that end in </s>; targets only if every record has one."""
        bounds = (self.max_source_tokens, self.max_target_tokens)
        limits = {
            column: min(bound, setting.max_tokens)
            for column, bound in zip(self.columns, bounds, strict=True)
        }
        reads, writes = self.columns
        columns = [name for name in self.columns if rows and all(name in row for row in rows)]
        ids, full, unknown = {}, {}, {}
        for column in columns:
            encoded = self.to_ids(self._side(rows, column), setting)
            full[column] = np.array([len(item) for item in encoded])
            unknown[column] = count_unknown(encoded, setting.tokenizer)
            ids[column] = [cut_ids(item, limits[column]) for item in encoded]
        examples = [
            Example(index, ids[reads][index], ids[writes][index] if writes in ids else None)
            for index in range(len(rows))
        ]
        lengths = np.array([[len(ids[column][i]) for column in columns] for i in range(len(rows))])
        return Encoded(
            examples=examples,
            lengths=lengths.reshape(len(rows), len(columns)),
            full_lengths=full,
            limits={column: limits[column] for column in columns},
            unknown=unknown,
        )

    def collate(self, rows: Layout, setting: Setting, draw: Draw = NO_CHANCE) -> Batch:
        """Lay examples out in rows; decoding starts from <pad>."""
        pad_id = setting.tokenizer.pad_id
        return lay_out(rows, pad_id=pad_id, start_id=pad_id)

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the target tokens."""
        return {"loss": float((needed(batch.labels) != IGNORE).sum())}

    def losses(self, body: Body, head: Head, batch: Batch) -> tuple[Loss, ...]:
        """Sum the cross-entropy of the target tokens, in nats."""
        labels = needed(batch.labels)
        decoded = body.decode(needed(batch.target), body.encode(batch.source))
        hidden, wanted = where_asked(decoded, labels, labels != IGNORE)
        result = linear_cross_entropy(
            hidden,
            body.output.weight,
            body.output.bias,
            wanted,
            label_smoothing=self.label_smoothing if body.training else 0.0,
            excluded=body.config.pad_token_id,
        )
        count = float(len(wanted))
        return (Loss(name="loss", total=result.total, count=count, reported=result.nll),)

    def predict(
        self, body: Body, head: Head, rows: Rows, setting: Setting, progress: OnProgress = None
    ) -> list[Answer]:
        """Decode the sources, rows of like length together.

        Returns:
            answers: For each record "prediction" and "score" (log probability by length), and
                "n_best", a list of the same, where more than one result is asked for. "cut" names
                what was cut: "source", where it is longer than the model reads, "prediction",
                where it is as long as it may become.
        """
        reads = self.columns[0]
        nothing = [Hypothesis([], 0.0, 0.0)]
        # The answer to nothing is nothing; a model would make something up.
        answers = [
            {} if row[reads].strip() else self.to_answer(nothing, row, setting) for row in rows
        ]
        asked = [index for index, answer in enumerate(answers) if not answer]
        if not asked:
            return answers
        full = self.to_ids(self._side([rows[index] for index in asked], reads), setting)
        longest = min(self.max_source_tokens, setting.max_tokens)
        sources = [cut_ids(ids, longest) for ids in full]
        lengths = [len(ids) for ids in sources]
        done = len(rows) - len(asked)
        batch_rows = min(self.batch_rows, _BATCH_BEAMS // self.num_beams)
        batches = inference_batches(lengths, batch_tokens=_BATCH_TOKENS, batch_rows=batch_rows)

        def search(batch: np.ndarray) -> list[list[Hypothesis]]:
            return self.search(body, [sources[i] for i in batch], setting)

        device = next(body.parameters()).device
        # Closed at once where `progress` raises: an exception would keep the searches alive.
        with closing(answer_batches(search, batches, device=device)) as found:
            for batch, results in zip(batches, found, strict=True):
                for place, hypotheses in zip(batch, results, strict=True):
                    answer = self.to_answer(hypotheses, rows[asked[place]], setting)
                    if len(full[place]) > longest:
                        answer["cut"] = ["source", *answer.get("cut", [])]
                    answers[asked[place]] = answer
                done += len(batch)
                if progress is not None:
                    progress(Progress(done=done, total=len(rows)))
        return answers

    def search(
        self, body: Body, sources: list[list[int]], setting: Setting, **observing: Any
    ) -> list[list[Hypothesis]]:
        """Run the beam search on encoded sources.

        Args:
            body: Encoder-decoder.
            sources: Token ids of each row.
            setting: Tokenizer and limits.
            observing: `observer` of `beam_search`.
        """
        device = next(body.parameters()).device
        with torch.inference_mode():
            memory = body.encode(Side.padded(sources, pad_id=setting.tokenizer.pad_id).to(device))
            longest = min(self.max_target_tokens, setting.max_tokens)
            # Each row has a limit of its own, so that its neighbours' lengths cannot matter.
            limits = torch.full_like(memory.lengths, longest)
            if self.max_length_ratio:
                bound = (self.max_length_ratio * memory.lengths).long() + _MORE_TOKENS
                limits = limits.minimum(bound)
            options = BeamOptions(
                num_beams=self.num_beams,
                length_penalty=self.length_penalty,
                min_steps=min(self.min_tokens, longest),
                max_steps=longest,
                num_best=self.num_best,
            )
            return beam_search(
                body,
                memory,
                options,
                limits=limits,
                start_id=setting.tokenizer.pad_id,
                end_id=setting.tokenizer.end_id,
                forbidden=(setting.tokenizer.pad_id,),
                **observing,
            )

    def to_answer(self, hypotheses: list[Hypothesis], row: Record, setting: Setting) -> Answer:
        """Write out what was found for a row, the best first."""
        if not hypotheses:
            raise RequestError(
                "the model gives scores that are no numbers",
                hint="its weights are damaged, or training went wrong",
            )
        results = [
            {"prediction": setting.tokenizer.decode(item.ids), "score": round(item.score, 6)}
            for item in hypotheses
        ]
        answer: Answer = dict(results[0])
        if self.num_best > 1:
            answer["n_best"] = results
        if not hypotheses[0].is_finished:
            answer["cut"] = ["prediction"]
        return answer

    def generation(self, setting: Setting) -> dict[str, Any]:
        """Give beams, lengths and special tokens in the words of generation_config.json."""
        pad_id = setting.tokenizer.pad_id
        return {
            "num_beams": self.num_beams,
            "length_penalty": self.length_penalty,
            # They count the token that decoding starts from.
            "min_length": self.min_tokens + 1 if self.min_tokens else 0,
            "max_length": min(self.max_target_tokens, setting.max_tokens) + 1,
            "early_stopping": True,
            "decoder_start_token_id": pad_id,
            "pad_token_id": pad_id,
            "bad_words_ids": [[pad_id]],
            "eos_token_id": setting.tokenizer.end_id,
        }
