"""The stage `measure`: measures an ensemble and each of its parts on the same test texts, clean and under noise."""

from pathlib import Path

from cclm_core.evaluation.metrics import Bootstrap
from cclm_core.finetuning.config import EnsembleConfig
from cclm_core.finetuning.ensemble import Ensemble
from cclm_core.finetuning.evaluate import evaluate_task
from cclm_core.finetuning.parts import Parts
from cclm_core.finetuning.results import noise_sets, publish_results
from cclm_core.finetuning.store import KIND, data_of, load_task
from cclm_core.labeled.examples import LabeledSet
from cclm_core.noise.misspellings import read_misspellings
from cclm_core.noise.recipe import NoiseConfig
from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.device import num_threads, select_device
from cclm_core.runtime.errors import ArtifactError, ConfigError, DataError
from cclm_core.runtime.folders import named_folder
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params


def measure(
    params: Params,
    name: str,
    ensemble: Path,
    tasks: Path,
    labeled: Path,
    noise: Path,
    out: Path,
    report: Report,
    metrics: Path | None = None,
    noise_curve: Path | None = None,
) -> None:
    """Measures an ensemble on the test split of its labeled set and publishes the results.

    The files are those of the stage `test`, and:

    ```
    parts.csv   set, part, best, metric, alone, ensemble, gain, low, high: each part on the same texts
    ```

    `gain/METRIC` in metrics.json is the difference to the best part on that test set; `worse_than_best_part` is the
    number of test sets on which it lies below 0 with its whole interval.

    Args:
        params: the parameters; reads `ensembles.NAME`, the section `noise` and the seed.
        name: the ensemble, a key of `ensembles`.
        ensemble: folder of the ensemble.
        tasks: folder with the models of tasks by name.
        labeled: folder with the labeled sets by name.
        noise: folder of the noise sets of the corpus, for their misspellings.
        out: folder to publish the results at.
        report: receives the number of measured sets, and milliseconds per text.
        metrics: where to copy metrics.json for DVC, if anywhere.
        noise_curve: where to write a CSV with the columns rate, metric and value for DVC's plots, if anywhere.

    Raises:
        CclmError: an input is missing or damaged, or the test split is empty. `out` is not changed.
    """
    config, noises = params.named(EnsembleConfig, name), params.section(NoiseConfig)
    key = f"{params.source}: ensembles.{name}.parts"
    _check_names(key, config, noises)
    digests = {"task": verify(ensemble, KIND), "noise": verify(noise, "noise")}
    folders = {part: named_folder(tasks, part, key, "finetune") for part in config.parts}
    part_digests = [verify(folder, KIND) for folder in folders.values()]
    data = data_of(next(iter(folders.values())))
    texts = LabeledSet.open(named_folder(labeled, data, key, "labeled"))
    test_texts = texts.split("test")
    if not test_texts:
        raise DataError(f"the test split of {texts.folder} has no texts. Add a test file or a share to it.")
    model, parts = _loaded(name, ensemble, folders)
    sets = noise_sets(noises)
    spellings = read_misspellings(noise / "misspellings.csv").spellings
    with num_threads(config.threads):
        result = evaluate_task(
            model, texts.split("train"), test_texts, sets, spellings, params.seed, Bootstrap(), report, parts
        )
    card = {"stage": "measure", "name": name, "seed": params.seed, **digests, "labeled": texts.digest}
    card |= {"parts": part_digests, "texts": result.texts}
    card["configuration"] = {"ensemble": config.canonical(), "noise": noises.canonical()}
    publish_results(out, name, result, card, metrics, noise_curve)


def _check_names(key: str, config: EnsembleConfig, noises: NoiseConfig) -> None:
    if clash := sorted(set(config.parts) & noises.sets.keys()):
        raise ConfigError(
            f"{key} and noise.sets both have {clash[0]!r}, so their metrics would have the same name. Rename one."
        )


def _loaded(name: str, ensemble: Path, folders: dict[str, Path]) -> tuple[Ensemble, Parts]:
    """The ensemble and all its parts, also those that it does not use."""
    device = select_device()
    model = load_task(ensemble).to(device)
    if not isinstance(model, Ensemble):
        raise ArtifactError(f"{ensemble} must be an ensemble. Run `cclm run --target fuse@{name}`.")
    return model, Parts(model, {part: load_task(folder).to(device) for part, folder in folders.items()})
