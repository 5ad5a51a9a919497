"""The same function on one machine, in `datasets` and in Ray Data gives the same ids."""

import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest

from cclm_core.corpus.encoded import encode_records
from cclm_core.corpus.records import Record
from cclm_core.runtime.errors import DataError
from cclm_core.text.batch_map import Encode
from cclm_core.text.vocabulary import Preprocessor
from tests.corpora import records

TEXTS = [record.text for record in records(300)] + ["", "x", "Þe 🙂 sea", "\u0301"]


@pytest.fixture(scope="module")
def encode() -> Encode:
    return Encode(Preprocessor().fit(TEXTS[:200]))


def local(encode: Encode) -> np.ndarray:
    """The ids that ingest and vocab make of the same texts."""
    return encode_records([Record(str(number), text) for number, text in enumerate(TEXTS)], encode.preprocessor, []).ids


def test_a_batch_of_columns(encode: Encode) -> None:
    made = encode({"text": TEXTS, "other": [1] * len(TEXTS)})
    assert np.array_equal(np.concatenate(made["ids"]), local(encode))
    assert made["length"] == [len(ids) - 1 for ids in made["ids"]]
    assert sum(made["fallback_characters"]) == 4
    assert encode({"text": []}) == {"ids": [], "length": [], "fallback_characters": []}
    assert pickle.loads(pickle.dumps(encode))({"text": TEXTS}) == made  # noqa: S301  as a cluster sends it


def test_datasets(encode: Encode) -> None:
    from datasets import Dataset

    mapped = Dataset.from_dict({"text": TEXTS}).map(encode, batched=True, batch_size=37)
    assert mapped["text"][:] == TEXTS
    assert np.array_equal(np.concatenate(mapped["ids"][:]), local(encode))


def test_what_is_no_text_is_refused(encode: Encode) -> None:
    with pytest.raises(DataError, match="must have a column 'text'; it has body"):
        encode({"body": ["x"]})
    with pytest.raises(DataError, match="number 1 of a batch is int"):
        encode({"text": ["x", 3]})


@pytest.mark.slow
def test_a_small_ray_cluster(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]'")
    ray_data = pytest.importorskip("ray.data", reason="ray is not installed: pip install -e '.[ray]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    # Not `tmp_path`: the names of sockets below the folder may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init(
            num_cpus=2,
            object_store_memory=100 << 20,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
            log_to_driver=False,
        )
        try:
            ray_data.DataContext.get_current().execution_options.preserve_order = True
            rows = [{"number": number, "text": text} for number, text in enumerate(TEXTS)]
            dataset = ray_data.from_items(rows, override_num_blocks=5)
            made = dataset.map_batches(encode, batch_size=37).take_all()
        finally:
            ray.shutdown()
    assert np.array_equal(np.concatenate([row["ids"] for row in made]), local(encode))
