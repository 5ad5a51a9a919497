"""How fast noise is, beside the libraries that people use for it: `python benchmarks/noising.py`.

Rows `noise/textnoisr` and `noise/nlpaug`: characters per second of `noise.apply` at 5 %, with edit maps, on ids in
memory, one thread; the peers noise the same text at the same rate and give no edit map. `noise/arrays`: the same
without the compiled loop. Medians of interleaved repeats. The peers come from the extra `bench`.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rows import Row, show

from cclm_core.noise import apply as module
from cclm_core.noise.apply import apply
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.tables import SymbolTables
from cclm_core.text.records import read_records
from cclm_core.text.vocabulary import Preprocessor

RATE = 0.05
LONG, SHORT = 2_000_000, 100_000  # characters: peers are slow enough to be timed on fewer
REPEATS = 7


def rows() -> list[Row]:
    """The figures; each peer is measured between repeats of ours."""
    text = _text()
    preprocessor = Preprocessor().fit([text])
    tables, ids = SymbolTables.for_preprocessor(preprocessor), preprocessor.encode(text)
    recipe = NoiseRecipe(rate=RATE)

    def ours(number: int) -> None:
        apply(recipe, ids, tables, np.random.default_rng(number))

    def arrays(number: int) -> None:
        compiled, module.available = module.available, lambda: False
        try:
            ours(number)
        finally:
            module.available = compiled

    ours(0)  # the first call compiles, or loads what was compiled
    peers = {"textnoisr": _textnoisr(), "nlpaug": _nlpaug()}
    part = text[:SHORT]
    times: dict[str, list[float]] = {name: [] for name in ("ours", "arrays", *peers)}
    for number in range(REPEATS):
        times["ours"].append(_timed(ours, number) / len(text))
        times["arrays"].append(_timed(arrays, number) / len(text))
        for name, peer in peers.items():
            times[name].append(_timed(peer, part) / len(part))
    speed = {name: 1 / statistics.median(found) for name, found in times.items()}
    unit = "characters/s"
    found = [
        Row(f"noise/{name}", speed["ours"], unit, f"{speed[name]:.3g} {unit}", speed["ours"] / speed[name])
        for name in peers
    ]
    compiled = f"compiled {speed['ours']:.3g} {unit}"
    return [*found, Row("noise/arrays", speed["arrays"], unit, compiled, speed["arrays"] / speed["ours"])]


def _text() -> str:
    """Real text: the first characters of the corpus that the pipeline ingested."""
    corpus = Path("data/corpus")
    if not corpus.is_dir():
        sys.exit("this benchmark reads data/corpus; run `cclm run --target ingest` first.")
    parts, size = [], 0
    for record in read_records(corpus, "train"):
        parts.append(record.text)
        size += len(record.text) + 1
        if size >= LONG:
            break
    return "\n".join(parts)


def _timed(call: Callable[[Any], object], argument: object) -> float:
    start = time.perf_counter()
    call(argument)
    return time.perf_counter() - start


def _textnoisr() -> Callable[[str], object]:
    try:
        from textnoisr.noise import CharNoiseAugmenter
    except ImportError as error:
        sys.exit(f"this benchmark needs its peers ({error}); install them: pip install -e '.[bench]'")
    augmenter = CharNoiseAugmenter(noise_level=RATE, seed=1)
    noise: Callable[[str], object] = augmenter.add_noise
    return noise


def _nlpaug() -> Callable[[str], object]:
    try:
        import nlpaug.augmenter.char as nac
    except ImportError as error:
        sys.exit(f"this benchmark needs its peers ({error}); install them: pip install -e '.[bench]'")
    augmenter = nac.RandomCharAug(
        aug_char_p=RATE, aug_word_p=1.0, aug_char_min=0, aug_word_min=0, aug_char_max=None, aug_word_max=None
    )
    noise: Callable[[str], object] = augmenter.augment
    return noise


if __name__ == "__main__":
    show("Noise at 5 %, with edit maps", rows())
