"""The card of an item: its origin, configuration and scores, and the digest of each file."""

import json
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue

from cclm_core.cards import Facts, render
from cclm_core.runtime.config import Config, canonical_json, digest
from cclm_core.runtime.errors import ConfigError, IntegrityError
from cclm_core.runtime.terminal import printable
from cclm_core.shelf.files import ItemFile
from cclm_core.shelf.names import check_file_names

FORMAT: Literal["cclm-shelf-2"] = "cclm-shelf-2"


def _one_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be one line of printable text")
    return value


Line = Annotated[str, AfterValidator(_one_line)]
"""Text that is safe to print on a terminal."""


Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Digests(Config):
    """SHA-256 digests, in hexadecimal, that connect items."""

    files: Sha256 = Field(description="of the names and SHA-256 of all files; equal files have equal digests")
    model: Sha256 | None = Field(default=None, description="of the model or vocabulary; other items refer to it")
    base: Sha256 | None = Field(default=None, description="`model` of the base that it was trained on")
    vocabulary: Sha256 | None = Field(default=None, description="of the vocabulary whose ids it reads")
    data: Sha256 | None = Field(default=None, description="of the training data")


class Card(Config):
    """The description of an item. It contains no time, host or path: the same item has the same card everywhere."""

    format: Literal["cclm-shelf-2"] = FORMAT
    identifier: str
    item_type: str
    description: Line = ""
    license: Line = Field(min_length=1, description="preferably an SPDX expression")
    created_by: Line | None = Field(default=None, description="revision of the project that made it")
    configuration: dict[str, JsonValue] = Field(description="read from the item's files")
    digests: Digests
    scores: dict[str, JsonValue] = Field(default_factory=dict, description="metrics by name")
    files: tuple[ItemFile, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the card. It identifies the item, because the card contains the SHA-256 of every file."""
        return digest(self.canonical())

    def to_bytes(self) -> bytes:
        """The stored and signed form: canonical JSON of the card and its digest."""
        return (canonical_json({"card": self.canonical(), "digest": self.digest}) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes, identifier: str, item_type: str) -> "Card":
        """Reads and verifies the output of `to_bytes`.

        Raises:
            IntegrityError: it was altered, is not a card, or is the card of another item.
            ConfigError: another version of CCLM wrote it.
        """
        where = f"the card of {identifier}/{item_type}"
        try:
            value = json.loads(content)["card"]
            if value["format"] != FORMAT:
                raise ConfigError(
                    f"{where} must have the format {FORMAT}, got {value['format']!r}. Use the version of CCLM that "
                    "published it."
                )
            card = cls.model_validate(value)
            intact = card.to_bytes() == content and card.digests.files == files_digest(card.files)
        except (ValueError, TypeError, KeyError, RecursionError) as error:  # not JSON, not UTF-8, NaN, another shape
            raise IntegrityError(f"{where} is not valid: {printable(str(error))}") from None
        check_file_names(file.path for file in card.files)
        if not intact:
            raise IntegrityError(f"{where} is altered: its content does not match its digest.")
        if (card.identifier, card.item_type) != (identifier, item_type):
            raise IntegrityError(f"{where} is altered: it is the card of {f'{card.identifier}/{card.item_type}'!r}.")
        return card

    def to_markdown(self) -> str:
        """The card as a page for people, `CARD.md`."""
        known = {name: value for name, value in self.digests.canonical().items() if value}
        facts = Facts(
            name=self.identifier,
            kind=self.item_type,
            description=self.description,
            license=self.license,
            about={"made by revision": self.created_by} if self.created_by else {},
            digests={"card": self.digest, **known},
            metrics=self.scores,
            configuration=self.configuration,
            files=[(file.path, file.size, file.sha256) for file in self.files],
        )
        return render(facts)


def files_digest(files: Iterable[ItemFile]) -> str:
    """SHA-256 of the names and SHA-256 digests of files, in any order."""
    return digest(sorted([file.path, file.sha256] for file in files))
