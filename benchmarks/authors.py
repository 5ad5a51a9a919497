"""Measures what contexts and encodings of authors are worth, next to n-grams.

    python benchmarks/authors.py [--base models/base] [--encoded data/encoded] [--steps 300] [--out FOLDER]
                                 [--models bi_encoder,batch_encoder,hierarchical,author_contrastive] [--json]

Needs data/encoded and the base; `cclm run` creates them. Trains a component per model on the plays and prints:

- bits per masked character of unseen speakers of unseen plays, with contexts of the author, of the group, at random and
  none, and the bits that contexts of the author save (95 % interval, paired bootstrap over texts);
- characters per processor second in training, and of the bi-encoder with reused encodings of contexts;
- attribution of paragraphs to their authors, none of whom occurs in training: accuracy on unseen documents, clean and
  with typing errors in 10 % of the letters, of logistic regression on the encodings, on character n-grams, and on the
  sum of both log-probabilities;
- verification of pairs of texts of 5 paragraphs by cosine: AUC, c@1, F0.5u and Brier, calibrated on other authors.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from rows import Row, options, show
from task_data import DATA

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.means import MeanEmbedder
from cclm_core.composition.store import load_base
from cclm_core.corpus.contexts import ContextName, ContextSampling, ContextTexts
from cclm_core.encoders.contexts import Contexts
from cclm_core.encoders.embedder import Base
from cclm_core.evaluation.contexts import context_table, evaluate_contexts
from cclm_core.evaluation.metrics import Bootstrap
from cclm_core.evaluation.verification import verification_metrics
from cclm_core.finetuning.config import NgramsConfig
from cclm_core.finetuning.ngrams import Ngrams
from cclm_core.noise.recipe import NoiseConfig, TrainingNoise
from cclm_core.noise.text import TextNoiser
from cclm_core.runtime.random import derive, derive_seed
from cclm_core.runtime.reporting import null_report
from cclm_core.training.component import component_module, new_component
from cclm_core.training.config import ComponentConfig
from cclm_core.training.contexts import context_data, trained_bits
from cclm_core.training.loop import train
from cclm_core.training.run import TrainingInputs

SEED, NUMBER, TEXTS = 1, 4, 400
PARAGRAPHS = 5  # per side of a verification pair
SETS = {"PEP and EIP authors": ("peps_eips_by_author.jsonl", "doc"), "novelists": ("gutenberg_by_author.jsonl", "book")}


class Paragraphs(NamedTuple):
    """Paragraphs with their authors."""

    texts: list[str]
    authors: list[str]


def component_config(name: str, steps: int) -> ComponentConfig:
    """The component to train for a model of this name."""
    training = {"steps": steps, "batch_size": 16, "window": 192, "evaluate_every": steps, "threads": 1}
    if name == "author_contrastive":
        task: dict[str, Any] = {"objective": name, "number": 3, "min_characters": 40}
        encoder = {"kind": "contextual"}
    else:
        contexts = {"number": NUMBER, "characters": 192, "types": ["author", "random"], "min_characters": 40}
        task = {"objective": "context_masked_characters", "contexts": contexts}
        encoder = {"kind": "contextual", "architecture": name}
    return ComponentConfig.parse({"task": task, "encoder": encoder, "training": training}, name)


def paragraphs(name: str) -> tuple[Paragraphs, Paragraphs]:
    """Training and test paragraphs of a set; a third of the documents of each author is for testing."""
    file, key = SETS[name]
    rows = [json.loads(line) for line in (DATA / "authors" / file).read_text(encoding="utf-8").splitlines()]
    documents: dict[str, list[str]] = {}
    for row in rows:
        documents.setdefault(row["author"], [])
        if row[key] not in documents[row["author"]]:
            documents[row["author"]].append(row[key])
    held_out = {
        (author, document)
        for author, names in documents.items()
        for document in sorted(names)[: max(1, len(names) // 3)]
    }
    sides = (Paragraphs([], []), Paragraphs([], []))
    for row in rows:
        side = sides[(row["author"], row[key]) in held_out]
        side.texts.append(row["text"])
        side.authors.append(row["author"])
    return sides


def context_rows(name: str, module: Any, inputs: TrainingInputs) -> list[Row]:
    """Bits per masked character with each type of contexts."""
    sampling = ContextSampling(number=NUMBER, characters=192, min_characters=40)
    corpus = inputs.corpus
    texts = ContextTexts(corpus.split("test"), 192, sampling, corpus.split("train"))
    conditions: list[tuple[ContextName, int]] = [("none", 0), ("random", NUMBER), ("group", NUMBER)]
    conditions += [("author", number) for number in (1, 2, NUMBER)]
    results = evaluate_contexts(trained_bits(module.encoder, module.objective, SEED), texts, conditions, TEXTS, SEED)
    rows = []
    for row in context_table(results, Bootstrap(), SEED):
        if row["stratum"] != "all":
            continue
        gain = "" if row["gain"] == "" else f"none: {row['gain']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}] saved"
        label = f"{name}, {row['type']} x {row['number']}"
        rows.append(Row(label, row["bits_per_masked_character"], "bits", gain, None, "lower"))
    author, random = (
        next(r for r in results if (r.name, r.number) == key) for key in (("author", NUMBER), ("random", NUMBER))
    )
    difference = author.measurement.loss_without(random.measurement)
    low, high = Bootstrap().interval(difference, SEED) or (0.0, 0.0)
    text = f"[{low:+.3f}, {high:+.3f}]"
    return [*rows, Row(f"{name}, saved by the author over random", difference.value, "bits", text, None, "higher")]


def cached_row(base: Base, module: Any) -> Row:
    """Characters per second with contexts as ids, and with their encodings reused."""
    generator = derive(SEED, "speed")
    number = base.preprocessor.num_ids
    ids = torch.from_numpy(generator.integers(4, number, size=(16, 192)))
    others = torch.from_numpy(generator.integers(4, number, size=(16, NUMBER, 192)))
    encoder = module.encoder
    with torch.inference_mode():
        encodings = encoder.encode_contexts(others.flatten(0, 1)).unflatten(0, (16, NUMBER))
        seconds = []
        for contexts in (Contexts(others), Contexts(encodings=encodings)):
            encoder(ids, contexts)
            start = time.process_time()
            for _ in range(5):
                encoder(ids, contexts)
            seconds.append((time.process_time() - start) / 5)
    speeds = [ids.numel() / value for value in seconds]
    return Row(
        "bi_encoder, reused encodings",
        speeds[1],
        "characters/s",
        f"{speeds[0]:.0f} without",
        speeds[1] / speeds[0],
        "higher",
    )


def author_rows(name: str, embedder: MeanEmbedder) -> list[Row]:
    """Attribution and verification on authors that the component has never seen."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = []
    for title in SETS:
        known, test = paragraphs(title)
        labels = sorted(set(known.authors))
        noised = TextNoiser(NoiseConfig().recipe(0.1)).batch(test.texts, derive(SEED, "noise", title))
        copies = {"clean": test.texts, "10 % noise": [result.text for result in noised]}
        ngrams = Ngrams(NgramsConfig(), labels).fit(known.texts, known.authors)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=300))
        model.fit(embedder.embed_contexts(known.texts), known.authors)
        gold = np.array([labels.index(author) for author in test.authors])
        for copy, texts in copies.items():
            encodings = embedder.embed_contexts(texts)
            own, counted = model.predict_log_proba(encodings), ngrams.log_probabilities(texts)
            values = {"encodings": own, "n-grams": counted, "sum": own + counted}
            hits = {key: 100 * float((scores.argmax(1) == gold).mean()) for key, scores in values.items()}
            label = f"{name}, {title}, {copy}"
            for key in ("encodings", "sum"):
                peer = f"n-grams: {hits['n-grams']:.1f}"
                rows.append(Row(f"{label}, {key}", hits[key], "%", peer, hits[key] / hits["n-grams"], "higher"))
            if copy == "clean":
                rows += verification_rows(label, Paragraphs(texts, test.authors), encodings)
    return rows


