"""Noise in scripts that are written without spaces between words."""

from pathlib import Path

import numpy as np
import pytest

from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.text import TextNoiser

TEXTS = {
    "Chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心。",
    "Japanese": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "mixed": "去北京 with 3 friends 吃饭 today",
}
DATA = Path(__file__).parents[3] / "shared" / "data" / "udhr"


def word_sites(text: str) -> int:
    return int(TextNoiser(NoiseRecipe(unit="word", rate=1, kinds=["drop"])).eligible(text).sum())


def test_every_two_letters_are_a_word() -> None:
    assert word_sites("去北京吃饭") == 3
    assert word_sites("去北京，吃饭") == 3
    assert word_sites("ab去北京cd ef") == 5
    assert word_sites("plain words stay") == 3


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("kinds", [["drop"], ["swap", "duplicate", "insert"]])
def test_the_rate_of_words_is_kept(name: str, kinds: list[str]) -> None:
    text = TEXTS[name] * 60
    noiser = TextNoiser(NoiseRecipe(unit="word", rate=0.2, kinds=kinds))
    words = int(noiser.eligible(text).sum())
    edits = len(noiser(text, np.random.default_rng(3)).edits.positions)
    assert words > len(text) / 8
    assert edits / words == pytest.approx(0.2, abs=0.05)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data/udhr")
@pytest.mark.parametrize("language", ["cmn_hans", "jpn", "tha"])
def test_real_texts(language: str) -> None:
    text = (DATA / f"udhr_{language}.txt").read_text(encoding="utf-8")[:4000]
    for unit in ("word", "character"):
        noiser = TextNoiser(NoiseRecipe(unit=unit, rate=0.1, kinds=["swap", "drop", "duplicate"]))
        noised = noiser(text, np.random.default_rng(1))
        assert len(noised.edits.positions) / int(noiser.eligible(text).sum()) == pytest.approx(0.1, abs=0.04)
        assert len(noised.source) == len(noised.text)
