"""Who a version comes from: a signature over its bundle and online features, made with a key that no server holds.

A digest says that a version is whole, not whose it is: whoever may write a version may write its digest. So somebody
who trusts it signs it (`lorefuse sign`, with a private key kept off the servers), and the reconciler is told whose
signature it has to see (`signed_by` of its file).

The format is that of OpenSSF's model signing (a Sigstore bundle around an in-toto statement that lists every file).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lorefuse.core.errors import ArtifactError, ConfigError
from lorefuse.registry import flavor
from lorefuse.registry.deployment import request
from lorefuse.registry.tracking import connect, explained
from lorefuse.registry.version import fetch, fetch_registered, get_version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

PASSWORD_VARIABLE = "LOREFUSE_SIGNING_KEY_PASSWORD"  # noqa: S105  (the name of the variable)
SIGNATURE_FOLDER, SIGNATURE_FILE = "signature", "version.sig"
MAX_SIGNATURE_BYTES = 1 << 20
_MAKE_KEYS = (
    "openssl ecparam -name prime256v1 -genkey -noout -out signing.key; "
    "openssl ec -in signing.key -pubout -out signing.pub"
)


def sign_version(name: str, alias_or_version: str, key_path: Path, client: MlflowClient | None = None) -> str:
    """Sign a version's bundle and online features, and put the signature beside them.

    Args:
        name: Registered model.
        alias_or_version: ``champion``, ``challenger`` or a number.
        key_path: PEM file with a private key on NIST's P-256, P-384 or P-521; its password, if it has one, in
            `LOREFUSE_SIGNING_KEY_PASSWORD`.
        client: A connected client.

    Returns:
        The version's number.

    Raises:
        ConfigError: The key cannot be used.
        UsageError: There is no such version.
        ArtifactError: The version is not whole.
        UnreachableError: The registry does not answer.
    """
    from model_signing import hashing, signing

    client = client or connect()
    try:
        signer = signing.Config().use_elliptic_key_signer(
            private_key=key_path,
            password=_password(),
        )
    except (OSError, ValueError, TypeError) as error:
        raise _unusable(key_path, "private", error) from None
    entry = get_version(name, alias_or_version, client)
    with tempfile.TemporaryDirectory() as temporary:
        folder_path = fetch_signed_part(entry, Path(temporary) / "version")
        signature_path = Path(temporary) / SIGNATURE_FILE
        signer.set_hashing_config(hashing.Config().set_ignored_paths(paths=(), ignore_git_paths=False))
        signer.sign(folder_path, signature_path)
        with explained("store the signature"):
            client.log_model_artifact(str(entry.source).rpartition("/")[2], str(signature_path), SIGNATURE_FOLDER)
    request(name, str(entry.version), client)  # a reconciler that refused it for want of a signature looks again
    return str(entry.version)


def fetch_signed_part(entry: ModelVersion, out_path: Path) -> Path:
    """Download what is signed of a version, its bundle and its online features, and check every byte of the bundle.

    Raises:
        ArtifactError: It is not there, or not what was registered.
        UnreachableError: The server that holds it does not answer.
    """
    fetch_registered(entry, out_path)
    fetch(entry, flavor.STORE_FOLDER, out_path)
    return out_path


def check_signature(entry: ModelVersion, folder_path: Path, public_key_path: Path) -> None:
    """Hold a downloaded version to its signature.

    Args:
        entry: The version.
        folder_path: From `fetch_signed_part`.
        public_key_path: PEM file with the public key of whom to trust.

    Raises:
        ConfigError: The key cannot be used.
        ArtifactError: There is no signature, it is somebody else's, or a file was changed, added or removed since.
        UnreachableError: The server that holds it does not answer.
    """
    from model_signing import verifying

    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public_key_path)
    except (OSError, ValueError, TypeError) as error:
        raise _unusable(public_key_path, "public", error) from None
    with tempfile.TemporaryDirectory() as temporary:
        try:
            signature_path = fetch(entry, SIGNATURE_FOLDER, Path(temporary)) / SIGNATURE_FILE
            size_bytes = signature_path.stat().st_size
        except (ArtifactError, OSError):
            raise _refused(entry, public_key_path, "no signature") from None
        if size_bytes > MAX_SIGNATURE_BYTES:
            raise _refused(entry, public_key_path, f"a signature of {size_bytes:,} bytes")
        try:
            verifier.verify(folder_path, signature_path)
        except Exception as error:  # whatever a foreign file makes the parsers raise, the version is not signed
            raise _refused(entry, public_key_path, str(error) or "another key's signature") from None


def fingerprint(public_key_path: Path | None) -> str:
    """Return eight hex digits of a public key's sha256; empty where no signature is asked for.

    Raises:
        ConfigError: It cannot be used.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if public_key_path is None:
        return ""
    try:
        content = public_key_path.read_bytes()
        if not isinstance(load_pem_public_key(content), EllipticCurvePublicKey):
            raise ValueError("a key of another kind")
    except (OSError, ValueError) as error:
        raise _unusable(public_key_path, "public", error) from None
    return hashlib.sha256(content).hexdigest()[:8]


def _password() -> bytes | None:
    text = os.environ.get(PASSWORD_VARIABLE)
    return text.encode() if text else None


def _unusable(path: Path, kind: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"{path} cannot be used as the {kind} key of signatures.",
        expected=f"a PEM file with a {kind} key on P-256, P-384 or P-521",
        got=str(error).splitlines()[0] if str(error) else type(error).__name__,
        fix=_MAKE_KEYS,
    )


def _refused(entry: ModelVersion, public_key_path: Path, got: str) -> ArtifactError:
    return ArtifactError(
        f"Version {entry.version} of {entry.name} is not signed as this deployment demands.",
        expected=f"a signature by the key of {public_key_path}, over every file",
        got=got[:300],
        fix=f"whoever trusts it: lorefuse sign {entry.version} --key-path <private key>",
    )
