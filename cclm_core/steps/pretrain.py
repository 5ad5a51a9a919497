"""The stage `pretrain`: trains one component over the frozen base, or publishes one with nothing to train."""

from pathlib import Path

from cclm_core.composition.component import Component
from cclm_core.composition.store import load_base, write
from cclm_core.encoders.digest import weights_digest
from cclm_core.encoders.embedder import Base
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import Objective
from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.blocks import code_in
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.files import copy_file
from cclm_core.runtime.random import derive_seed
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params
from cclm_core.training.code import dependency_digest
from cclm_core.training.component import component_module, initialize_component, new_component, opened
from cclm_core.training.config import ComponentConfig
from cclm_core.training.features import cached_features
from cclm_core.training.initial_weights import published
from cclm_core.training.joint import adopt_joint
from cclm_core.training.run import Artifact, Identity, TrainingInputs, TrainingRun, own_blocks, publish


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
    """Trains one component on the train split of a corpus.

    Args:
        params: the parameters; reads `components.NAME` and the section `training_noise`.
        name: the component, a key of `components`.
        encoded: folder of the encoded corpus.
        base: folder of the embedder or composition to train over.
        checkpoints: folder for checkpoints, from which an interrupted training resumes. Cached features are in a
            folder next to it until the training is finished. Vectors of teachers are in a folder next to its parent.
        out: folder to publish the component at.
        report: receives losses and held-out metrics.
        curve: where to copy curve.csv, if anywhere.

    Raises:
        CclmError: invalid parameters, data or base, or a failed training. `out` is not changed.
    """
    config = params.named(ComponentConfig, name)
    noise = params.section(TrainingNoise)
    data_digest, base_digest = verify(encoded, "encoded"), verify(base, "embedder", "composition")
    inputs = TrainingInputs.open(encoded, noise, checkpoints.absolute().parent.with_name("teachers"))
    embedder = _base_with_vocabulary(base, inputs, encoded)
    config, pretrained = opened(config)
    component, objective = new_component(embedder, name, config, params.seed, inputs, pretrained)
    metrics = {} if config.initialize is None else initialize_component(component, embedder, config.initialize)
    if config.joint:
        _adopt(base, name, config, component, objective)
    identity = Identity(
        stage="pretrain",
        name=name,
        seed=params.seed,
        data=data_digest,
        base=base_digest,
        vocabulary=embedder.preprocessor.digest,
        # With digests of pretrained weights instead of their paths.
        configuration=published(config).canonical(),
        noise=inputs.noise_identity(),
        code=dependency_digest(__name__),
        **own_blocks(config),
    )
    artifact = Artifact("component", component, write, objective, lambda: metrics, code_in(config.task))
    if objective is None:
        publish(out, artifact, [{"step": 0}], identity, metrics)
    else:
        folder = checkpoints.absolute().with_name(f"{checkpoints.name}.features")
        with cached_features(folder, embedder, component, objective, config.training) as cache:
            module = component_module(embedder, component, objective, cache=cache)
            seed = derive_seed(params.seed, "pretrain", name)
            run = TrainingRun(identity, seed, module, inputs.data(config.training, config.task), config.training)
            run.publish(checkpoints, out, artifact, report)
    copy_file(out / "curve.csv", curve)


def _adopt(base: Path, name: str, config: ComponentConfig, component: Component, objective: Objective | None) -> None:
    """Starts the component and its objective from the weights that were trained jointly with the base."""
    assert objective is not None
    adopt_joint(base, name, config, component.body, objective)
    component.card = component.card.model_copy(update={"origin": weights_digest(component)})


def _base_with_vocabulary(folder: Path, inputs: TrainingInputs, encoded: Path) -> Base:
    """Loads the base, and checks that it has the vocabulary of the corpus."""
    base, vocabulary = load_base(folder), inputs.corpus.preprocessor.digest
    if base.preprocessor.digest != vocabulary:
        raise ArtifactError(
            f"vocabularies differ: {base.preprocessor.digest[:12]} in {folder}, {vocabulary[:12]} in {encoded}. "
            "Run `cclm run --target base`."
        )
    return base
