"""Learned transitions: equal to summing over all sequences, decoded exactly, and learned from sequences."""

import itertools
import math

import numpy as np
import pytest
import torch

from cclm_core.evaluation.spans import Tagging, TagTransitions, best_tags
from cclm_core.heads.base import HeadContext
from cclm_core.heads.tags import TagsConfig
from cclm_core.heads.transitions import Transitions, padded_words, places_of
from cclm_core.runtime.errors import ConfigError

NUM_TAGS = 3
LENGTHS = (4, 1, 0, 2)


def random_transitions() -> Transitions:
    transitions, generator = Transitions(NUM_TAGS), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in transitions.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return transitions.requires_grad_(False)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return torch.randn(*mask.shape, NUM_TAGS, generator=torch.Generator().manual_seed(2)), mask


def scores_of_paths(transitions: Transitions, scores: torch.Tensor) -> dict[tuple[int, ...], float]:
    """The score of every sequence of tags of one text (T, Y), added up by hand."""
    paths = {}
    for path in itertools.product(range(NUM_TAGS), repeat=len(scores)):
        steps = sum(float(transitions.between[pair]) for pair in itertools.pairwise(path))
        own = sum(float(scores[word, tag]) for word, tag in enumerate(path))
        paths[path] = own + steps + float(transitions.first[path[0]] + transitions.last[path[-1]])
    return paths


def test_sums_and_marginals_equal_those_over_all_sequences() -> None:
    transitions, (scores, mask) = random_transitions(), batch()
    totals, marginals = transitions.log_partition(scores, mask), transitions.log_marginals(scores, mask).exp()
    for row, length in enumerate(LENGTHS):
        if not length:
            assert totals[row] == 0
            continue
        paths = scores_of_paths(transitions, scores[row, :length])
        total = math.log(sum(map(math.exp, paths.values())))
        assert float(totals[row]) == pytest.approx(total, abs=1e-4)
        for word, tag in itertools.product(range(length), range(NUM_TAGS)):
            expected = sum(math.exp(score - total) for path, score in paths.items() if path[word] == tag)
            assert float(marginals[row, word, tag]) == pytest.approx(expected, abs=1e-4)


def test_the_score_of_a_path() -> None:
    transitions, (scores, mask) = random_transitions(), batch()
    tags = torch.tensor([[2, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0], [0, 2, 0, 0]])
    for row, (value, length) in enumerate(
        zip(transitions.path_scores(scores, tags, mask).tolist(), LENGTHS, strict=True)
    ):
        paths = scores_of_paths(transitions, scores[row, :length]) if length else {(): 0.0}
        assert value == pytest.approx(paths[tuple(tags[row, :length].tolist())], abs=1e-4)


def test_decoding_finds_the_best_valid_sequence() -> None:
    transitions, (scores, _) = random_transitions(), batch()
    arrays = TagTransitions(*(values.detach().numpy() for values in transitions.state_dict().values()))
    texts = [
        Tagging(scores[row, :length].numpy(), np.ones(length + 1, dtype=bool), np.zeros(length, dtype=bool))
        for row, length in enumerate(LENGTHS)
    ]
    for row, (tags, length) in enumerate(zip(best_tags(texts, arrays), LENGTHS, strict=True)):
        paths = scores_of_paths(transitions, scores[row, :length]) if length else {}
        valid = {
            path: score
            for path, score in paths.items()
            if all(b != 2 or a in (1, 2) for a, b in zip((0, *path), path, strict=False))
        }
        assert tuple(tags) == (max(valid, key=valid.__getitem__) if valid else ())


def test_words_are_grouped_by_their_texts() -> None:
    row = torch.tensor([0, 0, 2])
    place, mask = places_of(row)
    padded = padded_words(torch.tensor([5.0, 6.0, 7.0]), row, place, mask)
    assert padded.tolist() == [[5.0, 6.0], [0.0, 0.0], [7.0, 0.0]]


def test_transitions_are_learned_where_words_say_nothing() -> None:
    """Every text is B I O B I O ..., and all words look alike: only the order of tags can be learned."""
    head = TagsConfig(transitions="learned", norm=False, dropout=0, word_layers=0).build(
        HeadContext(width=2, labels=("X",))
    )
    tags = torch.tensor([1, 2, 0] * 4)
    targets = {"row": torch.zeros(12, dtype=torch.int64), "tag": tags}
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(150):
        scores = head.linear(torch.ones(12, 6))
        loss, metrics = head.loss(scores, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert metrics["bits_per_tag"].total / 12 < 0.1 and metrics["tag_accuracy"].total == 12


def test_class_weights_need_independent_tags() -> None:
    context = HeadContext(width=2, labels=("X",), weights=(2.0,))
    with pytest.raises(ConfigError, match="class_weights cannot be used with transitions: learned"):
        TagsConfig(transitions="learned").build(context)
