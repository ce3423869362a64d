"""Linear layers prepacked for inference: the one place that calls oneDNN's operators.

A prepacked matrix is laid out once the way the processor's matrix unit reads it. On a CPU with
AVX512-BF16 or AMX half-precision products then run several times as fast as single precision, on 5
rows as on 4,000. Where few rows meet large matrices, as in writing text, the time goes to reading
the matrices, and 8-bit integers take seven tenths of the time. Each row's result does not depend on
its neighbors.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from headway.layers.attention import SelfAttention
from headway.layers.heads import LinearHead
from headway.layers.lora import merge_lora


def has_fast_bf16() -> bool:
    """Say whether this CPU multiplies bfloat16 matrices in hardware."""
    return torch.backends.mkldnn.is_available() and bool(
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def input_levels() -> int:
    """Say into how many levels inputs are rounded for products of 8-bit integers.

    Where the processor has no instruction for such products (VNNI), sums of two of them are kept in
    16 bits, which 8 bits of input would overflow without a word: there inputs have 7.
    """
    return 255 if torch.cpu._is_vnni_supported() else 127


class PackedLinear(nn.Module):
    """A linear layer for inference in half or single precision, its matrix prepacked.

    Args:
        weight: (F, D) float.
        bias: (F) float, or None.
        dtype: What it computes in.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        super().__init__()
        weight = weight.detach().to(dtype).contiguous()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight)
        self.bias = None if bias is None else bias.detach().to(dtype)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., D) float to (..., F) float, both in its type."""
        return torch.ops.mkldnn._linear_pointwise(hidden, self.weight, self.bias, "none", [], "")


class Int8Linear(nn.Module):
    """A linear layer for inference with a matrix of 8-bit integers, one scale for each output.

    The operator gives all inputs of a call one scale. So each row is divided by its largest value,
    and a row of ones and minus ones makes the scale the same in every call: a loud neighbor
    changes no answer.

    Args:
        weight: (F, D) float.
        bias: (F) float, or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        weight = weight.detach().float()
        scales = (weight.abs().amax(1) / 127).clamp(min=1e-12)
        zeros = torch.zeros(len(weight), dtype=torch.long)
        with warnings.catch_warnings():
            # Torch is to part with these types; its other int8 products are slower by far at few
            # rows (768 x 50,257: 1.1 ms, where 2.8 is the next best).
            warnings.simplefilter("ignore")
            rounded = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
            self.weight = torch.ops.quantized.linear_prepack(rounded, None)
        self.bias = None if bias is None else bias.detach().float()
        self.bounds = torch.ones(1, weight.shape[1])
        self.bounds[0, 1::2] = -1
        self.has_fewer_levels = input_levels() < 255

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., D) float to (..., F) float."""
        rows = hidden.flatten(0, -2)
        largest = rows.abs().amax(1, keepdim=True).clamp_(min=1e-12)
        scaled = torch.cat([rows / largest, self.bounds])
        found = torch.ops.quantized.linear_dynamic(scaled, self.weight, self.has_fewer_levels)
        found = found[:-1].mul_(largest)
        if self.bias is not None:
            found += self.bias
        return found.unflatten(0, hidden.shape[:-1])


def is_packed(body: nn.Module) -> bool:
    """Say whether a network is for inference alone: what was rounded or rearranged is gone."""
    packed = any(isinstance(layer, PackedLinear | Int8Linear) for layer in body.modules())
    return packed or precision_of(body) != "fp32"


def precision_of(body: nn.Module) -> str:
    """Say what a network computes in: "fp32", or what it was packed for."""
    if any(isinstance(layer, Int8Linear) for layer in body.modules()):
        return "int8"
    return "bf16" if next(body.parameters()).dtype == torch.bfloat16 else "fp32"


def _replace_linears(module: nn.Module, make: Callable[..., nn.Module]) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, make(child.weight, child.bias))
        else:
            _replace_linears(child, make)


def pack(body: nn.Module, precision: str = "bf16") -> nn.Module:
    """Copy a network for inference, with every linear layer prepacked where it helps.

    The original is left as it is. On CUDA, and on CPUs without such hardware, a copy in bfloat16 is
    a plain one; 8-bit integers are for CPUs.

    Args:
        body: Any network.
        precision: "fp32", "bf16" or "int8".
    """
    packed = copy.deepcopy(body).requires_grad_(False)
    merge_lora(packed)
    for module in packed.modules():
        if isinstance(module, SelfAttention):
            module.fuse()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    if precision == "int8":
        _replace_linears(packed, Int8Linear)
    elif next(body.parameters()).device.type == "cpu" and _prepacks(precision):
        _replace_linears(packed, partial(PackedLinear, dtype=dtype))
    return packed.to(dtype).eval()


def _prepacks(precision: str) -> bool:
    return has_fast_bf16() if precision == "bf16" else torch.backends.mkldnn.is_available()


def pack_head(head: nn.Module, precision: str = "bf16") -> nn.Module:
    """Copy a head for inference beside a packed body; its last layer stays as it is.

    In bfloat16 a number near 2 is a multiple of 1/64, so that most rows of a regression would tie.
    The last layer costs next to nothing.
    """
    packed = pack(head, precision)
    if isinstance(head, LinearHead):
        packed.output = copy.deepcopy(head.output).requires_grad_(False)
    return packed
