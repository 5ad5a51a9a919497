"""Does composing help? The three default components together, compared with fewer, and with one of the same size.

    python benchmarks/composing.py [--seeds 1,2,3] [--processes 2] [--base models/base] [--json]

Needs data/encoded, data/noise and the base (`cclm run` makes them). For each seed it trains the three components of
params.yaml over the frozen base, and two of them once more with double widths, in a temporary folder. Then it
measures, on the clean test documents and by the probes of the stage `evaluate`, entity F1 and label accuracy of

- `all`: the composition of the three,
- each component alone,
- `double NAME`: one component with twice the features and twice the inner width, about the size of the three,
- `untrained`: the three with new weights: as many features over the same base, without any training.

Each row compares `all` with one of these: `value` is the median over the seeds, `ratio` the median of the ratios, and
`peer` has the other's median and the difference of each seed.
"""

import argparse
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import yaml
from learning import stage
from rows import Row, show

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import load_component, load_embedder
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.evaluation.config import EvaluationConfig
from cclm_core.evaluation.evaluator import evaluate_composition
from cclm_core.evaluation.selection import read_text_sets
from cclm_core.runtime.random import derive_seed, seeded_initialisation
from cclm_core.training.config import ComponentConfig

METRICS = ("entity_f1_clean", "label_accuracy")
ALL, UNTRAINED, DOUBLE = "all", "untrained", "double "
DOUBLED = ("entities", "characters")
Scores = dict[str, float]


def parameters(seed: int, folder: Path) -> tuple[Path, list[str]]:
    """params.yaml with this seed and the double components, written into `folder`; the names of the three."""
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
    """Trains one component into the folder of the parameters."""
    folder = params.parent
    stage("pretrain", name, "--params", params, "--encoded", "data/encoded", "--base", base,
          "--checkpoints", folder / "checkpoints" / name, "--out", folder / name)  # fmt: skip


def scores(params: Path, parts: list[str], base: Path, seed: int, untrained: bool) -> Scores:
    """The metrics of a composition of `parts`."""
    components = [load_component(params.parent / name) for name in parts]
    if untrained:
        components = [part.untrained(derive_seed(seed, "untrained", part.card.name)) for part in components]
    with seeded_initialisation(derive_seed(seed, "fusion", *parts)):
        composed = ComposedModel(load_embedder(base), components).eval()
    config = EvaluationConfig.parse(yaml.safe_load(params.read_text())["evaluation"], "evaluation")
    clean = read_text_sets(Path("data/noise"))[:1]
    corpus = EncodedCorpus.open(Path("data/encoded"))
    figures = evaluate_composition(composed, corpus, clean, config, seed, lambda *_: None).values()
    return {name: figures[name] for name in (*METRICS, "parameters")}


def run(seed: int, base: Path, pool: ProcessPoolExecutor) -> dict[str, Scores]:
    """The metrics of all models with this seed."""
    with tempfile.TemporaryDirectory() as name:
        params, parts = parameters(seed, Path(name))
        doubles = [f"{DOUBLE.strip()}_{part}" for part in DOUBLED]
        for done in [pool.submit(pretrain, params, part, base) for part in [*doubles, *parts]]:
            done.result()
        sides = {ALL: parts, UNTRAINED: parts} | {part: [part] for part in parts}
        sides |= {f"{DOUBLE}{part}": [double] for part, double in zip(DOUBLED, doubles, strict=True)}
        asked = {side: pool.submit(scores, params, chosen, base, seed, side == UNTRAINED)
                 for side, chosen in sides.items()}  # fmt: skip
        found = {side: one.result() for side, one in asked.items()}
    print(f"seed {seed}: {found}", file=sys.stderr, flush=True)
    return found


def rows(results: dict[int, dict[str, Scores]]) -> list[Row]:
    """One row per metric and model that `all` is compared with."""
    made = []
    for metric in METRICS:
        together = [found[ALL][metric] for found in results.values()]
        for side in next(iter(results.values())):
            if side == ALL:
                continue
            others = [found[side][metric] for found in results.values()]
            by = ", ".join(f"{one - other:+.3f}" for one, other in zip(together, others, strict=True))
            ratios = [one / other if other else float("inf") for one, other in zip(together, others, strict=True)]
            what = f"{statistics.median(others):.4g} ({by})"
            made.append(Row(f"{metric}/{side}", statistics.median(together), "share", what, statistics.median(ratios)))
    return made


def main() -> None:
    """Reads the command line and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1,2,3", help="whole numbers, joined by commas")
    parser.add_argument("--processes", type=int, default=2, help="parallel trainings or measurements")
    parser.add_argument("--base", type=Path, default=Path("models/base"), help="folder of the frozen base")
    parser.add_argument("--json", action="store_true", help="one object per line")
    given: Any = parser.parse_args()
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        results = {int(seed): run(int(seed), given.base.resolve(), pool) for seed in given.seeds.split(",")}
    show("The three components together", rows(results))


if __name__ == "__main__":
    main()
