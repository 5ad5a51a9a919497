"""The stage `pretrain`: trains one component over the frozen base."""

from pathlib import Path

from cclm_core.composition.store import load_base, write
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.files import copy_file
from cclm_core.runtime.random import derive_seed
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params
from cclm_core.training.code import digest_of_used
from cclm_core.training.component import component_module, new_component
from cclm_core.training.config import ComponentConfig
from cclm_core.training.run import Artifact, Identity, TrainingInputs, TrainingRun


def pretrain(
    params: Params,
    name: str,
    encoded: Path,
    base: Path,
    checkpoints: Path,
    out: Path,
    report: Report,
    curve: Path | None = None,
) -> None:
    """Trains the component `name` of the parameters on the train split of `encoded` and publishes it at `out`.

    `base` holds an embedder, or a composition to train over.

    Raises:
        CclmError: the parameters, the data, the base or the training are wrong; `out` is not changed.
    """
    config = params.named(ComponentConfig, name)
    noise = params.section(TrainingNoise)
    data_digest, base_digest = verify(encoded, "encoded"), verify(base, "embedder", "composition")
    inputs, embedder = TrainingInputs.open(encoded, noise), load_base(base)
    vocabulary = inputs.corpus.preprocessor.digest
    if embedder.preprocessor.digest != vocabulary:
        raise ArtifactError(
            f"{base} has the vocabulary {embedder.preprocessor.digest[:12]}, but {encoded} has {vocabulary[:12]}. "
            "Run `cclm run --target base`."
        )
    component, objective = new_component(embedder, name, config, params.seed, inputs)
    identity = Identity(
        stage="pretrain",
        name=name,
        seed=params.seed,
        data=data_digest,
        base=base_digest,
        vocabulary=vocabulary,
        configuration=config.canonical(),
        noise=inputs.noise_identity(),
        code=digest_of_used(__name__),
    )
    module = component_module(embedder, component, objective)
    seed = derive_seed(params.seed, "pretrain", name)
    run = TrainingRun(identity, seed, module, inputs.data(config.training), config.training)
    run.publish(checkpoints, out, Artifact("component", component, write, objective), report)
    copy_file(out / "curve.csv", curve)
