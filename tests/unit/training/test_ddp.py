"""Two processes that share a training give the model of one; a run that was killed ends as an undisturbed one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from lorefuse.config import DeepFMConfig, MultiTaskConfig, PipelineConfig, TrainingConfig
from lorefuse.core.errors import ArtifactError, LorefuseError
from lorefuse.core.schema import Split
from lorefuse.training import optimizer, order
from lorefuse.training.batches import Batches
from lorefuse.training.job import Job, read_trained, run_job, run_share
from lorefuse.training.train import Trained, train
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.training_rows import make_training_set, small_config

TRAINING = TrainingConfig(batch_size=61, learning_rate=0.01, max_epochs=4, num_threads=1)
"""Batches that two processes cannot share evenly."""


@pytest.fixture
def rows_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOREFUSE_HOME", str(tmp_path / "home"))
    for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_RANK", "GLOO_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "1")  # given back as it was, whatever a test sets
        monkeypatch.delenv(name)
    path = tmp_path / "rows"
    path.mkdir()
    make_training_set().save(path)
    return path


def _job(rows_path: Path, name: str, training: TrainingConfig = TRAINING, **sections: object) -> Job:
    return Job(
        rows_path=rows_path,
        config=small_config(training=training, **sections),
        out_path=rows_path.parent / name,
    )


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return read_trained(path).ranker.state_dict()


def _distance(one: Path, other: Path) -> float:
    first, second = _weights(one), _weights(other)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first if first[name].numel())


def _start(job: Job, num_processes: int) -> list[BaseProcess]:
    """Start the processes that torchrun would start, as forks: this process has imported torch already."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(num_processes)}
    context = multiprocessing.get_context("fork")
    processes: list[BaseProcess] = []
    for rank in range(num_processes):
        os.environ |= {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "GLOO_SOCKET_IFNAME": "lo"}
        processes.append(context.Process(target=run_share, args=(job,)))
        processes[-1].start()
    return processes


def _run_shared(job: Job, num_processes: int) -> None:
    processes = _start(job, num_processes)
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * num_processes


def _losses(trained: Trained) -> list[float]:
    return [epoch["train_loss"] for epoch in trained.history.epochs]


ALIGNED = DeepFMConfig(
    embedding_dim=4, hidden_dims=(8,), fusion_text_dim=2, fusion_graph_dim=2, alignment_weight=0.1, dropout=0.2
)


