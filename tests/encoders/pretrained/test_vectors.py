"""Word vectors: formats, lookups, features."""

import gzip
import json
import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cclm_core.composition.store import load, save
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.encoders.pretrained.catalogue import VectorsConfig
from cclm_core.encoders.pretrained.floret import FloretHeader, hash128
from cclm_core.encoders.pretrained.vector_files import Vectors, find_files, read_vectors
from cclm_core.runtime.errors import ArtifactError, ConfigError, IntegrityError
from tests.encoders.pretrained.sources import PREPROCESSOR, WORDS, ids_of, word_table, write_vectors


def embedder(source: Path | str, **settings: Any) -> Embedder:
    config = {"embedding": {"kind": "vectors", "source": str(source), **settings}, "encoder": {"kind": "none"}}
    return Embedder(PREPROCESSOR, EmbedderConfig.parse(config, "embedder")).eval()


def read(path: Path, max_words: int | None = None) -> Vectors:
    return read_vectors(find_files(str(path)), max_words)


@pytest.mark.parametrize("form", ["text", "word2vec", "binary"])
@pytest.mark.parametrize("is_packed", [False, True])
def test_all_forms_have_the_same_words_and_vectors(tmp_path: Path, form: str, is_packed: bool) -> None:
    path = write_vectors(tmp_path / "vectors", form)
    if is_packed:
        packed = tmp_path / "vectors.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    vectors = read(path)
    np.testing.assert_allclose(vectors.table, word_table(), rtol=1e-6)
    assert [vectors.lookup.rows(word) for word in WORDS] == [(row,) for row in range(len(WORDS))]
    assert vectors.lookup.rows("The") == (0,) and vectors.lookup.rows("dog") == ()
    assert read(path, 3).table.shape == (3, 4)


def test_a_word_of_a_text_file_can_contain_spaces(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("the 1 2\n. . . 3 4\n")
    assert read(tmp_path / "v.txt").lookup.rows(". . .") == (1,)


def test_each_character_has_the_vector_of_its_word(tmp_path: Path) -> None:
    features = embedder(write_vectors(tmp_path / "v.txt"))(ids_of("The dog's cat, don't é."))[0]
    table = torch.from_numpy(word_table())
    for span, row in (((0, 3), 0), ((10, 13), 1), ((15, 20), 3), ((22, 23), 5)):
        torch.testing.assert_close(features[slice(*span)], table[row].expand(span[1] - span[0], -1))
    assert (features[3:10] == 0).all() and (features[13:15] == 0).all()


def test_a_projection_is_trained_and_the_table_is_not(tmp_path: Path) -> None:
    base = embedder(write_vectors(tmp_path / "v.txt"), projection=6)
    assert base.width == 6 and [name for name, _ in base.named_parameters()] == ["embedding.projection.weight"]
    base(ids_of("the cat")).sum().backward()
    assert base.get_parameter("embedding.projection.weight").grad is not None


def test_vectors_plus_a_trained_table(tmp_path: Path) -> None:
    """The example of a custom embedding in spaCy's documentation, which fails there when it is initialized."""
    source, characters = write_vectors(tmp_path / "v.txt"), {"width": 16, "ngram_sizes": []}
    base = embedder(source, projection=16, characters=characters)
    assert {name for name, _ in base.named_parameters()} == {
        "embedding.projection.weight",
        "embedding.characters.characters.weight",
    }
    padded = torch.nn.functional.pad(ids_of("the cat"), (0, 3))
    features, embedding = base(padded), base.embedding
    expected = embedding.projection(torch.from_numpy(word_table()))[0] + embedding.characters(padded)[0, 0]  # type: ignore[operator]
    torch.testing.assert_close(features[0, 0], expected)
    assert not features[0, -3:].any(), "padding has zeros"
    features.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in base.parameters())
    save(base, tmp_path / "saved")
    source.unlink()
    loaded = load(tmp_path / "saved")
    assert isinstance(loaded, Embedder) and loaded.digest == base.digest
    assert torch.equal(loaded(padded), features)
    write_vectors(tmp_path / "v.txt")
    with pytest.raises(ConfigError, match=r"characters\.width must be 4, .* got 16\. .* set `projection: 16`"):
        embedder(source, characters=characters)


@pytest.mark.parametrize("form", ["words", "floret", "tokens"])
def test_a_saved_embedder_loads_without_the_source(tmp_path: Path, form: str) -> None:
    source = {"words": write_vectors, "floret": _write_floret, "tokens": _write_matrix}[form](tmp_path / "source")
    base = embedder(source)
    save(base, tmp_path / "saved")
    source.rename(tmp_path / "moved")
    loaded, ids = load(tmp_path / "saved"), ids_of("the cat sat", "", "don't.")
    assert loaded.digest == base.digest and torch.equal(loaded(ids), base(ids))
    assert (base(ids)[0, :3] != 0).any() and (base(ids)[1] == 0).all()


def _write_floret(path: Path) -> Path:
    rows = np.random.default_rng(2).normal(size=(50, 3))
    lines = [f"{row} {' '.join(map(str, values))} " for row, values in enumerate(rows.tolist())]
    path.write_text("\n".join(["50 3 2 4 2 2166136261 < >", *lines]) + "\n")
    return path


