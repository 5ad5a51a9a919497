"""Trains the peers of benchmarks/task_peers.py, which explains the steps; needs no part of the project.

    PEERS/bin/python benchmarks/task_peers_fit.py FOLDER [--models "fasttext;minilm"] [--sets …] [--seeds 1,2,3]

```
fasttext     fastText: character n-grams 2 to 5 and word bigrams, 100 dimensions; one label per text
spacy        spaCy from random weights: bag of words and CNN for one label per text; the small CNN for entities
minilm       all-MiniLM-L6-v2 (22 M parameters, trained on a billion pairs), frozen: means of its features, normalized,
             with logistic regression; pairs: products and differences of both texts; numbers: ridge regression;
             entities: features of each word
wordllama    static vectors of word pieces (trained by the authors of wordllama), as for minilm; entities: vectors of
             the word and its neighbors
MODEL+noise  the same, with three noised copies of the training texts, as for `ngrams+noise`
```

All train on the training and validation texts, with one thread. A training that takes longer than `--limit` processor
seconds stops there: fastText and logistic regression have a fixed number of steps, and spaCy ends with the current
epoch. Where there are validation texts, spaCy keeps the weights of the best epoch on them, and does not train on them.
The other fixed settings are those that the libraries recommend. Seconds are those of encoding the training texts and
of fitting. The words of tagged texts are given, also where noise merged or split them.
"""

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before NumPy and torch are imported, which read the number of threads then
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[variable] = "1"
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

import numpy as np
from task_peers_encoders import Encoded, MiniLM, WordLlama
from task_peers_trained import FastText, SpacyEntities, SpacyLabels

Text = dict[str, Any]
Texts = dict[tuple[str, str], list[Text]]


def read_texts(path: Path) -> Texts:
    """Split and noise rate -> texts."""
    texts: Texts = defaultdict(list)
    with path.open(encoding="utf-8") as stream:
        for fields in map(json.loads, stream):
            texts[fields["split"], fields["rate"]].append(fields)
    return texts


def learned(texts: Texts, split: str, noised: bool) -> list[Text]:
    """The texts of a split to train on, with their copies."""
    copies = [key for key in texts if key[0] == f"{split} copy"] if noised else []
    return [text for key in [(split, "0"), *copies] for text in texts.get(key, [])]


def build(model: str, description: dict[str, Any], encoders: dict[str, Any], limit: float) -> Any:
    """A peer; None if it cannot do the task."""
    task, labels, seed = description["task"], description["labels"], description["seed"]
    if model in ("minilm", "wordllama"):
        if model not in encoders:
            encoders[model] = {"minilm": MiniLM, "wordllama": WordLlama}[model]()
        return Encoded(encoders[model], task, labels, description["is_pair"])
    if description["is_pair"]:
        return None
    if model == "spacy":
        return SpacyEntities(seed, limit) if task == "tag" else SpacyLabels(labels, seed, limit)
    return FastText(labels, seed) if task == "classify" else None


def fit(target: Path, model: str, encoders: dict[str, Any], limit: float) -> None:
    """Trains a peer on a set and writes its predictions and log-probabilities."""
    description = json.loads((target / "set.json").read_text())
    name, _, noised = model.partition("+")
    peer = build(name, description, encoders, limit)
    if peer is None:
        return
    texts = read_texts(target / "texts.jsonl")
    tests = {rate: rows for (split, rate), rows in texts.items() if split == "test"}
    start = time.process_time()
    peer.fit(*(learned(texts, split, bool(noised)) for split in ("train", "validation")))
    seconds = time.process_time() - start + getattr(peer, "saved_seconds", 0)
    scored = {(split, rate): rows for (split, rate), rows in texts.items() if split in ("test", "noised validation")}
    scores = peer.scores({f"{split.split()[-1]} {rate}": rows for (split, rate), rows in scored.items()})
    if scores:
        temporary = target / f".{model}.npz"
        np.savez_compressed(temporary, **{f"{key}, {model}": values for key, values in scores.items()})
        temporary.rename(target / f"{model}.npz")
    result = {"seconds": seconds, "megabytes": peer.megabytes}
    result["predictions"] = {rate: peer.predict(rows) for rate, rows in tests.items()}
    temporary = target / f".{model}.partial"
    temporary.write_text(json.dumps(result))
    temporary.rename(target / f"{model}.json")
    print(f"{target.name}, {model}: {seconds:.0f} s, {peer.megabytes:.1f} MB", file=sys.stderr, flush=True)


def main() -> None:
    """Trains what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", default="fasttext;fasttext+noise;wordllama;minilm;spacy")
    parser.add_argument("--sets", default="", help="names of sets, separated by `;` (default: all)")
    parser.add_argument("--seeds", default="", help="seeds, separated by commas (default: all)")
    parser.add_argument("--limit", type=float, default=600, help="processor seconds of a training (default: 600)")
    args = parser.parse_args()
    encoders: dict[str, Any] = {}
    folders = sorted(path.parent for path in args.folder.glob("*/set.json"))
    for target in folders:
        name, _, seed = target.name.rpartition(", ")
        if (args.sets and name not in args.sets.split(";")) or (args.seeds and seed not in args.seeds.split(",")):
            continue
        for model in args.models.split(";"):
            if not (target / f"{model}.json").is_file():
                fit(target, model, encoders, args.limit)


if __name__ == "__main__":
    main()
