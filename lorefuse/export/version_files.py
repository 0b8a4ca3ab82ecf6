"""Bundle and online store → the files of one version of each served model, see `model_repository`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lorefuse.core.atomic import sha256_file, write_json
from lorefuse.core.schema import CONTEXT_TEXT, Tensor, View
from lorefuse.export import bundle as bundle_files
from lorefuse.export.bundle import Bundle
from lorefuse.export.embed import write_embed
from lorefuse.export.retrieve import copy_stage_code, write_retrieve
from lorefuse.export.signature import (
    ANSWER,
    CATALOGUE_RANKER,
    DIRECT,
    EMBED,
    FEATURES,
    RANKER,
    RETRIEVE,
    num_excluded,
)
from lorefuse.export.templates import copy_template, link_or_copy, templates_digest
from lorefuse.feature_store import online

MODEL_FILE, REFERENCE_FILE = "model.onnx", "reference.safetensors"
FEATURES_FILE, ANSWER_FILE, CONTEXT_FILE = "features.json", "answer.json", "context.npz"
_USER_VIEWS = (View.USER_ATTRIBUTES, View.USER_STATS, View.USER_INTEREST, View.USER_HISTORY)


def version_digests(bundle: Bundle, store_file: Path, alias: str) -> dict[str, str]:
    """Return what makes a deployed version the same as another: bundle, store, serving code and alias.

    The code is part of it so that an upgrade of Lorefuse reaches versions that are deployed again.

    Raises:
        UsageError: There are no `serving/` templates in the project.
    """
    return {
        "bundle_digest": bundle.digest,
        "store_digest": sha256_file(store_file),
        "code_digest": templates_digest(),
        "alias": alias,
    }


def write_model(
    name: str,
    bundle: Bundle,
    store_file: Path,
    digests: dict[str, str],
    path: Path,
    version_path: Callable[[str], Path],
) -> None:
    """Fill the version folder of one model.

    Args:
        name: The model; `recommend` needs a folder, but no files.
        bundle: Model bundle.
        store_file: Online store of the features.
        digests: What `version_digests` returns.
        path: Empty folder.
        version_path: Model → its version folder. `direct` links the files of its parts, which must be there already.
    """
    if name == RANKER:
        _write_ranker(bundle, path)
    elif name in (CATALOGUE_RANKER, RETRIEVE):
        _write_ranking(bundle, path)
    elif name == FEATURES:
        _write_features(bundle, store_file, path)
    elif name == DIRECT:
        _write_direct(bundle, version_path, path)
        _write_facts(bundle, digests, path)
    elif name == ANSWER:
        copy_template(ANSWER, path)
        _write_facts(bundle, digests, path)
    elif name == EMBED:
        write_embed(bundle, digests["alias"], path)


def _write_ranker(bundle: Bundle, path: Path) -> None:
    _write_onnx(bundle, bundle_files.RANKER_FILE, bundle_files.REFERENCE_FILE, path)
    bundle.spec().save(path)  # what the version's tensors are, see `ModelRepository.signatures`


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


def _write_direct(bundle: Bundle, version_path: Callable[[str], Path], path: Path) -> None:
    """Put together the files of the three parts; large files are links to theirs."""
    ranking = RETRIEVE if bundle.retrieves else CATALOGUE_RANKER
    copy_template(DIRECT, path, FEATURES, ANSWER, *([RETRIEVE] if bundle.retrieves else []))
    if bundle.blends:
        copy_stage_code(path)
    for name in (FEATURES, ranking):
        for source_path in version_path(name).iterdir():
            if source_path.suffix != ".py" and source_path.name not in ("__pycache__", REFERENCE_FILE):
                link_or_copy(source_path, path / source_path.name)


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
