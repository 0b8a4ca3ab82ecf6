"""A version is served where whoever must have signed it did: real registry, real keys, the reconciler's own check."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from typer.testing import CliRunner

from lorefuse.cli.main import app
from lorefuse.config import load_deployment
from lorefuse.core.errors import ConfigError
from lorefuse.deploy.desired import Desired, RegistryWatcher
from lorefuse.registry.signing import PASSWORD_VARIABLE, sign_version
from tests.reliability.conftest import NAME, Harness, Registry, eventually, settled

Bundles = tuple[Path, Path]
Keys = tuple[Path, Path]


def make_keys(folder_path: Path, password: str = "") -> Keys:
    folder_path.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    private_path, public_path = folder_path / "signing.key", folder_path / "signing.pub"
    private_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    public_path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private_path, public_path


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return make_keys(tmp_path / "keys")


@pytest.fixture
def wanted(registry: Registry, keys: Keys, tmp_path: Path) -> Callable[[], Desired]:
    """What a reconciler that has never seen a version makes of the champion."""
    numbers = iter(range(100))

    def look() -> Desired:
        watcher = RegistryWatcher(NAME, tmp_path / f"versions{next(numbers)}", 1.0, keys[1])
        watcher.look()
        assert watcher.desired is not None, watcher.problem
        return watcher.desired

    return look


@pytest.fixture
def signed(registry: Registry, bundles: Bundles, keys: Keys) -> str:
    version = registry.publish(bundles[0])
    registry.champion(version)
    sign_version(NAME, version, keys[0])
    return version


def test_a_signed_version_is_taken_and_an_unsigned_one_is_not(
    registry: Registry, bundles: Bundles, keys: Keys, wanted: Callable[[], Desired]
) -> None:
    version = registry.publish(bundles[0])
    registry.champion(version)
    refused = wanted()
    assert refused.bundle_path is None
    assert "got: no signature" in refused.defect
    assert f"lorefuse sign {version} --key-path" in refused.defect
    done = CliRunner().invoke(app, ["sign", "champion", "--key-path", str(keys[0])])
    assert done.stdout == f"{NAME}: version {version} is signed\n"
    taken = wanted()
    assert not taken.defect
    assert taken.request != refused.request, "a refusal for want of a signature is forgotten"
    assert (taken.bundle_path / "ranker.onnx").is_file()  # type: ignore[operator]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _plant(path: Path) -> None:
    path.write_text("import os")


ATTACKS: dict[str, Callable[[Path, Path], object]] = {
    "a byte of the online features": lambda files, _: _flip(next((files / "store").iterdir())),
    "a byte of the bundle": lambda files, _: _flip(files / "bundle" / "metrics.json"),
    "a file beside the bundle's": lambda files, _: _plant(files / "bundle" / "model.py"),
    "a hidden file": lambda files, _: _plant(files / "bundle" / ".gitignore"),
    "a file beside the store": lambda files, _: _plant(files / "store" / "model.py"),
    "a file less": lambda files, _: next((files / "store").iterdir()).unlink(),
    "a link out of the folder": lambda files, other: (files / "bundle" / ".link").symlink_to(other),
    "no signature": lambda files, _: shutil.rmtree(files / "signature"),
    "an empty signature": lambda files, _: (files / "signature" / "version.sig").write_text(""),
    "no JSON": lambda files, _: (files / "signature" / "version.sig").write_text("{"),
    "a large signature": lambda files, _: (files / "signature" / "version.sig").write_text("{" + " " * (1 << 20)),
    "a byte of the signature": lambda files, _: _flip(files / "signature" / "version.sig"),
}


def test_what_was_changed_after_signing_is_refused(
    registry: Registry, signed: str, wanted: Callable[[], Desired], tmp_path: Path
) -> None:
    assert not wanted().defect
    files, kept_path = registry.files(signed), tmp_path / "kept"
    for path in files.rglob("*"):
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
    shutil.copytree(files, kept_path)
    for name, attack in ATTACKS.items():
        attack(files, tmp_path)
        found = wanted()
        assert found.defect, name
        assert found.bundle_path is None, name
        shutil.rmtree(files)
        shutil.copytree(kept_path, files)
    assert not wanted().defect


def test_digest_and_signature_of_another_key_do_not_help(
    registry: Registry, signed: str, wanted: Callable[[], Desired], tmp_path: Path
) -> None:
    """Whoever may write a version may sign it too, with a key that nobody trusts."""
    sign_version(NAME, signed, make_keys(tmp_path / "others")[0])
    assert "Key mismatch" in wanted().defect


def test_a_reconciler_serves_what_is_signed_alone(
    harness: Harness, registry: Registry, bundles: Bundles, keys: Keys
) -> None:
    first, second = registry.publish(bundles[0]), registry.publish(bundles[1])
    sign_version(NAME, first, keys[0])
    registry.champion(first)
    reconciler = harness.start(signed_by=keys[1])
    settled(reconciler, first)
    registry.champion(second)
    assert eventually(lambda: registry.tags(second).get("state") == "rejected")
    assert "not signed" in registry.tags(second)["reason"]
    assert reconciler.states[0].actual == int(first)
    sign_version(NAME, second, keys[0])
    settled(reconciler, second)


def test_a_key_with_a_password(
    registry: Registry, bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private_path, public_path = make_keys(tmp_path / "locked", password="open-sesame")
    version = registry.publish(bundles[0])
    registry.champion(version)
    with pytest.raises(ConfigError, match="cannot be used as the private key"):
        sign_version(NAME, version, private_path)
    monkeypatch.setenv(PASSWORD_VARIABLE, "wrong")
    with pytest.raises(ConfigError, match="cannot be used as the private key"):
        sign_version(NAME, version, private_path)
    monkeypatch.setenv(PASSWORD_VARIABLE, "open-sesame")
    sign_version(NAME, version, private_path)
    watcher = RegistryWatcher(NAME, tmp_path / "versions", 1.0, public_path)
    watcher.look()
    assert watcher.desired is not None
    assert not watcher.desired.defect


@pytest.mark.parametrize("kind", ["missing", "text", "rsa", "private"])
def test_a_key_that_is_none_is_said_at_the_start(tmp_path: Path, keys: Keys, kind: str) -> None:
    path = tmp_path / "deployment.key"
    if kind == "text":
        path.write_text("ssh-rsa AAAA")
    elif kind == "rsa":
        public = rsa.generate_private_key(65537, 2048).public_key()
        path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    elif kind == "private":
        path.write_bytes(keys[0].read_bytes())
    config_path = tmp_path / "deployment.yaml"
    config_path.write_text("signed_by: deployment.key\n")
    assert load_deployment(config_path).signed_by == path, "relative to its file"
    done = CliRunner().invoke(app, ["reconcile", "--once", "--config", str(config_path)])
    assert isinstance(done.exception, ConfigError)
    assert done.exception.exit_code == 2
    assert "openssl ecparam" in str(done.exception)
    assert os.linesep + "  got: " in str(done.exception)
