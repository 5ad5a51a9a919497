"""Compares a composition of all components with single components, a larger component and untrained components.

    python benchmarks/composing.py [--seeds 1,2,3] [--processes 2] [--base models/base] [--json]

Needs data/encoded, data/noise and the base; `cclm run` creates them. For each seed, trains the components of
params.yaml over the frozen base, and two of them again with double widths, in a temporary folder. Then measures entity
F1 and label accuracy on the clean test documents, with the probes of the stage `evaluate`, for these models:

- `all`: the composition of all components.
- `NAME`: one component.
- `double NAME`: one component with twice the features and twice the inner width, about as large as `all`.
- `untrained`: the same composition with new weights.

Each row compares `all` with another model: medians over the seeds, the median of the ratios, and in parentheses the
difference for each seed.
"""

import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import yaml
from learning import stage
from rows import Row, options, seed_list, show

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import load_component, load_embedder
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.evaluation.config import EvaluationConfig
from cclm_core.evaluation.evaluator import evaluate_composition
from cclm_core.evaluation.selection import read_text_sets
from cclm_core.runtime.random import derive_seed, seeded_initialization
from cclm_core.runtime.reporting import format_number
from cclm_core.training.config import ComponentConfig

METRICS = ("entity_f1_clean", "label_accuracy")
ALL, UNTRAINED, DOUBLE = "all", "untrained", "double "
DOUBLED = ("entities", "characters")
Scores = dict[str, float]


def parameters(seed: int, folder: Path) -> tuple[Path, list[str]]:
    """Writes params.yaml with this seed and the double components to `folder`; returns it and the component names."""
    values = yaml.safe_load(Path("params.yaml").read_text())
    names = list(values["components"])
    for name in DOUBLED:
        config = ComponentConfig.parse(values["components"][name], name)
        encoder = config.encoder.canonical()
        for key in ("width", "core_width", "num_heads"):
            encoder[key] = 2 * encoder[key]
        values["components"][f"{DOUBLE.strip()}_{name}"] = {**values["components"][name], "encoder": encoder}
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(values | {"seed": seed}))
    return path, names


def pretrain(params: Path, name: str, base: Path) -> None:
    """Trains one component; saves it next to the parameters."""
    folder = params.parent
    stage("pretrain", name, "--params", params, "--encoded", "data/encoded", "--base", base,
          "--checkpoints", folder / "checkpoints" / name, "--out", folder / name)  # fmt: skip


def scores(params: Path, parts: list[str], base: Path, seed: int, untrained: bool) -> Scores:
    """Measures a composition of `parts`; `untrained` gives the parts new weights."""
    components = [load_component(params.parent / name) for name in parts]
    if untrained:
        components = [part.untrained(derive_seed(seed, "untrained", part.card.name)) for part in components]
    with seeded_initialization(derive_seed(seed, "fusion", *parts)):
        composed = ComposedModel(load_embedder(base), components).eval()
    config = EvaluationConfig.parse(yaml.safe_load(params.read_text())["evaluation"], "evaluation")
    clean = read_text_sets(Path("data/noise"))[:1]
    corpus = EncodedCorpus.open(Path("data/encoded"))
    metrics = evaluate_composition(composed, corpus, clean, config, seed, lambda *_: None).values()
    return {name: metrics[name] for name in (*METRICS, "parameters")}


def run(seed: int, base: Path, pool: ProcessPoolExecutor) -> dict[str, Scores]:
    """Trains and measures all models with this seed."""
    with tempfile.TemporaryDirectory() as name:
        params, parts = parameters(seed, Path(name))
        doubles = [f"{DOUBLE.strip()}_{part}" for part in DOUBLED]
        for training in [pool.submit(pretrain, params, part, base) for part in [*doubles, *parts]]:
            training.result()
        models = {ALL: parts, UNTRAINED: parts} | {part: [part] for part in parts}
        models |= {f"{DOUBLE}{part}": [double] for part, double in zip(DOUBLED, doubles, strict=True)}
        futures = {
            model: pool.submit(scores, params, parts_of_model, base, seed, model == UNTRAINED)
            for model, parts_of_model in models.items()
        }
        results = {model: future.result() for model, future in futures.items()}
    for model, metrics in results.items():
        line = ", ".join(f"{metric} {format_number(value)}" for metric, value in metrics.items())
        print(f"seed {seed}, {model}: {line}", file=sys.stderr, flush=True)
    return results


def rows(results: dict[int, dict[str, Scores]]) -> list[Row]:
    """Returns one row per metric and model that `all` is compared with."""
    table: list[Row] = []
    for metric in METRICS:
        composed = [scores_of[ALL][metric] for scores_of in results.values()]
        for model in next(iter(results.values())):
            if model == ALL:
                continue
            peers = [scores_of[model][metric] for scores_of in results.values()]
            differences = ", ".join(f"{value - peer:+.3f}" for value, peer in zip(composed, peers, strict=True))
            ratios = [value / peer if peer else float("inf") for value, peer in zip(composed, peers, strict=True)]
            text = f"{model}: {format_number(statistics.median(peers))} ({differences})"
            row = Row(
                f"{metric}/{model}", statistics.median(composed), "share", text, statistics.median(ratios), "higher"
            )
            table.append(row)
    return table


def main() -> None:
    """Runs the benchmark and prints its rows."""
    parser = options(__doc__)
    parser.add_argument("--seeds", type=seed_list, default="1,2,3", help="seeds, separated by commas (default: 1,2,3)")
    parser.add_argument("--processes", type=int, default=2, help="parallel trainings or measurements (default: 2)")
    parser.add_argument("--base", type=Path, default=Path("models/base"), help="base folder (default: models/base)")
    args = parser.parse_args()
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        results = {seed: run(seed, args.base.resolve(), pool) for seed in args.seeds}
    show("All components composed", rows(results), args.json)


if __name__ == "__main__":
    main()
