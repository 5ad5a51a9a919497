"""Signatures on releases, by the library `model-signing` with elliptic-curve keys: no network, no account.

A release contains the digest of a card, which contains the SHA-256 of every file. So a signature covers the whole item
and is checked before any file is downloaded. It is a Sigstore bundle, which the command `model_signing verify key` also
reads.
"""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from cclm_core.runtime.errors import ConfigError, IntegrityError
from cclm_core.runtime.extras import require
from cclm_core.runtime.terminal import printable


def sign(content: bytes, private_key: Path) -> str:
    """Signs a release with an elliptic-curve key (P-256, P-384 or P-521) from a PEM file without password.

    Raises:
        ConfigError: `model-signing` is not installed, or the file is not such a key.
    """
    with _key("private", private_key):
        from model_signing.signing import Config

        signer = Config().use_elliptic_key_signer(private_key=private_key)
    with _files(content) as (signed, bundle):
        signer.sign(signed, bundle)
        return bundle.read_text(encoding="utf-8")


def check_signature(content: bytes, signature: str | None, public_key: Path, name: str) -> None:
    """Checks that the owner of a key signed this release; `name` is the item's name in error messages.

    Raises:
        IntegrityError: the signature is missing, by another key, or of another release.
        ConfigError: `model-signing` is not installed, or the file is not a public key.
    """
    with _key("public", public_key):
        from model_signing.verifying import Config

        verifier = Config().use_elliptic_key_verifier(public_key=public_key)
    if signature is None:
        raise IntegrityError(f"{name} must be signed, because a public key was given, but it has no signature.")
    with _files(content, signature) as (signed, bundle):
        try:
            with redirect_stdout(io.StringIO()):  # the library prints a warning about bundles that name no key
                verifier.verify(signed, bundle)
        # Any error means that the signature is not good: the library raises a dozen types from five packages.
        except Exception as error:  # noqa: BLE001
            problem = printable(str(error)).split("\n")[0].split(": [")[0].strip(" .") or type(error).__name__
            raise IntegrityError(
                f"the signature of {name} is not by the owner of {public_key.name}: {problem}. Do not use the item."
            ) from None


@contextmanager
def _key(kind: str, path: Path) -> Iterator[None]:
    require("model_signing", "signing")
    try:
        yield
    except (OSError, ValueError, TypeError, AttributeError) as error:  # not PEM, with a password, another kind of key
        raise ConfigError(
            f"{path} must be a {kind} key of an elliptic curve (P-256, P-384 or P-521) in a PEM file without password: "
            f"{error}"
        ) from None


@contextmanager
def _files(content: bytes, signature: str = "") -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory(prefix="cclm-shelf-") as folder:
        signed, bundle = Path(folder) / "release.json", Path(folder) / "signature"
        signed.write_bytes(content)
        bundle.write_text(signature, encoding="utf-8")
        yield signed, bundle
