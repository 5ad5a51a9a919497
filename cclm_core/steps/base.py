"""The stage `base`: pretrains the shared embedder."""

from functools import partial
from pathlib import Path

from cclm_core.encoders.embedder import Embedder
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.files import copy_file
from cclm_core.runtime.random import derive_seed, seeded_initialization
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params
from cclm_core.training.code import dependency_digest
from cclm_core.training.config import BaseConfig
from cclm_core.training.initial_weights import initialize_embedder, published
from cclm_core.training.joint import build_branches, save_base
from cclm_core.training.module import TrainingModule
from cclm_core.training.run import Artifact, Identity, TrainingInputs, TrainingRun, own_blocks


def base(
    params: Params, encoded: Path, checkpoints: Path, out: Path, report: Report, curve: Path | None = None
) -> None:
    """Pretrains the shared embedder, and what is trained jointly with it, on the train split of a corpus.

    Args:
        params: the parameters; reads the sections `base` and `training_noise`.
        encoded: folder of the encoded corpus.
        checkpoints: folder for checkpoints, from which an interrupted training resumes. Vectors of teachers are in a
            folder next to its parent.
        out: folder to publish the embedder at.
        report: receives losses and held-out metrics.
        curve: where to copy curve.csv, if anywhere.

    Raises:
        CclmError: invalid parameters or data, or a failed training. `out` is not changed.
    """
    config = params.section(BaseConfig)
    noise = params.section(TrainingNoise)
    seed = derive_seed(params.seed, "base")
    data_digest = verify(encoded, "encoded")
    inputs = TrainingInputs.open(encoded, noise, checkpoints.absolute().parent.with_name("teachers"))
    with seeded_initialization(seed):
        embedder = Embedder(inputs.corpus.preprocessor, config.embedder)
        branches = build_branches(config.objectives, embedder, inputs, seed)
    metrics = {} if config.initialize is None else initialize_embedder(embedder, config.initialize)
    identity = Identity(
        stage="base",
        seed=params.seed,
        data=data_digest,
        vocabulary=inputs.corpus.preprocessor.digest,
        # With digests of pretrained weights instead of their paths.
        configuration=published(config.model_copy(update={"embedder": embedder.config})).canonical(),
        noise=inputs.noise_identity(),
        code=dependency_digest(__name__),
        **own_blocks(config),
    )
    module = TrainingModule(embedder, branches, config.shared_pass)
    save = partial(save_base, objectives=config.objectives, branches=branches)
    run = TrainingRun(identity, seed, module, inputs.data(config.training), config.training)
    run.publish(checkpoints, out, Artifact("embedder", embedder, save, finish=lambda: metrics), report)
    copy_file(out / "curve.csv", curve)
