"""Signatures on cards, by the library `model-signing` with elliptic-curve keys: no network, no account.

A card contains the SHA-256 of every file, so a signature on the card covers the whole item and is checked before any
file is downloaded. It is a Sigstore bundle, which the command `model_signing verify key` reads as well.
"""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from cclm_core.runtime.errors import ConfigError, IntegrityError
from cclm_core.shelf.names import printable


def sign(card: bytes, private_key: Path) -> str:
    """Signs the bytes of a card with an elliptic-curve key (P-256, P-384, P-521), in a PEM file without password.

    Raises:
        ConfigError: `model-signing` is not installed, or the file is not such a key.
    """
    with _key("private", private_key):
        config = _library().signing.Config().use_elliptic_key_signer(private_key=private_key)
    with tempfile.TemporaryDirectory(prefix="cclm-shelf-") as folder:
        signed, signature = Path(folder) / "card.json", Path(folder) / "signature"
        signed.write_bytes(card)
        config.sign(signed, signature)
        return signature.read_text(encoding="utf-8")


def check_signature(card: bytes, signature: str | None, public_key: Path, where: str) -> None:
    """Checks that the owner of a key signed this card; `where` is the item's name for messages.

    Raises:
        IntegrityError: the signature is missing, by another key, or of another card.
        ConfigError: `model-signing` is not installed, or the file is not a public key.
    """
    with _key("public", public_key):
        config = _library().verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    if signature is None:
        raise IntegrityError(f"{where} must be signed, because a public key was given, but it has no signature.")
    with tempfile.TemporaryDirectory(prefix="cclm-shelf-") as folder:
        signed, bundle = Path(folder) / "card.json", Path(folder) / "signature"
        signed.write_bytes(card)
        bundle.write_text(signature, encoding="utf-8")
        try:
            with redirect_stdout(io.StringIO()):  # the library prints a warning about bundles that name no key
                config.verify(signed, bundle)
        # Any error means that the signature is not good: the library raises a dozen types from five packages.
        except Exception as error:  # noqa: BLE001
            problem = printable(str(error)).split("\n")[0].split(": [")[0].strip(" .") or type(error).__name__
            raise IntegrityError(
                f"the signature of {where} is not by the owner of {public_key.name}: {problem}. Do not use the item."
            ) from None


@contextmanager
def _key(kind: str, path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, AttributeError) as error:  # no PEM, with a password, another kind of key
        raise ConfigError(
            f"{path} must be a {kind} key of an elliptic curve (P-256, P-384 or P-521) in a PEM file without password: "
            f"{error}"
        ) from None


def _library() -> Any:
    try:
        import model_signing
        import model_signing.signing
        import model_signing.verifying
    except ImportError as error:
        raise ConfigError(f"signing needs model-signing ({error}); install it: pip install 'cclm[signing]'") from None
    return model_signing
