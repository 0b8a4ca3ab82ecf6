"""One model, several tasks: the label, and what else the events tell (a rating's value, a click before a purchase).

Suffixes: ``B`` rows, ``T`` tasks, ``A`` width of a task's vector.
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from lorefuse.core.errors import ConfigError
from lorefuse.models.experts import TRUNKS
from lorefuse.models.field_ranker import FieldRanker, Front
from lorefuse.models.layers import NumericScaler, mlp, weighted_sum
from lorefuse.models.ranker import SideTensors
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.spec import FeatureSpec

MAIN = "label"


class MultiTask(FieldRanker):
    """Shared-bottom, MMoE, PLE or ESMM heads over all field vectors and numbers; the served score is the label's.

    Tasks beside the label: ``value`` (the rating or event value, standardised, squared error) and ``click`` (whether
    the value is above 0, cross-entropy). With ``esmm`` the label is the second step of a funnel and the served
    probability is the product ``P(click) · P(label | click)`` over all impressions.

    Args:
        spec: Names and widths of the inputs.
        structure: ``shared_bottom``, ``mmoe``, ``ple`` or ``esmm``.
        tasks: Tasks beside the label; ``esmm`` has ``click`` whatever stands here.
        task_weight: Weight of each of them in the loss.
        num_experts: Experts (of each group, for PLE).
        expert_dim: Width of an expert.
        tower_dims: Widths of each task's own MLP.
        dropout: Dropout after each hidden layer.
        front: As for `FieldRanker`.

    Raises:
        ConfigError: ``esmm`` with a regression label.

    Source: MMoE (Ma et al., KDD 2018), PLE (Tang et al., RecSys 2020), ESMM arXiv:1804.07931 (pCTCVR = pCTR · pCVR,
    trained on the sum of both losses over all impressions).
    """

    def __init__(
        self,
        spec: FeatureSpec,
        *,
        structure: str = "mmoe",
        tasks: tuple[str, ...] = ("value",),
        task_weight: float = 0.2,
        num_experts: int = 3,
        expert_dim: int = 64,
        tower_dims: tuple[int, ...] = (32,),
        dropout: float = 0.2,
        **front: Unpack[Front],
    ) -> None:
        super().__init__(spec, **front)
        self.is_product = structure == "esmm"
        if self.is_product and spec.label_kind != "binary":
            raise ConfigError("model.structure esmm needs a binary label.", got=spec.label_kind)
        self.tasks = (MAIN, "click") if self.is_product else (MAIN, *tasks)
        self.task_weight = task_weight
        self.value_scaler = NumericScaler(1)
        width = (self.num_user_fields + self.num_item_fields) * self.embedding_dim + self.num_dense
        trunk = TRUNKS["shared_bottom" if self.is_product else structure]
        self.trunk = trunk(width, len(self.tasks), expert_dim, num_experts, dropout)
        self.towers = nn.ModuleList(
            nn.Sequential(mlp(expert_dim, tower_dims, dropout), nn.Linear(tower_dims[-1], 1)) for _ in self.tasks
        )

    def prepare(self, training_set: TrainingSet) -> None:
        """Fit all constants on train rows, the value's scale too."""
        from lorefuse.core.schema import Split

        super().prepare(training_set)
        value = training_set.value[training_set.rows_of(Split.TRAIN)]
        self.value_scaler.fit(torch.from_numpy(value)[:, None])

    def interact(self, fields_BFD: Tensor, dense_BX: Tensor, user: SideTensors, item: SideTensors) -> Tensor:
        """Return what the label's head adds to the linear part, (B,)."""
        linear_B = user["linear"] + item["linear"] + self.bias
        if self.num_facets:
            own_B = weighted_sum(dense_BX[:, -self.num_facets :], self.numeric_weight[-self.num_facets :])
            linear_B = linear_B + own_B
        return self._task_logits(linear_B, fields_BFD, dense_BX)[:, 0] - linear_B

    def row_loss(self, inputs: dict[str, Tensor], label_B: Tensor, value_B: Tensor) -> Tensor:
        """Return the label's loss and the weighted losses of the other tasks."""
        logits_BT = self._task_logits(*self.joined(*self.halves(inputs)))
        loss = self.label_loss(logits_BT[:, 0], label_B)
        for task, logit_B in zip(self.tasks[1:], logits_BT.unbind(1)[1:], strict=True):
            if task == "click":
                click_B = (value_B > 0).to(logit_B.dtype)
                extra = nn.functional.binary_cross_entropy_with_logits(logit_B, click_B)
            else:
                extra = nn.functional.mse_loss(logit_B, self.value_scaler(value_B[:, None]).squeeze(1))
            # a funnel's two losses count alike
            loss = loss + extra * (1.0 if self.is_product else self.task_weight)
        return loss

    def _task_logits(self, linear_B: Tensor, fields_BFD: Tensor, dense_BX: Tensor) -> Tensor:
        """Return each task's logit, the label's first, (B, T)."""
        task_BTA = self.trunk(torch.cat([fields_BFD.flatten(1), dense_BX], dim=1))
        heads = [tower(task_BTA[:, number]).squeeze(1) for number, tower in enumerate(self.towers)]
        main_B = linear_B + heads[0]
        if self.is_product:
            main_B = product_logit(heads[1], main_B)
        return torch.stack([main_B, *heads[1:]], dim=1)


def product_logit(first_B: Tensor, second_B: Tensor) -> Tensor:
    """Return the logit of the product of two probabilities given as logits, stable for large ones.

    With a, b the logits, 1 − σ(a)σ(b) = (1 + e^−a + e^−b + e^−(a+b) − 1) σ(a)σ(b), so the logit is
    ``−log(e^−a + e^−b + e^−(a+b))``.

    Example:
        >>> round(float(torch.sigmoid(product_logit(torch.tensor([0.0]), torch.tensor([0.0])))), 4)
        0.25
    """
    return -torch.logsumexp(torch.stack([-first_B, -second_B, -first_B - second_B]), dim=0)
