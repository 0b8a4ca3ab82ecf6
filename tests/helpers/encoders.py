"""Tiny encoders with random weights, made on the spot: a BERT, a RoBERTa, a Llama and a GPT-2 without a padding
token, and a Qwen2 whose tokenizer pads and cuts on the left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import torch

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [f"w{number}" for number in range(60)]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def save_encoder(folder_path: Path, kind: str) -> Path:
    import torch
    import transformers
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    vocabulary = {word: index for index, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    options: dict[str, str] = {"unk_token": "[UNK]"}
    torch.manual_seed(0)
    size = len(vocabulary)
    if kind in ("bert", "roberta"):
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        tokenizer.enable_padding(length=128)  # as all-MiniLM-L6-v2's file has it: it must not matter
        tokenizer.enable_truncation(max_length=12)
        options |= {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        shape = {"vocab_size": size, "max_position_embeddings": 64, "pad_token_id": 0, **SIZES}
        if kind == "bert":
            model = transformers.BertModel(transformers.BertConfig(**shape))
        else:
            model = transformers.RobertaModel(transformers.RobertaConfig(**shape, type_vocab_size=1))
    elif kind == "llama":
        options |= {"eos_token": "[SEP]"}
        model = transformers.LlamaModel(transformers.LlamaConfig(vocab_size=size, max_position_embeddings=64, **SIZES))
    else:
        options |= {"eos_token": "[SEP]"}
        model = transformers.GPT2Model(
            transformers.GPT2Config(vocab_size=size, n_positions=64, n_embd=16, n_layer=2, n_head=2)
        )
    _spread(model)
    model.save_pretrained(folder_path)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options).save_pretrained(folder_path)
    return folder_path


def save_qwen2(folder_path: Path) -> Path:
    """A decoder LLM as they are published: byte-level BPE that pads, and here also cuts, on the left."""
    import torch
    import transformers
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*alphabet, "<|endoftext|>", "<|im_end|>"])}
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=len(vocabulary), max_position_embeddings=64, num_key_value_heads=1, pad_token_id=256, **SIZES
    )
    model = transformers.Qwen2Model(config)
    _spread(model)
    model.save_pretrained(folder_path)
    transformers.Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        truncation_side="left",
    ).save_pretrained(folder_path)
    return folder_path


def _spread(model: torch.nn.Module) -> None:
    import torch

    with torch.no_grad():  # fresh weights are so small that all texts look alike
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(20)


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root_path = tmp_path_factory.mktemp("encoders")
    made = {kind: save_encoder(root_path / f"tiny-{kind}", kind) for kind in ("bert", "roberta", "llama", "gpt2")}
    return made | {"qwen2": save_qwen2(root_path / "tiny-qwen2")}
