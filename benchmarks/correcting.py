"""How many natural misspellings a denoising component mends, beside a dictionary with edit distances.

    python benchmarks/correcting.py [--steps 8000] [--seeds 1] [--json]

The mistakes are lines of public projects that somebody mended, found beside this project or skipped by name. Their
commits are split in two: on one half the settings of the dictionary were chosen here, and the weights of the library's
corrector once; the figures are of the other half. A component learns `denoise` from English prose and public lists of
misspellings, less those in the mistakes, by the training loop of the library, on one thread; the row `train` says how
many processor seconds that took. Both sides know the words of the same prose.

An edit is a token that is replaced, put or taken out. `precision`: of the edits made, those that the person made too.
`recall`: of the person's. F0.5 weighs precision twice. `introduced`: edits where the person changed nothing, of text
that is not misspelt as far as anybody noticed. The ratio of a row is against the dictionary's.

Source: the dictionary proposes the nearest known words by Damerau and Levenshtein's distance with neighbours swapped
(Damerau 1964), the most frequent first, as in Norvig's "How to Write a Spelling Corrector" (2007).
"""

import argparse
import random
import re
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from correcting_texts import Mended, listed, mended, misspellings, prose
from rapidfuzz.distance import OSA
from rows import Row, show

from cclm_core.applications import Corrector, KnownWords
from cclm_core.composition import Component, ComponentCard, OverBase
from cclm_core.corpus.encoded import EncodedCorpus, EncodedWriter
from cclm_core.corpus.records import Record
from cclm_core.encoders import EmbeddingConfig, HourglassConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.noise.misspellings import Spellings
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.objectives.base import ObjectiveContext
from cclm_core.objectives.denoise import DenoiseConfig
from cclm_core.runtime.random import seeded_initialisation
from cclm_core.runtime.reporting import silent
from cclm_core.text.vocabulary import Preprocessor, TargetsConfig, VocabularyConfig
from cclm_core.text.word_targets import WordTargets
from cclm_core.training.checkpoint import Checkpoints
from cclm_core.training.config import TrainingConfig
from cclm_core.training.loop import open_data, train
from cclm_core.training.module import TrainingModule

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"
TOKEN = re.compile(r"\w+(?:['\u2019]\w+)*|\s+|[^\w\s]")
# The dictionary looks at words in lower case, not at names in code and paths.
PLAIN = re.compile(r"(?<![\w`/.\\@#-])[A-Za-z][a-z]+(?:['\u2019][a-z]+)?(?![\w`/\\@]|\.\w|-)")
WINDOW = 256
LISTED = 15  # times that each word of the lists is read, so that rare ones are learnt; they count once as known

EMBEDDING = EmbeddingConfig(width=128, ngram_sizes=(2, 3, 4, 5), ngram_buckets=8192)
ENCODER = HourglassConfig(stride="word", width=448, kernel_size=9, num_layers=1, core_width=256)
BASE = HourglassConfig(core_width=16, num_layers=1, num_heads=1, width=8)  # the component is independent of it
KINDS = {
    "misspelling": 5.0,
    "drop": 3.0,
    "duplicate": 1.0,
    "phonetic": 1.0,
    "swap": 0.8,
    "keyboard": 0.7,
    "insert": 0.6,
    "missing_space": 0.1,
    "extra_space": 0.05,
}
TASK = DenoiseConfig(noise=NoiseRecipe(rate=0.3, unit="word", kinds=KINDS, min_word_length=4))


class Found(NamedTuple):
    """Edits that a person and a corrector made, that the corrector alone made, and where the person made none."""

    right: int
    wrong: int
    introduced: int
    wanted: int

    @property
    def precision(self) -> float:
        return self.right / max(1, self.right + self.wrong)

    @property
    def recall(self) -> float:
        return self.right / max(1, self.wanted)

    @property
    def f(self) -> float:
        """F0.5."""
        return 1.25 * self.precision * self.recall / max(1e-9, 0.25 * self.precision + self.recall)


def edits(before: str, after: str) -> set[tuple[int, int, str]]:
    """Which tokens became what."""
    first, second = TOKEN.findall(before), TOKEN.findall(after)
    codes = SequenceMatcher(None, first, second, autojunk=False).get_opcodes()
    return {(a, b, "".join(second[c:d])) for tag, a, b, c, d in codes if tag != "equal"}


def measure(pairs: Sequence[Mended], correct: Callable[[str], str]) -> Found:
    """Counts the edits of a corrector."""
    right = wrong = introduced = wanted = 0
    for pair in pairs:
        person, ours = edits(*pair), edits(pair.wrong, correct(pair.wrong))
        right, wrong, wanted = right + len(ours & person), wrong + len(ours - person), wanted + len(person)
        # An insertion, which covers no token, touches what stands behind it.
        spans = [(start, max(end, start + 1)) for start, end, _ in person]
        introduced += sum(
            not any(start < b and a < max(end, start + 1) for a, b in spans) for start, end, _ in ours - person
        )
    return Found(right, wrong, introduced, wanted)


