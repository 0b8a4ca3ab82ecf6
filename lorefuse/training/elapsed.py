"""What a dense optimiser does to a table's row over steps that do not touch it, as a few factors of that row.

A step of AdamW without a gradient still decays a row's weight p and moments m and v, still moves p by what is left of
m, and the moving average a still follows p. Over the steps u = s+1 … t, with η the step size, r = 1 − η·decay, and c_u
the average's decay:

    p_t = r^(t−s) p_s − η m_s Σ_u w_u / (√v_s q_u + ε),    w_u = r^(t−u) β₁^(u−s) / (1 − β₁^u),
    m_t = β₁^(t−s) m_s,    v_t = β₂^(t−s) v_s,             q_u = √(β₂^(u−s) / (1 − β₂^u)),
    a_t = Π c_u a_s + Σ_u (1 − c_u) (c_(u+1) … c_t) p_u.

All but the sum over 1 / (√v q_u + ε) are closed forms. That sum is taken as W / (√v W/V + ε), with W = Σ w_u and
V = Σ w_u / q_u: exact for ε = 0, for m = 0 and where ε outweighs √v. Between them, where √v·q is about ε, its relative
error is at most .05 for a row touched at the first step, .0005 at the hundredth and .00002 from the thousandth on. So a
row that was never touched is exact, and one that was touched is what AdamW would have made of it but for that, and
rounding.

Source: AdamW, arXiv:1711.05101, algorithm 2; the sums over skipped steps are our own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
"""Those of torch's Adam."""
_FIRST_ROOM = 64


@dataclass(frozen=True)
class Factors:
    """What skipped steps do to n rows, (n, 1) each; the names are those of the module's formulas.

    Attributes:
        kept: Of the weight in itself.
        moved: W, of η·m in the weight.
        root: W / V, of √v beside ε.
        first: Of m in itself.
        second: Of v in itself.
        average_kept: Of the average in itself.
        average_weight: Of the weight in the average.
        average_moved: W of the average.
        average_root: W / V of the average.
    """

    kept: Tensor
    moved: Tensor
    root: Tensor
    first: Tensor
    second: Tensor
    average_kept: Tensor
    average_weight: Tensor
    average_moved: Tensor
    average_root: Tensor


class Elapsed:
    """Factors from each step of a stretch to its last one: one `advance` a step, ten numbers for each step so far.

    Args:
        learning_rate: η, the same throughout.
        decay: Decoupled weight decay of the tables.
        device: Of the factors.

    Attributes:
        num_steps: Steps of the stretch: what a row that was just touched keeps as its own.
    """

    def __init__(self, learning_rate: float, decay: float, device: torch.device) -> None:
        self._rate = 1 - learning_rate * decay
        self._sums = torch.zeros(9, _FIRST_ROOM, dtype=torch.float64, device=device)
        self.restart()

    def restart(self) -> None:
        """Begin a new stretch, all rows being as of now."""
        self.num_steps = 0
        self._begin()

    def advance(self, step: int, average_weight: float) -> None:
        """Take in a step that a row does not take part in.

        Args:
            step: Its number in the whole training, from 1.
            average_weight: Of the weight in the moving average at this step, 1 − c.
        """
        window = self._sums[:, : self.num_steps + 1]
        kept, first, second, moved, by_root = window[:5]
        average_kept, average_of = window[5], window[6:9]
        kept *= self._rate
        first *= BETA_1
        second *= BETA_2
        term = first / (1 - BETA_1**step)
        moved.mul_(self._rate).add_(term)
        by_root.mul_(self._rate).add_(term / (second / (1 - BETA_2**step)).sqrt())
        average_kept *= 1 - average_weight
        average_of.mul_(1 - average_weight).add_(window[[0, 3, 4]], alpha=average_weight)
        self.num_steps += 1
        if self.num_steps == self._sums.shape[1]:
            self._sums = torch.cat([self._sums, torch.zeros_like(self._sums)], dim=1)
        self._begin()

    def since(self, step_n: Tensor, dtype: torch.dtype = torch.float32) -> Factors:
        """Return the factors from some steps of this stretch to now.

        Args:
            step_n: int64 (n,), values of `num_steps` at that time.
            dtype: Of the factors.
        """
        found = self._sums.index_select(1, step_n)
        kept, first, second, moved, by_root, average_kept, average_weight, average_moved, average_by_root = found
        root = torch.where(moved > 0, moved / by_root, 1.0)  # a row that is as of now has no skipped steps
        average_root = torch.where(average_moved > 0, average_moved / average_by_root, 1.0)
        columns = [kept, moved, root, first, second, average_kept, average_weight, average_moved, average_root]
        return Factors(*torch.stack(columns).to(dtype).unsqueeze(2))

    def _begin(self) -> None:
        """Enter the present step: from it to itself nothing changes."""
        self._sums[:, self.num_steps] = 0.0
        self._sums[[0, 1, 2, 5], self.num_steps] = 1.0
