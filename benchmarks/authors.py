"""Measures what contexts and encodings of authors are worth, next to n-grams, compression and LambdaG.

    python benchmarks/authors.py FOLDER --base models/base --encoded data/encoded [--steps 200]
                                 [--models bi_encoder,batch_encoder,hierarchical,author_contrastive,...]
    python benchmarks/authors.py FOLDER --export
    python benchmarks/authors.py FOLDER --report [--json]

Needs an encoded corpus and its base; `cclm run` creates them. FOLDER receives everything that is measured, one file per
model and part, so an interrupted run goes on where it stopped. benchmarks/author_peers.py adds compression and LambdaG.

```
bi_encoder, batch_encoder, hierarchical   masked characters with contexts, one component per architecture
author_contrastive   telling authors apart, with the context encoder of the bi-encoder
composed             the encodings of bi_encoder and author_contrastive next to each other
base                 mean features of the base, which knows nothing about authors
ngrams               TF-IDF of character n-grams 1 to 5; logistic regression, or the cosine of a pair
evidence             author evidence in bits (`AuthorEvidence`) of a causal language model, trained here on general
                     text; for pairs
evidence_attribution the same for attribution, with an output layer per author
compression, lambdag      see author_peers.py
```

The components are trained on the plays. The report has:

- bits per masked character of unseen speakers of unseen plays, with contexts of the author, of the group, at random and
  none, and the bits that contexts save (95 % interval, paired bootstrap over texts);
- characters per processor second in training, and of the bi-encoder with reused encodings of contexts;
- attribution of paragraphs to their authors, none of whom occurs in training: accuracy on unseen documents, clean and
  with typing errors in 10 % of the letters, of logistic regression on the encodings, and of the sum with n-grams
  (95 % interval, bootstrap over documents);
- verification of pairs of 5 paragraphs from different documents: AUC, c@1, F0.5u and the complement of the Brier score,
  calibrated on the pairs of the other half of the authors. `trained` is a logistic regression on the distances of the
  encodings, fitted on pairs of the other half; the others are cosines or likelihood ratios.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from author_data import COPIES, SEED, SETS, AuthorSet, author_set
from author_evidence import attribution_evidence, pair_evidence
from author_report import report
from rows import options, show

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.means import MeanEmbedder
from cclm_core.composition.store import load_base
from cclm_core.corpus.contexts import ContextName, ContextSampling, ContextTexts
from cclm_core.encoders.contexts import Contexts
from cclm_core.encoders.embedder import Base
from cclm_core.evaluation.contexts import evaluate_contexts
from cclm_core.finetuning.config import NgramsConfig
from cclm_core.finetuning.ngrams import Ngrams
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.runtime.random import derive, derive_seed
from cclm_core.training.checkpoint import Checkpoints
from cclm_core.training.component import component_module, new_component
from cclm_core.training.config import ComponentConfig
from cclm_core.training.contexts import context_data, trained_bits
from cclm_core.training.loop import train
from cclm_core.training.run import TrainingInputs

ARCHITECTURES = ("bi_encoder", "batch_encoder", "hierarchical")
MODELS = ("ngrams", "base", *ARCHITECTURES, "author_contrastive", "composed", "evidence", "evidence_attribution")
NUMBER, TEXTS, BATCH, WINDOW = 4, 400, 16, 192
CONDITIONS: tuple[tuple[ContextName, int], ...] = (
    ("none", 0), ("random", NUMBER), ("group", NUMBER), ("author", 1), ("author", NUMBER),
)  # fmt: skip
EVIDENCE = {"evidence": pair_evidence, "evidence_attribution": attribution_evidence}
PARTS = {"composed": ("bi_encoder", "author_contrastive")}


def component_config(name: str, steps: int) -> ComponentConfig:
    """The component to train for a model of this name."""
    training = {
        "steps": steps, "batch_size": BATCH, "window": WINDOW, "evaluate_every": steps, "checkpoint_every": 50,
        "threads": 1,
    }  # fmt: skip
    if name == "author_contrastive":
        task: dict[str, Any] = {"objective": name, "number": 3, "min_characters": 40}
        encoder = {"kind": "contextual"}
    else:
        contexts = {"number": NUMBER, "characters": WINDOW, "types": ["author", "random"], "min_characters": 40}
        task = {"objective": "context_masked_characters", "contexts": contexts}
        encoder = {"kind": "contextual", "architecture": name}
    return ComponentConfig.parse({"task": task, "encoder": encoder, "training": training}, name)


def trained(name: str, base: Base, inputs: TrainingInputs, steps: int, folder: Path) -> Any:
    """The trained module of a model; goes on from its last checkpoint."""
    config = component_config(name, steps)
    component, objective = new_component(base, name, config, SEED, inputs)
    assert objective is not None
    module = component_module(base, component, objective)
    data = context_data(inputs.corpus, config.task, config.training)  # type: ignore[arg-type]
    speed = Stopwatch()
    checkpoints = Checkpoints(folder / "models" / name, f"{steps:016d}")
    is_done = (newest := checkpoints.newest()) is not None and newest.step == steps
    curve = train(module, data, config.training, derive_seed(SEED, "authors", name), checkpoints, speed)
    if not is_done:
        facts = {"model": name, "steps": steps, "seconds": steps * speed.seconds_per_step, "curve": curve[-1]}
        facts["parameters"] = sum(weight.numel() for weight in component.parameters())
        if name in ARCHITECTURES:
            facts["characters_per_second"] = BATCH * WINDOW / speed.seconds_per_step
        _write(folder / "training" / f"{name}.json", json.dumps(facts).encode())
        print(facts, file=sys.stderr, flush=True)
    return module.eval()


class Stopwatch:
    """A report that measures the processor seconds of a step, from reports between which no evaluation is."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None
        self._seconds: list[float] = []

    def __call__(self, step: int, values: Any, total: int | None = None) -> None:  # noqa: ARG002
        """Receives a report."""
        now, is_evaluated = time.process_time(), len(values) > 1
        if self._last is not None and not is_evaluated:
            self._seconds.append((now - self._last[1]) / (step - self._last[0]))
        self._last = step, now

    @property
    def seconds_per_step(self) -> float:
        """The median."""
        return float(np.median(self._seconds))


