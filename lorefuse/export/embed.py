"""A bundle with an encoder → the version folder of the model `embed`: words of a new item → vector → score."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import numpy as np

from lorefuse.core.atomic import write_json
from lorefuse.core.schema import TEXT, Tensor, item_block
from lorefuse.export.bundle import EMBEDDING_FILE, SERVING_FILE, Bundle
from lorefuse.export.encoder import ENCODER_FILE, FACTS_FILE, FILES, TOKENIZER_FILE
from lorefuse.export.signature import ALIAS, DATA_CUTOFF, EMBED, EMBEDDING_ADDRESS, ServingSignature
from lorefuse.export.templates import copy_template

EMBED_FILE, ARRAYS_FILE = "embed.json", "embed.npz"


def carries_encoder(bundle: Bundle) -> bool:
    """Tell whether a bundle was made with `serving.embed`."""
    return all(name in bundle.sha256 for name in FILES)


def write_embed(bundle: Bundle, alias: str, path: Path) -> None:
    """Fill a version folder.

    Args:
        bundle: One that carries an encoder.
        alias: Alias in the registry that asked for this deployment.
        path: Empty folder.
    """
    from lorefuse.embedding.reduce import Reducer
    from lorefuse.features.prior import ItemPrior

    copy_template(EMBED, path)
    for name in (ENCODER_FILE, TOKENIZER_FILE):
        try:
            os.link(bundle.path / name, path / name)
        except OSError:  # another file system
            shutil.copyfile(bundle.path / name, path / name)
    reducer, prior, spec = Reducer.load(bundle.path), ItemPrior.load(bundle.path), bundle.spec()
    config, facts = bundle.config().embedding, bundle.read_json(EMBEDDING_FILE)
    text, num_facets = item_block(TEXT), max(1, len(config.facets))
    content = {
        **bundle.read_json(FACTS_FILE),
        "kept_dim": facts["dim"] // num_facets,
        "word_dim": config.word_dim,
        "num_facets": num_facets,
        "normalize": config.normalize,
        "item_numeric": list(spec.item_numeric),
        "item_without_history": bundle.read_json(SERVING_FILE)["item_without_history"],
        # What says nothing about an item that is known by its words alone.
        "widths": {name: spec.width(name) for name in spec.item_tensors if name not in (Tensor.ITEM_NUMERIC, text)},
        "user_tensors": [tensor.name for tensor in ServingSignature.of(spec).features.outputs],
        ALIAS: alias,
        DATA_CUTOFF: bundle.data_cutoff,
        EMBEDDING_ADDRESS: facts["address"],
    }
    content["user_tensors"] = [name for name in content["user_tensors"] if name.startswith("user_")]
    write_json(path / EMBED_FILE, content)
    arrays = {name: value for name, value in vars(reducer).items() if value is not None}
    # Of the prior's other columns, categories and other knowledge, a new item has none. The text's come in its place.
    start = sum(block.dim for block in itertools.takewhile(lambda block: block.name != TEXT, spec.knowledge))
    weights = prior.weights[start : start + spec.knowledge_dim(TEXT)]
    np.savez(path / ARRAYS_FILE, prior_weights=weights, prior_intercept=prior.intercept, **arrays)