def _write_matrix(path: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    path.mkdir()
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "the": 1, "ca": 2, "##t": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path / "tokenizer.json"))
    save_file({"embedding": torch.arange(8.0).reshape(4, 2).half()}, path / "model.safetensors")
    return path


def test_a_word_has_the_mean_of_its_tokens_and_the_unknown_token_has_no_vector(tmp_path: Path) -> None:
    vectors = read(_write_matrix(tmp_path / "matrix"))
    values, is_known = vectors.lookup.vectors(["cat", "the", "dog"], torch.from_numpy(vectors.table))
    assert values.tolist() == [[5.0, 6.0], [2.0, 3.0], [0.0, 0.0]] and is_known.tolist() == [True, True, False]


def test_hashes_are_those_of_murmurhash() -> None:
    # The test vector of the reference implementation: "The quick brown fox ..." with seed 0.
    text = b"The quick brown fox jumps over the lazy dog"
    assert hash128(b"", 0) == (0, 0, 0, 0)
    assert hash128(text, 0) == (0xBC071B6C, 0xE34BBC7B, 0xC49A9347, 0x7A433CA9)


def test_floret_vectors_are_those_of_floret(tmp_path: Path) -> None:
    if find_spec("floret") is None:
        pytest.skip("the package floret is not installed")
    import floret  # type: ignore[import-not-found]

    (tmp_path / "text").write_text("the cat sat on the mat and a dog ran over hills\n" * 100)
    settings = {"model": "cbow", "mode": "floret", "hashCount": 2, "bucket": 200, "minn": 2, "maxn": 4, "dim": 8}
    model = floret.train_unsupervised(str(tmp_path / "text"), minCount=1, epoch=1, thread=1, **settings)
    model.save_floret_vectors(str(tmp_path / "v.floret"))
    vectors = read(tmp_path / "v.floret")
    words = ["a", "cat", "unseen", "é漢"]
    values, _ = vectors.lookup.vectors(words, torch.from_numpy(vectors.table))
    np.testing.assert_allclose(values, np.stack([model.get_word_vector(word) for word in words]), atol=1e-5)


def test_the_rows_of_floret_are_in_the_table() -> None:
    header = FloretHeader(50, 3, 2, 4, 2, 7, "<", ">")
    assert len(header.rows("cat")) == 2 * (1 + 4 + 3 + 2) and set(header.rows("cat")) <= set(range(50))
    assert header.rows("") == ()


PICKLE = pickle.dumps({"a": 1})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PICKLE, "is a pickle.*save_word2vec_format"),
        (b"PK\x03\x04rest", "an archive"),
        (b"", "line 1 must have a word|at least 1"),
        (b"the 0.1 0.2\ncat 0.3\n", "line 2"),
        (b"the 0.1 x\n", "line 1"),
        (b"the 0.1 nan\n", "vector 1 has NaN"),
        (b"\xff\xfe 0.1 0.2\n", "line 1"),
        (b"3 2\nthe 0.1 0.2\n", "must have 3 vectors, got 1"),
        (b"2 4\nthe \x00\x00\x80?\x00\x00\x80?\x00", "vector of word 1 is not complete"),
        (b"99999999 8000\n", "first line must give"),
        (b"9 2 4 2 2 7 < >\n0 1 2\n", "first line is not that of floret"),
        (b"9 2 2 4 2 7 < >\n0 1 2\n", "must have 9 vectors"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "vectors.kv").write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        read(tmp_path / "vectors.kv")


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vectors.gz"
    path.write_bytes(gzip.compress(write_vectors(tmp_path / "v").read_bytes())[:-20])
    with pytest.raises(ArtifactError, match="cannot be read"):
        read(path)


def test_a_matrix_that_does_not_fit_its_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = _write_matrix(tmp_path / "matrix")
    save_file({"embedding": torch.zeros(3, 2)}, folder / "model.safetensors")
    with pytest.raises(ArtifactError, match="its tokenizer has 4 tokens"):
        read(folder)


def test_the_digest_is_checked_and_recorded(tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "v.txt")
    config = VectorsConfig(source=str(path))
    assert config.open()[0].sha256 == config.digest()
    with pytest.raises(IntegrityError, match="expects 111"):
        VectorsConfig(source=str(path), sha256="1" * 64).open()


def test_a_missing_digest_is_given_by_the_error(tmp_path: Path) -> None:
    config = VectorsConfig(source=str(write_vectors(tmp_path / "v.txt")))
    with pytest.raises(ConfigError, match=f"x.sha256 is missing.*{config.digest()}"):
        config.require_digest("x")


def test_a_damaged_card_is_refused(tmp_path: Path) -> None:
    save(embedder(write_vectors(tmp_path / "v.txt")), tmp_path / "saved")
    (tmp_path / "saved" / "manifest.json").unlink()
    (tmp_path / "saved" / "embedding" / "lookup.json").write_text(json.dumps({"kind": "other"}))
    with pytest.raises(ArtifactError, match="unknown kind 'other'"):
        load(tmp_path / "saved")