def measure_contexts(module: Any, inputs: TrainingInputs) -> dict[str, Any]:
    """Bits and numbers of masked characters per text, with each type of contexts."""
    sampling = ContextSampling(number=NUMBER, characters=WINDOW, min_characters=40)
    corpus = inputs.corpus
    texts = ContextTexts(corpus.split("test"), WINDOW, sampling, corpus.split("train"))
    bits = trained_bits(module.encoder, module.objective, SEED)
    results = evaluate_contexts(bits, texts, CONDITIONS, TEXTS, SEED)
    return {f"{result.name} {result.number}": result.rows for result in results}


def measure_reuse(base: Base, module: Any) -> dict[str, Any]:
    """Characters per processor second with contexts as ids, and with their encodings reused."""
    generator = derive(SEED, "speed")
    number = base.preprocessor.num_ids
    ids = torch.from_numpy(generator.integers(4, number, size=(BATCH, WINDOW)))
    others = torch.from_numpy(generator.integers(4, number, size=(BATCH, NUMBER, WINDOW)))
    encoder, values = module.encoder, {}
    with torch.inference_mode():
        encodings = encoder.encode_contexts(others.flatten(0, 1)).unflatten(0, (BATCH, NUMBER))
        cases = {"none": None, "read": Contexts(others), "reused": Contexts(encodings=encodings)}
        for name, contexts in cases.items():
            seconds = []
            for _ in range(6):
                start = time.process_time()
                encoder(ids, contexts)
                seconds.append(time.process_time() - start)
            values[name] = ids.numel() / float(np.median(seconds[1:]))
    return values


def vectors(name: str, texts: AuthorSet, folder: Path, embedder: MeanEmbedder | None) -> dict[str, Any]:
    """The vectors of the known texts and of the copies of the test texts."""
    if name in PARTS:
        parts = [vectors(part, texts, folder, None) for part in PARTS[name]]
        return {key: np.hstack([part[key] for part in parts]) for key in parts[0]}
    path = folder / "vectors" / f"{texts.name}, {name}.npz"
    if not path.is_file():
        assert embedder is not None
        embed = embedder.embed if name == "base" else embedder.embed_contexts
        _save(path, {"known": embed(texts.known.texts), **{key: embed(copy) for key, copy in texts.copies.items()}})
    with np.load(path) as arrays:
        return dict(arrays)


