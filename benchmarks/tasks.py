"""Compares fine-tuned models with peers on users' tasks, clean and with typing errors.

    python benchmarks/tasks.py RESULTS [--sets "TREC;wnut17"] [--seeds 1,2,3] [--models ngrams,scratch,pretrained]
    python benchmarks/tasks.py RESULTS --report [--json]

Every model is trained on the same texts and measured on the same noised test texts. `pretrained` starts from an
embedder that was pretrained for about 200 processor seconds on general text and on the training texts of all sets
without their labels; it is made once, in the folder of RESULTS. Results are appended to RESULTS, a file with a JSON
object per line, so that an interrupted run goes on where it stopped.

`--report` prints a table: the mean over the seeds, processor seconds and size of each model; the difference of our best
model to every peer, and of our others to the best peer, with a 95 % interval (paired bootstrap over the test texts,
outcomes averaged over the seeds that both have). The last rows count the sets on which the best of our models is ahead
of the best peer, level (the interval includes 0) or behind; the best are chosen on the test texts, on both sides.
benchmarks/task_peers.py adds fastText, spaCy and sentence encoders to RESULTS.

```
ngrams               TF-IDF of character n-grams 1 to 5, logistic regression (regression: ridge on their products);
                     for tags those of a word, its shape and its neighbors
ngrams+noise         the same, with three noised copies of the training texts
scratch              random weights, fine-tuned as `tasks` does by default
pretrained           the pretrained embedder, fine-tuned
pretrained+ngrams    the same network, with n-grams added (`ngrams` of the task, weight 1; for tags auto)
```

For labels and tags, log-probabilities of networks and n-grams on test and validation texts are kept in the folder
`scores` next to RESULTS.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from rows import options, seed_list, show
from task_data import TaskSet, general_texts, task_sets
from task_report import RATES, line_of, read, report

from cclm_core.corpus.windows import Windows
from cclm_core.encoders.embedder import Base, Embedder, EmbedderConfig
from cclm_core.encoders.store import load_embedder, save_embedder
from cclm_core.finetuning.any_model import Texts
from cclm_core.finetuning.config import NgramsConfig, TaskConfig
from cclm_core.finetuning.entities import entity_answers
from cclm_core.finetuning.evaluate import model_predictor, noised_texts
from cclm_core.finetuning.fit import fine_tune
from cclm_core.finetuning.measures import HEADLINES, measure
from cclm_core.finetuning.model import TaskModel
from cclm_core.finetuning.ngram_model import NgramsCard, NgramsModel
from cclm_core.finetuning.ngrams import Ngrams, log_softmax
from cclm_core.finetuning.tag_ngrams import TagNgrams
from cclm_core.finetuning.words import tagged_units
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
    added = {} if kind == "tag" else {"weight": 1} if kind == "classify" and not is_pair else None
    settings: dict[str, Any] = {"training": {}, "ngrams": added}
    encoder: Base | Preprocessor = base
    if name == "scratch":
        encoder, settings["embedder"], settings["composition"] = base.preprocessor, EMBEDDER, None
    if kind == "tag":
        size = len(task.data.train)
        settings["training"] |= {"batch_size": 16, "epochs": 25 if size < 1000 else 12 if size < 5000 else 4}
    config = TaskConfig.parse({"data": "x", "composition": "x"} | settings, "task")
    model = fine_tune(task.name, task.data, encoder, config, seed)
    seconds = time.process_time() - start
    facts = {"seed": seed, "seconds": seconds, "parameters": sum(weight.numel() for weight in model.parameters())}
    if model.ngrams is None:
        return [measured(task, copies, model_predictor(model), model=name, **facts)]
    if isinstance(model.ngrams, TagNgrams):
        return tag_results(task, copies, model, name, facts, scores)
    kept: dict[str, Any] = {}
    for split, texts in scored_texts(task, copies).items():
        strings = [text.text for text in texts]
        kept[f"{split}, network"] = model.log_probabilities(strings, ngram_weight=0)
        kept[f"{split}, ngrams"] = model.ngrams.log_probabilities(strings)
    scores.parent.mkdir(exist_ok=True)
    np.savez_compressed(scores, **kept)
    results = []
    for label, parts in ((name, ("network",)), (f"{name}+ngrams", ("network", "ngrams"))):
        best = {rate: sum(kept[f"test {rate:g}, {part}"] for part in parts).argmax(axis=1) for rate in copies}
        answers = {id(copies[rate]): [{"label": task.data.labels[row]} for row in rows] for rate, rows in best.items()}
        sizes = {"megabytes": facts["parameters"] * 4e-6 + (megabytes(model.ngrams) if "ngrams" in parts else 0)}
        predict = partial(_answer, answers)
        results.append(measured(task, copies, predict, model=label, **facts, **sizes))
    return results


def tag_results(
    task: TaskSet,
    copies: dict[float, list[LabeledText]],
    model: TaskModel,
    name: str,
    facts: dict[str, Any],
    scores: Path,
) -> list[Any]:
    """A result of a network for tags alone, and one of its sum with n-grams. Keeps log-probabilities at `scores`."""
    assert isinstance(model.ngrams, TagNgrams)
    labels, weight = task.data.labels, model.card.ngram_weight
    kept: dict[str, Any] = {}
    read: dict[int, tuple[Texts, str]] = {}
    for split, rows in scored_texts(task, copies).items():
        texts = tagged_units(rows, "word", labels)[0]
        read[id(rows)] = texts, split
        kept[f"{split}, network"] = model.scores(texts, ngram_weight=0)
        kept[f"{split}, ngrams"] = model.ngrams.scores(texts)
    scores.parent.mkdir(exist_ok=True)
    np.savez_compressed(scores, **{key: values.astype(np.float16) for key, values in kept.items()})

    def answers(added: float, examples: list[LabeledText]) -> list[dict[str, Any]]:
        """The entities that network and n-grams give together, with a weight of the n-grams."""
        texts, split = read[id(examples)]
        joined = log_softmax((kept[f"{split}, network"] + added * kept[f"{split}, ngrams"]) / (1 + added))
        return entity_answers(texts.texts, texts.words, texts.by_text(joined), labels)

    own = facts["parameters"] * 4e-6
    alone = measured(task, copies, partial(answers, 0.0), model=name, **facts, megabytes=own)
    size = own + megabytes(model.ngrams)
    joined = measured(task, copies, partial(answers, weight), model=f"{name}+ngrams", **facts, megabytes=size)
    return [alone, {**joined, "ngram_weight": weight}]


def megabytes(ngrams: Ngrams | TagNgrams) -> float:
    """Size of saved n-grams."""
    with tempfile.TemporaryDirectory() as folder:
        ngrams.save(Path(folder))
        return sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6


def _answer(answers: dict[int, list[dict[str, Any]]], texts: list[LabeledText]) -> list[dict[str, Any]]:
    return answers[id(texts)]


def scored_texts(task: TaskSet, copies: dict[float, list[LabeledText]]) -> dict[str, list[LabeledText]]:
    """Test and validation texts at each noise rate."""
    texts = {f"test {rate:g}": rows for rate, rows in copies.items()}
    if task.data.validation:
        validation = test_copies(task._replace(test=list(task.data.validation)))
        texts |= {f"validation {rate:g}": rows for rate, rows in validation.items()}
    return texts


def training_copies(task: TaskSet, rate: float, seed: int) -> list[LabeledText]:
    """Noised copies of the training texts and of the validation texts, for peers that train with noise."""
    texts = [*task.data.train, *task.data.validation]
    return noised_texts(texts, TextNoiser(NoiseConfig().recipe(rate)), seed, f"copy {rate}")


def ngrams(task: TaskSet, copies: dict[float, list[LabeledText]], noised: bool, seed: int) -> dict[str, Any]:
    """A result of the n-gram peer, trained on all texts that the networks see: with validation texts, except for tags.

    Validation texts of tags are not held out from the training texts: there are 500 of them next to 200.
    """
    start = time.process_time()
    if task.data.task == "tag":
        task = task._replace(data=replace(task.data, validation=[]))
    rows = [*task.data.train, *task.data.validation]
    if noised:
        for rate in COPIES:
            rows += training_copies(task, rate, seed)
    facts: dict[str, Any] = {"model": "ngrams+noise" if noised else "ngrams", "seed": seed, "parameters": 0}
    if task.data.task == "tag":
        labels = task.data.labels
        counts = TagNgrams(NgramsConfig(), labels).fit(*tagged_units(rows, "word", labels))
        card = NgramsCard(name=task.name, task="tag", labels=labels)
        predict = model_predictor(NgramsModel(card, counts))
        facts |= {"seconds": time.process_time() - start, "megabytes": megabytes(counts)}
    elif task.data.is_pair or task.data.task != "classify":
        predict = _pairs(rows, task)
    else:
        peer = Ngrams(NgramsConfig(), task.data.labels)
        peer.fit([row.text for row in rows], [str(row.label) for row in rows])
        facts |= {"seconds": time.process_time() - start, "megabytes": megabytes(peer)}

        def predict(selected: Sequence[LabeledText]) -> list[dict[str, Any]]:
            """Predicts labels."""
            return [{"label": label} for label in peer.predict([text.text for text in selected])]

    return measured(task, copies, predict, **{"seconds": time.process_time() - start, **facts})


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
                if (name, model, seed) in done:
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
                    print(line_of(row), file=sys.stderr, flush=True)


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
