"""Compares the correction of natural misspellings by a denoising component and by a dictionary with edit distances.

    python benchmarks/correcting.py [--steps 8000] [--seeds 1] [--json]

The misspellings are lines of public projects that people corrected (../shared/data/typos). Their commits are split into
two halves. One half was used for tuning: here the settings of the dictionary, and once the weights of the library's
corrector. The figures are from the other half.

A component is trained on `denoise` with the training loop of the library, on one thread. It reads English prose and
public lists of misspellings, without the misspellings of both halves. Both sides know the words of the same prose.

- `train`: processor seconds of the training.
- `precision`: share of the edits that the person made too. An edit replaces, inserts or deletes a token.
- `recall`: share of the person's edits that were made.
- `F0.5`: weighs precision twice as much as recall.
- `introduced`: edits in places that the person did not change.

The peer of every row is the dictionary. It proposes the nearest known words by restricted Damerau-Levenshtein distance,
most frequent first.

Source: Damerau 1964, "A technique for computer detection and correction of spelling errors"; Norvig 2007, "How to Write
a Spelling Corrector".
"""

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
from typing import Literal, NamedTuple

import torch
from correcting_texts import Correction, corrections, misspellings, prose, word_lines
from rapidfuzz.distance import OSA
from rows import Row, options, seed_list, show

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
from cclm_core.runtime.random import seeded_initialization
from cclm_core.runtime.reporting import format_number, null_report
from cclm_core.text.vocabulary import Preprocessor, TargetsConfig, VocabularyConfig
from cclm_core.text.word_targets import WordTargets
from cclm_core.training.checkpoint import Checkpoints
from cclm_core.training.config import TrainingConfig
from cclm_core.training.loop import open_data, train
from cclm_core.training.module import TrainingModule

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"
TOKEN = re.compile(r"\w+(?:['\u2019]\w+)*|\s+|[^\w\s]")
# The dictionary corrects words, not names in code and paths.
PLAIN = re.compile(r"(?<![\w`/.\\@#-])[A-Za-z][a-z]+(?:['\u2019][a-z]+)?(?![\w`/\\@]|\.\w|-)")
WINDOW = 256
WORD_REPEATS = 15  # how often each listed word is read, so that rare words are learned

EMBEDDING = EmbeddingConfig(width=128, ngram_sizes=(2, 3, 4, 5), ngram_buckets=8192)
ENCODER = HourglassConfig(stride="word", width=448, kernel_size=9, num_layers=1, core_width=256)
BASE = HourglassConfig(core_width=16, num_layers=1, num_heads=1, width=8)  # not used by the independent component
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


class Score(NamedTuple):
    """Counts of the edits of a corrector.

    Args:
        right: edits that the person made too.
        wrong: edits that the person did not make.
        introduced: wrong edits in places that the person did not change.
        expected: edits of the person.
    """

    right: int
    wrong: int
    introduced: int
    expected: int

    @property
    def precision(self) -> float:
        """Share of the edits that are right."""
        return self.right / max(1, self.right + self.wrong)

    @property
    def recall(self) -> float:
        """Share of the expected edits that were made."""
        return self.right / max(1, self.expected)

    @property
    def f(self) -> float:
        """F0.5 of precision and recall."""
        return 1.25 * self.precision * self.recall / max(1e-9, 0.25 * self.precision + self.recall)


def edits(before: str, after: str) -> set[tuple[int, int, str]]:
    """Returns the edits between two texts: first token, last token (exclusive), replacement."""
    first, second = TOKEN.findall(before), TOKEN.findall(after)
    codes = SequenceMatcher(None, first, second, autojunk=False).get_opcodes()
    return {(a, b, "".join(second[c:d])) for tag, a, b, c, d in codes if tag != "equal"}


def measure(pairs: Sequence[Correction], correct: Callable[[str], str]) -> Score:
    """Counts the edits of a corrector on lines with known corrections."""
    right = wrong = introduced = expected = 0
    for pair in pairs:
        by_person, by_corrector = edits(*pair), edits(pair.wrong, correct(pair.wrong))
        wrong_edits = by_corrector - by_person
        right += len(by_corrector & by_person)
        wrong += len(wrong_edits)
        expected += len(by_person)
        # An insertion covers no token, so it counts as touching the next one.
        spans = [(start, max(end, start + 1)) for start, end, _ in by_person]
        introduced += sum(
            not any(start < b and a < max(end, start + 1) for a, b in spans) for start, end, _ in wrong_edits
        )
    return Score(right, wrong, introduced, expected)


class Dictionary:
    """Replaces each unknown word with the most frequent of the nearest known words.

    Args:
        counts: known word in lower case → frequency.
    """

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        self.index = defaultdict(list)
        for word in counts:
            if 2 < len(word) < 30:
                for shorter in self._shorter(word):
                    self.index[shorter].append(word)
        self.near = cache(self._near)

    def correct(self, text: str, max_distance: int, min_length: int, min_count: int) -> str:
        """Returns the corrected text.

        Args:
            text: the text.
            max_distance: maximum number of edits of a word; 1 for words of fewer than 6 letters.
            min_length: letters of the shortest word to correct.
            min_count: minimum frequency of a replacement.
        """

        def replace(match: re.Match[str]) -> str:
            """Returns the correction of a word."""
            word = match[0].lower()
            if len(word) < min_length or word in self.counts:
                return match[0]
            limit = max_distance if len(word) >= 6 else 1
            best = min(((d, -n, w) for d, n, w in self.near(word) if d <= limit and n >= min_count), default=None)
            return match[0] if best is None else best[2].capitalize() if match[0][0].isupper() else best[2]

        return PLAIN.sub(replace, text)

    def _near(self, word: str) -> list[tuple[int, int, str]]:
        """Returns distance, frequency and spelling of the known words within two edits."""
        candidates = {candidate for shorter in self._shorter(word) for candidate in self.index.get(shorter, ())}
        return [(d, self.counts[c], c) for c in candidates if (d := OSA.distance(word, c, score_cutoff=2)) <= 2]

    @staticmethod
    def _shorter(word: str) -> set[str]:
        """Returns the first 12 letters of a word without up to two of them."""
        once = {word[:12], *(word[:index] + word[index + 1 : 12] for index in range(min(12, len(word))))}
        return once | {prefix[:index] + prefix[index + 1 :] for prefix in once for index in range(len(prefix))}


