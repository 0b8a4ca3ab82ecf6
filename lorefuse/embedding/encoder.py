"""A text encoder from transformers that computes hardly any padding and keeps every core busy."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import EmbeddingConfig
from lorefuse.core.errors import ArtifactError, ConfigError
from lorefuse.core.progress import track
from lorefuse.cpu.allocator import keep_freed_memory
from lorefuse.cpu.threads import torch_threads
from lorefuse.embedding.load import load_model
from lorefuse.embedding.source import EncoderSource, resolve

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_log = logging.getLogger(__name__)
ENOUGH_TOKENS, MIN_FILL = 256, 0.875
"""Products of fewer rows than the first are slower; above it, rows shorter than this share of the longest wait."""


@dataclass
class TextEncoder:
    """A loaded encoder. Make it with `load_encoder`.

    Attributes:
        model: In evaluation mode, on its device.
        tokenizer: Its tokenizer; padding is done here, on the right.
        config: Pooling, lengths, batches, threads.
        num_tokens: Tokens encoded so far, padding left out.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    config: EmbeddingConfig
    num_tokens: int = 0

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return int(self.model.config.hidden_size)

    @property
    def max_tokens(self) -> int:
        """Longest text in tokens: the config's, or less where the model has fewer positions."""
        positions = getattr(self.model.config, "max_position_embeddings", None) or self.config.max_tokens
        return min(self.config.max_tokens, int(positions), int(self.tokenizer.model_max_length))

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Encode texts to vectors, shape (n, dim), float32, in the order given.

        Texts are sorted by length and packed under a budget of tokens, padding included where there is any. On a CPU
        each thread takes whole batches for itself: threads that share one batch wait for each other at every layer.
        """
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        if not texts:
            return vectors
        token_ids = self.tokenize(texts)
        lengths = np.fromiter((len(ids) for ids in token_ids), dtype=np.int64, count=len(texts))
        self.num_tokens += int(lengths.sum())
        batches = self._pack(lengths)
        results = self._run(token_ids, batches)
        for rows, pooled in track(results, "Encoding texts", total=len(batches)):
            vectors[rows] = pooled
        return vectors

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Return the tokens that stand for each text, instruction, end token and cut included; never none."""
        # Some tokenizer files carry a length and padding of their own (all-MiniLM-L6-v2's: 128): ours are explicit.
        end_id = self._end_id if self.config.append_eos else None
        encoded = self.tokenizer(
            [self.config.instruction + text for text in texts],
            padding=False,
            truncation=True,
            max_length=self.max_tokens - (end_id is not None),
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        token_ids = encoded["input_ids"]
        self._check_ids(token_ids)
        if end_id is not None:
            token_ids = [ids if ids and ids[-1] == end_id else [*ids, end_id] for ids in token_ids]
        # A tokenizer without special tokens gives nothing for an empty text: one padding token stands in.
        return [ids or [self._pad_id] for ids in token_ids]

    def _check_ids(self, token_ids: list[list[int]]) -> None:
        largest = max((max(ids) for ids in token_ids if ids), default=0)
        num_embeddings = int(self.model.get_input_embeddings().weight.shape[0])
        if largest >= num_embeddings:
            raise ArtifactError(
                f"The tokenizer of {self.config.encoder} does not fit its model.",
                expected=f"ids of tokens below {num_embeddings}, the size of the embedding table",
                got=str(largest),
                fix="bring the tokenizer that the model was trained with: embedding.encoder",
            )

    def _pack(self, lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        import torch

        from lorefuse.cpu.unpadded import pack_rows, takes_rows

        if takes_rows(self.model):
            return pack_rows(lengths, self.config.tokens_per_batch, self.config.num_threads or torch.get_num_threads())
        return pack(lengths, self.config.tokens_per_batch)

    def _run(
        self, token_ids: list[list[int]], batches: list[NDArray[np.int64]]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        import torch

        num_threads_before = torch.get_num_threads()
        num_threads = self.config.num_threads or num_threads_before
        on_cpu = self.model.device.type == "cpu"
        keep_freed_memory()
        num_workers = min(num_threads, len(batches)) if on_cpu else 1

        def forward(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            return rows, self._forward([token_ids[row] for row in rows])

        if num_workers == 1:
            with torch_threads(num_threads):
                yield from map(forward, batches)
            return
        workers = ThreadPoolExecutor(
            num_workers, "lorefuse-encode", initializer=torch.set_num_threads, initargs=(num_threads // num_workers,)
        )
        try:
            yield from workers.map(forward, batches)
        finally:
            workers.shutdown(cancel_futures=True)
            # A worker's setting is its own for OpenMP but the whole process's for MKL.
            torch.set_num_threads(num_threads_before)

    def _forward(self, token_ids: list[list[int]]) -> NDArray[np.float32]:
        import torch

        from lorefuse.cpu.unpadded import encode_rows, takes_rows
        from lorefuse.embedding.pooling import pool

        def pool_texts(hidden_BTH: Tensor, mask_BT: Tensor) -> Tensor:
            return pool(hidden_BTH, mask_BT, self.config.pooling, self.config.normalize)

        pooled: NDArray[np.float32]
        if takes_rows(self.model):
            pooled = encode_rows(self.model, token_ids, pool_texts).numpy()
            return pooled
        tokens, mask = self.pad(token_ids)
        with torch.inference_mode():
            tokens_BT = torch.from_numpy(tokens).to(self.model.device)
            mask_BT = torch.from_numpy(mask).to(self.model.device)
            # Without padding no mask is needed, and attention takes its faster path.
            attention_mask = None if mask.all() else mask_BT
            hidden_BTH = self.model(input_ids=tokens_BT, attention_mask=attention_mask).last_hidden_state
            pooled = pool_texts(hidden_BTH, mask_BT).cpu().numpy()
        return pooled

    def pad(self, token_ids: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return tokens and mask, (n, longest), padded on the right: positions count from 0 for every kind of model."""
        width = max(len(ids) for ids in token_ids)
        tokens = np.full((len(token_ids), width), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(token_ids), width), dtype=np.int64)
        for row, ids in enumerate(token_ids):
            tokens[row, : len(ids)], mask[row, : len(ids)] = ids, 1
        return tokens, mask

    @property
    def _end_id(self) -> int:
        token_id = self.tokenizer.eos_token_id
        if token_id is None:
            raise ConfigError(
                "embedding.append_eos is set, but the encoder's tokenizer has no end token.",
                fix="unset embedding.append_eos",
            )
        return int(token_id)

    @property
    def _pad_id(self) -> int:
        # Decoders often have no padding token; what stands there is masked, so any valid token will do.
        known = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, self.tokenizer.unk_token_id)
        return next((int(token_id) for token_id in known if token_id is not None), 0)


def pack(lengths: NDArray[np.int64], tokens_per_batch: int) -> list[NDArray[np.int64]]:
    """Group rows of similar length, longest first, so that rows × longest stays within a budget.

    A row above the budget stands alone, and a batch of some size takes in no rows that would be padded by much. Longest
    first: the largest batch shows at once whether memory suffices, and threads end together.

    Example:
        >>> [rows.tolist() for rows in pack(np.array([5, 1, 2, 9]), 6)]
        [[3], [0], [2, 1]]
    """
    order = np.argsort(-lengths, kind="stable")
    shortness = -lengths[order]
    batches, start = [], 0
    while start < len(order):
        longest = max(1, -int(shortness[start]))
        count = max(1, tokens_per_batch // longest)
        num_similar = int(np.searchsorted(shortness, -MIN_FILL * longest, side="right")) - start
        count = min(count, max(num_similar, -(-ENOUGH_TOKENS // longest)))
        batches.append(order[start : start + count])
        start += count
    return batches


def load_encoder(config: EmbeddingConfig, *, plain: bool = False) -> TextEncoder:
    """Load an encoder; weights come from safetensors alone, and no code of the model's author is run.

    The last one loaded is kept, so that single new texts are encoded without loading again.

    Args:
        config: Which one, and how.
        plain: With torch's own layers, for what reads them (an export); otherwise texts in `rows`, if the model can,
            and layers of `packed`, if they are faster here.

    Raises:
        ConfigError: No such encoder, device or kind of model.
        ArtifactError: The folder holds no safetensors weights, or they do not fit.
        UnreachableError: The hub does not answer and the model is not cached.
    """
    model, tokenizer = _load_once(resolve(config), config.dtype, config.device, plain)
    encoder = TextEncoder(model, tokenizer, config)
    if encoder.max_tokens < config.max_tokens:
        _log.warning("%s reads %d tokens, not %d: longer texts are cut", config.encoder, *_limits(encoder))
    return encoder


def _limits(encoder: TextEncoder) -> tuple[int, int]:
    return encoder.max_tokens, encoder.config.max_tokens


@functools.lru_cache(maxsize=1)
def _load_once(source: EncoderSource, dtype: str, device: str, plain: bool) -> tuple[Any, Any]:
    from lorefuse.cpu.packed import pack_linear
    from lorefuse.cpu.unpadded import lay_in_rows

    model, tokenizer = load_model(source, dtype, device)
    return model if plain else pack_linear(lay_in_rows(model)), tokenizer