def verification_rows(label: str, test: Paragraphs, encodings: npt.NDArray[np.float32]) -> list[Row]:
    """Pairs of sets of paragraphs; a logistic curve over the cosine, fitted on one half of the authors."""
    from sklearn.linear_model import LogisticRegression

    generator = derive(SEED, "pairs")
    by_author: dict[str, list[int]] = {}
    for index, author in enumerate(test.authors):
        by_author.setdefault(author, []).append(index)
    authors = [author for author, indices in sorted(by_author.items()) if len(indices) >= 2 * PARAGRAPHS]
    if len(authors) < 4:
        return []
    halves = {author: number % 2 for number, author in enumerate(authors)}
    cosines: tuple[list[float], list[float]] = ([], [])
    truths: tuple[list[bool], list[bool]] = ([], [])
    for _ in range(20):
        for author in authors:
            drawn = generator.permutation(by_author[author])
            others = [other for other in authors if other != author and halves[other] == halves[author]]
            stranger = by_author[others[int(generator.integers(len(others)))]]
            first = _mean(encodings, drawn[:PARAGRAPHS])
            for side, truth in (
                (drawn[PARAGRAPHS : 2 * PARAGRAPHS], True),
                (generator.permutation(stranger)[:PARAGRAPHS], False),
            ):
                cosines[halves[author]].append(float(first @ _mean(encodings, side)))
                truths[halves[author]].append(truth)
    curve = LogisticRegression(C=100).fit(np.array(cosines[0])[:, None], truths[0])
    metrics = verification_metrics(curve.predict_proba(np.array(cosines[1])[:, None])[:, 1], truths[1])
    return [
        Row(f"{label}, verification, {key}", value, "", f"{len(truths[1])} pairs", None, "higher")
        for key, value in metrics.items()
    ]


