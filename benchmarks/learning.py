"""Does training help? The default pipeline over several seeds, against its untrained control and count models.

    python benchmarks/learning.py [--seeds 1,2,3] [--json]

Needs data/encoded and data/noise, which `cclm run` makes. Everything else goes to a temporary folder. Two trainings run
at a time; one seed takes about ten minutes on two cores.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml
from rows import Row, show

COMPOSITIONS = ("full", "language", "control")


def stage(*arguments: str | Path) -> None:
    """Runs one stage of the library in a separate process."""
    command = [sys.executable, "-m", "cclm_core.cli.app", "stage", *map(str, arguments)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def run(seed: int, folder: Path) -> dict[str, dict[str, float]]:
    """The metrics of every composition with this seed."""
    params = folder / "params.yaml"
    values = yaml.safe_load(Path("params.yaml").read_text())
    params.write_text(yaml.safe_dump(values | {"seed": seed}))
    encoded, base, common = Path("data/encoded"), folder / "base", ("--params", params)
    stage("base", *common, "--encoded", encoded, "--checkpoints", folder / "checkpoints/base", "--out", base)
    components = folder / "components"

    def pretrain(name: str) -> None:
        checkpoints = folder / "checkpoints" / name
        stage("pretrain", name, *common, "--encoded", encoded, "--base", base, "--checkpoints", checkpoints,
              "--out", components / name)  # fmt: skip

    def evaluate(name: str) -> dict[str, float]:
        composition, results = folder / f"composition-{name}", folder / f"results-{name}"
        stage("compose", name, *common, "--base", base, "--components", components, "--out", composition)
        stage("evaluate", name, *common, "--composition", composition, "--encoded", encoded, "--noise", "data/noise",
              "--out", results)  # fmt: skip
        metrics: dict[str, float] = json.loads((results / "metrics.json").read_text())
        return metrics

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(pretrain, values["components"]))
        return dict(zip(COMPOSITIONS, pool.map(evaluate, COMPOSITIONS), strict=True))


def rows(results: dict[int, dict[str, dict[str, float]]]) -> list[Row]:
    """One row per comparison and seed, and the medians."""
    made = []
    comparisons = {
        "bits/unigram": ("bits_per_masked_character", "bits_per_masked_character_unigram", "full"),
        "bits/trigram": ("bits_per_masked_character", "bits_per_masked_character_trigram", "full"),
        "bits/control": ("bits_per_masked_character", "bits_per_masked_character", "control"),
        "entity_f1/control": ("entity_f1_clean", "entity_f1_clean", "control"),
        "label_accuracy/control": ("label_accuracy", "label_accuracy", "control"),
        "label_accuracy/language": ("label_accuracy", "label_accuracy", "language"),
        "entity_f1/language": ("entity_f1_clean", "entity_f1_clean", "language"),
    }
    for name, (metric, peer_metric, peer) in comparisons.items():
        unit = "bits" if "bits" in name else "share"
        values = [(metrics["full"][metric], metrics[peer][peer_metric]) for metrics in results.values()]
        for seed, (value, other) in zip(results, values, strict=True):
            made.append(Row(f"{name}/seed-{seed}", value, unit, f"{other:.4g} ({value - other:+.4f})", value / other))
        differences = [value - other for value, other in values]
        made.append(Row(f"{name}/median-difference", statistics.median(differences), unit, f"of {len(values)} seeds"))
    return made


def main() -> None:
    """Runs the seeds one after another and prints the rows."""
    seeds = [1, 2, 3]
    if "--seeds" in sys.argv:
        seeds = [int(seed) for seed in sys.argv[sys.argv.index("--seeds") + 1].split(",")]
    results = {}
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            results[seed] = run(seed, Path(folder))
    show("learning", rows(results))


if __name__ == "__main__":
    main()
