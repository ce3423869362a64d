"""Transformer blocks: torch's own layers, norm before and after, whole and step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.layers.attention import CrossAttention, SelfAttention, projections
from headway.layers.blocks import (
    ACTIVATIONS,
    Block,
    CrossBlock,
    FeedForward,
    LayerNorm,
    Residual,
)
from headway.layers.cache import Ancestry, KeyValueCache
from headway.layers.dropout import Dropout
from headway.layers.masks import causal_mask
from headway.layers.sight import Sight

WIDTH, HEADS, INNER = 8, 2, 20
NORMS = pytest.mark.parametrize("pre_norm", [False, True], ids=["post", "pre"])
Pairs = list[tuple[Tensor, Tensor]]


def draw(*shape: int, seed: int = 1) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def some_mask(rows: int, width: int, other: int, seed: int = 2) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    mask = torch.rand(rows, 1, width, other, generator=source) > 0.5
    mask[..., 0] = True
    return mask


def forbidden(mask: Tensor) -> Tensor:
    return ~mask.repeat_interleave(HEADS, dim=1).flatten(0, 1)


def attention_pairs(ours: SelfAttention | CrossAttention, theirs: nn.MultiheadAttention) -> Pairs:
    pairs: Pairs = [
        (ours.output.weight, theirs.out_proj.weight),
        (ours.output.bias, theirs.out_proj.bias),
    ]
    for number, part in enumerate((ours.query, ours.key, ours.value)):
        rows = slice(number * WIDTH, (number + 1) * WIDTH)
        pairs.append((part.weight, theirs.in_proj_weight[rows]))
        pairs.append((part.bias, theirs.in_proj_bias[rows]))
    return pairs


def other_pairs(ours: Block | CrossBlock, theirs: nn.Module) -> Pairs:
    """Linear layers and norms, in the order in which torch numbers them."""
    residuals = [module for module in ours.modules() if isinstance(module, Residual)]
    modules = [(ours.feed_forward.up, theirs.linear1), (ours.feed_forward.down, theirs.linear2)]
    modules += [(one.norm, getattr(theirs, f"norm{n}")) for n, one in enumerate(residuals, 1)]
    return [
        pair
        for mine, other in modules
        for pair in ((mine.weight, other.weight), (mine.bias, other.bias))
    ]


def shuffle(module: nn.Module) -> nn.Module:
    """Give every parameter, norms and biases too, a value that shows if it is lost."""
    source = torch.Generator().manual_seed(0)
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=source).double())
    return module


def attention(kind: type[Any]) -> Any:
    return kind(*projections(WIDTH, WIDTH), head_size=WIDTH // HEADS)


def residuals(count: int, *, pre_norm: bool) -> list[Residual]:
    norms = [LayerNorm(WIDTH) for _ in range(count)]
    return [Residual(norm, dropout=0.0, pre_norm=pre_norm) for norm in norms]


def encoder_block(*, pre_norm: bool) -> Block:
    inner = FeedForward(WIDTH, INNER, "relu")
    return shuffle(Block(attention(SelfAttention), inner, *residuals(2, pre_norm=pre_norm)))


def decoder_block(*, pre_norm: bool) -> CrossBlock:
    parts = attention(SelfAttention), attention(CrossAttention), FeedForward(WIDTH, INNER, "relu")
    return shuffle(CrossBlock(*parts, *residuals(3, pre_norm=pre_norm)))


def seen(mask: Tensor) -> Sight:
    places = torch.arange(mask.shape[-1])[None]
    return Sight(places, places, mask)


def encoder_pair(pre_norm: bool) -> tuple[Block, nn.TransformerEncoderLayer]:
    ours = encoder_block(pre_norm=pre_norm)
    theirs = nn.TransformerEncoderLayer(
        WIDTH, HEADS, INNER, dropout=0.0, batch_first=True, norm_first=pre_norm
    ).double()
    copy(encoder_pairs(ours, theirs))
    return ours, theirs


def encoder_pairs(ours: Block, theirs: nn.TransformerEncoderLayer) -> Pairs:
    return attention_pairs(ours.attention, theirs.self_attn) + other_pairs(ours, theirs)


def decoder_pair(pre_norm: bool) -> tuple[CrossBlock, nn.TransformerDecoderLayer]:
    ours = decoder_block(pre_norm=pre_norm)
    theirs = nn.TransformerDecoderLayer(
        WIDTH, HEADS, INNER, dropout=0.0, batch_first=True, norm_first=pre_norm
    ).double()
    copy(decoder_pairs(ours, theirs))
    return ours, theirs


def decoder_pairs(ours: CrossBlock, theirs: nn.TransformerDecoderLayer) -> Pairs:
    pairs = attention_pairs(ours.attention, theirs.self_attn)
    pairs += attention_pairs(ours.cross_attention, theirs.multihead_attn)
    return pairs + other_pairs(ours, theirs)


def copy(pairs: Pairs) -> None:
    with torch.no_grad():
        for mine, other in pairs:
            other.copy_(mine)


def assert_close(found: Tensor | None, expected: Tensor | None) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@NORMS
def test_an_encoder_block_is_torchs_encoder_layer(pre_norm):
    ours, theirs = encoder_pair(pre_norm)
    hidden, mask = draw(2, 5, WIDTH), some_mask(2, 5, 5)
    assert_close(ours(hidden, seen(mask)), theirs(hidden, src_mask=forbidden(mask)))


@NORMS
def test_an_encoder_blocks_input_gradient_is_torchs(pre_norm):
    ours, theirs = encoder_pair(pre_norm)
    mask, mix = some_mask(2, 5, 5), draw(2, 5, WIDTH, seed=3)
    mine, other = draw(2, 5, WIDTH).requires_grad_(), draw(2, 5, WIDTH).requires_grad_()
    (ours(mine, seen(mask)) * mix).sum().backward()
    (theirs(other, src_mask=forbidden(mask)) * mix).sum().backward()
    assert_close(mine.grad, other.grad)
    for ours_norm, theirs_norm in (
        (ours.after_attention.norm, theirs.norm1),
        (ours.after_feed_forward.norm, theirs.norm2),
    ):
        assert_close(ours_norm.weight.grad, theirs_norm.weight.grad)


@NORMS
def test_a_decoder_block_is_torchs_decoder_layer(pre_norm):
    ours, theirs = decoder_pair(pre_norm)
    hidden, memory = draw(2, 5, WIDTH), draw(2, 3, WIDTH, seed=3)
    mask, memory_mask = some_mask(2, 5, 5), some_mask(2, 5, 3)
    expected = theirs(hidden, memory, tgt_mask=forbidden(mask), memory_mask=forbidden(memory_mask))
    source = ours.cross_attention.project(memory)
    assert_close(ours(hidden, seen(mask), source, memory_mask), expected)


@NORMS
def test_a_decoder_blocks_gradients_are_torchs(pre_norm):
    ours, theirs = decoder_pair(pre_norm)
    mask, memory_mask, mix = some_mask(2, 5, 5), some_mask(2, 5, 3), draw(2, 5, WIDTH, seed=4)
    mine, other = (
        (draw(2, 5, WIDTH).requires_grad_(), draw(2, 3, WIDTH, seed=3).requires_grad_())
        for _ in range(2)
    )
    source = ours.cross_attention.project(mine[1])
    (ours(mine[0], seen(mask), source, memory_mask) * mix).sum().backward()
    masks = {"tgt_mask": forbidden(mask), "memory_mask": forbidden(memory_mask)}
    (theirs(*other, **masks) * mix).sum().backward()
    for one, two in zip(mine, other, strict=True):
        assert_close(one.grad, two.grad)
    assert_close(ours.feed_forward.up.weight.grad, theirs.linear1.weight.grad)
    assert_close(
        ours.cross_attention.output.weight.grad, theirs.multihead_attn.out_proj.weight.grad
    )


@NORMS
def test_a_decoder_block_moved_step_by_step_is_its_causal_forward(pre_norm):
    block = decoder_block(pre_norm=pre_norm)
    rows, beams, width = 2, 3, 4
    sequences, memory = draw(rows, beams, width, WIDTH), draw(rows, 5, WIDTH, seed=3)
    real = torch.tensor([[True] * 5, [True, True, True, False, False]])
    places = torch.arange(width)[None]
    bias = torch.zeros(rows, 1, 1, 5, dtype=torch.float64)
    bias = bias.masked_fill(~real[:, None, None], -torch.inf)
    nothing = torch.zeros(rows, 0, dtype=torch.bool)
    ancestry = Ancestry(nothing, num_beams=beams, max_steps=width, like=memory)
    cache = KeyValueCache(ancestry)
    for step in range(width):
        ancestry.advance()
        with torch.no_grad():
            source = block.memorize(memory)
            sight = Sight(ancestry.newest_positions, ancestry.positions, ancestry.bias)
            found = block(sequences[:, :, step], sight, source, bias, cache)
        for beam in range(beams):
            expected = block(
                sequences[:, beam],
                seen(causal_mask(places, places)[:, None]),
                block.cross_attention.project(memory),
                real[:, None, None].expand(-1, 1, width, -1),
            )
            assert_close(found[:, beam], expected[:, step])


@pytest.mark.parametrize(
    ("name", "function"),
    [("relu", F.relu), ("gelu", F.gelu), ("swish", F.silu), ("silu", F.silu)],
)
def test_the_feed_forward_layer_is_two_products_around_the_named_activation(name, function):
    layer = FeedForward(WIDTH, INNER, name).double()
    hidden = draw(2, 3, WIDTH)
    inner = function(hidden @ layer.up.weight.T + layer.up.bias)
    assert_close(layer(hidden), inner @ layer.down.weight.T + layer.down.bias)
    assert name in ACTIVATIONS


def test_the_swish_is_x_times_the_sigmoid_of_x():
    x = draw(20)
    for name in ("swish", "silu"):
        assert_close(ACTIVATIONS[name](x), x * x.sigmoid())


@NORMS
def test_a_residual_drops_from_the_sublayers_result_only_and_in_training_only(pre_norm):
    residual = Residual(shuffle(nn.LayerNorm(WIDTH)), dropout=0.5, pre_norm=pre_norm)
    hidden = draw(2, 30, WIDTH)
    inner = torch.tanh(residual.norm(hidden) if pre_norm else hidden)
    torch.manual_seed(4)
    dropped = Dropout(0.5)(inner)
    expected = hidden + dropped if pre_norm else residual.norm(hidden + dropped)
    torch.manual_seed(4)
    assert_close(residual(hidden, torch.tanh), expected)
    plain = hidden + inner if pre_norm else residual.norm(hidden + inner)
    assert_close(residual.eval()(hidden, torch.tanh), plain)


def test_a_post_norm_residual_normalizes_the_sum_and_a_pre_norm_one_the_input():
    hidden = draw(2, 3, WIDTH)
    norm = shuffle(nn.LayerNorm(WIDTH))
    post = Residual(norm, dropout=0.0, pre_norm=False)
    pre = Residual(norm, dropout=0.0, pre_norm=True)
    assert_close(post(hidden, torch.tanh), norm(hidden + hidden.tanh()))
    assert_close(pre(hidden, torch.tanh), hidden + norm(hidden).tanh())


def norm_gradients(norm: nn.LayerNorm, hidden: Tensor, above: Tensor) -> list[Tensor]:
    """Give the gradients of scale, shift and input."""
    hidden = hidden.clone().requires_grad_()
    result = norm(hidden)
    assert result.dtype == hidden.dtype
    result.backward(above.to(hidden.dtype))
    return [value.grad.double() for value in (norm.weight, norm.bias, hidden)]


def test_a_norms_gradients_are_summed_in_single_precision_under_half_precision():
    hidden, above = draw(4000, WIDTH).bfloat16(), draw(4000, WIDTH, seed=3).bfloat16()
    ours = norm_gradients(LayerNorm(WIDTH), hidden, above)
    exact = norm_gradients(nn.LayerNorm(WIDTH).double(), hidden.double(), above)
    for mine, other, bound in zip(ours, exact, (1e-5, 1e-5, 1e-2), strict=True):
        assert (mine - other).norm() <= bound * other.norm()


def test_a_norm_is_the_same_whether_something_learns_or_not():
    norm = shuffle(LayerNorm(WIDTH)).float()
    hidden = draw(50, WIDTH).bfloat16()
    with torch.no_grad():
        plain = norm(hidden)
    torch.testing.assert_close(norm(hidden), plain)
    assert norm.bfloat16()(hidden).dtype == torch.bfloat16
