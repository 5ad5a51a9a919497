"""`Encode` gives the same ids in one process, in `datasets` and in Ray Data."""

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
    """The ids of the same texts from `encode_records`."""
    return encode_records([Record(str(number), text) for number, text in enumerate(TEXTS)], encode.preprocessor, []).ids


def test_a_batch_of_columns_is_encoded_like_records(encode: Encode) -> None:
    encoded = encode({"text": TEXTS, "other": [1] * len(TEXTS)})
    assert np.array_equal(np.concatenate(encoded["ids"]), local(encode))
    assert encoded["length"] == [len(ids) - 1 for ids in encoded["ids"]]
    assert sum(encoded["fallback_characters"]) == 4
    assert encode({"text": []}) == {"ids": [], "length": [], "fallback_characters": []}
    assert pickle.loads(pickle.dumps(encode))({"text": TEXTS}) == encoded  # noqa: S301  as on a cluster


def test_datasets_map_gives_the_same_ids(encode: Encode) -> None:
    from datasets import Dataset

    mapped = Dataset.from_dict({"text": TEXTS}).map(encode, batched=True, batch_size=37)
    assert mapped["text"][:] == TEXTS
    assert np.array_equal(np.concatenate(mapped["ids"][:]), local(encode))


def test_a_missing_column_and_values_that_are_not_strings_are_refused(encode: Encode) -> None:
    with pytest.raises(DataError, match="column 'text' not found in body"):
        encode({"body": ["x"]})
    with pytest.raises(DataError, match="got int at index 1 of a batch"):
        encode({"text": ["x", 3]})


@pytest.mark.slow
def test_ray_data_gives_the_same_ids(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]'")
    ray_data = pytest.importorskip("ray.data", reason="ray is not installed: pip install -e '.[ray]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    # Not `tmp_path`: paths of sockets in the folder are limited to 107 characters.
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
            rows_encoded = dataset.map_batches(encode, batch_size=37).take_all()
        finally:
            ray.shutdown()
    assert np.array_equal(np.concatenate([row["ids"] for row in rows_encoded]), local(encode))
