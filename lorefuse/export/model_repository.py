"""Triton's model repository as one object: its path, the versions in it, a trial, and the backup of a replaced version.

::

    ranker/            config.pbtxt configs/gpu.pbtxt <version>/{model.onnx, reference.safetensors, feature_spec.json}
    catalogue_ranker/  config.pbtxt configs/gpu.pbtxt <version>/{model.onnx, reference.safetensors}
    retrieve/          config.pbtxt <version>/{model.py, items.faiss, item_side.npy, …}: instead, for two stages
    features/          config.pbtxt <version>/{model.py, online_store.py, features.json, online_store.db or store.json}
    answer/            config.pbtxt <version>/{model.py, answer.json}
    direct/            config.pbtxt <version>/{the files of the three before}
    recommend/         config.pbtxt configs/gpu.pbtxt <version>/
    embed/             config.pbtxt <version>/{model.py, encoder.onnx, tokenizer.json, embed.json, embed.npz}

Every version folder appears by one rename and needs no file outside it. Only the configs say which versions Triton
loads, so a new folder changes nothing for a running server.

A model name has one set of tensors. Versions with equal tensors are served side by side under one config. Of other
versions, a model serves those that fit the version it was configured for. `direct`, and so `recommend` on a CPU, has
the same tensors for every model.

While a new version is on trial, a router has the name `recommend`::

    recommend          Python router, in the version folder of the version that answers now
    recommend_stable   front of that version
    recommend_canary   front of the new version
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorefuse.core.atomic import atomic_file, atomic_folder
from lorefuse.core.errors import ArtifactError, UsageError
from lorefuse.core.schema import Alias
from lorefuse.core.settings import settings
from lorefuse.export.bundle import Bundle
from lorefuse.export.config_pbtxt import (
    CONFIG_FILE,
    GPU_CONFIG_FILE,
    ONNX_MODELS,
    ensemble_config,
    model_config,
    read_config,
    write_config,
)
from lorefuse.export.embed import carries_encoder
from lorefuse.export.signature import (
    ALL_MODELS,
    ANSWER,
    CANARY,
    CATALOGUE_RANKER,
    DIRECT,
    EMBED,
    PART_MODELS,
    RANKER,
    RECOMMEND,
    RETRIEVE,
    STABLE,
    ServingSignature,
)
from lorefuse.export.templates import link_or_copy
from lorefuse.export.version_files import ANSWER_FILE, FEATURES_FILE, version_digests, write_model
from lorefuse.feature_store import online
from lorefuse.training_set.spec import FeatureSpec

KEPT_VERSIONS = 3
"""Versions kept on disk for a quick return."""
REPLACED_FOLDER, LOCK_FILE = "replaced", "deploy.lock"
FRONTS = (STABLE, CANARY, RECOMMEND, EMBED)
NUM_ROUTER_INSTANCES = 4
"""Requests that the router carries at a time: each waits in it for as long as a front takes."""
_ROUTER_TEMPLATE, _ROUTER_FILE = "model.py", "router.py"
"""Under a name of its own the router never meets the code that a front may have in the same folder."""


@dataclass(frozen=True)
class Trial:
    """A new version on trial beside the version that answers.

    Attributes:
        stable: Version that answered before.
        canary: Version on trial.
        share: Share of the users that the new version answers; 0 in shadow mode.
        shadow_path: File for the comparisons, in shadow mode alone.
    """

    stable: int
    canary: int
    share: float = 0.0
    shadow_path: Path | None = None


@dataclass(frozen=True)
class ModelRepository:
    """The model repository of one Triton server.

    Attributes:
        path: Its folder. Files about it lie beside the folder, where Triton does not see them.
    """

    path: Path

    def beside(self, name: str) -> Path:
        """Return the path of a file or folder that lies beside the repository."""
        return self.path.parent / name

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of this repository: two processes must not change one server at once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.beside(LOCK_FILE).open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    # Versions

    def folder(self, model: str, version: int) -> Path:
        """Return the path of a model's version folder."""
        return self.path / model / str(version)

    def has(self, version: int, model: str = RECOMMEND) -> bool:
        """Tell whether a version of a model is on disk."""
        return self.folder(model, version).is_dir()

    def versions(self, model: str = RECOMMEND) -> list[int]:
        """Return the versions of a model that are on disk, ascending."""
        folder_path = self.path / model
        names = [path.name for path in folder_path.iterdir()] if folder_path.is_dir() else []
        return sorted(int(name) for name in names if name.isdecimal())

    def add(self, bundle_path: Path, store_path: Path, version: int, *, alias: str = Alias.CHAMPION) -> dict[str, Any]:
        """Write one version of all models; configs are left alone, so nothing changes for a running server.

        Other content under the same number is kept until a deployment has verified the new content, see `set_aside`.
        The online store is copied in, because its interest vectors live in the space of this version's knowledge
        vectors: a rollback must bring its own back. Features in Redis stay there, in a project of this version's own
        (`feature_store.online`), and only its name is copied.

        Args:
            bundle_path: Model bundle.
            store_path: Feature store folder with `online_store.db`, or `store.json` where the features are in Redis.
            version: Number of the version, 1 or more.
            alias: Alias in the registry that asked for this deployment; answers carry it.

        Returns:
            bundle_digest, store_digest, code_digest, alias and reused (True where this very version was on disk).

        Raises:
            ArtifactError: The bundle or the store is incomplete.
            UsageError: The version is not a positive number, or there are no `serving/` templates in the project.
        """
        if version < 1:
            raise UsageError("A model version is a positive number.", got=str(version))
        bundle = Bundle.load(bundle_path)
        store_file = online.store_file(store_path)
        digests = version_digests(bundle, store_file, str(alias))
        parts = [name for name in PART_MODELS if name != (CATALOGUE_RANKER if bundle.retrieves else RETRIEVE)]
        if all(self.has(version, name) for name in (*parts, RECOMMEND)):
            answer = self.answer(version)
            if {name: answer.get(name) for name in digests} == digests:
                return {**digests, "reused": True}
        self.set_aside(version)
        names = [*(name for name in parts if name != ANSWER), RECOMMEND]
        names += [EMBED, ANSWER] if carries_encoder(bundle) else [ANSWER]  # the answer is last: it carries the digests
        for name in set(ALL_MODELS) - set(names):  # of other content under this number
            shutil.rmtree(self.folder(name, version), ignore_errors=True)
        for name in names:
            with atomic_folder(self.folder(name, version)) as draft_path:
                write_model(name, bundle, store_file, digests, draft_path, lambda part: self.folder(part, version))
                draft_path.chmod(0o755)
        return {**digests, "reused": False}

    def remove(self, version: int) -> None:
        """Remove one version of all models from disk."""
        for name in ALL_MODELS:
            shutil.rmtree(self.folder(name, version), ignore_errors=True)

    def prune(self, loaded: Sequence[int]) -> None:
        """Remove old versions: loaded ones stay, and the newest others up to `KEPT_VERSIONS` in all.

        The backup of a replaced version goes too: call this once the version that answers is verified.
        """
        self.forget_replaced()
        spare = [number for number in self.versions() if number not in loaded]
        for old in spare[: max(0, len(spare) - (KEPT_VERSIONS - len(loaded)))]:
            self.remove(old)

    def answer(self, version: int) -> dict[str, Any]:
        """Return the facts of a version's `answer` model: ids, titles, provenance, limits and digests.

        Raises:
            ArtifactError: The version is not there.
        """
        path = self.folder(ANSWER, version) / ANSWER_FILE
        try:
            content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path} cannot be read.", got=str(error), fix="deploy again: lorefuse run") from None
        return content

    def signatures(self, version: int) -> ServingSignature:
        """Return inputs and outputs of the models of a version, read from its folder.

        Raises:
            ArtifactError: The version is not there, or an older release wrote it.
        """
        return ServingSignature.of(FeatureSpec.load(self.folder(RANKER, version)))

    def differing_models(self, version: int, other: int) -> set[str] | None:
        """Return the models whose tensors differ between two versions; None where a version's cannot be read."""
        try:
            pair = [self.signatures(number).models for number in (version, other)]
        except ArtifactError:
            return None
        return {ours.name for ours, theirs in zip(*pair, strict=True) if ours != theirs}

    def retrieves(self, version: int) -> bool:
        """Tell whether a version has two stages; else one graph ranks its whole catalogue."""
        return self.has(version, RETRIEVE)

    # The backup: files of a version that is deployed again under its own number, because the registry started again
    # or an upgrade of Lorefuse has other serving code. Links where the file system can.

    def set_aside(self, version: int) -> None:
        """Keep the files that a version consists of now; the backup of another version is removed.

        A backup of this very version stays as it is: its replacement was cut short before it was verified.
        """
        names = [name for name in ALL_MODELS if self.has(version, name)]
        if not names:
            self.forget_replaced()
        if not names or self._has_backup(version):
            return
        with atomic_folder(self.beside(REPLACED_FOLDER)) as draft_path:
            for name in names:
                _link_files(self.folder(name, version), draft_path / name / str(version))

    def bring_back(self, version: int) -> bool:
        """Put the backup of a version in place of its files; False where there is none of this version."""
        if not self._has_backup(version):
            return False
        for name in ALL_MODELS:
            source_path = self.beside(REPLACED_FOLDER) / name / str(version)
            if source_path.is_dir():
                with atomic_folder(self.folder(name, version)) as draft_path:
                    _link_files(source_path, draft_path)
                    draft_path.chmod(0o755)
            else:
                shutil.rmtree(self.folder(name, version), ignore_errors=True)
        self.forget_replaced()
        return True

    def forget_replaced(self) -> None:
        """Remove the backup: the version that replaced it is verified."""
        shutil.rmtree(self.beside(REPLACED_FOLDER), ignore_errors=True)

    def _has_backup(self, version: int) -> bool:
        return (self.beside(REPLACED_FOLDER) / RECOMMEND / str(version)).is_dir()

    # Configs: which versions Triton loads

    @property
    def active(self) -> int | None:
        """The version that `recommend` answers with; None where nothing is deployed yet."""
        versions = self.configured_versions(RECOMMEND)
        return versions[0] if versions else None

    @property
    def loaded_versions(self) -> list[int]:
        """The versions that the config of `direct` names, the active one among them."""
        return self.configured_versions(DIRECT)

    def configured_versions(self, model: str) -> list[int]:
        """Return the versions that a model's config names; [] where it has no config."""
        path = self.config_path(model)
        return [int(number) for number in read_config(path).version_policy.specific.versions] if path.is_file() else []

    def config_path(self, model: str) -> Path:
        """Return the path of a model's config."""
        return self.path / model / CONFIG_FILE

    def configured(self, models: Sequence[str] = PART_MODELS) -> list[str]:
        """Return those of some models that have a config, in the order given; by default the parts, in load order."""
        return [name for name in models if self.config_path(name).is_file()]

    def all_configured(self) -> list[str]:
        """Return all models that have a config, the parts before the fronts that need them."""
        return self.configured((*PART_MODELS, *FRONTS))

    def configure_parts(self, versions: Sequence[int], like: int) -> None:
        """Write the configs of the parts: these versions are served side by side once Triton loads them.

        A part serves those of them that have it and whose tensors are those of the version `like`. A part with no
        such version loses its config: load what `configured` returns and nothing else.

        Raises:
            ArtifactError: The folder of `like` does not say what its tensors are, or is damaged.
        """
        differing = {number: self.differing_models(like, number) for number in versions}
        batches = self._batches(like)
        for signature in self.signatures(like).models:
            name = signature.name
            if name not in PART_MODELS:
                continue
            fitting = [
                number for number in versions if self.has(number, name) and name not in (differing[number] or ())
            ]
            if not fitting:
                self.config_path(name).unlink(missing_ok=True)
                continue
            write_config(self.config_path(name), model_config(signature, fitting, batches=batches))
            if name in ONNX_MODELS:
                write_config(self.path / name / GPU_CONFIG_FILE, model_config(signature, fitting, gpu=True))

    def _batches(self, version: int) -> bool:
        """Tell whether waiting requests are answered together; for a version of an older release they are."""
        path = self.folder(DIRECT, version) / FEATURES_FILE
        try:
            facts = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        except ValueError as error:
            raise ArtifactError(f"{path} cannot be read.", got=str(error), fix="deploy again: lorefuse run") from None
        return bool(facts.get("dynamic_batching", True))

    def configure_front(self, version: int, *, name: str = RECOMMEND) -> None:
        """Write the config of a front, by default of `recommend`: this version answers once Triton loads it.

        The config of `embed` follows that of `recommend`, where the version has it: also load `companions`.

        Raises:
            ArtifactError: The version's folder does not say what its tensors are.
        """
        signatures = self.signatures(version)
        self.folder(name, version).mkdir(parents=True, exist_ok=True)
        write_config(self.config_path(name), ensemble_config(signatures, version, name))
        gpu = ensemble_config(signatures, version, name, gpu=True, retrieves=self.retrieves(version))
        write_config(self.path / name / GPU_CONFIG_FILE, gpu)
        if name != RECOMMEND:
            return
        if self.has(version, EMBED):
            write_config(self.config_path(EMBED), model_config(signatures.embed, [version]))
        else:
            self.config_path(EMBED).unlink(missing_ok=True)

    def companions(self, version: int) -> list[str]:
        """Return the models to load with `recommend` when this version answers: `embed`, or none."""
        return [EMBED] if self.configured_versions(EMBED) == [version] else []

    def configs(self) -> dict[Path, str]:
        """Return the text of all configs by path, for `restore_configs`."""
        paths = [path for name in (CONFIG_FILE, GPU_CONFIG_FILE) for path in self.path.glob(f"*/{name}")]
        return {path: path.read_text("utf-8") for path in paths}

    def restore_configs(self, configs: dict[Path, str]) -> None:
        """Write configs as they were, and remove those of models that had none."""
        for path in set(self.path.glob(f"*/{CONFIG_FILE}")) - set(configs):
            path.unlink()
        for path, text in configs.items():
            with atomic_file(path) as draft_path:
                draft_path.write_text(text, "utf-8")

    # A trial

    @property
    def trial(self) -> Trial | None:
        """The trial that `recommend` is set up for; None where it is an ordinary front, or not there."""
        path = self.config_path(RECOMMEND)
        if not path.is_file():
            return None
        parameters = {name: entry.string_value for name, entry in read_config(path).parameters.items()}
        if "canary_version" not in parameters:
            return None
        shadow = parameters.get("shadow_path")
        return Trial(
            int(parameters["stable_version"]),
            int(parameters["canary_version"]),
            float(parameters["share"]),
            None if shadow is None else Path(shadow),
        )

    def configure_router(self, trial: Trial) -> None:
        """Write the router over `recommend`; it takes over once Triton loads `recommend`.

        Raises:
            UsageError: The package is incomplete.
        """
        version_path = self.folder(RECOMMEND, trial.stable)
        version_path.mkdir(parents=True, exist_ok=True)
        template_path = settings().folder("serving") / "model_repository" / "router" / "1" / _ROUTER_TEMPLATE
        shutil.copyfile(template_path, version_path / _ROUTER_FILE)
        (version_path / "__pycache__").touch()  # keeps bytecode out, as in every Python model's folder
        config = model_config(self.signatures(trial.stable).recommend, [trial.stable])
        config.instance_group[0].count = NUM_ROUTER_INSTANCES
        config.default_model_filename = _ROUTER_FILE
        parameters = {
            "stable_model": STABLE,
            "canary_model": CANARY,
            "stable_version": str(trial.stable),
            "canary_version": str(trial.canary),
            "share": repr(trial.share),
            **({} if trial.shadow_path is None else {"shadow_path": str(trial.shadow_path)}),
        }
        for name, text in parameters.items():
            config.parameters[name].string_value = text
        write_config(self.config_path(RECOMMEND), config)
        # Without one of its own for GPUs the router answers there as well.
        (self.path / RECOMMEND / GPU_CONFIG_FILE).unlink(missing_ok=True)

    def remove_fronts(self, models: Sequence[str] = (STABLE, CANARY)) -> None:
        """Remove the folders of a trial's fronts."""
        for name in models:
            shutil.rmtree(self.path / name, ignore_errors=True)

    def remove_router(self) -> None:
        """Remove the router's code; call it once `recommend` is an ordinary front again."""
        for path in (self.path / RECOMMEND).glob(f"*/{_ROUTER_FILE}"):
            path.unlink()


def _link_files(source_path: Path, target_path: Path) -> None:
    target_path.mkdir(parents=True, exist_ok=True)
    for file in source_path.iterdir():
        link_or_copy(file, target_path / file.name)
