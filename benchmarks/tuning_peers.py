"""Tuning beside Optuna over FuxiCTR's trainer: time of as many trials, and what the best of them is worth.

Same rows (MovieLens-100K, 8 fields), DeepFM, batch size, patience, search space (learning rate and dropout), sampler
(Optuna's TPE) and number of trials; one thread. Ours is `lorefuse.tuning.study.tune` with pruning; the peer is a plain
Optuna loop around FuxiCTR's own `fit` in one process that stays, which is kinder than its own tuner (a process a
trial). FuxiCTR's loop calls nobody between epochs, so nothing can prune it. A round is a study of each; where the peer
runs fewer trials than ours, its time is scaled to as many. Between studies both train single epochs in turn, which
gives the training ratio that tuning must win on top of. The best trial of ours is trained once more for its AUC, which
is not timed, nor is the peer's scoring of the validation rows.

    python benchmarks/tuning_peers.py [--trials 30] [--peer-trials 6] [--rounds 2] [--at-a-time 1]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from peers.environment import PeerUnavailableError
from peers.interchange import write_movielens
from peers.protocol import VALIDATION, Job, Rows, Timed
from peers.worker import OURS, Worker
from verdict import give, spread

from lorefuse.core.errors import LorefuseError
from lorefuse.training.row_metrics import auc, logloss
from lorefuse.tuning.space import RANGES

PEER = "fuxictr"
SPACE = {name: RANGES[name] for name in ("learning_rate", "dropout")}
"""Both libraries mean the same by these; penalties differ (decoupled decay here, a term of the loss there)."""
ON_TOP = 2.0
"""The goal, as a multiple of the training ratio."""
EPOCHS_A_ROUND = 3


def main() -> None:
    """Print a line a round, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--peer-trials", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--at-a-time", type=int, default=1, help="processes of ours; the peer has one")
    parser.add_argument("--batch-size", type=int, default=4096)
    args = parser.parse_args()
    job = Job("deepfm", batch_size=args.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        folder_path = Path(folder)
        try:
            write_movielens(folder_path)
            with Worker(OURS, folder_path, job) as ours, Worker(PEER, folder_path, job) as peer:
                rounds, epochs = [], []
                for seed in range(args.rounds):
                    epochs += [training_ratio(ours, peer) for _ in range(EPOCHS_A_ROUND)]
                    rounds.append(compare(ours, peer, Rows.load(folder_path), args, seed))
        except (LorefuseError, PeerUnavailableError) as error:
            print(f"tuning_peers: SKIPPED, {error}")
            return
    for name, of in (("wall time", 0), ("CPU time", 1)):
        ratios = [ratio[of] for ratio, _ in rounds]
        training = [ratio[of] for ratio in epochs]
        print(f"ours is faster by, {name}: {spread(ratios)}; one epoch alone {spread(training)}")
        goal = ON_TOP * median(training)
        give("tuning", f"{args.trials} trials of DeepFM, {name}", f"Optuna over {PEER}", ratios, goal=goal)
    values = np.array([scores for _, scores in rounds])
    print(f"best validation AUC, mean over rounds: ours {values[:, 0].mean():.4f}, {PEER} {values[:, 1].mean():.4f}")


def training_ratio(ours: Worker, peer: Worker) -> Timed:
    """Train an epoch of each; return the ratios of wall and CPU time."""
    mine, theirs = ours.epoch("own"), peer.epoch("own")
    return theirs[0] / mine[0], theirs[1] / mine[1]


def compare(
    ours: Worker, peer: Worker, rows: Rows, args: argparse.Namespace, seed: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Run a study of each; return ratios of wall and CPU time, and the AUC of the best trial of ours and the peer."""
    found = ours.tune(SPACE, args.trials, args.at_a_time, seed)
    (wall_s, cpu_s), best = peer_study(peer, rows, args.peer_trials, seed)
    scale = args.trials / args.peer_trials
    print(
        f"round {seed}: ours {args.trials} trials {found['wall_s']:.1f} s ({found['cpu_s']:.1f} CPU s), "
        f"{found['num_epochs']} epochs, {found['states']}, "
        f"best logloss {found['logloss']:.5f}, AUC {found['auc']:.4f}; "
        f"{PEER} {args.peer_trials} trials {wall_s:.1f} s ({cpu_s:.1f} CPU s), "
        f"best logloss {best['logloss']:.5f}, AUC {best['auc']:.4f}",
        flush=True,
    )
    return (scale * wall_s / found["wall_s"], scale * cpu_s / found["cpu_s"]), (found["auc"], best["auc"])


def peer_study(peer: Worker, rows: Rows, num_trials: int, seed: int) -> tuple[Timed, dict[str, Any]]:
    """Search the peer's hyper-parameters with Optuna; return its times and the best trial."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    label = rows.label[rows.of(VALIDATION)].astype(np.float64)
    times, trials = [], []
    for _ in range(num_trials):
        trial = study.ask()
        params = {name: trial.suggest_float(name, low, high, log=log) for name, (low, high, log) in SPACE.items()}
        elapsed, scores = peer.trial(params, seed)
        times.append(elapsed)
        value = logloss(label, scores.astype(np.float64))
        trials.append({"logloss": value, "auc": auc(label, scores.astype(np.float64))})
        study.tell(trial, -value)
    wall_s, cpu_s = (sum(time[n] for time in times) for n in (0, 1))
    return (wall_s, cpu_s), min(trials, key=lambda trial: trial["logloss"])


if __name__ == "__main__":
    main()
