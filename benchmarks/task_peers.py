"""Compares benchmarks/tasks.py with libraries that the project does not install: fastText, spaCy, sentence encoders.

The peers have an environment of their own, so that they cannot change the versions of the project. Three steps:

    python benchmarks/task_peers.py export FOLDER [--sets "TREC;wnut17"] [--seeds 1,2,3]
    PEERS/bin/python benchmarks/task_peers_fit.py FOLDER [--models "fasttext;minilm"]
    python benchmarks/task_peers.py rows FOLDER RESULTS

1. `export` writes the texts of each set and seed to FOLDER: those on which tasks.py trains, their noised copies, and
   the noised validation and test texts on which it measures.
2. `task_peers_fit.py` trains the peers on these texts and writes their predictions. It needs no part of the project.
   Create PEERS once: `python3.11 -m venv PEERS && PEERS/bin/pip install -r benchmarks/task_peers.txt`.
3. `rows` measures the predictions and appends them to RESULTS, in the form of tasks.py; `tasks.py RESULTS --report`
   compares all models. Log-probabilities go to the folder `scores` next to RESULTS, for benchmarks/fusing.py.

All steps skip what is already there. A folder per set and seed has these files:

```
set.json       name of the set, seed, task, labels, whether the examples are pairs
texts.jsonl    the texts with `split` and `rate`; the splits are those of `SPLITS`
MODEL.json     predictions of a peer on the test texts per noise rate, processor seconds, size of the model
MODEL.npz      log-probabilities on test and validation texts, for sentence encoders
```
"""

import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rows import options, seed_list
from task_data import TaskSet, task_sets
from tasks import COPIES, line_of, measured, read, scored_texts, test_copies, training_copies

from cclm_core.corpus.records import Entity
from cclm_core.finetuning.fit import TaskData
from cclm_core.labeled.examples import LabeledText

DESCRIPTION, TEXTS = "set.json", "texts.jsonl"
SPLITS = ("train", "validation", "train copy", "validation copy", "test", "noised validation")
"""Training and validation texts, their copies for training with noise, and the texts to measure and to score."""


def export(folder: Path, names: list[str], seeds: list[int]) -> None:
    """Writes the texts of the sets that are missing in `folder`."""
    for seed in seeds:
        for name, load in task_sets(seed):
            target = folder / f"{name}, {seed}"
            if (names and name not in names) or (target / DESCRIPTION).is_file():
                continue
            write_set(target, load(), seed)
            print(f"exported {target.name}", file=sys.stderr, flush=True)


def write_set(target: Path, task: TaskSet, seed: int) -> None:
    """Writes the texts of a set to the folder `target`."""
    data = task.data
    target.mkdir(parents=True, exist_ok=True)
    with (target / TEXTS).open("w", encoding="utf-8") as stream:
        for split, rate, texts in _exported(task, seed):
            for text in texts:
                stream.write(json.dumps({"split": split, "rate": rate, **_fields(text)}) + "\n")
    description = {"set": task.name, "seed": seed, "task": data.task, "labels": data.labels, "is_pair": data.is_pair}
    (target / DESCRIPTION).write_text(json.dumps(description))


def _exported(task: TaskSet, seed: int) -> Iterator[tuple[str, str, list[LabeledText]]]:
    """Split, noise rate and texts."""
    number = len(task.data.train)
    yield "train", "0", list(task.data.train)
    yield "validation", "0", list(task.data.validation)
    for rate in COPIES:
        copies = training_copies(task, rate, seed)
        yield "train copy", f"{rate:g}", copies[:number]
        yield "validation copy", f"{rate:g}", copies[number:]
    for name, texts in scored_texts(task, test_copies(task)).items():
        split, rate = name.split()
        yield "test" if split == "test" else "noised validation", rate, texts


def _fields(text: LabeledText) -> dict[str, Any]:
    """The fields of a text that are set."""
    fields = asdict(text) | {"entities": [entity._asdict() for entity in text.entities]}
    return {name: value for name, value in fields.items() if value not in (None, (), [], {})}


def _text(fields: dict[str, Any]) -> LabeledText:
    """The text with these fields."""
    values = {name: value for name, value in fields.items() if name not in ("split", "rate")}
    values["words"] = tuple((start, end) for start, end in values.get("words", ()))
    values["entities"] = tuple(Entity(**entity) for entity in values.get("entities", ()))
    return LabeledText(**values)


def rows(folder: Path, results: Path) -> None:
    """Appends a line per set, seed and peer to `results`, and copies the log-probabilities next to it."""
    done = {(row["set"], row["model"], row["seed"]) for row in read(results)}
    for path in sorted(folder.glob(f"*/{DESCRIPTION}")):
        description = json.loads(path.read_text())
        models = {file.stem: file for file in sorted(path.parent.glob("*.json")) if file != path}
        name, seed = description["set"], description["seed"]
        for file in path.parent.glob("*.npz"):
            scores = results.with_name("scores") / f"{name}, {file.stem}, {seed}.npz"
            scores.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, scores)
        missing = [model for model in models if (name, model, seed) not in done]
        if not missing:
            continue
        copies: dict[float, list[LabeledText]] = defaultdict(list)
        with (path.parent / TEXTS).open(encoding="utf-8") as stream:
            for fields in map(json.loads, stream):
                if fields["split"] == "test":
                    copies[float(fields["rate"])].append(_text(fields))
        data = TaskData(task=description["task"], labels=tuple(description["labels"]), train=[], validation=[])
        task = TaskSet(name, data, copies[0.0])
        with results.open("a") as stream:
            for model in missing:
                row = _row(task, copies, json.loads(models[model].read_text()), model=model, seed=seed)
                stream.write(json.dumps(row) + "\n")
                print(line_of(row), file=sys.stderr, flush=True)


def _row(
    task: TaskSet, copies: dict[float, list[LabeledText]], predicted: dict[str, Any], **facts: Any
) -> dict[str, Any]:
    """A line of the results: what is measured on the predictions of a peer."""
    answers = {id(texts): predicted["predictions"][f"{rate:g}"] for rate, texts in copies.items()}
    facts |= {"seconds": predicted["seconds"], "megabytes": predicted["megabytes"]}
    return measured(task, copies, lambda texts: answers[id(texts)], **facts)


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("step", choices=("export", "rows"))
    parser.add_argument("folder", type=Path, help="folder of the texts and predictions")
    parser.add_argument("results", type=Path, nargs="?", help="with `rows`: the results of tasks.py")
    parser.add_argument("--sets", default="", help="names of sets, separated by `;` (default: all)")
    parser.add_argument("--seeds", type=seed_list, default=[1, 2, 3])
    args = parser.parse_args()
    if args.step == "export":
        export(args.folder, [name for name in args.sets.split(";") if name], args.seeds)
    elif args.results is None:
        parser.error("`rows` needs the file RESULTS")
    else:
        rows(args.folder, args.results)