def _mean(encodings: npt.NDArray[np.float32], rows: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    mean: npt.NDArray[np.float32] = encodings[list(rows)].mean(0)
    return mean / np.linalg.norm(mean)


def run(name: str, base: Base, inputs: TrainingInputs, steps: int) -> list[Row]:
    """Trains and measures one model."""
    config = component_config(name, steps)
    component, objective = new_component(base, name, config, SEED, inputs)
    module = component_module(base, component, objective)
    data = context_data(inputs.corpus, config.task, config.training)  # type: ignore[arg-type]
    start = time.process_time()
    curve = train(module, data, config.training, derive_seed(SEED, "authors", name), None, null_report)
    seconds = time.process_time() - start
    print(f"{name}: {seconds:.0f} processor seconds, {curve[-1]}", file=sys.stderr, flush=True)
    module.eval()
    size = sum(weight.numel() for weight in component.parameters())
    rows = [
        Row(
            f"{name}, training",
            steps * 16 * 192 / seconds,
            "characters/s",
            f"{size / 1e6:.2f} M parameters",
            None,
            "higher",
        )
    ]
    if name != "author_contrastive":
        rows += context_rows(name, module, inputs)
    if name == "bi_encoder":
        rows.append(cached_row(base, module))
    embedder = MeanEmbedder(ComposedModel(base, [component]).eval())
    return [*rows, *author_rows(name, embedder)]


def main() -> None:
    """Runs the benchmark and prints its rows."""
    parser = options(__doc__)
    parser.add_argument("--base", type=Path, default=Path("models/base"))
    parser.add_argument("--encoded", type=Path, default=Path("data/encoded"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--models", default="bi_encoder,batch_encoder,hierarchical,author_contrastive")
    args = parser.parse_args()
    torch.set_num_threads(1)
    base = load_base(args.base).freeze()
    inputs = TrainingInputs.open(args.encoded, TrainingNoise(rate=0.02))
    rows = [row for name in args.models.split(",") for row in run(name, base, inputs, args.steps)]
    show("Authors and contexts", rows, args.json)


if __name__ == "__main__":
    main()
