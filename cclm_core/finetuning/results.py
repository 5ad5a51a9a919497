"""The results of a model of a task: which copies of the test texts are measured, and what is published."""

import sys
from pathlib import Path
from typing import Any

from cclm_core.evaluation.files import write_evaluation, write_noise_curve
from cclm_core.finetuning.evaluate import NoiseSet, TaskEvaluation
from cclm_core.finetuning.outcomes import write_outcomes
from cclm_core.noise.recipe import NoiseConfig
from cclm_core.runtime.artifacts import publishing
from cclm_core.runtime.files import copy_file


def noise_sets(noises: NoiseConfig) -> list[NoiseSet]:
    """The noisy copies to measure: one per rate, and the sets with recipes of their own."""
    sets = [NoiseSet(name=f"noise_{rate:g}", rate=rate, recipe=noises.recipe(rate)) for rate in noises.rates]
    return sets + [NoiseSet(name=name, rate=None, recipe=recipe) for name, recipe in noises.sets.items()]


def publish_results(
    out: Path, name: str, result: TaskEvaluation, card: dict[str, Any], metrics: Path | None, noise_curve: Path | None
) -> None:
    """Publishes the results and prints their warnings.

    Args:
        out: the folder to publish.
        name: the task or ensemble.
        result: the results.
        card: configuration and digests, for evaluation.json.
        metrics: where to copy metrics.json for DVC, if anywhere.
        noise_curve: where to write a CSV with the columns rate, metric and value for DVC's plots, if anywhere.
    """
    with publishing(out, "evaluation") as folder:
        write_evaluation(folder, name, result.evaluation, card)
        write_outcomes(folder, result.outcomes)
    copy_file(out / "metrics.json", metrics)
    for warning in result.evaluation.warnings:
        print(f"warning: {name}: {warning}", file=sys.stderr, flush=True)
    if noise_curve is not None:
        write_noise_curve(noise_curve, result.evaluation)
