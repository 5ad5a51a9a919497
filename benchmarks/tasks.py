"""Compares fine-tuned models with peers on users' tasks, clean and with typing errors.

    python benchmarks/tasks.py RESULTS [--sets "TREC;wnut17"] [--seeds 1,2,3] [--models ngrams,scratch,pretrained]
    python benchmarks/tasks.py RESULTS --report [--json]

Every model is trained on the same texts and measured on the same noised test texts. `pretrained` starts from an
embedder that was pretrained for about 200 processor seconds on general text and on the training texts of all sets
without their labels; it is made once, in the folder of RESULTS. Results are appended to RESULTS, a file with a JSON
object per line, so that an interrupted run goes on where it stopped. `--report` prints a table: the mean over the
seeds, and the difference to the better of the two n-gram peers with a 95 % interval (paired bootstrap over the test
texts, outcomes averaged over the seeds).

```
ngrams               TF-IDF of character n-grams 1 to 5, logistic regression (regression: ridge on their products)
ngrams+noise         the same, with three noised copies of the training texts
scratch              random weights, fine-tuned as `tasks` does by default
pretrained           the pretrained embedder, fine-tuned
pretrained+ngrams    the same network, with n-grams added (`ngrams` of the task, weight 1)
```

Log-probabilities of networks and n-grams on test and validation texts are kept in the folder `scores` next to RESULTS.
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from rows import Row, options, seed_list, show
from task_data import TaskSet, general_texts, task_sets

from cclm_core.corpus.windows import Windows
from cclm_core.encoders.embedder import Base, Embedder, EmbedderConfig
from cclm_core.encoders.store import load_embedder, save_embedder
from cclm_core.evaluation.metrics import Bootstrap
from cclm_core.finetuning.config import NgramsConfig, TaskConfig
from cclm_core.finetuning.evaluate import model_predictor, noised_texts
from cclm_core.finetuning.fit import fine_tune
from cclm_core.finetuning.measures import HEADLINES, measure, measurement
from cclm_core.finetuning.ngrams import Ngrams
from cclm_core.labeled.examples import LabeledText
from cclm_core.noise.recipe import NoiseConfig, TrainingNoise
from cclm_core.noise.text import TextNoiser
from cclm_core.objectives.base import ObjectiveContext
from cclm_core.objectives.masked_characters import MaskedCharactersConfig
from cclm_core.runtime.random import seeded_initialization
from cclm_core.runtime.reporting import null_report
from cclm_core.text.config import VocabularyConfig
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.training.config import TrainingConfig
from cclm_core.training.loop import train
from cclm_core.training.module import TrainingModule
from cclm_core.training.trainee import Data

RATES = (0.0, 0.05, 0.1, 0.2)
COPIES = (0.05, 0.1, 0.2)
STEPS = 2200  # of pretraining, about 200 processor seconds
EMBEDDER = {"embedding": {"ngram_sizes": [2, 3, 4, 5]}, "encoder": {"kind": "hourglass", "stride": 8}}
NETWORKS = ("scratch", "pretrained")


def pretrained(folder: Path) -> Embedder:
    """The pretrained embedder in `folder`, made if it does not exist."""
    if (folder / "embedder.json").is_file():
        return load_embedder(folder)
    texts = general_texts()
    preprocessor = Preprocessor(VocabularyConfig(min_count=5)).fit(texts)

    def windows(selected: Sequence[str]) -> Windows:
        """The windows of some texts."""
        ids = np.concatenate([preprocessor.encode(f"{text}\n") for text in selected])
        return Windows(SimpleNamespace(ids=ids, tags=np.zeros(len(ids), np.uint8)), 256)  # type: ignore[arg-type]

    with seeded_initialization(1):
        embedder = Embedder(preprocessor, EmbedderConfig.parse(EMBEDDER, "embedder"))
        noise = TrainingNoise(rate=0.03)
        context = ObjectiveContext(width=embedder.width, preprocessor=preprocessor, noise=noise)
        objective = MaskedCharactersConfig(rate=0.4, mean_span=2.5).build(context)
    data = Data(windows([text for number, text in enumerate(texts) if number % 100]), windows(texts[::100]))
    start = time.process_time()
    config = TrainingConfig(steps=STEPS, batch_size=16, evaluate_every=STEPS)
    curve = train(TrainingModule(embedder, [(objective, 1.0)]), data, config, 1, None, null_report)
    bits, seconds = curve[-1]["held_out_bits_per_masked_character"], time.process_time() - start
    print(f"pretrained: {bits:.3f} bits per masked character, {seconds:.0f} processor seconds", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    save_embedder(embedder, folder)
    return embedder


def test_copies(task: TaskSet) -> dict[float, list[LabeledText]]:
    """The test texts at each noise rate, the same for every model and seed."""
    noises = NoiseConfig()
    copies = {rate: noised_texts(task.test, TextNoiser(noises.recipe(rate)), 1, f"{rate}") for rate in RATES if rate}
    return {0.0: list(task.test), **copies}


def measured(task: TaskSet, copies: dict[float, list[LabeledText]], predict: Any, **facts: Any) -> dict[str, Any]:
    """A line of the results: the statistics of the main metric, per noise rate and test text."""
    name = HEADLINES[task.data.task]
    statistics = {
        f"{rate:g}": measure(task.data.task, texts, predict(texts))[name].statistics.tolist()
        for rate, texts in copies.items()
    }
    return {"set": task.name, "metric": name, "statistics": statistics, **facts}


def networks(
    task: TaskSet, copies: dict[float, list[LabeledText]], name: str, seed: int, base: Embedder, scores: Path
) -> list[Any]:
    """Fine-tunes a network; a result for it, and one for its sum with n-grams. Keeps log-probabilities at `scores`."""
    start = time.process_time()
    kind, is_pair = task.data.task, task.data.is_pair
    with_ngrams = kind == "classify" and not is_pair
    rate = 1e-3 if name == "scratch" else 3e-3
    settings: dict[str, Any] = {"training": {"learning_rate": rate}, "ngrams": {"weight": 1} if with_ngrams else None}
    encoder: Base | Preprocessor = base
    if name == "scratch":
        encoder, settings["embedder"], settings["composition"] = base.preprocessor, EMBEDDER, None
    if kind == "tag":
        settings["training"] |= {"batch_size": 16, "epochs": 12 if len(task.data.train) < 5000 else 4}
    config = TaskConfig.parse({"data": "x", "composition": "x"} | settings, "task")
    model = fine_tune(task.name, task.data, encoder, config, seed)
    seconds = time.process_time() - start
    facts = {"seed": seed, "seconds": seconds, "parameters": sum(weight.numel() for weight in model.parameters())}
    if model.ngrams is None:
        return [measured(task, copies, model_predictor(model), model=name, **facts)]
    kept: dict[str, Any] = {}
    for split, texts in _scored_texts(task, copies).items():
        strings = [text.text for text in texts]
        kept[f"{split}, network"] = model.log_probabilities(strings, ngram_weight=0)
        kept[f"{split}, ngrams"] = model.ngrams.log_probabilities(strings)
    scores.parent.mkdir(exist_ok=True)
    np.savez_compressed(scores, **kept)
    results = []
    for label, parts in ((name, ("network",)), (f"{name}+ngrams", ("network", "ngrams"))):
        best = {rate: sum(kept[f"test {rate:g}, {part}"] for part in parts).argmax(axis=1) for rate in copies}
        answers = {id(copies[rate]): [{"label": task.data.labels[row]} for row in rows] for rate, rows in best.items()}
        results.append(measured(task, copies, lambda texts, answers=answers: answers[id(texts)], model=label, **facts))
    return results


def _scored_texts(task: TaskSet, copies: dict[float, list[LabeledText]]) -> dict[str, list[LabeledText]]:
    """Test and validation texts at each noise rate."""
    texts = {f"test {rate:g}": rows for rate, rows in copies.items()}
    if task.data.validation:
        validation = test_copies(task._replace(test=list(task.data.validation)))
        texts |= {f"validation {rate:g}": rows for rate, rows in validation.items()}
    return texts


def ngrams(task: TaskSet, copies: dict[float, list[LabeledText]], noised: bool, seed: int) -> dict[str, Any]:
    """A result of the n-gram peer, trained on all texts that the networks see, validation included."""
    start = time.process_time()
    texts = [*task.data.train, *task.data.validation]
    rows = list(texts)
    if noised:
        noises = NoiseConfig()
        for rate in COPIES:
            rows += noised_texts(texts, TextNoiser(noises.recipe(rate)), seed, f"copy {rate}")
    facts = {"model": "ngrams+noise" if noised else "ngrams", "seed": seed, "parameters": 0}
    if task.data.is_pair or task.data.task != "classify":
        predict = _pairs(rows, task)
    else:
        peer = Ngrams(NgramsConfig(), task.data.labels)
        peer.fit([row.text for row in rows], [str(row.label) for row in rows])

        def predict(selected: Sequence[LabeledText]) -> list[dict[str, Any]]:
            """Predicts labels."""
            return [{"label": label} for label in peer.predict([text.text for text in selected])]

    return measured(task, copies, predict, seconds=time.process_time() - start, **facts)


def _pairs(rows: Sequence[LabeledText], task: TaskSet) -> Any:
    """A peer for pairs: similarities of the n-grams of both texts, and logistic or linear regression on them."""
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
    from sklearn.feature_extraction.text import TfidfVectorizer

    sizes = ((1, 1), (2, 3), (3, 5))
    vectorizers = [TfidfVectorizer(analyzer="char_wb", ngram_range=size, sublinear_tf=True) for size in sizes]
    every = [text for row in rows for text in (row.text, str(row.second))]
    for vectorizer in vectorizers:
        vectorizer.fit(every)

    def features(selected: Sequence[LabeledText]) -> Any:
        """Cosines of the n-grams, and lengths."""
        columns = [[len(row.text), len(str(row.second)), abs(len(row.text) - len(str(row.second)))] for row in selected]
        for vectorizer in vectorizers:
            first = vectorizer.transform([row.text for row in selected])
            second = vectorizer.transform([str(row.second) for row in selected])
            columns = [
                [*old, value]
                for old, value in zip(columns, np.asarray(first.multiply(second).sum(1))[:, 0], strict=True)
            ]
        return np.array(columns)

    if task.data.task == "regress":
        model = GradientBoostingRegressor(random_state=0).fit(features(rows), [row.value for row in rows])
        return lambda selected: [{"value": value} for value in model.predict(features(selected))]
    model = GradientBoostingClassifier(random_state=0).fit(features(rows), [row.label for row in rows])
    return lambda selected: [{"label": str(label)} for label in model.predict(features(selected))]


def run(results: Path, names: list[str], seeds: list[int], models: list[str]) -> None:
    """Measures what is missing in `results`."""
    torch.set_num_threads(1)
    done = {(row["set"], row["model"], row["seed"]) for row in read(results)}
    base = pretrained(results.with_name("pretrained")) if any(name in NETWORKS for name in models) else None
    for seed in seeds:
        for name, load in task_sets(seed):
            if names and name not in names:
                continue
            task = load()
            copies = test_copies(task)
            for model in models:
                if (name, model, seed) in done or (model.startswith("ngrams") and task.data.task == "tag"):
                    continue
                if model in NETWORKS:
                    assert base is not None
                    scores_file = results.with_name("scores") / f"{name}, {model}, {seed}.npz"
                    rows = networks(task, copies, model, seed, base, scores_file)
                else:
                    rows = [ngrams(task, copies, model == "ngrams+noise", seed)]
                with results.open("a") as stream:
                    stream.writelines(json.dumps(row) + "\n" for row in rows)
                for row in rows:
                    values = [f"{100 * value:.1f}" for value in scores(row).values()]
                    line = f"{name}, {row['model']}, seed {seed}: {' / '.join(values)} ({row['seconds']:.0f} s)"
                    print(line, file=sys.stderr, flush=True)


def read(results: Path) -> list[dict[str, Any]]:
    """The lines of the results."""
    return [json.loads(line) for line in results.read_text().splitlines()] if results.is_file() else []


def scores(row: dict[str, Any]) -> dict[str, float]:
    """Noise rate -> value of the main metric."""
    return {
        rate: measurement(row["metric"], np.array(statistics)).value for rate, statistics in row["statistics"].items()
    }


def report(results: Path) -> list[Row]:
    """A row per set, model and noise rate: the mean over the seeds, and the difference to the better n-gram peer."""
    by_set: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in read(results):
        by_set[row["set"]][row["model"]].append(row)
    rows = []
    for name, models in by_set.items():
        for rate in map("{:g}".format, RATES):
            means = {model: _mean(entries, rate) for model, entries in models.items()}
            peers = {model: means[model].value for model in ("ngrams", "ngrams+noise") if model in means}
            best = max(peers, key=lambda model: peers[model], default=None)
            for model, value in means.items():
                peer = ""
                if best is not None and not model.startswith("ngrams"):
                    difference = value.loss_without(means[best])
                    low, high = Bootstrap().interval(difference, 1) or (0.0, 0.0)
                    gain = f"{100 * difference.value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
                    peer = f"{best} {100 * peers[best]:.1f}: {gain}"
                seconds = float(np.median([entry["seconds"] for entry in models[model]]))
                facts = f"{len(models[model])} seeds, {seconds:.0f} s"
                label = f"{name}, {float(rate):.0%} noise, {model}"
                rows.append(Row(label, 100 * value.value, "%", f"{peer} ({facts})".strip(), None, "higher"))
    return rows


def _mean(entries: Sequence[dict[str, Any]], rate: str) -> Any:
    """The main metric at one noise rate, with the statistics of each text averaged over the seeds."""
    statistics = np.mean([entry["statistics"][rate] for entry in entries], axis=0)
    return measurement(entries[0]["metric"], statistics)


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--sets", default="", help="names of sets, separated by `;` (default: all)")
    parser.add_argument("--seeds", type=seed_list, default=[1, 2, 3])
    parser.add_argument("--models", default="ngrams,ngrams+noise,scratch,pretrained")
    parser.add_argument("--report", action="store_true", help="print the table of what is measured so far")
    args = parser.parse_args()
    if not args.report:
        run(args.results, [name for name in args.sets.split(";") if name], args.seeds, args.models.split(","))
    show("Fine-tuned models and peers", report(args.results), args.json)
