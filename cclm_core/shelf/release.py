"""A signed release: which card a tag and a branch refer to, and in which order releases were made.

A signature on a card alone would be good for the card at any tag: anyone who can write to a shelf could point a tag, or
the main branch, at an old signed item with a known defect. The release names the tag and the branch that it was made
for, and has a version that grows. The signature is on the release, which contains the digest of the card, which
contains the SHA-256 of every file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from cclm_core.runtime.config import Config, canonical_json
from cclm_core.runtime.errors import IntegrityError
from cclm_core.shelf.signing import check_signature

RELEASE, SIGNATURE = "release.json", "card.sig"


class Release(Config):
    """The signed statement of a publication."""

    format: Literal["cclm-release-1"] = "cclm-release-1"
    identifier: str
    item_type: str
    card: str = Field(pattern="^[0-9a-f]{64}$", description="digest of the card")
    branch: str = Field(description="main branch of the shelf, which it was published to")
    tag: str | None = Field(description="tag that was set for it")
    version: int = Field(ge=1, le=2**53, description="number of commits of the branch with this one")

    def to_bytes(self) -> bytes:
        """The stored and signed form, canonical JSON."""
        return (canonical_json(self.canonical()) + "\n").encode()


@dataclass(frozen=True)
class Signed:
    """A release and its signature, as stored in a shelf and not checked."""

    release: str
    signature: str


@dataclass(frozen=True)
class Reference:
    """What a name refers to in a shelf."""

    name: str
    kind: Literal["tag", "branch", "commit"]

    @property
    def moves(self) -> bool:
        """Whether the name can refer to another version later."""
        return self.kind == "branch"


def check_release(
    signed: Signed | None, card_digest: str, item: tuple[str, str], reference: Reference, public_key: Path
) -> Release:
    """Checks that the owner of a key released this card under this name.

    Args:
        signed: the release and its signature; None if there is no signature.
        card_digest: of the card that was found.
        item: identifier and type.
        reference: the name at which the card was found.
        public_key: PEM file of the owner's key.

    Raises:
        IntegrityError: there is no good signature, or it is for another card, tag or branch.
        ConfigError: `model-signing` is not installed, or the file is not a public key.
    """
    name = f"{'/'.join(item)} at {reference.name}"
    content = None if signed is None else signed.release.encode()
    check_signature(content or b"", None if signed is None else signed.signature, public_key, name)
    try:
        release = Release.model_validate_json(content or b"")
    except ValidationError:  # signed, but by another program
        raise IntegrityError(f"the signature of {name} is not on a release. Publish the item again.") from None
    if (release.identifier, release.item_type, release.card) != (*item, card_digest):
        raise IntegrityError(f"the signature of {name} is for another card. Do not use the item.")
    expected = {"tag": release.tag, "branch": release.branch}.get(reference.kind, reference.name)
    if expected != reference.name:
        signed_for = f"the tag {release.tag!r}" if release.tag else f"the branch {release.branch!r}"
        raise IntegrityError(
            f"{name} was signed for {signed_for}, not for the {reference.kind} {reference.name!r}: somebody may have "
            f"moved it to another version. Fetch it by the name that was signed, or publish it with this tag and --key."
        )
    return release
