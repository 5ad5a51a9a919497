"""The texts of benchmarks/authors.py: paragraphs with their authors, copies with typing errors, and pairs to verify.

Everything is drawn from a fixed seed, so that all methods answer the same questions. Read from a folder that is not
part of the project.
"""

import json
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from task_data import DATA

from cclm_core.noise.recipe import NoiseConfig
from cclm_core.noise.text import TextNoiser
from cclm_core.runtime.random import derive

SEED = 1
PARAGRAPHS = 5  # per side of a pair
RATE = 0.1  # of typing errors
COPIES = ("clean", "10 % typos")
SETS = {
    "PEP and EIP authors": ("peps_eips_by_author.jsonl", "doc", 4),
    "novelists": ("gutenberg_by_author.jsonl", "book", 15),
}
"""Name -> file, key of the document, and verification pairs of each kind per author."""
READ_BY_BASE = ("98-0", "pg1342")
"""Two of the 14 novels are among the texts for pretraining (task_data.py), so they are not for testing."""


class Paragraphs(NamedTuple):
    """Paragraphs with their authors and documents."""

    texts: list[str]
    authors: list[str]
    documents: list[str]


class Pairs(NamedTuple):
    """Questions whether an author wrote some paragraphs.

    Attributes:
        known: (P, 5) rows of the known paragraphs.
        questioned: (P, 5) rows of the test paragraphs.
        truths: (P,) bool, whether the author of the known ones wrote them.
        folds: (P,) 0 or 1. Each fold has its own half of the authors. A method may learn from the known paragraphs of
            the other fold, and is calibrated on the pairs of the other fold,
            which it has scored in the same way.
        authors: (P,) the author of the known paragraphs.
    """

    known: npt.NDArray[np.int64]
    questioned: npt.NDArray[np.int64]
    truths: npt.NDArray[np.bool_]
    folds: npt.NDArray[np.int64]
    authors: list[str]


class AuthorSet(NamedTuple):
    """A set of paragraphs.

    Attributes:
        name: its name.
        known: the paragraphs to learn from.
        test: those to attribute, of other documents by the same authors.
        copies: name of a copy -> the texts of `test`, clean and with typing errors.
        pairs: pairs to verify.
        folds: author -> 0 or 1, see `Pairs`.
    """

    name: str
    known: Paragraphs
    test: Paragraphs
    copies: dict[str, list[str]]
    pairs: Pairs
    folds: dict[str, int]

    @property
    def labels(self) -> list[str]:
        """The authors."""
        return sorted(set(self.known.authors))

    def population(self, fold: int) -> Paragraphs:
        """The known paragraphs of the authors of the other fold."""
        rows = [row for row, author in enumerate(self.known.authors) if self.folds[author] != fold]
        return Paragraphs(*([values[row] for row in rows] for values in self.known))

    def joined(self, copy: str) -> list[str]:
        """One side of each pair as one text: the known one, or the questioned one of a copy."""
        if copy == "known":
            return [" ".join(self.known.texts[row] for row in rows) for rows in self.pairs.known.tolist()]
        return [" ".join(self.copies[copy][row] for row in rows) for rows in self.pairs.questioned.tolist()]


def author_set(name: str) -> AuthorSet:
    """Reads a set; a third of the documents of each author is for testing."""
    file, key, number = SETS[name]
    rows = [json.loads(line) for line in (DATA / "authors" / file).read_text(encoding="utf-8").splitlines()]
    documents: dict[str, list[str]] = {}
    for row in rows:
        own = documents.setdefault(row["author"], [])
        if row[key] not in own:
            own.append(row[key])
    held_out = {
        (author, document)
        for author, names in documents.items()
        for document in sorted(set(names) - set(READ_BY_BASE))[: max(1, len(names) // 3)]
    }
    known, test = (_paragraphs(rows, key, held_out, side) for side in (False, True))
    noised = TextNoiser(NoiseConfig().recipe(RATE)).batch(test.texts, derive(SEED, "noise", name))
    copies = dict(zip(COPIES, (test.texts, [result.text for result in noised]), strict=True))
    folds = {author: number % 2 for number, author in enumerate(sorted(documents))}
    return AuthorSet(name, known, test, copies, _pairs(known, test, folds, number), folds)


def _paragraphs(rows: list[dict[str, Any]], key: str, held_out: set[tuple[str, str]], is_test: bool) -> Paragraphs:
    selected = [row for row in rows if ((row["author"], row[key]) in held_out) == is_test]
    return Paragraphs(*([str(row[name]) for row in selected] for name in ("text", "author", key)))


def _pairs(known: Paragraphs, test: Paragraphs, folds: dict[str, int], number: int) -> Pairs:
    """`number` pairs of each kind per author; both sides come from different documents."""
    generator = derive(SEED, "pairs")
    rows: list[dict[str, list[int]]] = [{}, {}]
    for side, paragraphs in zip(rows, (known, test), strict=True):
        for row, author in enumerate(paragraphs.authors):
            side.setdefault(author, []).append(row)
    authors = [name for name in sorted(folds) if min(len(side.get(name, [])) for side in rows) >= PARAGRAPHS]
    pairs = []
    for author in authors:
        others = [other for other in authors if other != author and folds[other] == folds[author]]
        for _ in range(number):
            own = generator.permutation(rows[0][author])[:PARAGRAPHS]
            for name in (author, others[int(generator.integers(len(others)))]):
                questioned = generator.permutation(rows[1][name])[:PARAGRAPHS]
                pairs.append((own, questioned, name == author, folds[author], author))
    columns = list(zip(*pairs, strict=True))
    return Pairs(*(np.array(column) for column in columns[:4]), list(columns[4]))  # type: ignore[arg-type]
