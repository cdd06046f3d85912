"""The keys that secrets are encrypted with: a file with a line for each, and AES-256-GCM.

The database says which key is in use; the file may hold more, older ones and ones to come. So a file can be made
ready before a rotation, and a crash in the middle of one leaves every secret readable. Keys are known by the
beginning of their SHA-256, so that a wrong one is noticed before it is used.
"""

import base64
import binascii
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from buildyard.domain.errors import Conflict, Unavailable
from buildyard.domain.secrets import SecretValue

KEY_BYTES = 32
_NONCE_BYTES = 12
_ID_BYTES = 8
_HEAD = (
    "# Keys of the secrets that this Buildyard server keeps. Without this file they cannot be read: back it up, apart\n"
    "# from the database. One key a line, with its id. `buildyard secret rotate-key` uses a line that was added.\n"
)


def key_id(key: bytes) -> str:
    """By what a key is known."""
    return hashlib.sha256(key).digest()[:_ID_BYTES].hex()


@dataclass
class Keyring:
    """The keys of a file, read again when one is asked for that it did not hold before."""

    path: Path | None = None
    _keys: dict[str, bytes] = field(default_factory=dict, repr=False)

    def ids(self) -> list[str]:
        """The ids of the file's keys, in its order, as it is now."""
        self._keys = read_keys(self._file())
        return list(self._keys)

    def require(self, key: str) -> None:
        """Raise Unavailable, saying what is wrong and where, unless the key is there."""
        self._key(key)

    def seal(self, key: str, uid: str, value: SecretValue) -> bytes:
        """Encrypt the value of the secret `uid`; what comes out is of use for that secret only."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._key(key)).encrypt(nonce, value.reveal(), uid.encode())

    def unseal(self, key: str, uid: str, data: bytes) -> SecretValue:
        """Decrypt; raises Unavailable if the key is not there, or the bytes are not what it made for this secret."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        found = self._key(key)
        try:
            return SecretValue(AESGCM(found).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], uid.encode()))
        except (InvalidTag, ValueError):
            raise Unavailable("the stored secret is damaged: set it anew") from None

    def _file(self) -> Path:
        if self.path is None:
            raise Unavailable("this server has no key file for secrets")
        return self.path

    def _key(self, key: str) -> bytes:
        path = self._file()
        if key not in self._keys:
            self._keys |= read_keys(path)
        if key not in self._keys:
            held = ", ".join(self._keys) or "none"
            raise Unavailable(
                f"the key {key} that secrets are encrypted with is not in {path} (there: {held}): "
                f"put the file back from a backup, or from the server that has it"
            )
        return self._keys[key]


def read_keys(path: Path) -> dict[str, bytes]:
    """The keys of a file by id; none if there is no file. Raises Unavailable for one that cannot be read."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise Unavailable(f"the key file {path} cannot be read: {exc}") from exc
    keys: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, text = line.partition(" ")
        key = b""
        with suppress(binascii.Error, ValueError):
            key = base64.b64decode(text.strip(), validate=True)
        if len(key) != KEY_BYTES or key_id(key) != name:
            raise Unavailable(f"line {number} of the key file {path} holds no key, or a damaged one")
        keys[name] = key
    return keys


def write_keys(path: Path, keys: Mapping[str, bytes]) -> None:
    """Replace a key file, durably and at once; mode 0600. Raises Unavailable if that fails: then nothing changed."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    lines = [f"{name} {base64.b64encode(key).decode()}\n" for name, key in keys.items()]
    try:
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write("".join([_HEAD, *lines]))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as exc:
        raise Unavailable(f"the key file {path} cannot be written: {exc}") from exc


def add_key(path: Path) -> str:
    """Put a new key into a file, made if there is none; its id."""
    key = os.urandom(KEY_BYTES)
    write_keys(path, {**read_keys(path), key_id(key): key})
    return key_id(key)


def drop_keys(path: Path, unused: set[str]) -> None:
    """Take keys out of a file."""
    keys = read_keys(path)
    if unused & keys.keys():
        write_keys(path, {name: key for name, key in keys.items() if name not in unused})


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Hold a key file for changes; raises Conflict if another process, or server that shares it, does so now."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        raise Unavailable(f"the key file {path} cannot be changed: {exc}") from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Conflict("the keys of secrets are being changed already: try again later") from None
    finally:
        os.close(lock)
