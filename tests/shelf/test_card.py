"""Cards: equal bytes everywhere, and every changed byte is detected."""

import json
from typing import Any

import numpy as np
import pytest

from cclm_core.runtime.config import canonical_json, digest
from cclm_core.runtime.errors import CclmError, ConfigError, IntegrityError
from cclm_core.shelf.card import Card, Digests, files_digest
from cclm_core.shelf.files import ItemFile

FILES = (
    ItemFile(path="a.json", size=3, sha256="a" * 64, md5="b" * 32),
    ItemFile(path="parts/w.safetensors", size=1234567, sha256="c" * 64, md5="d" * 32),
)


def card(**changes: Any) -> Card:
    values: dict[str, Any] = {
        "identifier": "plays",
        "item_type": "component",
        "description": "été | <b>",
        "license": "CC0-1.0",
        "configuration": {"width": 16, "rate": 0.5},
        "digests": Digests(files=files_digest(FILES), base="e" * 64),
        "scores": {"bits": 2.25, "f1": {"who": 0.5}},
        "files": FILES,
    }
    return Card(**(values | changes))


def read(content: bytes) -> Card:
    return Card.from_bytes(content, "plays", "component")


def forged(**changes: Any) -> bytes:
    """A changed card with a recomputed digest."""
    content = card().canonical() | changes
    return (canonical_json({"card": content, "digest": digest(content)}) + "\n").encode()


def test_card_round_trip() -> None:
    content = card().to_bytes()
    assert read(content) == card()
    assert json.loads(content)["digest"] == card().digest
    assert card(scores={"f1": {"who": 0.5}, "bits": 2.25}).to_bytes() == content


def test_every_changed_byte_is_detected() -> None:
    content = card().to_bytes()
    generator = np.random.default_rng(5)
    for position in generator.integers(0, len(content), 300):
        changed = bytearray(content)
        changed[position] ^= int(generator.integers(1, 256))
        with pytest.raises(CclmError):
            read(bytes(changed))


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"{}", b"\xff", b'{"card":{},"digest":NaN}', b"[" * 100_000, b'{"card":NaN}']
)
def test_other_content_is_not_a_card(content: bytes) -> None:
    with pytest.raises((IntegrityError, ConfigError), match="the card of plays/component"):
        read(content)


def test_cards_with_invalid_values_are_refused_even_if_their_digest_matches() -> None:
    assert read(forged()) == card()
    outside = [file.canonical() for file in FILES[:1]] + [FILES[1].canonical() | {"path": "../../w.safetensors"}]
    pickled = [FILES[0].canonical() | {"path": "a.pkl"}]
    key = [FILES[0].canonical() | {"md5": "../../../../etc/passwd"}]
    for changes in (
        {"files": outside},
        {"files": pickled},
        {"files": key},
        {"files": []},
        {"identifier": "../x"},
        {"item_type": "program"},
        {"unknown": 1},
        {"license": ""},
        {"license": "MIT\x1b[2J"},
        {"created_by": "a\nb"},
    ):
        with pytest.raises(IntegrityError):
            read(forged(**changes))
    with pytest.raises(ConfigError, match="must have the format cclm-shelf-2, got 'cclm-shelf-1'"):
        read(forged(format="cclm-shelf-1"))


def test_the_digest_covers_the_whole_card_and_the_files_digest_only_the_files() -> None:
    assert card(scores={}).digest != card().digest
    assert card(scores={}).digests.files == card().digests.files
    assert files_digest(reversed(FILES)) == files_digest(FILES)
    assert files_digest([FILES[0].model_copy(update={"path": "b.json"}), FILES[1]]) != files_digest(FILES)


def test_the_markdown_card_is_complete_and_escapes_markup() -> None:
    text = card().to_markdown()
    for part in ("CC0-1.0", card().digest, "e" * 64, "1,234,567", "c" * 64, '"width": 16', "| f1.who | 0.5 |"):
        assert part in text
    assert "<b>" not in text.replace("\\<b\\>", "") and "été" in text
    broken = card(scores={"x\n# heading": 1, "y": "\x1b[2J"}).to_markdown()
    assert "\n# heading" not in broken and "\x1b" not in broken