def vector_scores(texts: AuthorSet, encoded: dict[str, Any]) -> dict[str, npt.NDArray[np.float64]]:
    """Log-probabilities of the authors, and similarities of the pairs, from vectors."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=300))
    model.fit(encoded["known"], texts.known.authors)
    scores = {f"{copy}, attribution": model.predict_log_proba(encoded[copy]) for copy in COPIES}
    pairs = texts.pairs
    for fold in (0, 1):
        rows = pairs.folds == fold
        others = [row for row, author in enumerate(texts.known.authors) if texts.folds[author] != fold]
        scaler = StandardScaler().fit(encoded["known"][others])
        known = scaler.transform(encoded["known"])[pairs.known].mean(1)
        questioned = {copy: scaler.transform(encoded[copy])[pairs.questioned].mean(1) for copy in COPIES}
        learned = LogisticRegression(C=0.01, max_iter=300)
        learned.fit(np.abs(known - questioned["clean"])[~rows], pairs.truths[~rows])
        for copy, side in questioned.items():
            values = {"": _cosines(known, side), " trained": learned.decision_function(np.abs(known - side))}
            for kind, value in values.items():
                scores.setdefault(f"{copy}, verification{kind}", np.zeros(len(rows)))[rows] = value[rows]
    return scores


def _cosines(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    values: npt.NDArray[np.float64] = (first * second).sum(1) / np.maximum(lengths, 1e-12)
    return values


def ngram_scores(texts: AuthorSet) -> dict[str, npt.NDArray[np.float64]]:
    """Log-probabilities of the authors, and cosines of TF-IDF vectors of the pairs."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    ngrams = Ngrams(NgramsConfig(), texts.labels).fit(texts.known.texts, texts.known.authors)
    scores = {f"{copy}, attribution": ngrams.log_probabilities(texts.copies[copy]) for copy in COPIES}
    known = texts.joined("known")
    for fold in (0, 1):
        rows = texts.pairs.folds == fold
        counted = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), sublinear_tf=True, max_features=200_000)
        counted.fit(texts.population(fold).texts)
        first = counted.transform(known)
        for copy in COPIES:
            products = np.asarray(first.multiply(counted.transform(texts.joined(copy))).sum(1))[:, 0]
            scores.setdefault(f"{copy}, verification", np.zeros(len(rows)))[rows] = products[rows]
    return scores


def measure(name: str, base: Base, inputs: TrainingInputs, steps: int, folder: Path, sets: list[str]) -> None:
    """Measures what is missing of a model."""
    module = embedder = None
    if name == "base":
        embedder = MeanEmbedder(base)
    elif name in (*ARCHITECTURES, "author_contrastive"):
        module = trained(name, base, inputs, steps, folder)
        embedder = MeanEmbedder(ComposedModel(base, [module.encoder.component]).eval())
    if name in ARCHITECTURES and not (path := folder / "contexts" / f"{name}.json").is_file():
        _write(path, json.dumps(measure_contexts(module, inputs)).encode())
    if name == "bi_encoder" and not (path := folder / "training" / "reuse.json").is_file():
        _write(path, json.dumps(measure_reuse(base, module)).encode())
    for title in sets:
        path = folder / "scores" / f"{title}, {name}.npz"
        if path.is_file():
            continue
        texts = author_set(title)
        if name == "ngrams":
            scores = ngram_scores(texts)
        elif name in EVIDENCE:
            scores = EVIDENCE[name](texts, folder / "models" / "language")
        else:
            scores = vector_scores(texts, vectors(name, texts, folder, embedder))
        _save(path, scores)
        print(f"{title}, {name}: {time.process_time():.0f} processor seconds so far", file=sys.stderr, flush=True)


def export(folder: Path) -> None:
    """Writes the texts and pairs for author_peers.py."""
    for title in SETS:
        texts = author_set(title)
        pairs = {side: texts.joined(side) for side in ("known", *COPIES)} | {"folds": texts.pairs.folds.tolist()}
        content = {
            "authors": texts.labels, "folds": texts.folds, "known": texts.known.texts,
            "known authors": texts.known.authors, "copies": texts.copies, "pairs": pairs,
        }  # fmt: skip
        _write(folder / "texts" / f"{title}.json", json.dumps(content).encode())


def _save(path: Path, arrays: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    np.savez_compressed(temporary, **arrays)
    temporary.replace(path)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(content)
    temporary.replace(path)


def main() -> None:
    """Measures what is missing, and prints the report."""
    parser = options(__doc__)
    parser.add_argument("folder", type=Path, help="what is measured; created if it does not exist")
    parser.add_argument("--base", type=Path, default=Path("models/base"))
    parser.add_argument("--encoded", type=Path, default=Path("data/encoded"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--sets", default=";".join(SETS), help="sets of authors, separated by `;`")
    parser.add_argument("--report", action="store_true", help="print the tables of what is measured so far")
    parser.add_argument("--export", action="store_true", help="write the texts for author_peers.py, nothing else")
    args = parser.parse_args()
    if args.export:
        export(args.folder)
        return
    if not args.report:
        torch.set_num_threads(1)
        base = load_base(args.base).freeze()
        inputs = TrainingInputs.open(args.encoded, TrainingNoise(rate=0.02))
        for name in args.models.split(","):
            measure(name, base, inputs, args.steps, args.folder, [name for name in args.sets.split(";") if name])
    show("Authors and contexts", report(args.folder), args.json)


if __name__ == "__main__":
    main()
