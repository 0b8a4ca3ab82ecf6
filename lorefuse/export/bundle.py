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
    item_side.onnx candidate_ranker.onnx   with those, or the next: score the items that were found for a user
    candidates.json candidates.safetensors   in place of the catalogue's graph: what finds the items; see `lists`
    sasrec.onnx   with those, where that view reads the order of likes
    lists.json list_values.parquet   with those: what the served list is worth, beside simple recommenders
    encoder.onnx tokenizer.json encoder.json   only with `serving.embed`: words → vector
    bundle.json                       sha256 of every file, data cutoff, parity
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lorefuse.config import PipelineConfig, parse_config
from lorefuse.core.atomic import sha256_file, sha256_json
from lorefuse.core.errors import ArtifactError
from lorefuse.export.catalogue import CATALOGUE_FILE, read_filters, read_items
from lorefuse.export.signature import ServingSignature
from lorefuse.lists.stage_files import CANDIDATES_FILE, CANDIDATES_FILES, LIST_FILES, LISTS_FILE
from lorefuse.training_set.spec import SPEC_FILE, FeatureSpec

BUNDLE_FILE, CONFIG_FILE, METRICS_FILE, SERVING_FILE = "bundle.json", "config.json", "metrics.json", "serving.json"
TABLES_FILE = "item_tables.safetensors"
REFERENCE_FILE, CATALOGUE_REFERENCE_FILE = "reference.safetensors", "reference_catalogue.safetensors"
RANKER_FILE, CATALOGUE_RANKER_FILE = "ranker.onnx", "catalogue_ranker.onnx"
ITEM_SIDE_GRAPH_FILE, CANDIDATE_RANKER_FILE = CANDIDATE_FILES = ("item_side.onnx", "candidate_ranker.onnx")
"""Of versions that retrieve; those of older releases have none, and are served by `RANKER_FILE`."""
RETRIEVAL_FILE = "retrieval.json"
RETRIEVAL_FILES = ("two_tower.safetensors", "items.faiss", RETRIEVAL_FILE)
STAGE_FILES: tuple[str, ...] = (*CANDIDATES_FILES, *LIST_FILES)
MODEL_FILES = ("model.safetensors", "model.json")
FEATURE_FILES = ("vocabularies.json", "views.json", "item_prior.safetensors")
EMBEDDING_FILE, REDUCER_FILE = "embedding.json", "reducer.safetensors"
OWN_REDUCERS_FILE = "own_reducers.safetensors"
FORMAT = 2
_REQUIRED = (
    *MODEL_FILES, CONFIG_FILE, SPEC_FILE, *FEATURE_FILES, TABLES_FILE, CATALOGUE_FILE, EMBEDDING_FILE, SERVING_FILE,
    REFERENCE_FILE, CATALOGUE_REFERENCE_FILE, METRICS_FILE, RANKER_FILE,
)  # fmt: skip
FIX = "train and export the model again: lorefuse run"


def graph_file(encoder_name: str) -> str:
    """Return the name of the file with the graph of an encoder of a past."""
    return f"{encoder_name}.onnx"


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
                f"{path} is not a model bundle.", expected=f"a readable {BUNDLE_FILE}", got=repr(error), fix=FIX
            ) from None
        if number != FORMAT:
            raise ArtifactError(f"{path} has another format.", expected=str(FORMAT), got=str(number), fix=FIX)
        # What a bundle lists is read, linked and copied: a name must not lead out of its folder, nor a link.
        foreign = [
            name for name in digests if name in ("", "..") or Path(name).name != name or (path / name).is_symlink()
        ]
        if foreign:
            raise ArtifactError(
                f"{path} lists files that are not its own.",
                expected="names of files in its folder, which are no links",
                got=", ".join(map(repr, foreign[:5])),
                fix=FIX,
            )
        ranking: tuple[str, ...] = (CATALOGUE_RANKER_FILE,)
        if bundle.retrieves:
            ranking = (*CANDIDATES_FILES, *CANDIDATE_FILES) if bundle.blends else RETRIEVAL_FILES
        names = sorted({*_REQUIRED, *ranking, *digests})
        missing = [name for name in names if not (path / name).is_file() or name not in digests]
        changed = [name for name in names if name not in missing and sha256_file(path / name) != digests[name]]
        # What is hidden nobody reads: the step's own record, what a file system or a desktop leaves behind.
        visible = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")}
        planted = sorted(visible - {*digests, BUNDLE_FILE})
        if missing or changed or planted:
            faults = {"missing": missing, "changed": changed, "not of it": planted}
            raise ArtifactError(
                f"{path} is not a whole model bundle.",
                expected="every file of a model version, unchanged, and no other",
                got="; ".join(f"{fault}: {', '.join(found) or 'none'}" for fault, found in faults.items()),
                fix=FIX,
            )
        return bundle

    @property
    def retrieves(self) -> bool:
        """Whether items are found, then ranked; else one graph ranks the whole catalogue."""
        return RETRIEVAL_FILE in self.sha256 or self.blends

    @property
    def blends(self) -> bool:
        """Whether views of the whole catalogue find the items."""
        return CANDIDATES_FILE in self.sha256

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

    def lists(self) -> dict[str, Any] | None:
        """Return what the served list is worth, `lists.json`; None where the ranker orders the whole catalogue."""
        return self.read_json(LISTS_FILE) if LISTS_FILE in self.sha256 else None

    def signatures(self) -> ServingSignature:
        """Return inputs and outputs of the served models."""
        return ServingSignature.of(self.spec())
