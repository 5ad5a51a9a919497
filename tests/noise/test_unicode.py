"""Encodes 10,000 strings over all of Unicode, noises them with each kind, and restores them with the edit map."""

import numpy as np
import pytest

from cclm_core.noise.edits import INSERTED, Noised, entity_edges, move_starts, move_tags
from cclm_core.noise.engine import apply
from cclm_core.noise.kinds import CATALOGUE
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.tables import SymbolTables
from cclm_core.text.vocabulary import Preprocessor

NUM_TEXTS = 10_000
WORDS = ["the", "The", "modern", "house", "received", "don't", "10", "É", "e\u0301", "ж", "क्ष", "👩\u200d🚀", "漢"]
LIST = {"the": {"teh": 2}, "received": {"recieved": 1, "receved": 1}, "don't": {"dont": 1}}


def some_texts() -> list[str]:
    """Strings of 0 to 12 parts: words, and characters of all planes except surrogates."""
    generator = np.random.default_rng(17)
    texts = []
    for _ in range(NUM_TEXTS):
        parts = []
        for _ in range(int(generator.integers(0, 7))):
            highest = int(generator.choice([0x80, 0x500, 0x3000, 0xD800, 0x110000]))
            point = int(generator.integers(0, highest))
            parts.append(chr(point) if not 0xD800 <= point < 0xE000 else " ")
            parts.append(WORDS[generator.integers(len(WORDS))] + " " * int(generator.integers(2)))
        texts.append("".join(parts))
    return texts


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return some_texts()


@pytest.fixture(scope="module")
def preprocessor() -> Preprocessor:
    """An alphabet of common characters; others become bytes."""
    return Preprocessor(alphabet="".join(sorted(set("".join(WORDS)) | set(map(chr, range(32, 0x180))))))


def restored(noised: Noised, symbols: np.ndarray) -> np.ndarray:
    """The input, restored from the output; only replaced symbols come from the input."""
    edits = noised.edits
    emitted = np.zeros(len(noised.symbols) + 1, dtype=np.int64)
    np.add.at(emitted, edits.starts, 1)
    np.add.at(emitted, edits.starts + edits.emits, -1)
    untouched = np.cumsum(emitted[:-1]) == 0
    consumed = np.zeros(len(symbols) + 1, dtype=np.int64)
    np.add.at(consumed, edits.positions, 1)
    np.add.at(consumed, edits.positions + edits.consumes, -1)
    kept = np.cumsum(consumed[:-1]) == 0
    assert noised.source[untouched].tolist() == np.flatnonzero(kept).tolist()
    result = symbols.copy()
    result[kept] = noised.symbols[untouched]
    return result


@pytest.mark.parametrize("kind", sorted(CATALOGUE))
def test_unicode_strings_can_be_restored(kind: str, texts: list[str], preprocessor: Preprocessor) -> None:
    ragged = preprocessor.encode_ragged(texts)
    starts = np.cumsum(ragged.lengths) - ragged.lengths
    # One entity in each text of 4 characters or more; it does not split the bytes of a character.
    tags = np.zeros(len(ragged.ids), dtype=np.uint8)
    for text, start in zip(texts, starts.tolist(), strict=True):
        if len(text) >= 4:
            first, last = np.searchsorted(preprocessor.offsets(text), [1, len(text) // 2 + 1])
            tags[start + first : start + last] = 2
            tags[start + first] = 1
    boundaries = np.union1d(starts[starts < len(tags)], entity_edges(tags))
    tables = SymbolTables.for_preprocessor(preprocessor, misspellings=LIST)
    recipe = NoiseRecipe(rate=1 if kind == "misspelling" else 0.3, kinds=[kind])
    noised = apply(recipe, ragged.ids, tables, np.random.default_rng(1), starts=boundaries)
    assert len(noised.edits.positions) > 300
    assert (restored(noised, ragged.ids) == ragged.ids).all()

    moved = move_tags(tags, noised.source)
    kept = noised.source != INSERTED
    assert ((moved[kept] > 0) == (tags[noised.source[kept]] > 0)).all()  # labels move with their words
    previous = np.maximum.accumulate(np.where(kept, noised.source, 0))
    assert ((moved[~kept] > 0) == (tags[previous[~kept]] > 0)).all()

    bounds = np.append(move_starts(starts, noised.source), len(noised.symbols))
    for number in range(NUM_TEXTS):
        row = noised.symbols[bounds[number] : bounds[number + 1]]
        decoded = preprocessor.decode(row)
        assert preprocessor.encode(decoded).tolist() == row.tolist()
        own = noised.source[bounds[number] : bounds[number + 1]]
        own = own[own != INSERTED] - starts[number]
        assert ((own >= 0) & (own < ragged.lengths[number])).all()
