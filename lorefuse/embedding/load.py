"""Load a model and its tokenizer: safetensors alone, and no code of the model's author is run."""

from __future__ import annotations

from typing import Any

from lorefuse.core.errors import ArtifactError, ConfigError
from lorefuse.embedding.source import EncoderSource


def load_model(source: EncoderSource, dtype: str, device: str) -> tuple[Any, Any]:
    """Load a model in evaluation mode and its tokenizer; errors as `load_encoder`.

    Args:
        source: Where it is.
        dtype: Name of a torch dtype.
        device: torch device.
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    transformers.utils.logging.disable_progress_bar()
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.path, **options)
        model, report = transformers.AutoModel.from_pretrained(
            source.path, use_safetensors=True, dtype=getattr(torch, dtype), output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise ArtifactError(
            f"{source.path} is not a whole encoder that transformers can load without code of its author.",
            expected="config.json, tokenizer files and safetensors weights that fit together",
            got=(str(error).strip() or type(error).__name__).splitlines()[0],
            fix="download or save the model again, or choose another embedding.encoder",
        ) from None
    _check(source, model, report)
    _check_words(source, tokenizer)
    # Some decoders' tokenizers cut on the left, where the instruction and the title stand.
    tokenizer.truncation_side = "right"
    model.config.use_cache = False  # a decoder would keep keys and values that nobody reads
    try:
        return model.eval().to(device), tokenizer
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"embedding.device {device!r} cannot be used.", got=str(error).splitlines()[0], fix="set it to cpu"
        ) from None


def _check_words(source: EncoderSource, tokenizer: Any) -> None:
    """Without its files transformers makes a tokenizer that knows no word, and says nothing."""
    if not set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids):
        raise ArtifactError(
            f"The tokenizer in {source.path} knows no word: every text would be the same to the encoder.",
            expected="tokenizer.json, or vocab.txt and the like, beside the weights",
            got=", ".join(sorted(path.name for path in source.path.iterdir()))[:300],
            fix="save the tokenizer into the folder too: tokenizer.save_pretrained(folder)",
        )


def _check(source: EncoderSource, model: Any, report: Any) -> None:
    if getattr(model.config, "is_encoder_decoder", False):
        raise ConfigError(
            f"{source.name} is an encoder-decoder.",
            expected="an encoder (BERT and the like) or a decoder (with pooling last_token)",
            got=str(model.config.model_type),
            fix="choose another embedding.encoder",
        )
    # transformers fills what the file lacks with random numbers; only the pooler, which is not used, may be missing.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ArtifactError(
            f"The weights in {source.path} do not fit its config.json.",
            expected="a weight for every parameter",
            got=f"{len(missing)} missing, e.g. {missing[0]}",
            fix="download or save the model again",
        )
