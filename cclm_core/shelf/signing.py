"""Signatures on cards, by the library `model-signing` with elliptic-curve keys: no network, no account.

A card holds the SHA-256 of every file, so that a signature on the card vouches for all of the item, and is checked
before a big file is fetched. The signature is a Sigstore bundle, which the command line of `model-signing` reads too.
"""

import io
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from cclm_core.runtime.errors import ConfigError, IntegrityError

MAX_BYTES = 1 << 20
CARD = "card.json"
# What the library raises for a file that it cannot use: unreadable, no PEM, with a password, of another kind of curve.
NO_KEY = (OSError, ValueError, TypeError, AttributeError)


def sign(card: bytes, private_key: Path) -> bytes:
    """The signature on a card.

    Args:
        card: the bytes of card.json.
        private_key: a PEM file without password, of the curve P-256, P-384 or P-521.

    Raises:
        ConfigError: `model-signing` is not installed, or the file is no such key.
    """
    signing = _library().signing
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=private_key)
    except NO_KEY as error:
        raise _no_key(private_key, "private", error) from None
    with tempfile.TemporaryDirectory(prefix="cclm-shelf-") as folder:
        signed, signature = Path(folder) / CARD, Path(folder) / "signature"
        signed.write_bytes(card)
        config.sign(signed, signature)
        return signature.read_bytes()


def check_signature(card: bytes, signature: bytes | None, public_key: Path, where: str) -> None:
    """Checks that the owner of a key signed this card.

    Args:
        card: the bytes of card.json.
        signature: what `sign` gave; None where the shelf has none.
        public_key: a PEM file.
        where: the item's name for messages.

    Raises:
        IntegrityError: there is no signature, another key made it, or it is on something else.
        ConfigError: `model-signing` is not installed, or the file is no such key.
    """
    verifying = _library().verifying
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except NO_KEY as error:
        raise _no_key(public_key, "public", error) from None
    if signature is None:
        raise IntegrityError(f"{where} must be signed, since a public key was given, but it has no signature.")
    with tempfile.TemporaryDirectory(prefix="cclm-shelf-") as folder:
        signed, beside = Path(folder) / CARD, Path(folder) / "signature"
        signed.write_bytes(card)
        beside.write_bytes(signature)
        try:
            with redirect_stdout(io.StringIO()):  # it prints a warning on bundles that name no key
                config.verify(signed, beside)
        # Whatever stops the library from saying that the signature is good, means that it is not: it raises a dozen
        # types from five packages on bundles that were tampered with.
        except Exception as error:  # noqa: BLE001
            why = str(error).split("\n")[0].split(": [")[0].strip(" .") or type(error).__name__
            raise IntegrityError(
                f"the signature of {where} must be by the owner of {public_key.name}, but it is not: {why}. "
                "Ask the publisher for the key, and do not use the item."
            ) from None


def _library() -> Any:
    try:
        import model_signing
        import model_signing.signing
        import model_signing.verifying
    except ImportError as error:
        raise ConfigError(
            f"signing needs the library model-signing, which cannot be imported ({error}); install it: "
            "pip install 'cclm[signing]'"
        ) from None
    return model_signing


def _no_key(path: Path, kind: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"{path} must be a {kind} key of an elliptic curve (P-256, P-384 or P-521) in a PEM file without password: "
        f"{error}"
    )
