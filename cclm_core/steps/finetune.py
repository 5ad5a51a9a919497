"""The stage `finetune`: fine-tunes a composition, or random weights, on a labeled set; or counts its n-grams."""

from pathlib import Path

from cclm_core.cards import write_card
from cclm_core.composition.store import load_base
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.encoders.embedder import Base
from cclm_core.finetuning.config import TaskConfig
from cclm_core.finetuning.fit import TaskData, TaskRun, new_encoder
from cclm_core.finetuning.ngram_model import fit_ngrams
from cclm_core.finetuning.store import KIND, write_task
from cclm_core.labeled.examples import LabeledSet
from cclm_core.runtime.artifacts import publishing, verify
from cclm_core.runtime.files import copy_file
from cclm_core.runtime.folders import named_folder
from cclm_core.runtime.random import derive_seed
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params
from cclm_core.training.code import dependency_digest
from cclm_core.training.run import Artifact, Identity, TrainingRun, own_blocks, write_results


def finetune(
    params: Params,
    name: str,
    labeled: Path,
    compositions: Path,
    encoded: Path,
    checkpoints: Path,
    out: Path,
    report: Report,
    curve: Path | None = None,
) -> None:
    """Fine-tunes a model on the train split of a labeled set and publishes everything that predicting needs.

    With `model: ngrams`, it fits counted n-grams instead, in seconds and without checkpoints.

    ```
    task.json, encoder/, head.safetensors, ngrams.*   the model; see finetuning/store.py
    curve.csv, metrics.json, card.json                learning curve, held-out metrics, identity
    ```

    Args:
        params: the parameters; reads `tasks.NAME`.
        name: the task, a key of `tasks`.
        labeled: folder with the labeled sets by name.
        compositions: folder with the compositions by name.
        encoded: folder of the encoded corpus, whose vocabulary a task without a composition uses.
        checkpoints: folder for checkpoints, from which an interrupted training resumes.
        out: folder to publish the model at.
        report: receives losses and held-out metrics.
        curve: where to copy curve.csv, if anywhere.

    Raises:
        CclmError: invalid parameters, data or composition, or a failed training. `out` is not changed.
    """
    config = params.named(TaskConfig, name)
    texts = LabeledSet.open(named_folder(labeled, config.data, f"{params.source}: tasks.{name}.data", "labeled"))
    splits = {split: texts.split(split) for split in ("train", "validation")}
    data = TaskData(task=texts.task, labels=texts.labels, **splits)
    seed = derive_seed(params.seed, "finetune", name)
    if config.model == "ngrams":
        _publish_ngrams(params, name, config, data, texts.digest, seed, out)
        copy_file(out / "curve.csv", curve)
        return
    encoder, start = _start(config, f"{params.source}: tasks.{name}.composition", compositions, encoded, seed)
    run = TaskRun(name, config, data, encoder, seed)
    values = {
        "stage": "finetune",
        "name": name,
        "seed": params.seed,
        "data": texts.digest,
        "vocabulary": encoder.preprocessor.digest,
        "configuration": config.canonical(),
        "noise": config.noise.canonical(),
        "code": dependency_digest(__name__),
        **own_blocks(config),
        **start,
    }
    training = TrainingRun(Identity.parse(values, "card"), seed, run.trainee, run.loop_data, run.schedule)
    training.publish(checkpoints, out, Artifact(KIND, run.model, write_task, finish=run.finish), report)
    copy_file(out / "curve.csv", curve)


def _start(config: TaskConfig, key: str, compositions: Path, encoded: Path, seed: int) -> tuple[Base, dict[str, str]]:
    """The encoder to start from, and the digest of its composition for the identity, if it has one."""
    if config.composition is None:
        verify(encoded, "encoded")
        return new_encoder(EncodedCorpus.open(encoded).preprocessor, config.embedder, seed), {}
    folder = named_folder(compositions, config.composition, key, "compose")
    return load_base(folder), {"base": verify(folder, "composition")}


def _publish_ngrams(
    params: Params, name: str, config: TaskConfig, data: TaskData, digest: str, seed: int, out: Path
) -> None:
    """Fits and publishes a task with `model: ngrams`. Its learning curve has one point."""
    model, metrics = fit_ngrams(name, data, config, seed)
    card = {
        "stage": "finetune",
        "name": name,
        "seed": params.seed,
        "data": digest,
        "configuration": config.canonical(),
        "code": dependency_digest(__name__),
    }
    sizes = {"ngrams": model.num_ngrams}
    with publishing(out, KIND) as folder:
        write_task(model, folder)
        write_results(folder, [{"step": 0, **metrics}], card, sizes)
        write_card(folder, KIND)
