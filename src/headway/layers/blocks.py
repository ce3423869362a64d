"""Feed-forward layer, encoder block and decoder block of the Transformer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn

from headway.layers.attention import MultiHeadAttention
from headway.layers.cache import KeyValueCache
from headway.layers.dropout import Dropout

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "relu": nn.functional.relu,
        "gelu": nn.functional.gelu,
        "gelu_python": nn.functional.gelu,
        # Hendrycks and Gimpel 2016, by its approximation with tanh.
        "gelu_new": partial(nn.functional.gelu, approximate="tanh"),
        "gelu_pytorch_tanh": partial(nn.functional.gelu, approximate="tanh"),
        "swish": nn.functional.silu,
        "silu": nn.functional.silu,
    }
)


class FeedForward(nn.Module):
    """Transform every position on its own: down(activation(up(hidden))).

    Args:
        hidden_size: Width D.
        intermediate_size: Inner width F.
        activation: A key of ACTIVATIONS.
        bias: Of both layers.
    Paper: Vaswani et al. 2017 (arXiv 1706.03762), section 3.3.
    """

    def __init__(
        self, hidden_size: int, intermediate_size: int, activation: str, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.up = nn.Linear(hidden_size, intermediate_size, bias=bias)
        self.down = nn.Linear(intermediate_size, hidden_size, bias=bias)
        self.activation = ACTIVATIONS[activation]

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) float to (B, T, D) float."""
        return self.down(self.activation(self.up(hidden)))


class GatedFeedForward(nn.Module):
    """Transform every position on its own: down(activation(gate(hidden)) * up(hidden)).

    Args:
        hidden_size: Width D.
        intermediate_size: Inner width F.
        activation: A key of ACTIVATIONS; silu makes it SwiGLU.
    Paper: Shazeer 2020, "GLU Variants Improve Transformer" (arXiv 2002.05202).
    """

    def __init__(self, hidden_size: int, intermediate_size: int, activation: str) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down = nn.Linear(intermediate_size, hidden_size, bias=False)
        self.activation = ACTIVATIONS[activation]

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) float to (B, T, D) float."""
        return self.down(self.activation(self.gate(hidden)) * self.up(hidden))


class LayerNorm(nn.LayerNorm):
    """Normalize each vector to mean 0 and variance 1, then scale and shift it.

    On a CPU torch adds the gradients of scale and shift up in bfloat16 where the input is that:
    over 785 vectors they were off by 3 %, over 16,384 by 13 to 41 %. So an input narrower than the
    weights is widened while something learns.

    Paper: Ba, Kiros, Hinton 2016 (arXiv 1607.06450).
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., D) float to (..., D) float."""
        if input.dtype != self.weight.dtype and input.is_cpu and torch.is_grad_enabled():
            return super().forward(input.float()).to(input.dtype)
        return super().forward(input)


class RmsNorm(nn.RMSNorm):
    """Divide each vector by the root of its mean square, then scale it.

    An input narrower than the weights is widened, as torch has no fast path for the two together,
    and for `LayerNorm`'s reason.

    Paper: Zhang, Sennrich 2019 (arXiv 1910.07467).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) float to (..., D) float."""
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class Residual(nn.Module):
    """Add a sublayer's dropped-out result to its input, with a norm after or before.

    post: norm(hidden + dropout(sublayer(hidden)))      Vaswani et al. 2017, section 3.1
    pre:  hidden + dropout(sublayer(norm(hidden)))      Xiong et al. 2020 (arXiv 2002.04745)

    Holds the norm only: the sublayer is passed in, so that blocks keep flat parameter names.
    """

    def __init__(self, norm: nn.Module, *, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        self.norm = norm
        self.dropout = Dropout(dropout)
        self.pre_norm = pre_norm

    def forward(self, hidden: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Map (B, T, D) float to (B, T, D) float."""
        if self.pre_norm:
            return hidden + self.dropout(sublayer(self.norm(hidden)))
        return self.norm(hidden + self.dropout(sublayer(hidden)))


