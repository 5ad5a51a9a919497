"""The stage `fuse`: joins the models of several tasks on the same data into an ensemble."""

import sys
from pathlib import Path

from cclm_core.cards import write_card
from cclm_core.finetuning.config import EnsembleConfig
from cclm_core.finetuning.fuse import Fused, fuse_parts
from cclm_core.finetuning.store import KIND, data_of, load_task, write_task
from cclm_core.labeled.examples import LabeledSet
from cclm_core.runtime.artifacts import publishing, read_json, rounded, verify, write_json
from cclm_core.runtime.device import num_threads, select_device
from cclm_core.runtime.errors import ArtifactError, ConfigError
from cclm_core.runtime.files import folder_bytes
from cclm_core.runtime.folders import named_folder
from cclm_core.runtime.random import derive_seed
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params
from cclm_core.training.code import dependency_digest

CHOICE = "choice.json"


def fuse(params: Params, name: str, tasks: Path, labeled: Path, out: Path, report: Report) -> None:
    """Chooses parts and weights on the validation texts of the labeled set, and publishes the ensemble.

    ```
    task.json, parts/, familiarity.safetensors   the model; see finetuning/store.py
    choice.json                                  why: all candidates with their validation scores, each part's share
    metrics.json, card.json, README.md           figures, identity, model card
    ```

    Args:
        params: the parameters; reads `ensembles.NAME` and the seed.
        name: the ensemble, a key of `ensembles`.
        tasks: folder with the models of tasks by name.
        labeled: folder with the labeled sets by name.
        out: folder to publish the ensemble at.
        report: receives the validation scores.

    Raises:
        CclmError: a part is missing or damaged, or the parts were trained on different data. `out` is not changed.
    """
    config = params.named(EnsembleConfig, name)
    key = f"{params.source}: ensembles.{name}.parts"
    folders = {part: named_folder(tasks, part, key, "finetune") for part in config.parts}
    digests = [verify(folder, KIND) for folder in folders.values()]
    data = _data_of(folders, key)
    texts = LabeledSet.open(named_folder(labeled, data, key, "labeled"))
    for part, folder in folders.items():
        if read_json(folder / "card.json").get("data") != texts.digest:
            raise ArtifactError(f"the part {part} was trained on other texts than {texts.folder}. Run `cclm run`.")
    device = select_device()
    parts = {part: load_task(folder).to(device) for part, folder in folders.items()}
    seed = derive_seed(params.seed, "fuse", name)
    with num_threads(config.threads):
        fused = fuse_parts(name, parts, texts.split("train"), texts.split("validation"), config, seed)
    card = {
        "stage": "fuse",
        "name": name,
        "seed": params.seed,
        "data": texts.digest,
        "parts": digests,
        "names": list(folders),
        "configuration": config.canonical(),
        "code": dependency_digest(__name__),
    }
    megabytes = {part: rounded(folder_bytes(folder) / 1e6) for part, folder in folders.items()}
    metrics = _metrics(fused, megabytes)
    with publishing(out, KIND) as folder:
        write_task(fused.model.cpu(), folder)
        choice = fused.description | {"candidates": fused.candidates, "megabytes": megabytes}
        write_json(folder / CHOICE, choice)
        write_json(folder / "metrics.json", metrics)
        write_json(folder / "card.json", card)
        used = ", ".join(fused.model.card.parts)
        write_card(folder, KIND, about={"parts": used, "weights": fused.model.card.weights.kind}, limits=fused.warnings)
    for warning in fused.warnings:
        print(f"warning: {name}: {warning}", file=sys.stderr, flush=True)
    report(1, metrics, 1)


def _data_of(folders: dict[str, Path], key: str) -> str:
    """The labeled set that all parts were trained on."""
    names = {part: data_of(folder) for part, folder in folders.items()}
    if len(set(names.values())) > 1:
        listed = ", ".join(f"{part}: {data}" for part, data in names.items())
        raise ConfigError(
            f"{key} must all have the same `data`, got {listed}. Put only tasks on one labeled set together."
        )
    return str(next(iter(names.values())))


def _metrics(fused: Fused, megabytes: dict[str, float]) -> dict[str, float]:
    """The figures of metrics.json: sizes, and the main metric on the validation texts."""
    sizes = {"parameters": sum(weight.numel() for weight in fused.model.parameters())}
    metrics: dict[str, float] = {**sizes, "parts": len(fused.model.card.parts)}
    metrics["megabytes"] = rounded(sum(megabytes[part] for part in fused.model.card.parts))
    name = fused.description["metric"]
    for level, value in fused.description["chosen"].get("values", {}).items():
        metrics[f"validation_{name}_{level}"] = value
    return metrics
