"""Trunks for several tasks: shared bottom, MMoE and PLE. One input, one vector per task.

Suffixes: ``B`` rows, ``W`` input width, ``T`` tasks, ``E`` experts, ``A`` expert width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lorefuse.models.layers import mlp


class SharedBottom(nn.Module):
    """One MLP for all tasks (Caruana 1997).

    Args:
        width: W.
        num_tasks: T.
        expert_dim: A.
        num_experts: Not used; one bottom is shared.
        dropout: Dropout after the hidden layer.
    """

    def __init__(self, width: int, num_tasks: int, expert_dim: int, num_experts: int, dropout: float) -> None:
        super().__init__()
        self.num_tasks = num_tasks
        self.bottom = mlp(width, (expert_dim,), dropout)

    def forward(self, input_BW: Tensor) -> Tensor:
        """Return the same vector for every task, (B, T, A)."""
        shared_BA: Tensor = self.bottom(input_BW)
        return shared_BA.unsqueeze(1).expand(-1, self.num_tasks, -1)


class MMoE(nn.Module):
    """Experts for all, one softmax gate per task: ``f_t = Σₑ softmax(W_t x)ₑ · expertₑ(x)``.

    Arguments as for `SharedBottom`. Source: MMoE (Ma et al., KDD 2018), section 4.2.
    """

    def __init__(self, width: int, num_tasks: int, expert_dim: int, num_experts: int, dropout: float) -> None:
        super().__init__()
        self.experts = nn.ModuleList(mlp(width, (expert_dim,), dropout) for _ in range(num_experts))
        self.gates = nn.ModuleList(nn.Linear(width, num_experts, bias=False) for _ in range(num_tasks))

    def forward(self, input_BW: Tensor) -> Tensor:
        """Return one vector per task, (B, T, A)."""
        experts_BEA = torch.stack([expert(input_BW) for expert in self.experts], dim=1)
        return torch.stack([mixed(gate(input_BW), experts_BEA) for gate in self.gates], dim=1)


class PLE(nn.Module):
    """Own experts for each task beside shared ones, in two levels of progressive extraction.

    Args:
        width: W.
        num_tasks: T.
        expert_dim: A.
        num_experts: Experts of each task and of the shared group.
        dropout: Dropout after each expert.

    Source: PLE (Tang et al., RecSys 2020), section 4.2: a first level whose shared group reads all
    experts, then a level whose task gates read their own experts and the shared ones.
    """

    def __init__(self, width: int, num_tasks: int, expert_dim: int, num_experts: int, dropout: float) -> None:
        super().__init__()
        self.num_tasks = num_tasks
        self.first = _Extraction(width, num_tasks, expert_dim, num_experts, dropout, keeps_shared=True)
        self.second = _Extraction(expert_dim, num_tasks, expert_dim, num_experts, dropout, keeps_shared=False)

    def forward(self, input_BW: Tensor) -> Tensor:
        """Return one vector per task, (B, T, A)."""
        between = self.first([input_BW] * (self.num_tasks + 1))
        return torch.stack(self.second(between)[: self.num_tasks], dim=1)


class _Extraction(nn.Module):
    """One level: group t reads its own input; the last group is the shared one."""

    def __init__(
        self, width: int, num_tasks: int, expert_dim: int, num_experts: int, dropout: float, *, keeps_shared: bool
    ) -> None:
        super().__init__()
        self.num_experts = num_experts
        total = (num_tasks + 1) * num_experts
        self.experts = nn.ModuleList(mlp(width, (expert_dim,), dropout) for _ in range(total))
        self.task_gates = nn.ModuleList(nn.Linear(width, 2 * num_experts, bias=False) for _ in range(num_tasks))
        self.shared_gate = nn.Linear(width, total, bias=False) if keeps_shared else None

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """Return one (B, A) per task, and the shared one last where it goes on."""
        outputs = [
            torch.stack([expert(given) for expert in self.experts[start : start + self.num_experts]], dim=1)
            for given, start in zip(inputs, range(0, len(self.experts), self.num_experts), strict=True)
        ]
        shared = outputs[-1]
        pairs = zip(self.task_gates, inputs[:-1], outputs[:-1], strict=True)
        result = [mixed(gate(given), torch.cat([own, shared], dim=1)) for gate, given, own in pairs]
        if self.shared_gate is not None:
            result.append(mixed(self.shared_gate(inputs[-1]), torch.cat(outputs, dim=1)))
        return result


def mixed(logit_BE: Tensor, experts_BEA: Tensor) -> Tensor:
    """Return the softmax-weighted sum of experts, (B, A)."""
    return (torch.softmax(logit_BE, dim=1).unsqueeze(2) * experts_BEA).sum(1)


TRUNKS: dict[str, type[nn.Module]] = {"shared_bottom": SharedBottom, "mmoe": MMoE, "ple": PLE}
"""`model.structure` → class; ``esmm`` stands on a shared bottom."""
