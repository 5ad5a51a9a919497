"""The MLflow model of a nested composition with a fork gives the same features as the composition."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import save
from cclm_core.runtime.artifacts import publishing
from cclm_core.runtime.errors import IntegrityError
from flows.gate.serving import Embeddings
from tests.composition.nests import over, tower
from tests.encoders.shapes import SMALL, embedder

TEXTS = ["a cab", "", "naïve"]


def test_a_nested_composition_is_served(tmp_path: Path) -> None:
    base = embedder(SMALL)
    high = tower(base)
    model = ComposedModel(base, [high, over(high, "forked").fork(high)]).eval()
    with publishing(tmp_path / "model", "composition") as folder:
        save(model, folder)
    served, context = Embeddings(), SimpleNamespace(artifacts={"composition": str(tmp_path / "model")})
    served.load_context(context)
    means = served.predict(context, TEXTS)
    np.testing.assert_array_equal(means[0], model.embed(TEXTS)[0].mean(axis=0).tolist())
    assert [len(row) for row in means] == [model.width] * 3 and not any(means[1])
    rows = served.predict(context, TEXTS, {"output": "characters"})
    assert [len(row) for row in rows] == [5, 0, 5]
    assert served.predict(context, pd.DataFrame({"text": TEXTS, "id": [1, 2, 3]})) == means
    for invalid in ([3], [None], pd.Series(["a", float("nan")]), [True], [["a", "b"]]):
        with pytest.raises(ValueError, match=r"text [01] must be a string, got"):
            served.predict(context, invalid)
    for invalid in ("a", {"text": ["a"]}, b"a", np.array([["a", "b"]]), pd.DataFrame({"id": ["a"]}), ["\ud800"]):
        with pytest.raises(ValueError, match="must"):
            served.predict(context, invalid)
    deep = tmp_path / "model" / "parts" / "forked" / "base" / "base" / "base" / "base" / "embedder.json"
    deep.write_text(deep.read_text() + " ")
    with pytest.raises(IntegrityError, match=r"is altered\. Run `cclm doctor --repair`"):
        served.load_context(context)