@pytest.mark.parametrize(
    "model", [ALIGNED, MultiTaskConfig(embedding_dim=4, expert_dim=4)], ids=["alignment-and-dropout", "multi-task"]
)
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_two_processes_give_the_model_of_one(
    rows_path: Path, model: object, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where tables are moved by rows and each process reads its own runs of rows, which forks take over."""
    if large:
        monkeypatch.setattr(optimizer, "BY_ROWS_ABOVE", 0)
        monkeypatch.setattr(order, "RUNS_ABOVE", 0)
    run_job(_job(rows_path, "one", model=model))
    _run_shared(_job(rows_path, "two", model=model), 2)
    assert _distance(rows_path.parent / "one", rows_path.parent / "two") < 1e-5
    one, two = (read_trained(rows_path.parent / name) for name in ("one", "two"))
    assert one.validation_score == pytest.approx(two.validation_score, abs=1e-6)
    assert _losses(one) == pytest.approx(_losses(two), abs=1e-6)


def test_a_process_reads_the_train_rows_of_its_own_runs_alone(rows_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Epoch after epoch, also where the alignment loss is computed from the items of the whole batch."""
    monkeypatch.setattr(order, "RUNS_ABOVE", 0)
    inputs = Batches.inputs

    def recording(batches: Batches, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        if torch.is_grad_enabled():  # not the validation rows
            with (rows_path.parent / f"read-{os.environ['RANK']}").open("a") as stream:
                stream.writelines(f"{row}\n" for row in rows.tolist())
        return inputs(batches, rows)

    monkeypatch.setattr(Batches, "inputs", recording)
    _run_shared(_job(rows_path, "two", model=ALIGNED), 2)
    first, second = ({int(line) for line in (rows_path.parent / f"read-{n}").open()} for n in range(2))
    assert not first & second
    assert sorted(first | second) == TrainingSet.load(rows_path).rows_of(Split.TRAIN).tolist()


def test_a_ranking_loss_is_shared_too(rows_path: Path) -> None:
    """It leaves the level of the scores free: of the bias's gradient only rounding is left, which Adam blows up."""
    training = TRAINING.model_copy(update={"loss": "sampled_softmax"})
    run_job(_job(rows_path, "one", training))
    _run_shared(_job(rows_path, "three", training), 3)
    one, three = (read_trained(rows_path.parent / name) for name in ("one", "three"))
    assert one.validation_score == pytest.approx(three.validation_score, abs=1e-3)
    assert _losses(one) == pytest.approx(_losses(three), abs=1e-3)


def test_a_job_in_one_process_is_a_plain_training(rows_path: Path) -> None:
    job = _job(rows_path, "job", TRAINING.model_copy(update={"checkpoint_epochs": 1}))
    trained = run_job(job)
    plain = train(TrainingSet.load(rows_path), job.config.model, TRAINING)
    other = plain.ranker.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in trained.ranker.state_dict().items())
    assert not job.checkpoint_path().exists()  # nothing is left once the ranker stands


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_a_killed_training_goes_on_and_ends_as_an_undisturbed_one(
    rows_path: Path, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(optimizer, "BY_ROWS_ABOVE", 0)
        monkeypatch.setattr(order, "RUNS_ABOVE", 0)
    training = TRAINING.model_copy(update={"checkpoint_epochs": 1, "max_epochs": 30, "patience": 30})
    undisturbed = _job(rows_path, "undisturbed", training.model_copy(update={"checkpoint_epochs": 0}))
    _run_shared(undisturbed, 2)
    killed = _job(rows_path, "killed", training)
    processes = _start(killed, 2)
    deadline = time.monotonic() + 60
    while len(list(killed.checkpoint_path().glob("epoch-*"))) == 0:
        assert time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.005)
    for process in processes:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    assert not killed.out_path.exists()
    assert max(int(path.name.removeprefix("epoch-")) for path in killed.checkpoint_path().glob("epoch-*")) < 30
    _run_shared(killed, 2)
    assert _distance(undisturbed.out_path, killed.out_path) == 0
    first, second = (read_trained(job.out_path).history for job in (undisturbed, killed))
    assert first.best_epoch == second.best_epoch
    assert [e["validation_score"] for e in first.epochs] == [e["validation_score"] for e in second.epochs]


def test_one_process_goes_on_bit_for_bit(tmp_path: Path) -> None:
    training_set, model = make_training_set(), small_config().model
    training = TRAINING.model_copy(update={"checkpoint_epochs": 1, "loss": "sampled_softmax", "ema_decay": 0.9})
    half = training.model_copy(update={"max_epochs": 2})
    train(training_set, model, half, checkpoint_path=tmp_path / "points")
    assert [path.name for path in (tmp_path / "points").iterdir()] == ["epoch-000002"]  # the last one alone is kept
    resumed = train(training_set, model, training, checkpoint_path=tmp_path / "points")
    whole = train(training_set, model, training).ranker.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in resumed.ranker.state_dict().items())


def test_a_checkpoint_of_another_ranker_is_refused_in_words(tmp_path: Path) -> None:
    training_set, config = make_training_set(), small_config()
    training = TRAINING.model_copy(update={"checkpoint_epochs": 1, "max_epochs": 1})
    train(training_set, config.model, training, checkpoint_path=tmp_path / "points")
    other = config.model.model_copy(update={"embedding_dim": 6})
    with pytest.raises(ArtifactError, match="cannot be used"):
        train(training_set, other, training, checkpoint_path=tmp_path / "points")


def test_an_error_of_a_process_is_said_in_its_words(rows_path: Path) -> None:
    training = TRAINING.model_copy(update={"num_processes": 2, "device": "nowhere"})
    with pytest.raises(LorefuseError, match=r"2 processes failed[\s\S]*training.device 'nowhere' cannot be used"):
        run_job(_job(rows_path, "none", training))


def test_an_evaluation_shares_its_trainings(rows_path: Path, tmp_path: Path) -> None:
    from lorefuse.config import EvaluationConfig
    from lorefuse.training.evaluate import run_arms
    from lorefuse.training.params import defaults

    sections = EvaluationConfig(arms=("real",), num_seeds=1, num_bootstraps=10, k=3)
    results = []
    for name, changes in {"alone": {}, "jobs": {"num_processes": 2, "checkpoint_epochs": 2}}.items():
        config: PipelineConfig = small_config(training=TRAINING.model_copy(update=changes), evaluation=sections)
        (tmp_path / name).mkdir()
        params = {arm: defaults(config) for arm in ("real", "none")}
        results.append(run_arms({"per_user_time": rows_path}, params, {}, config, tmp_path / name))
    assert results[0] == results[1]
    assert not list((tmp_path / "home" / "cache" / "checkpoints").glob("*"))
