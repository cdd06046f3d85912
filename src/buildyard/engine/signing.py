"""The key that webhooks of APIs are signed with: Ed25519, in a file of this server's own, or shared by several."""

import base64
import binascii
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildyard.domain.errors import Unavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class Signature:
    """What goes with a body: `nonce` was signed after it, so that no two messages have the same signature."""

    nonce: str
    signature: str


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key of a file, which is read for each use: a new file counts at once."""

    path: Path | None = None

    def prepare(self) -> None:
        """Make the file (mode 0600) if there is none; of several servers that do so at once, one wins."""
        path = self._file()
        if path.exists():
            return
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(f"{base64.b64encode(os.urandom(SEED_BYTES)).decode()}\n")
                file.flush()
                os.fsync(file.fileno())
            _link(draft, path)
        except OSError as exc:
            raise Unavailable(f"the key file {path} of webhooks cannot be written: {exc}") from exc

    def sign(self, body: bytes) -> Signature:
        """Sign a body followed by a fresh nonce."""
        nonce = secrets.token_hex(8)
        signed = self._key().sign(body + nonce.encode())
        return Signature(nonce, base64.b64encode(signed).decode())

    def public(self) -> str:
        """The public key, in base64: what receivers check signatures with."""
        return base64.b64encode(self._key().public_key().public_bytes_raw()).decode()

    def _file(self) -> Path:
        if self.path is None:
            raise Unavailable("this server has no key file for webhooks")
        return self.path

    def _key(self) -> "Ed25519PrivateKey":
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        path = self._file()
        try:
            seed = base64.b64decode(path.read_text().strip(), validate=True)
        except OSError as exc:
            raise Unavailable(f"the key file {path} of webhooks cannot be read: {exc}") from exc
        except (binascii.Error, ValueError):
            seed = b""
        if len(seed) != SEED_BYTES:
            raise Unavailable(f"the key file {path} of webhooks holds no key: 32 bytes in base64 are expected")
        return Ed25519PrivateKey.from_private_bytes(seed)


def _link(draft: Path, path: Path) -> None:
    """Give a draft its name unless there is a file of that name; durable, and never half a file."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
