"""The stage `base`: pretrains the shared embedder."""

from pathlib import Path

from cclm_core.encoders.embedder import Embedder
from cclm_core.encoders.store import save_embedder
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.files import copy_file
from cclm_core.runtime.random import derive_seed, seeded_initialisation
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params
from cclm_core.training.code import digest_of_used
from cclm_core.training.config import BaseConfig
from cclm_core.training.module import TrainingModule
from cclm_core.training.run import Artifact, Identity, TrainingInputs, TrainingRun


def base(
    params: Params, encoded: Path, checkpoints: Path, out: Path, report: Report, curve: Path | None = None
) -> None:
    """Pretrains an embedder on the train split of `encoded` and publishes it at `out`.

    Raises:
        CclmError: the parameters, the data or the training are wrong; `out` is not changed.
    """
    config = params.section(BaseConfig)
    noise = params.section(TrainingNoise)
    seed = derive_seed(params.seed, "base")
    data_digest = verify(encoded, "encoded")
    inputs = TrainingInputs.open(encoded, noise)
    with seeded_initialisation(seed):
        embedder = Embedder(inputs.corpus.preprocessor, config.embedder)
        context = inputs.context(embedder.width)
        objectives = [(part.task.build(context), part.gradient_factor) for part in config.objectives]
    identity = Identity(
        stage="base",
        seed=params.seed,
        data=data_digest,
        vocabulary=inputs.corpus.preprocessor.digest,
        configuration=config.canonical(),
        noise=inputs.noise_identity(),
        code=digest_of_used(__name__),
    )
    module = TrainingModule(embedder, objectives)
    run = TrainingRun(identity, seed, module, inputs.data(config.training), config.training)
    run.publish(checkpoints, out, Artifact("embedder", embedder, save_embedder), report)
    copy_file(out / "curve.csv", curve)
