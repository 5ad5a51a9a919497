"""The report of benchmarks/tasks.py: our models next to every peer, from the statistics of each test text."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rows import Row

from cclm_core.evaluation.metrics import Bootstrap, Measurement
from cclm_core.finetuning.measures import measurement

RATES = (0.0, 0.05, 0.1, 0.2)
COUNTED = ("0", "0.1")
"""Noise rates at which the report counts the sets where our best model is ahead."""
SAME_TEXTS = ("ngrams", "fasttext", "spacy")
"""Peers that are trained on the texts of the set alone."""
ENCODERS = ("minilm", "wordllama")
"""Peers that were trained on many other texts before."""
CLASSES = {"peers trained on the same texts": SAME_TEXTS, "all peers": (*SAME_TEXTS, *ENCODERS)}

Result = dict[str, Any]


def read(results: Path) -> list[Result]:
    """The lines of the results."""
    return [json.loads(line) for line in results.read_text().splitlines()] if results.is_file() else []


def scores(row: Result) -> dict[str, float]:
    """Noise rate -> value of the main metric."""
    return {
        rate: measurement(row["metric"], np.array(statistics)).value for rate, statistics in row["statistics"].items()
    }


def line_of(row: Result) -> str:
    """A result in words."""
    values = " / ".join(f"{100 * value:.1f}" for value in scores(row).values())
    return f"{row['set']}, {row['model']}, seed {row['seed']}: {values} ({row['seconds']:.0f} s)"


class SetResults:
    """The results of all models on one set.

    Args:
        name: name of the set.
        results: the lines of this set.
    """

    def __init__(self, name: str, results: Sequence[Result]) -> None:
        self.name = name
        self.models: dict[str, dict[int, Result]] = defaultdict(dict)
        for row in results:
            self.models[row["model"]][row["seed"]] = row

    def peers(self, kinds: Sequence[str]) -> list[str]:
        """The models of some kinds of peers."""
        return [model for model in self.models if model.split("+")[0] in kinds]

    @property
    def own(self) -> list[str]:
        """Our models."""
        peers = self.peers(CLASSES["all peers"])
        return [model for model in self.models if model not in peers]

    def mean(self, model: str, rate: str, seeds: Sequence[int] | None = None) -> Measurement:
        """The main metric, with the statistics of each text averaged over the seeds (default: all of the model)."""
        rows = [row for seed, row in self.models[model].items() if seeds is None or seed in seeds]
        statistics = np.mean([row["statistics"][rate] for row in rows], axis=0)
        return measurement(rows[0]["metric"], statistics)

    def best(self, models: Sequence[str], rate: str) -> str | None:
        """The model with the highest value; None if there are no models."""
        return max(models, key=lambda model: self.mean(model, rate).value, default=None)

    def gain(self, model: str, peer: str, rate: str) -> tuple[float, float, float]:
        """How much better a model is than a peer on the same seeds, if they have some: difference, low, high."""
        common = [seed for seed in self.models[model] if seed in self.models[peer]] or None
        difference = self.mean(model, rate, common).loss_without(self.mean(peer, rate, common))
        low, high = Bootstrap().interval(difference, 1) or (0.0, 0.0)
        return difference.value, low, high

    def facts(self, model: str) -> str:
        """Number of seeds, processor seconds and size of a model."""
        rows = list(self.models[model].values())
        parts = [
            "1 seed" if len(rows) == 1 else f"{len(rows)} seeds",
            f"{np.median([row['seconds'] for row in rows]):.0f} s",
        ]
        sizes = [row.get("megabytes") or row.get("parameters", 0) * 4e-6 for row in rows]
        if min(sizes) > 0:
            parts.append(f"{np.median(sizes):.3g} MB")
        return ", ".join(parts)

    def rows(self, rate: str) -> list[Row]:
        """A row per model at a noise rate."""
        peers = self.peers(CLASSES["all peers"])
        best_peer, best_own = self.best(peers, rate), self.best(self.own, rate)
        table = []
        for model in self.models:
            value = self.mean(model, rate).value
            against = peers if model == best_own else [best_peer] if best_peer and model not in peers else []
            parts = []
            for peer in sorted(against, key=lambda name: -self.mean(name, rate).value):
                gain, low, high = self.gain(model, peer, rate)
                parts.append(
                    f"{peer} {100 * self.mean(peer, rate).value:.1f}: {100 * gain:+.1f} "
                    f"[{100 * low:+.1f}, {100 * high:+.1f}]"
                )
            if model in (best_own, best_peer):
                parts.insert(0, "best of ours" if model == best_own else "best peer")
            label = f"{self.name}, {float(rate):.0%} noise, {model}"
            text = f"{'; '.join(parts)} ({self.facts(model)})".strip()
            table.append(Row(label, 100 * value, "%", text, None, "higher"))
        return table


def report(results: Path) -> list[Row]:
    """A row per set, noise rate and model, and the numbers of sets on which our best model is ahead of the peers."""
    by_set: dict[str, list[Result]] = defaultdict(list)
    for row in read(results):
        by_set[row["set"]].append(row)
    sets = [SetResults(name, rows) for name, rows in by_set.items()]
    table = [row for entry in sets for rate in map("{:g}".format, RATES) for row in entry.rows(rate)]
    for kind, peers in CLASSES.items():
        for rate in COUNTED:
            table.append(counts(sets, kind, peers, rate))
    return table


def counts(sets: Sequence[SetResults], kind: str, peers: Sequence[str], rate: str) -> Row:
    """On how many sets our best model is ahead of the best peer of a kind, level (interval with 0), or behind."""
    names: dict[str, list[str]] = {"ahead": [], "level": [], "behind": []}
    for entry in sets:
        own, peer = entry.best(entry.own, rate), entry.best(entry.peers(peers), rate)
        if own is None or peer is None:
            continue
        gain, low, high = entry.gain(own, peer, rate)
        verdict = "ahead" if low > 0 else "behind" if high < 0 else "level"
        names[verdict].append(f"{entry.name} ({own} against {peer}, {100 * gain:+.1f})")
    text = "; ".join(f"{verdict} on {len(list_)}: {', '.join(list_) or 'none'}" for verdict, list_ in names.items())
    return Row(f"{float(rate):.0%} noise, ahead of {kind}", float(len(names["ahead"])), "sets", text, None, "higher")
