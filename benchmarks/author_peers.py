"""Compression and LambdaG on the texts of benchmarks/authors.py; needs no part of the project.

The peers have an environment of their own, so that they cannot change the versions of the project:

    python3.11 -m venv PEERS && PEERS/bin/pip install -r benchmarks/author_peers.txt
    python benchmarks/authors.py FOLDER --export
    PEERS/bin/python benchmarks/author_peers.py FOLDER [--models compression,lambdag]
    python benchmarks/authors.py FOLDER --report

```
compression   PPMd: by how much the known texts shorten a text, per character
lambdag       lambdag 0.2.0, likelihood ratios of n-gram grammars, with the settings of its documentation: words in
              lower case, order 10, Kneser-Ney smoothing; references of as many sentences as the known text has,
              from other authors: 10 for a pair, 3 for attribution. Its authors recommend to replace words that tell
              the topic first (POSNoise); that needs lists that the package does not have, so it is left out.
```

Scores go to the folder `scores`, in the form of authors.py. What is there is skipped.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before NumPy is imported, which reads the number of threads then
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import numpy as np
import numpy.typing as npt

PAIR_REFERENCES, AUTHOR_REFERENCES = 10, 3
Scores = npt.NDArray[np.float64]
Texts = dict[str, Any]


def compression(texts: Texts) -> dict[str, Scores]:
    """Bits per character by which a text is shorter after the known texts of an author."""
    import pyppmd

    @lru_cache(maxsize=1 << 12)
    def size(text: str) -> int:
        """Size after PPMd of order 6, in bits."""
        encoder = pyppmd.Ppmd8Encoder(6, 16 << 20)
        return 8 * len(encoder.encode(text.encode()) + encoder.flush())

    def gain(known: str, text: str) -> float:
        """Bits per character that `known` saves."""
        return (size(text) + size(known) - size(f"{known}\n{text}")) / len(text)

    authors = ["\n".join(_by(texts, author)) for author in texts["authors"]]
    scores = {}
    for copy, rows in texts["copies"].items():
        scores[f"{copy}, attribution"] = np.array([[gain(known, text) for known in authors] for text in rows])
        pairs = zip(texts["pairs"]["known"], texts["pairs"][copy], strict=True)
        scores[f"{copy}, verification"] = np.array([gain(known, text) for known, text in pairs])
    return scores


def lambdag(texts: Texts) -> dict[str, Scores]:
    """Log-likelihood ratios per character."""
    from lambdag import LambdaGMethod

    method = LambdaGMethod(
        basis="tokens", order=10, smoothing="kneser_ney", lowercasing=True, sentenize=True, num_references=0
    )
    generator = np.random.default_rng(1)

    @lru_cache(maxsize=1 << 14)
    def sentences(text: str) -> tuple[Any, ...]:
        """The sentences of a text."""
        return tuple(method._preprocess_text(text))

    def likelihood(model: Any, text: str) -> float:
        """Log-likelihood per character."""
        return sum(float(np.log10(model.probabilities(row)).sum()) for row in sentences(text)) / len(text)

    def ratios(known: list[Any], others: list[Any], number: int, questioned: list[str]) -> list[float]:
        """The ratio of each text in question."""
        own = method._fit_new_language_model(known)
        values = np.array([likelihood(own, text) for text in questioned])
        for _ in range(number):
            drawn = generator.choice(len(others), size=min(len(known), len(others)), replace=False)
            reference = method._fit_new_language_model([others[row] for row in drawn])
            values -= np.array([likelihood(reference, text) for text in questioned]) / number
        return values.tolist()

    by_author = {name: [row for text in _by(texts, name) for row in sentences(text)] for name in texts["authors"]}
    copies = list(texts["copies"])
    scores = {f"{copy}, verification": np.zeros(len(texts["pairs"]["known"])) for copy in copies}
    pairs = texts["pairs"]
    for row in range(0, len(pairs["known"]), 2):  # both pairs of a known side
        assert pairs["known"][row] == pairs["known"][row + 1]
        others = [
            sentence
            for name, values in by_author.items()
            if texts["folds"][name] != pairs["folds"][row]
            for sentence in values
        ]
        questioned = [pairs[copy][row + side] for copy in copies for side in (0, 1)]
        values = ratios(list(sentences(pairs["known"][row])), others, PAIR_REFERENCES, questioned)
        for number, copy in enumerate(copies):
            scores[f"{copy}, verification"][row : row + 2] = values[2 * number : 2 * number + 2]
    every = [text for copy in copies for text in texts["copies"][copy]]
    columns = []
    for author in texts["authors"]:
        others = [sentence for name, values in by_author.items() if name != author for sentence in values]
        columns.append(ratios(by_author[author], others, AUTHOR_REFERENCES, every))
    for copy, values in zip(copies, np.split(np.array(columns).T, len(copies)), strict=True):
        scores[f"{copy}, attribution"] = values
    return scores


def _by(texts: Texts, author: str) -> list[str]:
    return [text for text, name in zip(texts["known"], texts["known authors"], strict=True) if name == author]


METHODS: dict[str, Callable[[Texts], dict[str, Scores]]] = {"compression": compression, "lambdag": lambdag}


def main() -> None:
    """Measures what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", default="compression,lambdag")
    args = parser.parse_args()
    for source in sorted((args.folder / "texts").glob("*.json")):
        for model in args.models.split(","):
            target = args.folder / "scores" / f"{source.stem}, {model}.npz"
            if target.is_file():
                continue
            start = time.process_time()
            scores = METHODS[model](json.loads(source.read_text(encoding="utf-8")))
            target.parent.mkdir(exist_ok=True)
            temporary = target.with_name(f".{target.name}")
            np.savez_compressed(temporary, **scores)
            temporary.rename(target)
            print(f"{target.stem}: {time.process_time() - start:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
