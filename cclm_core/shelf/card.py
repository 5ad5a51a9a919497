"""The card of an item: what it is, what it was made from, how good it is, and the digest of each of its files."""

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue

from cclm_core.runtime.config import Config, canonical_json, digest
from cclm_core.runtime.errors import ConfigError, IntegrityError
from cclm_core.shelf.contents import ItemFile
from cclm_core.shelf.names import check_file_names, check_identifier, check_item_type

FORMAT: Literal["cclm-shelf-1"] = "cclm-shelf-1"
MAX_BYTES = 4 << 20  # a card is read whole; no true one comes near


def _one_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be one line of printable text")
    return value


Line = Annotated[str, AfterValidator(_one_line)]  # what is printed as it stands cannot steer a terminal


class Digests(Config):
    """SHA-256 digests, in hexadecimal, that say what fits to what."""

    files: str = Field(description="of the names and digests of all files: the same bytes have the same one")
    model: str | None = Field(default=None, description="what others name it by: an embedder's, a vocabulary's digest")
    base: str | None = Field(default=None, description="of the embedder that it was trained on")
    vocabulary: str | None = Field(default=None, description="of the vocabulary whose ids it reads")
    data: str | None = Field(default=None, description="of the data that it was trained on")


class Card(Config):
    """What a shelf says of an item. It holds no time, host or path: the same item has the same card anywhere."""

    format: Literal["cclm-shelf-1"] = FORMAT
    identifier: str
    item_type: str
    description: Line = ""
    licence: Line = Field(min_length=1, description="under which it may be used, best as an SPDX expression")
    created_by: Line | None = Field(default=None, description="revision of the project that made it")
    configuration: dict[str, JsonValue] = Field(description="its own configuration, as it stands in its files")
    digests: Digests
    scores: dict[str, JsonValue] = Field(default_factory=dict, description="how good it is, by name")
    files: tuple[ItemFile, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the card, which holds that of every file: the item's identity."""
        return digest(self.canonical())

    def to_bytes(self) -> bytes:
        """The card with its digest as canonical JSON: what is stored and signed."""
        return (canonical_json({"card": self.canonical(), "digest": self.digest}) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> "Card":
        """Reads what `to_bytes` gave.

        Args:
            content: the bytes of card.json.
            where: its name for messages.

        Raises:
            IntegrityError: it was altered, or is no card.
            ConfigError: a later version of CCLM wrote it.
        """
        try:
            value = json.loads(content)
            true_digest = digest(value["card"]) if isinstance(value, dict) and "card" in value else None
        except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or figures that JSON does not know
            raise _no_card(where, f"it cannot be read ({error})") from None
        if true_digest is None or value.keys() != {"card", "digest"} or not isinstance(value["card"], dict):
            raise _no_card(where, "it must hold `card` and `digest`")
        if value["card"].get("format") != FORMAT:
            raise ConfigError(
                f"{where} must have the format {FORMAT}, got {value['card'].get('format')!r}; use the version of CCLM "
                "that wrote it."
            )
        if true_digest != value["digest"]:
            raise _no_card(where, "its content does not match its digest")
        try:
            card = cls.parse(value["card"], where)
            check_identifier(card.identifier)
            check_item_type(card.item_type)
        except ConfigError as error:
            raise _no_card(where, str(error)) from None
        check_file_names(file.path for file in card.files)
        if card.to_bytes() != content or card.digests.files != files_digest(card.files):
            raise _no_card(where, "its digests do not match its content")
        return card

    def to_markdown(self) -> str:
        """The card for people, all of it made from the fields."""
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


def _flat(values: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested figures, one row each, their names joined by dots."""
    rows = []
    for name, value in sorted(values.items()):
        if isinstance(value, dict):
            rows += _flat(value, f"{before}{name}.")
        else:
            rows.append((f"{before}{name}", json.dumps(value, ensure_ascii=False)))
    return rows


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines]


def _plain(text: str) -> str:
    """Text that stays in its line and its cell, and is no markup."""
    for sign in "\\|<>`[]":
        text = text.replace(sign, f"\\{sign}")
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _no_card(where: str, why: str) -> IntegrityError:
    return IntegrityError(f"{where} must be a card as it was published, but {why}; it was altered or is damaged.")
