"""fastembed's own `TextEmbedding.embed`, with a graph from a folder in place of one from a model hub.

Commands come in as JSON lines, answers go out as JSON lines; texts and vectors lie in files, and only `embed` is timed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
from protocol import timed

NAME = "ours/encoder"


def main(folder_path: str, dim: int, num_threads: int) -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    TextEmbedding.add_custom_model(
        model=NAME,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf="none"),
        dim=dim,
        model_file="model.onnx",
    )
    model = TextEmbedding(NAME, specific_model_path=folder_path, threads=num_threads, cuda=False)
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(_embed(model, **command)), file=answers, flush=True)


def _embed(model: TextEmbedding, texts: str, batch_size: int, out: str) -> dict[str, float]:
    documents, found = json.loads(Path(texts).read_text("utf-8")), []
    wall_s, cpu_s = timed(lambda: found.extend(model.embed(documents, batch_size=batch_size)))
    np.save(out, np.stack(found).astype(np.float32))
    return {"wall_s": wall_s, "cpu_s": cpu_s}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
