"""A model bundle: one folder with everything a model version carries, enough to serve it and nothing pickled.

::

    model.safetensors model.json      weights and what rebuilds the module
    config.json                       `PipelineConfig` that made it
    feature_spec.json                 names and widths of the inputs
    vocabularies.json views.json      raw values → indices; views and columns of the feature store
    item_tables.safetensors           item tensors of the whole catalogue, by name, as serving sees them
    catalogue.parquet                 catalogue_row, item_id, title; lists of texts to filter by
    embedding.json reducer.safetensors item_prior.safetensors   how the text of a new item becomes its features
    serving.json                      bounds, and the numbers of a user or item without history
    reference.safetensors             ranker inputs of some test rows, by name, with `score`
    reference_catalogue.safetensors   user inputs with `exclude_rows`, and the `catalogue_row` and `score` they get
    metrics.json                      test metrics with controls
    ranker.onnx catalogue_ranker.onnx   the latter only where one graph ranks the whole catalogue, else:
    two_tower.safetensors items.faiss retrieval.json   what finds the items to rank; see `export.retrieval`
    encoder.onnx tokenizer.json encoder.json   only with `serving.embed`: words → vector
    bundle.json                       sha256 of every file, data cutoff, parity
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.atomic import sha256_file, sha256_json, write_json
from lorefuse.config import PipelineConfig, ServingConfig, parse_config
from lorefuse.contract import ITEM_TENSORS, Tensor
from lorefuse.errors import ArtifactError, LeakError
from lorefuse.export.catalogue import CATALOGUE_FILE, catalogue_frame, read_filters, read_items
from lorefuse.export.signature import ServingSignature
from lorefuse.features.spec import SPEC_FILE, FeatureSpec

if TYPE_CHECKING:
    from lorefuse.features.training_set import TrainingSet
    from lorefuse.models.ranker import Ranker

BUNDLE_FILE, CONFIG_FILE, METRICS_FILE, SERVING_FILE = "bundle.json", "config.json", "metrics.json", "serving.json"
TABLES_FILE = "item_tables.safetensors"
REFERENCE_FILE, CATALOGUE_REFERENCE_FILE = "reference.safetensors", "reference_catalogue.safetensors"
RANKER_FILE, CATALOGUE_RANKER_FILE = "ranker.onnx", "catalogue_ranker.onnx"
RETRIEVAL_FILE = "retrieval.json"
RETRIEVAL_FILES = ("two_tower.safetensors", "items.faiss", RETRIEVAL_FILE)
MODEL_FILES = ("model.safetensors", "model.json")
FEATURE_FILES = ("vocabularies.json", "views.json", "item_prior.safetensors")
EMBEDDING_FILE, REDUCER_FILE = "embedding.json", "reducer.safetensors"
FORMAT = 2
_REQUIRED = (
    *MODEL_FILES, CONFIG_FILE, SPEC_FILE, *FEATURE_FILES, TABLES_FILE, CATALOGUE_FILE, EMBEDDING_FILE, SERVING_FILE,
    REFERENCE_FILE, CATALOGUE_REFERENCE_FILE, METRICS_FILE, RANKER_FILE,
)  # fmt: skip
_FIX = "train and export the model again: lorefuse run"


@dataclass(frozen=True)
class Bundle:
    """A checked bundle. Open it with `Bundle.load`.

    Attributes:
        path: The folder.
        sha256: Digest of every file, by name.
        data_cutoff: Latest training timestamp, ISO 8601 in UTC.
    """

    path: Path
    sha256: dict[str, str]
    data_cutoff: str

    @classmethod
    def load(cls, path: Path | str) -> Bundle:
        """Open a bundle and hold every file to its sha256.

        Raises:
            ArtifactError: It is no bundle; or files are missing, cut short or changed: all of them are listed.
        """
        path = Path(path)
        try:
            content = json.loads((path / BUNDLE_FILE).read_text("utf-8"))
            digests = {str(name): str(digest) for name, digest in content["sha256"].items()}
            bundle = cls(path, digests, str(content["data_cutoff"]))
            number = content["format"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(
                f"{path} is not a model bundle.", expected=f"a readable {BUNDLE_FILE}", got=repr(error), fix=_FIX
            ) from None
        if number != FORMAT:
            raise ArtifactError(f"{path} has another format.", expected=str(FORMAT), got=str(number), fix=_FIX)
        ranking = RETRIEVAL_FILES if bundle.retrieves else (CATALOGUE_RANKER_FILE,)
        names = sorted({*_REQUIRED, *ranking, *digests})
        missing = [name for name in names if not (path / name).is_file() or name not in digests]
        changed = [name for name in names if name not in missing and sha256_file(path / name) != digests[name]]
        if missing or changed:
            raise ArtifactError(
                f"{path} is not a whole model bundle.",
                expected="every file of a model version, unchanged",
                got=f"missing: {', '.join(missing) or 'none'}; changed: {', '.join(changed) or 'none'}",
                fix=_FIX,
            )
        return bundle

    @property
    def retrieves(self) -> bool:
        """Whether items are retrieved, then ranked; else one graph ranks the whole catalogue."""
        return RETRIEVAL_FILE in self.sha256

    @property
    def digest(self) -> str:
        """One sha256 over all files' digests: equal exactly when all files are."""
        return sha256_json(self.sha256)

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the content of one of the bundle's JSON files."""
        content: dict[str, Any] = json.loads((self.path / name).read_text("utf-8"))
        return content

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of one of the bundle's safetensors files."""
        from safetensors.numpy import load_file

        arrays: dict[str, NDArray[Any]] = load_file(str(self.path / name))
        return arrays

    def spec(self) -> FeatureSpec:
        """Return names and widths of the ranker's inputs."""
        return FeatureSpec.load(self.path)

    def config(self) -> PipelineConfig:
        """Return the configuration that made the model."""
        return parse_config(self.read_json(CONFIG_FILE), origin=str(self.path / CONFIG_FILE))

    def catalogue(self) -> tuple[list[str], list[str]]:
        """Return item ids and titles in order of `Tensor.CATALOGUE_ROW`."""
        return read_items(self.path)

    def filters(self) -> dict[str, dict[str, list[int]]]:
        """Return what the catalogue can be filtered by: column → value → rows of the items that have it."""
        return read_filters(self.path)

    def signatures(self) -> ServingSignature:
        """Return inputs and outputs of the served models."""
        return ServingSignature.of(self.spec())