class EncoderBlock(nn.Module):
    """Self-attention, then feed-forward, each with a residual connection.

    Args:
        attention: Self-attention.
        feed_forward: Inner network.
        dropout: Rate on the result of each sublayer.
        pre_norm: Norm before each sublayer; else after the addition.
        epsilon: Of the norms.
    Paper: Vaswani et al. 2017 (arXiv 1706.03762), section 3.1.
    """

    def __init__(
        self,
        attention: MultiHeadAttention,
        feed_forward: FeedForward,
        *,
        dropout: float,
        pre_norm: bool,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        width = feed_forward.up.in_features
        self.attention = attention
        self.feed_forward = feed_forward
        residual = partial(Residual, dropout=dropout, pre_norm=pre_norm)
        self.after_attention = residual(LayerNorm(width, eps=epsilon))
        self.after_feed_forward = residual(LayerNorm(width, eps=epsilon))

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Map hidden states to hidden states.

        Args:
            hidden: (B, T, D) float.
            mask: (B, 1, T, T) bool. True where attention is allowed.
        Returns:
            hidden: (B, T, D) float.
        """
        hidden = self.after_attention(hidden, lambda x: self.attention(x, x, mask))
        return self.after_feed_forward(hidden, self.feed_forward)


class DecoderBlock(nn.Module):
    """Self-attention, attention to a memory, feed-forward, each with a residual connection.

    Args:
        attention: Self-attention.
        cross_attention: Attention to the encoder's result.
        feed_forward: Inner network.
        dropout: Rate on the result of each sublayer.
        pre_norm: Norm before each sublayer; else after the addition.
    Paper: Vaswani et al. 2017 (arXiv 1706.03762), section 3.1.
    """

    def __init__(
        self,
        attention: MultiHeadAttention,
        cross_attention: MultiHeadAttention,
        feed_forward: FeedForward,
        *,
        dropout: float,
        pre_norm: bool,
    ) -> None:
        super().__init__()
        width = feed_forward.up.in_features
        self.attention = attention
        self.cross_attention = cross_attention
        self.feed_forward = feed_forward
        self.after_attention = Residual(LayerNorm(width), dropout=dropout, pre_norm=pre_norm)
        self.after_cross_attention = Residual(LayerNorm(width), dropout=dropout, pre_norm=pre_norm)
        self.after_feed_forward = Residual(LayerNorm(width), dropout=dropout, pre_norm=pre_norm)

    def forward(
        self, hidden: Tensor, memory: Tensor, mask: Tensor | None, memory_mask: Tensor | None
    ) -> Tensor:
        """Map hidden states to hidden states.

        Args:
            hidden: (B, T, D) float.
            memory: (B, S, D) float.
            mask: (B, 1, T, T) bool. True where attention is allowed.
            memory_mask: (B, 1, T, S) bool.
        Returns:
            hidden: (B, T, D) float.
        """
        hidden = self.after_attention(hidden, lambda x: self.attention(x, x, mask))
        hidden = self.after_cross_attention(
            hidden, lambda x: self.cross_attention(x, memory, memory_mask)
        )
        return self.after_feed_forward(hidden, self.feed_forward)

    def memorize(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Project a memory, (B, S, D) float, once for all steps: key, value (B, H, S, K) float."""
        return self.cross_attention.memorize(memory)

    def step(
        self, hidden: Tensor, cache: KeyValueCache, key: Tensor, value: Tensor, bias: Tensor
    ) -> Tensor:
        """Advance every beam by one token.

        Args:
            hidden: (B, R, D) float.
            cache: Keys and values of the tokens so far.
            key: (B, H, S, K) float. The memory, projected once.
            value: (B, H, S, K) float.
            bias: (B, 1, 1, S) float. 0 on the memory's real positions, -inf elsewhere.
        Returns:
            hidden: (B, R, D) float.
        """
        hidden = self.after_attention(hidden, lambda x: self.attention.step(x, cache))
        hidden = self.after_cross_attention(
            hidden, lambda x: self.cross_attention.look_up(x, key, value, bias)
        )
        return self.after_feed_forward(hidden, self.feed_forward)
