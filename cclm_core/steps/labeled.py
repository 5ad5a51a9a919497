"""The stage `labeled`: reads, splits, checks and publishes one labeled data set."""

import sys
from pathlib import Path

from cclm_core.corpus.quarantine import Quarantine
from cclm_core.labeled.config import LabeledConfig
from cclm_core.labeled.dataset import build_labeled
from cclm_core.labeled.examples import write_labeled
from cclm_core.runtime.artifacts import publishing, write_json
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params


def labeled(params: Params, name: str, downloads: Path, out: Path, report: Report) -> None:
    """Publishes the labeled data set `name`.

    Args:
        params: the parameters; reads the seed and `labeled.NAME`.
        name: the data set, a key of `labeled`.
        downloads: folder where archives are kept between runs.
        out: folder to publish the data set at: see `labeled.examples`.
        report: receives the number of texts per split, of rejected input, and of labels.

    Raises:
        ConfigError: invalid section.
        DataError: the source cannot be read, or the data cannot be used. `out` is not changed.
    """
    config = params.named(LabeledConfig, name)
    with publishing(out, "labeled") as folder:
        data = build_labeled(config, name, params.seed, downloads)
        with Quarantine(folder / "quarantine.jsonl") as quarantine:
            for item in data.rejected:
                quarantine.add(item)
        slices = sorted({column for texts in data.splits.values() for text in texts for column in text.slices})
        write_labeled(folder, config.task, data.splits, slices)
        sources = {split: source.describe() for split, source in config.sources().items()}
        write_json(folder / "source.json", sources)
        write_json(folder / "metrics.json", data.metrics)
        total = data.metrics["texts"]
        sizes = {split: len(texts) for split, texts in data.splits.items()}
        report(total, {"rejected": len(data.rejected), **sizes}, total)
    for warning in data.warnings:
        print(f"labeled@{name}: warning: {warning}", file=sys.stderr)