def write_bundle(
    ranker: Ranker,
    training_set: TrainingSet,
    config: PipelineConfig,
    feature_data_path: Path,
    item_vectors_path: Path,
    embeddings_path: Path,
    dataset_path: Path,
    metrics: dict[str, Any],
    out_path: Path,
) -> dict[str, Any]:
    """Fill a folder with everything a model version carries, export its graphs and hold them to torch.

    Args:
        ranker: The trained ranker.
        training_set: What it was trained and judged on.
        config: What made it; `config.model` must be the ranker's own (after tuning: the best trial's).
        feature_data_path: Vocabularies, views and item prior.
        item_vectors_path: The text reducer.
        embeddings_path: The embedding's address.
        dataset_path: Ids and titles of the catalogue.
        metrics: Test metrics with controls, JSON-able.
        out_path: Folder to fill; the caller makes it appear atomically.

    Returns:
        The parity report with num_items and size_bytes; past one graph, recall of the index as well.

    Raises:
        ArtifactError: An input is missing, `config.model` does not fit the ranker, a graph differs from torch, or the
            index of a catalogue past one graph finds too little.
        LeakError: The knowledge was fitted on later data than the features.
    """
    from lorefuse.embedding.modes import pinned
    from lorefuse.export.encoder import export_encoder
    from lorefuse.export.graphs import export_graphs
    from lorefuse.features.history import with_history
    from lorefuse.models.build import save_ranker

    ranker = ranker.eval().cpu()
    # Whoever encodes for this version does so as its items were encoded.
    embedding = pinned(config.embedding, embeddings_path)
    config = config.model_copy(update={"embedding": embedding})
    training_set = with_history(training_set, ranker.spec.history_length)
    _check_cutoff(training_set.spec, item_vectors_path)
    save_ranker(ranker, config.model, out_path)
    training_set.spec.save(out_path)
    write_json(out_path / CONFIG_FILE, config.model_dump(mode="json"))
    write_json(out_path / METRICS_FILE, metrics)
    for folder_path, names in ((feature_data_path, FEATURE_FILES), (embeddings_path, (EMBEDDING_FILE,))):
        for name in names:
            _copy(folder_path / name, out_path)
    if training_set.spec.text_dim or (item_vectors_path / REDUCER_FILE).is_file():
        _copy(item_vectors_path / REDUCER_FILE, out_path)
    num_items = _write_catalogue(dataset_path, out_path)
    _write_tables(training_set, num_items, out_path)
    _write_serving_facts(training_set, config.serving, num_items, out_path)
    parity = export_graphs(training_set, config, out_path)
    if config.serving.embed and training_set.spec.text_dim:
        export_encoder(embedding, out_path)
    files = sorted(p for p in out_path.iterdir() if p.is_file() and not p.name.startswith("."))
    content = {
        "format": FORMAT,
        "sha256": {file.name: sha256_file(file) for file in files},
        "data_cutoff": training_set.spec.data_cutoff,
        "parity": parity,
    }
    write_json(out_path / BUNDLE_FILE, content)
    return {**parity, "num_items": num_items, "size_bytes": sum(file.stat().st_size for file in files)}


