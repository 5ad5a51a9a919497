"""The card of an item: what it is, what it was made from, how good it is, and the digest of each of its files."""

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue

from cclm_core.runtime.config import Config, canonical_json, digest
from cclm_core.runtime.errors import ConfigError, IntegrityError
from cclm_core.shelf.files import ItemFile
from cclm_core.shelf.names import check_file_names, printable

FORMAT: Literal["cclm-shelf-1"] = "cclm-shelf-1"


def _one_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be one line of printable text")
    return value


Line = Annotated[str, AfterValidator(_one_line)]  # can be printed as it is


class Digests(Config):
    """SHA-256 digests, in hexadecimal, by which items are matched."""

    files: str = Field(description="of the names and digests of all files: the same bytes have the same one")
    model: str | None = Field(default=None, description="by which other items refer to this embedder or vocabulary")
    base: str | None = Field(default=None, description="of the embedder that it was trained on")
    vocabulary: str | None = Field(default=None, description="of the vocabulary whose ids it reads")
    data: str | None = Field(default=None, description="of the data that it was trained on")


class Card(Config):
    """What a shelf knows about an item. It has no time, host or path: the same item has the same card everywhere."""

    format: Literal["cclm-shelf-1"] = FORMAT
    identifier: str
    item_type: str
    description: Line = ""
    licence: Line = Field(min_length=1, description="under which it may be used, preferably an SPDX expression")
    created_by: Line | None = Field(default=None, description="revision of the project that made it")
    configuration: dict[str, JsonValue] = Field(description="its own configuration, read from its files")
    digests: Digests
    scores: dict[str, JsonValue] = Field(default_factory=dict, description="metrics by name")
    files: tuple[ItemFile, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the card, which contains that of every file: the item's identity."""
        return digest(self.canonical())

    def to_bytes(self) -> bytes:
        """The card with its digest as canonical JSON: what is stored and signed."""
        return (canonical_json({"card": self.canonical(), "digest": self.digest}) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes, identifier: str, item_type: str) -> "Card":
        """Reads the card of an item from what `to_bytes` returned.

        Raises:
            IntegrityError: it was altered, is not a card, or is the card of another item.
            ConfigError: a later version of CCLM wrote it.
        """
        where = f"the card of {identifier}/{item_type}"
        try:
            value = json.loads(content)["card"]
            if (given := value["format"]) != FORMAT:
                raise ConfigError(f"{where} must have the format {FORMAT}, got {given!r}; update CCLM to read it.")
            card = cls.model_validate(value)
            same = card.to_bytes() == content and card.digests.files == files_digest(card.files)
        except (ValueError, TypeError, KeyError, RecursionError) as error:  # not JSON, not UTF-8, NaN, another shape
            raise IntegrityError(f"{where} is not valid: {printable(str(error))}") from None
        check_file_names(file.path for file in card.files)
        if not same:
            raise IntegrityError(f"{where} is altered: its content does not match its digest.")
        if (card.identifier, card.item_type) != (identifier, item_type):
            raise IntegrityError(f"{where} is altered: it is the card of {f'{card.identifier}/{card.item_type}'!r}.")
        return card

    def to_markdown(self) -> str:
        """The card for people, made only from its fields."""
        table = [("type", self.item_type), ("licence", self.licence), ("digest", self.digest)]
        table += [(f"{name} digest", value) for name, value in self.digests.canonical().items() if value]
        table += [("made by revision", self.created_by)] if self.created_by else []
        files = [(file.path, f"{file.size:,}", file.sha256) for file in self.files]
        lines = [f"# {self.identifier}", "", *([_plain(self.description), ""] if self.description else [])]
        lines += [*_table(("", ""), table), ""]
        if self.scores:
            lines += ["## Scores", "", *_table(("score", "value"), _flat(self.scores)), ""]
        lines += ["## Files", "", *_table(("file", "bytes", "SHA-256"), files), ""]
        lines += ["## Configuration", "", "```json"]
        lines += [json.dumps(self.configuration, indent=2, sort_keys=True), "```", ""]
        return "\n".join(lines)


def files_digest(files: Iterable[ItemFile]) -> str:
    """SHA-256 over the names and SHA-256 digests of files."""
    return digest([[file.path, file.sha256] for file in sorted(files, key=lambda file: file.path)])


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested metrics, one row each, with dotted names."""
    rows = []
    for name, value in sorted(values.items()):
        nested = isinstance(value, dict)
        rows += _flat(value, f"{prefix}{name}.") if nested else [(prefix + name, json.dumps(value, ensure_ascii=False))]
    return rows


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines]


def _plain(text: str) -> str:
    """Text that cannot break out of its line or cell, or become markup."""
    for sign in "\\|<>`[]":
        text = text.replace(sign, f"\\{sign}")
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
