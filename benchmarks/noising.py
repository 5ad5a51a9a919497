"""The speed of noise, compared with the libraries that people use for it: `python benchmarks/noising.py`.

Rows `noise/textnoisr` and `noise/nlpaug`: characters per second of `noise.apply` at 5 %, with edit maps, on ids in
memory, one thread. The peers noise the first of the same texts, one by one, at the same rate, without an edit map.
Medians of interleaved repeats. The peers come from the extra `bench`.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rows import Row, show

from cclm_core.corpus.records import read_records
from cclm_core.noise import NoiseRecipe, SymbolTables, apply
from cclm_core.text.vocabulary import Preprocessor

RATE = 0.05
LONG, SHORT = 2_000_000, 100_000  # characters; the peers are slow, so that fewer are enough to time them
BLOCK = 1 << 18  # ids noised at once, as in a stream
REPEATS = 7


def rows() -> list[Row]:
    """The measured rows."""
    texts = _texts()
    preprocessor = Preprocessor().fit(texts)
    tables, ids = SymbolTables.for_preprocessor(preprocessor), preprocessor.encode_ragged(texts).ids
    recipe = NoiseRecipe(rate=RATE)

    def ours(number: int) -> None:
        for first in range(0, len(ids), BLOCK):
            apply(recipe, ids[first : first + BLOCK], tables, np.random.default_rng(number), first=first)

    ours(0)  # warms caches
    peers = {"textnoisr": _textnoisr(), "nlpaug": _nlpaug()}
    few, num_characters = _first(texts, SHORT), sum(map(len, _first(texts, SHORT)))
    times: dict[str, list[float]] = {name: [] for name in ("ours", *peers)}
    for number in range(REPEATS):
        times["ours"].append(_timed(ours, number) / len(ids))
        for name, peer in peers.items():
            times[name].append(_timed(peer, few) / num_characters)
    speed = {name: 1 / statistics.median(seconds) for name, seconds in times.items()}
    unit = "characters/s"
    return [
        Row(f"noise/{name}", speed["ours"], unit, f"{speed[name]:.3g} {unit}", speed["ours"] / speed[name])
        for name in peers
    ]


def _texts() -> list[str]:
    """The first texts of the ingested corpus."""
    corpus = Path("data/corpus")
    if not corpus.is_dir():
        sys.exit("this benchmark reads data/corpus; run `cclm run --target ingest` first.")
    return _first((record.text for record in read_records(corpus, "train")), LONG)


def _first(texts: Iterable[str], num_characters: int) -> list[str]:
    selected, size = [], 0
    for text in texts:
        selected.append(text)
        size += len(text)
        if size >= num_characters:
            break
    return selected


def _timed(call: Callable[[Any], object], argument: object) -> float:
    start = time.perf_counter()
    call(argument)
    return time.perf_counter() - start


def _textnoisr() -> Callable[[list[str]], object]:
    try:
        from textnoisr.noise import CharNoiseAugmenter
    except ImportError as error:
        sys.exit(f"this benchmark needs its peers ({error}); install them: pip install -e '.[bench]'")
    augmenter = CharNoiseAugmenter(noise_level=RATE, seed=1)
    return lambda texts: [augmenter.add_noise(text) for text in texts]


def _nlpaug() -> Callable[[list[str]], object]:
    try:
        import nlpaug.augmenter.char as nac
    except ImportError as error:
        sys.exit(f"this benchmark needs its peers ({error}); install them: pip install -e '.[bench]'")
    augmenter = nac.RandomCharAug(
        aug_char_p=RATE, aug_word_p=1.0, aug_char_min=0, aug_word_min=0, aug_char_max=None, aug_word_max=None
    )
    return lambda texts: [augmenter.augment(text) for text in texts]


if __name__ == "__main__":
    show("Noise at 5 %, with edit maps", rows())
