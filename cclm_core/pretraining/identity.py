"""What the result of a call of `fit` depends on."""

from typing import Any

from cclm_core.encoders.embedder import Base
from cclm_core.runtime.artifacts import file_digest
from cclm_core.runtime.config import digest
from cclm_core.text.vocabulary import TargetsConfig
from cclm_core.training.config import ComponentConfig
from cclm_core.training.run import Identity, TrainingInputs, own_blocks


def fit_identity(
    name: str,
    seed: int,
    last: Identity | None,
    base: Base,
    trained_base: Base | None,
    config: ComponentConfig,
    inputs: TrainingInputs,
    words: TargetsConfig | None,
) -> Identity:
    """Everything that the result of a call of `fit` depends on, including earlier calls.

    Args:
        name: the name of the component.
        seed: the seed of the pretrainer.
        last: the identity of the previous call, if any.
        base: the base before the call.
        trained_base: the copy of it that the call trains, if it does.
        config: the component, with the training of this call.
        inputs: the encoded texts and the noise.
        words: which words the objective predicts, if it does.
    """
    corpus = inputs.corpus
    kinds = ("ids", "tags") if corpus.entity_labels else ("ids",)
    files = [corpus.folder / f"{split}.{kind}.bin" for kind in kinds for split in ("train", "validation")]
    identity = Identity(
        name=name,
        seed=seed,
        call=1 if last is None else (last.call or 0) + 1,
        after=None if last is None else digest(last.canonical()),
        data=digest([*map(file_digest, files), *corpus.entity_labels]),
        vocabulary=corpus.preprocessor.digest,
        base=base.digest,
        train_base=trained_base is not None,
        configuration=config.canonical(),
        noise=inputs.noise_identity(),
    )
    optional: dict[str, Any] = dict(own_blocks(config))
    if words is not None:
        optional["words"] = words.canonical()
    weights = [] if trained_base is None else list(trained_base.named_parameters())
    if frozen := [weight for weight, parameter in weights if not parameter.requires_grad]:
        optional["frozen"] = frozen
    return identity.model_copy(update=optional)
