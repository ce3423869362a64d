"""The recorder hears every weight and changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from headway.data.batch import Batch, Example
from headway.explain.recorder import has_attention, record_attention
from headway.layers.attention import ScaledDotProduct
from headway.tasks._model import Model

BODIES = pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("transformer", {}),
        ("transformer", {"norm": "pre", "positions": "learned"}),
        ("seq2seq", {"wiring": "bahdanau"}),
        ("seq2seq", {"wiring": "luong", "input_feeding": True, "attention": "general"}),
        ("seq2seq", {"wiring": "luong", "input_feeding": False, "attention": "key-query-value"}),
        ("seq2seq", {"wiring": "luong", "window": "local-p", "half_width": 2}),
    ],
)


def lay_out(model: Model, packed: bool = False) -> Batch:
    """Two pairs of different lengths, in two rows or in one."""
    examples = [Example(0, [3, 4, 5, 6, 1], [7, 8, 1]), Example(1, [5, 3, 1], [4, 4, 6, 9, 1])]
    rows = [examples] if packed else [[example] for example in examples]
    return model.task.collate(rows, model.setting)


def run(model: Model, batch: Batch) -> Tensor:
    body = model.body
    return body.logits(body.decode(batch.target, body.encode(batch.source)))


def count_hooks(body: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in body.modules())


@BODIES
def test_outputs_are_bit_for_bit_the_same(architecture, settings, build_model):
    model = build_model(architecture, **settings)
    batch = lay_out(model)
    before = run(model, batch)
    with record_attention(model.body) as record:
        during = run(model, batch)
    after = run(model, batch)
    assert record.maps
    assert torch.equal(before, during)
    assert torch.equal(before, after)
    assert count_hooks(model.body) == 0


@BODIES
def test_gradients_are_the_same(architecture, settings, build_model):
    model = build_model(architecture, **settings)
    batch = lay_out(model)
    parameters = [p for p in model.body.parameters() if p.requires_grad]

    def gradients() -> tuple[Tensor, ...]:
        loss = run(model, batch).square().mean()
        return torch.autograd.grad(loss, parameters, allow_unused=True)

    plain = gradients()
    with record_attention(model.body):
        recorded = gradients()
    for one, other in zip(plain, recorded, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


def test_hooks_go_after_an_exception(transformer):
    with pytest.raises(RuntimeError, match="on the way"), record_attention(transformer.body):
        assert count_hooks(transformer.body) == 2 + 3 + 3
        raise RuntimeError("on the way")
    assert count_hooks(transformer.body) == 0


def test_nothing_is_recorded_outside_of_the_block(transformer):
    batch = lay_out(transformer)
    with record_attention(transformer.body) as record:
        run(transformer, batch)
    run(transformer, batch)
    assert all(len(calls) == 1 for calls in record.maps.values())


@pytest.mark.parametrize("packed", [False, True])
def test_transformer_maps_have_layers_and_heads(transformer, packed):
    batch = lay_out(transformer, packed)
    with record_attention(transformer.body) as record, torch.inference_mode():
        run(transformer, batch)
    maps = record.maps_of(0)
    num_source, num_target = batch.source.ids.shape[1], batch.target.ids.shape[1]
    assert maps.encoder.shape == (2, 2, num_source, num_source)
    assert maps.decoder.shape == (3, 2, num_target, num_target)
    assert maps.cross.shape == (3, 2, num_target, num_source)
    # Rows of padding allow nothing and weigh nothing.
    for weights, side in ((maps.encoder, batch.source), (maps.cross, batch.target)):
        real = side.attention_mask[0].numpy()
        assert weights.sum(-1)[:, :, real] == pytest.approx(1, abs=1e-5)
        assert weights[:, :, ~real].sum() == 0


def test_decoder_never_looks_ahead(transformer):
    with record_attention(transformer.body) as record, torch.inference_mode():
        run(transformer, lay_out(transformer))
    decoder = torch.from_numpy(record.maps_of(1).decoder)
    assert decoder.triu(1).sum() == 0


def test_weights_are_those_that_the_module_used():
    torch.manual_seed(0)
    attend = ScaledDotProduct()
    query, key = torch.randn(2, 2, 3, 4), torch.randn(2, 2, 5, 4)
    # With the identity as values the result is the weights themselves.
    value = torch.eye(5).expand(2, 2, 5, 5)
    mask = torch.rand(2, 1, 3, 5) > 0.3
    body = nn.ModuleDict({"attend": attend})
    with record_attention(body) as record:
        context = attend(query, key, value=value, mask=mask)
    torch.testing.assert_close(record.maps["attend"][0], context)


@pytest.mark.parametrize("feeding", [True, False])
def test_steps_of_a_recurrent_decoder_are_joined(feeding, build_model):
    model = build_model("seq2seq", wiring="luong", input_feeding=feeding)
    batch = lay_out(model)
    with record_attention(model.body) as record, torch.inference_mode():
        run(model, batch)
    (calls,) = record.maps.values()
    assert len(calls) == (batch.target.ids.shape[1] if feeding else 1)
    maps = record.maps_of(1)
    assert maps.encoder is None
    assert maps.cross.shape == (1, 1, 5, 5)
    assert maps.cross.sum(-1) == pytest.approx(1, abs=1e-5)
    # The second source has three tokens.
    assert maps.cross[..., 3:].sum() == 0


def test_a_body_without_attention_is_told(build_model):
    assert not has_attention(build_model("seq2seq", attention="none").body)
    assert has_attention(build_model("seq2seq").body)
