"""Linear probes for BIO tags on some components of a composition, and noised copies of tagged texts."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from cclm_core.corpus.encoded import EncodedCorpus, begin_tag
from cclm_core.corpus.records import Entity
from cclm_core.evaluation.candidates import Candidate
from cclm_core.evaluation.held_out import SelectionNoise
from cclm_core.evaluation.linear_probe import LinearProbe
from cclm_core.evaluation.metrics import Floats
from cclm_core.evaluation.part_choice import Numbers, ProbeCandidate
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.spans import Scores, gold_spans
from cclm_core.evaluation.tag_sampling import Tagged
from cclm_core.evaluation.views import Parts, View


class TagsFitter:
    """Fits tag probes on some components; a `part_choice.Fitter`.

    Args:
        parts: the components and their features.
        reader: computes features.
        levels: the validation texts at each level of noise.
        fit: fits a probe on a view; its features are those of the whole composition.
    """

    def __init__(
        self, parts: Parts, reader: Reader, levels: Sequence[Tagged], fit: Callable[[View], LinearProbe]
    ) -> None:
        self._parts, self._reader, self._levels, self._fit = parts, reader, levels, fit
        self._probes: dict[Numbers, LinearProbe] = {}
        self._scores: dict[Numbers, Floats] = {}

    def scores(self, selections: Sequence[Numbers]) -> list[Floats]:
        """See `Fitter.scores`. The validation texts are read once for all selections, since features are large."""
        names = tuple(self._parts.columns)
        probes = [self._fit(self._parts.view([names[part] for part in parts])) for parts in selections]
        levels = [tag_scores(self._reader, probes, level) for level in self._levels]
        for row, (parts, probe) in enumerate(zip(selections, probes, strict=True)):
            self._probes[parts] = probe
            self._scores[parts] = np.concatenate([text for level in levels for text in level[row]]).astype(np.float64)
        return [self._scores[parts] for parts in selections]

    def scaled_scores(self, parts: Numbers, factors: tuple[float, ...]) -> None:
        """See `Fitter.scaled_scores`. Each would be one more training, so factors are not compared."""

    def probe(self, candidate: Candidate) -> LinearProbe:
        """The probe of a candidate whose probes were fitted."""
        assert isinstance(candidate, ProbeCandidate)
        probes = [self._probes[parts] for parts in _selections(candidate)]
        joined = LinearProbe.weighted_sum(probes, candidate.part_weights)
        bonus = torch.full_like(joined.bias, candidate.bonus)
        bonus[0] = 0
        return joined._replace(bias=joined.bias + bonus)

    def level_scores(self, candidate: Candidate) -> list[list[Scores]]:
        """The scores (L, 1 + 2K) of a candidate, for each level and text. They are not normalized."""
        assert isinstance(candidate, ProbeCandidate)
        weighted = zip(candidate.part_weights, _selections(candidate), strict=True)
        rows = sum((weight * self._scores[parts] for weight, parts in weighted), np.zeros(1))
        rows[:, 1:] += candidate.bonus
        lengths = [len(ids) for level in self._levels for ids in level.texts]
        every = iter(np.split(rows.astype(np.float32), np.cumsum(lengths)))
        return [[next(every) for _ in level.texts] for level in self._levels]


def _selections(candidate: ProbeCandidate) -> list[Numbers]:
    """The parts that each probe of a candidate reads."""
    return [(part,) for part in candidate.parts] if candidate.is_fused else [candidate.parts]


def tag_scores(reader: Reader, probes: Sequence[LinearProbe], texts: Tagged) -> list[list[Scores]]:
    """For each probe, the tag scores (L, 1 + 2K) of each text. The texts are read once."""
    scores = [[np.zeros((len(ids), len(probe.bias)), np.float32) for ids in texts.texts] for probe in probes]
    for text, start, features in reader.pieces(texts.texts):
        for probe, own in zip(probes, scores, strict=True):
            own[text][start : start + len(features)] = probe.log_probabilities(features).numpy()
    return scores


def noised_copies(tagged: Tagged, noise: SelectionNoise, corpus: EncodedCorpus, seed: int) -> list[Tagged]:
    """A copy of tagged texts per rate of noise. The entities move with their characters; lost ones are left out."""
    preprocessor, labels = corpus.preprocessor, corpus.entity_labels
    texts = [preprocessor.decode(ids) for ids in tagged.texts]
    entities = [
        [Entity(*span) for span in gold_spans(ids, tags, preprocessor, labels)] if tags.any() else []
        for ids, tags in zip(tagged.texts, tagged.tags, strict=True)
    ]
    copies = []
    for noised in noise.copies(texts, seed, "tags", entities):
        copy = Tagged([], [], list(tagged.weights))
        for text in noised:
            offsets = preprocessor.offsets(text.text)
            tags = np.zeros(len(offsets), dtype=np.uint8)
            for entity in text.entities:
                inside = np.flatnonzero((offsets >= entity.start) & (offsets < entity.end))
                begin = begin_tag(labels.index(entity.label))
                tags[inside] = begin + 1
                tags[inside[:1]] = begin
            copy.texts.append(preprocessor.encode(text.text))
            copy.tags.append(tags)
        copies.append(copy)
    return copies
