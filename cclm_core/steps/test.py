"""The stage `test`: measures the model of a task on its test texts, clean and under noise."""

from pathlib import Path

from cclm_core.evaluation.metrics import Bootstrap
from cclm_core.finetuning.config import TaskConfig
from cclm_core.finetuning.evaluate import evaluate_task
from cclm_core.finetuning.results import noise_sets, publish_results
from cclm_core.finetuning.store import KIND, load_task
from cclm_core.labeled.examples import LabeledSet
from cclm_core.noise.misspellings import read_misspellings
from cclm_core.noise.recipe import NoiseConfig
from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.device import num_threads, select_device
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params


def test(
    params: Params,
    name: str,
    task: Path,
    labeled: Path,
    noise: Path,
    out: Path,
    report: Report,
    metrics: Path | None = None,
    noise_curve: Path | None = None,
) -> None:
    """Measures a model on the test split of its labeled set and publishes the results.

    The files are those of the stage `evaluate`, and:

    ```
    slices.csv        slice, value, texts, metric, score, low, high
    outcomes.parquet  id, set, metric, statistics: what the gate compares two models with, text by text
    ```

    Args:
        params: the parameters; reads `tasks.NAME`, the section `noise` and the seed.
        name: the task, a key of `tasks`.
        task: folder of the model.
        labeled: folder with the labeled sets by name.
        noise: folder of the noise sets of the corpus, for their misspellings.
        out: folder to publish the results at.
        report: receives the number of measured sets.
        metrics: where to copy metrics.json for DVC, if anywhere.
        noise_curve: where to write a CSV with the columns rate, metric and value for DVC's plots, if anywhere.

    Raises:
        CclmError: an input is missing or damaged, or the test split is empty. `out` is not changed.
    """
    config, noises = params.named(TaskConfig, name), params.section(NoiseConfig)
    texts = LabeledSet.open(labeled / config.data)
    test_texts = texts.split("test")
    if not test_texts:
        raise DataError(f"the test split of {labeled / config.data} has no texts. Add a test file or a share to it.")
    digests = {"task": verify(task, KIND), "labeled": texts.digest, "noise": verify(noise, "noise")}
    model = load_task(task).to(select_device())
    spellings = read_misspellings(noise / "misspellings.csv").spellings
    with num_threads(config.training.threads):
        result = evaluate_task(
            model, texts.split("train"), test_texts, noise_sets(noises), spellings, params.seed, Bootstrap(), report
        )
    configuration = {"task": config.canonical(), "noise": noises.canonical()}
    card = {"stage": "test", "name": name, "seed": params.seed, **digests, "configuration": configuration}
    card["texts"] = result.texts
    publish_results(out, name, result, card, metrics, noise_curve)
