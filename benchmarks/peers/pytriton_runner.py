"""pytriton's own way to serve: a Python callable bound to Triton, around the same model and features as ours.

python pytriton_runner.py --grpc-port 9001 --http-port 9002 --metrics-port 9003 --version-folder …/direct/1
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from same_model import SameModel

OUTPUTS = ("item_id", "title", "liked_title", "model_version", "alias", "data_cutoff", "embedding_address")


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("grpc", "http", "metrics"):
        parser.add_argument(f"--{name}-port", type=int, required=True)
    parser.add_argument("--version-folder", type=Path, required=True)
    args = parser.parse_args()
    model = SameModel(args.version_folder)

    @batch
    def recommend(user_id: np.ndarray, k: np.ndarray) -> dict[str, np.ndarray]:
        """Answer users one by one; seen items are always left out, as the client asks."""
        answers = [model.recommend(one[0].decode(), int(count[0])) for one, count in zip(user_id, k, strict=True)]
        return {name: _joined([answer[name] for answer in answers]) for name in (*OUTPUTS, "score")}

    ports = {f"{name}_port": getattr(args, f"{name}_port") for name in ("grpc", "http", "metrics")}
    addresses = {f"{name}_address": "127.0.0.1" for name in ("grpc", "http", "metrics")}
    with Triton(config=TritonConfig(**ports, **addresses, allow_gpu_metrics=False)) as triton:
        triton.bind(
            model_name="recommend",
            infer_func=recommend,
            inputs=[
                Tensor(name="user_id", dtype=bytes, shape=(1,)),
                Tensor(name="k", dtype=np.int32, shape=(1,)),
            ],
            outputs=[
                *(Tensor(name=name, dtype=bytes, shape=(-1,)) for name in OUTPUTS),
                Tensor(name="score", dtype=np.float32, shape=(-1,)),
            ],
            config=ModelConfig(max_batch_size=64),
        )
        triton.serve()


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    """Join the answers of several users; shorter lists end in empty texts."""
    width = max(array.shape[1] for array in arrays)
    return np.concatenate([_padded(array, width) for array in arrays])


def _padded(array: np.ndarray, width: int) -> np.ndarray:
    if array.dtype != object:
        return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=-np.inf)
    return np.array([[*row, *[b""] * (width - len(row))] for row in array], dtype=object)


if __name__ == "__main__":
    main()
