"""Failures of shared layers in spaCy 3.8, each as a test that passes here.

Others are next to what they test:

- If the last component is frozen, the shared layer is never trained; a schedule of gradients fails at the first step:
  test_branches.py, `a_frozen_component_costs_nothing…`, `a_schedule_is_honored_at_every_step`.
- A resumed training differs from an uninterrupted one: test_interrupted.py.
- Nothing is measured on held-out text: test_loop.py, `held_out_metrics_improve`. Losses of two settings cannot be
  compared: tests/objectives/test_contract.py, test_vectors.py.
- Missing keys are filled in without a word, and unknown ones in overrides are accepted:
  tests/test_wrong_configurations.py, tests/cli/test_settings.py, tests/flows/test_params_file.py.
- A limit is stored and never read: tests/encoders/pretrained/test_vectors.py (`max_words`), tests/steps/test_noise.py
  (`max_documents`).
- Pretrained weights are ignored, or loaded although they mean something else, or a network cannot be named:
  tests/steps/test_initialize.py.
- The documented example of static vectors plus a trained table fails: tests/encoders/pretrained/test_vectors.py.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from cclm_core.composition.component import features_of
from cclm_core.composition.composed import ComposedModel
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.encoders.embedder import Embedder
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives import CharactersConfig, EntitiesConfig, MaskedCharactersConfig
from cclm_core.objectives.characters import ByteTable
from cclm_core.runtime.errors import CompositionError
from cclm_core.runtime.reporting import null_report
from cclm_core.training.component import component_module, new_component
from cclm_core.training.config import ComponentConfig
from cclm_core.training.loop import train
from cclm_core.training.run import TrainingInputs
from tests.corpora import encode, records
from tests.training.trainings import CONFIG, SEED, SHAPE, data, new_module

ENCODER = {"core_width": 32, "num_layers": 1, "num_heads": 2, "width": 16}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    folder = tmp_path_factory.mktemp("corpus") / "encoded"
    encode(folder, records(60))
    return EncodedCorpus.open(folder)


def embedder(corpus: EncodedCorpus) -> Embedder:
    encoder = new_module(corpus, MaskedCharactersConfig()).encoder
    assert isinstance(encoder, Embedder)
    return encoder


def ids_of(base: Embedder, text: str) -> torch.Tensor:
    return torch.from_numpy(base.preprocessor.encode(text)).long()[None]


def component_config(objective: str) -> ComponentConfig:
    return ComponentConfig.model_validate({"task": {"objective": objective}, "encoder": ENCODER})


def test_texts_with_the_same_words_in_another_order_have_other_features(corpus: EncodedCorpus) -> None:
    """A listener takes "dog bites man" for "man bites dog", because it compares sums of hashes."""
    base = embedder(corpus).eval()
    texts = [ids_of(base, text) for text in ("dog bites man", "man bites dog")]
    first, second = (base(ids) for ids in texts)
    assert not torch.equal(first, second)
    assert torch.equal(base(texts[0]), first), "nothing of another batch is left"


def test_a_component_never_reads_zeros_or_features_of_another_base(corpus: EncodedCorpus) -> None:
    """A listener whose upstream does not exist predicts from zeros."""
    base = embedder(corpus)
    inputs = TrainingInputs.open(corpus.folder, TrainingNoise(rate=0))
    component, _ = new_component(base, "entities", component_config("entities"), SEED, inputs)
    other = embedder(corpus)
    with torch.no_grad():
        other.embedding.characters.weight.add_(1)
    with pytest.raises(CompositionError, match="base"):
        ComposedModel(other, [component])


def test_a_width_that_does_not_fit_is_named_before_anything_is_computed(corpus: EncodedCorpus) -> None:
    """In spaCy, the width is repeated by hand, and a wrong one is an error of a matrix product."""
    inputs = TrainingInputs.open(corpus.folder, TrainingNoise(rate=0))
    component, _ = new_component(embedder(corpus), "entities", component_config("entities"), SEED, inputs)
    wide = SHAPE.model_copy(update={"encoder": SHAPE.encoder.model_copy(update={"width": 64})})
    with pytest.raises(CompositionError, match="entities"):
        ComposedModel(Embedder(corpus.preprocessor, wide), [component])


def test_the_first_step_changes_the_shared_layer(corpus: EncodedCorpus) -> None:
    """In spaCy's `Language.update`, the gradient arrives one step late."""
    module = new_module(corpus, MaskedCharactersConfig(), EntitiesConfig())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    config = CONFIG.model_copy(update={"steps": 1, "evaluate_every": 1})
    train(module, data(corpus, config), config, SEED, None, null_report)
    changed = {
        name.split(".")[0] for name, value in module.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"encoder", "objectives"}


