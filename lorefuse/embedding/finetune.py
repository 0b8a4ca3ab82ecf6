"""Fine-tune the text encoder on the recommendation objective: texts of items liked together move together.

LoRA (arXiv:2106.09685) through `peft` trains small matrices beside the frozen weights; merged, they leave an encoder
of the same shape in a plain safetensors folder, which `embedding.encoder: <folder>` loads like any other. Pairs come
from train rows alone, and the folder says what the encoder has seen: `provenance.check_no_leak` holds it to that.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import EmbeddingConfig, FineTuneConfig
from lorefuse.core.atomic import sha256_file, write_json
from lorefuse.core.errors import ConfigError, DataError, DivergedError
from lorefuse.core.progress import track
from lorefuse.cpu.threads import torch_threads
from lorefuse.data.dataset import Dataset
from lorefuse.data.split import SPLIT_FILE
from lorefuse.embedding.consumption import co_liked_pairs, liked_rows
from lorefuse.embedding.contrast import Pairs
from lorefuse.embedding.encoder import TextEncoder
from lorefuse.embedding.facets import facets_of
from lorefuse.embedding.load import load_model
from lorefuse.embedding.prompt import item_texts
from lorefuse.embedding.provenance import ITEMS_FILE, REPORT_FILE
from lorefuse.embedding.source import resolve

_NUM_DRIFT_TEXTS = 512


def fine_tune(dataset: Dataset, split_path: Path, config: EmbeddingConfig, out_path: Path) -> dict[str, Any]:
    """Fine-tune the configured encoder on a split's train rows and write it as an encoder folder.

    Args:
        dataset: The dataset.
        split_path: Which rows are train.
        config: The encoder to begin with, its pooling and prompt (of the first facet), and the section `fine_tune`.
        out_path: Empty folder to fill.

    Returns:
        What `lorefuse_finetune.json` holds: data cutoff, numbers of pairs and items, steps, loss curve, seconds (of
        the clock and of the CPU), trainable and all parameters, peak memory of the process, and the drift, the cosine
        of old and new vectors.

    Raises:
        ConfigError: `peft` is not installed, or there is no such encoder, prompt or device.
        DataError: No two items with different texts were liked together.
        DivergedError: The loss is no longer finite.
    """
    start_s = time.perf_counter()
    facet = facets_of(config, dataset.roles.item_text)[0]
    items = dataset.items()
    texts = item_texts(items, facet.columns, facet.config.prompt)
    liked = liked_rows(dataset, split_path)
    pairs = _usable(co_liked_pairs(liked, config.fine_tune.max_gap), texts)
    source = resolve(config)
    with _torch_scope(config):
        model, tokenizer = load_model(source, "float32", config.device)
        encoder = TextEncoder(model, tokenizer, facet.config.model_copy(update={"normalize": True}))
        sample = [text for text in dict.fromkeys(texts) if text][:_NUM_DRIFT_TEXTS]
        before = encoder.encode(sample)
        facts, losses = _train(encoder, texts, pairs, config.fine_tune)
        drift = (encoder.encode(sample) * before).sum(1)
        encoder.model.save_pretrained(out_path)
        tokenizer.save_pretrained(out_path)
    seen = sorted(items.iloc[np.unique(pairs)]["item_id"].astype(str))
    report = {
        "base": {"encoder": source.name, "revision": source.revision},
        "pooling": config.pooling,
        "prompt": facet.config.prompt,
        "fine_tune": config.fine_tune.model_dump(),
        "data_cutoff": liked.data_cutoff,
        "split_sha256": sha256_file(split_path / SPLIT_FILE),
        "num_pairs": len(pairs),
        "num_items": len(seen),
        **facts,
        "loss_curve": [[step + 1, round(loss, 4)] for step, loss in enumerate(losses)],
        "drift": {"mean": round(float(drift.mean()), 4), "min": round(float(drift.min()), 4)},
        "elapsed_s": round(time.perf_counter() - start_s, 2),
        "peak_memory_bytes": _peak_memory_bytes(config.device),
    }
    write_json(out_path / ITEMS_FILE, seen)
    write_json(out_path / REPORT_FILE, report)
    return report


def _usable(pairs: NDArray[np.int64], texts: list[str]) -> NDArray[np.int64]:
    kept = [row for row, (a, b) in enumerate(pairs) if texts[a] and texts[b] and texts[a] != texts[b]]
    if len(kept) < 2:  # one pair has no other to be told from
        raise DataError(
            "The encoder cannot be fine-tuned: there is no pair to learn from.",
            expected="at least two pairs of liked train items with different texts",
            got=f"{len(pairs)} pairs of liked items, {len(kept)} with two different texts",
            fix="keep embedding.encoder as it is",
        )
    return pairs[kept]


def _train(
    encoder: TextEncoder, texts: list[str], pairs: NDArray[np.int64], params: FineTuneConfig
) -> tuple[dict[str, Any], list[float]]:
    """Train LoRA matrices and merge them: afterwards `encoder.model` is the tuned one. Return facts and losses."""
    import torch

    from lorefuse.embedding.contrast import info_nce
    from lorefuse.embedding.pooling import pool

    token_ids = encoder.tokenize(texts)
    model = _with_lora(encoder.model, params)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=params.lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, params.steps))
    text_id = np.unique(np.array(texts, dtype=object), return_inverse=True)[1].astype(np.int64)
    batches = Pairs(pairs, text_id, params.seed)
    size = min(params.batch_size, len(pairs))
    losses: list[float] = []
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    model.train()
    for step in track(range(params.steps), "Fine-tuning the encoder"):
        anchor, positive = batches.batch(size)
        tokens, mask = encoder.pad([token_ids[row] for row in np.concatenate([anchor, positive])])
        tokens_BT, mask_BT = (torch.from_numpy(x).to(encoder.model.device) for x in (tokens, mask))
        hidden_BTH = model(input_ids=tokens_BT, attention_mask=mask_BT).last_hidden_state
        pooled_BH = pool(hidden_BTH, mask_BT, encoder.config.pooling)
        anchor_BH, positive_BH = pooled_BH[:size], pooled_BH[size:]
        is_false = torch.from_numpy(batches.false_negatives(anchor, positive)).to(anchor_BH.device)
        loss = info_nce(anchor_BH, positive_BH, is_false, params.temperature)
        losses.append(loss.item())
        if not np.isfinite(losses[-1]):
            raise DivergedError(
                f"Fine-tuning diverged at step {step + 1}.",
                got=f"loss {losses[-1]}",
                fix="lower embedding.fine_tune.lr",
            )
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        schedule.step()
    facts = {
        "steps": params.steps,
        "train_s": round(time.perf_counter() - start_s, 2),
        "train_cpu_s": round(time.process_time() - start_cpu_s, 2),
        "num_trainable": sum(parameter.numel() for parameter in trainable),
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    encoder.model = model.merge_and_unload().eval()
    return facts, losses


def _with_lora(model: Any, params: FineTuneConfig) -> Any:
    try:
        import peft
    except ImportError:
        raise ConfigError(
            "Fine-tuning needs the package peft, which is not installed.", fix="pip install 'lorefuse[finetune]'"
        ) from None
    lora = peft.LoraConfig(
        r=params.rank, lora_alpha=params.alpha, lora_dropout=params.dropout, target_modules="all-linear"
    )
    with warnings.catch_warnings():
        # peft asks transformers by a name that is about to change; nothing that a user could mend.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return peft.get_peft_model(model, lora)


def _rate(step: int, num_steps: int) -> float:
    """Share of the peak learning rate: up over the first tenth, then down to zero in a line."""
    warmup = max(1, num_steps // 10)
    return min((step + 1) / warmup, (num_steps - step) / max(1, num_steps - warmup))


@contextmanager
def _torch_scope(config: EmbeddingConfig) -> Iterator[None]:
    """Seed and threads for what happens inside alone."""
    import torch

    with torch_threads(config.num_threads), torch.random.fork_rng():
        torch.manual_seed(config.fine_tune.seed)
        yield


def _peak_memory_bytes(device: str) -> int:
    """Return the most that was ever allocated on a CUDA device, or held by this process."""
    import resource

    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
