"""Compares ways to add the log-probabilities of different models, on the labeled sets of benchmarks/tasks.py.

    python benchmarks/fusing.py SCORES [--sets "TREC;SST-2"] [--parts "network;ngrams;minilm"] [--json]

SCORES is the folder `scores` that tasks.py (network and n-grams) and task_peers.py (sentence encoders) fill; nothing is
trained here. Sets and seeds with the scores of all parts are measured. Each row is a way to combine the parts:

```
NAME         one part alone
equal        the sum of all
weights      the sum with one weight per part, fitted on the validation texts, clean and noised
by text      the same with weights that depend on the share of n-grams of the text that no training text has
transferred  as `by text`, but fitted on the validation texts of all other sets
```

A way has the same parameters at all noise rates, since nobody knows the noise of a text beforehand. A set without
validation texts (few examples per class) has no fitted weights; only `transferred` is for it. Each row is compared with
the best part and with each encoder: 95 % intervals of the paired bootstrap over the test texts, outcomes averaged over
the seeds. The best part is chosen on the validation texts of all rates; on the test texts if the set has no others,
which favors the part.
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from rows import Row, options, show
from task_data import TaskSet, task_sets
from task_report import ENCODERS, RATES
from tasks import scored_texts, test_copies

from cclm_core.evaluation.metrics import Bootstrap, Measurement, ratio

Floats = npt.NDArray[np.float64]
LOWEST = -30.0  # of log-probabilities, in nats
SIZES = (3, 4, 5)  # characters of the n-grams that a text may not know
PENALTY = 1e-3
STEP = 0.1  # share of unknown n-grams that changes a weight by its slope; about their standard deviation


class Texts(NamedTuple):
    """Scored texts of one split and noise rate.

    Args:
        scores: (P, N, K) log-probabilities of the parts.
        gold: (N,) label numbers; -1 for a label without training text.
        unknown: (N,) share of unknown n-grams.
    """

    scores: Floats
    gold: npt.NDArray[np.int64]
    unknown: Floats


class Scored(NamedTuple):
    """The scored texts of one set and seed.

    Args:
        name: name of the set.
        seed: the seed.
        test, validation: noise rate -> texts; no validation texts if the set has none.
    """

    name: str
    seed: int
    test: dict[str, Texts]
    validation: dict[str, Texts]

    @property
    def source(self) -> str:
        """Name of the data, without the number of examples."""
        return self.name.split(",")[0]


class Weights(NamedTuple):
    """Weights of parts.

    Args:
        level: (P,) logarithms of the weights of a text without unknown n-grams.
        slope: (P,) what they gain per 10 % of unknown n-grams.
    """

    level: Floats
    slope: Floats

    def predict(self, texts: Texts) -> npt.NDArray[np.int64]:
        """(N,) numbers of the most probable labels."""
        weights = np.exp(self.level[:, None] + self.slope[:, None] * texts.unknown / STEP)
        best: npt.NDArray[np.int64] = (weights[:, :, None] * texts.scores).sum(axis=0).argmax(axis=1)
        return best

    def __str__(self) -> str:
        """The weights of a text without unknown n-grams, and with 30 % of them."""
        clean, noisy = (np.exp(self.level + self.slope * share / STEP) for share in (0.0, 0.3))
        text = ":".join(f"{value:.2f}" for value in clean)
        return f"{text} to {':'.join(f'{value:.2f}' for value in noisy)}" if self.slope.any() else text


def ngrams_of(text: str) -> set[str]:
    """The n-grams inside the words of a text, with a space on both sides.

    >>> sorted(ngrams_of("Is it"))
    [' is', ' is ', ' it', ' it ', 'is ', 'it ']
    """
    words = [f" {word} " for word in text.lower().split()]
    return {word[at : at + size] for word in words for size in SIZES for at in range(len(word) - size + 1)}


def unknown_share(text: str, known: set[str]) -> float:
    """Share of the n-grams of a text that are not in `known`."""
    own = ngrams_of(text)
    return len(own - known) / max(1, len(own))


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
    known = set().union(*(ngrams_of(text.text) for text in task.data.train))
    numbers = {label: number for number, label in enumerate(task.data.labels)}
    splits: dict[str, dict[str, Texts]] = {"test": {}, "validation": {}}
    for key, texts in scored_texts(task, test_copies(task)).items():
        split, rate = key.split()
        splits[split][rate] = Texts(
            np.maximum([arrays[f"{key}, {part}"] for part in parts], LOWEST),
            np.array([numbers.get(str(text.label), -1) for text in texts]),
            np.array([unknown_share(text.text, known) for text in texts]),
        )
    return Scored(task.name, seed, splits["test"], splits["validation"])


def fit(groups: Sequence[Texts], by_text: bool) -> Weights:
    """Weights with the lowest mean log-loss; each group counts the same.

    Args:
        groups: texts of any number of sets and noise rates, with the same parts.
        by_text: whether weights depend on the share of unknown n-grams.
    """
    number = len(groups[0].scores)
    level = torch.zeros(number, dtype=torch.float64, requires_grad=True)
    slope = torch.zeros(number, dtype=torch.float64, requires_grad=by_text)
    trained = [level, slope] if by_text else [level]
    optimizer = torch.optim.LBFGS(trained, max_iter=100, line_search_fn="strong_wolfe")
    kept = []
    for group in groups:
        rows = group.gold >= 0
        arrays = group.scores[:, rows], group.gold[rows], group.unknown[rows]
        kept.append([torch.from_numpy(array) for array in arrays])

    def closure() -> Any:
        """The loss and its gradients."""
        optimizer.zero_grad()
        loss = PENALTY * (level.square().sum() + slope.square().sum())
        for scores, gold, unknown in kept:
            weights = torch.exp(level[:, None] + slope[:, None] * unknown / STEP)
            sums = (weights[:, :, None] * scores).sum(dim=0)
            loss = loss + torch.nn.functional.cross_entropy(sums, gold) / len(kept)
        loss.backward()
        return loss

    optimizer.step(closure)
    return Weights(level.detach().numpy(), slope.detach().numpy())


def accuracy(texts: Texts, predicted: npt.NDArray[np.int64]) -> float:
    """Share of the texts whose label is predicted."""
    return float((texts.gold == predicted).mean())


def ways(scored: Scored, others: Sequence[Scored], parts: Sequence[str]) -> tuple[dict[str, Weights], str]:
    """Name of each way -> its weights; and the best part.

    Args:
        scored: the set to measure.
        others: sets of other sources.
        parts: names of the parts.
    """
    zeros = np.zeros(len(parts))
    alone = {part: np.full(len(parts), -np.inf) for part in parts}  # the logarithm of the weight 0
    for row, part in enumerate(parts):
        alone[part][row] = 0
    single = {part: Weights(level, zeros) for part, level in alone.items()}
    result = single | {"equal": Weights(zeros, zeros)}
    own = list(scored.validation.values())
    foreign = [texts for other in others for texts in other.validation.values()]
    if own:
        result |= {"weights": fit(own, False), "by text": fit(own, True)}
    if foreign:
        result["transferred"] = fit(foreign, True)
    judged = own or list(scored.test.values())
    best = max(parts, key=lambda part: np.mean([accuracy(texts, single[part].predict(texts)) for texts in judged]))
    return result, best


def rows(sets: Sequence[Scored], parts: Sequence[str]) -> list[Row]:
    """A row per set, noise rate and way."""
    outcomes: dict[tuple[str, str, str], list[Floats]] = defaultdict(list)
    shown: dict[tuple[str, str], list[str]] = defaultdict(list)
    best_parts: dict[str, list[str]] = defaultdict(list)
    for scored in sets:
        others = [other for other in sets if other.source != scored.source]
        weights_of, best = ways(scored, others, parts)
        best_parts[scored.name].append(best)
        for way, weights in (weights_of | {"best part": weights_of[best]}).items():
            shown[scored.name, way].append(str(weights) if way in ("weights", "by text", "transferred") else "")
            for rate, texts in scored.test.items():
                outcomes[scored.name, way, rate].append((weights.predict(texts) == texts.gold).astype(np.float64))
    table = []
    for name in dict.fromkeys(scored.name for scored in sets):
        for rate in map("{:g}".format, RATES):
            means = {way: _mean(values) for (key, way, at), values in outcomes.items() if (key, at) == (name, rate)}
            for way, mean in means.items():
                if way != "best part":
                    opponents = {f"best part ({', '.join(dict.fromkeys(best_parts[name]))})": means["best part"]}
                    opponents |= {part: means[part] for part in ENCODERS if part in means and part != way}
                    facts = [_gain(mean, other, label) for label, other in opponents.items()]
                    seeds = len(best_parts[name])
                    facts.append("1 seed" if seeds == 1 else f"{seeds} seeds")
                    facts += [text for text in shown[name, way][:1] if text]
                    label = f"{name}, {float(rate):.0%} noise, {way}"
                    table.append(Row(label, 100 * mean.value, "%", "; ".join(facts), None, "higher"))
    return table


def _mean(values: Sequence[Floats]) -> Measurement:
    """Accuracy, with the outcome of each text averaged over the seeds."""
    mean = np.mean(values, axis=0)
    return ratio(mean, np.ones(len(mean)))


def _gain(mean: Measurement, other: Measurement, label: str) -> str:
    """The difference to another way, with its interval."""
    difference = mean.loss_without(other)
    low, high = Bootstrap().interval(difference, 1) or (0.0, 0.0)
    return f"{label} {100 * other.value:.1f}: {100 * difference.value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("scores", type=Path, help="folder of the log-probabilities")
    parser.add_argument("--sets", default="", help="names of sets, separated by `;` (default: all with scores)")
    parser.add_argument("--parts", default="network;ngrams;minilm", help="the parts, separated by `;`")
    args = parser.parse_args()
    torch.set_num_threads(1)
    chosen_parts = args.parts.split(";")
    scored_sets = read_scores(args.scores, chosen_parts, [name for name in args.sets.split(";") if name])
    if not scored_sets:
        sys.exit(f"{args.scores} has no set with the scores of {', '.join(chosen_parts)}.")
    show("Sums of log-probabilities", rows(scored_sets, chosen_parts), args.json)
