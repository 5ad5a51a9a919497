"""Compares the speed of noise with textnoisr and nlpaug.

    python benchmarks/noising.py [--json]

Needs data/corpus (`cclm run --target ingest`) and the extra `bench`. `noise.apply` edits ids in memory at a rate of 5 %
and returns edit maps. The peers edit the first of the same texts, one at a time, at the same rate, without edit maps.
One thread; medians of interleaved repeats.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rows import Row, exit_without_peer, options, show

from cclm_core.corpus.records import read_records
from cclm_core.noise import NoiseRecipe, SymbolTables, apply
from cclm_core.runtime.reporting import format_number
from cclm_core.text.vocabulary import Preprocessor

RATE = 0.05
LONG, SHORT = 2_000_000, 100_000  # characters for `noise.apply`, and for the slower peers
BLOCK = 1 << 18  # ids per call, as in a stream
REPEATS = 7


def rows() -> list[Row]:
    """Measures one row per peer."""
    texts = _texts()
    preprocessor = Preprocessor().fit(texts)
    tables, ids = SymbolTables.for_preprocessor(preprocessor), preprocessor.encode_ragged(texts).ids
    recipe = NoiseRecipe(rate=RATE)

    def apply_noise(number: int) -> None:
        """Applies noise to all ids, with the seed `number`."""
        for first in range(0, len(ids), BLOCK):
            apply(recipe, ids[first : first + BLOCK], tables, np.random.default_rng(number), first=first)

    apply_noise(0)  # warms the caches
    peers = {"textnoisr": _textnoisr(), "nlpaug": _nlpaug()}
    sample = _first(texts, SHORT)
    num_characters = sum(map(len, sample))
    times: dict[str, list[float]] = {name: [] for name in ("cclm", *peers)}
    for number in range(REPEATS):
        times["cclm"].append(_timed(apply_noise, number) / len(ids))
        for name, peer in peers.items():
            times[name].append(_timed(peer, sample) / num_characters)
    speed = {name: 1 / statistics.median(seconds) for name, seconds in times.items()}
    unit = "characters/s"
    rows = []
    for name in peers:
        text = f"{name}: {format_number(speed[name])} {unit}"
        rows.append(Row(f"noise/{name}", speed["cclm"], unit, text, speed["cclm"] / speed[name], "higher"))
    return rows


def _texts() -> list[str]:
    """Returns the first training texts of the ingested corpus."""
    corpus = Path("data/corpus")
    if not corpus.is_dir():
        sys.exit("data/corpus not found. Run `cclm run --target ingest` first.")
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
        exit_without_peer(error)
    augmenter = CharNoiseAugmenter(noise_level=RATE, seed=1)
    return lambda texts: [augmenter.add_noise(text) for text in texts]


def _nlpaug() -> Callable[[list[str]], object]:
    try:
        import nlpaug.augmenter.char as nac
    except ImportError as error:
        exit_without_peer(error)
    augmenter = nac.RandomCharAug(
        aug_char_p=RATE, aug_word_p=1.0, aug_char_min=0, aug_word_min=0, aug_char_max=None, aug_word_max=None
    )
    return lambda texts: [augmenter.augment(text) for text in texts]


if __name__ == "__main__":
    args = options(__doc__).parse_args()
    show("Noise at 5 %, with edit maps", rows(), args.json)
