"""Compares a composition with others, with its untrained control and with its baselines, for several seeds.

    python benchmarks/learning.py [--composition full] [--peers language,control] [--seeds 1,2,3] [--json]

Needs data/encoded and data/noise; `cclm run` creates them. Everything else goes to a temporary folder. Two trainings
run in parallel; with the default pipeline a seed takes about 10 minutes on two cores.

The metrics are the headlines of the evaluation, such as label_accuracy. Rows `METRIC/PEER/seed-N` compare the
composition with another one, or with a baseline, for one seed, with the difference in parentheses. Rows
`METRIC/PEER/median-difference` have the median of the differences, and of the ratios, over the seeds. `--margins`
prints twice the standard deviation of each metric over the seeds, the margins for `promotion` in params.yaml.
"""

import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml
from rows import Row, options, seed_list, show

from cclm_core.evaluation.metrics import Metric, read_metrics
from cclm_core.runtime.config import nearest
from cclm_core.runtime.reporting import format_number

Metrics = dict[str, Metric]


def stage(*arguments: str | Path) -> None:
    """Runs a stage of the library in a separate process.

    Raises:
        subprocess.CalledProcessError: the stage failed.
    """
    command = [sys.executable, "-m", "cclm_core.cli.app", "stage", *map(str, arguments)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def run(seed: int, folder: Path, compositions: list[str]) -> dict[str, Metrics]:
    """Trains what these compositions need with this seed; returns composition → metric name → metric."""
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

    def evaluate(name: str) -> Metrics:
        """Composes and evaluates a composition."""
        composition, results = folder / f"composition-{name}", folder / f"results-{name}"
        stage("compose", name, *common, "--base", base, "--components", components, "--out", composition)
        stage("evaluate", name, *common, "--composition", composition, "--encoded", encoded, "--noise", "data/noise",
              "--out", results)  # fmt: skip
        return read_metrics(results)

    parts = dict.fromkeys(part for name in compositions for part in values["compositions"][name]["parts"])
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(pretrain, parts))
        return dict(zip(compositions, pool.map(evaluate, compositions), strict=True))


def pairs(metrics: dict[str, Metrics], composition: str) -> dict[str, tuple[Metric, float]]:
    """`METRIC/PEER` → the metric of the composition, and the value of a peer or a baseline."""
    table = {}
    for name, metric in metrics[composition].items():
        if not metric.headline or metric.better is None:
            continue
        for peer, others in metrics.items():
            if peer != composition and name in others:
                table[f"{name}/{peer}"] = metric, float(others[name].value)
        for baseline in metric.baselines:
            table[f"{name}/{baseline.name}"] = metric, baseline.value
    return table


def rows(results: dict[int, dict[str, Metrics]], composition: str) -> list[Row]:
    """Returns one row per comparison and seed, and the medians."""
    table = []
    by_seed = {seed: pairs(metrics, composition) for seed, metrics in results.items()}
    for name, (first, _) in next(iter(by_seed.values())).items():
        peer, unit = name.rpartition("/")[2], "bits" if name.startswith("bits") else "share"
        values = {seed: (float(found[name][0].value), found[name][1]) for seed, found in by_seed.items()}
        for seed, (value, peer_value) in values.items():
            text = f"{peer}: {format_number(peer_value)} ({value - peer_value:+.3f})"
            table.append(Row(f"{name}/seed-{seed}", value, unit, text, _ratio(value, peer_value), first.better))
        difference = statistics.median(value - peer_value for value, peer_value in values.values())
        ratios = [ratio for pair in values.values() if (ratio := _ratio(*pair)) is not None]
        ratio = statistics.median(ratios) if ratios else None
        text = f"{composition} minus {peer}, {len(values)} seeds"
        table.append(Row(f"{name}/median-difference", difference, unit, text, ratio, first.better))
    return table


def margins(results: dict[int, dict[str, Metrics]], composition: str) -> list[Row]:
    """Returns one row per headline metric: twice its standard deviation over the seeds."""
    table = []
    for name, metric in next(iter(results.values()))[composition].items():
        if metric.headline and metric.better is not None and len(results) > 1:
            values = [_without_masks(metrics[composition][name]) for metrics in results.values()]
            text = ", ".join(map(format_number, values))
            table.append(Row(f"margin/{name}", 2 * statistics.stdev(values), "", text, None, metric.better))
    return table


def _without_masks(metric: Metric) -> float:
    """The value; of bits, minus those of the unigram baseline, because the seed also selects the masked characters."""
    unigram = next((baseline.value for baseline in metric.baselines if baseline.name == "unigram"), 0.0)
    return float(metric.value) - unigram


def _ratio(value: float, peer_value: float) -> float | None:
    return value / peer_value if peer_value else None


def selected(composition: str, peers: str | None, known: list[str]) -> list[str]:
    """The composition and its peers (default: all others).

    Raises:
        SystemExit: a name is not a composition of params.yaml.
    """
    names = [composition, *(known if peers is None else filter(None, peers.split(",")))]
    for name in names:
        if name not in known:
            raise SystemExit(f"error: {name} is not a composition of params.yaml; {nearest(name, known)}")
    return list(dict.fromkeys(names))


def main() -> None:
    """Runs one seed after another and prints the rows."""
    known = list(yaml.safe_load(Path("params.yaml").read_text())["compositions"])
    parser = options(__doc__)
    parser.add_argument("--composition", default=known[0], help=f"which composition (default: {known[0]})")
    parser.add_argument("--peers", help="compositions to compare with, separated by commas (default: all others)")
    parser.add_argument("--seeds", type=seed_list, default="1,2,3", help="seeds, separated by commas (default: 1,2,3)")
    parser.add_argument("--margins", action="store_true", help="print margins for promotion in params.yaml")
    args = parser.parse_args()
    compositions = selected(args.composition, args.peers, known)
    results = {}
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            results[seed] = run(seed, Path(folder), compositions)
    table = margins(results, args.composition) if args.margins else rows(results, args.composition)
    show(f"Learning: the composition {args.composition}", table, args.json)


if __name__ == "__main__":
    main()
