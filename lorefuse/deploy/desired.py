"""What the registry wants: watched in a thread of its own, so that a slow or dead registry holds up no server."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lorefuse.core.atomic import atomic_folder, sha256_file
from lorefuse.core.errors import ArtifactError, LorefuseError
from lorefuse.core.schema import Alias
from lorefuse.registry import flavor
from lorefuse.registry.deployment import DEPLOYMENT_TAG, REQUEST_TAG
from lorefuse.registry.signing import check_signature, fetch_signed_part, fingerprint
from lorefuse.registry.tracking import connect, explained
from lorefuse.registry.version import BUNDLE_TAG, STORE_TAG, aliases, get_version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

KEPT_BUNDLES = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Desired:
    """The version that the alias names, and where its files lie here.

    Attributes:
        version: Its number.
        digest: Of its bundle.
        request: Changes when somebody asks for it again.
        bundle_path: Its bundle, whole and checked; None where it could not be had.
        store_path: Folder of its online features.
        defect: Why it can never be served; empty where it can.
    """

    version: int
    digest: str
    request: str
    bundle_path: Path | None = None
    store_path: Path | None = None
    defect: str = ""


class RegistryWatcher(threading.Thread):
    """Polls the alias, fetches what it names, and writes tags back; MLflow is touched nowhere else.

    Args:
        model_name: Registered model.
        folder_path: Where fetched versions are kept.
        poll_s: Seconds between two looks; `hint` makes it look at once.
        signed_by: Public key of whoever has to have signed a version; None: anybody's is served.

    Attributes:
        answered_at_s: When the registry last answered, Unix time.

    Raises:
        ConfigError: That key cannot be used.
    """

    def __init__(self, model_name: str, folder_path: Path, poll_s: float, signed_by: Path | None = None) -> None:
        super().__init__(name="registry-watcher", daemon=True)
        self.model_name, self.folder_path, self.poll_s = model_name, folder_path, poll_s
        self.signed_by, self._signer = signed_by, fingerprint(signed_by)
        self.desired: Desired | None = None
        self.problem = ""
        self.num_looks, self.answered_at_s = 0, 0.0
        self._tags: dict[int, dict[str, str]] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = False
        self._asked_again: dict[int, int] = {}

    def run(self) -> None:
        """Look, write, wait; until `close`."""
        while not self._ended:
            self.look()
            self.write()
            self._wake.wait(self.poll_s)
            self._wake.clear()

    def hint(self, version: int | None = None) -> None:
        """Look now; a version that is named was assigned anew, which lifts an earlier refusal of it."""
        if version is not None:
            with self._lock:
                self._asked_again[version] = self._asked_again.get(version, 0) + 1
        self._wake.set()

    def close(self) -> None:
        """End the thread after what it is doing."""
        self._ended = True
        self._wake.set()

    def tag(self, version: int, tags: dict[str, str]) -> None:
        """Write tags to a version soon, and try until it works; later values replace earlier ones."""
        with self._lock:
            self._tags.setdefault(version, {}).update(tags)

    def look(self) -> None:
        """Read the alias once; where the registry does not answer, what was desired stays desired."""
        try:
            client = connect()
            number = aliases(self.model_name, client).get(Alias.CHAMPION)
            self.desired = None if number is None else self._find(client, number)
            self.answered_at_s = time.time()
            self.problem = "" if number is not None else f"no version of {self.model_name} is {Alias.CHAMPION}"
        except LorefuseError as error:
            self.problem = str(error)
            _log.warning("Registry: %s", self.problem)
        self.num_looks += 1

    def write(self) -> None:
        """Write the tags that wait."""
        with self._lock:
            waiting, self._tags = self._tags, {}
        if not waiting:
            return
        try:
            client = connect()
            for version, tags in waiting.items():
                with explained("write down the deployment"):
                    # The state last: whoever sees it finds its reason and time beside it.
                    for name, text in sorted(tags.items(), key=lambda tag: tag[0] == "state"):
                        client.set_model_version_tag(self.model_name, str(version), DEPLOYMENT_TAG + name, text)
        except LorefuseError as error:
            _log.warning("Tags wait: %s", error)
            with self._lock:
                for version, tags in waiting.items():
                    self._tags[version] = {**tags, **self._tags.get(version, {})}

    def _find(self, client: MlflowClient, number: str) -> Desired:
        entry = get_version(self.model_name, number, client)
        digest = entry.tags.get(BUNDLE_TAG, "")
        request = f"{entry.tags.get(REQUEST_TAG, '')}#{self._asked_again.get(int(number), 0)}"
        known = self.desired
        wanted = Desired(int(number), digest, request)
        if not digest:
            return replace(wanted, defect=f"it carries no tag {BUNDLE_TAG}: it is not of Lorefuse")
        if known is not None and (known.version, known.digest, known.request) == (int(number), digest, request):
            return known
        path = self.folder_path / f"{number}-{digest[:12]}{self._signer}"
        try:
            if not (path / "complete").is_file():
                self._fetch(entry, path)
        except ArtifactError as error:
            return replace(wanted, defect=str(error))
        except OSError as error:
            raise LorefuseError(
                f"Version {number} could not be stored here.", got=str(error), fix="free space"
            ) from None
        self._drop_old(path)
        return replace(wanted, bundle_path=path / flavor.BUNDLE_FOLDER, store_path=path / flavor.STORE_FOLDER)

    def _fetch(self, entry: ModelVersion, path: Path) -> None:
        """Download bundle and online features, check every byte and the signature, and make them appear at once."""
        with tempfile.TemporaryDirectory() as temporary, atomic_folder(path) as draft_path:
            source_path = fetch_signed_part(entry, Path(temporary) / "version")
            for file in sorted((source_path / flavor.STORE_FOLDER).iterdir()):
                if STORE_TAG in entry.tags and sha256_file(file) != entry.tags[STORE_TAG]:
                    raise ArtifactError(f"{file.name} is not what was registered.", expected=entry.tags[STORE_TAG])
            if self.signed_by is not None:
                check_signature(entry, source_path, self.signed_by)
            shutil.copytree(source_path, draft_path, dirs_exist_ok=True)
            (draft_path / "complete").touch()

    def _drop_old(self, kept_path: Path) -> None:
        paths = [path for path in self.folder_path.iterdir() if path.is_dir() and path != kept_path]
        for old_path in sorted(paths, key=lambda path: path.stat().st_mtime)[: -(KEPT_BUNDLES - 1)]:
            shutil.rmtree(old_path, ignore_errors=True)