def train_corrector(lines: list[str], spellings: Spellings, words: WordTargets, steps: int, seed: int) -> Corrector:
    """Trains a corrector on lines of text."""
    with tempfile.TemporaryDirectory() as folder:
        preprocessor = Preprocessor(VocabularyConfig(min_count=50)).fit(lines)
        encoded = Path(folder) / "encoded"
        encoded.mkdir()
        with EncodedWriter(encoded, preprocessor, ()) as writer:
            records = (
                Record(str(number), text, split="validation" if number % 100 == 0 else "train")
                for number, text in enumerate(lines)
            )
            for _ in writer.write(records):
                pass
        with seeded_initialization(seed):
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
        data = open_data(EncodedCorpus.open(encoded), config)
        train(module, data, config, seed, Checkpoints(Path(folder) / "checkpoints", "correcting"), null_report)
    return Corrector(base, component.eval(), objective, WINDOW, KnownWords.of(words))


def correct(corrector: Corrector, min_confidence: float, text: str) -> str:
    """Returns the text as corrected with a minimum confidence, 0 to 1."""
    return corrector.correct(text, min_confidence=min_confidence).text


def rows(name: str, scores: Sequence[Score], peer: Score | None) -> list[Row]:
    """Returns the figures of a corrector: medians over its seeds, compared with the peer."""
    result = []
    for figure in ("precision", "recall", "f", "right", "wrong", "introduced"):
        values = [float(getattr(score, figure)) for score in scores]
        value, is_count = statistics.median(values), figure in ("right", "wrong", "introduced")
        facts, ratio = [], None
        if peer is not None:
            peer_value = float(getattr(peer, figure))
            facts.append(f"dictionary: {format_number(peer_value)}")
            ratio = value / peer_value if peer_value else None
        if figure == "right":
            facts.append(f"of {scores[0].expected} expected")
        if len(values) > 1:
            facts.append("seeds " + " ".join(f"{value:.3g}" for value in values))
        better: Literal["higher", "lower"] = "lower" if figure in ("wrong", "introduced") else "higher"
        label = f"{name}/{'F0.5' if figure == 'f' else figure}"
        result.append(Row(label, value, "edits" if is_count else "", "; ".join(facts), ratio, better))
    return result


def main(steps: int, seeds: Sequence[int], as_json: bool) -> None:
    """Runs the benchmark and prints its rows."""
    if not (DATA / "typos").is_dir():
        sys.exit(f"texts not found in {DATA.resolve()}. Put them there to run this benchmark.")
    torch.set_num_threads(1)
    tuning, testing = corrections(DATA)
    spellings = misspellings(DATA, [*tuning, *testing])
    texts = prose(DATA, [*tuning, *testing], seed=1)
    config, known_texts = TargetsConfig(max_targets=200_000, min_count=1), [*texts, *word_lines(spellings, 1, seed=1)]
    words = WordTargets.fit(known_texts, config, Preprocessor()).with_counts(known_texts)
    lines = [*texts, *word_lines(spellings, WORD_REPEATS, seed=2)]
    random.Random(3).shuffle(lines)
    counts: Counter[str] = Counter()
    for word, count in zip(words.names[1:], words.counts[1:].tolist(), strict=True):
        counts[word.lower()] += count
    dictionary = Dictionary(counts)
    settings = max(
        product((1, 2), (4, 5, 6, 7, 8), (1, 5, 20)),
        key=lambda candidate: measure(tuning, lambda text: dictionary.correct(text, *candidate)).f,
    )
    peer = measure(testing, lambda text: dictionary.correct(text, *settings))
    with_words, without_words, seconds = [], [], []
    for seed in seeds:
        start = time.process_time()
        corrector = train_corrector(lines, spellings, words, steps, seed)
        seconds.append(time.process_time() - start)
        with_words.append(measure(testing, partial(correct, corrector, 0.5)))
        corrector.words = None
        without_words.append(measure(testing, partial(correct, corrector, 0.9)))
    facts = f"{format_number(sum(map(len, lines)))} characters, {format_number(len(counts))} words, {steps} steps"
    show(
        "Natural misspellings",
        [
            Row("train", statistics.median(seconds), "processor seconds", facts),
            *rows("dictionary", [peer], None),
            *rows("denoise", with_words, peer),
            *rows("denoise without words", without_words, peer),
        ],
        as_json,
    )


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=8000, help="training steps (default: 8000)")
    parser.add_argument("--seeds", type=seed_list, default="1", help="seeds, separated by commas (default: 1)")
    args = parser.parse_args()
    main(args.steps, args.seeds, args.json)
