"""Objectives over one pass of the encoder: the same gradients as over several, one noise, the masks of all."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.windows import WindowBatch
from cclm_core.objectives.base import Example, Objective, ObjectiveContext, Sums, pinned
from cclm_core.objectives.catalogue import (
    CharactersConfig,
    DenoiseConfig,
    DetectConfig,
    EntitiesConfig,
    MaskedCharactersConfig,
    MaskedWordsConfig,
)
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.reporting import null_report
from cclm_core.text.vocabulary import MASK, Preprocessor, TargetsConfig
from cclm_core.training.config import BaseConfig
from cclm_core.training.loop import evaluate, train
from cclm_core.training.module import TrainingModule
from tests.corpora import encode, records
from tests.training.trainings import CONFIG, SEED, data, new_module

MASKING = (MaskedCharactersConfig(), MaskedWordsConfig(), CharactersConfig())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    return encode(tmp_path_factory.mktemp("corpus") / "encoded", records(60), TargetsConfig(min_count=1))


def batch_of(corpus: EncodedCorpus) -> WindowBatch:
    return data(corpus, CONFIG).training.batch(3, 6, 1)


def gradients(module: TrainingModule, examples: list[Example]) -> dict[str, Tensor]:
    module.zero_grad()
    module(examples)[0].backward()
    return {name: weight.grad.clone() for name, weight in module.named_parameters() if weight.grad is not None}


def count_passes(module: TrainingModule, examples: list[Example]) -> int:
    shapes: list[Any] = []
    hook = module.encoder.register_forward_hook(lambda *_: shapes.append(1))
    module(examples)
    hook.remove()
    return len(shapes)


def test_masking_objectives_share_one_pass_with_the_gradients_of_several(corpus: EncodedCorpus) -> None:
    module = new_module(corpus, *MASKING, DetectConfig(), noise_rate=0.1, shared_pass=True).double()
    examples = module.examples(batch_of(corpus), True, SEED, "training", 0)
    apart = [example._replace(ids=example.ids.clone()) for example in examples]
    assert (count_passes(module, examples), count_passes(module, apart)) == (2, 4)
    together, separate = gradients(module, examples), gradients(module, apart)
    assert together.keys() == separate.keys()
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, separate[name], rtol=1e-12, atol=1e-14)


class Sum(Objective):
    """A loss in exact arithmetic: features times whole numbers."""

    selection_metric = "sum"

    def __init__(self, context: ObjectiveContext, factor: int) -> None:
        super().__init__(context)
        self.head = nn.Parameter(torch.tensor([factor, 3 - factor], dtype=torch.double))

    def example(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Example:  # noqa: ARG002
        """The ids themselves."""
        return Example(torch.from_numpy(batch.ids), {})

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:  # noqa: ARG002
        """The weighted sum of all features."""
        return (features * self.head).sum(), {}


def test_in_exact_arithmetic_the_gradients_are_identical() -> None:
    """Whole numbers below 2^53 are exact in float64, so the order of additions does not matter."""
    context = ObjectiveContext(width=2, preprocessor=Preprocessor(alphabet="ab"))
    encoder = nn.Embedding(10, 2).double()
    with torch.no_grad():
        encoder.weight.copy_(torch.arange(20).view(10, 2))
    module = TrainingModule(encoder, [(Sum(context, 2), 1.0), (Sum(context, 7), 0.5), (Sum(context, 5), 4.0)])
    ids = torch.randint(10, (4, 9), generator=torch.Generator().manual_seed(1))
    shared, apart = [Example(ids, {})] * 3, [Example(ids.clone(), {}) for _ in range(3)]
    assert (count_passes(module, shared), count_passes(module, apart)) == (1, 3)
    together, separate = gradients(module, shared), gradients(module, apart)
    assert len(together) == 4 and all(torch.equal(together[name], separate[name]) for name in together)


def test_noise_is_drawn_once_and_every_objective_sees_the_masks_of_all(corpus: EncodedCorpus) -> None:
    module = new_module(corpus, *MASKING, noise_rate=0.2, shared_pass=True)
    alone = new_module(corpus, *MASKING, noise_rate=0.2)
    batch = batch_of(corpus)
    examples, separate = (part.examples(batch, True, SEED, "training", 0) for part in (module, alone))
    assert all(example.ids is examples[0].ids for example in examples)
    assert len({example.ids.data_ptr() for example in separate}) == 3
    num_masked = [int((example.ids == MASK).sum()) for example in (examples[0], *separate)]
    assert num_masked[0] > max(num_masked[1:])
    for example in examples:
        assert len(example.targets["positions"]) > 0


def test_held_out_metrics_do_not_depend_on_sharing(corpus: EncodedCorpus) -> None:
    points = []
    for shared in (False, True):
        module = new_module(corpus, *MASKING, shared_pass=shared)
        points.append(evaluate(module, data(corpus, CONFIG).held_out.fixed(8, SEED), CONFIG, SEED))
    assert points[0] == points[1] and len(points[0]) == 4


def test_objectives_with_other_errors_or_no_masks_have_their_own_input(corpus: EncodedCorpus) -> None:
    noise = DenoiseConfig().noise
    configs = [MaskedCharactersConfig(), DenoiseConfig(), DetectConfig(), DetectConfig(noise={"rate": 0.3}),
               EntitiesConfig()]  # fmt: skip
    assert DetectConfig().noise == noise
    module = new_module(corpus, *configs, shared_pass=True)
    examples = module.examples(batch_of(corpus), True, SEED, "training", 0)
    assert [examples[1].ids is example.ids for example in examples] == [False, True, True, False, False]
    assert count_passes(module, examples) == 4


def test_a_training_learns_all_objectives(corpus: EncodedCorpus) -> None:
    config = CONFIG.model_copy(update={"steps": 40, "evaluate_every": 40})
    module = new_module(corpus, *MASKING, shared_pass=True)
    first, last = train(module, data(corpus, config), config, SEED, None, null_report)
    for name in ("bits_per_masked_character", "bits_per_byte"):
        assert last[f"held_out_{name}"] < 0.8 * first[f"held_out_{name}"]


def test_the_number_of_prefetching_threads_does_not_change_the_result(corpus: EncodedCorpus) -> None:
    config, curves = CONFIG.model_copy(update={"steps": 4}), []
    for workers in (0, 2):
        module = new_module(corpus, *MASKING, shared_pass=True)
        curves.append(train(module, data(corpus, config), config, SEED, None, null_report, workers))
    assert curves[0] == curves[1]


def test_sharing_without_a_partner_is_refused(corpus: EncodedCorpus) -> None:
    with pytest.raises(ConfigError, match="needs two objectives with the same kind of input, got Masked"):
        new_module(corpus, MaskedCharactersConfig(), EntitiesConfig(), shared_pass=True)


def test_the_configuration_is_unchanged_unless_it_shares() -> None:
    assert "shared_pass" not in BaseConfig().canonical()
    assert BaseConfig(shared_pass=True).canonical()["shared_pass"] is True


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory needs a GPU")
def test_pinned_examples_still_share_their_ids() -> None:
    ids = torch.zeros(2, 3, dtype=torch.int64)
    first, second, third = pinned([Example(ids, {}), Example(ids, {}), Example(ids.clone(), {})])
    assert first.ids is second.ids and first.ids is not third.ids and first.ids.is_pinned()