def test_a_frozen_base_is_read_fresh_after_it_changes(corpus: EncodedCorpus) -> None:
    """A frozen, annotating layer reuses its old outputs for an equal batch."""
    base = embedder(corpus)
    inputs = TrainingInputs.open(corpus.folder, TrainingNoise(rate=0))
    component, _ = new_component(base, "entities", component_config("entities"), SEED, inputs)
    base.freeze()
    ids = ids_of(base, "the same batch")
    before = features_of(base, {"entities": component}, ids)["entities"]
    with torch.no_grad():
        base.embedding.characters.weight.mul_(2)
    assert not torch.equal(features_of(base, {"entities": component}, ids)["entities"], before)


def test_retraining_one_component_leaves_the_predictions_of_the_other_equal(corpus: EncodedCorpus) -> None:
    """With a shared layer, training spaCy's parser lowers its tagger from 92.2 to 86.0."""
    base, inputs = embedder(corpus).freeze(), TrainingInputs.open(corpus.folder, TrainingNoise(rate=0.02))
    first, head = new_component(base, "entities", component_config("entities"), SEED, inputs)
    second, objective = new_component(base, "masked", component_config("masked_characters"), SEED, inputs)
    ids = ids_of(base, "Ada wrote to Charles.")
    predicted = head.head(features_of(base, {"": first.eval()}, ids)[""])  # type: ignore[operator]
    weights = {name: value.clone() for name, value in base.state_dict().items()}
    config = CONFIG.model_copy(update={"steps": 4})
    train(component_module(base, second, objective), data(corpus, config), config, SEED, None, null_report)
    assert all(torch.equal(value, weights[name]) for name, value in base.state_dict().items())
    assert torch.equal(head.head(features_of(base, {"": first}, ids)[""]), predicted)  # type: ignore[operator]


def test_n_bytes_are_the_first_and_the_last_n_bytes_of_a_word(corpus: EncodedCorpus) -> None:
    """`n_characters=2` of spaCy gives j and g for "jumping", not the first two and the last two."""
    table = ByteTable(corpus.preprocessor)
    ids = np.asarray(corpus.preprocessor.encode("jumping"), dtype=np.int64)[None]
    edges = table.edges(ids, table.words(ids), 2)
    assert bytes(edges[0].tolist()) == b"ju" + b"gn"
    assert CharactersConfig(num_bytes=2).num_bytes == 2


def test_every_epoch_reads_the_whole_corpus_in_another_order(corpus: EncodedCorpus) -> None:
    """`spacy pretrain` drops long texts without a word, and reads every epoch in the same order."""
    source = data(corpus, CONFIG).training
    size = source.batches_per_epoch(4)
    epochs = [
        np.concatenate([source.batch(number, 4, SEED).ids for number in range(first, first + size)])
        for first in (0, size)
    ]
    assert not np.array_equal(epochs[0], epochs[1])
    counts = [np.bincount(np.concatenate([epoch.ravel(), [300]])) for epoch in epochs]
    expected = np.bincount(np.concatenate([np.asarray(corpus.split("train").ids, dtype=np.int64), [300]]))
    for count in counts:
        assert (count[1 : len(expected)] >= 0.9 * expected[1 : len(count)]).all(), "windows overlap, but skip nothing"


def test_words_of_any_language_can_be_masked(tmp_path: Path) -> None:
    """`spacy pretrain` draws random words from the exceptions of the tokenizer and fails for languages without any."""
    texts = [dataclasses.replace(record, text="длинное слово и короткое", entities=()) for record in records(20)]
    encode(tmp_path / "encoded", texts)
    corpus = EncodedCorpus.open(tmp_path / "encoded")
    module = new_module(corpus, MaskedCharactersConfig(), CharactersConfig())
    config = CONFIG.model_copy(update={"steps": 1, "evaluate_every": 1})
    assert train(module, data(corpus, config), config, SEED, None, null_report)[-1]["loss"] > 0
