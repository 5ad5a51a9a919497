"""The stage `base`: pretrains the shared embedder, then freezes it."""

from pathlib import Path

from cclm_core.composition.store import save
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.encoders.embedder import Embedder
from cclm_core.noise.misspellings import read_misspellings
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import Surroundings
from cclm_core.objectives.catalogue import build
from cclm_core.runtime.artifacts import publishing, verify
from cclm_core.runtime.config import digest
from cclm_core.runtime.random import derive_seed, seeded_initialisation
from cclm_core.runtime.reporting import Report
from cclm_core.steps import parameters
from cclm_core.text.word_targets import read_targets
from cclm_core.training.checkpoint import Checkpoints
from cclm_core.training.code import code_digest, digest_of_used
from cclm_core.training.config import BaseConfig
from cclm_core.training.data import open_data
from cclm_core.training.loop import Trainee, train
from cclm_core.training.published import write_results


def base(params: Path, encoded: Path, checkpoints: Path, out: Path, report: Report) -> None:
    """Pretrains an embedder on the train split of `encoded` and publishes it at `out`.

    Raises:
        CclmError: the parameters, the data or the training are wrong; `out` is left as it was.
    """
    config = parameters.section(params, "base", BaseConfig)
    noise = parameters.section(params, "noise.training", TrainingNoise)
    misspellings = read_misspellings(Path(noise.misspellings)).spellings if noise.misspellings else None
    seed = derive_seed(parameters.seed(params), "base")
    identity = {
        "stage": "base",
        "seed": parameters.seed(params),
        "data": verify(encoded, "encoded"),
        "configuration": config.canonical(),
        "noise": noise.canonical() | {"misspellings": misspellings},
    }
    corpus = EncodedCorpus.open(encoded)
    with seeded_initialisation(seed):
        embedder = Embedder(corpus.preprocessor, config.embedder)
        labels, words = tuple(corpus.entity_labels), read_targets(encoded)
        surroundings = Surroundings(embedder.width, corpus.preprocessor, labels, misspellings, words)
        objectives = [(build(part.task, noise, surroundings), part.gradient_factor) for part in config.objectives]
    identity |= {"vocabulary": corpus.preprocessor.digest, "code": digest_of_used(__name__)}
    trainee = Trainee(embedder, objectives)
    data = open_data(corpus, config.training.window, config.training.variants)
    store = Checkpoints(checkpoints, digest([identity, code_digest()]))
    with store.exclusive():
        curve = train(trainee, data, config.training, seed, store, report)
        with publishing(out, "embedder") as folder:
            save(embedder, folder)
            identity["digest"] = embedder.digest
            numbers = {"parameters": sum(parameter.numel() for parameter in embedder.parameters())}
            write_results(folder, curve, identity, numbers)
