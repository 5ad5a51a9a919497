"""Does fusing pay? Compares the ensemble that the product would build with every other use of the same parts.

    python benchmarks/fusing.py SCORES [--sets "TREC;SST-2"] [--parts "network;ngrams;minilm"] [--json]

SCORES is the folder `scores` that tasks.py (network and n-grams) and task_peers.py (sentence encoders) fill; nothing is
trained here but weights. Sets and seeds with the scores of all parts are measured. The ways to answer:

```
composition     parts and weights that `cclm_core.finetuning.choosing` selects on the validation texts
lowest loss     the candidate with the lowest loss on the validation texts, however complex
equal           the sum of all parts
by text         all parts, with weights that depend on how usual the text looks
NAME            one part alone
best part       the part with the best validation, clean and noised; it may differ from set to set
fixed part      the part with the best mean over all sets
seeds of NAME   the sum of the same part over all of its seeds, instead of different parts; needs two seeds
```

A way has the same parameters at all noise rates, since nobody knows the noise of a text beforehand. A set without
validation texts (few examples per class) gets the mean of the weights by text that the other sets have; its best part
is chosen on the test texts, which favors the part.

The rows of a set compare the composition with each other way, by accuracy or F1 of spans: 95 % intervals of the paired
bootstrap over the test texts, outcomes averaged over the seeds. The last rows are means over all sets: the standard
error is that of the paired differences, and a claim needs two of them.
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from rows import Row, options, show
from task_data import TaskSet, task_sets
from task_report import ENCODERS, RATES
from tasks import scored_texts, test_copies

from cclm_core.evaluation.candidates import Choice
from cclm_core.evaluation.fusing import KINDS, Rows, Weights, fit, fuse
from cclm_core.evaluation.metrics import Bootstrap, Measurement, ratio
from cclm_core.evaluation.selection import CLEAN
from cclm_core.finetuning.any_model import Texts
from cclm_core.finetuning.choosing import choose
from cclm_core.finetuning.entities import entity_answers
from cclm_core.finetuning.familiarity import Familiarity
from cclm_core.finetuning.measures import HEADLINES, measure
from cclm_core.finetuning.validation import Validation
from cclm_core.finetuning.words import tagged_units
from cclm_core.labeled.examples import LabeledTask, LabeledText

Floats = npt.NDArray[np.float64]
LOWEST = -30.0  # of log-probabilities, in nats
COMPOSITION, BEST, FIXED = "composition", "best part", "fixed part"


class Scored(NamedTuple):
    """The scores of P parts on the texts of one set and seed, at each noise rate.

    Args:
        name: name of the set.
        seed: the seed.
        task: `classify` or `tag`.
        labels: the labels.
        examples: split -> noise rate -> the texts.
        scores: split -> noise rate -> (P, R, K) log-probabilities of labels, or of the tags of all words.
        familiarity: estimates how usual a text looks.
    """

    name: str
    seed: int
    task: LabeledTask
    labels: tuple[str, ...]
    examples: dict[str, dict[str, list[LabeledText]]]
    scores: dict[str, dict[str, Floats]]
    familiarity: Familiarity

    def texts(self, split: str, rate: str) -> Texts:
        """The texts as the parts read them."""
        examples = self.examples[split][rate]
        if self.task == "tag":
            return tagged_units(examples, "word", self.labels)[0]
        return Texts([example.text for example in examples])

    def gold(self, split: str, rate: str) -> npt.NDArray[np.int64]:
        """(R,) numbers of labels or tags; -1 for a label that training never saw."""
        examples = self.examples[split][rate]
        if self.task == "tag":
            return np.array(tagged_units(examples, "word", self.labels)[1], dtype=np.int64)
        numbers = {label: number for number, label in enumerate(self.labels)}
        return np.array([numbers.get(str(example.label), -1) for example in examples], dtype=np.int64)

    def measures(self, split: str, rate: str) -> Floats:
        """(N, 2) estimates of the noise of the texts."""
        return self.familiarity.measures([text.text for text in self.examples[split][rate]])

    def validation(self) -> Validation:
        """What the product chooses on: half of the weight on clean texts, half on noised copies."""
        copies = self.examples["validation"]
        golds = {rate: self.gold("validation", rate) for rate in copies}
        clean = next(iter(golds.values()))
        known = np.ones(len(copies["0"]), bool) if self.task == "tag" else clean >= 0
        number = int(known.sum())
        weights = [0.5, *[0.5 / (len(copies) - 1)] * (len(copies) - 1)]
        texts = {rate: self.texts("validation", rate) for rate in copies}
        owners = [position * len(known) + texts[rate].owners(self.task) for position, rate in enumerate(copies)]
        rows = Rows(
            np.concatenate([self.scores["validation"][rate] for rate in copies], axis=1),
            np.concatenate(list(golds.values())),
            np.concatenate(owners),
            np.concatenate([self.measures("validation", rate) for rate in copies]),
            np.repeat(weights, len(known)),
        ).of_texts(np.tile(known, len(copies)))
        names = {rate: CLEAN if rate == "0" else f"noise_{rate}" for rate in copies}
        kept = {
            names[rate]: [example for example, keep in zip(examples, known, strict=True) if keep]
            for rate, examples in copies.items()
        }
        own = {names[rate]: _selected(texts[rate], known) for rate in copies}
        assert len(rows.weights) == number * len(copies)
        return Validation(self.task, self.labels, 0.5, kept, own, rows)

    def measure(self, split: str, rate: str, joined: Floats) -> Measurement:
        """The main metric of joined scores (R, K): accuracy, or F1 of spans."""
        examples, texts = self.examples[split][rate], self.texts(split, rate)
        if self.task == "classify":
            correct = joined.argmax(axis=1) == self.gold(split, rate)
            return ratio(correct.astype(np.float64), np.ones(len(correct)))
        answers = entity_answers(texts.texts, texts.words, texts.by_text(joined), self.labels)
        return measure(self.task, examples, answers)[HEADLINES[self.task]]


def _selected(texts: Texts, kept: npt.NDArray[np.bool_]) -> Texts:
    """Some of the texts."""
    numbers = np.flatnonzero(kept)
    words = [texts.words[number] for number in numbers] if texts.words else []
    return Texts([texts.texts[number] for number in numbers], words=words)


class Way(NamedTuple):
    """Parts and their weights."""

    parts: tuple[int, ...]
    weights: Weights

    def join(self, scored: Scored, rate: str) -> Floats:
        """(R, K) joined scores of the test texts."""
        scores = scored.scores["test"][rate][list(self.parts)]
        weights = self.weights.of(scored.measures("test", rate))
        return fuse(scored.task, scores, weights[scored.texts("test", rate).owners(scored.task)])

    def measure(self, scored: Scored, rate: str) -> Measurement:
        """The main metric on the test texts."""
        return scored.measure("test", rate, self.join(scored, rate))


def single(part: int) -> Way:
    """One part alone."""
    return Way((part,), Weights.even(1))


def read_scores(folder: Path, parts: Sequence[str], names: Sequence[str]) -> list[Scored]:
    """The sets and seeds for which all parts have scores."""
    scored = []
    models = [path.stem.rsplit(", ", 2) for path in sorted(folder.glob("*.npz"))]
    for seed in sorted({int(number) for _, _, number in models}):
        for name, load in task_sets(seed):
            if names and name not in names:
                continue
            arrays: dict[str, Any] = {}
            for entry in models:
                if (entry[0], entry[2]) == (name, str(seed)):
                    arrays |= np.load(folder / f"{', '.join(entry)}.npz")
            if all(f"test 0, {part}" in arrays for part in parts):
                scored.append(_scored(load(), seed, arrays, parts))
                print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
    return scored


def _scored(task: TaskSet, seed: int, arrays: dict[str, Any], parts: Sequence[str]) -> Scored:
    examples: dict[str, dict[str, list[LabeledText]]] = defaultdict(dict)
    scores: dict[str, dict[str, Floats]] = defaultdict(dict)
    for key, texts in scored_texts(task, test_copies(task)).items():
        split, rate = key.split()
        examples[split][rate] = texts
        scores[split][rate] = np.maximum([arrays[f"{key}, {part}"] for part in parts], LOWEST).astype(np.float64)
    familiarity = Familiarity.fit([text.text for text in task.data.train])
    return Scored(task.name, seed, task.data.task, task.data.labels, dict(examples), dict(scores), familiarity)


def mean_weights(weights: Sequence[Weights]) -> Weights:
    """The mean of weights by text of other sets."""
    first = weights[0]
    values = {
        key: np.mean([getattr(entry, key) for entry in weights], axis=0).tolist()
        for key in ("bias", "slope", "mean", "deviation")
    }
    return Weights(kind=first.kind, **values)


def _mean_value(scored: Scored, way: Way, rates: Sequence[str]) -> float:
    return float(np.mean([way.measure(scored, rate).value for rate in rates]))


def ways_of(sets: Sequence[Scored], parts: Sequence[str]) -> dict[tuple[str, int], dict[str, Way]]:
    """(set, seed) -> the ways to answer, without the sums over seeds."""
    every, rates = tuple(range(len(parts))), [f"{rate:g}" for rate in RATES]
    result: dict[tuple[str, int], dict[str, Way]] = {}
    choices: dict[tuple[str, int], Choice] = {}
    by_text: dict[tuple[str, int], Weights] = {}
    judged: dict[tuple[str, int], list[float]] = {}
    for scored in sets:
        key = scored.name, scored.seed
        if "validation" in scored.examples:
            validation = scored.validation()
            choices[key] = choose(validation, KINDS, True, scored.seed)
            by_text[key] = fit(scored.task, "by_text", validation.rows)
            singles = {entry.parts[0]: entry.value for entry in choices[key].candidates if len(entry.parts) == 1}
            judged[key] = [singles[part] for part in every]
        else:
            judged[key] = [_mean_value(scored, single(part), rates) for part in every]
    fixed = int(np.argmax(np.mean(list(judged.values()), axis=0)))
    for scored in sets:
        key = scored.name, scored.seed
        foreign = [own for (name, _), own in by_text.items() if name.split(",")[0] != scored.name.split(",")[0]]
        ways = {part: single(number) for number, part in enumerate(parts)}
        ways |= {"equal": Way(every, Weights.even(len(parts)))}
        if key in choices:
            lowest = choices[key].candidates[0]
            ways["lowest loss"] = Way(lowest.parts, lowest.weights)
            ways[COMPOSITION] = Way(choices[key].chosen.parts, choices[key].chosen.weights)
            ways["by text"] = Way(every, by_text[key])
        elif foreign:
            ways[COMPOSITION] = ways["by text"] = Way(every, mean_weights(foreign))
        else:
            ways[COMPOSITION] = ways["equal"]
        ways |= {BEST: single(int(np.argmax(judged[key]))), FIXED: single(fixed)}
        result[key] = ways
    return result


class Outcomes:
    """The main metric by set, noise rate and way; the statistics of each test text averaged over seeds."""

    def __init__(self, sets: Sequence[Scored], parts: Sequence[str]) -> None:
        self._values: dict[tuple[str, str, str], list[Measurement]] = defaultdict(list)
        self.shown: dict[str, list[str]] = defaultdict(list)
        ways = ways_of(sets, parts)
        for scored in sets:
            own = ways[scored.name, scored.seed]
            way = own[COMPOSITION]
            self.shown[scored.name].append(f"{'+'.join(parts[part] for part in way.parts)} {way.weights.kind}")
            for rate in scored.scores["test"]:
                for name, entry in own.items():
                    self._values[scored.name, rate, name].append(entry.measure(scored, rate))
        for name in self.sets:
            seeds = [scored for scored in sets if scored.name == name]
            for number, part in enumerate(parts):
                # Of n-grams, all seeds are equal; of a sample, seeds differ in their training texts.
                if len(seeds) > 1 and part not in ("ngrams", *ENCODERS):
                    for rate in seeds[0].scores["test"]:
                        total = np.sum([scored.scores["test"][rate][number] for scored in seeds], axis=0)
                        self._values[name, rate, f"seeds of {part}"].append(seeds[0].measure("test", rate, total))

    @property
    def sets(self) -> list[str]:
        """Names of the sets."""
        return list(self.shown)

    def ways(self, name: str) -> list[str]:
        """The ways of a set."""
        return list(dict.fromkeys(way for key, _, way in self._values if key == name))

    def mean(self, name: str, rate: str, way: str) -> Measurement:
        """The main metric, with the statistics of each text averaged over the seeds."""
        values = self._values[name, rate, way]
        return replace(values[0], statistics=np.mean([value.statistics for value in values], axis=0))

    def gain(self, name: str, rate: str, way: str) -> tuple[float, float, float, float]:
        """How much better the composition is than another way: difference, low, high, standard error."""
        difference = self.mean(name, rate, COMPOSITION).loss_without(self.mean(name, rate, way))
        low, high = Bootstrap().interval(difference, 1) or (0.0, 0.0)
        return difference.value, low, high, (high - low) / (2 * 1.96)


def rows(outcomes: Outcomes) -> list[Row]:
    """A row per set, noise rate and way, and the means over the sets."""
    table = []
    for name in outcomes.sets:
        for rate in map("{:g}".format, RATES):
            for way in outcomes.ways(name):
                gain, low, high, _ = outcomes.gain(name, rate, way)
                text = f"composition {100 * gain:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
                if way == COMPOSITION:
                    text = "; ".join(outcomes.shown[name])
                value = 100 * outcomes.mean(name, rate, way).value
                table.append(Row(f"{name}, {float(rate):.0%} noise, {way}", value, "%", text, None, "higher"))
    for rate in map("{:g}".format, RATES):
        table += [_summary(outcomes, rate, way) for way in _all_ways(outcomes) if way != COMPOSITION]
    return table


def _all_ways(outcomes: Outcomes) -> list[str]:
    return list(dict.fromkeys(way for name in outcomes.sets for way in outcomes.ways(name)))


def _summary(outcomes: Outcomes, rate: str, way: str) -> Row:
    """The mean difference of the composition to a way, over the sets that have it."""
    names = [name for name in outcomes.sets if way in outcomes.ways(name)]
    gains = [outcomes.gain(name, rate, way) for name in names]
    mean = 100 * float(np.mean([gain[0] for gain in gains]))
    error = 100 * float(np.sqrt(np.sum([gain[3] ** 2 for gain in gains]))) / len(gains)
    worst = min(range(len(names)), key=lambda number: gains[number][0])
    ahead, behind = sum(gain[1] > 0 for gain in gains), sum(gain[2] < 0 for gain in gains)
    text = (
        f"standard error {error:.2f}; ahead on {ahead}, level on {len(names) - ahead - behind}, behind on {behind} of "
        f"{len(names)} sets; least {100 * gains[worst][0]:+.1f} ({names[worst]})"
    )
    return Row(
        f"mean of the sets, {float(rate):.0%} noise, composition minus {way}", mean, "points", text, None, "higher"
    )


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("scores", type=Path, help="folder of the log-probabilities")
    parser.add_argument("--sets", default="", help="names of sets, separated by `;` (default: all with scores)")
    parser.add_argument("--parts", default="network;ngrams;minilm", help="the parts, separated by `;`")
    args = parser.parse_args()
    torch.set_num_threads(1)
    part_names = args.parts.split(";")
    scored_sets = read_scores(args.scores, part_names, [name for name in args.sets.split(";") if name])
    if not scored_sets:
        sys.exit(f"{args.scores} has no set with the scores of {', '.join(part_names)}.")
    show("Does fusing pay?", rows(Outcomes(scored_sets, part_names)), args.json)