class Dictionary:
    """The most frequent of the nearest known words, for each word that is not known."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        self.index = defaultdict(list)
        for word in counts:
            if 2 < len(word) < 30:
                for shorter in self._shorter(word):
                    self.index[shorter].append(word)
        self.near = cache(self._near)

    def correct(self, text: str, reach: int, min_length: int, min_count: int) -> str:
        """Mends words of `min_length` letters or more, in `reach` edits at most, by words read `min_count` times."""

        def mend(match: re.Match[str]) -> str:
            word = match[0].lower()
            if len(word) < min_length or word in self.counts:
                return match[0]
            most = reach if len(word) >= 6 else 1
            best = min(((d, -n, w) for d, n, w in self.near(word) if d <= most and n >= min_count), default=None)
            return match[0] if best is None else best[2].capitalize() if match[0][0].isupper() else best[2]

        return PLAIN.sub(mend, text)

    def _near(self, word: str) -> list[tuple[int, int, str]]:
        found = {other for shorter in self._shorter(word) for other in self.index.get(shorter, ())}
        return [(d, self.counts[o], o) for o in found if (d := OSA.distance(word, o, score_cutoff=2)) <= 2]

    @staticmethod
    def _shorter(word: str) -> set[str]:
        """The beginning of a word without up to two of its letters."""
        once = {word[:12], *(word[:index] + word[index + 1 : 12] for index in range(min(12, len(word))))}
        return once | {one[:index] + one[index + 1 :] for one in once for index in range(len(one))}


def trained(lines: list[str], spellings: Spellings, words: WordTargets, steps: int, seed: int) -> Corrector:
    """A corrector that learnt from these lines."""
    with tempfile.TemporaryDirectory() as folder:
        preprocessor = Preprocessor(VocabularyConfig(min_count=50)).fit(lines)
        place = Path(folder) / "encoded"
        place.mkdir()
        with EncodedWriter(place, preprocessor, ()) as writer:
            splits = ("validation" if number % 100 == 0 else "train" for number in range(len(lines)))
            records = (Record(str(n), text, split=split) for n, (text, split) in enumerate(zip(lines, splits)))  # noqa: B905
            for _ in writer.write(records):
                pass
        with seeded_initialisation(seed):
            base = Embedder(preprocessor, EmbedderConfig(embedding=EMBEDDING, encoder=BASE))
            component = Component(ComponentCard.over(base, "denoise", "denoise", ENCODER, independent=True))
            context = ObjectiveContext(
                width=component.width, preprocessor=preprocessor, misspellings=spellings, words=words
            )
            objective = TASK.build(context)
        config = TrainingConfig(
            steps=steps,
            batch_size=8,
            window=WINDOW,
            learning_rate=2e-3,
            evaluate_every=steps,
            evaluation_windows=64,
            checkpoint_every=steps,
        )
        module = TrainingModule(OverBase(base, component), [(objective, 1.0)])
        data = open_data(EncodedCorpus.open(place), config)
        train(module, data, config, seed, Checkpoints(Path(folder) / "checkpoints", "correcting"), silent)
    return Corrector(base, component.eval(), objective, WINDOW, KnownWords.of(words))


def mend(corrector: Corrector, min_confidence: float, text: str) -> str:
    """The text as a corrector mends it."""
    return corrector.correct(text, min_confidence=min_confidence).text


def rows(name: str, found: Sequence[Found], peer: Found | None) -> list[Row]:
    """The figures of a corrector, medians over its seeds."""
    made = []
    for figure in ("precision", "recall", "f", "right", "wrong", "introduced"):
        values = [float(getattr(one, figure)) for one in found]
        unit = "edits" if figure in ("right", "wrong", "introduced") else ""
        about = (
            f"of {found[0].wanted}"
            if figure == "right"
            else " ".join(f"{value:.3g}" for value in values[1:] and values)
        )
        against = (
            None if peer is None or not getattr(peer, figure) else statistics.median(values) / getattr(peer, figure)
        )
        made.append(
            Row(f"{name}/{'F0.5' if figure == 'f' else figure}", statistics.median(values), unit, about, against)
        )
    return made


def main(steps: int, seeds: Sequence[int]) -> None:
    """Prints the rows."""
    if not (DATA / "typos").is_dir():
        sys.exit(f"The texts of this benchmark must stand in {DATA}; skipped.")
    torch.set_num_threads(1)
    chosen_on, measured_on = mended(DATA)
    spellings = misspellings(DATA, [*chosen_on, *measured_on])
    read = prose(DATA, [*chosen_on, *measured_on], seed=1)
    config, once = TargetsConfig(max_targets=200_000, min_count=1), [*read, *listed(spellings, 1, seed=1)]
    words = WordTargets.fit(once, config, Preprocessor()).counted(once)
    lines = [*read, *listed(spellings, LISTED, seed=2)]
    random.Random(3).shuffle(lines)
    counts: Counter[str] = Counter()
    for word, count in zip(words.names[1:], words.counts[1:].tolist(), strict=True):
        counts[word.lower()] += count
    dictionary = Dictionary(counts)
    settings = max(
        product((1, 2), (4, 5, 6, 7, 8), (1, 5, 20)),
        key=lambda one: measure(chosen_on, lambda text: dictionary.correct(text, *one)).f,
    )
    peer = measure(measured_on, lambda text: dictionary.correct(text, *settings))
    found, seconds, tried = [], [], []
    for seed in seeds:
        began = time.process_time()
        corrector = trained(lines, spellings, words, steps, seed)
        seconds.append(time.process_time() - began)
        found.append(measure(measured_on, partial(mend, corrector, 0.5)))
        corrector.words = None
        tried.append(measure(measured_on, partial(mend, corrector, 0.9)))
    about = f"{sum(map(len, lines)) / 1e6:.1f} M characters, {len(counts):,} words, {steps} steps"
    show(
        "Natural misspellings",
        [
            Row("train", statistics.median(seconds), "processor s", about),
            *rows("dictionary", [peer], None),
            *rows("denoise", found, peer),
            *rows("denoise without words", tried, peer),
        ],
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--seeds", default="1", help="joined by commas")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    given = parser.parse_args()
    main(given.steps, [int(seed) for seed in given.seeds.split(",")])
