"""A grown catalogue becomes a model version of its own, of the same run, with everything the old one carries."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TypedDict

from lorefuse.core.atomic import atomic_folder
from lorefuse.core.errors import UsageError
from lorefuse.core.schema import Alias
from lorefuse.data.dataset import Dataset
from lorefuse.export.bundle import Bundle
from lorefuse.export.grow import grow_bundle
from lorefuse.registry import flavor
from lorefuse.registry.tracking import connect
from lorefuse.registry.version import (
    BUNDLE_TAG,
    STORE_TAG,
    TAG,
    aliases,
    create_version,
    fetch,
    find_version,
    get_version,
    log_model,
    promote,
)


class Growth(TypedDict):
    """What `grow_champion` did.

    Attributes:
        version: The new version.
        grown_from: The version that was champion.
        num_new: Items added.
        num_items: Items in the new catalogue.
        reused: True where this very catalogue was registered before.
    """

    version: str
    grown_from: str
    num_new: int
    num_items: int
    reused: bool


def grow_champion(name: str, dataset: Dataset, *, champion: bool = True) -> Growth:
    """Add a dataset's new items to the champion's catalogue, and register the result; nothing is trained.

    Args:
        name: Registered model.
        dataset: A later state of the dataset that the champion was made from.
        champion: Make the new version champion, so that it is deployed; else it is challenger.

    Raises:
        UsageError: No version is champion, or there is no new item.
        ArtifactError: The champion's artifacts are not whole, or its encoder is not the one at hand.
        UnreachableError: The registry does not answer.
    """
    client = connect()
    number = aliases(name, client).get(Alias.CHAMPION)
    if number is None:
        raise UsageError(f"No version of {name} is champion.", fix="train one: lorefuse run")
    entry = get_version(name, number, client)
    with tempfile.TemporaryDirectory() as temporary:
        paths = {
            folder: fetch(entry, folder, Path(temporary) / f"fetched_{folder}")
            for folder in (flavor.BUNDLE_FOLDER, flavor.EVALUATION_FOLDER, flavor.STORE_FOLDER)
        }
        with atomic_folder(Path(temporary) / "grown") as draft_path:
            facts = grow_bundle(Bundle.load(paths[flavor.BUNDLE_FOLDER]), dataset, draft_path)
        bundle = Bundle.load(Path(temporary) / "grown")
        known = find_version(name, bundle.digest, client)
        if known is not None:
            version = str(known.version)
        else:
            kept = {tag: text for tag, text in entry.tags.items() if tag.startswith(TAG) and ".deployment." not in tag}
            tags = {**kept, BUNDLE_TAG: bundle.digest, f"{TAG}grown_from": str(number)}
            files = [path for path in paths[flavor.STORE_FOLDER].iterdir() if path.is_file()]
            store_file = files[0] if files else None
            if store_file is None:
                tags.pop(STORE_TAG, None)
            model_id = log_model(
                client,
                str(entry.run_id),
                bundle_path=bundle.path,
                evaluation_path=paths[flavor.EVALUATION_FOLDER],
                store_file=store_file,
            )
            text = (
                f"Version {number} with {facts['num_new']} new items ({facts['num_items']} in all), not trained anew."
            )
            version = create_version(client, name, str(entry.run_id), model_id, tags=tags, description=text)
    promote(name, version, Alias.CHAMPION if champion else Alias.CHALLENGER, client)
    return Growth(
        version=version,
        grown_from=str(number),
        num_new=facts["num_new"],
        num_items=facts["num_items"],
        reused=known is not None,
    )