def _check_cutoff(spec: FeatureSpec, item_vectors_path: Path) -> None:
    facts_path = item_vectors_path / "item_vectors.json"
    try:
        cutoff = json.loads(facts_path.read_text("utf-8"))["data_cutoff"]
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{facts_path} cannot be read.", got=repr(error), fix=_FIX) from None
    if cutoff > spec.data_cutoff:
        raise LeakError(
            "The item vectors know later data than the features.",
            expected=f"a cutoff of at most {spec.data_cutoff}",
            got=str(cutoff),
            fix="fit both on the same split: lorefuse run",
        )


def _copy(source_path: Path, out_path: Path) -> None:
    try:
        shutil.copy2(source_path, out_path / source_path.name)
    except FileNotFoundError:
        raise ArtifactError(f"A model version must carry {source_path.name}.", got="no such file", fix=_FIX) from None


def _write_catalogue(dataset_path: Path, out_path: Path) -> int:
    from lorefuse.data.dataset import Dataset

    dataset = Dataset.open(dataset_path)
    frame = catalogue_frame(dataset.items(), dataset.roles)
    frame.to_parquet(out_path / CATALOGUE_FILE, index=False)
    return len(frame)


def _write_tables(training_set: TrainingSet, num_items: int, out_path: Path) -> None:
    from safetensors.numpy import save_file

    tables = item_tables(training_set)
    rows = {len(table) for table in tables.values()}
    if rows != {num_items}:
        raise ArtifactError(
            "The training set's item tables do not fit the dataset.",
            expected=f"{num_items} items",
            got=str(sorted(rows)),
            fix=_FIX,
        )
    save_file({name: np.ascontiguousarray(table) for name, table in tables.items()}, str(out_path / TABLES_FILE))


def item_tables(training_set: TrainingSet) -> dict[str, NDArray[Any]]:
    """Return the item tensors of the whole catalogue as serving sees them, by name; those of width 0 are left out."""
    arrays: dict[Tensor, NDArray[Any]] = {
        Tensor.ITEM_FIELDS: training_set.item_fields,
        Tensor.ITEM_MULTI: training_set.item_multi,
        Tensor.ITEM_NUMERIC: training_set.item_numeric_now,
        Tensor.ITEM_TEXT: training_set.item_text,
        Tensor.ITEM_GRAPH: training_set.item_graph,
    }
    return {name.value: arrays[name] for name in ITEM_TENSORS if training_set.spec.width(name)}


def _write_serving_facts(training_set: TrainingSet, serving: ServingConfig, num_items: int, out_path: Path) -> None:
    from lorefuse.contract import Split
    from lorefuse.features import aggregates as a

    train = training_set.rows_of(Split.TRAIN)
    overall_mean = float(training_set.label[train].mean(dtype=np.float64))
    user_nothing = a.user_features(np.zeros((1, 3)), overall_mean)[0]
    item_nothing = a.item_features(np.zeros((1, 3)), overall_mean)[0]
    spec = training_set.spec
    facts = {
        "num_items": num_items,
        "limits": serving.model_dump(mode="json"),
        "overall_mean": overall_mean,
        # The state at the epoch, before anything is known: what training saw for a first interaction.
        "user_without_history": dict(zip(a.USER_NUMERIC, map(float, user_nothing), strict=True)),
        "item_without_history": dict(zip(a.ITEM_NUMERIC, map(float, item_nothing), strict=False)),
    }
    unknown = set(spec.user_numeric) - set(a.USER_NUMERIC)
    if unknown:
        raise ArtifactError("Some user numerics have no value for a user without history.", got=str(sorted(unknown)))
    write_json(out_path / SERVING_FILE, facts)
