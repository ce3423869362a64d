"""What every task shares that goes on with texts: prompts in, continuations out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from headway.data.order import inference_batches
from headway.decode.beam import BeamOptions, beam_search
from headway.decode.sample import SampleOptions, Sampler
from headway.errors import RequestError
from headway.layers.side import Side
from headway.tasks._decoders import OnDecoder
from headway.tasks._task import Answer, Body, OnProgress, Progress, Setting
from headway.text.tokenizer import Tokenizer

# Where nobody says how long a continuation may become.
_USUAL_TOKENS = 200
_BATCH_ROWS = 16
_BATCH_TOKENS = 8192
# Bytes of a character that may still come.
_PART = "\ufffd"


class Stream:
    """A continuation: tokens that become text as they come.

    `text` is without what stopped it, `ids` without the token that ended it; `log_probability` is
    that of all tokens under the model itself, the end counted, in nats; `ended_by` is "end" (the
    model's own), "stop" (a text of `stop`), "length", or "" as long as it goes on.

    Args:
        tokenizer: Token ids -> text.
        before: The token before the first; what a piece is may depend on it.
        stop: Texts at which it ends.
    """

    def __init__(self, tokenizer: Tokenizer, before: int, stop: Sequence[str]) -> None:
        self.tokenizer, self.stop = tokenizer, stop
        self.ids: list[int] = []
        self.log_probability = 0.0
        self.ended_by = ""
        self.text = ""
        self._context = [before]
        self._pending: list[int] = []
        self._shown = 0

    def add(self, token: int, log_prob: float) -> str:
        """Take a token; give the text that is certain now: none may be part of a stop."""
        self.ids.append(token)
        self.log_probability += log_prob
        self._pending.append(token)
        old = self.tokenizer.decode(self._context)
        new = self.tokenizer.decode([*self._context, *self._pending])
        if not new.endswith(_PART):
            self._context, self._pending = self._pending, []
            self._append(new[len(old) :])
        return self._show(len(self.text) - (0 if self.ended_by else self._held()))

    def _append(self, piece: str) -> None:
        """Add text; of several stops in it the one counts that is whole first."""
        self.text += piece
        found = [(self.text.find(text), text) for text in self.stop]
        # So it makes no difference which of them came within one token.
        whole = [(place + len(text), place) for place, text in found if place >= 0]
        if whole:
            self.text, self.ended_by = self.text[: min(whole)[1]], "stop"

    def _show(self, certain: int) -> str:
        shown, self._shown = self._shown, max(self._shown, certain)
        return self.text[shown : self._shown]

    def _held(self) -> int:
        """Count the last characters that a stop may begin with."""
        longest = max(map(len, self.stop), default=0) - 1
        for count in range(min(longest, len(self.text)), 0, -1):
            if any(text.startswith(self.text[-count:]) for text in self.stop):
                return count
        return 0

    def finish(self, ended_by: str, log_prob: float = 0.0) -> str:
        """End it; give what was held back, but for a character of which the rest never came."""
        if self._pending:
            old = self.tokenizer.decode(self._context)
            new = self.tokenizer.decode([*self._context, *self._pending])
            self._append(new[len(old) :].rstrip(_PART))
        self.ended_by = self.ended_by or ended_by
        self.log_probability += log_prob
        return self._show(len(self.text))

    def to_answer(self) -> Answer:
        """Give it as the answer to a record."""
        return {
            "prediction": self.text,
            "tokens": [self.tokenizer.write_piece(number) for number in self.ids],
            "log_probability": round(self.log_probability, 6),
            "ended_by": self.ended_by,
        }


@dataclass(frozen=True)
class _Writer:
    """Goes on with texts.

    Args:
        body: Decoder with an output layer.
        setting: Tokenizer and limits.
        options: How tokens are chosen.
        more_ends: Tokens that end a continuation, beside the vocabulary's own.
    """

    body: Body
    setting: Setting
    options: OnDecoder
    more_ends: Sequence[int]

    def begin(self, prompts: Sequence[list[int]]) -> list[Stream]:
        """Begin the continuations of prompts, of at least one token each."""
        return [Stream(self.setting.tokenizer, prompt[-1], self.options.stop) for prompt in prompts]

    def write(
        self, prompts: Sequence[list[int]], streams: Sequence[Stream]
    ) -> Iterator[tuple[int, str]]:
        """Write to the end of all streams at once.

        Yields:
            row, piece: Text of a continuation, as soon as it is certain.
        Raises:
            RequestError: if a prompt is too long, or leaves too little room.
        """
        choose = self._search if self.options.num_beams > 1 else self._sample
        return choose(prompts, streams, self._room(prompts))

    def _room(self, prompts: Sequence[list[int]]) -> list[int]:
        """Say how many tokens each continuation may have.

        That is as many as are asked for, or as usual, as far as there is room.
        """
        config, longest = self.body.config, self.setting.max_tokens
        wanted = self.options.max_new_tokens
        if getattr(config, "is_unbounded", False):
            longest = max(longest, max(map(len, prompts)) + (wanted or _USUAL_TOKENS))
        for prompt in prompts:
            if len(prompt) + max(wanted, 1) > longest:
                more = f", and {wanted:,} more are asked for" if wanted else ""
                raise RequestError(
                    f"the prompt has {len(prompt):,} tokens{more}, but the model reads "
                    f"{longest:,} at most",
                    hint="shorten the prompt, or ask for fewer tokens (--max-new-tokens)",
                )
        # Keys and values of every layer, four bytes each.
        needed = 8 * config.num_hidden_layers * config.hidden_size * (longest if wanted else 1)
        if needed > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            raise RequestError(
                f"{wanted:,} tokens need {needed / 1e9:,.0f} GB to be remembered",
                hint="ask for fewer (--max-new-tokens)",
            )
        return [wanted or min(_USUAL_TOKENS, longest - len(prompt)) for prompt in prompts]

    @property
    def _ends(self) -> list[int]:
        """List the tokens that end a text."""
        tokenizer = self.setting.tokenizer
        own = tokenizer.find(tokenizer.name_of("end"))
        return [*self.more_ends, *(() if own is None else (own,))]

    def _sample(
        self, prompts: Sequence[list[int]], streams: Sequence[Stream], room: Sequence[int]
    ) -> Iterator[tuple[int, str]]:
        """Draw token after token."""
        ends, options = self._ends, self.options
        sampler = Sampler(
            self.body,
            prompts,
            SampleOptions(
                temperature=options.temperature,
                top_k=options.top_k,
                top_p=options.top_p,
                min_p=options.min_p,
                repetition_penalty=options.repetition_penalty,
            ),
            # The same for all: what one becomes does not depend on its place.
            seeds=[options.sampling_seed] * len(prompts),
            max_steps=max(room),
            device=next(self.body.parameters()).device,
        )
        while sampler.is_running:
            for item in sampler.step():
                stream = streams[item.row]
                if item.id in ends:
                    piece = stream.finish("end", item.log_prob)
                else:
                    piece = stream.add(item.id, item.log_prob)
                    if not stream.ended_by and len(stream.ids) >= room[item.row]:
                        piece += stream.finish("length")
                if stream.ended_by:
                    sampler.stop(item.row)
                if piece:
                    yield item.row, piece

    def _search(
        self, prompts: Sequence[list[int]], streams: Sequence[Stream], room: Sequence[int]
    ) -> Iterator[tuple[int, str]]:
        """Find the best beam, which is known at the end: the text comes in one piece."""
        device = next(self.body.parameters()).device
        with torch.inference_mode():
            results = beam_search(
                self.body,
                Side.padded([prompt[:-1] for prompt in prompts]).to(device),
                BeamOptions(num_beams=self.options.num_beams, max_steps=max(room)),
                start_id=torch.tensor([prompt[-1] for prompt in prompts], device=device),
                # One token can end a beam: the task's, where it has one.
                end_id=next(iter(self._ends), -1),
                limits=torch.tensor(room, device=device),
            )
        for row, (stream, (best, *_)) in enumerate(zip(streams, results, strict=True)):
            for token in best.ids:
                if not stream.ended_by:
                    stream.add(token, 0.0)
            stream.finish("end" if best.is_finished else "length", best.log_probability)
            yield row, stream.text


class TextStream:
    """A continuation that is written while it is read.

    Args:
        body: Decoder with an output layer.
        prompt: Token ids, at least one.
        setting: Tokenizer and limits.
        options: How tokens are chosen.
        more_ends: Tokens that end it, beside the vocabulary's own.
    Raises:
        RequestError: if the prompt leaves no room.
    """

    is_cut = False
    """Whether something of what stood before it was left out for want of room."""

    def __init__(
        self,
        body: Body,
        prompt: list[int],
        setting: Setting,
        options: OnDecoder,
        *,
        more_ends: Sequence[int] = (),
    ) -> None:
        writer = _Writer(body, setting, options, more_ends)
        (self._stream,) = streams = writer.begin([prompt])
        self._pieces = (piece for _, piece in writer.write([prompt], streams))

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def result(self) -> Answer:
        """Write to the end, and give the whole answer."""
        for _ in self._pieces:
            pass
        return self._stream.to_answer()


def prompt_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Encode a prompt; an empty one is the token that begins a text."""
    return tokenizer.encode_ids([text])[0] or [tokenizer.start_id]


def write(
    body: Body,
    prompts: Sequence[list[int]],
    setting: Setting,
    options: OnDecoder,
    *,
    more_ends: Sequence[int] = (),
    progress: OnProgress = None,
) -> Iterator[tuple[int, Stream]]:
    """Go on with texts, those of like length together.

    Args:
        body: Decoder with an output layer.
        prompts: Token ids of each, at least one.
        setting: Tokenizer and limits.
        options: How tokens are chosen.
        more_ends: Tokens that end a continuation, beside the vocabulary's own.
        progress: Told how far it is.
    Yields:
        place, stream: Which prompt it continues, and how.
    """
    writer = _Writer(body, setting, options, more_ends)
    lengths, done = [len(prompt) for prompt in prompts], 0
    for part in inference_batches(lengths, batch_tokens=_BATCH_TOKENS, batch_rows=_BATCH_ROWS):
        chosen = [prompts[place] for place in part]
        streams = writer.begin(chosen)
        for _ in writer.write(chosen, streams):
            pass
        for place, stream in zip(part.tolist(), streams, strict=True):
            yield place, stream
            done += 1
            if progress is not None:
                progress(Progress(done=done, total=len(prompts)))


def check_length(num_tokens: int, setting: Setting) -> None:
    """Raise a RequestError for more tokens than can be scored; the last one is not read."""
    if num_tokens - 1 > setting.max_tokens:
        raise RequestError(
            f"the text has {num_tokens:,} tokens, but the model reads {setting.max_tokens:,}"
        )


def score_texts(
    body: Body, rows: Sequence[tuple[list[int], list[int]]], setting: Setting
) -> list[list[float]]:
    """Give the log probability of every token of given continuations.

    Args:
        body: Decoder with an output layer.
        rows: Of each, what stands before it, at least one token, and itself.
        setting: With the longest text that the model reads.
    Returns:
        log_probs: In nats, a number for each token of the continuation.
    Raises:
        RequestError: if one is longer than the model reads.
    """
    joint = [[*before, *after] for before, after in rows]
    for ids in joint:
        check_length(len(ids), setting)
    found: list[list[float]] = [[] for _ in rows]
    lengths = [len(ids) for ids in joint]
    device = next(body.parameters()).device
    for part in inference_batches(lengths, batch_tokens=_BATCH_TOKENS, batch_rows=_BATCH_ROWS):
        source = Side.padded([joint[place][:-1] for place in part]).to(device)
        with torch.inference_mode():
            hidden = body.encode(source).hidden
            for number, place in enumerate(part):
                before, after = rows[place]
                span = hidden[number, len(before) - 1 : len(joint[place]) - 1]
                log_probs = body.logits(span[None])[0].float().log_softmax(-1)
                wanted = torch.tensor(after, device=device)[:, None]
                found[place] = log_probs.gather(1, wanted)[:, 0].tolist()
    return found
