"""The author evidence of benchmarks/authors.py: a causal language model, adapted to a population and to each author."""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from author_data import SEED, AuthorSet
from language import Texts, plan, train_model
from task_data import general_texts

from cclm_core.applications.author_evidence import AuthorEvidence
from cclm_core.applications.language_model import LanguageModel
from cclm_core.runtime.random import derive

STEPS, CHARACTERS = 300, 6_000_000  # of the language model
POPULATION = 150  # paragraphs


def language_model(folder: Path) -> LanguageModel:
    """The model in `folder`, trained on general text if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = "\n".join(general_texts())[:CHARACTERS]
    parts = Texts(texts[:-200_000], texts[-200_000:-100_000], texts[-100_000:])
    model, metrics = train_model(parts, plan(STEPS, 16384), folder)
    print(f"language model: {metrics}", file=sys.stderr, flush=True)
    return model


def pair_evidence(texts: AuthorSet, folder: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Bits of evidence per character (P,) that the author of the known side wrote the other one.

    The output layer of the population is fitted first, on known paragraphs of the authors of the other fold.
    """
    model, pairs = language_model(folder), texts.pairs
    sides = {copy: texts.joined(copy) for copy in texts.copies}
    scores = {f"{copy}, verification": np.zeros(len(pairs.truths)) for copy in sides}
    for fold in (0, 1):
        evidence = AuthorEvidence(model, population=_population(texts.population(fold).texts))
        for pair in np.flatnonzero(pairs.folds == fold).tolist():
            if pair == 0 or (pairs.known[pair] != pairs.known[pair - 1]).any():
                evidence.add("author", [texts.known.texts[row] for row in pairs.known[pair].tolist()])
            for copy, questioned in sides.items():
                bits = evidence.bits([questioned[pair]])[0, 0]
                scores[f"{copy}, verification"][pair] = bits / len(questioned[pair])
    return scores


def attribution_evidence(texts: AuthorSet, folder: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Bits of evidence (N, A) that each author wrote each paragraph, against known paragraphs of all authors."""
    evidence = AuthorEvidence(language_model(folder), population=_population(texts.known.texts))
    for author in texts.labels:
        own = [text for text, name in zip(texts.known.texts, texts.known.authors, strict=True) if name == author]
        evidence.add(author, own)
    return {f"{copy}, attribution": evidence.bits(rows) for copy, rows in texts.copies.items()}


def _population(texts: list[str]) -> list[str]:
    rows = derive(SEED, "population").permutation(len(texts))[:POPULATION]
    return [texts[row] for row in np.sort(rows).tolist()]
