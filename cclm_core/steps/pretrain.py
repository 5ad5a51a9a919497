"""The stage `pretrain`: trains one component over the frozen base."""

from pathlib import Path

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component, OverBase
from cclm_core.composition.store import load_base, save
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.encoders.embedder import weights_digest
from cclm_core.noise.misspellings import read_misspellings
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import Surroundings
from cclm_core.objectives.catalogue import build
from cclm_core.runtime.artifacts import publishing, verify
from cclm_core.runtime.config import digest
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.random import derive_seed, seeded_initialisation
from cclm_core.runtime.reporting import Report
from cclm_core.steps import parameters
from cclm_core.text.word_targets import read_targets
from cclm_core.training.checkpoint import Checkpoints
from cclm_core.training.code import code_digest, digest_of_used
from cclm_core.training.config import ComponentConfig
from cclm_core.training.data import open_data
from cclm_core.training.loop import Trainee, train
from cclm_core.training.published import write_results


def pretrain(params: Path, name: str, encoded: Path, base: Path, checkpoints: Path, out: Path, report: Report) -> None:
    """Trains the component `name` of the parameters on the train split of `encoded` and publishes it at `out`.

    `base` holds an embedder, or a composition to train over.

    Raises:
        CclmError: the parameters, the data, the base or the training are wrong; `out` is left as it was.
    """
    config = parameters.section(params, f"components.{name}", ComponentConfig)
    noise = parameters.section(params, "noise.training", TrainingNoise)
    misspellings = read_misspellings(Path(noise.misspellings)).spellings if noise.misspellings else None
    seed = derive_seed(parameters.seed(params), "pretrain", name)
    identity = {
        "stage": "pretrain",
        "name": name,
        "seed": parameters.seed(params),
        "data": verify(encoded, "encoded"),
        "base": verify(base, "embedder", "composition"),
        "configuration": config.canonical(),
        "noise": noise.canonical() | {"misspellings": misspellings},
    }
    corpus, embedder = EncodedCorpus.open(encoded), load_base(base)
    if embedder.preprocessor.digest != corpus.preprocessor.digest:
        raise ArtifactError(f"{base} must share the vocabulary of {encoded}, but it has another; run the stage base.")
    card = ComponentCard.over(embedder, name, config.task.objective, config.encoder, config.independent)
    with seeded_initialisation(derive_seed(parameters.seed(params), "pretrain", config.origin or name)):
        component = Component(card)
        component.card = card.model_copy(update={"origin": weights_digest(component)})
        labels, words = tuple(corpus.entity_labels), read_targets(encoded)
        surroundings = Surroundings(component.width, corpus.preprocessor, labels, misspellings, words)
        objective = build(config.task, noise, surroundings)
    identity |= {"vocabulary": corpus.preprocessor.digest, "code": digest_of_used(__name__)}
    trainee = Trainee(OverBase(embedder, component), [(objective, 1.0)])
    data = open_data(corpus, config.training.window, config.training.variants)
    store = Checkpoints(checkpoints, digest([identity, code_digest()]))
    with store.exclusive():
        curve = train(trainee, data, config.training, seed, store, report)
        with publishing(out, "component") as folder:
            save(component, folder)
            objective.save(folder)
            numbers = {"parameters": sum(parameter.numel() for parameter in component.parameters())}
            write_results(folder, curve, identity, numbers)
