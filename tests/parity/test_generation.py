"""Continuations as transformers writes them: greedy and by beams, and what is left to be drawn."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from decoders import FAMILIES, config_of, open_there, shake
from headway import registry
from headway.decode.beam import BeamOptions, beam_search
from headway.decode.sample import SampleOptions, Sampler, draw, penalize
from headway.files import folder
from headway.layers.side import Side

transformers = pytest.importorskip("transformers")

PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [12]]


def models(family: str, path):
    config = config_of(family, "")
    torch.manual_seed(1)
    body = folder.make_body(family, config, "causal_lm").eval()
    shake(body)
    folder.write_model(path, family, body, kind="causal_lm")
    return body, open_there(path, family, "causal_lm", config)


def continue_greedily(body, prompts: list[list[int]], steps: int) -> list[list[int]]:
    options = SampleOptions(temperature=0)
    seeds = [0] * len(prompts)
    sampler = Sampler(body, prompts, options, seeds=seeds, max_steps=steps)
    found: list[list[int]] = [[] for _ in prompts]
    for _ in range(steps):
        for item in sampler.step():
            found[item.row].append(item.id)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_continuations_are_theirs_alone_and_together(family, tmp_path):
    body, model = models(family, tmp_path)
    together = continue_greedily(body, PROMPTS, 12)
    for prompt, found in zip(PROMPTS, together, strict=True):
        theirs = model.generate(
            torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None
        )
        assert found == theirs[0, len(prompt) :].tolist()
        assert continue_greedily(body, [prompt], 12) == [found]


@pytest.mark.parametrize("family", FAMILIES)
def test_beams_find_what_theirs_find(family, tmp_path):
    # Without an end: of texts that were cut ours takes a finished one first, theirs does not.
    body, model = models(family, tmp_path)
    options = BeamOptions(num_beams=3, max_steps=8, length_penalty=1.0)
    before = Side.padded([prompt[:-1] for prompt in PROMPTS])
    newest = torch.tensor([prompt[-1] for prompt in PROMPTS])
    with torch.inference_mode():
        found = beam_search(body, before, options, start_id=newest, end_id=-1)
    for prompt, (best, *_) in zip(PROMPTS, found, strict=True):
        theirs = model.generate(
            torch.tensor([prompt]),
            max_new_tokens=8,
            num_beams=3,
            do_sample=False,
            early_stopping="never",
            eos_token_id=None,
            pad_token_id=0,
        )
        assert best.ids == theirs[0, len(prompt) :].tolist()


def filtered(options: SampleOptions, logits: torch.Tensor) -> torch.Tensor:
    """Say which tokens can be drawn: go through all draws of a fine grid."""
    noise = torch.linspace(0, 0.999999, 4001, dtype=torch.float64)
    return draw(logits.expand(len(noise), -1), options, noise).unique()


@given(data=st.data())
def test_what_can_be_drawn_is_what_their_filters_leave(data):
    seed = data.draw(st.integers(0, 10_000))
    logits = 2 * torch.randn(1, 12, generator=torch.Generator().manual_seed(seed))
    temperature = data.draw(st.sampled_from([0.5, 1.0, 2.0]))
    top_k = data.draw(st.sampled_from([0, 3, 7]))
    top_p = data.draw(st.sampled_from([1.0, 0.3, 0.9]))
    min_p = data.draw(st.sampled_from([0.0, 0.1]))
    options = SampleOptions(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    steps = [transformers.TemperatureLogitsWarper(temperature)]
    steps += [transformers.TopKLogitsWarper(top_k)] if top_k else []
    steps += [transformers.TopPLogitsWarper(top_p)] if top_p < 1 else []
    steps += [transformers.MinPLogitsWarper(min_p)] if min_p else []
    scores = logits.clone()
    for step in steps:
        scores = step(torch.zeros(1, 1, dtype=torch.long), scores)
    probs = scores.softmax(-1)[0]
    # The grid sees what has a share of a thousandth at least.
    likely = set((probs > 1e-3).nonzero().flatten().tolist())
    possible = set((probs > 0).nonzero().flatten().tolist())
    assert likely <= set(filtered(options, logits).tolist()) <= possible


def test_tokens_are_drawn_as_often_as_they_are_probable():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    noise = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    for options in (SampleOptions(), SampleOptions(top_k=4)):
        drawn = draw(logits.expand(len(noise), -1), options, noise)
        shares = torch.bincount(drawn, minlength=4) / len(noise)
        torch.testing.assert_close(shares, logits.softmax(-1)[0], atol=2e-4, rtol=0)


def test_the_penalty_is_theirs():
    logits = torch.tensor([[1.0, -2.0, 3.0, 0.5], [1.0, 1.0, 1.0, 1.0]])
    theirs = transformers.RepetitionPenaltyLogitsProcessor(1.5)
    expected = theirs(torch.tensor([[0, 1], [2, 2]]), logits.clone())
    torch.testing.assert_close(penalize(logits, [[0, 1], [2]], 1.5), expected)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_drawing_does_not_depend_on_neighbours(family):
    body = registry.load_class("models", family)(config_of(family, "")).eval()
    options = SampleOptions(temperature=1.5)

    def continue_(prompts):
        sampler = Sampler(body, prompts, options, seeds=[7] * len(prompts), max_steps=10)
        found = [[] for _ in prompts]
        for step in range(10):
            for item in sampler.step():
                found[item.row].append(item.id)
            if step == 4 and len(prompts) > 1:
                sampler.stop(1)
        return found

    together = continue_(PROMPTS)
    assert together[0] == continue_(PROMPTS[:1])[0]
    assert together[2] == continue_(PROMPTS[2:])[0]
    assert together[1] == continue_(PROMPTS[1:2])[0][:5]
