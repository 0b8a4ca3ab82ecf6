"""What the environment decides: places, servers, images, secrets. Nothing here enters a config or an artifact."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from lorefuse.core.errors import ConfigError
from lorefuse.core.home import check_home
from lorefuse.core.profiles import PROFILE_VARIABLE, VARIABLES, profile_values
from lorefuse.core.project import folder_of


@dataclass(frozen=True)
class Settings:
    """Read once from the environment by `settings()`; every field has a default that works on a laptop.

    Attributes:
        home_path: Cache, tracking store and served models (`LOREFUSE_HOME`, default `.lorefuse`).
        project_path: The user's project, or a checkout (`LOREFUSE_PROJECT`, default the current folder).
        tracking_uri: MLflow tracking and registry server (`MLFLOW_TRACKING_URI`, default SQLite in the home).
        triton_url: gRPC address of Triton, `host:port` (`LOREFUSE_TRITON_URL`).
        triton_http: Whether a Triton that is started here also answers HTTP (`LOREFUSE_TRITON_HTTP=1`).
        image: Container image of the pipeline's steps (`LOREFUSE_IMAGE`); its name must hold "python" (kfp).
        serve_python_path: Interpreter of the serving environment (`LOREFUSE_SERVE_PYTHON`).
        offline: Never ask a model or data hub (`LOREFUSE_OFFLINE=1`).
        llm_url: Base URL of an OpenAI-compatible endpoint, e.g. ``http://127.0.0.1:8000/v1`` (`LOREFUSE_LLM_URL`).
        llm_key: Its key (`LOREFUSE_LLM_KEY`); never printed.
        profile: Named set of stores (`LOREFUSE_PROFILE`, or ``--profile``); see `lorefuse.core.profiles`.
        artifacts_uri: Where MLflow keeps artifacts when `tracking_uri` is a database, e.g. ``s3://bucket/mlflow``
            (`LOREFUSE_ARTIFACTS_URI`); empty: the home.
        feast_registry_url: Feast's registry, ``postgresql://…`` (`LOREFUSE_FEAST_REGISTRY_URL`); empty: a file.
        online_store_url: Feast's online store, ``redis://…`` (`LOREFUSE_ONLINE_STORE_URL`); empty: a SQLite file.
        tuning_storage_url: Optuna's tables for running studies, ``postgresql://…`` (`LOREFUSE_TUNING_STORAGE_URL`);
            empty: JSON in the home.
        traces_url: Where a Triton that is started here sends spans of requests, an OpenTelemetry collector's OTLP/HTTP
            address (`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`); empty: nowhere.
        privacy_key: Secret under which users' ids become pseudonyms (`LOREFUSE_PRIVACY_KEY`); never printed.
        max_learners: Most processes that learn at once (`LOREFUSE_MAX_LEARNERS`); 0: as many as cores and free memory
            allow.
    """

    home_path: Path
    project_path: Path
    tracking_uri: str = field(repr=False)
    triton_url: str
    triton_http: bool
    image: str
    serve_python_path: Path
    offline: bool
    llm_url: str = ""
    llm_key: str = field(default="", repr=False)
    profile: str = ""
    artifacts_uri: str = ""
    feast_registry_url: str = field(default="", repr=False)
    online_store_url: str = field(default="", repr=False)
    tuning_storage_url: str = field(default="", repr=False)
    max_learners: int = 0
    traces_url: str = field(default="", repr=False)
    privacy_key: str = field(default="", repr=False)

    @property
    def cache_path(self) -> Path:
        """Downloads, finished steps and embeddings, all addressed by content."""
        return self.home_path / "cache"

    @property
    def serve_path(self) -> Path:
        """Triton's model repository, logs and pid files."""
        return self.home_path / "serve"

    def folder(self, name: str) -> Path:
        """Return `components`, `pipelines`, `feature_repo` or `serving`: the project's own, else the package's.

        Raises:
            UsageError: There is none: the package is not whole.
        """
        return folder_of(name, self.project_path)


def settings() -> Settings:
    """Return the settings of this process, read from the environment at each call.

    Raises:
        ConfigError: `LOREFUSE_PROFILE` names no profile, or one whose variables are not set; `LOREFUSE_HOME` is a
            path that cannot work; or `LOREFUSE_MAX_LEARNERS` is no whole number.
    """
    env = os.environ
    project_path = Path(env.get("LOREFUSE_PROJECT", ".")).resolve()
    given = env.get("LOREFUSE_HOME") or ""
    home_path = Path(given or project_path / ".lorefuse").resolve()
    check_home(home_path)
    if given and not Path(given).is_absolute():
        env["LOREFUSE_HOME"] = str(home_path)  # or a child that runs in another folder would have another home
    profile = env.get(PROFILE_VARIABLE, "")
    stores = profile_values(profile, project_path, env) if profile else {}
    stores |= {key: env[variable] for key, variable in VARIABLES.items() if env.get(variable)}
    return Settings(
        home_path=home_path,
        project_path=project_path,
        tracking_uri=stores.get("tracking_uri", f"sqlite:///{home_path / 'mlflow' / 'mlflow.db'}"),
        triton_url=env.get("LOREFUSE_TRITON_URL", "127.0.0.1:8601"),
        triton_http=env.get("LOREFUSE_TRITON_HTTP", "0") not in ("", "0"),
        image=env.get("LOREFUSE_IMAGE", "lorefuse-python:dev"),
        serve_python_path=Path(env.get("LOREFUSE_SERVE_PYTHON", project_path / ".venv-serve/bin/python")),
        offline=env.get("LOREFUSE_OFFLINE", "0") not in ("", "0"),
        llm_url=env.get("LOREFUSE_LLM_URL", ""),
        llm_key=env.get("LOREFUSE_LLM_KEY", ""),
        profile=profile,
        artifacts_uri=stores.get("artifacts_uri", ""),
        feast_registry_url=stores.get("feast_registry_url", ""),
        online_store_url=stores.get("online_store_url", ""),
        tuning_storage_url=stores.get("tuning_storage_url", ""),
        max_learners=_whole_number("LOREFUSE_MAX_LEARNERS", env.get("LOREFUSE_MAX_LEARNERS", "")),
        traces_url=env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""),
        privacy_key=env.get("LOREFUSE_PRIVACY_KEY", ""),
    )


def _whole_number(variable: str, text: str) -> int:
    if text and not text.isdecimal():
        raise ConfigError(f"{variable} cannot be read.", expected="a whole number, 0 for no bound", got=repr(text))
    return int(text or 0)
