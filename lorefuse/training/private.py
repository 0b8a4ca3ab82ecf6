"""Training with differential privacy by user: what the weights know of any one user is bounded, and drowned in noise.

In a step each user is drawn by a coin of their own (Poisson sampling). A drawn user's rows make one gradient, clipped
to a norm; the sum over users gets Gaussian noise in proportion to that norm. Clipping, noise and accounting are
Opacus's; gradients by user are torch.func's, since our layers are not among those that Opacus knows.

The guarantee is for the weights that gradients make, given the inputs as they are. Not covered: vocabularies, fitted
constants (means and deviations of inputs), statistics of items and the prior that the ranker reads, the candidate
stages (which are left out, see `lists.run.wants_candidates`), hyper-parameters that tuning chose, and figures of
training and tests that are written down.

Source: Abadi et al. 2016, arXiv:1607.00133, algorithm 1 (DP-SGD); by user: McMahan et al. 2018, arXiv:1710.06963.

Suffixes: ``U`` users of a step, ``R`` rows of a user.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from lorefuse.config import TrainingConfig
from lorefuse.config.learning import PrivateTrainingConfig
from lorefuse.core.errors import ConfigError
from lorefuse.core.schema import Split
from lorefuse.cpu.threads import torch_threads
from lorefuse.models.field_ranker import FieldRanker
from lorefuse.models.ranker import Ranker
from lorefuse.training.batches import Batches
from lorefuse.training.checks import check_finite, check_rows
from lorefuse.training.device import device_of
from lorefuse.training.ema import LearningCurve, WeightAverage, copied_weights
from lorefuse.training.optimizer import dense_optimizer
from lorefuse.training.step import predict
from lorefuse.training_set.arrays import TrainingSet

if TYPE_CHECKING:
    from opacus.accountants import RDPAccountant

MAX_GRADIENTS = 40_000_000
"""Numbers in the gradients of the users that are computed at once: 160 MB. A step of more users is made in parts."""


def fit_private(
    ranker: Ranker,
    training_set: TrainingSet,
    config: TrainingConfig,
    *,
    validation_score: Callable[[NDArray[np.float32]], float],
    on_epoch: Callable[[int, float], bool] | None = None,
) -> LearningCurve:
    """Train a ranker in place with differential privacy and leave it with the averaged weights of its last epoch.

    `max_epochs` passes of (users / `users_per_step`) steps are made, and no epoch is chosen: that would be one more
    look at the users. Dropout is off, ids are dropped as ever. Which users are drawn, and the noise, come from the
    operating system and not from the seed: with the seed, whoever reads the configuration could subtract the noise. So
    two trainings differ.

    Args:
        ranker: Freshly built, constants fitted.
        training_set: The rows.
        config: With `privacy`.
        validation_score: Judges the scores of the validation rows, for the learning curve.
        on_epoch: Called after each epoch; may stop the run.

    Returns:
        The learning curve, and as ``privacy`` what `guarantee` says.

    Raises:
        ConfigError: Opacus is missing, δ is not below 1 / users, or the ranker has a loss that is no mean over rows.
        DataError: No train or validation rows, or labels of one class only.
        DivergedError: The loss is not finite.
    """
    assert config.privacy is not None
    device = device_of(config.device)
    parts = [training_set.rows_of(part) for part in (Split.TRAIN, Split.VALIDATION)]
    train, validation = (torch.from_numpy(part).to(device) for part in parts)
    check_rows(training_set, train, validation)
    users = UserRows(training_set.user_row[parts[0]], parts[0])
    plan = make_plan(config.privacy, len(users), config.max_epochs)
    _check_ranker(ranker)
    batches = Batches(training_set, device, ranker, np.concatenate(parts))
    ranker.to(device).eval()
    average = WeightAverage(ranker, config.ema_decay)
    secret = torch.Generator(device).manual_seed(secret_seed())
    steps = PrivateSteps(ranker, batches, dense_optimizer(ranker, config), plan, secret)
    epoch = _Epochs(users, steps, average, plan, config.privacy, np.random.default_rng(secret_seed()))
    history, stopped = LearningCurve(), False
    with torch_threads(config.num_threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(secret_seed())  # dropped ids
        while not stopped and len(history.epochs) < config.max_epochs:
            train_loss, speed = epoch()
            logits = predict(average.ranker, batches, validation)
            validation_loss = float(average.ranker.label_loss(logits, batches.label[validation]))
            check_finite(train_loss, validation_loss)
            score = validation_score(average.ranker.to_score(logits).cpu().numpy())
            entry = {"epoch": len(history.epochs) + 1, "train_loss": train_loss, "validation_loss": validation_loss}
            history.epochs.append({**entry, "validation_score": score, **speed})
            stopped = on_epoch is not None and on_epoch(len(history.epochs), score)
    history.best_epoch = len(history.epochs)
    history.privacy = guarantee(steps.accountant, config.privacy, plan)
    ranker.load_state_dict(copied_weights(average.ranker))
    return history


@dataclass(frozen=True)
class _Epochs:
    """Called for an epoch: draws users, makes the steps, keeps the average up; mean loss, and how fast it was."""

    users: UserRows
    steps: PrivateSteps
    average: WeightAverage
    plan: dict[str, Any]
    config: PrivateTrainingConfig
    rng: np.random.Generator

    def __call__(self) -> tuple[float, dict[str, float]]:
        start_s, total, num_drawn = time.perf_counter(), 0.0, 0
        for _ in range(self.plan["steps_per_epoch"]):
            drawn = np.flatnonzero(self.rng.random(len(self.users)) < self.plan["sample_rate"])
            rows = self.users.draw(drawn, self.config.rows_per_user, self.rng)
            loss_U = self.steps(torch.from_numpy(rows).to(self.steps.device))
            self.average.update()
            total, num_drawn = total + float(loss_U.sum()), num_drawn + len(drawn)
        elapsed_s = time.perf_counter() - start_s
        num_rows = num_drawn * self.config.rows_per_user
        speed = {"elapsed_s": round(elapsed_s, 3), "samples_per_s": round(num_rows / elapsed_s)}
        return total / max(num_drawn, 1), speed


def make_plan(config: PrivateTrainingConfig, num_users: int, num_epochs: int) -> dict[str, Any]:
    """Return how the steps are made so that they stay within the budget.

    Args:
        config: The budget and the users of a step.
        num_users: Users with a train row.
        num_epochs: Passes.

    Returns:
        ``sample_rate``, ``expected_users`` of a step, ``steps_per_epoch``, ``num_steps``, ``noise_multiplier``
        (deviation of the noise over the norm that gradients are clipped to), ``max_grad_norm`` and ``num_users``.

    Raises:
        ConfigError: Opacus is missing, δ is not below 1 / users, or no noise is enough.
    """
    if config.delta >= 1 / num_users:
        raise ConfigError(
            "training.privacy.delta promises nothing: somebody may be given away whole.",
            expected=f"below 1 / {num_users} users",
            got=str(config.delta),
            fix=f"set it to {0.1 / num_users:.0e}",
        )
    get_noise_multiplier = _opacus().accountants.utils.get_noise_multiplier
    expected_users = min(config.users_per_step, num_users)
    steps_per_epoch = max(1, round(num_users / expected_users))
    sample_rate, num_steps = expected_users / num_users, steps_per_epoch * num_epochs
    try:
        noise = get_noise_multiplier(
            target_epsilon=config.epsilon,
            target_delta=config.delta,
            sample_rate=sample_rate,
            steps=num_steps,
            accountant="rdp",
            epsilon_tolerance=min(0.01, config.epsilon / 100),
        )
    except ValueError as error:
        raise ConfigError(
            "training.privacy.epsilon cannot be reached.", got=str(error), fix="raise it, or lower max_epochs"
        ) from None
    return {
        "sample_rate": sample_rate,
        "expected_users": expected_users,
        "steps_per_epoch": steps_per_epoch,
        "num_steps": num_steps,
        "noise_multiplier": float(noise),
        "max_grad_norm": config.max_grad_norm,
        "num_users": num_users,
    }


def guarantee(accountant: RDPAccountant, config: PrivateTrainingConfig, plan: dict[str, Any]) -> dict[str, Any]:
    """Return what the weights give away at most: ``epsilon`` and ``delta`` by ``unit``, and what it was computed from.

    Args:
        accountant: Has counted the steps.
        config: The budget.
        plan: From `make_plan`.
    """
    return {
        "epsilon": float(accountant.get_epsilon(delta=config.delta)),
        "delta": config.delta,
        "unit": "user",
        "covers": "weights of the ranker, given its inputs",
        "accountant": f"RDP, Opacus {_opacus().__version__}",
        "noise_multiplier": plan["noise_multiplier"],
        "sample_rate": plan["sample_rate"],
        "num_steps": sum(steps for _, _, steps in accountant.history),
        "num_users": plan["num_users"],
        "max_grad_norm": config.max_grad_norm,
        "rows_per_user": config.rows_per_user,
    }


class UserRows:
    """Rows by user.

    Args:
        user: User of each row.
        rows: Positions of the rows.
    """

    def __init__(self, user: NDArray[np.integer], rows: NDArray[np.int64]) -> None:
        order = np.argsort(user, kind="stable")
        self._rows = rows[order]
        _, self._starts, self._counts = np.unique(user[order], return_index=True, return_counts=True)

    def __len__(self) -> int:
        return len(self._starts)

    def draw(self, users: NDArray[np.int64], num_rows: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return so many random rows of some users, (U, R): each row once before any comes a second time.

        Args:
            users: Positions of users, from 0.
            num_rows: R.
            rng: Draws.
        """
        result = np.empty((len(users), num_rows), np.int64)
        for place, user in enumerate(users):
            start, count = self._starts[user], self._counts[user]
            result[place] = self._rows[start + np.resize(rng.permutation(count), num_rows)]
        return result


