"""Compares the default compositions with their untrained control and with count models, for several seeds.

    python benchmarks/learning.py [--seeds 1,2,3] [--json]

Needs data/encoded and data/noise; `cclm run` creates them. Everything else goes to a temporary folder. Two trainings
run in parallel; a seed takes about 10 minutes on two cores.

Rows `METRIC/PEER/seed-N` compare the composition `full` with a peer for one seed, with the difference in parentheses.
Rows `METRIC/PEER/median-difference` have the median of the differences, and of the ratios, over the seeds.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import yaml
from rows import Row, options, seed_list, show

from cclm_core.runtime.reporting import format_number

COMPOSITIONS = ("full", "language", "control")
LOWER: Literal["lower"] = "lower"
HIGHER: Literal["higher"] = "higher"


def stage(*arguments: str | Path) -> None:
    """Runs a stage of the library in a separate process.

    Raises:
        subprocess.CalledProcessError: the stage failed.
    """
    command = [sys.executable, "-m", "cclm_core.cli.app", "stage", *map(str, arguments)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def run(seed: int, folder: Path) -> dict[str, dict[str, float]]:
    """Trains everything with this seed; returns composition → metric → value."""
    params = folder / "params.yaml"
    values = yaml.safe_load(Path("params.yaml").read_text())
    params.write_text(yaml.safe_dump(values | {"seed": seed}))
    encoded, base, common = Path("data/encoded"), folder / "base", ("--params", params)
    stage("base", *common, "--encoded", encoded, "--checkpoints", folder / "checkpoints/base", "--out", base)
    components = folder / "components"

    def pretrain(name: str) -> None:
        """Trains a component."""
        checkpoints = folder / "checkpoints" / name
        stage("pretrain", name, *common, "--encoded", encoded, "--base", base, "--checkpoints", checkpoints,
              "--out", components / name)  # fmt: skip

    def evaluate(name: str) -> dict[str, float]:
        """Composes and evaluates a composition."""
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
    """Returns one row per comparison and seed, and the medians."""
    table = []
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
        unit, better = ("bits", LOWER) if "bits" in name else ("share", HIGHER)
        peer_name = name.rpartition("/")[2]
        values = [(metrics["full"][metric], metrics[peer][peer_metric]) for metrics in results.values()]
        for seed, (value, peer_value) in zip(results, values, strict=True):
            text = f"{peer_name}: {format_number(peer_value)} ({value - peer_value:+.3f})"
            table.append(Row(f"{name}/seed-{seed}", value, unit, text, value / peer_value, better))
        difference = statistics.median(value - peer_value for value, peer_value in values)
        ratio = statistics.median(value / peer_value for value, peer_value in values)
        text = f"full minus {peer_name}, {len(values)} seeds"
        table.append(Row(f"{name}/median-difference", difference, unit, text, ratio, better))
    return table


def main() -> None:
    """Runs one seed after another and prints the rows."""
    parser = options(__doc__)
    parser.add_argument("--seeds", type=seed_list, default="1,2,3", help="seeds, separated by commas (default: 1,2,3)")
    args = parser.parse_args()
    results = {}
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            results[seed] = run(seed, Path(folder))
    show("Learning: the composition full", rows(results), args.json)


if __name__ == "__main__":
    main()
