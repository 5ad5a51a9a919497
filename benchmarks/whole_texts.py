"""Measures what a component that is trained on whole texts adds to a composition, at labeling documents.

    python benchmarks/whole_texts.py FOLDER --base models/base --encoded data/encoded [--seeds 1,2,3] [--steps 100]
    python benchmarks/whole_texts.py FOLDER --report [--json]

Needs an encoded corpus and its base; `cclm run` creates them. Per seed, a component is trained on `masked_characters`
and one on `whole_texts`: on the same general text and the training texts of the sets without their labels (not on the
plays), with equal steps and batches, over the frozen base. The compositions:

```
masked           the component of masked characters alone
masked+whole     with the component of whole texts
masked+masked    with the component of masked characters of the next seed: the control of equal size
ngrams           TF-IDF of character n-grams 1 to 5 with logistic regression: the baseline
+ngrams          the sum of the log-probabilities of a composition and of the n-grams
```

Features are frozen and read as the probe `labels` does: pooled outliers, penalized logistic regression, penalty from
validation texts. FOLDER receives the trained components and, line by line, the results, so an interrupted run goes on.
Intervals: 95 %, paired bootstrap over test texts, outcomes averaged over the seeds.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rows import Row, options, seed_list, show
from task_data import banking77, few, general_texts, sst2, trec
from torch import Tensor

from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import load_base
from cclm_core.corpus.encoded_split import EncodedSplit
from cclm_core.corpus.records import SPLITS
from cclm_core.corpus.windows import Windows
from cclm_core.encoders.embedder import Base
from cclm_core.evaluation.metrics import Bootstrap, Measurement, ratio
from cclm_core.evaluation.probes.labels import fit_labels, pool, scale_of
from cclm_core.evaluation.reading import Reader
from cclm_core.finetuning.config import NgramsConfig
from cclm_core.finetuning.ngrams import Ngrams
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.runtime.random import derive, derive_seed
from cclm_core.runtime.reporting import null_report
from cclm_core.text.vocabulary import END
from cclm_core.training.checkpoint import Checkpoints
from cclm_core.training.component import component_module, new_component
from cclm_core.training.config import ComponentConfig
from cclm_core.training.loop import train
from cclm_core.training.run import TrainingInputs
from cclm_core.training.trainee import Data

RESULTS = "results.jsonl"
TASKS: dict[str, dict[str, Any]] = {"masked": {"objective": "masked_characters"}, "whole": {"objective": "whole_texts"}}
CHARACTERS = 6_000_000  # of general text
MAX_TEXTS, MAX_IDS = (1500, 200, 1000), 400  # training, validation and test texts, and characters of a text
PENALTIES = (1e-3, 1e-2)

Texts = tuple[list[str], list[str]]
"""Texts and their labels."""


def label_sets(seed: int, encoded: TrainingInputs) -> dict[str, tuple[Texts, Texts, Texts]]:
    """Name -> training, validation and test texts with labels; samples of training texts are drawn from `seed`."""
    sets = {}
    for task in (trec(), few("banking77, 8 per class", banking77(), 8, seed), sst2()):
        rows = (task.data.train, task.data.validation, task.test)
        sets[task.name] = [([row.text for row in part], [str(row.label) for row in part]) for part in rows]
    corpus = encoded.corpus
    sets["plays, genre"] = [_plays(corpus.split(name), corpus.preprocessor) for name in SPLITS]
    seeds = (seed, 1, 1)  # of the samples: seeds differ in their training texts
    return {
        name: tuple(_sample(*part) for part in zip(splits, MAX_TEXTS, seeds, strict=True))
        for name, splits in sets.items()
    }


def _plays(split: EncodedSplit, preprocessor: Any) -> Texts:
    documents = split.documents
    documents = documents[documents["label"].notna() & (documents["length"] >= 40)]
    rows = derive(1, "plays", split.path.name).permutation(len(documents))[:3000]
    selected = documents.iloc[rows]
    ids = [
        split.ids[start : start + length] for start, length in zip(selected["start"], selected["length"], strict=True)
    ]
    return [preprocessor.decode(row) for row in ids], selected["label"].tolist()


def _sample(texts: Texts, number: int, seed: int) -> Texts:
    rows = np.sort(derive(seed, "sample").permutation(len(texts[0]))[:number]).tolist()
    return [texts[0][row] for row in rows], [texts[1][row] for row in rows]


def general_windows(base: Base) -> Data:
    """Windows of general text, with an END after each text; one of a hundred texts is held out."""
    texts, size = [], 0
    for text in general_texts():
        texts.append(text)
        size += len(text)
        if size > CHARACTERS:
            break

    def windows(selected: Sequence[str]) -> Windows:
        """The windows of some texts."""
        ids = np.concatenate([np.append(base.preprocessor.encode(text), END) for text in selected])
        return Windows(SimpleNamespace(ids=ids, tags=np.zeros(len(ids), np.uint8)), 256)  # type: ignore[arg-type]

    return Data(windows([text for number, text in enumerate(texts) if number % 100]), windows(texts[::100]))


def components(
    base: Base, inputs: TrainingInputs, seeds: Sequence[int], steps: int, folder: Path
) -> dict[str, Component]:
    """Name and seed -> component, trained where it is missing."""
    data, trained = None, {}
    for kind, task in TASKS.items():
        for seed in seeds:
            name = f"{kind}-{seed}"
            training = {
                "steps": steps, "batch_size": 32, "window": 256, "evaluate_every": steps, "checkpoint_every": 50,
            }  # fmt: skip
            config = ComponentConfig.parse({"task": task, "training": training}, name)
            component, objective = new_component(base, name, config, seed, inputs)
            assert objective is not None
            module = component_module(base, component, objective)
            data = data or general_windows(base)
            checkpoints, start = Checkpoints(folder / "models" / name, f"{steps:016d}"), time.process_time()
            curve = train(module, data, config.training, derive_seed(seed, "whole texts"), checkpoints, null_report)
            print(f"{name}: {time.process_time() - start:.0f} s, {curve[-1]}", file=sys.stderr, flush=True)
            trained[name] = component.eval()
    return trained


def compositions(seeds: Sequence[int], seed: int) -> dict[str, tuple[str, ...]]:
    """Composition -> its components."""
    following = seeds[(seeds.index(seed) + 1) % len(seeds)]
    return {
        "masked": (f"masked-{seed}",),
        "masked+whole": (f"masked-{seed}", f"whole-{seed}"),
        "masked+masked": (f"masked-{seed}", f"masked-{following}"),
    }


def pooled(model: ComposedModel, splits: Sequence[Texts]) -> list[Tensor]:
    """The pooled features (N, 2, W) of texts; standardized by the first ones."""
    reader = Reader(model, 8192, MAX_IDS)
    ids = [[model.preprocessor.encode(text)[:MAX_IDS] for text in texts] for texts, _ in splits]
    scale = scale_of(reader, ids[0][:60], MAX_IDS)
    return [pool(reader, scale, rows, MAX_IDS).unflatten(1, (2, -1)) for rows in ids]


def measure(
    model: ComposedModel, splits: tuple[Texts, Texts, Texts], seeds: Sequence[int], seed: int
) -> dict[str, npt.NDArray[np.bool_]]:
    """Model -> whether each test text is labeled correctly (N,)."""
    (texts, labels), (_, validation_labels), (test, gold) = splits
    names = sorted(set(labels))
    ngrams = Ngrams(NgramsConfig(), names).fit(texts, labels).log_probabilities(test)
    scores = {"ngrams": ngrams}
    features = pooled(model, splits)
    for name, parts in compositions(seeds, seed).items():
        columns = torch.cat([torch.arange(model.width)[model.columns[part]] for part in parts])
        rows = [values[:, :, columns].flatten(1) for values in features]
        probe = fit_labels(rows[0], labels, rows[1], validation_labels, PENALTIES).probe
        scores[name] = probe.log_probabilities(rows[2]).numpy()
        scores[f"{name}+ngrams"] = scores[name] + ngrams
    truth = np.array([names.index(label) if label in names else -1 for label in gold])
    return {name: values.argmax(1) == truth for name, values in scores.items()}


def run(folder: Path, base: Base, inputs: TrainingInputs, seeds: list[int], steps: int) -> None:
    """Measures what is missing in `folder`."""
    done = {(row["set"], row["seed"]) for row in read(folder)}
    model = ComposedModel(base, list(components(base, inputs, seeds, steps, folder).values())).eval()
    for seed in seeds:
        for name, splits in label_sets(seed, inputs).items():
            if (name, seed) in done:
                continue
            hits = measure(model, splits, seeds, seed)
            row = {"set": name, "seed": seed, "steps": steps, "train": len(splits[0][0])}
            row["hits"] = {key: "".join("01"[int(value)] for value in values) for key, values in hits.items()}
            with (folder / RESULTS).open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            means = ", ".join(f"{key} {100 * values.mean():.1f}" for key, values in hits.items())
            print(f"{name}, seed {seed}: {means}", file=sys.stderr, flush=True)


def read(folder: Path) -> list[dict[str, Any]]:
    """The results so far."""
    path = folder / RESULTS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def report(folder: Path) -> list[Row]:
    """A row per set and model, with the differences to the control and to n-grams."""
    results, rows = read(folder), []
    for name in dict.fromkeys(row["set"] for row in results):
        selected = [row for row in results if row["set"] == name]
        hits = {
            model: np.mean([[int(hit) for hit in row["hits"][model]] for row in selected], axis=0)
            for model in selected[0]["hits"]
        }
        measured = {model: ratio(values, np.ones(len(values))) for model, values in hits.items()}
        for model, measurement in measured.items():
            control = "ngrams" if model.endswith("+masked") or "+" not in model else "masked+masked"
            control += "+ngrams" if model.endswith("+ngrams") and control != "ngrams" else ""
            text = f"{len(selected)} seeds, {selected[0]['train']} training texts"
            for other in dict.fromkeys((control, "ngrams")):
                if other != model and other in measured:
                    text += f"; over {other} {_difference(measurement, measured[other])}"
            rows.append(Row(f"{name}, {model}", 100 * measurement.value, "%", text, None, "higher"))
    return rows


def _difference(measurement: Measurement, other: Measurement) -> str:
    difference = measurement.loss_without(other)
    low, high = Bootstrap().interval(difference, 1) or (0.0, 0.0)
    return f"{100 * difference.value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def main() -> None:
    """Measures what is missing, and prints the report."""
    parser = options(__doc__)
    parser.add_argument("folder", type=Path, help="components and results; created if it does not exist")
    parser.add_argument("--base", type=Path, default=Path("models/base"))
    parser.add_argument("--encoded", type=Path, default=Path("data/encoded"))
    parser.add_argument("--seeds", type=seed_list, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--report", action="store_true", help="print the table of what is measured so far")
    args = parser.parse_args()
    if not args.report:
        torch.set_num_threads(1)
        args.folder.mkdir(parents=True, exist_ok=True)
        inputs = TrainingInputs.open(args.encoded, TrainingNoise(rate=0.02))
        run(args.folder, load_base(args.base).freeze(), inputs, args.seeds, args.steps)
    show("A component of whole texts in a composition", report(args.folder), args.json)


if __name__ == "__main__":
    main()
