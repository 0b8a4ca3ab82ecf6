"""What differential privacy costs a ranker, and what it keeps from an attacker.

Trains a preset's model on a training set without privacy and at several ε (by user, `training.privacy`), seed by seed,
one thread each, and judges the test rows. Then tells train rows by likelihood ratio, on models of random halves
(`leaks.halves`), without privacy and at one ε. The training set is one that `lorefuse run` has left under its home, in
`cache/steps/training_set`.

    python benchmarks/privacy.py --rows .lorefuse/cache/steps/training_set/ADDRESS \
        --config pipelines/configs/movielens_100k.yaml [--epsilons 1 3 8] [--seeds 3] [--models 8] [--attacked 8]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorefuse.config import PipelineConfig

SHOWN = ("auc_warm", "gauc_warm", "auc_cold", "logloss_all")


def main() -> None:
    """Print a line a training, then the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--epsilons", type=float, nargs="*", default=[1.0, 3.0, 8.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", type=int, default=8, help="models of halves; 0: no attack")
    parser.add_argument("--attacked", type=float, default=8.0, help="ε of the attacked models; the others have none")
    parser.add_argument("--epochs", type=int, default=5, help="of private trainings")
    parser.add_argument("--learning-rate", type=float, default=0.01, help="of private trainings")
    parser.add_argument("--rows-per-user", type=int, default=8)
    args = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
    from lorefuse.config import load_config

    config = load_config(args.config)
    configs = {"without": config} | {f"ε {epsilon:g}": private(config, epsilon, args) for epsilon in args.epsilons}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in configs}
    for seed in range(args.seeds):
        for name, one in configs.items():
            found[name].append(judged(args.rows, one, seed))
    print(f"\n| | ε spent | noise | {' | '.join(SHOWN)} |\n|---|---|---|{'---|' * len(SHOWN)}", flush=True)
    for name, runs in found.items():
        cells = [spread([run[metric] for run in runs]) for metric in SHOWN]
        print(f"| {name} | {runs[0]['epsilon']} | {runs[0]['noise']} | {' | '.join(cells)} |", flush=True)
    if args.models:
        for name, one in {"without": config, f"ε {args.attacked:g}": private(config, args.attacked, args)}.items():
            attack(args.rows, one, name, args.models)


def private(config: PipelineConfig, epsilon: float, args: argparse.Namespace) -> PipelineConfig:
    """Return the configuration with a private training of so many epochs."""
    from lorefuse.config import PrivateTrainingConfig

    changed: dict[str, Any] = {"max_epochs": args.epochs, "learning_rate": args.learning_rate}
    changed["privacy"] = PrivateTrainingConfig(epsilon=epsilon, rows_per_user=args.rows_per_user)
    return config.model_copy(update={"training": config.training.model_copy(update=changed)})


def judged(rows_path: Path, config: PipelineConfig, seed: int) -> dict[str, Any]:
    """Return the figures of one training on test rows, and what it guarantees."""
    from lorefuse.core.schema import Split
    from lorefuse.training.pool import load_training_set
    from lorefuse.training.train import judge_split, score_rows, train

    training_set = load_training_set(str(rows_path))
    trained = train(training_set, config.model, config.training.model_copy(update={"seed": seed, "num_threads": 1}))
    rows = training_set.rows_of(Split.TEST)
    metrics = judge_split(training_set, score_rows(trained.ranker, training_set, rows), rows, config)
    facts = trained.history.privacy or {"epsilon": float("inf"), "noise_multiplier": 0.0}
    shown = {name: metrics[name] for name in SHOWN}
    print(f"seed {seed}, ε {facts['epsilon']:.3f}: {shown}", flush=True)
    return {**shown, "epsilon": f"{facts['epsilon']:.2f}", "noise": f"{facts['noise_multiplier']:.2f}"}


def attack(rows_path: Path, config: PipelineConfig, name: str, num_models: int) -> None:
    """Print how well rows of models of halves are told."""
    from lorefuse.leaks.halves import HalfTask, looked_at, train_half
    from lorefuse.leaks.run import attacked, exposure_of_halves
    from lorefuse.report.leaks import interval_text
    from lorefuse.training.pool import load_training_set, run_parallel

    training_set, section = load_training_set(str(rows_path)), config.leaks
    tasks = [HalfTask(str(rows_path), config, {}, number) for number in range(num_models)]
    halves = list(run_parallel(train_half, tasks))
    user = training_set.user_row[looked_at(training_set, section.num_rows, section.seed)].astype("int64")
    for kind, figures in attacked(halves, user, section.num_bootstraps).items():
        print(f"{name}, {kind}: AUC {interval_text(figures['auc'])}, found at 1 % {interval_text(figures['tpr'])}")
    exposed = exposure_of_halves(halves, section.num_bootstraps)
    print(f"{name}, embeddings: likes of train − others {interval_text(exposed['difference'])}", flush=True)


def spread(values: list[float]) -> str:
    """Return mean and deviation."""
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
