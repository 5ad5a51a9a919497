"""Compares the correction of natural misspellings by a denoising component, a dictionary and three libraries.

    python benchmarks/correcting.py [--steps 8000] [--seeds 1] [--peers-only] [--json]

Two sets are measured:

- `edits`: lines of public projects that people corrected (../shared/data/typos). Their commits are split into two
  halves. One half was used for tuning: here the settings of the peers, and once the weights of the library's corrector.
  The figures are from the other half.
- `lists`: single words from public lists of misspellings that were not read in training, and the correct words, with
  the settings of `edits`.

A component is trained on `denoise` with the training loop of the library, on one thread. It reads English prose and
public lists of misspellings, without the misspellings of both halves. All sides know the words of the same prose.

- `train`: processor seconds of the training.
- `precision`: share of the edits that the person made too. An edit replaces, inserts or deletes a token.
- `recall`: share of the person's edits that were made.
- `F0.5`: weighs precision twice as much as recall.
- `introduced`: edits in places that the person did not change.
- `F0.5 minus PEER`: the difference, mean over seeds, with a 95 % interval from a bootstrap over lines.

The ratio compares with the dictionary. It proposes the nearest known words by restricted Damerau-Levenshtein distance,
most frequent first. The libraries are symspellpy, pyspellchecker and autocorrect; see correcting_peers.py.

Source: Damerau 1964, "A technique for computer detection and correction of spelling errors"; Norvig 2007, "How to Write
a Spelling Corrector".
"""

import random
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from correcting_peers import Dictionary, Library, Peer, libraries
from correcting_score import Score, difference, line_scores, total
from correcting_texts import Correction, corrections, listed, misspellings, prose, word_lines
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
WINDOW = 256
NUM_LISTED = 500  # misspellings from the lists
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


def rows(name: str, seeds: Sequence[Sequence[Score]], peers: Mapping[str, Sequence[Score]]) -> list[Row]:
    """Returns the figures of a corrector: medians over its seeds, compared with each peer.

    Args:
        name: name of the rows.
        seeds: for each seed, the scores of the lines.
        peers: name of a peer → the scores of the lines.
    """
    result, scores = [], [total(lines) for lines in seeds]
    totals = {peer: total(lines) for peer, lines in peers.items()}
    for figure in ("precision", "recall", "f", "right", "wrong", "introduced"):
        values = [float(getattr(score, figure)) for score in scores]
        value, is_count = statistics.median(values), figure in ("right", "wrong", "introduced")
        facts = [f"{peer}: {format_number(float(getattr(score, figure)))}" for peer, score in totals.items()]
        ratio = None
        if "dictionary" in totals:
            peer_value = float(getattr(totals["dictionary"], figure))
            ratio = value / peer_value if peer_value else None
        if figure == "right":
            facts.append(f"of {scores[0].expected} expected")
        if len(values) > 1:
            facts.append("seeds " + " ".join(f"{value:.3g}" for value in values))
        better: Literal["higher", "lower"] = "lower" if figure in ("wrong", "introduced") else "higher"
        label = f"{name}/{'F0.5' if figure == 'f' else figure}"
        result.append(Row(label, value, "edits" if is_count else "", "; ".join(facts), ratio, better))
    for peer, lines in peers.items():
        gain, low, high = difference(seeds, lines)
        facts_of_gain = f"95 % interval {low:+.3f} to {high:+.3f}"
        result.append(Row(f"{name}/F0.5 minus {peer}", gain, "", facts_of_gain, better="higher"))
    return result


def peer_rows(
    peers: Sequence[Peer], tuning: Sequence[Correction], sets: Mapping[str, Sequence[Correction]]
) -> tuple[list[Row], dict[str, dict[str, list[Score]]]]:
    """Selects the settings of the peers on the tuning half and measures them.

    Returns:
        The rows, and the scores of the lines: set → peer → scores.
    """
    table: list[Row] = []
    scores: dict[str, dict[str, list[Score]]] = {name: {} for name in sets}
    cases: list[tuple[str, Peer, dict[str, Any]]] = [(peer.name, peer, {}) for peer in peers]
    cases += [(f"{peer.name} as shipped", peer, {"known": "own"}) for peer in peers if isinstance(peer, Library)]
    for label, peer, fixed in cases:
        start = time.process_time()
        settings = peer.select(tuning, **fixed)
        for name, pairs in sets.items():
            scores[name][label] = line_scores(pairs, partial(peer.correct, **settings))
            table += rows(f"{name}, {label}", [scores[name][label]], {})
        facts = ", ".join(f"{key} {value}" for key, value in settings.items())
        seconds = time.process_time() - start
        table.append(Row(f"{label}/tuning and measuring", seconds, "processor seconds", facts))
    return table, scores


def main(steps: int, seeds: Sequence[int], peers_only: bool, as_json: bool) -> None:
    """Runs the benchmark and prints its rows."""
    if not (DATA / "typos").is_dir():
        sys.exit(f"texts not found in {DATA.resolve()}. Put them there to run this benchmark.")
    torch.set_num_threads(1)
    tuning, testing = corrections(DATA)
    spellings = misspellings(DATA, [*tuning, *testing])
    texts = prose(DATA, [*tuning, *testing], seed=1)
    config, known_texts = TargetsConfig(max_targets=200_000, min_count=1), [*texts, *word_lines(spellings, 1, seed=1)]
    words = WordTargets.fit(known_texts, config, Preprocessor()).with_counts(known_texts)
    counts: Counter[str] = Counter()
    for word, count in zip(words.names[1:], words.counts[1:].tolist(), strict=True):
        counts[word.lower()] += count
    sets = {"edits": testing, "lists": listed(DATA, spellings, NUM_LISTED, seed=1)}
    table, peers = peer_rows([Dictionary(counts), *libraries(counts)], tuning, sets)
    if not peers_only:
        lines = [*texts, *word_lines(spellings, WORD_REPEATS, seed=2)]
        random.Random(3).shuffle(lines)
        seconds = []
        scores: dict[str, list[list[Score]]] = defaultdict(list)
        for seed in seeds:
            start = time.process_time()
            corrector = train_corrector(lines, spellings, words, steps, seed)
            seconds.append(time.process_time() - start)
            for label, known, confidence in (("denoise", corrector.words, 0.5), ("denoise without words", None, 0.9)):
                corrector.words = known
                for name, pairs in sets.items():
                    scores[f"{name}, {label}"].append(line_scores(pairs, partial(correct, corrector, confidence)))
        for label, values in scores.items():
            table += rows(label, values, peers[label.split(",")[0]])
        facts = f"{format_number(sum(map(len, lines)))} characters, {format_number(len(counts))} words, {steps} steps"
        table.append(Row("train", statistics.median(seconds), "processor seconds", facts))
    show("Natural misspellings", table, as_json)


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=8000, help="training steps (default: 8000)")
    parser.add_argument("--seeds", type=seed_list, default="1", help="seeds, separated by commas (default: 1)")
    parser.add_argument("--peers-only", action="store_true", help="measure the peers, train nothing")
    args = parser.parse_args()
    main(args.steps, args.seeds, args.peers_only, args.json)
