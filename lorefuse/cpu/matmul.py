"""Products of matrices on a CPU, by whichever of torch's two libraries is faster here.

torch computes float32 layers with MKL, which uses half of the width of an AVX-512 core that is not Intel's; oneDNN,
which torch carries too (for bfloat16, and for compiled graphs), uses all of it. On an AMD EPYC with AVX-512 it was 2.3
times as fast; with AVX2 alone both are even. So oneDNN is taken where the CPU is of the first kind. Timing both would
be wrong now and then on a busy machine, and numbers of two runs would differ in the last bits, as between two CPUs.

Suffixes: ``B`` rows, ``K`` columns of the input, ``N`` columns of the output.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

MIN_MULTIPLICATIONS = 2_000_000
"""Below, oneDNN's 10 µs a call are more than what it saves."""
NARROW_COLUMNS_PER_THREAD = 64
"""On two threads 128 columns gained 1 to 5 % of a training step by MKL; 256 columns took it 1.4 times as long."""
_CPU_PATH = Path("/proc/cpuinfo")


@functools.cache
def onednn_is_faster() -> bool:
    """Return whether oneDNN's products are faster on this CPU: an AMD with AVX-512."""
    is_there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not is_there or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and "AuthenticAMD" in _cpu_facts()


def _cpu_facts() -> str:
    try:
        return _CPU_PATH.read_text("utf-8", errors="replace")
    except OSError:  # not Linux
        return ""


def product(values_BK: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """Return ``values @ weight.T + bias``, (B, N), without a gradient.

    Args:
        values_BK: float32; oneDNN's operator copies a transposed view of them.
        weight_NK: float32; a transposed view costs no copy.
        bias_N: Added to every row; None: nothing is.
    """
    size = values_BK.shape[0] * weight_NK.numel()
    if size >= MIN_MULTIPLICATIONS and _is_for_onednn(values_BK) and onednn_is_faster():
        return _onednn(values_BK, weight_NK, bias_N)
    return torch.nn.functional.linear(values_BK, weight_NK, bias_N)


def sum_of_outer(left_BN: Tensor, right_BK: Tensor) -> Tensor:
    """Return ``left.T @ right``, (N, K), a layer's weight gradient from its output's gradient and its input.

    oneDNN's operator copies the left side first, by one thread. Where there are more and the right side is narrow, that
    is more than oneDNN saves, and MKL is ahead, which copies nothing.

    Args:
        left_BN: float32.
        right_BK: float32.
    """
    num_threads = torch.get_num_threads()
    if num_threads > 1 and right_BK.shape[1] <= NARROW_COLUMNS_PER_THREAD * num_threads:
        return left_BN.T @ right_BK
    return product(left_BN.T, right_BK.T)


def linear(values: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """Return ``functional.linear(values, weight, bias)``, with its gradients.

    Args:
        values: (..., K). Other devices and types take torch's own way, as do autocast and the tracing of a graph.
        weight_NK: float32.
        bias_N: float32.
    """
    if values.ndim < 2 or not _is_for_onednn(values) or not onednn_is_faster():
        return torch.nn.functional.linear(values, weight_NK, bias_N)
    values_BK = values if values.ndim == 2 else values.flatten(0, -2)
    if torch.is_grad_enabled():
        found_BN: Tensor = _Linear.apply(values_BK, weight_NK, bias_N)  # type: ignore[no-untyped-call]
    else:
        found_BN = product(values_BK, weight_NK, bias_N)
    return found_BN if values.ndim == 2 else found_BN.view(*values.shape[:-1], -1)


class Dense(nn.Linear):
    """`torch.nn.Linear` by `linear`: the same weights under the same names."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the layer's output, (..., N)."""
        return linear(input, self.weight, self.bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values_BK: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
        ctx.save_for_backward(values_BK, weight_NK)
        return product(values_BK, weight_NK, bias_N)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        values_BK, weight_NK = ctx.saved_tensors
        (grad_BN,), (of_values, of_weight, of_bias) = grads, ctx.needs_input_grad
        return (
            product(grad_BN, weight_NK.T) if of_values else None,
            sum_of_outer(grad_BN, values_BK) if of_weight else None,
            grad_BN.sum(0) if of_bias else None,
        )


def _is_for_onednn(values: Tensor) -> bool:
    """Autocast chooses a type by itself; a graph for export must hold operators that ONNX knows."""
    return (
        values.device.type == "cpu"
        and values.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()  # gradients by user: a plain layer knows how
    )


def _onednn(values: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(values, weight_NK, bias_N, "none", [], "")
    return found
