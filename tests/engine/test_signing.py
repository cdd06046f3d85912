"""The key of webhooks is made once, kept private, and replaced by replacing its file."""

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buildyard.domain.errors import Unavailable
from buildyard.engine.signing import SigningKey


def check(public: str, body: bytes, nonce: str, signature: str) -> None:
    """What receivers do: the signature is over the body, then the nonce."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public))
    key.verify(base64.b64decode(signature), body + nonce.encode())


@pytest.mark.covers("webhooks.signature")
def test_a_body_is_signed_with_a_nonce_that_is_never_the_same(tmp_path: Path) -> None:
    signing = SigningKey(tmp_path / "keys" / "webhooks.key")
    signing.prepare()
    first, second = signing.sign(b"a body"), signing.sign(b"a body")

    assert stat.S_IMODE((tmp_path / "keys" / "webhooks.key").stat().st_mode) == 0o600
    check(signing.public(), b"a body", first.nonce, first.signature)
    assert first.nonce != second.nonce
    for body, nonce in ((b"a bod", first.nonce), (b"a body", second.nonce)):
        with pytest.raises(InvalidSignature):
            check(signing.public(), body, nonce, first.signature)


@pytest.mark.covers("webhooks.signature")
def test_servers_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    signing = [SigningKey(tmp_path / "webhooks.key") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(SigningKey.prepare, signing))

    assert len({each.public() for each in signing}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["webhooks.key"]


@pytest.mark.covers("webhooks.signature")
def test_a_new_file_counts_at_once_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    signing, other = SigningKey(tmp_path / "webhooks.key"), SigningKey(tmp_path / "other.key")
    signing.prepare()
    other.prepare()
    (tmp_path / "other.key").replace(tmp_path / "webhooks.key")
    expected = SigningKey(tmp_path / "webhooks.key").public()
    assert signing.public() == expected

    for text in ("", "c2hvcnQ=", "not base64"):
        (tmp_path / "webhooks.key").write_text(text)
        with pytest.raises(Unavailable, match="holds no key"):
            signing.sign(b"")
    (tmp_path / "webhooks.key").unlink()
    for broken in (signing, SigningKey()):
        with pytest.raises(Unavailable):
            broken.public()
    with pytest.raises(Unavailable, match="cannot be written"):
        SigningKey(Path("/proc/nowhere/webhooks.key")).prepare()