class PrivateSteps:
    """Makes steps by clipped gradients of users, with noise.

    Args:
        ranker: Trained in place; in evaluation mode.
        batches: Tables of the rows.
        optimizer: Moves the weights by the noisy gradient.
        plan: From `make_plan`: noise_multiplier, max_grad_norm, expected_users, sample_rate.
        generator: Source of the noise, on the ranker's device.

    Attributes:
        accountant: Counts the steps.
        device: Where the rows of a step belong.
    """

    def __init__(
        self,
        ranker: Ranker,
        batches: Batches,
        optimizer: torch.optim.Optimizer,
        plan: dict[str, Any],
        generator: torch.Generator,
    ) -> None:
        opacus = _opacus()
        self.accountant: RDPAccountant = opacus.accountants.RDPAccountant()
        self._ranker, self._batches, self.device = ranker, batches, batches.label.device
        self._loss = _RowLoss(ranker)
        self._optimizer = opacus.optimizers.DPOptimizer(
            optimizer,
            noise_multiplier=plan["noise_multiplier"],
            max_grad_norm=plan["max_grad_norm"],
            expected_batch_size=plan["expected_users"],
            generator=generator,
        )
        self._optimizer.attach_step_hook(self.accountant.get_optimizer_hook_fn(plan["sample_rate"]))
        self._per_part = max(1, MAX_GRADIENTS // sum(p.numel() for p in ranker.parameters()))

    def __call__(self, rows_UR: Tensor) -> Tensor:
        """Make a step from the rows of the drawn users, and return their losses before it, (U,).

        Nobody may be drawn: a step of noise alone.
        """
        parts, losses = list(torch.split(rows_UR, self._per_part)), []
        for number, part in enumerate(parts):
            gradients, loss_U = self.user_gradients(part)
            losses.append(loss_U)
            for name, parameter in self._loss.named_parameters():
                parameter.grad_sample = gradients[name]  # type: ignore[attr-defined]
            self._optimizer.signal_skip_step(do_skip=number < len(parts) - 1)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        return torch.cat(losses)

    def user_gradients(self, rows_UR: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the gradient of each user's mean loss by parameter, (U, …), and the losses, (U,)."""
        weights = {name: parameter.detach() for name, parameter in self._loss.named_parameters()}
        if not len(rows_UR):
            empty = {name: weight.new_zeros((0, *weight.shape)) for name, weight in weights.items()}
            return empty, torch.zeros(0, device=rows_UR.device)
        rows = rows_UR.flatten()
        inputs = self._dropped(self._batches.inputs(rows))
        by_user = {name: value.view(*rows_UR.shape, *value.shape[1:]) for name, value in inputs.items()}
        labels, values = (
            of.index_select(0, rows).view_as(rows_UR) for of in (self._batches.label, self._batches.value)
        )

        def loss(weights: dict[str, Tensor], inputs: dict[str, Tensor], label_R: Tensor, value_R: Tensor) -> Tensor:
            found: Tensor = functional_call(self._loss, weights, (inputs, label_R, value_R))
            return found

        gradients, losses = vmap(grad_and_value(loss), in_dims=(None, 0, 0, 0))(weights, by_user, labels, values)
        return gradients, losses

    def _dropped(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Drop a share of the ids, as a ranker in training does; here the layers themselves are not in training."""
        if not isinstance(self._ranker, FieldRanker):
            return inputs
        drop = self._ranker.drop_ids.train()
        changed = {name: drop(inputs[name]) for name in ("user_fields", "item_fields")}
        drop.eval()
        return inputs | changed


class _RowLoss(nn.Module):
    """A ranker's mean loss over rows as a module's forward, which torch.func calls with other weights."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(self, inputs: dict[str, Tensor], label_R: Tensor, value_R: Tensor) -> Tensor:
        return self.ranker.row_loss(inputs, label_R, value_R)


def secret_seed() -> int:
    """Return a seed that is written down nowhere."""
    return secrets.randbits(63)


def _check_ranker(ranker: Ranker) -> None:
    if ranker.has_auxiliary_loss:
        raise ConfigError(
            "training.privacy cannot bound an alignment loss, which is no mean over rows.",
            expected="model.alignment_weight 0",
            got="an alignment loss",
            fix="set it to 0, or leave training.privacy out",
        )


def _opacus() -> Any:
    try:
        import opacus
        import opacus.accountants.utils
        import opacus.optimizers
    except ImportError:
        raise ConfigError(
            "training.privacy needs Opacus, which is not installed.",
            expected="the package opacus",
            got="no such module",
            fix="pip install 'lorefuse[privacy]'",
        ) from None
    return opacus
