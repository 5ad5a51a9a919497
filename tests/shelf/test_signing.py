"""Signatures: good, by another key, missing, altered."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from cclm_core.encoders.embedder import Embedder
from cclm_core.runtime.errors import ConfigError, IntegrityError
from cclm_core.shelf import About
from cclm_core.shelf.card import Card
from cclm_core.shelf.shelf import Fetched
from cclm_core.shelf.signing import check_signature, sign
from tests.shelf.conftest import LocalShelf, git

ROOT = Path(__file__).parents[2]
needs_library = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import model_signing.signing"], capture_output=True).returncode != 0,
    reason="model-signing is not installed: pip install 'cclm-core[signing]'",
)


def write_keys(
    folder: Path, name: str, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
) -> tuple[Path, Path]:
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("keys")
    private_keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("mine", "other")}
    return {name: write_keys(folder, name, key) for name, key in private_keys.items()}


@needs_library
def test_a_signature_is_good_only_for_its_card_and_key(keys: dict[str, tuple[Path, Path]]) -> None:
    private, public = keys["mine"]
    signature = sign(b"a card", private)
    check_signature(b"a card", signature, public, "the item")
    for card, candidate, key, message in (
        (b"a Card", signature, public, "Signature mismatch"),
        (b"a card", signature, keys["other"][1], "Key mismatch"),
        (b"a card", sign(b"a card", keys["other"][0]), public, "Key mismatch"),
        (b"a card", sign(b"another card", private), public, "Signature mismatch"),
        (b"a card", "", public, "is not by the owner of mine.pub.pem"),
        (b"a card", "{}", public, "is not by the owner of mine.pub.pem"),
        (b"a card", signature[: len(signature) // 2], public, "is not by the owner of mine.pub.pem"),
        (b"a card", None, public, "but it has no signature"),
    ):
        with pytest.raises(IntegrityError, match=message):
            check_signature(card, candidate, key, "the item")


@needs_library
def test_a_forged_key_hint_is_detected(keys: dict[str, tuple[Path, Path]]) -> None:
    """The bundle names its key by a digest that anyone can copy."""
    mine, other = sign(b"card", keys["mine"][0]), sign(b"card", keys["other"][0])
    hint = [text.split('"hint":"')[1].split('"')[0] for text in (mine, other)]
    with pytest.raises(IntegrityError, match="InvalidSignature"):
        check_signature(b"card", other.replace(hint[1], hint[0]), keys["mine"][1], "the item")


@needs_library
def test_other_keys_and_files_are_refused(keys: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "edwards", ed25519.Ed25519PrivateKey.generate())
    locked = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.BestAvailableEncryption(b"word")
    )
    (tmp_path / "locked.pem").write_bytes(locked)
    for path in (private, tmp_path / "none.pem", keys["mine"][1], tmp_path / "locked.pem"):
        with pytest.raises(ConfigError, match="must be a private key of an elliptic curve"):
            sign(b"card", path)
    for path in (public, tmp_path / "none.pem", keys["mine"][0]):
        with pytest.raises(ConfigError, match="must be a public key of an elliptic curve"):
            check_signature(b"card", "{}", path, "the item")


def test_without_model_signing_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['model_signing'] = None\n"
        "from pathlib import Path; from cclm_core.shelf.signing import sign\n"
        "sign(b'card', Path('key.pem'))"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "pip install 'cclm-core[signing]'" in process.stderr


@needs_library
def test_fetching_with_a_public_key_requires_a_good_signature(
    local: LocalShelf, keys: dict[str, tuple[Path, Path]], old: Embedder, tmp_path: Path
) -> None:
    """One test for all cases, because each publication takes seconds."""
    private, public = keys["mine"]
    source = tmp_path / "preprocessor.json"
    old.preprocessor.save(source)
    local.shelf.publish(source, "signed", "preprocessor", about=About("CC0-1.0"), tag="s1", key=private)

    def fetched(cache: str, tag: str = "s1", key: Path | None = public) -> Fetched:
        return local.shelf.fetch_with_card("signed", "preprocessor", tag, tmp_path / cache, public_key=key)

    assert [fetched("cache").signature, fetched("cache").signature] == ["good", "good"]
    assert fetched("cache").cached
    assert fetched("cache", key=None).signature == "not checked"
    with pytest.raises(IntegrityError, match="Key mismatch"):
        fetched("cache", key=keys["other"][1])
    with pytest.raises(IntegrityError, match="Key mismatch"):
        fetched("other", key=keys["other"][1])
    assert not (tmp_path / "other" / "signed").exists()

    folder = local.folder / "items" / "signed" / "preprocessor"
    card = Card.from_bytes((folder / "card.json").read_bytes(), "signed", "preprocessor")
    forged = card.model_copy(update={"scores": {"f1": 1.0}})  # with a recomputed digest
    (folder / "card.json").write_bytes(forged.to_bytes())
    local.commit()
    with pytest.raises(IntegrityError, match="is for another card"):
        fetched("tampered", "main")
    release = (folder / "release.json").read_text()
    (folder / "release.json").write_text(release.replace(card.digest, forged.digest))
    local.commit()
    with pytest.raises(IntegrityError, match="Signature mismatch"):
        fetched("tampered", "main")
    (folder / "card.sig").unlink()
    local.commit()
    with pytest.raises(IntegrityError, match="must be signed, because a public key was given"):
        fetched("tampered", "main")
    assert not (tmp_path / "tampered" / "signed").exists()
    assert fetched("tampered", "main", key=None).signature == "none"


@needs_library
def test_an_old_signed_version_is_good_only_under_its_own_names(
    local: LocalShelf, keys: dict[str, tuple[Path, Path]], old: Embedder, new: Embedder, tmp_path: Path
) -> None:
    """What somebody can do who can write to the shelf and does not have the key."""
    private, public = keys["mine"]
    for tag, model in (("s1", old), ("s2", new)):
        model.preprocessor.save(tmp_path / "preprocessor.json")
        about = About("CC0-1.0", tag)
        local.shelf.publish(tmp_path / "preprocessor.json", "signed", "preprocessor", about=about, tag=tag, key=private)

    def fetched(tag: str, cache: str = "cache", key: Path | None = public) -> str:
        item = local.shelf.fetch_with_card("signed", "preprocessor", tag, tmp_path / cache, public_key=key)
        assert item.signature == ("good" if key else "not checked")
        return item.card.description

    first, second = (git(local.folder, "rev-parse", tag) for tag in ("s1", "s2"))
    assert [fetched(name) for name in ("s1", "s2", "main", first)] == ["s1", "s2", "s2", "s1"]

    git(local.folder, "tag", "s3", first)
    with pytest.raises(IntegrityError, match="was signed for the tag 's1', not for the tag 's3'"):
        fetched("s3")
    git(local.folder, "tag", "--force", "s2", first)
    assert fetched("s2") == "s2"  # from the cache
    with pytest.raises(IntegrityError, match="was signed for the tag 's1', not for the tag 's2'"):
        fetched("s2", "new")
    git(local.folder, "tag", "--delete", "s2")
    git(local.folder, "branch", "s2", first)
    with pytest.raises(IntegrityError, match="not for the branch 's2'"):
        fetched("s2", "new")
    git(local.folder, "branch", "--delete", "--force", "s2")
    git(local.folder, "tag", "main", first)
    with pytest.raises(IntegrityError, match="not for the tag 'main'"):
        fetched("main", "another")
    git(local.folder, "tag", "--delete", "main")

    git(local.folder, "checkout", "--quiet", first, "--", "items")
    local.commit("the old files again, as a new commit")
    with pytest.raises(IntegrityError, match=r"is version \d+, and version \d+ was fetched before"):
        fetched("main")
    assert fetched("main", key=None) == "s1"
    git(local.folder, "reset", "--quiet", "--hard", second)
    assert fetched("main") == "s2"


def test_a_moved_tag_is_noticed_without_a_key(local: LocalShelf, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    local.shelf.fetch("plays", "embedder", "v2", cache)
    git(local.folder, "tag", "--force", "v2", "v3")
    assert local.shelf.fetch("plays", "embedder", "v2", cache).is_dir()  # the first version, from the cache
    with pytest.raises(IntegrityError, match="Tags of a shelf never move"):
        local.shelf.fetch("plays", "composition", "v2", cache)
    shutil.rmtree(cache / "plays")
    with pytest.raises(IntegrityError, match="the tag 'v2' of the shelf was at commit"):
        local.shelf.fetch("plays", "embedder", "v2", cache)
    git(local.folder, "tag", "--delete", "v2")
    git(local.folder, "branch", "v2", "v1")
    with pytest.raises(IntegrityError, match="now it is a branch"):
        local.shelf.fetch("plays", "embedder", "v2", cache)
    assert local.shelf.fetch("plays", "embedder", git(local.folder, "rev-parse", "v1"), cache).is_dir()
