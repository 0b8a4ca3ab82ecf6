"""Texts → vectors as in training: the same tokens, the same graph, the same leading dimensions."""

import os

import numpy as np
import onnxruntime
from tokenizers import Tokenizer
from words import hashed_words


class OnnxEncoder:
    """An encoder of one version.

    Args:
        folder: Holds `encoder.onnx` and `tokenizer.json`.
        facts: Instruction, lengths, special tokens and widths.
    """

    def __init__(self, folder, facts):
        self.facts = facts
        self.tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        # The file may carry a length and padding of its own; ours are explicit, as in training.
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(facts["max_tokens"], direction=facts["truncation_side"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            os.path.join(folder, "encoder.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def encode(self, texts):
        """Return vectors, float32 (n, kept_dim)."""
        token_ids = self._tokenize(texts)
        width = max(len(ids) for ids in token_ids)
        tokens = np.full((len(texts), width), self.facts["pad_id"], np.int64)
        mask = np.zeros((len(texts), width), np.int64)
        for row, ids in enumerate(token_ids):
            tokens[row, : len(ids)], mask[row, : len(ids)] = ids, 1
        (vectors,) = self.session.run(["vector"], {"tokens": tokens, "mask": mask})
        word_dim = self.facts["word_dim"]
        kept = vectors[:, : self.facts["kept_dim"] - word_dim]
        if kept.shape[1] < vectors.shape[1] and self.facts["normalize"]:
            lengths = np.linalg.norm(kept, axis=1, keepdims=True)
            kept = np.divide(kept, lengths, out=np.zeros_like(kept), where=lengths > 0)
        return np.hstack([kept, hashed_words(texts, word_dim)]) if word_dim else kept

    def _tokenize(self, texts):
        end_id = self.facts["end_id"]
        encoded = self.tokenizer.encode_batch([self.facts["instruction"] + text for text in texts])
        token_ids = [encoding.ids for encoding in encoded]
        if end_id is not None:
            token_ids = [ids if ids and ids[-1] == end_id else [*ids, end_id] for ids in token_ids]
        return [ids or [self.facts["pad_id"]] for ids in token_ids]
