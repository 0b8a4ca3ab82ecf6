"""Bundle and online store → Triton model repository.

::

    ranker/            config.pbtxt configs/gpu.pbtxt <version>/{model.onnx, reference.safetensors, feature_spec.json}
    catalogue_ranker/  config.pbtxt configs/gpu.pbtxt <version>/{model.onnx, reference.safetensors}
    retrieve/          config.pbtxt <version>/{model.py, items.faiss, item_side.npy, …}: in its place, past one graph
    features/          config.pbtxt <version>/{model.py, online_store.py, features.json, online_store.db or store.json}
    answer/            config.pbtxt <version>/{model.py, answer.json}
    direct/            config.pbtxt <version>/{what the three before hold}
    recommend/         config.pbtxt configs/gpu.pbtxt <version>/
    embed/             config.pbtxt <version>/{model.py, encoder.onnx, tokenizer.json, embed.json, embed.npz}: see below

Every version folder appears by one rename and needs nothing outside it. The online store is copied in because its
interest vectors live in the space of this version's knowledge vectors: a rollback must bring its own back. Features in
Redis stay there, in a project of this version's own (`features.online`), and only its name is copied.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lorefuse.core.atomic import atomic_folder, sha256_file, write_json
from lorefuse.core.errors import ArtifactError, UsageError
from lorefuse.core.schema import CONTEXT_TEXT, Alias, Tensor, View
from lorefuse.export import bundle as bundle_files
from lorefuse.export.bundle import Bundle
from lorefuse.export.embed import carries_encoder, write_embed
from lorefuse.export.replaced import set_aside
from lorefuse.export.retrieve import copy_stage_code, write_retrieve
from lorefuse.export.served import FEATURES_FILE, PART_MODELS
from lorefuse.export.signature import (
    ANSWER,
    CATALOGUE_RANKER,
    DIRECT,
    EMBED,
    FEATURES,
    RANKER,
    RECOMMEND,
    RETRIEVE,
    num_excluded,
)
from lorefuse.export.templates import copy_template, link_or_copy, templates_digest
from lorefuse.feature_store import online

MODEL_FILE, REFERENCE_FILE, ANSWER_FILE = "model.onnx", "reference.safetensors", "answer.json"
CONTEXT_FILE = "context.npz"
_USER_VIEWS = (View.USER_ATTRIBUTES, View.USER_STATS, View.USER_INTEREST, View.USER_HISTORY)


def build_repository(
    bundle_path: Path, store_path: Path, repository_path: Path, version: int, *, alias: str = Alias.CHAMPION
) -> dict[str, Any]:
    """Write one version of all models; configs are left alone, so nothing changes for a running server.

    What stood under that number with other content is kept, see `replaced`, until a deployment has proved the new.

    Args:
        bundle_path: Model bundle.
        store_path: Feature store folder with `online_store.db`, or `store.json` where the features are in Redis.
        repository_path: Triton's model repository; made where there is none.
        version: Number of the version, 1 or more.
        alias: Alias in the registry that asked for this deployment; answers carry it.

    Returns:
        bundle_digest, store_digest, code_digest, alias and reused (True where this very version already stood there).

    Raises:
        ArtifactError: The bundle or the store is not whole.
        UsageError: The version is not a positive number, or there are no `serving/` templates in the project.
    """
    if version < 1:
        raise UsageError("A model version is a positive number.", got=str(version))
    bundle = Bundle.load(bundle_path)
    store_file = online.store_file(store_path)
    digests = {
        "bundle_digest": bundle.digest,
        "store_digest": sha256_file(store_file),
        "code_digest": templates_digest(),  # an upgrade of Lorefuse reaches versions that are deployed again
        "alias": str(alias),
    }
    parts = [name for name in PART_MODELS if name != (CATALOGUE_RANKER if bundle.retrieves else RETRIEVE)]
    if all((repository_path / name / str(version)).is_dir() for name in (*parts, RECOMMEND)):
        answer = read_answer(repository_path, version)
        if {name: answer.get(name) for name in digests} == digests:
            return {**digests, "reused": True}
    set_aside(repository_path, version)
    ranking, other = (RETRIEVE, CATALOGUE_RANKER)[:: 1 if bundle.retrieves else -1]
    shutil.rmtree(repository_path / other / str(version), ignore_errors=True)  # of another version of this number
    writers: dict[str, Callable[[Path], None]] = {
        RANKER: lambda path: _write_ranker(bundle, path),
        ranking: lambda path: _write_ranking(bundle, path),
        FEATURES: lambda path: _write_features(bundle, store_file, path),
        DIRECT: lambda path: _write_direct(bundle, repository_path, version, digests, path),
        RECOMMEND: lambda path: None,
    }
    if carries_encoder(bundle):
        writers[EMBED] = lambda path: write_embed(bundle, digests["alias"], path)
    writers[ANSWER] = lambda path: _write_answer(bundle, digests, path)  # last: it carries the digests
    for name, write in writers.items():
        with atomic_folder(repository_path / name / str(version)) as draft_path:
            write(draft_path)
            draft_path.chmod(0o755)
    return {**digests, "reused": False}


def read_answer(repository_path: Path, version: int) -> dict[str, Any]:
    """Return what the answer model of a version holds: ids, titles, where it comes from, limits and digests.

    Raises:
        ArtifactError: The version is not there.
    """
    path = repository_path / ANSWER / str(version) / ANSWER_FILE
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read.", got=str(error), fix="deploy again: lorefuse run") from None
    return content


def _write_ranker(bundle: Bundle, path: Path) -> None:
    _write_onnx(bundle, bundle_files.RANKER_FILE, bundle_files.REFERENCE_FILE, path)
    bundle.spec().save(path)  # what the version's tensors are, see `served.signatures_of`


def _write_onnx(bundle: Bundle, graph_file: str, reference_file: str, path: Path) -> None:
    shutil.copyfile(bundle.path / graph_file, path / MODEL_FILE)
    shutil.copyfile(bundle.path / reference_file, path / REFERENCE_FILE)


def _write_ranking(bundle: Bundle, path: Path) -> None:
    if bundle.retrieves:
        write_retrieve(bundle, path)
        shutil.copyfile(bundle.path / bundle_files.CATALOGUE_REFERENCE_FILE, path / REFERENCE_FILE)
    else:
        _write_onnx(bundle, bundle_files.CATALOGUE_RANKER_FILE, bundle_files.CATALOGUE_REFERENCE_FILE, path)


def _write_features(bundle: Bundle, store_file: Path, path: Path) -> None:
    copy_template(FEATURES, path)
    shutil.copyfile(store_file, path / store_file.name)
    spec, facts = bundle.spec(), bundle.read_json(bundle_files.SERVING_FILE)
    config, vocabularies = bundle.config(), bundle.read_json("vocabularies.json")
    views = bundle.read_json("views.json")["views"]
    item_ids, _ = bundle.catalogue()
    defaults, batching = facts["user_without_history"], config.serving.dynamic_batching
    content = {
        "project": online.store_project(store_file.parent),
        "online_store": store_file.name,
        "views": {view.value: list(views[view.value]["fields"]) for view in _USER_VIEWS if view.value in views},
        "user_fields": [[field.name, vocabularies[field.name]] for field in spec.user_fields],
        "user_numeric": [[name, defaults[name]] for name in spec.user_numeric],
        "interest": [[facet.name, facet.dim] for facet in spec.interest],
        "history_length": spec.history_length,
        "item_ids": item_ids,
        "filters": bundle.filters(),
        # Versions of older releases have none of these.
        "said_names": facts.get("said_names", {}),
        "reference_users": facts.get("reference_users", []),
        "pseudonyms": facts.get("pseudonyms", ""),
        "popular_rows": _popular_rows(bundle),
        "newcomer_pool": config.serving.newcomer_pool,
        "num_excluded": num_excluded(len(item_ids), config.serving),
        "num_liked": config.features.history_length,
        "max_k": config.serving.max_k,
        "retrieves": bundle.retrieves,
        "dynamic_batching": not bundle.retrieves if batching is None else batching,
    }
    write_json(path / FEATURES_FILE, content)
    if any(facet.name == CONTEXT_TEXT for facet in spec.interest):
        _write_context(bundle, path)


def _write_context(bundle: Bundle, path: Path) -> None:
    """Write the map from an encoder's vector of what a user asks to the space of the items' first facet."""
    from lorefuse.embedding.reduce import Reducer

    reducer = Reducer.load(bundle.path)
    first = slice(0, None if reducer.input_blocks is None else int(reducer.input_blocks[0]))
    np.savez(
        path / CONTEXT_FILE,
        mean=reducer.mean[first],
        components=reducer.components[first],
        scale=reducer.scale,
        num_facets=np.int64(1 if reducer.input_blocks is None else len(reducer.input_blocks)),
    )


def _popular_rows(bundle: Bundle) -> list[int]:
    """Return all rows of the catalogue, the most liked first; [] where the model reads no counts."""
    spec = bundle.spec()
    names = spec.item_numeric
    if "item_log_count" not in names or "item_mean_label" not in names:
        return []
    numeric = bundle.arrays(bundle_files.TABLES_FILE)[Tensor.ITEM_NUMERIC.value].astype(np.float64)
    popularity = np.expm1(numeric[:, names.index("item_log_count")])
    if spec.label_kind == "binary":  # a shrunk share of likes: few rows prove little
        popularity = popularity * numeric[:, names.index("item_mean_label")]
    rows: list[int] = np.argsort(-popularity, kind="stable").tolist()
    return rows


def _write_direct(bundle: Bundle, repository_path: Path, version: int, digests: dict[str, str], path: Path) -> None:
    """Put together what the three parts hold; large files are theirs, linked."""
    ranking = RETRIEVE if bundle.retrieves else CATALOGUE_RANKER
    copy_template(DIRECT, path, FEATURES, ANSWER, *([RETRIEVE] if bundle.retrieves else []))
    if bundle.blends:
        copy_stage_code(path)
    for name in (FEATURES, ranking):
        for source_path in (repository_path / name / str(version)).iterdir():
            if source_path.suffix != ".py" and source_path.name not in ("__pycache__", REFERENCE_FILE):
                link_or_copy(source_path, path / source_path.name)
    _write_facts(bundle, digests, path)


def _write_answer(bundle: Bundle, digests: dict[str, str], path: Path) -> None:
    copy_template(ANSWER, path)
    _write_facts(bundle, digests, path)


def _write_facts(bundle: Bundle, digests: dict[str, str], path: Path) -> None:
    item_ids, titles = bundle.catalogue()
    limits = bundle.read_json(bundle_files.SERVING_FILE)["limits"]
    content = {
        "item_ids": item_ids,
        "titles": titles,
        "data_cutoff": bundle.data_cutoff,
        "embedding_address": bundle.read_json(bundle_files.EMBEDDING_FILE)["address"],
        "limits": limits,
        **digests,
    }
    write_json(path / ANSWER_FILE, content)
