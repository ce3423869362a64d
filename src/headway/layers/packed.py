"""Linear layers prepacked for inference: the one place that calls oneDNN's operators.

A prepacked matrix is laid out once the way the processor's matrix unit reads it. On a CPU with
AVX512-BF16 or AMX half-precision products then run several times as fast as single precision, on 5
rows as on 4,000, and each row's result does not depend on its neighbours (an int8 operator with
one scale for the whole batch could not say that).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from headway.layers.attention import MultiHeadAttention
from headway.layers.causal import CausalAttention
from headway.layers.heads import LinearHead
from headway.layers.lora import merge_lora


def has_fast_bf16() -> bool:
    """Say whether this CPU multiplies bfloat16 matrices in hardware."""
    return torch.backends.mkldnn.is_available() and bool(
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


class PackedLinear(nn.Module):
    """A linear layer for inference in half precision, its matrix prepacked.

    Args:
        weight: (F, D) float.
        bias: (F) float, or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        weight = weight.detach().to(torch.bfloat16).contiguous()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight)
        self.bias = None if bias is None else bias.detach().to(torch.bfloat16)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., D) bfloat16 to (..., F) bfloat16."""
        return torch.ops.mkldnn._linear_pointwise(hidden, self.weight, self.bias, "none", [], "")


def _replace_linears(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, PackedLinear(child.weight, child.bias))
        else:
            _replace_linears(child)


def pack(body: nn.Module) -> nn.Module:
    """Copy a network for inference in bfloat16, with every linear layer prepacked where it helps.

    The original is left as it is. On CUDA, and on CPUs without such hardware, the copy is in plain
    bfloat16.
    """
    packed = copy.deepcopy(body).requires_grad_(False)
    merge_lora(packed)
    for module in packed.modules():
        if isinstance(module, MultiHeadAttention | CausalAttention):
            module.fuse()
    device = next(body.parameters()).device
    if device.type == "cpu" and has_fast_bf16():
        _replace_linears(packed)
    return packed.to(torch.bfloat16).eval()


def pack_head(head: nn.Module) -> nn.Module:
    """Copy a head for inference beside a packed body; its last layer stays as it is.

    In bfloat16 a number near 2 is a multiple of 1/64, so that most rows of a regression would tie.
    The last layer costs next to nothing.
    """
    packed = pack(head)
    if isinstance(head, LinearHead):
        packed.output = copy.deepcopy(head.output).requires_grad_(False)
    return packed
