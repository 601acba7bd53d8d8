"""Ed25519 keys (RFC 8032): the scorer's private one, and the public ones that entries go by."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from afbench.errors import LeaderboardError, StorageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SUFFIX: Final = ".pub"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, and the short name of its public one."""

    id: str
    _key: Ed25519PrivateKey

    def sign(self, message: bytes) -> str:
        """The signature of a message, in base64."""
        return base64.b64encode(self._key.sign(message)).decode()


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key."""

    id: str
    _key: Ed25519PublicKey

    def verifies(self, message: bytes, signature: str) -> bool:
        """Whether a signature in base64 is this key's, of this message."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(base64.b64decode(signature, validate=True), message)
        except (InvalidSignature, ValueError):
            return False
        return True


def generate_key(private: Path, public: Path) -> str:
    """Make a pair of keys; the private one is readable by its owner alone.

    Args:
        private: a new file outside of every checkout.
        public: a new file, named `*.pub`.

    Returns:
        The short name of the key.

    Raises:
        LeaderboardError: a file is there already, or the private key would lie in a checkout.
        StorageError: a file could not be written.
    """
    crypto = _crypto()
    outside_of_checkouts(private, "a private key")
    for path in (private, public):
        if path.exists():
            raise LeaderboardError("the file is there already", where=str(path))
    key = crypto.ed25519.Ed25519PrivateKey.generate()
    encoding, text = crypto.serialization, crypto.serialization.Encoding.PEM
    content = key.private_bytes(text, encoding.PrivateFormat.PKCS8, encoding.NoEncryption())
    write_private(private, content)
    shown = key.public_key().public_bytes(text, encoding.PublicFormat.SubjectPublicKeyInfo)
    try:
        public.parent.mkdir(parents=True, exist_ok=True)
        public.write_bytes(shown)
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror}", where=str(public)) from None
    return _id_of(key.public_key())


def load_signing_key(path: Path) -> SigningKey:
    """A private key.

    Raises:
        LeaderboardError: it cannot be read, is none, or others may read it.
    """
    crypto = _crypto()
    content = _read(path)
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise LeaderboardError(
            "others may read the private key", where=str(path), fix=f"chmod 600 {path}"
        )
    try:
        key = crypto.serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, crypto.unsupported):
        key = None
    if not isinstance(key, crypto.ed25519.Ed25519PrivateKey):
        raise LeaderboardError(
            "not a private ed25519 key", where=str(path), fix="'afbench leaderboard keygen'"
        )
    return SigningKey(_id_of(key.public_key()), key)


def load_public_keys(folder: Path) -> Mapping[str, VerifyingKey]:
    """The public keys of a folder (`*.pub`), by their short name.

    Raises:
        LeaderboardError: a file is no public key.
    """
    found: dict[str, VerifyingKey] = {}
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    if not paths:
        return found
    crypto = _crypto()
    for path in paths:
        try:
            key = crypto.serialization.load_pem_public_key(_read(path))
        except (ValueError, TypeError, crypto.unsupported):
            key = None
        if not isinstance(key, crypto.ed25519.Ed25519PublicKey):
            raise LeaderboardError("not a public ed25519 key", where=str(path))
        found[_id_of(key)] = VerifyingKey(_id_of(key), key)
    return found


def outside_of_checkouts(path: Path, what: str) -> None:
    """Whether a secret may lie at a path.

    Raises:
        LeaderboardError: a folder above it is under version control.
    """
    place = path.absolute()
    for folder in (place, *place.parents):
        if (folder / ".git").exists():
            raise LeaderboardError(
                f"{what} does not belong in a checkout",
                where=str(path),
                fix="name a folder outside",
            )


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that its owner alone may read.

    Raises:
        StorageError: it is there already, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror}", where=str(path)) from None


@dataclass(frozen=True, slots=True)
class _Crypto:
    """The parts of `cryptography` in use; Any, as it is an extra that may be absent."""

    ed25519: Any
    serialization: Any
    unsupported: type[Exception]


def _crypto() -> _Crypto:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise LeaderboardError(
            "signatures need the library cryptography", fix="pip install 'afbench[server]'"
        ) from None
    return _Crypto(ed25519, serialization, UnsupportedAlgorithm)


def _id_of(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(10_000)
    except OSError as error:
        raise LeaderboardError(f"cannot read the key: {error.strerror}", where=str(path)) from None
