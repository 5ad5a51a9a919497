"""Runs the stage `labeled` on files that a test writes."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from cclm_core.labeled.examples import LabeledSet
from cclm_core.runtime.readers import read_json
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.labeled import labeled
from cclm_core.steps.params import Params

OUT = Path("data/labeled/x")


class Built(NamedTuple):
    """A published data set, its metrics and its quarantine."""

    data: LabeledSet
    metrics: dict[str, Any]
    quarantine: list[dict[str, Any]]

    def texts(self, split: str) -> list[str]:
        """The texts of a split."""
        return [text.text for text in self.data.split(split)]


def write(files: dict[str, str | bytes]) -> None:
    """Writes files below the current folder."""
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)


def build(seed: int = 1, **settings: Any) -> Built:
    """Publishes the data set with these settings."""
    labeled(Params({"seed": seed, "labeled": {"x": settings}}), "x", Path("downloads"), OUT, null_report)
    rows = (OUT / "quarantine.jsonl").read_text().splitlines()
    return Built(LabeledSet.open(OUT), read_json(OUT / "metrics.json"), [json.loads(row) for row in rows])


def files(*paths: str, **settings: Any) -> dict[str, Any]:
    """A source of kind `files`."""
    return {"kind": "files", "paths": list(paths), **settings}
